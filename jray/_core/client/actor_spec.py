"""Owns what jray's own engines make of an actor's plan: the spec that its lives begin with."""

from __future__ import annotations

from jray._core.client.functions import ExportedCode
from jray._core.engine import ActorPlan
from jray._core.environments import Environment
from jray._core.placement import Placement
from jray._core.specs import ActorSpec


def actor_spec(
    plan: ActorPlan,
    actor_id: bytes,
    code: ExportedCode,
    *,
    namespace: str,
    environment: Environment,
    job: bytes,
    owner: str,
    placement: Placement,
    home: bytes,
    methods: bytes = b"",
) -> ActorSpec:
    """Return the spec of an actor, without the constructor's arguments."""
    options = plan.options
    return ActorSpec(
        actor_id=actor_id,
        class_id=code.function_id,
        class_blob=code.blob,
        sources=code.sources,
        class_name=plan.cls.__name__,
        args_blob=b"",
        positions=(),
        dependencies=(),
        name=options.name,
        namespace=namespace,
        is_detached=options.is_detached,
        max_restarts=options.max_restarts,
        max_task_retries=options.max_task_retries,
        max_concurrency=options.concurrency(plan.is_async),
        concurrency_groups=tuple((options.concurrency_groups or {}).items()),
        method_groups=tuple(
            (name, method.options.concurrency_group)
            for name, method in plan.meta.methods.items()
            if method.options.concurrency_group
        ),
        is_async=plan.is_async,
        placement_request=dict(options.placement_request.items()),
        running_request=dict(options.running_request.items()),
        runtime_env=environment,
        cell=plan.cell,
        job=job,
        owner=owner,
        out_of_order=options.runs_out_of_order(plan.is_async),
        methods=methods,
        where=placement.where,
        home=home,
        captures=placement.captures,
    )
