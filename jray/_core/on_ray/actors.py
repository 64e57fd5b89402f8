"""Owns the making, finding and calling of actors on Ray.

An actor's handle in jray holds a `Keeper`, which holds Ray's handle: Ray counts those and ends the actor with the
last.  A handle that does not keep its actor alive has no keeper; Ray's weak handle travels in its meta instead.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import ray
import ray.actor

from jray._core.engine import ActorExists, ActorPlan, CallPlan, Tally
from jray._core.frontend import get_frontend
from jray._core.on_ray import courier
from jray._core.on_ray.errors import translated
from jray._core.on_ray.hosting import ActorRunner, own_host
from jray._core.on_ray.options import actor_keywords, method_keywords
from jray._core.on_ray.tasks import submitted
from jray._core.options import MethodOptions
from jray._core.refs import current
from jray._core.signature import CallShape
from jray.actor import ActorMeta, MethodMeta, is_dunder
from jray.exceptions import ActorHandleNotFoundError

if TYPE_CHECKING:
    from jray._core.on_ray.engine import RayEngine

#: methods that Ray gives every actor, by jray's name for them
_SPECIAL = {
    "__ray_terminate__": "__ray_terminate__",
    "__jray_terminate__": "__ray_terminate__",
    "__ray_ready__": "__ray_ready__",
    "__jray_ready__": "__ray_ready__",
    "__ray_call__": "_jray_apply",
    "__jray_call__": "_jray_apply",
}


#: before the names of methods such as `__len__`: an entry that had these itself would be another kind of object
_HIDDEN = "_jray"


def _on_ray(name: str) -> str:
    """Return how a method is called where Ray knows of it."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    return _HIDDEN + name if is_dunder(name) and name != "__call__" else name


class Keeper:
    """Keeps an actor alive: holds Ray's handle to it."""

    __slots__ = ("__weakref__", "rays")

    def __init__(self, rays: Any) -> None:
        self.rays = rays

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived_keeper, (self.rays,)


def _arrived_keeper(rays: Any) -> Keeper:
    keeper: Keeper = current.client.actors.keeper_of(rays)
    return keeper


class WeakMeta(ActorMeta):
    """The meta of a handle that does not keep its actor alive, with Ray's handle of that kind."""

    __slots__ = ("__weakref__", "rays")

    def __init__(self, meta: ActorMeta, rays: Any) -> None:
        super().__init__(meta.class_name, meta.methods, meta.max_task_retries, meta.max_pending_calls)
        self.rays = rays

    def __reduce__(self) -> tuple[Any, ...]:
        _, fields = super().__reduce__()
        return _arrived_meta, (fields, self.rays)


def _arrived_meta(fields: tuple[Any, ...], rays: Any) -> WeakMeta:
    meta: WeakMeta = current.client.actors.weak_meta(ActorMeta(*fields), rays)
    return meta


class ActorRecord:
    """What this process knows of an actor."""

    __slots__ = ("__weakref__", "actor_id", "template_numbers")

    def __init__(self, actor_id: bytes) -> None:
        self.actor_id = actor_id
        #: templates by the key that handles give them
        self.template_numbers: dict[Any, Any] = {}


class CallTemplate:
    """What all calls of a method, with certain options and from one cell, have in common."""

    __slots__ = ("cell", "is_relayed", "keywords", "method", "name", "num_returns", "tally")

    def __init__(
        self, method: str, name: str, keywords: dict[str, Any], num_returns: Any, tally: Tally
    ) -> None:
        self.method = method
        self.name = name
        self.keywords = keywords
        self.num_returns = num_returns
        self.tally = tally
        #: that Ray's call says it comes from
        self.cell = 0
        self.is_relayed = False


class RayActors:
    """Makes, finds, calls and ends actors."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._classes: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._records: weakref.WeakValueDictionary[bytes, ActorRecord] = weakref.WeakValueDictionary()
        self._keepers: weakref.WeakValueDictionary[bytes, Keeper] = weakref.WeakValueDictionary()
        self._weak_metas: weakref.WeakValueDictionary[bytes, WeakMeta] = weakref.WeakValueDictionary()

    # -- making -----------------------------------------------------------------------------------

    def make(self, plan: ActorPlan) -> tuple[bytes, Keeper]:
        """Have an actor made; return its id, and the keeper that keeps it alive.  Raises `ActorExists`."""
        engine, options = self._engine, plan.options
        cls = self._classes.get(plan.key)
        if cls is None:
            cls = self._classes[plan.key] = self._rays_class(plan)
        make = cls.options(**keywords).remote if (keywords := actor_keywords(options)) else cls.remote
        try:
            rays = submitted(engine, make, plan.args, plan.kwargs, plan.cell)
            keeper = self.keeper_of(rays)
        except ray.exceptions.ActorAlreadyExistsError:
            raise ActorExists(options.namespace or engine.namespace) from None
        except Exception as error:  # noqa: BLE001 -- Ray's, translated
            raise engine.submit_error(error, plan.args, plan.kwargs) from None
        return rays._actor_id.binary(), keeper

    def _rays_class(self, plan: ActorPlan) -> Any:
        self._engine.registrations.follow()
        user: Any = plan.cls
        meta = plan.meta
        # what every object has, handles have too, and so do not pass on
        names = [name for name in meta.methods if not (is_dunder(name) and hasattr(object, name))]
        kinds = [(_on_ray(name), name, _kind_of(getattr(user, name))) for name in names]
        # what Ray itself calls
        if user.__repr__ is not object.__repr__:
            kinds.append(("__repr__", "__repr__", "plain"))
        if hasattr(user, "__ray_shutdown__") or hasattr(user, "__jray_shutdown__"):
            kinds.append(("__ray_shutdown__", "", "shutdown"))
        entry: Any = courier.actor_entry(ActorRunner(user, meta), user.__name__, kinds)
        entry.__module__, entry.__qualname__, entry.__doc__ = user.__module__, user.__qualname__, user.__doc__
        for name in names:
            method = meta.methods[name]
            function = getattr(entry, _on_ray(name))
            function.__name__, function.__qualname__ = name, f"{user.__qualname__}.{name}"
            function.__signature__ = _signature(method.shape)
            defaults = method_keywords(method.options, is_generator=method.is_generator)
            # classes of exceptions would reach the worker ahead of what makes jray importable there
            if not isinstance(defaults.get("retry_exceptions"), list):
                _ = ray.method(**defaults)(function) if defaults else None
        entry.__init__.__signature__ = _signature(
            CallShape.of(user.__init__, drop_first=True)
            if user.__init__ is not object.__init__
            else CallShape("__init__", ())
        )
        groups = plan.options.concurrency_groups
        return ray.remote(concurrency_groups=dict(groups))(entry) if groups else ray.remote(entry)

    # -- finding ----------------------------------------------------------------------------------

    def keeper_of(self, rays: Any) -> Keeper:
        """Return this process's keeper with one of Ray's handles."""
        actor_id = rays._actor_id.binary()
        keeper = self._keepers.get(actor_id)
        if keeper is None:
            keeper = self._keepers[actor_id] = Keeper(rays)
        return keeper

    def weak_meta(self, meta: ActorMeta, rays: Any) -> WeakMeta:
        """Return the meta for a handle that does not keep its actor alive."""
        made = self._weak_metas[rays._actor_id.binary()] = WeakMeta(meta, rays)
        return made

    def get(self, actor_id: bytes) -> ActorRecord:
        """Return this process's record of an actor."""
        record = self._records.get(actor_id)
        if record is None:
            record = self._records[actor_id] = ActorRecord(actor_id)
        return record

    def find(self, name: str, namespace: str | None) -> tuple[bytes, Any] | None:
        """Return (id, meta) of a living named actor, of a plain Ray program too."""
        try:
            rays = ray.get_actor(name, namespace)
        except ValueError:
            return None
        except ray.exceptions.RayError as error:
            raise translated(error) from None
        if self._engine.is_remote_client:
            # the handles of such a client know too little of their actors
            facts = ray.get(ray.remote(num_cpus=0)(courier.actor_facts).remote(rays))
        else:
            facts = courier.actor_facts(rays)
        return rays._actor_id.binary(), self.weak_meta(_meta_of(facts), rays)

    def own_meta(self) -> WeakMeta | None:
        """Return the meta for a handle to the actor that asks."""
        host = own_host()
        if host is None:
            return None
        return self.weak_meta(host.meta, ray.get_runtime_context().current_actor)

    def rays_handle(self, actor_id: bytes) -> Any:
        """Return Ray's handle to an actor that somebody here has a handle to."""
        holder = self._keepers.get(actor_id) or self._weak_metas.get(actor_id)
        if holder is None:
            raise ActorHandleNotFoundError(f"This process has no handle to the actor {actor_id.hex()}.")
        return holder.rays

    # -- calling ----------------------------------------------------------------------------------

    def prepare(self, record: ActorRecord, plan: CallPlan) -> CallTemplate:
        """Return the template of all calls by this plan."""
        keywords = method_keywords(plan.options, is_generator=plan.is_generator)
        num_returns = plan.options.returns(plan.is_generator)
        tally = self._engine.watch.tally(plan.cell, plan.name, is_actor_call=True)
        template = CallTemplate(_on_ray(plan.method), plan.name, keywords, num_returns, tally)
        if plan.cell and self._takes_cell(record, template.method):
            template.cell = plan.cell
        template.is_relayed = num_returns == "streaming" and self._engine.is_remote_client
        if template.is_relayed or num_returns != self._rays_returns(record, template.method):
            keywords["num_returns"] = num_returns
        return template

    def _rays_returns(self, record: ActorRecord, method: str) -> Any:
        """Return the `num_returns` of a method that Ray takes where a call says nothing."""
        found = self._known(record)[1].get(method)
        return 1 if found is None else found

    def _known(self, record: ActorRecord) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the parameters and the `num_returns` of an actor's methods, as Ray knows them here."""
        rays = self.rays_handle(record.actor_id)
        if not self._engine.is_remote_client:
            return rays._ray_method_signatures, rays._ray_method_num_returns
        if rays._method_signatures is None:
            dir(rays)  # asks the cluster
        return (
            {name: list(found.parameters.values()) for name, found in rays._method_signatures.items()},
            rays._method_num_returns,
        )

    def _takes_cell(self, record: ActorRecord, method: str) -> bool:
        """Tell whether calls of this method may say their cell: to an actor of jray's, made by this driver.

        A cell of this driver means nothing to another one, which shows what its own actors write.
        """
        if record.actor_id[-len(self._engine.job_id) :] != self._engine.job_id:
            return False
        return any(parameter.name == courier.CELL for parameter in self._known(record)[0].get(method, ()))

    def call(
        self,
        record: ActorRecord,
        template: CallTemplate,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        max_pending_calls: int,  # noqa: ARG002 -- Ray counts them
        keep: Any,
    ) -> Any:
        """Call a method; Ray's call keeps what it needs itself."""
        engine = self._engine
        try:
            rays = self.rays_handle(record.actor_id)
            if "concurrency_group" in template.keywords and engine.is_remote_client:
                template.keywords = _without_group(template, keep)
            if template.is_relayed:
                call = functools.partial(self._relayed, rays, template)
            else:
                method = getattr(rays, template.method)
                call = method.options(**template.keywords).remote if template.keywords else method.remote
            result = submitted(engine, call, args, kwargs, template.cell)
        except Exception as error:  # noqa: BLE001 -- Ray's, translated
            raise engine.submit_error(error, args, kwargs) from None
        del keep
        made = engine.refs_of_result(result, template.num_returns, template.name)
        return engine.watch.submitted(template.tally, made, None)

    def _relayed(self, rays: Any, template: CallTemplate, *args: Any, **kwargs: Any) -> Any:
        call = courier.MethodCall(rays, template.method, template.keywords)
        return self._engine.streams.started(call, args, kwargs, template.name)

    # -- ending -----------------------------------------------------------------------------------

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        """End an actor; returns at once."""
        try:
            ray.kill(self.rays_handle(actor_id), no_restart=no_restart)
        except ray.exceptions.RayError as error:
            raise translated(error) from None

    def exit(self) -> NoReturn:
        """Raise what ends the actor that calls this.  Raises TypeError outside an actor."""
        if own_host() is None:
            raise TypeError("exit_actor called on a non-actor worker.")
        get_frontend().flush()
        ray.actor.exit_actor()
        raise AssertionError("Ray's exit_actor() raises")


def _without_group(template: CallTemplate, handle: Any) -> dict[str, Any]:
    """Return the keywords without the group that Ray by ray:// takes from the method's definition alone."""
    method = handle._jray_meta.methods.get(template.method)
    group = template.keywords["concurrency_group"]
    if method is None or method.options.concurrency_group != group:
        raise NotImplementedError(
            f"By ray:// Ray takes no concurrency group for a single call. Give concurrency_group={group!r} to "
            "@jray.method, or join from one of the cluster's machines."
        )
    return {name: value for name, value in template.keywords.items() if name != "concurrency_group"}


def _kind_of(member: Any) -> str:
    """Return how the method runs, in `courier`'s words."""
    if inspect.isasyncgenfunction(member):
        return "async stream"
    if inspect.iscoroutinefunction(member):
        return "async"
    return "stream" if inspect.isgeneratorfunction(member) else "call"


def _signature(shape: CallShape) -> inspect.Signature:
    """Return the signature with a place for the cell, and without the user's defaults, which need not be picklable."""
    kinds = list(inspect._ParameterKind)
    found = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for name, kind, has_default in shape._parameters:
        default = None if has_default and kind not in (2, 4) else inspect.Parameter.empty
        found.append(inspect.Parameter(name, kinds[kind], default=default))
    cell = inspect.Parameter(courier.CELL, inspect.Parameter.KEYWORD_ONLY, default=0)
    place = len(found) - (found[-1].kind is inspect.Parameter.VAR_KEYWORD)
    if found[0].kind is inspect.Parameter.POSITIONAL_ONLY and len(found) > 1:
        # `self` may stand before parameters of any kind
        found[0] = found[0].replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    found.insert(place, cell)
    return inspect.Signature(found)


def _meta_of(facts: tuple[Any, ...]) -> ActorMeta:
    """Return what jray's handles know of an actor, from `courier.actor_facts`."""
    class_name, signatures, returns, generators = facts
    methods = {}
    for name, parameters in signatures.items():
        if name in ("__init__", "__ray_call__", "__ray_terminate__", "__ray_ready__", "_jray_apply"):
            continue
        shape = CallShape(
            name,
            tuple(
                (p.name, int(p.kind), p.default is not p.empty or int(p.kind) in (2, 4))
                for p in parameters
                if p.name != courier.CELL
            ),
        )
        num_returns = returns.get(name)
        is_generator = bool(generators.get(name)) or num_returns == "streaming"
        options = MethodOptions(num_returns=None if num_returns in (None, 1, "streaming") else num_returns)
        own = name.removeprefix(_HIDDEN) if name.startswith(f"{_HIDDEN}__") else name
        methods[own] = MethodMeta(own, options, shape, is_generator=is_generator)
    return ActorMeta(class_name, methods, 0, -1)
