"""Owns the scheduling strategies, as users write them, and `Where`, which is what the scheduler reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_NODE_ID_HEX_DIGITS = 56

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
# not compiled before they are used, for every process imports this
_LABEL_KEY = rf"(?:(?:{_LABEL}\.)*{_LABEL}/)?{_LABEL}"
_LABEL_CONDITION = rf"(?P<negated>!?)(?:in\((?P<values>{_LABEL}(?:, ?{_LABEL})*)\)|(?P<value>{_LABEL}))"


class LabelRule(NamedTuple):
    """What a node's label must be: one of *values*, or none of them; with no values, there or not there."""

    key: str
    values: tuple[str, ...]
    negated: bool = False

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a node with these labels is such."""
        found = self.key in labels and (not self.values or labels[self.key] in self.values)
        return found != self.negated

    def __str__(self) -> str:
        if not self.values:
            return f"{'without' if self.negated else 'with'} the label {self.key!r}"
        values = " or ".join(map(repr, self.values))
        return f"where {self.key!r} is {'not ' if self.negated else ''}{values}"


class Where(NamedTuple):
    """Where a task or actor may run, as its owner tells the scheduler; all empty: anywhere."""

    spread: bool = False  #: rather where nothing of the kind has just gone
    node_id: bytes = b""
    is_soft: bool = False  #: elsewhere, too, if that node is gone
    hard: tuple[LabelRule, ...] = ()
    soft: tuple[LabelRule, ...] = ()  #: if a node fits; else anywhere that `hard` allows
    fallbacks: tuple[
        tuple[LabelRule, ...], ...
    ] = ()  #: one after the other in place of `hard`, if no node fits
    group: bytes = b""  #: id of a placement group
    bundle: int = -1  #: number of its bundle; -1: any

    def choices(self) -> Sequence[tuple[LabelRule, ...]]:
        """Return what labels are wanted, best first."""
        return (self.hard, *self.fallbacks)

    def describe(self) -> str:
        """Return it as the end of "must run"; empty: anywhere."""
        if self.node_id:
            return f"on the node {self.node_id.hex()}"
        return ", or ".join(" and ".join(map(str, rules)) for rules in self.choices() if rules)


def labels_fit(rules: Sequence[LabelRule], labels: Mapping[str, str]) -> bool:
    """Tell whether a node with these labels fits all *rules*."""
    return all(rule.fits(labels) for rule in rules)


#: anywhere, the usual way
ANYWHERE = Where()


class Caller(NamedTuple):
    """The placement group of the code that submits something."""

    group: bytes = b""  #: empty: it runs in none, as a driver does
    captures: bool = False  #: whether its children run there, too, unless they say otherwise


NOBODY = Caller()


class NodeAffinitySchedulingStrategy:
    """Run on the node with this id; elsewhere too, if `soft` and that node is gone.

    Raises ValueError for what is no node id.
    """

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        if not isinstance(node_id, str):
            node_id = node_id.hex()
        try:
            raw = bytes.fromhex(node_id)
        except ValueError:
            raw = b""
        if len(raw) * 2 != _NODE_ID_HEX_DIGITS or raw == b"\xff" * len(raw):
            raise ValueError(
                f"Invalid node_id {node_id!r}: a node's id is {_NODE_ID_HEX_DIGITS} hexadecimal digits."
            )
        self.node_id = raw.hex()
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable


class PlacementGroupSchedulingStrategy:
    """Run in a placement group (None: in none): in the bundle of that number, or in any that has room.

    With `placement_group_capture_child_tasks` what the task or actor submits runs in the group, too, unless it says
    otherwise; None: as the caller does.
    """

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    # equal ones are one key: a function remembers what it prepared for them
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))


class In:
    """The label is one of these values."""

    def __init__(self, *values: str) -> None:
        self.values = _checked_values("In", values)


class NotIn:
    """The label is none of these values, or not there."""

    def __init__(self, *values: str) -> None:
        self.values = _checked_values("NotIn", values)


class Exists:
    """The label is there, whatever its value."""


class DoesNotExist:
    """The label is not there."""


def _checked_values(operator: str, values: tuple[str, ...]) -> list[str]:
    if not values:
        raise ValueError(
            f"The variadic parameter of the {operator} operator must be a non-empty tuple: "
            f'e.g. {operator}("value1", "value2").'
        )
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(  # noqa: TRY004 -- the class is Ray's
                f"Type of value in position {index} for the {operator} operator must be str "
                f'(e.g. {operator}("value1", "value2")) but got {value} of type {type(value)}.'
            )
    return list(values)


class LabelMatchExpression(NamedTuple):
    """What one label must be."""

    key: str
    operator: In | NotIn | Exists | DoesNotExist

    def rule(self) -> LabelRule:
        values = tuple(getattr(self.operator, "values", ()))
        return LabelRule(self.key, values, negated=isinstance(self.operator, NotIn | DoesNotExist))


class NodeLabelSchedulingStrategy:
    """Run on a node whose labels are as `hard` says, and if there is such a node, also as `soft` says.

    Raises ValueError for what are no maps of labels to In, NotIn, Exists or DoesNotExist, or both empty.
    """

    def __init__(self, hard: Mapping[str, Any] | None, *, soft: Mapping[str, Any] | None = None) -> None:
        self.hard = list(_expressions(hard, "hard"))
        self.soft = list(_expressions(soft, "soft"))
        if not (self.hard or self.soft):
            raise ValueError(
                "The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be empty."
            )


def _expressions(given: Mapping[str, Any] | None, parameter: str) -> Iterator[LabelMatchExpression]:
    if given is None:
        return
    if not isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f'The {parameter} parameter must be a map (e.g. {{"key1": In("value1")}}) but got type {type(given)}.'
        )
    for key, value in given.items():
        if not isinstance(key, str):
            raise ValueError(  # noqa: TRY004 -- the class is Ray's
                f"The map key of the {parameter} parameter must be of type str "
                f'(e.g. {{"key1": In("value1")}}) but got {key} of type {type(key)}.'
            )
        if not isinstance(value, In | NotIn | Exists | DoesNotExist):
            raise ValueError(  # noqa: TRY004 -- the class is Ray's
                f"The map value for key {key} of the {parameter} parameter must be one of the `In`, `NotIn`, "
                f'`Exists` or `DoesNotExist` operator (e.g. {{"key1": In("value1")}}) '
                f"but got {value} of type {type(value)}."
            )
        yield LabelMatchExpression(key, value)


def selector_problem(selector: Mapping[Any, Any]) -> str | None:
    """Return what is wrong with a `label_selector`, or None."""
    for key, condition in selector.items():
        if not isinstance(key, str) or not isinstance(condition, str):
            raise TypeError(f"A label and its condition must be text, not {key!r}: {condition!r}.")
        if not re.fullmatch(_LABEL_KEY, key):
            return (
                f"Invalid label key name {key!r}: up to 63 letters, digits, '-', '_' and '.', the first and last a "
                "letter or digit; before it there may be a domain and a slash."
            )
        if condition and not re.fullmatch(_LABEL_CONDITION, condition):
            return (
                f"Invalid label selector value {condition!r}: 'value', '!value', 'in(one,other)' and '!in(one,other)' "
                "are possible. A value is up to 63 letters, digits, '-', '_' and '.', the first and last a letter or "
                "digit."
            )
    return None


def selector_rules(selector: Mapping[str, str] | None) -> tuple[LabelRule, ...]:
    """Return what a `label_selector` that is in order says."""
    return tuple(_selector_rule(key, condition) for key, condition in (selector or {}).items())


def _selector_rule(key: str, condition: str) -> LabelRule:
    found = re.fullmatch(_LABEL_CONDITION, condition)
    if found is None:  # no value at all: the label itself is empty
        return LabelRule(key, ("",))
    values = re.split(", ?", found["values"]) if found["values"] else [found["value"]]
    return LabelRule(key, tuple(values), negated=bool(found["negated"]))
