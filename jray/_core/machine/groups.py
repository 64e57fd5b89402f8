"""Decides on which nodes the bundles of a placement group go, all of them or none.  Pure.

PENDING --placed--> CREATED --a node of it left--> RESCHEDULING --placed--> CREATED, and from each to REMOVED.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast, get_args

from jray._core.machine.accounts import Account
from jray._core.resources import GPU, UNITS, Allocation, NodeResources, ResourceSet
from jray._core.specs import GroupSpec
from jray._core.strategies import LabelRule, labels_fit

PENDING = "PENDING"
CREATED = "CREATED"
RESCHEDULING = "RESCHEDULING"
REMOVED = "REMOVED"

#: why what runs in a placement group ends with it
GROUP_REMOVED = "its placement group was removed"

Strategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

#: bundle -> what was reserved for it, and from which node
_Reserved = dict[int, tuple[Account, Allocation]]


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """What is reserved together, on one node."""

    request: ResourceSet
    rules: tuple[LabelRule, ...] = ()  #: which nodes will do

    def __add__(self, other: Bundle) -> Bundle:
        return Bundle(self.request + other.request, (*self.rules, *other.rules))

    def is_allowed_on(self, node: Account) -> bool:
        """Tell whether the node's labels are such."""
        return labels_fit(self.rules, node.labels)

    def may_be_on(self, node: Account) -> bool:
        """Tell whether the node will do, whatever is in use there."""
        return self.is_allowed_on(node) and node.resources.infeasible_reason(self.request) is None

    def fits(self, node: Account) -> bool:
        """Tell whether it can be reserved there now."""
        return self.is_allowed_on(node) and node.resources.fits(self.request)

    def reserve(self, node: Account) -> Allocation | None:
        """Take it from the node; None if it does not fit there now."""
        return node.resources.allocate(self.request) if self.is_allowed_on(node) else None

    def never_reason(self, nodes: Sequence[Account]) -> str | None:
        """Say, as the end of a sentence about it, why it can be on none of *nodes*; None: it can, or there are none."""
        allowed = list(filter(self.is_allowed_on, nodes))
        if nodes and not allowed:
            return f"must be {' and '.join(map(str, self.rules))}, and no node is such"
        reasons = [node.resources.infeasible_reason(self.request) for node in allowed]
        return reasons[0] if nodes and None not in reasons else None


@dataclasses.dataclass(slots=True, eq=False)
class Group:
    """A placement group and where its bundles are."""

    group_id: bytes
    bundles: Sequence[Bundle]
    strategy: Strategy
    preferred: bytes = b""  #: node for all of a STRICT_PACK group, if they fit there
    state: str = PENDING
    reserved: _Reserved = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, spec: GroupSpec) -> Group:
        """Return the group that its creator wants."""
        rules = spec.rules or ((),) * len(spec.bundles)
        return cls(
            spec.group_id,
            [Bundle(ResourceSet(units), where) for units, where in zip(spec.bundles, rules, strict=True)],
            cast("Strategy", spec.strategy),
            spec.preferred,
        )

    def place(self, nodes: Iterable[Account]) -> dict[int, Account] | None:
        """Reserve all bundles that have no place; return an account for each, or None if they don't all fit now."""
        wanted = {i: bundle for i, bundle in enumerate(self.bundles) if i not in self.reserved}
        best_first = sorted(nodes, key=lambda node: node.node_id != self.preferred)
        found = _arrange(wanted, self.strategy, best_first, [node for node, _ in self.reserved.values()])
        if found is None:
            return None
        self.reserved |= found
        self.state = CREATED
        return {
            i: Account(node.node_id, _resources_of(allocation), node.labels, self.group_id, i)
            for i, (node, allocation) in found.items()
        }

    def give_back(self) -> None:
        """Release what is reserved; the group is removed."""
        _undo(self.reserved)
        self.reserved = {}
        self.state = REMOVED

    def lose(self, node_id: bytes) -> list[int]:
        """A node left: forget the bundles there, and return their numbers."""
        lost = [i for i, (node, _) in self.reserved.items() if node.node_id == node_id]
        for i in lost:
            del self.reserved[i]
        if lost:
            self.state = RESCHEDULING
        return lost

    def unplaced(self) -> list[Bundle]:
        """Return what still needs a place, each on one node."""
        left = [bundle for i, bundle in enumerate(self.bundles) if i not in self.reserved]
        return [_together(left)] if self.strategy == "STRICT_PACK" and left else left

    def waiting_reason(self, nodes: Sequence[Account]) -> str:
        """Say, as a clause, what a group that is not placed waits for."""
        for i, bundle in enumerate(self.bundles):
            reason = bundle.never_reason(nodes)
            if reason is not None:
                return f"bundle {i} can go nowhere: it {reason}"
        if self.strategy == "STRICT_SPREAD" and len(self.bundles) > len(nodes):
            return f"its {len(self.bundles)} bundles need as many nodes, and there are {len(nodes)}"
        if self.strategy == "STRICT_PACK":
            reason = _together(self.bundles).never_reason(nodes)
            if reason is not None:
                return f"all bundles together can go on no node: that {reason}"
        waiting = sum(i not in self.reserved for i in range(len(self.bundles)))
        return f"waits for room for {waiting} of {len(self.bundles)} bundles"


def _together(bundles: Sequence[Bundle]) -> Bundle:
    return sum(bundles, Bundle(ResourceSet()))


def _resources_of(allocation: Allocation) -> NodeResources:
    """Return the accounts of what was reserved: whoever runs in the bundle takes from there."""
    return NodeResources(allocation.request, allocation.gpu_ids, allocation.gpu_units)


def _arrange(
    wanted: Mapping[int, Bundle], strategy: Strategy, nodes: list[Account], others: Sequence[Account]
) -> _Reserved | None:
    """Reserve each of *wanted*, or nothing.  *others* are the nodes of the group's bundles that have their place."""
    # those first that fewer nodes will do for, and then the largest: what is left of a node may do for a small one
    order = sorted(
        wanted, key=lambda i: (sum(map(wanted[i].is_allowed_on, nodes)), -_weight(wanted[i].request))
    )
    if strategy == "STRICT_PACK":
        # one node, and the same as before where some survived
        return _on_one(wanted, order, [others[0]] if others else nodes)
    if strategy == "PACK":
        near = [node for node in nodes if node in others]
        return (
            _on_one(wanted, order, near)
            or _on_one(wanted, order, nodes)
            or _on_few(wanted, order, near + [node for node in nodes if node not in others])
        )
    if strategy == "STRICT_SPREAD":
        return _on_distinct(wanted, order, [node for node in nodes if node not in others])
    return _evenly(wanted, order, nodes, Counter(others))


def _weight(request: ResourceSet) -> float:
    return sum(units for _, units in request.items() if units < UNITS * UNITS) + UNITS * request.get(GPU)


def _on_one(wanted: Mapping[int, Bundle], order: list[int], nodes: Iterable[Account]) -> _Reserved | None:
    for node in nodes:
        found = _as_many(wanted, order, node)
        if len(found) == len(order):
            return found
        _undo(found)
    return None


def _as_many(wanted: Mapping[int, Bundle], order: list[int], node: Account) -> _Reserved:
    """Reserve as many as fit on one node."""
    found: _Reserved = {}
    for i in order:
        allocation = wanted[i].reserve(node)
        if allocation is not None:
            found[i] = (node, allocation)
    return found


def _on_few(wanted: Mapping[int, Bundle], order: list[int], nodes: list[Account]) -> _Reserved | None:
    """Reserve all, each time on the node that takes most of what is left."""
    found: _Reserved = {}
    left, open_nodes = list(order), list(nodes)
    while left:
        best: _Reserved = {}
        for node in open_nodes:
            here = _as_many(wanted, left, node)
            _undo(here)
            if len(here) > len(best):
                best = here
        if not best:
            _undo(found)
            return None
        node = next(iter(best.values()))[0]
        open_nodes.remove(node)
        found |= _as_many(wanted, left, node)
        left = [i for i in left if i not in found]
    return found


def _on_distinct(wanted: Mapping[int, Bundle], order: list[int], nodes: list[Account]) -> _Reserved | None:
    """Reserve each on a node of its own: a matching, found by augmenting paths, so that it is found if there is one."""
    fitting = {i: [node for node in nodes if wanted[i].fits(node)] for i in order}
    taken: dict[Account, int] = {}

    def settle(i: int, seen: set[Account]) -> bool:
        for node in fitting[i]:
            if node not in seen:
                seen.add(node)
                if node not in taken or settle(taken[node], seen):
                    taken[node] = i
                    return True
        return False

    for i in sorted(order, key=lambda i: len(fitting[i])):
        if not settle(i, set()):
            return None
    found: _Reserved = {}
    for node, i in taken.items():
        allocation = wanted[i].reserve(node)
        assert allocation is not None, "what fitted does not fit"
        found[i] = (node, allocation)
    return found


def _evenly(
    wanted: Mapping[int, Bundle], order: list[int], nodes: list[Account], counts: Counter[Account]
) -> _Reserved | None:
    """Reserve each on a node of its own if that can be, else each where there are the fewest so far."""
    distinct = _on_distinct(wanted, order, [node for node in nodes if not counts[node]])
    if distinct is not None:
        return distinct
    found: _Reserved = {}
    for i in order:
        for node in sorted(nodes, key=lambda node: counts[node]):
            allocation = wanted[i].reserve(node)
            if allocation is not None:
                found[i] = (node, allocation)
                counts[node] += 1
                break
        else:
            _undo(found)
            return None
    return found


def _undo(reserved: _Reserved) -> None:
    for node, allocation in reserved.values():
        node.resources.release(allocation)
