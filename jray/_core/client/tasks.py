"""Owns the submitting of tasks: their arguments, ids and refs, and their cancelling.

`submit` is half of the hot path (`jray._core.client.outcomes` is the other): written for few bytecodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jray._core.client.arguments import PackedArguments, are_plain, pack
from jray._core.client.pending import PendingTask, RemoteTemplate
from jray._core.client.results import STREAMING, returns_number
from jray._core.client.streams import Stream
from jray._core.engine import FunctionPlan
from jray._core.environments import normalize
from jray._core.options import check_supported
from jray._core.placement import placement
from jray._core.refs import ERROR, PENDING, STORED, ObjectRef
from jray._core.specs import FunctionTemplate
from jray._core.wire import messages

if TYPE_CHECKING:
    from jray._core.client.core import CoreClient

_NO_KWARGS: dict[str, Any] = {}
#: a thread that submits this many looks for answers itself
VISIT_EVERY = 128
#: the client's lock is held for so many tasks at once
_CANCELLED_AT_ONCE = 500


class TaskSubmitter:
    """Makes tasks and their refs.  The client's lock guards everything."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._templates = 0
        #: tasks without a result, by number
        self.pending: dict[int, PendingTask] = {}

    def next_template_number(self) -> int:
        self._templates += 1
        return self._templates

    def prepare(self, plan: FunctionPlan) -> RemoteTemplate:
        """Return what all calls of a function, with these options and from this cell, have in common."""
        client = self._client
        options = plan.options
        check_supported(options)
        where, captures = placement(options, plan.caller, plan.function.__name__, client.groups.bundles)
        code = client.code_of(plan.key, plan.function, "remote function", plan.full_name, plan.cell)
        name = options.name or plan.function.__qualname__
        wire = FunctionTemplate(
            number=self.next_template_number(),
            function_id=code.function_id,
            name=name,
            num_returns=returns_number(options.returns(plan.is_generator)),
            max_retries=options.max_retries,
            max_calls=options.max_calls,
            cell=plan.cell,
            backpressure=options._generator_backpressure_num_objects or -1,
            group=where.group,
            captures=captures,
        )
        environment = normalize(options.runtime_env, client.runtime_env)
        queue = client.leasing.queue_for(dict(options.resources_request.items()), environment, where)
        retry = options.retry_exceptions
        retry = tuple(retry) if isinstance(retry, list) else retry
        function_name = plan.function.__qualname__
        tally = client.watch.tally(plan.cell, name)
        return RemoteTemplate(wire, code, queue, retry, function_name, options.enable_task_events, tally)

    def submit(
        self, template: RemoteTemplate, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NO_KWARGS
    ) -> Any:
        """Submit a call; return its ref, its refs, its generator, or None, by the template's num_returns."""
        client = self._client
        number = client.next_number()
        if not number % VISIT_EVERY:
            client.pump.poll_nowait()
        task = PendingTask(number, template, args, template.max_retries, client.context.task_number())
        if kwargs or not are_plain(args):
            self.attach(
                task, pack(args, kwargs, client.config.inline_limit_bytes, client.objects.put_serialized)
            )
        result = self.make_refs(task, template.num_returns)
        queue = template.queue
        with client.lock:
            self.pending[number] = task
            template.tally.submitted += 1
            if client.loss is not None:
                client.outcomes.fail(task, client.loss)
                return result
            if task.dependencies:
                if not self.wait_for_dependencies(task, client.leasing.ready):
                    return result
                queue = client.leasing.queue_of(task)
            machine = queue.machine
            machine.queue.append(task)
            if not machine.may_have_room and queue.asked:
                return result
        client.leasing.dispatch_shielded(queue)
        return result

    def attach(self, task: PendingTask, packed: PackedArguments) -> None:
        task.payload = packed.payload
        task.positions = packed.positions
        task.pins = packed.pins
        task.dependencies = packed.dependencies

    def make_refs(self, task: PendingTask, num_returns: int) -> Any:
        """Make the refs of a task's results, and return them as the user gets them."""
        client = self._client
        if num_returns == 1:
            ref: ObjectRef[Any] = ObjectRef(client.object_id(task.number, 1), client, task)
            task.refs = ref
            return ref
        if num_returns >= 0:
            task.refs = [
                ObjectRef(client.object_id(task.number, i + 1), client, task) for i in range(num_returns)
            ]
            return list(task.refs) if num_returns else None
        if num_returns == STREAMING:
            task.stream = Stream(client, task)
            task.refs = []
            return task.stream.generator()
        ref = ObjectRef(client.object_id(task.number, 1), client, task)
        task.refs = ref
        return ref

    def wait_for_dependencies(self, task: PendingTask, ready: Callable[[PendingTask], None]) -> bool:
        """Return True if every argument has a value; else `ready(task)` is called when that is so."""
        assert task.dependencies is not None
        objects = self._client.objects

        def one_ready(_: ObjectRef[Any]) -> None:
            task.unready -= 1
            if not task.unready:
                ready(task)

        waiting = {id(ref): ref for ref in task.dependencies if ref._state == PENDING}
        if waiting:
            # one more until all are registered: an owner that is gone answers at once
            task.unready = len(waiting) + 1
            for ref in waiting.values():
                objects.when_ready_locked(ref, one_ready)
            task.unready -= 1
            if task.unready:
                return False
        return True

    def wire_form(self, task: PendingTask) -> tuple[Any, ...] | None:
        """Return the task as it travels, or None if an argument's error became the task's."""
        client = self._client
        assert task.dependencies is not None
        descriptions = []
        for ref in task.dependencies:
            if ref._state == ERROR:
                client.outcomes.fail_by_argument(task, ref)
                return None
            if ref._state == STORED:  # whoever cannot get its bytes will ask for it by its id
                client.objects.exported(ref)
            descriptions.append((ref._state, ref._data, ref._id, client.ref_address(ref)))
        payload = task.payload
        if isinstance(payload, ObjectRef):
            payload = (payload._state, payload._data, payload._id, client.ref_address(payload))
            return (task.number, task.template.wire.number, None, task.positions, descriptions, payload)
        return (task.number, task.template.wire.number, payload, task.positions, descriptions)

    def cancel(self, task: PendingTask, *, force: bool, recursive: bool) -> None:
        """Cancel a task that has no result yet; the client's lock is held."""
        task.is_cancelled = True
        if task.is_sent:
            task.lease.peer.connection.send((messages.CANCEL, task.number, force, recursive))
            return
        if task.number not in self.pending:
            return
        self._client.leasing.withdraw(task)
        self._client.outcomes.fail_cancelled(task)

    def cancel_all(self, is_meant: Callable[[PendingTask], bool], *, force: bool) -> tuple[int, int]:
        """Cancel tasks and what they have submitted, calls of actors too; return how many were sent, and how many not."""
        client = self._client
        shield = client.shields.current()
        shield.enter()  # or an interrupt could leave tasks that nobody runs and nobody fails
        try:
            with client.lock:
                # the newest first: what waits for others' results goes before these do
                tasks = [task for task in reversed(self.pending.values()) if is_meant(task)]
                unsent = [task for task in tasks if not task.is_sent]
                # once more would interrupt the cleaning up of what was told before
                untold = [task for task in tasks if force or not (task.is_cancelled and task.is_sent)]
                for task in untold:
                    task.is_cancelled = True  # what a worker gives back from now on is not queued again
                # and none waits in a queue: to look there for each would take minutes where many wait
                for actor in {
                    id(task.actor): task.actor for task in unsent if task.actor is not None
                }.values():
                    actor.drop_cancelled()
                client.leasing.drop_cancelled(task for task in unsent if task.actor is None)
            for start in range(0, len(untold), _CANCELLED_AT_ONCE):
                with client.lock:
                    for task in untold[start : start + _CANCELLED_AT_ONCE]:
                        self._cancel_one(task, force=force)
        finally:
            shield.leave()
        return len(tasks) - len(unsent), len(unsent)

    def _cancel_one(self, task: PendingTask, *, force: bool) -> None:
        if task.actor is not None:
            task.actor.cancel(task, recursive=True)
        elif task.is_sent:
            self.cancel(task, force=force, recursive=True)
        else:
            self._client.outcomes.fail_cancelled(task)

    def cancel_children(self, parent: Any, *, force: bool) -> None:
        self.cancel_all(lambda task: bool(task.parent == parent), force=force)

    def close(self, error: BaseException) -> None:
        """Fail whatever is still pending; the client's lock is held."""
        for task in list(self.pending.values()):
            self._client.outcomes.fail(task, error)
