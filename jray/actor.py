"""Owns actors as the user holds them: `ActorClass`, `ActorHandle`, `ActorMethod`, and the `method` decorator."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from jray._core.engine import ActorExists, ActorPlan, CallPlan
from jray._core.frontend import get_frontend
from jray._core.ids import ActorID
from jray._core.options import ActorOptions, MethodOptions
from jray._core.refs import ObjectRef, current
from jray._core.signature import CallShape
from jray.exceptions import (
    ActorAlreadyExistsError,
    ActorHandleNotFoundError,
    RaySystemError,
)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_OPTIONS_ATTRIBUTE = "__jray_method_options__"
#: methods that every actor has (see the worker's actor host)
_SPECIAL = re.compile(r"__j?ray_(terminate|ready|call)__")


class ActorClassInheritanceException(TypeError):  # noqa: N818 -- Ray's name
    """A class inherits from an actor class."""


def method(*args: Any, **options: Any) -> Any:
    """Give an actor's method default options: `@jray.method(num_returns=2)`.

    Raises AssertionError for an unknown option, ValueError or TypeError for a wrong value.
    """
    if len(args) == 1 and callable(args[0]) and not options:  # bare, without parentheses
        return args[0]
    if args:
        raise AssertionError(
            "The @jray.method decorator takes keyword arguments only, like @jray.method(num_returns=2)."
        )
    made = MethodOptions.from_kwargs(options)

    def annotate(function: F) -> F:
        setattr(function, _OPTIONS_ATTRIBUTE, made)
        return function

    return annotate


class MethodMeta:
    """What a handle knows of a method; picklable."""

    __slots__ = ("is_generator", "name", "options", "shape")

    def __init__(self, name: str, options: MethodOptions, shape: CallShape, *, is_generator: bool) -> None:
        self.name = name
        self.options = options
        self.shape = shape
        self.is_generator = is_generator

    def without_events(self) -> MethodMeta:
        """Return the same for an actor without task events, unless the method has its own word on that."""
        options = self.options
        if options.enable_task_events is None:
            options = dataclasses.replace(options, enable_task_events=False)
        return MethodMeta(self.name, options, self.shape, is_generator=self.is_generator)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_method_meta, (self.name, self.options, self.shape, self.is_generator)


def _restore_method_meta(
    name: str, options: MethodOptions, shape: CallShape, is_generator: bool
) -> MethodMeta:
    return MethodMeta(name, options, shape, is_generator=is_generator)


class ActorMeta:
    """What handles know of their class; picklable."""

    __slots__ = ("class_name", "cls", "max_pending_calls", "max_task_retries", "methods", "tells")

    def __init__(
        self,
        class_name: str,
        methods: dict[str, MethodMeta],
        max_task_retries: int,
        max_pending_calls: int,
        tells: bool = True,
        cls: type | None = None,
    ) -> None:
        self.class_name = class_name
        #: the plain class, in the process that made the actor; None elsewhere
        self.cls = cls
        #: whether the state API shows its calls (enable_task_events)
        self.tells = tells
        self.methods = methods
        self.max_task_retries = max_task_retries
        self.max_pending_calls = max_pending_calls

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorMeta, (
            self.class_name, self.methods, self.max_task_retries, self.max_pending_calls, self.tells,
        )  # fmt: skip


def is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _methods_of(cls: type) -> dict[str, MethodMeta]:
    found: dict[str, MethodMeta] = {}
    for name in dir(cls):
        member = getattr(cls, name, None)
        if not (inspect.isfunction(member) or inspect.ismethod(member)):
            continue
        raw = inspect.getattr_static(cls, name)
        is_bound = isinstance(raw, staticmethod | classmethod)
        is_generator = inspect.isgeneratorfunction(member) or inspect.isasyncgenfunction(member)
        options = getattr(member, _OPTIONS_ATTRIBUTE, None) or MethodOptions()
        shape = CallShape.of(member, drop_first=not is_bound)
        found[name] = MethodMeta(name, options, shape, is_generator=is_generator)
    return found


def _is_async(cls: type) -> bool:
    return any(
        inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
        for member in (getattr(cls, name, None) for name in dir(cls))
    )


class ActorClass:
    """A class whose instances run as actors: `A.remote(...)` returns a handle at once.

    It is made a subclass of the user's class, so that class attributes and functions can be read from it.
    """

    _jray_class: type
    _jray_options: ActorOptions
    #: what handles know of the methods, and whether one is a coroutine; found at the first `.remote()`, because a class
    #: that arrives in a pickle, and captures its own actor class, is empty at first
    _jray_traits: tuple[dict[str, MethodMeta], bool] | None

    #: annotations may name the plain class: `ActorClass[Counter]`
    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ActorClassInheritanceException(
            "Attempted to define a subclass of an actor class. Inheriting from actor classes is not supported: "
            "inherit from the plain class, and decorate the subclass with @jray.remote."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._jray_class.__name__
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Make an actor; return its handle.  The constructor runs in the actor's own process.

        Raises TypeError if the arguments don't fit the constructor, ValueError if the name is taken.
        """
        return _make(self, self._jray_options, args, kwargs)

    def options(self, **options: Any) -> OptionsOfActorClass:
        """Return something with `.remote`, whose actors use these options over the class's own."""
        return OptionsOfActorClass(self, self._jray_options.updated(options))

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: task graphs are made by passing refs and handles."""
        raise NotImplementedError(
            "bind() (ray.dag) is not part of jray. Make the actor with .remote() and pass its handle instead."
        )

    def __repr__(self) -> str:
        return f"ActorClass({self._jray_class.__name__})"

    def __reduce__(self) -> tuple[Any, ...]:
        return make_actor_class, (self._jray_class, self._jray_options)


class OptionsOfActorClass:
    """An actor class with other options."""

    __slots__ = ("_actor_class", "_options")

    def __init__(self, actor_class: ActorClass, options: ActorOptions) -> None:
        self._actor_class = actor_class
        self._options = options

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Make an actor with these options; return its handle."""
        return _make(self._actor_class, self._options, args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: see `ActorClass.bind`."""
        self._actor_class.bind()


def make_actor_class(cls: type, options: ActorOptions) -> ActorClass:
    """Return the actor class of a plain class."""
    if isinstance(cls, ActorClass):
        raise TypeError(f"{cls!r} is an actor class already.")
    if issubclass(cls, ActorClass):
        raise ActorClassInheritanceException(
            f"{cls.__name__} inherits from an actor class, which is not supported."
        )
    namespace = {
        "_jray_class": cls,
        "_jray_options": options,
        "_jray_traits": None,
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__init__": ActorClass.__init__,
        "__call__": ActorClass.__call__,
        "__repr__": ActorClass.__repr__,
        "__reduce__": ActorClass.__reduce__,
        "__eq__": object.__eq__,
        "__hash__": object.__hash__,
    }
    metaclass: Any = type(cls)
    derived = metaclass(f"ActorClass({cls.__name__})", (ActorClass, cls), namespace)
    made: ActorClass = object.__new__(derived)
    return made


def _make(
    actor_class: ActorClass, options: ActorOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    cls = actor_class._jray_class
    traits = actor_class._jray_traits
    if traits is None:
        traits = type(actor_class)._jray_traits = _methods_of(cls), _is_async(cls)
    methods, is_async = traits
    options.check_at_submit(is_async=is_async)
    client = current.client or current.require()
    if options.lifetime is None and client.default_actor_lifetime == "detached":
        options = dataclasses.replace(options, lifetime="detached")
    constructor = cls.__init__ if cls.__init__ is not object.__init__ else None  # type: ignore[misc]
    shape = (
        CallShape.of(constructor, drop_first=True) if constructor is not None else CallShape("__init__", ())
    )
    shape.check(args, kwargs)
    if not options.enable_task_events:
        methods = {name: meta.without_events() for name, meta in methods.items()}
    meta = ActorMeta(
        cls.__name__,
        methods,
        options.max_task_retries,
        options.max_pending_calls,
        options.enable_task_events,
        cls,
    )
    plan = ActorPlan(
        key=actor_class,
        cls=cls,
        meta=meta,
        is_async=is_async,
        options=options,
        args=args,
        kwargs=kwargs,
        cell=get_frontend().cell,
    )
    try:
        actor_id, keeper = client.actors.make(plan)
    except ActorExists as exists:
        (namespace,) = exists.args
        assert options.name is not None
        if options.get_if_exists:
            return get_actor(options.name, namespace)
        raise ActorAlreadyExistsError(
            f"The name {options.name!r} is taken by another actor in the namespace {namespace!r}. Use another "
            "name, get_if_exists=True, or end that actor with jray.kill()."
        ) from None
    return _handle_class(meta)(client, actor_id, meta, keeper)


class ActorMethod:
    """A method of an actor: `handle.method.remote(...)`."""

    __slots__ = ("_handle", "_meta", "_options")

    def __init__(self, handle: ActorHandle, meta: MethodMeta, options: MethodOptions | None = None) -> None:
        # strong: `Actor.remote().method.remote()` must keep the actor until the call is made
        self._handle = handle
        self._meta = meta
        self._options = options

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method; return its `ObjectRef`, or as `num_returns` says.

        Raises TypeError if the arguments don't fit, PendingCallsLimitExceeded above max_pending_calls.
        """
        return self._handle._jray_call(self._meta, self._options, args, kwargs)

    def options(self, **options: Any) -> ActorMethod:
        """Return the method with other options."""
        changed = (self._options or self._meta.options).updated(options, is_generator=self._meta.is_generator)
        return ActorMethod(self._handle, self._meta, changed)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: call `.remote()` and pass the ref."""
        raise NotImplementedError(
            "bind() (ray.dag) is not part of jray. Call .remote() and pass its ref instead."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._meta.name
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{name}()', "
            f"try 'object.{name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"<method {self._meta.name} of {self._handle!r}>"


class _MethodDescriptor:
    """Gives a handle its method: faster than `__getattr__`, and makes no cycle as a cache would."""

    __slots__ = ("_meta",)

    def __init__(self, meta: MethodMeta) -> None:
        self._meta = meta

    def __get__(self, handle: ActorHandle | None, owner: type) -> Any:
        return self if handle is None else ActorMethod(handle, self._meta)


class ActorHandle:
    """A reference to an actor.  The actor lives until the last handle is gone, unless it is detached."""

    __slots__ = ("__weakref__", "_jray_actor", "_jray_client", "_jray_id", "_jray_keeper", "_jray_meta")

    #: annotations may name the plain class: `ActorHandle[Counter]`
    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, client: Any, actor_id: bytes, meta: ActorMeta, keeper: ObjectRef[Any] | None) -> None:
        self._jray_client = client
        self._jray_id = actor_id
        self._jray_meta = meta
        #: the object whose lifetime is the actor's; None: this handle does not keep the actor alive
        self._jray_keeper = keeper
        self._jray_actor = client.actors.get(actor_id)

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._jray_id)

    _ray_actor_id = _actor_id

    def _jray_call(
        self, meta: MethodMeta, options: MethodOptions | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        client = self._jray_client
        if client is not current.client:
            if current.client is not None:
                _ = current.client.number  # a forked child's stand-in refuses
            raise RaySystemError(
                f"{self!r} belongs to a session that has ended; get a new handle with jray.get_actor()."
            )
        shape = meta.shape
        if kwargs or not shape.least <= len(args) <= shape.most:
            shape.check(args, kwargs)
        actor = self._jray_actor
        cell = get_frontend().cell
        key = (meta.name, cell) if options is None else (meta.name, cell, repr(options))
        template = actor.template_numbers.get(key)
        if template is None:
            template = actor.template_numbers[key] = self._template(meta, options or meta.options, cell)
        return client.actors.call(actor, template, args, kwargs, self._jray_meta.max_pending_calls, self)

    def _template(self, meta: MethodMeta, options: MethodOptions, cell: int) -> Any:
        mine = self._jray_meta
        plan = CallPlan(
            mine.class_name, meta.name, meta.is_generator, options, mine.max_task_retries, cell, mine.tells
        )
        return self._jray_client.actors.prepare(self._jray_actor, plan)

    def __getattr__(self, name: str) -> Any:
        if is_dunder(name) and (meta := self._jray_meta.methods.get(name)) is not None:
            return ActorMethod(self, meta)
        if _SPECIAL.fullmatch(name):
            return ActorMethod(self, MethodMeta(name, MethodOptions(), _ANY_SHAPE, is_generator=False))
        raise AttributeError(f"'{self._jray_meta.class_name}' actor has no method or attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted(self._jray_meta.methods)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._jray_id == self._jray_id

    def __hash__(self) -> int:
        return hash(self._jray_id)

    def __repr__(self) -> str:
        return f"Actor({self._jray_meta.class_name}, {self._jray_id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_handle, (self._jray_id, self._jray_meta, self._jray_keeper)


#: for annotations: `ActorProxy[Counter]` is a handle that a type checker lets have Counter's methods
ActorProxy = ActorHandle | type[T]


def _restore_handle(actor_id: bytes, meta: ActorMeta, keeper: ObjectRef[Any] | None) -> ActorHandle:
    client = current.require()
    if client is None:
        raise RaySystemError("a handle to an actor can only be unpickled where jray is started")
    return _handle_class(meta)(client, actor_id, meta, keeper)


def _handle_class(meta: ActorMeta) -> type[ActorHandle]:
    """Return ActorHandle with a descriptor for each method."""
    namespace: dict[str, Any] = {"__slots__": (), "__module__": "jray.actor"}
    for name, method_meta in meta.methods.items():
        # `len(handle)` is no call of the actor's: such names are found by `__getattr__`, which only `handle.__len__` asks
        if not is_dunder(name) or name == "__call__":
            namespace[name] = _MethodDescriptor(method_meta)
    return type("ActorHandle", (ActorHandle,), namespace)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """Return a handle to the named actor; it does not keep the actor alive.

    Raises ValueError if there is no such actor, or *name* is empty.
    """
    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be text, got {namespace!r}")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    client = current.client or current.require()
    found = client.actors.find(name, namespace)
    if found is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. This could be because 1. there is no actor of that name "
            f"in the namespace '{namespace or client.namespace}', 2. it died, or 3. the namespace is another one."
        )
    actor_id, meta = found
    return _handle_class(meta)(client, actor_id, meta, None)


def handle_to_self(client: Any, actor_id: bytes, meta: ActorMeta) -> ActorHandle:
    """Return a handle for the actor's own use, which does not keep it alive."""
    return _handle_class(meta)(client, actor_id, meta, None)


def kill(handle: Any, *, no_restart: bool = True) -> None:
    """End an actor at once; its calls fail.  With `no_restart=False` it restarts if it may."""
    client = current.client or current.require()
    if not isinstance(handle, ActorHandle):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"jray.kill() only supported for actors. For tasks, try jray.cancel(). Got: {type(handle)}."
        )
    if handle._jray_client is not client:
        raise ActorHandleNotFoundError(f"{handle!r} belongs to a session that has ended.")
    client.actors.kill(handle._jray_id, no_restart=no_restart)


def exit_actor() -> NoReturn:
    """End the actor that calls this, after the calls that run now.  Raises TypeError outside an actor."""
    if current.client is None:
        raise TypeError("exit_actor called on a non-actor worker.")
    current.client.actors.exit()
    raise AssertionError("an engine's exit() raises")


_ANY_SHAPE = CallShape("method", (("args", 2, True), ("kwargs", 4, True)))
