"""Objects of a full store go to disk and come back whole; what is being read stays; nothing is left behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jray
from jray._core.refs import current
from jray.exceptions import ObjectStoreFullError
from tests.behaviour.support import Bench, wait_gone, wait_until
from tests.cluster.processes import Cluster, Script, can_have_mounts_of_its_own

MB = 2**20


def store() -> dict[str, Any]:
    client: Any = current.client
    answer: dict[str, Any] = next(iter(client.cluster.stores().values()))
    return answer


def files() -> list[str]:
    return sorted(path.name for path in Path(store()["spill_dir"]).glob("spill-*"))


def array(n: int, size: int = 4 * MB) -> Any:
    return np.full(size, n % 251, dtype="uint8")


def is_whole(value: Any, n: int, size: int = 4 * MB) -> bool:
    return len(value) == size and int(value.min()) == int(value.max()) == n % 251


def put_or_none(n: int) -> Any:
    try:
        return jray.put(array(n))
    except ObjectStoreFullError:
        return None


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put waits for room however long some process takes to make it."""
    monkeypatch.setenv("JRAY_STORE_FULL_GRACE_S", "50")


@pytest.fixture
def small(patient: None) -> Cluster:
    return Cluster(jray.init(num_cpus=2, object_store_memory=32 * MB).address_info)


@pytest.mark.usefixtures("small")
def test_puts_of_four_times_the_store_are_all_there() -> None:
    refs = [jray.put(array(n)) for n in range(32)]
    assert store()["spilled_objects"] >= 24
    for n, ref in enumerate(refs):
        assert is_whole(jray.get(ref), n)


@pytest.mark.usefixtures("small")
def test_results_of_tasks_go_to_disk_and_are_arguments_again() -> None:
    @jray.remote
    def make(n: int) -> Any:
        return array(n)

    @jray.remote
    def check(value: Any, n: int) -> bool:
        return is_whole(value, n)

    refs = [make.remote(n) for n in range(32)]
    jray.wait(refs, num_returns=len(refs))
    assert store()["spilled_objects"] >= 20
    assert all(jray.get([check.remote(ref, n) for n, ref in enumerate(refs)]))


@pytest.mark.usefixtures("small")
def test_files_go_with_their_objects() -> None:
    refs = [jray.put(array(n)) for n in range(24)]
    assert files()
    del refs
    gc.collect()

    def is_removed() -> bool:
        row = store()
        return not files() and (row["spilled_objects"], row["spilled_bytes"]) == (0, 0)

    wait_until(is_removed, what=lambda: f"all removed; {files()}, {store()}")


@pytest.mark.usefixtures("small")
def test_what_is_read_stays_and_what_was_read_from_disk_outlives_its_ref() -> None:
    held = [jray.put(array(n)) for n in range(3)]
    views = jray.get(held)
    refs = [jray.put(array(n)) for n in range(3, 30)]
    spilled = jray.get(refs[0])
    del refs
    gc.collect()
    wait_until(lambda: not files())
    more = [jray.put(array(n)) for n in range(100, 104)]
    assert is_whole(spilled, 3)
    assert all(is_whole(view, n) for n, view in enumerate(views))
    assert not spilled.flags.writeable
    del more


def test_a_store_full_of_what_is_read_raises_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # none goes in the background, between its put and its get
    monkeypatch.setenv("JRAY_SPILL_THRESHOLD", "1")
    jray.init(num_cpus=2, object_store_memory=32 * MB)
    views: list[Any] = []
    while (ref := put_or_none(len(views))) is not None:
        views.append(jray.get(ref))
    assert 4 <= len(views) < 8
    with pytest.raises(ObjectStoreFullError, match=r"4\.0 MiB"):
        jray.put(array(0))
    assert all(is_whole(view, n) for n, view in enumerate(views))
    used = store()["used"]
    del views[0]
    gc.collect()
    wait_until(lambda: store()["used"] < used, what="room")
    assert is_whole(jray.get(jray.put(array(200))), 200)


@pytest.mark.usefixtures("small")
def test_what_others_hold_is_not_moved_under_them(bench: Bench) -> None:
    """An actor that keeps a ref, and one that keeps a view, read what they always read."""

    @jray.remote
    class Keeper:
        def __init__(self, refs: list[Any]) -> None:
            self.refs = refs
            self.views = jray.get(refs)

        def check(self) -> bool:
            again = jray.get(self.refs)
            return all(is_whole(view, n) for values in (self.views, again) for n, view in enumerate(values))

    refs = [jray.put(array(n)) for n in range(3)]
    keeper = Keeper.remote(refs)
    assert jray.get(keeper.check.remote(), timeout=30)
    others = [jray.put(array(n)) for n in range(50, 74)]
    assert jray.get(keeper.check.remote(), timeout=30)
    assert all(is_whole(jray.get(ref), n) for n, ref in enumerate(others, 50))
    assert all(is_whole(jray.get(ref), n) for n, ref in enumerate(refs))


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("small")
def test_threads_that_read_while_objects_move_see_what_was_written() -> None:
    refs = [jray.put(array(n, MB)) for n in range(24)]
    is_over = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not is_over.is_set():
            for n, ref in enumerate(refs):
                if not is_whole(jray.get(ref), n, MB):
                    wrong.append(n)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(6):
            more = [jray.put(array(n, MB)) for n in range(round_, round_ + 24)]
            assert all(is_whole(jray.get(ref), n, MB) for n, ref in enumerate(more, round_))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.usefixtures("small")
def test_objects_that_workers_own_go_to_disk_too() -> None:
    @jray.remote
    class Maker:
        def __init__(self) -> None:
            self.refs: list[Any] = []

        def make(self, count: int) -> None:
            self.refs += [jray.put(array(len(self.refs) + n)) for n in range(count)]

        def check(self) -> bool:
            return all(is_whole(jray.get(ref), n) for n, ref in enumerate(self.refs))

    maker = Maker.remote()
    jray.get(maker.make.remote(20))
    assert store()["spilled_objects"] >= 12
    assert jray.get(maker.check.remote())
    jray.kill(maker)
    wait_until(lambda: not files(), what=lambda: f"all removed; {files()}")


def test_some_go_before_the_store_is_full(patient: None) -> None:
    """From 80 % on, in the background, until 60 % are used."""
    jray.init(num_cpus=1, object_store_memory=40 * MB)
    refs = [jray.put(array(n, 2 * MB)) for n in range(17)]
    wait_until(lambda: store()["used"] < 30 * MB, what=lambda: str(store()))
    assert [is_whole(jray.get(ref), n, 2 * MB) for n, ref in enumerate(refs)] == [True] * 17


def test_the_directory_is_the_one_that_was_asked_for(patient: None, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    jray.init(num_cpus=1, object_store_memory=16 * MB, object_spilling_directory=str(place))
    refs = [jray.put(array(n)) for n in range(8)]
    assert list(place.glob("*/spill-*"))
    del refs
    jray.shutdown()
    assert list(place.iterdir()) == []


def test_files_of_a_head_that_was_killed_go_at_the_next_start(
    patient: None, tmp_path: Path, script: Callable[..., Script]
) -> None:
    place = tmp_path / "disk"
    program = script(
        f"""
        import os, signal, jray
        info = jray.init(num_cpus=1, object_store_memory={16 * MB}, object_spilling_directory={str(place)!r})
        refs = [jray.put(bytes({4 * MB})) for n in range(8)]
        from jray._core.refs import current
        head = current.client.facts["node_pid"]
        print(head, flush=True)
        os.kill(head, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    head = int(program.line())
    program.process.wait()
    wait_gone(head)  # what it has locked nobody sweeps
    assert list(place.glob("*/spill-*"))
    jray.init(num_cpus=1, object_store_memory=16 * MB, object_spilling_directory=str(place))
    wait_until(lambda: not list(place.glob("*/spill-*")))


@pytest.mark.skipif(not can_have_mounts_of_its_own(), reason="mounts of one's own are not permitted here")
@pytest.mark.timeout(180)
def test_a_full_disk_is_said_as_such_and_used_again_when_it_has_room(
    patient: None, script: Callable[..., Script]
) -> None:
    """What was stored stays whole; once others have left the disk, the next puts succeed."""
    program = script(
        f"""
        import os, time
        import jray

        with open("/mnt/others", "wb") as file:
            file.write(bytes({50 * MB}))
        jray.init(num_cpus=1, object_store_memory={16 * MB}, object_spilling_directory="/mnt")
        refs = []

        def put():
            refs.append(jray.put(bytes([len(refs)]) * {4 * MB}))

        try:
            for n in range(12):
                put()
        except jray.exceptions.OutOfDiskError as error:
            print(error)
        os.unlink("/mnt/others")
        deadline = time.monotonic() + 60
        while len(refs) < 12 and time.monotonic() < deadline:
            try:
                put()
            except jray.exceptions.OutOfDiskError:
                time.sleep(0.1)
        print(len(refs), all(jray.get(ref) == bytes([n]) * {4 * MB} for n, ref in enumerate(refs)))
        jray.shutdown()
        """,
        prefix=(
            "unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=60m jray-test /mnt && exec "$@"', "-"
        ),
    )  # fmt: skip
    said, whole = program.finish(150)[0].splitlines()
    assert "/mnt" in said
    assert "object_spilling_directory" in said
    assert whole == "12 True"
