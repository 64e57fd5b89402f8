"""Knows from where in a cluster a request may take its resources, and which place is best.  Pure.

An account is what resources are taken from: a node, or a bundle that a placement group has reserved on one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from jray._core.resources import CPU, GPU, MEMORY, UNITS, Misfit, NodeResources, ResourceSet, format_quantity
from jray._core.strategies import Where, labels_fit

#: Up to this part of a node in use, work is packed onto it; beyond it is spread (Ray's figure).
PACKED_UNTIL = 0.5


@dataclasses.dataclass(slots=True, eq=False)
class Account:
    """A node's resources, or those of one bundle on it."""

    node_id: bytes
    resources: NodeResources
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)  #: the node's
    group: bytes = b""  #: id of the placement group whose bundle it is; empty: it is the node's own
    bundle: int = -1

    @property
    def is_busy(self) -> bool:
        """Whether so much is in use that work is better spread."""
        share = self.resources.share_in_use
        return share(CPU) >= PACKED_UNTIL or share(MEMORY) >= PACKED_UNTIL or share(GPU) >= PACKED_UNTIL


class Accounts:
    """All accounts of a cluster: its nodes, in the order they joined, and the bundles on them."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, Account] = {}
        #: by group, by number
        self.bundles: dict[bytes, dict[int, Account]] = {}

    def allowed(self, where: Where) -> list[Account]:
        """Return the accounts that *where* allows, whatever they have."""
        if where.group:
            bundles = self.bundles.get(where.group, {})
            if where.bundle >= 0:
                return [bundles[where.bundle]] if where.bundle in bundles else []
            return list(bundles.values())
        nodes = self.nodes
        if where.node_id:
            node = nodes.get(where.node_id)
            if node is not None:
                return [node]
            return list(nodes.values()) if where.is_soft else []
        for rules in where.choices():
            found = [node for node in nodes.values() if labels_fit(rules, node.labels)]
            if found:
                wished = [node for node in found if labels_fit(where.soft, node.labels)]
                return wished or found
        return []

    def feasible(self, where: Where, request: ResourceSet) -> list[Account]:
        """Return those that have as much in all as *request* asks for."""
        return [a for a in self.allowed(where) if a.resources.infeasible_reason(request) is None]

    def misfit(self, where: Where, request: ResourceSet) -> Misfit | None:
        """Why *request* can never be met as things are, or None if it can."""
        allowed = self.allowed(where)
        if not allowed:
            if where.group:
                return None  # its group is not placed yet, and says itself why
            what = where.describe()
            if not what:
                return Misfit("needs a node", "there is none yet")
            return Misfit(f"must run {what}", "and no node is such", "give jray.init() such labels")
        misfits = [account.resources.misfit(request) for account in allowed]
        if None in misfits:
            return None
        _, nearest = min(
            zip(allowed, misfits, strict=True),
            key=lambda pair: len(request.missing_from(pair[0].resources.total)),
        )
        assert nearest is not None
        if where.group:
            return nearest._replace(
                limit=nearest.limit.replace("the node has", "the bundle has"),
                remedy="make the placement group of larger bundles",
                until="the placement group is removed, and fails then",
            )
        if len(allowed) == 1:
            return nearest
        among = f"of {len(allowed)} nodes the nearest has"
        return nearest._replace(limit=nearest.limit.replace("the node has", among))

    def waiting_reason(self, where: Where, request: ResourceSet) -> str | None:
        """What *request* waits for at present, as a clause, or None if it fits somewhere."""
        feasible = self.feasible(where, request)
        if not feasible:
            return "waits for its placement group"
        reasons = [account.resources.waiting_reason(request) for account in feasible]
        if None in reasons:
            return None
        if len(feasible) == 1:
            return reasons[0]
        nearest = min(feasible, key=lambda a: len(request.missing_from(a.resources.available)))
        missing = request.missing_from(nearest.resources.available)
        if not missing:
            return nearest.resources.waiting_reason(request)
        places = f"{len(feasible)} {'bundles' if where.group else 'nodes'}"
        needs = ", ".join(format_quantity(name, request.get(name)) for name in missing)
        return (
            f"waits for {needs}: {', '.join(_in_use(feasible, name) for name in missing)} in use on {places}"
        )


def _in_use(accounts: Iterable[Account], name: str) -> str:
    total = free = 0
    for account in accounts:
        total += account.resources.total.get(name)
        free += account.resources.available.get(name)
    used = format_quantity(name, total - free).removesuffix(f" {name}")
    return (
        f"{used} of {format_quantity(name, total)}" if name == MEMORY else f"{used} of {total / UNITS:.10g}"
    )


class Candidates:
    """The accounts that may serve what waits of one kind, best first.

    One where it did not fit is closed, and not looked at again until something there is free: so what an event costs
    does not grow with the number of nodes.
    """

    def __init__(self, accounts: Iterable[Account], request: ResourceSet, where: Where) -> None:
        #: work without a GPU goes to nodes with GPUs last
        self._shuns_gpus = not request.get(GPU) and not where.group
        self._is_spread = where.spread
        self._accounts = dict.fromkeys(accounts)
        self._on_node: dict[bytes, list[Account]] = {}
        for account in self._accounts:
            self._on_node.setdefault(account.node_id, []).append(account)
        #: (those to pack, those busy already), first of the nodes without GPUs
        self._tiers: tuple[tuple[dict[Account, None], dict[Account, None]], ...] = (({}, {}), ({}, {}))
        for account in self._accounts:
            self.reopen(account)

    def reopen(self, account: Account) -> None:
        """Something is free there; ignored if it is none of these."""
        if account in self._accounts:
            pack, busy = self._tier(account)
            busy.pop(account, None)
            pack.setdefault(account)

    def close(self, account: Account) -> None:
        """It does not fit there now."""
        pack, busy = self._tier(account)
        pack.pop(account, None)
        busy.pop(account, None)

    def used(self, account: Account) -> None:
        """One was placed there: the next of what is spread goes elsewhere first."""
        for accounts in self._tier(account):
            if account in accounts and (self._is_spread or account.is_busy):
                del accounts[account]
                accounts[account] = None

    def best(self, home: bytes) -> Account | None:
        """Return where to try next, near *home* (a node) if that is as good; None if all are closed."""
        for pack, busy in self._tiers:
            if self._is_spread:
                for account in pack:
                    return account
                continue
            for near in self._on_node.get(home, ()):
                if near in pack and not near.is_busy:
                    return near
            while pack:
                account = next(iter(pack))
                if not account.is_busy:
                    return account
                del pack[account]
                busy[account] = None
            for account in busy:
                return account
        return None

    def on_node(self, node_id: bytes) -> Sequence[Account]:
        return self._on_node.get(node_id, ())

    def _tier(self, account: Account) -> tuple[dict[Account, None], dict[Account, None]]:
        return self._tiers[1 if self._shuns_gpus and account.resources.total.get(GPU) else 0]
