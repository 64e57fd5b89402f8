"""Opening a session on Ray: which cluster, and what is said when there is none, or no Ray."""

from __future__ import annotations

import importlib
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

import jray
from jray._core.on_ray import session
from jray.job_config import JobConfig

#: seconds; Ray by itself tries for a minute
SOON_S = 20.0


class FakeRay(types.ModuleType):
    """A Ray that cannot be joined, for what it says."""

    def __init__(self, version: str = "2.60.0", problem: Exception | None = None) -> None:
        super().__init__("ray")
        self.__version__ = version
        self.problem = problem

    def is_initialized(self) -> bool:
        return False

    def init(self, *_: Any, **__: Any) -> None:
        assert self.problem is not None
        raise self.problem

    def shutdown(self) -> None:
        pass


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch, no_session: None) -> Any:
    """`fake_ray(...)` puts a `FakeRay` in the place of Ray."""

    def put(**facts: Any) -> None:
        monkeypatch.setitem(sys.modules, "ray", FakeRay(**facts))

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("JRAY_ADDRESS", raising=False)
    return put


def test_a_missing_ray_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch, no_session: None) -> None:
    """Without Ray the error says how to install it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "jray\[ray\]"'):
        jray.init(engine="ray")
    assert not jray.is_initialized()


def test_an_old_ray_is_named_with_the_cure(fake_ray: Any) -> None:
    """A Ray below the one that was tested is refused, with both versions."""
    fake_ray(version="2.9.3")
    with pytest.raises(ImportError, match=r"Ray 2\.60 or newer, and this is 2\.9\.3.*pip install"):
        jray.init(engine="ray")


@pytest.mark.parametrize(
    "text",
    [
        "Version mismatch: The cluster was started with:\n    Ray: 2.55.1\n    Python: 3.11.7\nThis process ...",
        "Python minor versions differ between client and server: client is 3.11.7, server is 3.12.1",
    ],
)
def test_other_versions_on_the_cluster_are_named(fake_ray: Any, text: str) -> None:
    """A cluster of another Ray or Python is a RuntimeError that says which must be the same."""
    fake_ray(problem=RuntimeError(text))
    with pytest.raises(RuntimeError, match="must be the same") as caught:
        jray.init("local", engine="ray")
    assert text in str(caught.value)
    if "2.55.1" in text:
        assert "pip install 'ray==2.55.1'" in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_closed_port_is_found_at_once(prefix: str, no_session: None, free_address: str) -> None:
    """Where nothing listens, the ConnectionError comes soon and says how to start a cluster."""
    pytest.importorskip("ray", reason="Ray is not installed here: pip install 'jray[ray]'")
    began_s = time.monotonic()
    with pytest.raises(ConnectionError, match="ray start --head"):
        jray.init(f"{prefix}{free_address}", engine="ray")
    assert time.monotonic() - began_s < SOON_S
    assert not jray.is_initialized()


@pytest.fixture
def free_address() -> str:
    import socket  # noqa: PLC0415 -- for this alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_what_a_cluster_has_cannot_be_said_from_afar(fake_ray: Any, head: Any) -> None:
    """Resources are those of the cluster that runs."""
    fake_ray()
    with pytest.raises(ValueError, match="num_cpus must not be provided"):
        jray.init(head.remote_address, num_cpus=3)


def test_the_address_can_come_from_the_environment(
    head: Any, no_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JRAY_ADDRESS, and RAY_ADDRESS after it, name the cluster; ray:// alone chooses the engine."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JRAY_ADDRESS", head.remote_address)
    context = jray.init(log_to_driver=False)
    assert context.address_info["address"] == head.remote_address
    assert jray.api._client().engine_name == "ray"


def test_a_ray_that_runs_in_this_process_is_used_and_left_alone(head: Any, no_session: None) -> None:
    """jray joins by way of the program's own Ray, and leaves it running."""
    ray = importlib.import_module("ray")
    ray.init(head.address, log_to_driver=False, namespace="own")
    try:
        with pytest.raises(RuntimeError, match="initialized in this process already"):
            jray.init(head.address, engine="ray")
        with pytest.raises(ValueError, match="num_cpus and namespace must not be provided"):
            jray.init(engine="ray", num_cpus=1, namespace="another")
        with jray.init(engine="ray"):
            assert jray.get_runtime_context().namespace == "own"
            assert jray.get(jray.remote(lambda: 1).remote()) == 1
        assert not jray.is_initialized()
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_sessions_can_follow_each_other(head: Any, no_session: None) -> None:
    """After `shutdown` the same function runs in the next session."""

    @jray.remote
    def one() -> int:
        return 1

    for address in (head.address, head.remote_address):
        jray.init(address, engine="ray", log_to_driver=False)
        assert jray.get(one.remote()) == 1
        jray.shutdown()


def test_versions_are_compared_as_numbers() -> None:
    """2.9 is older than 2.60."""
    assert session.version_of("2.9.3") < session.version_of("2.60.0.dev0") == (2, 60)


def test_a_search_path_reaches_the_workers(head: Any, no_session: None, tmp_path: Path) -> None:
    """Modules in the job's search path can be imported by its tasks; by ray:// the option is refused by name."""
    (tmp_path / "only_here.py").write_text("ANSWER = 42\n")
    job = JobConfig(code_search_path=[str(tmp_path)], metadata={"owner": "test"})
    with pytest.raises(NotImplementedError, match="code_search_path"):
        jray.init(head.remote_address, job_config=job)
    jray.init(head.address, engine="ray", log_to_driver=False, job_config=job)

    @jray.remote
    def answer() -> int:
        found: int = importlib.import_module("only_here").ANSWER
        return found

    assert jray.get(answer.remote()) == 42
