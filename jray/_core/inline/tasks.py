"""Owns the making and submitting of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jray._core.client.outcomes import refusal_error
from jray._core.client.results import returns_number
from jray._core.engine import FunctionPlan
from jray._core.inline.calls import NEEDS_RESOURCES, Call, TaskTemplate
from jray._core.options import check_supported
from jray._core.placement import placement
from jray._core.resources import Allocation, ResourceSet
from jray._core.strategies import Where

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient

_NO_KWARGS: dict[str, Any] = {}


class TaskJob:
    """A task whose arguments are there."""

    __slots__ = ("_client", "call", "cell", "name", "placement", "request", "where")

    def __init__(self, client: InlineClient, call: Call, request: ResourceSet, where: Where) -> None:
        self._client = client
        self.call = call
        self.name = call.name
        self.cell = call.template.cell
        self.placement = self.request = request
        self.where = where

    def refuse(self, reason: str) -> None:
        self._client.runner.fail(self.call, refusal_error(self.name, reason))

    def start(self, allocation: Allocation) -> None:
        self.call.allocation = allocation
        self._client.runner.run_task(self.call)


class TaskMaker:
    """See `jray._core.engine.Tasks`."""

    def __init__(self, client: InlineClient) -> None:
        self._client = client

    def prepare(self, plan: FunctionPlan) -> TaskTemplate:
        client = self._client
        options = plan.options
        check_supported(options)
        name = options.name or plan.function.__qualname__
        code = client.code.export(plan.key, plan.function, "remote function", plan.full_name, plan.cell)
        template = TaskTemplate(
            code,
            options,
            placement(options, plan.caller, plan.function.__name__, client.groups.bundles),
            name=name,
            function_name=plan.full_name,
            num_returns=returns_number(options.returns(plan.is_generator)),
            max_retries=options.max_retries,
            retry_exceptions=options.retry_exceptions,
            backpressure=options._generator_backpressure_num_objects,
            cell=plan.cell,
            tally=client.watch.tally(plan.cell, name),
            is_told=options.enable_task_events,
        )
        template.environment(client.environment())  # what is wrong with it is said at once
        return template

    def submit(
        self, template: TaskTemplate, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NO_KWARGS
    ) -> Any:
        client = self._client
        with client.operation():
            call = client.new_call(template, args, kwargs, template.environment(client.environment()))
            client.make_result(call)
            client.when_arguments(call, self._ready)
            return call.take_result()

    def _ready(self, call: Call) -> None:
        """The arguments are there, or one of them has failed."""
        client = self._client
        failed = client.failed_argument(call)
        if failed is not None:
            client.runner.fail_by_argument(call, failed)
        elif not call.is_done:
            call.phase = NEEDS_RESOURCES
            template = call.template
            assert isinstance(template, TaskTemplate)
            client.turns.submit(TaskJob(client, call, template.request, template.where))
