"""The table of options of tasks, actors and methods: for each its type, constraint and default.

It checks what a user wrote and turns it into frozen data. It submits nothing, and does not know how an
option is carried out.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from jray._core.resources import CPU, GPU, MEMORY, RESERVED_NAMES, UNITS, ResourceSet, to_units
from jray._core.strategies import selector_problem

#: How often a task is run again after its worker died, unless it or the environment says otherwise.
DEFAULT_MAX_RETRIES = 3

#: Amount of ``accelerator_type:X`` that a task takes: small, for it only says which nodes will do.
ACCELERATOR_TYPE_QUANTITY = 0.001

#: Name that placement groups keep for themselves among the resources.
BUNDLE = "bundle"

RetryExceptions = bool | tuple[type[Exception], ...]
NumReturns = int | Literal["streaming", "dynamic"] | None


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    #: What the value may be, in words for the error message.
    expected: str
    #: Whether the value is of a type that will do; a wrong one is a TypeError.
    accepts: Callable[[Any], bool]
    default: Any = None
    #: What is wrong with a value of the right type, or None; it is a ValueError. Gets keyword and value.
    problem: Callable[[str, Any], str | None] | None = None
    #: If the option can't be carried out yet: what to do instead. Its default may still be given.
    instead: str | None = None
    #: Whether there is another spelling that users should prefer (Ray's word on it).
    is_deprecated: bool = False

    def check(self, keyword: str, value: Any) -> None:
        """Raise TypeError or ValueError, with text for the user, if *value* won't do."""
        if not self.accepts(value):
            raise TypeError(f"{keyword} must be {self.expected}, not {value!r} (a {type(value).__name__}).")
        if self.problem is not None and (text := self.problem(keyword, value)):
            raise ValueError(text)

    def check_supported(self, keyword: str, value: Any) -> None:
        """Raise NotImplementedError if jray can't carry out *value*, which is otherwise in order."""
        if self.instead is not None and value is not None and value != self.default:
            raise NotImplementedError(f"jray does not support {keyword}={value!r}. {self.instead}")


# --- what a value may be --------------------------------------------------------------------------


def _is_a(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_none_or(*types: type) -> Callable[[Any], bool]:
    return lambda value: value is None or isinstance(value, types)


def _is_none_text_or_own_class(value: Any) -> bool:
    # The classes of strategies and placement groups live in a higher layer, which looks at them
    # itself; here it is enough to turn away plain data.
    return value is None or isinstance(value, str) or type(value).__module__ != "builtins"


def _is_retry_exceptions(value: Any) -> bool:
    return isinstance(value, bool | list | tuple)


def _count(*, default: int | None, infinite: bool) -> Option:
    least = -1 if infinite else 0
    meaning = (
        "a whole number from 0 up, -1 for no limit, or None"
        if infinite
        else "a whole number from 0 up, or None"
    )

    def problem(keyword: str, value: int | None) -> str | None:
        return None if value is None or value >= least else f"{keyword} must be {meaning}, not {value}."

    return Option(meaning, _is_none_or(int), default, problem)


def _quantity(*, default: float | None = None) -> Option:
    return Option("a number or None", _is_none_or(int, float), default, _quantity_problem)


def _quantity_problem(keyword: str, value: float | None) -> str | None:
    if value is None:
        return None
    try:
        to_units(keyword, value)
    except ValueError as exc:
        return str(exc)
    return None


def _resources_problem(keyword: str, value: Mapping[Any, Any] | None) -> str | None:
    for name, quantity in (value or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"A name in {keyword} must be a string, not {name!r}.")
        if name in (CPU, GPU):
            return f"Give {name} with the keyword num_{name.lower()}s, not in {keyword}={value}."
        if not isinstance(quantity, int | float):
            raise TypeError(f"{keyword}[{name!r}] must be a number, not {quantity!r}.")
        if text := _quantity_problem(name, quantity):
            return text
    return None


def _num_returns_problem(keyword: str, value: Any) -> str | None:
    if isinstance(value, str) and value not in ("streaming", "dynamic"):
        # Ray compares the text with 0 here, so that this is a TypeError there too.
        raise TypeError(
            f"{keyword} must be a whole number from 0 up, 'streaming', 'dynamic' or None, not {value!r}."
        )
    if isinstance(value, int) and value < 0:
        return f"{keyword} must be 0 or more, 'streaming' for a generator, or None, not {value}."
    return None


def _retry_exceptions_problem(keyword: str, value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    for item in value or ():
        if not (isinstance(item, type) and issubclass(item, Exception)):
            return f"{keyword} must be True, False or a list of exception classes, but {item!r} isn't one."
    return None


def _not_zero(keyword: str, value: int | None) -> str | None:
    if value == 0:
        return (
            f"{keyword} must not be 0: nothing would ever be produced. 1 makes the next item when the one "
            "before is taken; -1 sets no limit."
        )
    return None


def _above_zero_or_unlimited(keyword: str, value: int | None) -> str | None:
    return (
        None
        if value is None or value > 0 or value == -1
        else f"{keyword} must be above 0, or -1, not {value}."
    )


def _above_zero(keyword: str, value: int | None) -> str | None:
    return None if value is None or value > 0 else f"{keyword} must be above 0, not {value}."


def _only_none(keyword: str, value: Any) -> str | None:
    return None if value is None else f"{keyword} is no option of tasks. memory= reserves memory for a task."


def _lifetime_problem(keyword: str, value: str | None) -> str | None:
    if value in (None, "detached", "non_detached"):
        return None
    return f"{keyword} must be 'detached', 'non_detached' or None, not {value!r}."


def _label_selector_problem(keyword: str, value: Mapping[Any, Any] | None) -> str | None:
    text = selector_problem(value or {})
    return text and f"{keyword}: {text}"


def _fallback_problem(keyword: str, value: list[Any] | None) -> str | None:
    for entry in value or ():
        if not isinstance(entry, dict):
            return f"Each element in {keyword} must be a dictionary, not {entry!r}."
        if not entry:
            return f"Empty dictionary found in {keyword}."
        if list(entry) != ["label_selector"]:
            names = ", ".join(map(repr, entry))
            return f"Unsupported option found in {keyword}: {names}. There is only 'label_selector'."
        selector = entry["label_selector"]
        if not isinstance(selector, dict):
            return f'The value of "label_selector" in {keyword} must be a dictionary, not {selector!r}.'
        if text := selector_problem(selector):
            return f"{keyword}: {text}"
    return None


def _concurrency_groups_problem(keyword: str, value: Any) -> str | None:
    if value is None or isinstance(value, list):
        # Ray takes a list here and trips over it later; empty, it means no groups.
        return (
            f"{keyword} must be a dict of name to limit, like {{'io': 2}}, not {value!r}." if value else None
        )
    for name, limit in value.items():
        if not isinstance(name, str) or not isinstance(limit, int):
            raise TypeError(f"{keyword} must map names to whole numbers, not {name!r} to {limit!r}.")
        if limit < 1:
            return f"The limit of a concurrency group must be 1 or more, but {keyword}[{name!r}] is {limit}."
    return None


# --- the table ------------------------------------------------------------------------------------

_TEXT = Option("a string or None", _is_none_or(str))
_STRATEGY = "Use scheduling_strategy=PlacementGroupSchedulingStrategy(...)."
_BACKPRESSURE = Option("a whole number or None", _is_none_or(int), None, _not_zero)
_PER_YIELD = Option("a whole number or None", _is_none_or(int), 1, _above_zero, "Yield a list instead.")

_COMMON: dict[str, Option] = {
    "num_cpus": _quantity(),
    "num_gpus": _quantity(),
    "memory": _quantity(),
    "resources": Option("a dict or None", _is_none_or(dict), None, _resources_problem),
    "accelerator_type": _TEXT,
    "name": _TEXT,
    "runtime_env": Option("a dict or None", _is_none_or(dict)),
    "scheduling_strategy": Option(
        "'DEFAULT', 'SPREAD', a scheduling strategy object or None", _is_none_text_or_own_class
    ),
    "label_selector": Option("a dict or None", _is_none_or(dict), None, _label_selector_problem),
    "fallback_strategy": Option("a list or None", _is_none_or(list), None, _fallback_problem),
    "enable_task_events": Option("True or False", _is_a(bool), True),
    "object_store_memory": _count(default=None, infinite=False),
    "placement_group": Option(
        "a placement group, 'default' or None", _is_none_text_or_own_class, "default", is_deprecated=True
    ),
    "placement_group_bundle_index": Option("a whole number", _is_a(int), -1, is_deprecated=True),
    "placement_group_capture_child_tasks": Option(
        "True, False or None", _is_none_or(bool), is_deprecated=True
    ),
    "_labels": Option("a dict or None", _is_none_or(dict), instead="Use name= to tell tasks apart."),
}

#: Every option of ``@remote`` on a function.
TASK_OPTIONS: Mapping[str, Option] = {
    **_COMMON,
    "num_cpus": _quantity(default=1),
    "object_store_memory": Option("a whole number or None", _is_none_or(int), None, _only_none),
    "num_returns": Option(
        "a whole number from 0 up, 'streaming', 'dynamic' or None",
        _is_none_or(int, str),
        None,
        _num_returns_problem,
    ),
    "max_calls": _count(default=0, infinite=False),
    "max_retries": _count(default=DEFAULT_MAX_RETRIES, infinite=True),
    "retry_exceptions": Option(
        "True, False or a list of exception classes", _is_retry_exceptions, False, _retry_exceptions_problem
    ),
    "_generator_backpressure_num_objects": _BACKPRESSURE,
    "_num_objects_per_yield": _PER_YIELD,
}

#: Every option of ``@remote`` on a class.
ACTOR_OPTIONS: Mapping[str, Option] = {
    **_COMMON,
    "object_store_memory": dataclasses.replace(
        _COMMON["object_store_memory"], instead="Objects need no reservation: set it for the node, in init()."
    ),
    "namespace": _TEXT,
    "lifetime": Option("'detached', 'non_detached' or None", _is_none_or(str), None, _lifetime_problem),
    "get_if_exists": Option("True or False", _is_a(bool), False),
    "max_restarts": _count(default=0, infinite=True),
    "max_task_retries": _count(default=0, infinite=True),
    "max_concurrency": _count(default=None, infinite=False),
    "max_pending_calls": _count(default=-1, infinite=True),
    "concurrency_groups": Option(
        "a dict of name to limit, or None", _is_none_or(dict, list), None, _concurrency_groups_problem
    ),
    "allow_out_of_order_execution": Option("True, False or None", _is_none_or(bool)),
    "enable_tensor_transport": Option(
        "True, False or None", _is_none_or(bool), instead="Tensors go through the object store as arrays do."
    ),
    "_actor_generator_backpressure_num_objects": Option(
        "a whole number or None",
        _is_none_or(int),
        -1,
        _above_zero_or_unlimited,
        "Set _generator_backpressure_num_objects on its methods.",
    ),
}

#: Every option of ``@method``.
METHOD_OPTIONS: Mapping[str, Option] = {
    "num_returns": TASK_OPTIONS["num_returns"],
    "concurrency_group": _TEXT,
    "max_task_retries": _count(default=None, infinite=True),
    "retry_exceptions": Option(
        "True, False, a list of exception classes or None",
        lambda value: value is None or _is_retry_exceptions(value),
        None,
        _retry_exceptions_problem,
    ),
    "_generator_backpressure_num_objects": _BACKPRESSURE,
    "_num_objects_per_yield": _PER_YIELD,
    "enable_task_events": Option("True, False or None", _is_none_or(bool)),
    "tensor_transport": dataclasses.replace(
        _TEXT, instead="Tensors go through the object store as arrays do."
    ),
}

#: Every option of ``.options()`` on a method of a handle.
METHOD_CALL_OPTIONS: Mapping[str, Option] = {**METHOD_OPTIONS, "name": _TEXT, "_labels": _COMMON["_labels"]}


def _check_keyword(keyword: str, table: Mapping[str, Option], whose: str) -> str | None:
    """What to say about *keyword* if it isn't in *table*."""
    if keyword in table:
        return None
    elsewhere = [
        name
        for name, other in (
            ("functions", TASK_OPTIONS),
            ("actors", ACTOR_OPTIONS),
            ("actor methods", METHOD_OPTIONS),
        )
        if keyword in other
    ]
    close = difflib.get_close_matches(keyword, table, n=1)
    if elsewhere:
        hint = f" It is an option of {' and '.join(elsewhere)}."
    elif close:
        hint = f" Did you mean {close[0]}?"
    else:
        hint = ""
    return f"Invalid option keyword {keyword} for {whose}.{hint} Valid ones are {', '.join(_told(keyword, table))}."


def _told(keyword: str, table: Mapping[str, Option]) -> list[str]:
    """Return the options of *table* that users should know and that can be carried out, most like *keyword* first."""
    told = [
        name
        for name, option in table.items()
        if not name.startswith("_")
        and not option.is_deprecated
        and option.instead is None
        and option.problem is not _only_none
    ]
    near = difflib.get_close_matches(keyword, told, n=len(told))
    return [*near, *(name for name in told if name not in near)]


def _checked(kwargs: Mapping[str, Any], table: Mapping[str, Option], whose: str) -> dict[str, Any]:
    for keyword, value in kwargs.items():
        if text := _check_keyword(keyword, table, whose):
            raise ValueError(text)
        table[keyword].check(keyword, value)
    return _normalised(kwargs)


def check_supported(options: TaskOptions | ActorOptions | MethodOptions) -> None:
    """Raise NotImplementedError if one of them is what jray can't carry out, and Ray can.

    Which engine will run it is known only when it is called, so the engines of jray's own ask this then.
    """
    for keyword, option in options.TABLE.items():
        if option.instead is not None:
            option.check_supported(keyword, getattr(options, keyword, option.default))


def _normalised(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of *kwargs* that shares no list or dict with the caller."""
    values = dict(kwargs)
    for keyword, value in values.items():
        if keyword == "retry_exceptions" and isinstance(value, list):
            values[keyword] = tuple(value)
        elif isinstance(value, list):
            values[keyword] = list(value)
        elif type(value) is dict:
            values[keyword] = dict(value)
    return values


def _check_num_returns(num_returns: NumReturns, is_generator: bool | None) -> None:
    if is_generator is False and num_returns in ("streaming", "dynamic"):
        raise ValueError(
            f"num_returns={num_returns!r} is for generator functions, and this one has no yield. "
            "Give a whole number instead."
        )


def _custom_resources(
    resources: Mapping[str, float] | None, accelerator_type: str | None
) -> dict[str, float]:
    custom = dict(resources or {})
    for name in custom:
        if name in RESERVED_NAMES:
            raise ValueError(f"Give {name} with its own keyword, not in resources={custom}.")
        if name == BUNDLE:
            raise ValueError(
                f"The name {BUNDLE!r} belongs to placement groups; rename it in resources={custom}."
            )
    if accelerator_type is not None:
        custom[f"accelerator_type:{accelerator_type}"] = ACCELERATOR_TYPE_QUANTITY
    return custom


def _request(
    num_cpus: float | None,
    num_gpus: float | None,
    memory: float | None,
    resources: Mapping[str, float] | None,
    accelerator_type: str | None,
) -> ResourceSet:
    wanted = _custom_resources(resources, accelerator_type)
    units = {name: to_units(name, quantity) for name, quantity in wanted.items()}
    units[CPU] = to_units("num_cpus", num_cpus or 0)
    units[GPU] = to_units("num_gpus", num_gpus or 0)
    # Memory is whole bytes.
    units[MEMORY] = int(memory or 0) * UNITS
    if units[GPU] > UNITS and units[GPU] % UNITS:
        raise ValueError(
            f"GPU quantities above 1 must be whole numbers, but num_gpus={num_gpus}. "
            "Ask for whole GPUs, or for a part of one."
        )
    return ResourceSet(units)


def _check_strategy(strategy: object) -> None:
    if isinstance(strategy, str) and strategy not in ("DEFAULT", "SPREAD"):
        raise ValueError(
            f"Invalid scheduling_strategy value {strategy!r}. Valid ones are 'DEFAULT', 'SPREAD' "
            "and a PlacementGroup-, NodeAffinity- or NodeLabelSchedulingStrategy object."
        )


def _check_placement_group(kwargs: Mapping[str, Any]) -> None:
    group = kwargs.get("placement_group", "default")
    if group is not None and group != "default" and kwargs.get("scheduling_strategy") is not None:
        raise ValueError(f"placement_group= and scheduling_strategy= can't be given together. {_STRATEGY}")


# --- tasks ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options of one remote function; a field for each keyword."""

    num_cpus: float | None = 1
    num_gpus: float | None = None
    #: Bytes.
    memory: float | None = None
    resources: Mapping[str, float] | None = None
    accelerator_type: str | None = None
    name: str | None = None
    runtime_env: Mapping[str, Any] | None = None
    scheduling_strategy: Any = None
    label_selector: Mapping[str, str] | None = None
    fallback_strategy: list[Any] | None = None
    enable_task_events: bool = True
    object_store_memory: int | None = None
    placement_group: Any = "default"
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None
    _labels: Mapping[str, str] | None = None
    #: None stands for 1, or "streaming" if the function is a generator.
    num_returns: NumReturns = None
    #: A worker ends after this many calls of the function; 0 for never.
    max_calls: int = 0
    #: -1 for no limit.
    max_retries: int = DEFAULT_MAX_RETRIES
    retry_exceptions: RetryExceptions = False
    _generator_backpressure_num_objects: int | None = None
    _num_objects_per_yield: int | None = 1
    # Filled by `resources_request`; None before.
    _request: ResourceSet | None = field(default=None, init=False, repr=False, compare=False)

    TABLE: ClassVar[Mapping[str, Option]] = TASK_OPTIONS

    @classmethod
    def from_kwargs(
        cls,
        kwargs: Mapping[str, Any],
        *,
        is_generator: bool | None = None,
        default_max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> Self:
        """The options that ``@remote(**kwargs)`` gives a function.

        Args:
            is_generator: whether the function is one; None leaves ``num_returns="streaming"`` unchecked.
            default_max_retries: for a function that doesn't say.

        Raises:
            TypeError: a value is of the wrong type.
            ValueError: a keyword or a value isn't valid for functions.
        """
        values = _checked(kwargs, TASK_OPTIONS, "remote functions")
        _check_placement_group(values)
        _check_num_returns(values.get("num_returns"), is_generator)
        if values.get("max_retries") is None:
            values["max_retries"] = default_max_retries
        if values.get("max_calls") is None:
            # A worker keeps the memory of its GPUs until it ends.
            values["max_calls"] = 1 if (values.get("num_gpus") or 0) > 0 else 0
        return cls(**values)

    def updated(self, kwargs: Mapping[str, Any], *, is_generator: bool | None = None) -> Self:
        """These options with what ``.options(**kwargs)`` changes; errors are those of `from_kwargs`."""
        values = _checked(kwargs, TASK_OPTIONS, "remote functions")
        if "max_calls" in values:
            raise ValueError("max_calls can't be set in .options(); give it to @remote.")
        _check_placement_group({"scheduling_strategy": self.scheduling_strategy, **values})
        if "num_returns" in values:
            _check_num_returns(values["num_returns"], is_generator)
        if values.get("max_retries", 0) is None:
            del values["max_retries"]
        return dataclasses.replace(self, **values)

    @property
    def resources_request(self) -> ResourceSet:
        """What a run of the task takes from its node; raises ValueError as `check_at_submit` does."""
        if self._request is None:
            request = _request(
                self.num_cpus, self.num_gpus, self.memory, self.resources, self.accelerator_type
            )
            object.__setattr__(self, "_request", request)
            return request
        return self._request

    def returns(self, is_generator: bool) -> int | Literal["streaming", "dynamic"]:
        """`num_returns` with None replaced by what it stands for."""
        if self.num_returns is None:
            return "streaming" if is_generator else 1
        return self.num_returns

    def check_at_submit(self) -> None:
        """Raise ValueError for what Ray, too, finds out only at ``.remote()``."""
        _check_strategy(self.scheduling_strategy)
        _ = self.resources_request


# --- actors ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """The options of one actor class; a field for each keyword."""

    #: None takes 1 to place and 0 while alive, unless other resources are given: then 1 for life.
    num_cpus: float | None = None
    num_gpus: float | None = None
    #: Bytes.
    memory: float | None = None
    resources: Mapping[str, float] | None = None
    accelerator_type: str | None = None
    name: str | None = None
    runtime_env: Mapping[str, Any] | None = None
    scheduling_strategy: Any = None
    label_selector: Mapping[str, str] | None = None
    fallback_strategy: list[Any] | None = None
    enable_task_events: bool = True
    object_store_memory: int | None = None
    placement_group: Any = "default"
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None
    _labels: Mapping[str, str] | None = None
    namespace: str | None = None
    lifetime: Literal["detached", "non_detached"] | None = None
    get_if_exists: bool = False
    #: -1 for no limit.
    max_restarts: int = 0
    #: -1 for no limit.
    max_task_retries: int = 0
    #: None or 0 stands for the default of the kind of actor; see `concurrency`.
    max_concurrency: int | None = None
    #: -1 or 0 for no limit.
    max_pending_calls: int = -1
    concurrency_groups: Mapping[str, int] | None = None
    #: None stands for True if the actor is async or threaded.
    allow_out_of_order_execution: bool | None = None
    enable_tensor_transport: bool | None = None
    _actor_generator_backpressure_num_objects: int | None = -1
    # Filled by `running_request`; None before.
    _request: ResourceSet | None = field(default=None, init=False, repr=False, compare=False)

    TABLE: ClassVar[Mapping[str, Option]] = ACTOR_OPTIONS

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Self:
        """The options that ``@remote(**kwargs)`` gives a class; errors as `TaskOptions.from_kwargs`."""
        return cls()._with(_checked(kwargs, ACTOR_OPTIONS, "actors"), kwargs)

    def updated(self, kwargs: Mapping[str, Any]) -> Self:
        """These options with what ``.options(**kwargs)`` changes."""
        values = _checked(kwargs, ACTOR_OPTIONS, "actors")
        if "concurrency_groups" in values:
            raise ValueError("concurrency_groups can't be set in .options(); give it to @remote.")
        return self._with(values, {"scheduling_strategy": self.scheduling_strategy, **kwargs})

    def _with(self, values: dict[str, Any], kwargs: Mapping[str, Any]) -> Self:
        _check_placement_group(kwargs)
        for keyword in ("max_restarts", "max_task_retries", "max_pending_calls"):
            if keyword in values and values[keyword] is None:
                values[keyword] = ACTOR_OPTIONS[keyword].default
        changed = dataclasses.replace(self, **values)
        if changed.get_if_exists and not changed.name:
            raise ValueError("get_if_exists=True needs a name= to look for.")
        return changed

    @property
    def is_detached(self) -> bool:
        return self.lifetime == "detached"

    @property
    def running_request(self) -> ResourceSet:
        """What the actor holds while it is alive; raises ValueError as `check_at_submit` does."""
        if self._request is None:
            num_cpus = self.num_cpus
            if num_cpus is None:
                num_cpus = 1 if self._asks_for_resources else 0
            request = _request(num_cpus, self.num_gpus, self.memory, self.resources, self.accelerator_type)
            object.__setattr__(self, "_request", request)
            return request
        return self._request

    @property
    def placement_request(self) -> ResourceSet:
        """What must be free on a node for the actor to start there; never less than `running_request`."""
        running = self.running_request
        if self.num_cpus is None and not self._asks_for_resources:
            return running + ResourceSet({CPU: UNITS})
        return running

    @property
    def _asks_for_resources(self) -> bool:
        # Ray's rule, which leaves memory out of it, and counts an explicit num_gpus=0.
        return self.num_gpus is not None or bool(self.resources) or self.accelerator_type is not None

    def concurrency(self, is_async: bool) -> int:
        """How many calls the actor runs at once, outside its concurrency groups."""
        return self.max_concurrency or (1000 if is_async else 1)

    def runs_out_of_order(self, is_async: bool) -> bool:
        """Whether calls of one caller may overtake each other."""
        if self.allow_out_of_order_execution is None:
            return is_async or self.concurrency(is_async) > 1
        return self.allow_out_of_order_execution

    def check_at_submit(self, *, is_async: bool) -> None:
        """Raise ValueError for what Ray, too, finds out only at ``.remote()``."""
        if self.name == "":
            raise ValueError("The name of an actor can't be empty. Leave it out for an actor without one.")
        if self.namespace == "":
            raise ValueError("A namespace can't be empty. Leave it out for the namespace of this job.")
        _check_strategy(self.scheduling_strategy)
        _ = self.running_request
        if self.allow_out_of_order_execution is False and (is_async or self.concurrency(is_async) > 1):
            kind = "An async actor" if is_async else f"An actor with max_concurrency={self.max_concurrency}"
            raise ValueError(
                f"{kind} can't run its calls in order. Leave out allow_out_of_order_execution=False."
            )


# --- methods --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """The options of one actor method; None stands for what the actor says."""

    #: None stands for 1, or "streaming" if the method is a generator.
    num_returns: NumReturns = None
    concurrency_group: str | None = None
    #: -1 for no limit.
    max_task_retries: int | None = None
    retry_exceptions: RetryExceptions | None = None
    _generator_backpressure_num_objects: int | None = None
    _num_objects_per_yield: int | None = 1
    enable_task_events: bool | None = None
    tensor_transport: str | None = None
    #: Only ``.options()`` sets it.
    name: str | None = None
    _labels: Mapping[str, str] | None = None

    TABLE: ClassVar[Mapping[str, Option]] = METHOD_OPTIONS

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any], *, is_generator: bool | None = None) -> Self:
        """The options that ``@method(**kwargs)`` gives a method.

        Raises:
            AssertionError: a keyword isn't an option of methods. The class is Ray's.
            TypeError, ValueError, NotImplementedError: as `TaskOptions.from_kwargs`.
        """
        for keyword in kwargs:
            if text := _check_keyword(keyword, METHOD_OPTIONS, "actor methods"):
                raise AssertionError(text)
        values = _checked(kwargs, METHOD_OPTIONS, "actor methods")
        _check_num_returns(values.get("num_returns"), is_generator)
        return cls(**values)

    def updated(self, kwargs: Mapping[str, Any], *, is_generator: bool | None = None) -> Self:
        """These options with what ``handle.method.options(**kwargs)`` changes; None changes nothing.

        Raises:
            TypeError: also for a keyword that isn't an option of method calls.
            ValueError, NotImplementedError: as `from_kwargs`.
        """
        for keyword in kwargs:
            if text := _check_keyword(keyword, METHOD_CALL_OPTIONS, "method calls"):
                raise TypeError(text)
        if "_num_objects_per_yield" in kwargs:
            raise ValueError("_num_objects_per_yield can't be set for a call; give it to @method.")
        values = _checked(kwargs, METHOD_CALL_OPTIONS, "method calls")
        _check_num_returns(values.get("num_returns"), is_generator)
        return dataclasses.replace(
            self, **{name: value for name, value in values.items() if value is not None}
        )

    def returns(self, is_generator: bool) -> int | Literal["streaming", "dynamic"]:
        """`num_returns` with None replaced by what it stands for."""
        if self.num_returns is None:
            return "streaming" if is_generator else 1
        return self.num_returns

    def retries(self, actor: ActorOptions) -> int:
        """How often a call runs again after the actor died: as the call says, the method, then the actor."""
        return actor.max_task_retries if self.max_task_retries is None else self.max_task_retries
