"""Owns placement groups as users see them: resources that are reserved together, for tasks and actors to run in."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, get_args

from jray._core.engine import GroupPlan
from jray._core.ids import NodeID, PlacementGroupID
from jray._core.refs import ObjectRef, current
from jray._core.strategies import PlacementGroupSchedulingStrategy, selector_problem
from jray.api import put, remote

Strategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
_STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
#: the label in a `topology_strategy` that stands for the node itself
_NODE_LABEL = "ray.io/node-id"


class PlacementGroup:
    """A handle to a placement group; any number of them may be of one group."""

    def __init__(self, id: PlacementGroupID, bundle_cache: list[dict[str, float]] | None = None) -> None:  # noqa: A002 -- Ray's name
        self.id = id
        self.bundle_cache = bundle_cache

    @staticmethod
    def empty() -> PlacementGroup:
        """Return what stands for no group at all."""
        return PlacementGroup(PlacementGroupID.nil())

    @property
    def is_empty(self) -> bool:
        return self.id.is_nil()

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a ref whose value, this group, comes when all its bundles are reserved."""
        if self.is_empty:
            return put(self)
        # which runs as soon as there is a place for it, and asks for nothing else
        strategy = PlacementGroupSchedulingStrategy(self, placement_group_capture_child_tasks=False)
        ref: ObjectRef[PlacementGroup] = _itself.options(scheduling_strategy=strategy).remote(self)
        return ref

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Block until all bundles are reserved; return False if they are not in time, or the group was removed."""
        client = current.client or current.require()
        return bool(client.groups.wait(self.id.binary(), timeout_seconds))

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        if not self.bundle_cache:
            client = current.client or current.require()
            self.bundle_cache = client.groups.bundles(self.id.binary())
        return self.bundle_cache

    @property
    def bundle_count(self) -> int:
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


@remote(num_cpus=0, name="PlacementGroup.ready")
def _itself(group: PlacementGroup) -> PlacementGroup:
    return group


def placement_group(
    bundles: list[dict[str, float]],
    strategy: Strategy | None = None,
    name: str = "",
    lifetime: Literal["detached"] | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: dict[str, str] | None = None,
) -> PlacementGroup:
    """Have resources reserved, all bundles or none, and return at once; `ready()` and `wait()` tell when they are.

    A bundle is on one node.  "PACK", the default, puts all on as few nodes as possible, "SPREAD" on as many;
    "STRICT_PACK" and "STRICT_SPREAD" wait until one node has room for all, or each has a node of its own.  The group
    is removed when its job ends, or the detached actor that made it dies; one with lifetime="detached" never is.
    `bundle_label_selector` says for each bundle which labels its node has, as `label_selector` does for a task.

    Raises ValueError for bundles, strategies, selectors and lifetimes that cannot be, RaySystemError if there is a
    group of that name in the namespace, NotImplementedError for a topology of more than nodes.
    """
    if topology_strategy is not None:
        if strategy is not None:
            raise ValueError(
                "`strategy` and `topology_strategy` cannot both be specified. "
                f"Pass node-level packing via `topology_strategy['{_NODE_LABEL}']`."
            )
        chosen = _node_strategy(topology_strategy)
    else:
        chosen = "PACK" if strategy is None else strategy
    if chosen not in _STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {chosen}. Supported strategies are: {', '.join(_STRATEGIES)}."
        )
    _check_target(_soft_target_node_id, chosen)
    _check_bundles(bundles)
    if bundle_label_selector is not None:
        _check_selectors(bundle_label_selector, len(bundles))
    if lifetime not in {None, "detached"}:
        raise ValueError(
            f"Placement group `lifetime` argument must be either `None` or 'detached'. Got {lifetime}."
        )
    if not isinstance(name, str):
        raise TypeError(f"The name of a placement group must be a string, not {name!r}.")
    client = current.client or current.require()  # which may start a cluster: not for a call that is wrong
    group_id = client.groups.create(
        GroupPlan(
            bundles,
            chosen,
            name,
            is_detached=lifetime == "detached",
            label_selectors=bundle_label_selector or (),
            preferred=bytes.fromhex(_soft_target_node_id or ""),
        )
    )
    specs = [{resource: float(quantity) for resource, quantity in bundle.items()} for bundle in bundles]
    return PlacementGroup(PlacementGroupID(group_id), specs)


def _node_strategy(topology: Any) -> str:
    """Return what a topology strategy says of nodes.  Raises NotImplementedError if it says more."""
    if not isinstance(topology, dict):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"`topology_strategy` must be a dict, got {type(topology).__name__}."
        )
    if topology.keys() - {_NODE_LABEL}:
        raise NotImplementedError(f"jray places bundles by node alone: use {_NODE_LABEL!r} or strategy=.")
    found: str = topology.get(_NODE_LABEL, "PACK")
    return found


def _check_target(node_id: str | None, strategy: str) -> None:
    if not node_id:
        return
    if strategy != "STRICT_PACK":
        raise ValueError(f"_soft_target_node_id currently only works with STRICT_PACK but got {strategy}")
    if NodeID.from_hex(node_id).is_nil():
        raise ValueError(f"Invalid hex ID of _soft_target_node_id, got {node_id}")


def _check_bundles(bundles: Any) -> None:
    if not isinstance(bundles, list):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"Placement group bundles must be a list, got {type(bundles)}."
        )
    example = 'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'
    if not bundles:
        raise ValueError(
            f"Bundles must be a non-empty list of resource dictionaries. {example} Got empty list instead."
        )
    for bundle in bundles:
        if not _is_bundle(bundle):
            raise ValueError(f"Bundles must be a non-empty list of resource dictionaries. {example}")
        if not any(bundle.values()):
            raise ValueError(
                f"Bundles cannot be an empty dictionary or resources with only 0 values. Bundles: {bundles}"
            )
        if "object_store_memory" in bundle:
            warnings.warn(
                "Setting 'object_store_memory' for bundles is deprecated since it doesn't actually reserve the "
                "required object store memory.",
                DeprecationWarning,
                stacklevel=3,
            )


def _check_selectors(selectors: Any, count: int) -> None:
    if not isinstance(selectors, list):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"Placement group bundle_label_selector must be a list, got {type(selectors)}."
        )
    if len(selectors) != count:
        raise ValueError(
            f"Invalid bundle label selector {selectors}. "
            "The length of `bundle_label_selector` should equal the length of `bundles`."
        )
    for selector in selectors:
        if not isinstance(selector, dict) or not all(
            isinstance(text, str) for entry in selector.items() for text in entry
        ):
            raise ValueError(
                f"Bundle label selector must be a list of dictionaries of text, but {selector!r} is in it. "
                'For example: `[{"ray.io/market-type": "spot"}, {"zone": "!in(a,b)"}]`.'
            )
        if problem := selector_problem(selector):
            raise ValueError(f"Invalid label selector provided in bundle_label_selector list. {problem}")


def _is_bundle(bundle: Any) -> bool:
    return isinstance(bundle, dict) and all(
        isinstance(name, str) and isinstance(quantity, int | float) for name, quantity in bundle.items()
    )


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give the resources of a group back, at once: what runs in it is ended, what waits for it fails."""
    client = current.client or current.require()
    client.groups.remove(placement_group.id.binary())


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the group of that name in this namespace.  Raises ValueError if there is none, or for no name."""
    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    client = current.client or current.require()
    group_id = client.groups.find(placement_group_name)
    if group_id is None:
        raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")
    return PlacementGroup(PlacementGroupID(group_id))


def placement_group_table(placement_group: PlacementGroup | None = None) -> Mapping[str, Any]:
    """Return what there is to tell of a group, {} if nothing is known of it; without one, of each, by id."""
    client = current.client or current.require()
    return dict(client.groups.table(None if placement_group is None else placement_group.id.binary()))


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group that the task or actor which asks runs in; None outside one."""
    client = current.client or current.require()
    group_id = client.whereabouts().group_id
    return None if group_id is None else PlacementGroup(PlacementGroupID(group_id))


class _CallableModule(ModuleType):
    """This module, which may be called as the function of its name.

    `jray.util.placement_group` is both in Ray.  Whoever imports the module puts it in the function's place.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroup:
        """Make a placement group: see `placement_group`."""
        return placement_group(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _CallableModule
