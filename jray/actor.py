"""Owns actors as the user holds them: `ActorClass`, `ActorHandle`, `ActorMethod`, and the `method` decorator."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from jray._core.client.actors import CallTemplate, RemoteActor
from jray._core.client.arguments import pack
from jray._core.client.exits import ActorExit
from jray._core.client.frontend import get_frontend
from jray._core.client.pump import Waiter
from jray._core.client.results import DYNAMIC, STREAMING
from jray._core.environments import normalize
from jray._core.ids import ActorID
from jray._core.machine.actors import ActorView
from jray._core.options import ActorOptions, MethodOptions
from jray._core.refs import ObjectRef, current
from jray._core.serialization import deserialize, serialize
from jray._core.signature import CallShape
from jray._core.specs import ActorSpec, MethodTemplate
from jray._core.strategies import refusal
from jray._core.wire import messages
from jray.exceptions import (
    ActorAlreadyExistsError,
    ActorHandleNotFoundError,
    ActorUnschedulableError,
    RaySystemError,
)

F = TypeVar("F", bound=Callable[..., Any])

_RETURNS = {"streaming": STREAMING, "dynamic": DYNAMIC}
_OPTIONS_ATTRIBUTE = "__jray_method_options__"
#: methods that every actor has (see the worker's actor host)
_SPECIAL = re.compile(r"__j?ray_(terminate|ready|call)__")


class ActorClassInheritanceException(TypeError):  # noqa: N818 -- Ray's name
    """A class inherits from an actor class."""


def method(*args: Any, **options: Any) -> Any:
    """Give an actor's method default options: `@jray.method(num_returns=2)`.

    Raises AssertionError for an unknown option, ValueError or TypeError for a wrong value.
    """
    if args or not isinstance(options, dict):
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_method_meta, (self.name, self.options, self.shape, self.is_generator)


def _restore_method_meta(
    name: str, options: MethodOptions, shape: CallShape, is_generator: bool
) -> MethodMeta:
    return MethodMeta(name, options, shape, is_generator=is_generator)


class ActorMeta:
    """What handles know of their class; picklable."""

    __slots__ = ("class_name", "max_pending_calls", "max_task_retries", "methods")

    def __init__(
        self, class_name: str, methods: dict[str, MethodMeta], max_task_retries: int, max_pending_calls: int
    ) -> None:
        self.class_name = class_name
        self.methods = methods
        self.max_task_retries = max_task_retries
        self.max_pending_calls = max_pending_calls

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorMeta, (self.class_name, self.methods, self.max_task_retries, self.max_pending_calls)


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
    _jray_methods: dict[str, MethodMeta]
    _jray_is_async: bool

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

    def remote(self, *args: Any, **kwargs: Any) -> Any:
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

    def remote(self, *args: Any, **kwargs: Any) -> Any:
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
        "_jray_methods": _methods_of(cls),
        "_jray_is_async": _is_async(cls),
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
    is_async = actor_class._jray_is_async
    options.check_at_submit(is_async=is_async)
    client = current.client or current.require()
    constructor = cls.__init__ if cls.__init__ is not object.__init__ else None  # type: ignore[misc]
    shape = (
        CallShape.of(constructor, drop_first=True) if constructor is not None else CallShape("__init__", ())
    )
    shape.check(args, kwargs)
    methods = actor_class._jray_methods
    meta = ActorMeta(cls.__name__, methods, options.max_task_retries, options.max_pending_calls)
    namespace = options.namespace or client.namespace
    actor_id = os.urandom(12) + client.job_id
    if options.name is not None:
        holder = client.ask("reserve_name", namespace, options.name, actor_id)
        if holder != actor_id:
            if options.get_if_exists:
                return get_actor(options.name, namespace)
            raise ActorAlreadyExistsError(
                f"The name {options.name!r} is taken by another actor in the namespace {namespace!r}. Use another "
                "name, get_if_exists=True, or end that actor with jray.kill()."
            )
    try:
        code = client.code_of(actor_class, cls, "actor class", f"{cls.__module__}.{cls.__qualname__}")
        packed = pack(args, kwargs, client.config.inline_limit_bytes, client.objects.put_serialized)
        environment = normalize(options.runtime_env, client.runtime_env)
        running, placement = options.running_request, options.placement_request
    except BaseException:
        if options.name is not None:
            client.ask("unreserve_name", namespace, options.name, actor_id)
        raise
    groups = options.concurrency_groups or {}
    spec = ActorSpec(
        actor_id=actor_id,
        class_id=code.function_id,
        class_blob=code.blob,
        sources=code.sources,
        class_name=cls.__name__,
        args_blob=packed.payload if isinstance(packed.payload, bytes) else b"",
        positions=packed.positions,
        dependencies=(),
        name=options.name,
        namespace=namespace,
        is_detached=options.is_detached,
        max_restarts=options.max_restarts,
        max_task_retries=options.max_task_retries,
        max_concurrency=options.concurrency(is_async),
        concurrency_groups=tuple(groups.items()),
        method_groups=tuple(
            (n, m.options.concurrency_group) for n, m in methods.items() if m.options.concurrency_group
        ),
        is_async=is_async,
        placement_request=dict(placement.items()),
        running_request=dict(running.items()),
        runtime_env=environment,
        cell=get_frontend().cell,
        job=client.job_id,
        owner=client.address,
        methods=serialize(meta).to_bytes(),
    )
    reason = refusal(options.scheduling_strategy, client.node_id)
    error = (
        ActorUnschedulableError(f"The actor {cls.__name__} cannot be scheduled: {reason}.")
        if reason
        else None
    )
    keeper = client.actors.create(spec, packed, error)
    return _handle_class(meta)(client, actor_id, meta, None if options.is_detached else keeper)


class ActorMethod:
    """A method of an actor: `handle.method.remote(...)`."""

    __slots__ = ("_handle", "_meta", "_options")

    def __init__(self, handle: ActorHandle, meta: MethodMeta, options: MethodOptions | None = None) -> None:
        # strong: `Actor.remote().method.remote()` must keep the actor until the call is made
        self._handle = handle
        self._meta = meta
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> Any:
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

    def __init__(self, client: Any, actor_id: bytes, meta: ActorMeta, keeper: ObjectRef[Any] | None) -> None:
        self._jray_client = client
        self._jray_id = actor_id
        self._jray_meta = meta
        #: the object whose lifetime is the actor's; None: this handle does not keep the actor alive
        self._jray_keeper = keeper
        self._jray_actor: RemoteActor = client.actors.get(actor_id)

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

    def _template(self, meta: MethodMeta, options: MethodOptions, cell: int) -> CallTemplate:
        returns = options.returns(meta.is_generator)
        wire = MethodTemplate(
            number=self._jray_client.tasks.next_template_number(),
            method=meta.name,
            name=options.name or f"{self._jray_meta.class_name}.{meta.name}",
            num_returns=returns if isinstance(returns, int) else _RETURNS[returns],
            concurrency_group=options.concurrency_group or "",
            cell=cell,
            backpressure=options._generator_backpressure_num_objects or -1,
        )
        retries = options.max_task_retries
        if retries is None:
            retries = self._jray_meta.max_task_retries
        retry = options.retry_exceptions or False
        return CallTemplate(wire, retries, tuple(retry) if isinstance(retry, list) else retry)

    def __getattr__(self, name: str) -> Any:
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


def _restore_handle(actor_id: bytes, meta: ActorMeta, keeper: ObjectRef[Any] | None) -> ActorHandle:
    client = current.require()
    if client is None:
        raise RaySystemError("a handle to an actor can only be unpickled where jray is started")
    return _handle_class(meta)(client, actor_id, meta, keeper)


def _handle_class(meta: ActorMeta) -> type[ActorHandle]:
    """Return ActorHandle with a descriptor for each method."""
    namespace: dict[str, Any] = {"__slots__": (), "__module__": "jray.actor"}
    for name, method_meta in meta.methods.items():
        # dunder names would change what the handle itself is, except those that say nothing about it
        if not (name.startswith("__") and name.endswith("__")) or name == "__call__":
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
    where = namespace or client.namespace
    view = client.ask("find_actor", where, name)
    while isinstance(view, bytes):  # its maker has the name and is about to make it
        client.pump.wait(Waiter(), 0.005)
        view = client.ask("find_actor", where, name)
    if view is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. This could be because 1. there is no actor of that name "
            f"in the namespace '{where}', 2. it died, or 3. the namespace is another one."
        )
    return _handle_from_view(client, view)


def _handle_from_view(client: Any, view: ActorView) -> ActorHandle:
    meta: ActorMeta = deserialize(view.methods)
    return _handle_class(meta)(client, view.actor_id, meta, None)


def handle_to_self(client: Any, spec: ActorSpec) -> ActorHandle:
    """Return a handle for the actor's own use, which does not keep it alive."""
    meta: ActorMeta = deserialize(spec.methods)
    return _handle_class(meta)(client, spec.actor_id, meta, None)


def kill(handle: Any, *, no_restart: bool = True) -> None:
    """End an actor at once; its calls fail.  With `no_restart=False` it restarts if it may."""
    client = current.client or current.require()
    if not isinstance(handle, ActorHandle):
        raise ValueError(  # noqa: TRY004 -- the class is Ray's
            f"jray.kill() only supported for actors. For tasks, try jray.cancel(). Got: {type(handle)}."
        )
    if handle._jray_client is not client:
        raise ActorHandleNotFoundError(f"{handle!r} belongs to a session that has ended.")
    client.node.tell(messages.KILL_ACTOR, handle._jray_id, no_restart, "it was killed by jray.kill()")


def exit_actor() -> NoReturn:
    """End the actor that calls this, after the calls that run now.  Raises TypeError outside an actor."""
    worker = current.client.worker if current.client is not None else None
    if worker is None or worker.actor is None:
        raise TypeError("exit_actor called on a non-actor worker.")
    raise ActorExit(0)


_ANY_SHAPE = CallShape("method", (("args", 2, True), ("kwargs", 4, True)))
