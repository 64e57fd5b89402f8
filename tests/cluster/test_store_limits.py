"""The object store is full, too small, or has no shared memory: a clear error or warning, and nothing lost."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jray
from jray.exceptions import ObjectStoreFullError
from tests.behaviour.support import wait_until
from tests.cluster.processes import Cluster, Script, can_have_mounts_of_its_own

MB = 2**20


def store_files(cluster: Cluster) -> int:
    return sum(path.stat().st_blocks * 512 for path in cluster.store_dir.glob("segment-*"))


def test_an_object_larger_than_the_store_says_the_numbers() -> None:
    """put raises with what was needed and what there is, and the store is as good as before."""
    jray.init(num_cpus=1, object_store_memory=20 * MB)
    with pytest.raises(ObjectStoreFullError) as caught:
        jray.put(bytes(30 * MB))
    text = str(caught.value)
    assert "30 MiB" in text
    assert "20 MiB" in text
    assert "object_store_memory" in text
    assert len(jray.get(jray.put(bytes(10 * MB)))) == 10 * MB


def test_a_result_larger_than_the_store_is_the_tasks_error() -> None:
    """The error of a task whose result fits nowhere is the same, and its worker lives on."""
    jray.init(num_cpus=1, object_store_memory=20 * MB)

    @jray.remote
    def make(size: int) -> bytes:
        return bytes(size)

    with pytest.raises(ObjectStoreFullError, match="30"):
        jray.get(make.remote(30 * MB), timeout=20)
    assert len(jray.get(make.remote(10 * MB), timeout=20)) == 10 * MB


def test_a_store_that_does_not_spill_takes_more_when_some_refs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full store raises; what is deleted makes room; what is held stays whole."""
    monkeypatch.setenv("JRAY_SPILLS", "0")
    jray.init(num_cpus=1, object_store_memory=20 * MB)
    refs = [jray.put(bytes([n]) * (4 * MB)) for n in range(4)]
    while (ref := put_or_none(4 * MB)) is not None:
        refs.append(ref)
    with pytest.raises(ObjectStoreFullError, match=r"4\.0 MiB"):
        jray.put(bytes(4 * MB))
    del refs[1]
    gc.collect()
    refs.append(wait_until(lambda: put_or_none(4 * MB), what="room after a ref went"))
    assert [jray.get(ref)[0] for ref in refs[:3]] == [0, 2, 3]


def put_or_none(size: int) -> Any:
    try:
        return jray.put(bytes([7]) * size)
    except ObjectStoreFullError:
        return None


def test_a_view_keeps_its_memory_after_the_ref_is_gone() -> None:
    """What an array shows is not given to the next object, however full the store is."""
    numpy = pytest.importorskip("numpy")
    jray.init(num_cpus=1, object_store_memory=20 * MB)
    view = jray.get(jray.put(numpy.full(10 * MB, 1, dtype="uint8")))
    gc.collect()
    for n in range(2, 10):
        try:
            jray.put(numpy.full(9 * MB, n, dtype="uint8"))
        except ObjectStoreFullError:
            pass
    assert int(view.min()) == int(view.max()) == 1


def test_a_store_beyond_shared_memory_is_in_files(runtime_dir: Path) -> None:
    """Asking for more than /dev/shm has gives one warning with the numbers, and a store that works."""
    size = shutil.disk_usage("/dev/shm").total + 100 * MB  # more than is free, whatever others let go
    with pytest.warns(UserWarning, match="/dev/shm has .* free") as caught:
        cluster = Cluster(jray.init(num_cpus=1, object_store_memory=size).address_info)
    assert len(caught) == 1
    assert cluster.store_dir.parent == runtime_dir
    ref = jray.put(bytes(5 * MB))
    assert jray.get(ref) == bytes(5 * MB)
    assert store_files(cluster) >= 5 * MB


@pytest.mark.timeout(180)
@pytest.mark.skipif(not can_have_mounts_of_its_own(), reason="mounts of one's own are not permitted here")
def test_64_megabytes_of_shared_memory_as_in_a_container(script: Callable[..., Script]) -> None:
    """With the /dev/shm that Docker gives, everything works, after one warning that tells how to have more."""
    program = script(
        """
        import os, warnings
        import jray

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            jray.init(num_cpus=2)
        print(len(caught), *[str(warning.message) for warning in caught])

        @jray.remote
        def make(n):
            return bytes([n]) * 20_000_000

        refs = [make.remote(n) for n in range(10)]
        refs += [jray.put(bytes([n]) * 20_000_000) for n in range(10)]
        print([len(jray.get(ref)) for ref in refs] == [20_000_000] * 20)
        print(os.listdir("/dev/shm"))
        jray.shutdown()
        """,
        prefix=(
            "unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m jray-test /dev/shm && exec "$@"', "-"
        ),
    )  # fmt: skip
    first, *others = program.finish(150)[0].splitlines()
    assert first.startswith("1 ")
    assert "--shm-size" in first
    assert "object_store_memory" in first
    assert others == ["True", "[]"]


@pytest.mark.timeout(180)
@pytest.mark.skipif(not can_have_mounts_of_its_own(), reason="mounts of one's own are not permitted here")
def test_shared_memory_that_others_filled_is_an_error_and_not_a_crash(script: Callable[..., Script]) -> None:
    """When /dev/shm runs full behind the store's back, put raises ObjectStoreFullError: no SIGBUS, no hang."""
    program = script(
        """
        import jray

        jray.init(num_cpus=1, object_store_memory=50_000_000)
        with open("/dev/shm/other", "wb") as file:
            try:
                while True:
                    file.write(bytes(1_000_000))
            except OSError:
                pass

        @jray.remote
        def make():
            return bytes(10_000_000)

        for use in (lambda: jray.put(bytes(10_000_000)), lambda: jray.get(make.remote(), timeout=20)):
            try:
                use()
            except jray.exceptions.ObjectStoreFullError as error:
                print("full")
        import os
        os.unlink("/dev/shm/other")
        print(len(jray.get(make.remote(), timeout=20)))
        """,
        prefix=(
            "unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m jray-test /dev/shm && exec "$@"', "-"
        ),
    )  # fmt: skip
    assert program.finish(150)[0].split() == ["full", "full", "10000000"]
