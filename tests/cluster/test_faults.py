"""Whoever dies at whatever step of putting, getting, passing, freeing: nothing of it is kept, and no more is lost."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import jray
from jray._core import faults
from jray._core.refs import current
from jray.util.state import list_objects
from tests.behaviour.support import PATIENCE_S, Bench, wait_gone, wait_until
from tests.cluster.processes import Cluster, Script

#: many lives each; a machine may stop every process for seconds
pytestmark = pytest.mark.timeout(400)

MB = 2**20

#: where each of three parties comes in the program below
POINTS = {
    "driver": [
        "put.begin", "put.created", "put.written", "put.sealed", "pass.sending", "pass.lent", "get.answered",
        "return.adopted", "return.held", "get.mapped", "free.told", "free.returned", "death.dropped",
    ],
    "maker": [
        "put.begin", "put.created", "put.written", "put.sealed", "return.packed", "return.done", "pass.lent",
        "get.asked", "get.answered", "free.begin", "free.told", "free.returned",
    ],
    "reader": [
        "pass.received", "pass.told", "pass.settled", "get.wanted", "get.told", "get.mapped", "put.begin",
        "put.created", "put.written", "put.sealed", "free.releasing", "free.released", "death.heard",
        "death.answered", "death.dropped",
    ],
}  # fmt: skip

SPILL_POINTS = ["spill.asked", "spill.offered", "spill.moving", "spill.moved"]
NODE_POINTS = ["node.created", "node.sealed", "node.freed", "node.copying", "node.copied", "node.settled"]

#: A driver, an actor that makes objects and one that reads them do with objects whatever can be done.  Any of the three
#: may be told to die on the way; the others go on.  It prints the pids of the actors, then how it ended.
PROGRAM = """
    import json, os, sys, time

    who, fault, address = sys.argv[1:]
    if who == "driver":
        os.environ["JRAY_FAULT"] = fault

    import numpy as np
    import jray
    from jray.exceptions import OwnerDiedError, RayError, RayTaskError

    sys.stdin.readline()
    jray.init(address=address)

    @jray.remote(num_cpus=0)
    class Party:
        def __init__(self):
            self.kept = {}
            self.views = []

        def pid(self):
            return os.getpid()

        def make(self, name, value):
            self.kept[name] = jray.put(np.full(400_000, value, "uint8"))
            return [self.kept[name]]

        def keep(self, name, box):
            self.kept[name] = box[0]
            return True

        def holds(self, name):
            return name in self.kept

        def look(self, name):
            self.views.append(jray.get(self.kept[name]))
            return int(self.views[-1].max())

        def first(self, array):
            return int(array[0])

        def result(self, value):
            return np.full(400_000, value, "uint8")

        def wait_lost(self, name):
            wait_lost(self.kept[name])

        def drop(self, *names):
            for name in names:
                self.kept.pop(name, None)
            self.views.clear()

    def wait_lost(ref):
        # whose owner has died, and that is to be known here
        while True:
            try:
                jray.get(ref)
            except OwnerDiedError:
                return
            time.sleep(0.005)

    def party(name):
        env = {"env_vars": {"JRAY_FAULT": fault}} if who == name else None
        return Party.options(runtime_env=env).remote()

    def attempt(call, expected):
        # None: somebody has died who was needed
        try:
            value = call()
        except RayError as error:
            if who == "driver" or isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
                raise
            return None
        assert expected is None or value == expected, (value, expected)
        return value

    maker, reader = party("maker"), party("reader")
    pids = {"maker": jray.get(maker.pid.remote()), "reader": jray.get(reader.pid.remote())}
    print(json.dumps(pids), flush=True)

    def do(method, *arguments, expected=None):
        return attempt(lambda: jray.get(method.remote(*arguments)), expected)

    mine = jray.put(np.full(400_000, 1, "uint8"))
    if do(maker.keep, "drivers", [mine], expected=True):
        do(maker.look, "drivers", expected=1)
    do(reader.first, mine, expected=1)
    do(maker.drop, "drivers")
    for name, value in (("short", 2), ("long", 3)):
        box = do(maker.make, name, value)
        if box is not None and do(reader.keep, name, box, expected=True):
            do(reader.look, name, expected=value)
        if name == "short":
            attempt(lambda: jray.get(box[0]).max(), None) if box else None
            del box
            do(maker.drop, "short")
            do(reader.drop, "short")
    view = attempt(lambda: jray.get(box[0]), None) if box else None
    big = reader.result.remote(4)
    attempt(lambda: int(jray.get(big)[0]), 4)
    del big, mine
    # its object is still looked at, here and there
    jray.kill(maker)
    if do(reader.holds, "long"):
        do(reader.wait_lost, "long")
        do(reader.drop, "long")
    if box:
        wait_lost(box[0])
    del box
    assert view is None or int(view.max()) == 3
    del view
    print("done", flush=True)
    sys.stdin.readline()
    jray.shutdown()
"""


def store() -> dict[str, Any]:
    client: Any = current.client
    answer: dict[str, Any] = next(iter(client.cluster.stores().values()))
    return answer


def is_balanced() -> bool:
    """Tell whether nothing is in the store or on disk, and nobody is said to refer to stored bytes."""
    row = store()
    numbers = {row[name] for name in ("used", "objects", "unsealed", "spilled_objects", "spilled_bytes")}
    return numbers == {0} and not list(Path(row["spill_dir"]).glob("spill-*"))


def refers() -> list[Any]:
    return [row for row in list_objects(limit=1000) if row.object_size > 100_000]


def wait_balanced(about: str) -> None:
    wait_until(is_balanced, what=lambda: f"the accounts at zero after {about}; they are {store()}")
    assert not refers(), about


def test_somebody_dies_at_each_point() -> None:
    """In the tests below."""
    assert {*faults.POINTS} == {
        *SPILL_POINTS,
        *NODE_POINTS,
        *(point for of in POINTS.values() for point in of),
    }


def run_each(points: list[str], start: Callable[[str], Script], check: Callable[[str, Script], None]) -> None:
    """Have a program die at each point in turn; the next one is up by the time that the one before is done."""
    programs = [start(points[0])]
    for number, point in enumerate(points):
        program = programs.pop()
        if number + 1 < len(points):
            programs.append(start(points[number + 1]))
        program.say()
        check(point, program)


@pytest.mark.parametrize("who", POINTS)
def test_the_accounts_balance_wherever_a_party_dies(
    who: str, cluster: Cluster, script: Callable[..., Script]
) -> None:
    """And those who did not die have had the right values, and go on."""

    def start(point: str) -> Script:
        return script(PROGRAM, who, f"{point}:kill", cluster.info["address"])

    def check(point: str, program: Script) -> None:
        about = f"the {who}'s death at {point}"
        pids = json.loads(program.line())
        if who == "driver":
            program.process.wait(PATIENCE_S)
            assert program.process.returncode == -signal.SIGKILL, about
            wait_balanced(about)
        else:
            assert program.line() == "done", about
            wait_gone(pids[who])
            # while its driver lives, who has let go of all
            wait_balanced(about)
            program.say()
            program.finish()

    run_each(POINTS[who], start, check)


#: A driver and an actor fill a store together, several times its size.
SPILLING = """
    import json, os, sys

    who, fault, address = sys.argv[1:]
    if who == "driver":
        os.environ["JRAY_FAULT"] = fault

    import numpy as np
    import jray
    from jray.exceptions import RayError

    sys.stdin.readline()
    jray.init(address=address)

    def array(n):
        return np.full(4 * 2**20, n, "uint8")

    @jray.remote(num_cpus=0)
    class Owner:
        def pid(self):
            return os.getpid()

        def add(self, n):
            self.refs = [*getattr(self, "refs", []), jray.put(array(n))]

        def are_whole(self):
            return all((jray.get(ref) == n).all() for n, ref in enumerate(self.refs))

    env = {"env_vars": {"JRAY_FAULT": fault}} if who == "owner" else None
    owner = Owner.options(runtime_env=env).remote()
    print(json.dumps(jray.get(owner.pid.remote())), flush=True)
    refs = []
    for n in range(12):
        try:
            jray.get(owner.add.remote(n))
        except RayError:
            assert who == "owner"
        refs.append(jray.put(array(n)))
    assert all((jray.get(ref) == n).all() for n, ref in enumerate(refs))
    assert who == "owner" or jray.get(owner.are_whole.remote())
    del refs
    jray.kill(owner)
    print("done", flush=True)
    sys.stdin.readline()
    jray.shutdown()
"""


@pytest.mark.parametrize("who", ["driver", "owner"])
def test_the_accounts_balance_wherever_an_owner_dies_whose_objects_go_to_disk(
    who: str, monkeypatch: pytest.MonkeyPatch, script: Callable[..., Script]
) -> None:
    """No file is left, nobody waits for the dead, and the others' objects come back whole."""
    monkeypatch.setenv("JRAY_STORE_FULL_GRACE_S", "50")
    address = jray.init(num_cpus=2, object_store_memory=32 * MB).address_info["address"]

    def start(point: str) -> Script:
        return script(SPILLING, who, f"{point}:kill", address)

    def check(point: str, program: Script) -> None:
        about = f"the {who}'s death at {point}"
        pid = json.loads(program.line())
        if who == "driver":
            program.process.wait(PATIENCE_S)
            assert program.process.returncode == -signal.SIGKILL, about
            wait_balanced(about)
        else:
            assert program.line() == "done", about
            wait_gone(pid)
            wait_balanced(about)
            program.say()
            program.finish()

    run_each(SPILL_POINTS, start, check)


#: The only program of its cluster, whose node dies.
ALONE = """
    import os, sys

    os.environ["JRAY_FAULT"], place = sys.argv[1:]

    import numpy as np
    import jray
    from jray.exceptions import RaySystemError

    sys.stdin.readline()
    context = jray.init(num_cpus=1, object_store_memory=32 * 2**20, object_spilling_directory=place)
    print(context.address_info["object_store_address"], flush=True)
    refs = []
    try:
        while True:
            refs.append(jray.put(np.zeros(2**20, "uint8")))
            if len(refs) == 64:
                refs.clear()
    except RaySystemError:
        print("over", flush=True)
    os._exit(0)  # it cleans nothing up
"""


def test_nothing_is_left_of_a_node_that_died_at_any_step_once_another_starts(
    tmp_path: Path, script: Callable[..., Script]
) -> None:
    """Neither in shared memory, nor on disk."""
    place = tmp_path / "disk"
    place.mkdir()
    stores: list[Path] = []

    def start(point: str) -> Script:
        return script(ALONE, f"{point}:kill", str(place))

    def check(point: str, program: Script) -> None:
        stores.append(Path(program.line()))
        assert program.line() == "over", point
        program.finish()

    run_each(NODE_POINTS, start, check)
    jray.init(num_cpus=1, object_spilling_directory=str(place))
    wait_until(
        lambda: not any(path.exists() for path in stores), what=lambda: f"no store but the new one: {stores}"
    )
    wait_until(lambda: not list(place.glob("*/spill-*")))


def test_what_a_stream_gave_before_its_worker_died_stays_as_it_is(cluster: Cluster, bench: Bench) -> None:
    """Another attempt makes the same items again, and these go, not those that are in use."""
    attempts, gate = bench.tally(), bench.gate()

    @jray.remote(max_retries=1)
    def items() -> Any:
        attempt = attempts.add(os.getpid())
        for n in range(3):
            yield np.full(MB, 10 * attempt + n, "uint8")
        if attempt == 1:
            gate.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    stream = items.remote()
    first, dropped, last = next(stream), next(stream), next(stream)
    del dropped
    view = jray.get(first)
    gate.open()
    with pytest.raises(StopIteration):
        next(stream)
    others = [jray.put(np.zeros(MB, "uint8")) for _ in range(4)]
    assert (view == 10).all()
    assert (jray.get(last) == 12).all()
    del first, view, last, others, stream
    wait_balanced("two attempts")


def test_what_a_task_stored_before_it_failed_goes(cluster: Cluster) -> None:
    """One of its results was in the store, another could not be made."""

    @jray.remote(num_returns=2)
    def half() -> Any:
        return np.zeros(MB, "uint8"), threading.Lock()

    stored, failed = half.remote()
    with pytest.raises(TypeError):
        jray.get(failed)
    wait_balanced("half a result")
    del stored


def test_an_owner_that_dies_while_its_borrower_sleeps_is_known_to_be_dead_when_it_wakes(
    cluster: Cluster,
) -> None:
    """The borrower has received a reference, and has told nobody."""

    @jray.remote(num_cpus=0)
    class Owner:
        def pid(self) -> int:
            return os.getpid()

        def make(self) -> list[Any]:
            return [jray.put(bytes(MB))]

    @jray.remote(num_cpus=0, runtime_env={"env_vars": {"JRAY_FAULT": "pass.received:stop"}})
    class Borrower:
        def pid(self) -> int:
            return os.getpid()

        def look(self, box: list[Any]) -> str:
            try:
                return str(len(jray.get(box[0])))
            except jray.exceptions.OwnerDiedError as error:
                return type(error).__name__

    owner, borrower = Owner.remote(), Borrower.remote()
    pid, owners_pid = jray.get([borrower.pid.remote(), owner.pid.remote()])
    answer = borrower.look.remote(jray.get(owner.make.remote()))
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, what="the borrower asleep")
    jray.kill(owner)
    wait_gone(owners_pid)
    os.kill(pid, signal.SIGCONT)
    assert jray.get(answer) == "OwnerDiedError"
    wait_balanced("its owner's death")
