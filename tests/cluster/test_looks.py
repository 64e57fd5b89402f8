"""A ref tells what is known of its object, and a peek shows a little of it, without fetching and without a word sent."""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any

import numpy as np
import pytest

import jray
from jray._core.refs import ObjectRef, RefFacts, current
from tests.behaviour.support import Bench, wait_until

pytestmark = pytest.mark.usefixtures("cluster")


def facts(ref: Any, *, is_brief: bool = False) -> RefFacts:
    client: Any = current.client
    found: RefFacts = client.ref_facts(ref, is_brief=is_brief)
    return found


@jray.remote
def ones(length: int) -> Any:
    return np.ones((length, length))


@jray.remote
def bad() -> None:
    raise ValueError("no <good>\nat all")


@jray.remote
def wait_at(gate: Any) -> int:
    gate.wait(150)
    return 1


@jray.remote
def later() -> None: ...


def test_results_and_puts_are_described() -> None:
    """By the worker that made a large one; a small one here, from its bytes."""
    large, small = ones.remote(1000), ones.remote(10)
    jray.wait([large, small], num_returns=2)
    assert facts(large) == RefFacts("ready", "ones", 0, "ndarray float64 (1000, 1000)", facts(large).size)
    assert (facts(large).size or 0) >= 8_000_000
    assert facts(large, is_brief=True).about == "ndarray float64 (1000, 1000)"
    assert facts(small)[:4] == ("ready", "ones", 0, "ndarray float64 (10, 10)")
    assert facts(jray.put(np.zeros(100_000, "u1")))[:4] == ("ready", "", 0, "ndarray uint8 (100000,)")
    assert facts(jray.put(np.zeros(200_000, "u1")))[3] == "ndarray uint8 (200000,)"
    assert facts(jray.put(7)).about == "int"


def test_a_borrower_knows_the_description_too() -> None:
    @jray.remote
    def told(refs: list[Any]) -> Any:
        jray.wait(refs)
        return tuple(refs[0]._client.ref_facts(refs[0]))

    assert jray.get(told.remote([jray.put(np.zeros(200_000))]))[:4] == (
        "ready",
        "",
        0,
        "ndarray float64 (200000,)",
    )


def test_states_are_told(bench: Bench) -> None:
    """Waiting, running, failed with its error's first line, freed."""
    gate = bench.gate()
    refs = [wait_at.remote(gate) for _ in range(4)]
    wait_until(lambda: [facts(ref).state for ref in refs] == ["running", "running", "waiting", "waiting"])
    assert {facts(ref, is_brief=True)[:2] for ref in refs} <= {("running", "wait_at"), ("waiting", "wait_at")}
    gate.open()
    jray.get(refs)
    failed = bad.remote()
    jray.wait([failed])
    assert (facts(failed).state, facts(failed).task, facts(failed).error) == (
        "failed",
        "bad",
        "ValueError: no <good>",
    )
    with pytest.raises(ValueError, match="no <good>"):
        jray.get(failed)
    value = jray.put([1])
    current.client.free([value])
    assert facts(value).state == "freed"


@pytest.mark.timeout(180)
def test_ten_thousand_pending_refs_are_told_without_a_word_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = bench.gate()
    held = [wait_at.remote(gate) for _ in range(2)]
    refs = [later.remote() for _ in range(10_000)]

    def refusing(send: Any) -> Any:
        def refuse(*args: Any) -> Any:
            assert threading.current_thread() is not threading.main_thread(), "something was sent"
            return send(*args)

        return refuse

    with monkeypatch.context() as patch:
        for name in ("send", "sendall", "sendmsg"):
            patch.setattr(socket.socket, name, refusing(getattr(socket.socket, name)))
        assert repr(refs).count("ObjectRef(") == 10_000
        assert {facts(ref, is_brief=True).is_pending for ref in refs} == {True}
        assert facts(refs[-1]).is_pending
        assert repr(refs[0].peek()) == "no value yet: later() waits to run"
    for ref in refs:
        jray.cancel(ref)
    gate.open()
    assert jray.get(held) == [1, 1]


def test_a_ref_is_no_larger_than_its_slots() -> None:
    """What is known of an object costs each ref nothing."""
    assert sys.getsizeof(jray.put(1)) == sys.getsizeof(ObjectRef(bytes(28))) <= 104
    assert not hasattr(jray.put(1), "__dict__")


def test_a_peek_shows_a_little_of_the_value() -> None:
    ref = ones.remote(1000)
    jray.wait([ref])
    seen = ref.peek()
    assert repr(seen).splitlines()[0] == "ndarray float64 (1000, 1000), 7.6 MiB"
    assert "min, mean, max" in repr(seen)
    assert seen.sketch is not None
    assert seen.sketch.image.startswith(b"\x89PNG")
    assert repr(jray.put({"a": 1}).peek()).splitlines()[1] == "  'a': 1"
    failed = bad.remote()
    jray.wait([failed])
    assert repr(failed.peek()) == "failed: ValueError: no <good>"
    with pytest.raises(ValueError, match="no <good>"):
        jray.get(failed)


def test_a_peek_copies_nothing_and_keeps_nothing() -> None:
    """The bytes are looked at where they lie, and may go at once after."""
    ref = jray.put(np.zeros(50_000_000, "u1"))
    ref.peek()
    assert id(ref) not in current.client.arena.viewed()


def test_a_value_of_many_objects_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jray._core.peek.LARGEST_PICKLE_BYTES", 100_000)
    ref = jray.put([str(n) for n in range(100_000)])
    assert "not looked into: loading takes" in repr(ref.peek())
    assert repr(ref.peek()).startswith("list of 100,000, ")


def test_a_ref_of_no_session_says_so() -> None:
    """Of none at all, or of one that has ended."""
    ref = jray.put(1)
    jray.shutdown()
    for other in (ObjectRef(bytes(28)), ref):
        with pytest.raises(jray.exceptions.RaySystemError, match="belongs to no session that runs"):
            other.peek()
