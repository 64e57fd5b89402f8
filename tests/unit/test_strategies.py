"""Scheduling strategies, label selectors and placement groups: what options say about where something may run."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import jray.util
from jray._core.ids import NodeID, PlacementGroupID
from jray._core.options import ActorOptions, TaskOptions
from jray._core.placement import Placement, placement
from jray._core.strategies import (
    ANYWHERE,
    NOBODY,
    Caller,
    DoesNotExist,
    Exists,
    In,
    LabelRule,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
    Where,
)
from jray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

HERE = NodeID(b"n" * 28)
GROUP = PlacementGroup(PlacementGroupID(b"g" * 18), [{"CPU": 1.0}, {"GPU": 1.0}])
IN_GROUP = Where(group=b"g" * 18)
CALLERS = Caller(b"c" * 18, captures=True)


def place(caller: Caller = NOBODY, **options: Any) -> Placement:
    return placement(TaskOptions.from_kwargs(options), caller, "f", lambda _: [{"CPU": 2.0}])


# -- nodes and labels -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "where"), [(None, ANYWHERE), ("DEFAULT", ANYWHERE), ("SPREAD", Where(spread=True))]
)
def test_strategies_that_are_words(strategy: Any, where: Where) -> None:
    """They name no node."""
    assert place(scheduling_strategy=strategy) == (where, False)


@pytest.mark.parametrize("node_id", [HERE, HERE.hex(), HERE.hex().upper()], ids=["id", "hex", "capitals"])
@pytest.mark.parametrize("soft", [True, False])
def test_a_node_is_named(node_id: Any, soft: bool) -> None:
    """However its id is written."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=soft)
    assert strategy.node_id == HERE.hex()
    assert place(scheduling_strategy=strategy).where == Where(node_id=HERE.binary(), is_soft=soft)


@pytest.mark.parametrize("node_id", ["", "abc", "x" * 56, "ff" * 28, "ab" * 27, "ab " * 18 + "ab"])
def test_what_is_no_nodes_id_is_refused(node_id: str) -> None:
    """With what one looks like."""
    with pytest.raises(ValueError, match=r"Invalid node_id .*56 hexadecimal digits"):
        NodeAffinitySchedulingStrategy(node_id, soft=False)


def test_labels_by_operators() -> None:
    """Hard and soft ones."""
    hard = {"a": In("1", "2"), "b": NotIn("3"), "c": Exists(), "d": DoesNotExist()}
    where = place(scheduling_strategy=NodeLabelSchedulingStrategy(hard, soft={"e": In("4")})).where
    assert where.hard == (
        LabelRule("a", ("1", "2")),
        LabelRule("b", ("3",), negated=True),
        LabelRule("c", ()),
        LabelRule("d", (), negated=True),
    )
    assert where.soft == (LabelRule("e", ("4",)),)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (In, (), "must be a non-empty tuple"),
        (NotIn, (1,), "must be str"),
        (NodeLabelSchedulingStrategy, ({},), "cannot both be empty"),
        (NodeLabelSchedulingStrategy, ([],), "must be a map"),
        (NodeLabelSchedulingStrategy, ({"a": "b"},), "must be one of the `In`"),
        (NodeLabelSchedulingStrategy, ({1: Exists()},), "must be of type str"),
    ],
)
def test_labels_that_cannot_be(make: Callable[..., object], arguments: Any, message: str) -> None:
    """They are refused when the strategy is made."""
    with pytest.raises(ValueError, match=message):
        make(*arguments)


@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        ("v", LabelRule("k", ("v",))),
        ("!v", LabelRule("k", ("v",), negated=True)),
        ("in(a,b)", LabelRule("k", ("a", "b"))),
        ("!in(a, b)", LabelRule("k", ("a", "b"), negated=True)),
        ("in", LabelRule("k", ("in",))),
        ("", LabelRule("k", ("",))),
    ],
)
def test_label_selectors(condition: str, rule: LabelRule) -> None:
    """Each condition is a rule."""
    assert place(label_selector={"k": condition}).where == Where(hard=(rule,))


@pytest.mark.parametrize("selector", [{"k": "-v"}, {"k": "in()"}, {"k": "!!v"}, {"-k": "v"}, {"k": "in(a"}])
def test_label_selectors_that_cannot_be(selector: dict[str, str]) -> None:
    """The error shows what is possible."""
    with pytest.raises(ValueError, match=r"label selector value|label key name"):
        TaskOptions.from_kwargs({"label_selector": selector})


def test_a_fallback_takes_the_place_of_the_selector() -> None:
    """There may be several."""
    where = place(
        label_selector={"a": "1"},
        fallback_strategy=[{"label_selector": {"b": "2"}}, {"label_selector": {}}],
    ).where
    assert where.choices() == ((LabelRule("a", ("1",)),), (LabelRule("b", ("2",)),), ())


@pytest.mark.parametrize(
    "fallback", [["x"], [{}], [{"label_selector": 5}], [{"other": {}}], [{"label_selector": {"k": "-v"}}]]
)
def test_fallbacks_that_cannot_be(fallback: list[Any]) -> None:
    """They are refused with the option."""
    with pytest.raises(ValueError, match="fallback_strategy"):
        ActorOptions.from_kwargs({"fallback_strategy": fallback})


def test_a_strategy_unknown_here_is_refused_by_name() -> None:
    """With those there are."""

    class MyStrategy: ...

    with pytest.raises(NotImplementedError, match=r"MyStrategy is not supported.*use None"):
        place(scheduling_strategy=MyStrategy())


# -- placement groups -----------------------------------------------------------------------------


def in_group(*arguments: Any) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy(*arguments)


@pytest.mark.parametrize(
    ("strategy", "caller", "expected"),
    [
        (in_group(GROUP), NOBODY, (IN_GROUP, False)),
        (in_group(GROUP, 0, True), NOBODY, (IN_GROUP._replace(bundle=0), True)),
        (in_group(GROUP), CALLERS, (IN_GROUP, True)),
        (in_group(GROUP, -1, False), CALLERS, (IN_GROUP, False)),
        (None, CALLERS, (Where(group=CALLERS.group), True)),
        (None, CALLERS._replace(captures=False), (ANYWHERE, False)),
        (in_group(None), CALLERS, (ANYWHERE, False)),
        ("DEFAULT", CALLERS, (ANYWHERE, False)),
        ("SPREAD", CALLERS, (Where(spread=True), False)),
        (in_group(PlacementGroup.empty()), CALLERS, (ANYWHERE, False)),
    ],
)
def test_the_group_of_children(strategy: Any, caller: Caller, expected: tuple[Where, bool]) -> None:
    """They are in their caller's only if it captures them and they don't say otherwise."""
    assert place(caller, scheduling_strategy=strategy) == expected


def test_the_deprecated_spelling() -> None:
    """It says so, and means the same."""
    with pytest.warns(DeprecationWarning, match="is deprecated") as said:
        found = place(
            placement_group=GROUP, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
    assert found == (IN_GROUP._replace(bundle=0), True)
    assert len(said) == 3
    with pytest.warns(DeprecationWarning, match="placement_group parameter"):
        assert place(CALLERS, placement_group=None) == (ANYWHERE, False)


@pytest.mark.parametrize(
    ("strategy", "options", "error", "message"),
    [
        (in_group(GROUP, 2), {}, ValueError, "Valid placement group indexes: 0-2"),
        (in_group(GROUP, -2), {}, ValueError, "bundle index -2 is invalid"),
        (in_group(None, 0), {}, ValueError, "must be -1"),
        (in_group(GROUP), {"num_cpus": 2}, ValueError, "cannot fit into any bundles"),
        (in_group(GROUP), {"num_gpus": 1}, ValueError, "cannot fit into any bundles"),
        (in_group("x"), {}, TypeError, "must be a PlacementGroup"),
    ],
)
def test_what_a_group_cannot_take(
    strategy: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """It is refused where it is submitted."""
    with pytest.raises(error, match=message):
        place(scheduling_strategy=strategy, **options)


def test_an_actor_needs_a_cpu_to_start_on() -> None:
    """Though it takes none later."""
    group = PlacementGroup(PlacementGroupID(b"g" * 18), [{"GPU": 1.0}])
    options = ActorOptions.from_kwargs({"scheduling_strategy": in_group(group)})
    with pytest.raises(ValueError, match="requires 1 CPU for creation"):
        placement(options, NOBODY, "A", lambda _: [])


def test_equal_strategies_are_one_key() -> None:
    """A loop that makes one for each call prepares its function once."""
    again = PlacementGroup(PlacementGroupID(b"g" * 18))
    assert in_group(GROUP, 1) == in_group(again, 1)
    assert hash(in_group(GROUP, 1)) == hash(in_group(again, 1))
    assert in_group(GROUP, 1) != in_group(GROUP, 0)


def test_the_package_has_the_functions_too() -> None:
    """One of them bears the name of its module, which can be called in its place, also from a pickle."""
    assert jray.util.get_current_placement_group is get_current_placement_group
    assert jray.util.get_placement_group is get_placement_group
    assert jray.util.placement_group_table is placement_group_table
    assert jray.util.remove_placement_group is remove_placement_group
    module: Any = importlib.import_module("jray.util.placement_group")
    for called in (placement_group, module, pickle.loads(pickle.dumps(module))):
        with pytest.raises(ValueError, match="Got empty list instead"):
            called([])
