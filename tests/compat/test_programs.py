"""Programs of the kind that Ray's documentation shows: on jray, and with the same words on Ray where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
pytestmark = pytest.mark.timeout(240)
#: an interpreter that has Ray
RAY_PYTHON = os.environ.get("JRAY_RAY_PYTHON")

SAID = {
    "actor_tree": [
        "total 27",
        "leaves ['r.0.0', 'r.0.1', 'r.1.0', 'r.1.1']",
        "inner True ['r.1.0', 'r.1.1']",
        "registered ['r', 'r.0', 'r.0.0', 'r.0.1', 'r.1', 'r.1.0', 'r.1.1']",
        "lost True",
    ],
    "async_service": [
        "none ready []",
        "sent ['sent', 'sent', 'sent', 'sent', 'sent', 'sent']",
        "in order [0, 1, 2, 3, 4, 5, 6, 7, 8] 3",
        "compute 8 open",
        "fetched ['fetched', 'fetched', 'fetched', 'fetched']",
        "other group 10",
        "met [True, True, True] False",
        "plain [0, 1, 4, 9]",
        "ticks [0, 1, 2] over",
        "first one",
        "second RayTaskError True",
        "driver ([0, 1, 2], 'one', [9], 0, [0, 1, 2], True)",
    ],
    "faults": [
        "flaky done",
        "too flaky RayTaskError(ConnectionError) ['RayTaskError', 'RayError']",
        "crashing survived",
        "crashed WorkerCrashedError ['RayError', 'Exception']",
        "runs 3 2 2",
        "chain ann 10 True QuotaError",
        "as instance RayTaskError(QuotaError)",
        "inside ('caught', 'bob')",
        "timeout GetTimeoutError ['RayError', 'TimeoutError']",
        "cancelled",
        "forced",
        "stream [0, 1, 2]",
        "its end stream over",
        "constructor ActorDiedError ['RayActorError', 'RayError']",
        "method RayTaskError(KeyError) ['RayTaskError', 'RayError']",
        "still there hello",
        "too few RayTaskError(ValueError) ['RayTaskError', 'RayError']",
        "a lock TypeError",
        "a lock as argument TypeError",
        "a lock as value RayTaskError(TypeError) ['RayTaskError', 'RayError']",
        "a ref's ref TypeError",
        "get of what is no ref ValueError",
        "get of a list with one TypeError",
        "wait for the same ValueError",
        "wait for too many ValueError",
        "bad option ValueError",
        "bad argument TypeError",
        "system exit WorkerCrashedError ['RayError', 'Exception']",
        "errors are ready 2 0",
    ],
    "map_reduce": [
        "words [('the', 3), ('fox', 3), ('a', 2)] True",
        "walks 20 50 4",
        "reported [5, 5]",
        "progress 1.0",
        "cached 399998",
        "stream [0, 100000, 200000, 300000, 400000]",
        "hex 56 True 48",
        "wait [1, 0]",
        "types tuple None",
        "tuple [4, 5]",
    ],
    "monte_carlo_pi": [
        "never back True",
        "pi 3.1374",
        "resources 3.0",
    ],
    "named_services": [
        "first 2",
        "again True True 2",
        "task ['a', 'b', 'c']",
        "pair ['a', 1]",
        "default none",
        "static 2 called with 3",
        "taken True",
        "elsewhere ['x']",
        "names ['store'] 2",
        "nobody True",
        "kept ['a', 'b', 'c']",
        "set 1",
        "crashed ActorUnavailableError",
        "after [] True",
        "died ActorDiedError",
        "died ActorDiedError",
        "left ActorDiedError",
        "derived Derived of derived!",
        "about {'task name': 'known', 'colour': 'blue', 'cpus': {'CPU': 1.0}, 'actor': None, 'namespace': 'services'}",
        "plain call no name",
        "TypeError True",
        "TypeError True",
        "TypeError True",
        "over False",
    ],
    "parameter_server": [
        "weights [2.0, -3.0, 0.5]",
    ],
    "pipeline": [
        "results True 5520000.0",
        "outcomes [0, (True, 'item 1'), 2, (True, 'item 3')]",
        "generated [0, 1, 2, 3, 4]",
        "options 2",
        "timeout True",
    ],
    "reservations": [
        "has {'CPU': 4.0, 'disk': 2.0, 'licence': 1.0}",
        "disk [0, 1, 2, 3, 4]",
        "part p",
        "ready True 2 [{'CPU': 1.0}, {'CPU': 1.0, 'disk': 1.0}]",
        "wait True",
        "inside True",
        "outside None",
        "member True",
        "total 1",
        "free 2.0",
        "table CREATED PACK mine {0: {'CPU': 1.0}, 1: {'CPU': 1.0, 'disk': 1.0}}",
        "too large True",
        "never False PENDING",
        "removed REMOVED",
        "affine None None",
        "node True 4.0 True",
        "memory None",
    ],
    "tree_reduction": [
        "reduced (30000,) 45 False",
        "sorted True",
        "fibonacci 34 10",
        "lazily 4 [4, 5, 6]",
        "nested (True, False, True)",
        "statistics 2 2 2.0",
        "overwrite assignment destination is read-only",
        "same True 3",
        "chained 15",
    ],
    "work_queue": [
        "produced [5, 5]",
        "consumed [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]",
        "empty True 0 False",
        "Empty",
        "Empty",
        "Empty",
        "Full [1, 2, 3] 1",
        "batch True 1",
        "async (4, 'a')",
        "map [0, 1, 4, 9, 16, 25]",
        "unordered [0, 1, 2, 3, 4, 5]",
        "next True 49 64 True 81",
        "idle False True True",
        "StopIteration",
        "pool map [0, 1, 8, 27, 64]",
        "starmap [3, 7]",
        "async 11 True True",
        "imap [0, 1, 8, 27, 64]",
        "imap_unordered [0, 1, 8, 27, 64]",
        "callback [0, 1, 8]",
        "raises TypeError True",
        "apply 27",
    ],
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program_on_jray(run: Callable[..., str], program: Path) -> None:
    """A program that only knows Ray says the right things."""
    assert run(str(program)).splitlines() == SAID[program.stem]


@pytest.mark.skipif(RAY_PYTHON is None, reason="JRAY_RAY_PYTHON names no interpreter that has Ray")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program_on_ray(run: Callable[..., str], program: Path) -> None:
    """Ray says the same."""
    out = run(
        str(program),
        compat=False,
        python=str(RAY_PYTHON),
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
    )
    # what Ray logs comes in between
    own = {line.partition(" ")[0] for line in SAID[program.stem]}
    said = [line for line in out.splitlines() if line.partition(" ")[0] in own]
    assert said == SAID[program.stem]
