"""Owns `Lock`, `Semaphore`, `Event` and `Barrier` for tasks, actors and drivers, and the actor behind them.

The state is kept by pure machines inside an actor: one actor for each primitive without a name, and one for
all names of a namespace.  Who waits or holds is known there by a *token*, and vows for it (see
`jray.util._vows`): that is how a lock is taken from the dead.
"""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jray
from jray.util._vows import CONCURRENCY, Vows

#: the actor that keeps all named primitives of a namespace
_ACTOR_NAME = "jray.util.sync"
#: what a barrier tells those who wait in vain
_BROKEN = -1


# -- what the user holds --------------------------------------------------------------------------------


class _Primitive:
    """A name, and a handle to the actor that keeps the state."""

    _kind: ClassVar[str]

    def __init__(self, name: str | None, parameter: int | None = None) -> None:
        if name is not None and not (isinstance(name, str) and name):
            raise ValueError(f"The name of a {type(self).__name__} must be text and not empty, got {name!r}.")
        self._name = name
        self._parameter = parameter
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": CONCURRENCY}
        if name is not None:
            options |= {"name": _ACTOR_NAME, "lifetime": "detached", "get_if_exists": True}
        self._actor: Any = _REMOTE_KEEPER.options(**options).remote()

    @property
    def name(self) -> str | None:
        """What it is called; None if only copies of this object lead to it."""
        return self._name

    @property
    def _key(self) -> tuple[str, str]:
        return self._kind, self._name or ""

    def __repr__(self) -> str:
        given = [] if self._parameter is None else [repr(self._parameter)]
        named = [] if self._name is None else [f"name={self._name!r}"]
        return f"{type(self).__name__}({', '.join([*given, *named])})"

    # -- talking to the actor -----------------------------------------------------------------------

    def _act(self, verb: str) -> Any:
        return self._actor.act.remote(self._key, self._parameter, verb, _identity(os.getpid()))

    def _enter(self, timeout_s: float | None) -> Any:
        token = os.urandom(8)
        try:
            return _accepted(jray.get(self._ask(token, timeout_s)))
        except BaseException as error:
            self._withdraw(token, error)
            raise

    async def _enter_async(self, timeout_s: float | None) -> Any:
        token = os.urandom(8)
        try:
            return _accepted(await self._ask(token, timeout_s))
        except BaseException as error:
            self._withdraw(token, error)
            raise

    def _ask(self, token: bytes, timeout_s: float | None) -> Any:
        vow = self._actor.vow.remote(token)
        return self._actor.enter.remote(
            self._key, self._parameter, token, _identity(os.getpid()), timeout_s, [vow]
        )

    def _withdraw(self, token: bytes, error: BaseException) -> None:
        """Wait and hold no more if it was an interrupt that ended the waiting; what was granted is given back."""
        if not isinstance(error, Exception):
            self._actor.leave.remote(self._key, token)


class _Permit(_Primitive):
    """What is acquired and released."""

    #: what a release without an acquire raises
    _unheld: ClassVar[type[Exception]]

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Block until it is this caller's turn, for at most `timeout` seconds; return whether it came.

        None or -1 is no limit.  An interrupt while it waits leaves everything as it was.
        """
        is_taken: bool = self._enter(_patience(blocking, timeout))
        return is_taken

    async def acquire_async(
        self,
        blocking: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 -- as `acquire`
    ) -> bool:
        """Do as `acquire`, but let other coroutines run meanwhile; it can be cancelled."""
        is_taken: bool = await self._enter_async(_patience(blocking, timeout))
        return is_taken

    def release(self) -> None:
        """Let the next one have it.

        Raises RuntimeError for a lock that nobody holds, ValueError for a semaphore: as `threading` does.
        """
        self._released(jray.get(self._act("release")))

    async def release_async(self) -> None:
        """Do as `release`, but let other coroutines run meanwhile."""
        self._released(await self._act("release"))

    def _released(self, was_held: Any) -> None:
        if not _accepted(was_held):
            raise self._unheld(f"{self!r} can't be released: nobody holds it.")

    def locked(self) -> bool:
        """Tell whether `acquire` would block."""
        is_locked: bool = _accepted(jray.get(self._act("locked")))
        return is_locked

    async def locked_async(self) -> bool:
        """Do as `locked`, but let other coroutines run meanwhile."""
        is_locked: bool = _accepted(await self._act("locked"))
        return is_locked

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        await self.acquire_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release_async()


class Lock(_Permit):
    """A lock for tasks, actors and drivers: one at a time holds it.

        with Lock("model"):
            ...

    Locks of one name are one lock in the whole namespace (see `jray.init(namespace=...)`).  Without a name it
    is the lock of this object and of its copies in tasks and actors, and ends with the process that made it.
    Who waits longest is next.  It cannot be acquired twice, and any process may release it, as
    `multiprocessing.Lock`.

    When the process that acquired it dies it is released.  A task that ends without a release leaves it
    locked, for its worker lives on: use `with`, or `async with`.
    """

    _kind = "lock"
    _unheld = RuntimeError

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)


class Semaphore(_Permit):
    """A lock that `value` may hold at once.

        with Semaphore(3, name="database"):
            ...

    All that is said of `Lock` holds.  The value of a name can change while nobody holds or waits for it.  It
    is bounded: a release without an acquire raises ValueError.  To tell that something has happened, use an
    `Event` or a `jray.util.queue.Queue`.
    """

    _kind = "semaphore"
    _unheld = ValueError

    def __init__(self, value: int = 1, name: str | None = None) -> None:
        value = operator.index(value)
        if value < 1:
            raise ValueError(f"A semaphore lets at least 1 in, got {value}.")
        super().__init__(name, value)


class Event(_Primitive):
    """A flag for tasks, actors and drivers, and a way to wait until it is set.

        event = Event("ready")
        event.wait(timeout=10)

    Events of one name are one event in the whole namespace; it stays set until it is cleared, whoever ends
    meanwhile.  An unnamed event ends with the process that made it.
    """

    _kind = "event"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def is_set(self) -> bool:
        """Tell whether the flag is set."""
        is_set: bool = jray.get(self._act("is_set"))
        return is_set

    async def is_set_async(self) -> bool:
        """Do as `is_set`, but let other coroutines run meanwhile."""
        is_set: bool = await self._act("is_set")
        return is_set

    def set(self) -> None:
        """Set the flag: all who wait go on."""
        jray.get(self._act("set"))

    async def set_async(self) -> None:
        """Do as `set`, but let other coroutines run meanwhile."""
        await self._act("set")

    def clear(self) -> None:
        """Set the flag back: who waits from now on waits for the next `set`."""
        jray.get(self._act("clear"))

    async def clear_async(self) -> None:
        """Do as `clear`, but let other coroutines run meanwhile."""
        await self._act("clear")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the flag is set, for at most `timeout` seconds; return whether it was."""
        was_set: bool = self._enter(_patience(True, timeout))
        return was_set

    async def wait_async(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 -- as `wait`
        """Do as `wait`, but let other coroutines run meanwhile."""
        was_set: bool = await self._enter_async(_patience(True, timeout))
        return was_set


class Barrier(_Primitive):
    """A meeting point: `parties` tasks, actors or drivers wait for each other, again and again.

        barrier = Barrier(4)
        barrier.wait()     # in each of the four

    It is like `threading.Barrier`, and raises its BrokenBarrierError.  Who dies or is interrupted while it
    waits is not there any more: its retry may take the place.
    """

    _kind = "barrier"

    def __init__(self, parties: int, name: str | None = None) -> None:
        parties = operator.index(parties)
        if parties < 1:
            raise ValueError(f"A barrier needs at least 1 party, got {parties}.")
        super().__init__(name, parties)

    @property
    def parties(self) -> int:
        """How many must be there."""
        assert self._parameter is not None
        return self._parameter

    @property
    def n_waiting(self) -> int:
        """How many are there; asks the actor."""
        count: int = _accepted(jray.get(self._act("n_waiting")))
        return count

    @property
    def broken(self) -> bool:
        """Whether the barrier is broken; asks the actor."""
        is_broken: bool = _accepted(jray.get(self._act("broken")))
        return is_broken

    def wait(self, timeout: float | None = None) -> int:
        """Block until all parties are there; return a number of its own to each, from 0, as they came.

        Raises threading.BrokenBarrierError if somebody aborts or resets the barrier, or has waited for
        `timeout` seconds: then it is broken for all, until somebody resets it.
        """
        return self._passed(self._enter(_patience(True, timeout)))

    async def wait_async(self, timeout: float | None = None) -> int:  # noqa: ASYNC109 -- as `wait`
        """Do as `wait`, but let other coroutines run meanwhile."""
        return self._passed(await self._enter_async(_patience(True, timeout)))

    def _passed(self, index: int) -> int:
        if index == _BROKEN:
            raise threading.BrokenBarrierError(f"{self!r} is broken, or was reset while others waited.")
        return index

    def abort(self) -> None:
        """Break the barrier: who waits, and who comes, gets BrokenBarrierError."""
        _accepted(jray.get(self._act("abort")))

    def reset(self) -> None:
        """Make the barrier as new; who waits gets BrokenBarrierError."""
        _accepted(jray.get(self._act("reset")))


def _patience(blocking: bool, timeout: float | None) -> float | None:
    """Return how many seconds to wait; None: without end.  The rules are `threading.Lock`'s, and None."""
    if timeout is None or timeout == -1:
        return None if blocking else 0
    if not blocking:
        raise ValueError("A timeout makes no sense without blocking.")
    if timeout < 0:
        raise ValueError(f"timeout must not be negative, got {timeout}")
    return timeout


def _accepted(answer: Any) -> Any:
    """Return the actor's answer; raise ValueError if it is a complaint."""
    if isinstance(answer, str):
        raise ValueError(answer)  # noqa: TRY004 -- not the answer is wrong, but what was asked
    return answer


@functools.cache
def _identity(pid: int) -> bytes:  # noqa: ARG001 -- a fork has another
    """Return what tells this process from all others."""
    return os.urandom(8)


# -- the machines: pure, told what happens, they tell what follows ----------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """What an operation on a machine leads to."""

    answer: Any = None  #: for who asked
    outcomes: tuple[tuple[bytes, Any], ...] = ()  #: of those that have waited: (token, outcome)
    gone: tuple[bytes, ...] = ()  #: tokens that neither wait nor hold any more


class _Permits:
    """At most `value` hold, the others wait in order: a semaphore, and with 1 a lock."""

    def __init__(self, value: int | None) -> None:
        self.parameter = value
        self._value = value or 1
        #: token -> process, oldest first
        self._holding: dict[bytes, bytes] = {}
        self._waiting: dict[bytes, bytes] = {}

    @property
    def is_idle(self) -> bool:
        """Whether a new one would be the same."""
        return not self._holding and not self._waiting

    def enter(self, token: bytes, process: bytes) -> _Step:
        self._waiting[token] = process
        return _Step(outcomes=self._grant())

    def expire(self, token: bytes) -> _Step:
        if self._waiting.pop(token, None) is None:
            return _Step()
        return _Step(outcomes=((token, False),), gone=(token,))

    def leave(self, token: bytes) -> _Step:
        if self._waiting.pop(token, None) is None and self._holding.pop(token, None) is None:
            return _Step()
        return _Step(outcomes=self._grant(), gone=(token,))

    def release(self, process: bytes) -> _Step:
        """Free what that process took last; anybody's oldest if it holds nothing."""
        if not self._holding:
            return _Step(answer=False)
        own = [token for token, holder in self._holding.items() if holder == process]
        token = own[-1] if own else next(iter(self._holding))
        del self._holding[token]
        return _Step(answer=True, outcomes=self._grant(), gone=(token,))

    def locked(self, _: bytes) -> _Step:
        return _Step(answer=len(self._holding) >= self._value)

    def _grant(self) -> tuple[tuple[bytes, bool], ...]:
        granted = list(self._waiting)[: max(0, self._value - len(self._holding))]
        for token in granted:
            self._holding[token] = self._waiting.pop(token)
        return tuple((token, True) for token in granted)


class _Flag:
    """Set or not; who waits goes when it is set."""

    def __init__(self, parameter: int | None) -> None:
        self.parameter = parameter
        self._is_set = False
        self._waiting: dict[bytes, None] = {}

    @property
    def is_idle(self) -> bool:
        return not self._is_set and not self._waiting

    def enter(self, token: bytes, _: bytes) -> _Step:
        if self._is_set:
            return _Step(outcomes=((token, True),), gone=(token,))
        self._waiting[token] = None
        return _Step()

    def expire(self, token: bytes) -> _Step:
        if token not in self._waiting:
            return _Step()
        del self._waiting[token]
        return _Step(outcomes=((token, False),), gone=(token,))

    def leave(self, token: bytes) -> _Step:
        if token not in self._waiting:
            return _Step()
        del self._waiting[token]
        return _Step(gone=(token,))

    def set(self, _: bytes) -> _Step:
        self._is_set = True
        woken = tuple(self._waiting)
        self._waiting.clear()
        return _Step(outcomes=tuple((token, True) for token in woken), gone=woken)

    def clear(self, _: bytes) -> _Step:
        self._is_set = False
        return _Step()

    def is_set(self, _: bytes) -> _Step:
        return _Step(answer=self._is_set)


class _Meeting:
    """Who comes waits until enough are there; then all go at once."""

    def __init__(self, parties: int | None) -> None:
        self.parameter = parties
        self._waiting: dict[bytes, None] = {}
        self._is_broken = False

    @property
    def is_idle(self) -> bool:
        return not self._is_broken and not self._waiting

    def enter(self, token: bytes, _: bytes) -> _Step:
        if self._is_broken:
            return _Step(outcomes=((token, _BROKEN),), gone=(token,))
        self._waiting[token] = None
        if len(self._waiting) != self.parameter:
            return _Step()
        met = tuple(self._waiting)
        self._waiting.clear()
        return _Step(outcomes=tuple((token, index) for index, token in enumerate(met)), gone=met)

    def expire(self, token: bytes) -> _Step:
        return self.abort(b"") if token in self._waiting else _Step()

    def leave(self, token: bytes) -> _Step:
        if token not in self._waiting:
            return _Step()
        del self._waiting[token]
        return _Step(gone=(token,))

    def abort(self, _: bytes) -> _Step:
        self._is_broken = True
        return self._send_away()

    def reset(self, _: bytes) -> _Step:
        self._is_broken = False
        return self._send_away()

    def n_waiting(self, _: bytes) -> _Step:
        return _Step(answer=len(self._waiting))

    def broken(self, _: bytes) -> _Step:
        return _Step(answer=self._is_broken)

    def _send_away(self) -> _Step:
        away = tuple(self._waiting)
        self._waiting.clear()
        return _Step(outcomes=tuple((token, _BROKEN) for token in away), gone=away)


_Machine = _Permits | _Flag | _Meeting
_Key = tuple[str, str]

_MACHINES: dict[str, Callable[[int | None], _Machine]] = {
    "lock": _Permits,
    "semaphore": _Permits,
    "event": _Flag,
    "barrier": _Meeting,
}


# -- the actor ------------------------------------------------------------------------------------------


class _Keeper:
    """Keeps machines by kind and name, and wakes who waits.  A machine that is idle again is forgotten."""

    def __init__(self) -> None:
        self._machines: dict[_Key, _Machine] = {}
        #: of those that wait, by token
        self._outcomes: dict[bytes, asyncio.Future[Any]] = {}
        self._vows = Vows()

    async def enter(
        self,
        key: _Key,
        parameter: int | None,
        token: bytes,
        process: bytes,
        timeout_s: float | None,
        vow: list[Any],
    ) -> Any:
        """Wait for what the machine has to say to a newcomer, or to one that has waited for `timeout_s`."""
        machine = self._machine(key, parameter)
        if isinstance(machine, str):
            self._vows.end(token)
            return machine
        loop = asyncio.get_running_loop()
        outcome = self._outcomes[token] = loop.create_future()
        self._apply(key, machine.enter(token, process))
        if not outcome.done() and timeout_s == 0:
            self._apply(key, machine.expire(token))
        self._vows.watch(token, vow[0], lambda: self.leave(key, token))
        timer = None
        if timeout_s is not None and not outcome.done():
            timer = loop.call_later(timeout_s, lambda: self._apply(key, machine.expire(token)))
        try:
            return await outcome
        except asyncio.CancelledError:
            self.leave(key, token)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def leave(self, key: _Key, token: bytes) -> None:
        """Wait and hold no more under that token."""
        machine = self._machines.get(key)
        if machine is not None:
            self._apply(key, machine.leave(token))

    def act(self, key: _Key, parameter: int | None, verb: str, process: bytes) -> Any:
        """Do what needs no waiting; return the machine's answer."""
        machine = self._machine(key, parameter)
        if isinstance(machine, str):
            return machine
        step: _Step = getattr(machine, verb)(process)
        self._apply(key, step)
        return step.answer

    async def vow(self, token: bytes) -> None:
        """Last until the token is gone."""
        await self._vows.keep(token)

    def _machine(self, key: _Key, parameter: int | None) -> _Machine | str:
        """Return the machine of that name, or what is wrong with the parameter."""
        kind, name = key
        machine = self._machines.get(key)
        if machine is None:
            machine = self._machines[key] = _MACHINES[kind](parameter)
        if machine.parameter != parameter:
            return (
                f"The {kind} {name!r} is in use with {machine.parameter}, so it can't be used with {parameter}. "
                "Wait until nobody uses it, or take another name."
            )
        return machine

    def _apply(self, key: _Key, step: _Step) -> None:
        for token, value in step.outcomes:
            outcome = self._outcomes.pop(token, None)
            if outcome is not None and not outcome.done():
                outcome.set_result(value)
        for token in step.gone:
            outcome = self._outcomes.pop(token, None)
            if outcome is not None and not outcome.done():  # it left while it waited
                outcome.set_result(False)
            self._vows.end(token)
        machine = self._machines.get(key)
        if machine is not None and machine.is_idle:
            del self._machines[key]


_REMOTE_KEEPER = jray.remote(_Keeper)
