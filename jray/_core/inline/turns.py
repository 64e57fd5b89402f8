"""Owns whose turn it is: what runs now, what waits for resources, and how a thread waits for what isn't there yet."""

from __future__ import annotations

import contextlib
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from jray._core.frontend import Output, OutputKind
from jray._core.inline.calls import Call
from jray._core.machine.accounts import Account, Accounts
from jray._core.machine.groups import GROUP_REMOVED
from jray._core.resources import Allocation, Misfit, NodeResources, ResourceSet
from jray._core.strategies import Where

if TYPE_CHECKING:
    from jray._core.inline.core import InlineClient
    from jray._core.inline.loops import ActorLoop

#: rounds that one operation gives to event loops and generators that nobody waits for: one that never sleeps, or
#: ends, must not hold up the caller for ever
_MOST_ROUNDS = 2000
#: a thread that waits for another looks this often
_GLANCE_S = 0.02


class Job(Protocol):
    """Something that begins when resources are there: a task, or an actor's life."""

    name: str
    cell: int
    #: what must be free for it to begin
    placement: ResourceSet
    #: what it then holds
    request: ResourceSet
    where: Where

    def refuse(self, reason: str) -> None:
        """Fail it: what it must run on is gone, or never was."""

    def start(self, allocation: Allocation) -> None:
        """Run it, in this thread; it releases what it got."""


class Turns:
    """Decides what runs next.  The client's lock guards it, and is never held while code of the user's runs."""

    def __init__(self, client: InlineClient, resources: NodeResources, labels: Mapping[str, str]) -> None:
        self._client = client
        self.resources = resources
        #: this process as a node, and the bundles of placement groups on it
        self.accounts = Accounts()
        self.accounts.nodes[client.node_id] = Account(client.node_id, resources, labels)
        #: from what allocations are that are of bundles, by their identity
        self._bundles: dict[int, NodeResources] = {}
        self._jobs: list[Job] = []
        self._hopeless: list[Job] = []
        self._told: set[str] = set()
        #: whether resources came free since the jobs were looked through
        self._may_start = False
        #: what is to be done by whoever has time: arguments arrived, or an actor became free
        self.due: deque[Callable[[], None]] = deque()
        #: makes a generator whose consumer is gone go on, by an item each round: it may be one that never ends
        self.abandoned: deque[Callable[[], None]] = deque()
        self.loops: list[ActorLoop] = []
        #: threads that were there before the session: they have their own business
        self._strangers = {thread.ident for thread in threading.enumerate()}
        self._helpers: set[int] = set()

    # -- resources ----------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Run a job now if it may and can; else later."""
        where = job.where
        if where.group and where.group not in self.accounts.bundles:
            job.refuse(GROUP_REMOVED)
            return
        misfit = self.accounts.misfit(where, job.placement)
        if misfit is not None and where.node_id and not self.accounts.allowed(where):
            job.refuse(f"it {misfit.reason}")
            return
        if misfit is not None:
            with self._client.lock:
                self._hopeless.append(job)
            self._say_hopeless(job, misfit)
            return
        frames = self._client.stack.frames
        with self._client.lock:
            allocation = None if self._is_in_coroutine(frames) else self._allocate(job)
            if allocation is None:
                self._jobs.append(job)
                self._may_start = True
        if allocation is not None:
            job.start(allocation)

    @staticmethod
    def _is_in_coroutine(frames: list[Any]) -> bool:
        """Tell whether the code that asks would block an event loop by waiting."""
        return bool(frames) and not isinstance(frames[-1], Call)

    def is_in_coroutine(self) -> bool:
        return self._is_in_coroutine(self._client.stack.frames)

    def _say_hopeless(self, job: Job, misfit: Misfit) -> None:
        text = misfit.notice(job.name)
        if text not in self._told:
            self._told.add(text)
            self._client.tell(Output(0, OutputKind.NOTICE, text, None, "jray", 0, ""))

    def _allocate(self, job: Job) -> Allocation | None:
        """Take what a job needs; the lock is held."""
        for account in self.accounts.feasible(job.where, job.placement):
            resources = account.resources
            allocation = resources.allocate(job.placement)
            if allocation is None:
                continue
            if job.request != job.placement:
                resources.release(allocation)
                allocation = resources.allocate(job.request)
                assert allocation is not None, "a part of what was just released does not fit"
            if resources is not self.resources:
                self._bundles[id(allocation)] = resources
            return allocation
        return None

    def _lender(self, allocation: Allocation) -> NodeResources:
        return self._bundles.get(id(allocation), self.resources)

    def may_start(self) -> None:
        """Something is free that was not; the lock is held."""
        self._may_start = True
        self._client.changed.notify_all()

    def withdraw(self, job: Job) -> bool:
        """Take back a job that has not begun; return whether there was one."""
        with self._client.lock:
            for jobs in (self._jobs, self._hopeless):
                if job in jobs:
                    jobs.remove(job)
                    return True
        return False

    def jobs(self) -> list[Job]:
        with self._client.lock:
            return [*self._jobs, *self._hopeless]

    def job_of(self, call: Call) -> Job | None:
        """Return the task that waits for resources as this call."""
        return next((job for job in self.jobs() if getattr(job, "call", None) is call), None)

    def waiting(self) -> list[tuple[Job, str]]:
        """Return each job that waits for resources, and why."""
        accounts = self.accounts
        with self._client.lock:
            misfits = [(job, accounts.misfit(job.where, job.placement)) for job in self._hopeless]
            found = [(job, "" if misfit is None else misfit.reason) for job, misfit in misfits]
            found += [
                (job, accounts.waiting_reason(job.where, job.placement) or "waits for its turn")
                for job in self._jobs
            ]
        return found

    def is_hopeless(self, job: Job) -> bool:
        return job in self._hopeless

    def release(self, holder: Any) -> None:
        """Give back the allocation that a call or life holds, if any."""
        with self._client.lock:
            allocation, holder.allocation = holder.allocation, None
            if allocation is not None:
                self._lender(allocation).release(allocation)
                self._bundles.pop(id(allocation), None)
                self.may_start()

    def give_up_cpu(self, call: Call) -> None:
        """A task waits: others may have its CPU."""
        with self._client.lock:
            if call.allocation is not None and not call.is_aside:
                call.is_aside = True
                self._lender(call.allocation).release_cpu(call.allocation)
                self._may_start = True

    def take_back_cpu(self, call: Call) -> None:
        with self._client.lock:
            if call.is_aside:
                call.is_aside = False
                if call.allocation is not None:
                    self._lender(call.allocation).reacquire_cpu(call.allocation)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Give up the CPU of the task that calls this, while it is in the engine (actors keep theirs: Ray's rule)."""
        frames = self._client.stack.frames
        call = frames[-1] if frames else None
        if not isinstance(call, Call) or call.allocation is None or call.is_aside:
            yield
            return
        self.give_up_cpu(call)
        try:
            yield
        finally:
            self.take_back_cpu(call)

    # -- running ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """At the end of an operation: run what it made possible, unless further down the stack somebody will."""
        if not self._client.stack.frames:
            self.pump()

    def pump(self) -> None:
        """Run all that can run now, in this thread."""
        for _ in range(_MOST_ROUNDS):
            is_quiet = True
            while self.due:
                self.due.popleft()()
                is_quiet = False
            if self.abandoned:
                self.abandoned.popleft()()
                is_quiet = False
            if self._may_start and self._dispatch():
                is_quiet = False
            if self.loops and self._drive():
                is_quiet = False
            if is_quiet:
                return

    def _dispatch(self) -> bool:
        has_run = False
        while True:
            with self._client.lock:
                job, allocation = self._next_job()
            if job is None or allocation is None:
                return has_run
            job.start(allocation)
            has_run = True

    def _next_job(self) -> tuple[Job | None, Allocation | None]:
        self._client.groups.place_locked()
        for index, job in enumerate(self._jobs):
            allocation = self._allocate(job)
            if allocation is not None:
                del self._jobs[index]
                return job, allocation
        self._may_start = False
        return None, None

    def _drive(self) -> bool:
        """Give each loop that has something to do a round; return whether any had."""
        has_run = False
        for loop in list(self.loops):
            if loop.has_work() and self._claim(loop):
                try:
                    loop.round()
                finally:
                    self._unclaim(loop)
                has_run = True
        return has_run

    def _claim(self, loop: ActorLoop) -> bool:
        with self._client.lock:
            if loop.is_claimed or loop.is_closed():
                return False
            loop.is_claimed = True
            return True

    def _unclaim(self, loop: ActorLoop) -> None:
        with self._client.lock:
            loop.is_claimed = False
            self._client.changed.notify_all()
        if loop.is_doomed:
            self.end_loop(loop)

    def end_loop(self, loop: ActorLoop) -> None:
        """Cancel what runs on a loop and close it; now, or when its round is over."""
        loop.is_doomed = True
        if not self._claim(loop):
            return
        with self._client.lock:
            if loop in self.loops:
                self.loops.remove(loop)
        loop.finish()

    # -- waiting ------------------------------------------------------------------------------------

    def wait(self, is_done: Callable[[], Any], timeout_s: float | None, explain: Callable[[], str]) -> bool:
        """Run what can run until `is_done()`; return False if that takes longer than *timeout_s*.

        Raises what `explain` makes of it if it can't come to pass any more and there is no time-out.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while True:
            self.pump()
            if is_done():
                return True
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            if left is None and self._is_stuck():
                self._client.refuse_to_wait(explain())
            if not self.abandoned:
                self.pause(left)

    def pause(self, limit_s: float | None) -> None:
        """Sleep until a timer is due, a descriptor of a loop is ready, or another thread may have done something."""
        loops = [loop for loop in self.loops if not loop.is_claimed]
        pauses = [pause for loop in loops if (pause := loop.pause_s()) is not None]
        if limit_s is not None:
            pauses.append(limit_s)
        pause_s = max(0.0, min([*pauses, _GLANCE_S if self.has_help() else 1.0]))
        if not loops:
            with self._client.lock:
                self._client.changed.wait(pause_s)
            return
        poll = select.poll()
        by_fd = {loop.fileno(): loop for loop in loops}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(pause_s * 1000):
            by_fd[fd].is_poked = True

    def has_help(self) -> bool:
        """Tell whether another thread may bring about what this one waits for."""
        me = threading.get_ident()
        return any(
            thread.ident != me
            and (thread.ident not in self._strangers or thread.ident in self._helpers)
            and thread is not self._client.companion
            for thread in threading.enumerate()
        )

    def helps(self) -> None:
        """The calling thread has to do with this session."""
        self._helpers.add(threading.get_ident())

    def _is_stuck(self) -> bool:
        return not (
            self._may_start
            or self.due
            or self.abandoned
            or any(not loop.is_claimed and loop.may_go_on() for loop in self.loops)
            or self.has_help()
        )
