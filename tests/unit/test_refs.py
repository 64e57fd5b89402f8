"""A reference is an id, a place in pickles, and something to wait for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from jray._core.refs import ATOM, ERROR, PENDING, ObjectRef, current, restore_ref

RAW = bytes(range(28))


class Home:
    """A client as far as refs go: values come when the test says so."""

    def __init__(self) -> None:
        self.dropped: list[tuple[Any, ...]] = []
        self.exported: list[bytes] = []
        self.pinned: list[bytes] = []
        self.asked: list[tuple[bytes, str | None]] = []

    def ref_dropped(self, ref_id: bytes, owner: str | None, state: int, *_: Any) -> None:
        self.dropped.append((ref_id, owner, state))

    def ref_exported(self, ref: ObjectRef[Any]) -> None:
        self.exported.append(ref._id)
        ref._tracked = True

    def reduce_ref(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        self.ref_exported(ref)
        self.pinned.append(ref._id)
        return restore_ref, (ref._id, self.ref_address(ref))

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        return ref._owner or "/here"

    def ref_from_id(self, ref_id: bytes, owner: str | None) -> ObjectRef[Any]:
        self.asked.append((ref_id, owner))
        return ObjectRef(ref_id, self, None, owner)

    def when_ready(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], None]) -> None:
        if ref._state != PENDING:
            callback(ref)
        elif ref._waiters is None:
            ref._waiters = [callback]
        else:
            ref._waiters.append(callback)

    def ref_value(self, ref: ObjectRef[Any]) -> Any:
        if ref._state == ERROR:
            raise ref._data
        return ref._data

    def resolve(self, ref: ObjectRef[Any], value: Any, state: int = ATOM) -> None:
        ref._state, ref._data = state, value
        waiters, ref._waiters = ref._waiters or [], None
        for waiter in waiters:
            waiter(ref)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home()
    monkeypatch.setattr(current, "client", made)
    return made


@pytest.fixture
def ref(home: Home) -> ObjectRef[Any]:
    return ObjectRef(RAW, home)


# --- identity -------------------------------------------------------------------------------------


def test_refs_are_equal_by_id() -> None:
    """They are good keys, and equal nothing else."""
    one: ObjectRef[Any] = ObjectRef(RAW)
    other: ObjectRef[Any] = ObjectRef(RAW)
    assert one == other
    assert {one: 1}[other] == 1
    assert one != ObjectRef(bytes(28))
    assert one != RAW


def test_a_ref_has_the_methods_of_rays_ids() -> None:
    """Bytes, hex, size, what it belongs to, and nil."""
    ref: ObjectRef[Any] = ObjectRef(RAW)
    assert ref.binary() == RAW
    assert ref.hex() == RAW.hex()
    assert repr(ref) == f"ObjectRef({RAW.hex()})"
    assert ref.size() == 28
    assert ref.task_id().binary() == RAW[:24]
    assert ref.job_id().binary() == RAW[20:24]
    assert not ref.is_nil()
    assert ObjectRef.nil().is_nil()
    assert len(ObjectRef.from_random().binary()) == 28
    assert ObjectRef.__module__ == "jray"


@pytest.mark.parametrize("raw", [b"", b"x" * 27, b"x" * 29])
def test_an_id_of_the_wrong_length_is_refused(raw: bytes) -> None:
    """Quietly also at the end of what was never made."""
    with pytest.raises(ValueError, match=f"needs to have length 28, got {len(raw)}"):
        ObjectRef(raw)
    with pytest.raises(TypeError):
        ObjectRef(None)  # type: ignore[arg-type]


def test_who_sees_the_bytes_of_an_id_may_bring_them_back(home: Home, ref: ObjectRef[Any]) -> None:
    """So the client is told, once, and is asked what they mean."""
    ref.hex()
    ref.binary()
    assert home.exported == [RAW]
    assert ObjectRef.from_hex(RAW.hex()) == ref
    assert home.asked == [(RAW, None)]


def test_without_a_client_an_id_is_only_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked, started or told."""
    monkeypatch.setattr(current, "client", None)
    made: ObjectRef[Any] = ObjectRef.from_binary(RAW)
    assert made._client is None
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.owner_address() == ""


# --- life -----------------------------------------------------------------------------------------


def test_the_end_of_a_tracked_ref_is_told(home: Home) -> None:
    """With its owner and what was known of its value; that of a private one is nobody's business."""
    private: ObjectRef[Any] = ObjectRef(bytes(28), home)
    tracked: ObjectRef[Any] = ObjectRef(RAW, home, None, "/owner")
    tracked._tracked = True
    del private, tracked
    gc.collect()
    assert home.dropped == [(RAW, "/owner", PENDING)]


def test_copies_of_a_ref_are_the_ref(home: Home, ref: ObjectRef[Any]) -> None:
    """A copy by pickle would keep the object for the rest of the job."""
    assert copy.copy(ref) is ref
    copied = copy.deepcopy({"refs": [ref, ref]})
    assert copied["refs"][0] is copied["refs"][1] is ref
    assert home.pinned == []


def test_a_foreign_pickle_keeps_the_object(home: Home, ref: ObjectRef[Any]) -> None:
    """Nobody will tell when that pickle is gone (Ray's rule); it leads back to this owner."""
    pickled = pickle.dumps(ref)
    assert home.pinned == [RAW]
    assert pickle.loads(pickled) == ref
    assert home.asked == [(RAW, "/here")]


# --- waiting --------------------------------------------------------------------------------------


def test_a_future_gets_the_value(home: Home, ref: ObjectRef[Any]) -> None:
    """Now, or when it comes."""
    early = ref.future()
    assert not early.done()
    home.resolve(ref, 7)
    assert early.result(0) == ref.future().result(0) == 7


def test_a_future_gets_the_error(home: Home, ref: ObjectRef[Any]) -> None:
    """Whatever it is, also one that is no Exception."""
    future = ref.future()
    home.resolve(ref, KeyboardInterrupt(), ERROR)
    assert isinstance(future.exception(0), KeyboardInterrupt)


def test_a_cancelled_future_refuses_the_value(home: Home, ref: ObjectRef[Any]) -> None:
    """Without harm to others that wait for it."""
    cancelled, other = ref.future(), ref.future()
    assert cancelled.cancel()
    home.resolve(ref, 7)
    assert other.result(0) == 7
    with pytest.raises(concurrent.futures.CancelledError):
        cancelled.result(0)


def test_on_completed_gets_values_and_exceptions(home: Home, ref: ObjectRef[Any]) -> None:
    """Both as its argument."""
    got: list[Any] = []
    ref._on_completed(got.append)
    assert got == []
    home.resolve(ref, 7)
    error = ValueError("x")
    failed: ObjectRef[Any] = ObjectRef(bytes(28), home)
    home.resolve(failed, error, ERROR)
    failed._on_completed(got.append)
    assert got == [7, error]


def test_a_ref_can_be_awaited(home: Home, ref: ObjectRef[Any]) -> None:
    """From any thread's event loop; the value may come from any thread."""

    async def main() -> tuple[int, int]:
        waiting = asyncio.gather(*(wait() for _ in range(3)))
        await asyncio.sleep(0)
        thread = threading.Thread(target=home.resolve, args=(ref, 7))
        thread.start()
        values = await waiting
        thread.join()
        assert values == [7, 7, 7]
        return await ref, await ref.as_future()

    async def wait() -> int:
        result: int = await ref
        return result

    assert asyncio.run(main()) == (7, 7)


def test_awaiting_raises_the_error(home: Home, ref: ObjectRef[Any]) -> None:
    """As get would."""
    home.resolve(ref, ValueError("x"), ERROR)

    async def main() -> None:
        await ref

    with pytest.raises(ValueError, match="x"):
        asyncio.run(main())


def test_awaiting_can_be_cancelled(home: Home, ref: ObjectRef[Any]) -> None:
    """The value that comes later harms nobody, also when the loop is closed by then."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_value(ref), 0.01)

    asyncio.run(main())
    home.resolve(ref, 7)


def test_one_tick_serves_all_that_await_in_a_loop(home: Home) -> None:
    """It lets interrupts through; a thousand of them would be a thousand timers, ten times a second."""
    refs = [ObjectRef[Any](number.to_bytes(28, "little"), home) for number in range(100)]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert _timers(loop) == []
        waiting = asyncio.gather(*(_value(ref) for ref in refs))
        await asyncio.sleep(0)
        (tick,) = _timers(loop)
        assert tick.when() <= loop.time() + 0.1
        for ref in refs:
            home.resolve(ref, 1)
        await waiting
        assert _timers(loop) == []

    asyncio.run(main())


async def _value(ref: ObjectRef[Any]) -> Any:
    return await ref


def _timers(loop: Any) -> list[asyncio.TimerHandle]:
    return [handle for handle in loop._scheduled if not handle.cancelled()]
