"""Runtime environments on a node: built once for all who ask, within a quota, whoever dies meanwhile; nothing is left."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import jray
import jray.util.state
from jray._core.refs import current
from jray.cluster_utils import Cluster as Nodes
from jray.exceptions import RuntimeEnvSetupError, WorkerCrashedError
from jray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.behaviour.support import Gate, processes_marked, wait_gone, wait_until
from tests.behaviour.wheels import found_in, installing, make_slow_source, make_wheel
from tests.cluster.processes import Cluster, Script

# installing takes seconds, and many more on a machine that is busy
pytestmark = pytest.mark.timeout(240)


@jray.remote
def version(name: str) -> str:
    return str(__import__(name).__version__)


@jray.remote
def own_pid() -> int:
    return os.getpid()


def builds(cluster: Cluster) -> list[str]:
    """What each installation has said so far."""
    return [path.read_text() for path in sorted((cluster.session_dir / "logs").glob("environment-*.log"))]


def environment_dir(cluster: Cluster) -> Path:
    (found,) = cluster.session_dir.parent.glob("jray-*-env")
    return found


@pytest.fixture
def links(tmp_path: Path) -> Path:
    for number in ("1.0", "2.0"):
        make_wheel(tmp_path, "tiny", number)
    return tmp_path


def tiny(links: Path, number: str = "1.0", **fields: Any) -> dict[str, Any]:
    return installing([f"tiny=={number}"], *found_in(links), **fields)


class Slow:
    """An environment whose making goes on until `open`."""

    def __init__(self, folder: Path) -> None:
        self.gate = Gate(str(folder / "gate"))
        source = make_slow_source(folder, "slow", self.gate.path)
        self.environment = installing([str(source)], "--no-build-isolation")

    def pid(self) -> int:
        """Return the process that is building, once it is."""
        path = Path(self.gate.path + ".pid")
        wait_until(path.exists, what="a build")
        return int(path.read_text())


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(tmp_path)


def test_fifty_tasks_have_an_environment_built_once(
    cluster: Cluster, links: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """However many ask at once; who asks later finds it there.  The cell is told of it once."""
    task = version.options(runtime_env=tiny(links), num_cpus=0.01)
    assert jray.get([task.remote("tiny") for _ in range(50)]) == ["1.0"] * 50
    assert jray.get(version.options(runtime_env=tiny(links, env_vars={"A": "1"})).remote("tiny")) == "1.0"
    assert len(builds(cluster)) == 1
    told = [line for line in capfd.readouterr().err.splitlines() if "pip installs tiny==1.0" in line]
    assert sum(line.endswith(" ...") for line in told) == 1
    assert "done after" in told[-1]


def test_nothing_is_held_while_an_environment_is_made(cluster: Cluster, slow: Slow) -> None:
    """All CPUs serve others, and what waits says for what."""
    waiting = [version.options(runtime_env=slow.environment).remote("slow") for _ in range(4)]
    slow.pid()
    assert jray.available_resources()["CPU"] == 2

    @jray.remote(num_cpus=2)
    def whole() -> int:
        return 1

    assert jray.get(whole.remote()) == 1
    client: Any = current.client
    ((_, _, _, reason, _),) = client.ask("waiting")
    assert reason == "waits for its runtime environment, which is being made"
    slow.gate.open()
    assert jray.get(waiting) == ["1.0"] * 4


def test_a_build_that_is_killed_fails_its_tasks_and_is_made_anew(cluster: Cluster, slow: Slow) -> None:
    """The error says by what; the next who asks has another try."""
    task = version.options(runtime_env=slow.environment)
    ref = task.remote("slow")
    pid = slow.pid()
    parents = psutil.Process(pid).parents()
    (builder,) = [each for each in parents if each.ppid() == cluster.head.pid]
    inside = builder.children(recursive=True)
    builder.kill()
    with pytest.raises(RuntimeEnvSetupError, match="got signal 9"):
        jray.get(ref)
    wait_gone(pid, *[each.pid for each in inside])
    slow.gate.open()
    assert jray.get(task.remote("slow")) == "1.0"
    wait_until(
        lambda: len(list(environment_dir(cluster).glob("install-*"))) == 1, what="the first try removed"
    )


def test_a_head_that_is_killed_takes_its_builds_along(cluster: Cluster, slow: Slow, mark: str) -> None:
    """No process of it is left, and no file once this program has left."""
    version.options(runtime_env=slow.environment).remote("slow")
    pid = slow.pid()
    place = environment_dir(cluster)
    cluster.head.kill()
    wait_gone(pid)
    jray.shutdown()
    wait_until(lambda: not processes_marked(mark), what="all ended")
    assert not place.exists()


def test_a_program_that_leaves_ends_its_builds(
    cluster: Cluster, slow: Slow, script: Callable[..., Script]
) -> None:
    """Nobody waits for them any more; the cluster goes on."""
    program = script(
        """
        import json, sys, jray
        jray.init(sys.argv[1])
        jray.remote(lambda: 1).options(runtime_env=json.loads(sys.argv[2])).remote()
        input()
        """,
        cluster.info["address"],
        json.dumps(slow.environment),
    )
    pid = slow.pid()
    program.say()
    program.finish()
    wait_gone(pid)
    assert jray.get(own_pid.remote())


def test_what_is_unused_makes_room(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment used longest ago goes when all are larger than the quota; asked for again, it is made again."""
    monkeypatch.setenv("JRAY_ENVIRONMENT_CACHE_BYTES", "50000")
    cluster = Cluster(jray.init(num_cpus=1).address_info)
    for folder in ("one", "two"):
        (links / folder).mkdir()
        (links / folder / "data").write_bytes(bytes(40_000))
        (links / folder / "where.py").write_text(f"__version__ = {folder!r}\n")

    @jray.remote
    class User:
        def version(self, name: str) -> tuple[str, int]:
            return str(__import__(name).__version__), os.getpid()

    def use(folder: str) -> None:
        archive = links / f"{folder}.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            file.add(links / folder, folder)
        user = User.options(runtime_env={"working_dir": f"file://{archive}"}).remote()
        name, pid = jray.get(user.version.remote("where"))
        assert name == folder
        jray.kill(user)
        wait_gone(pid)

    use("one")
    (first,) = environment_dir(cluster).glob("unpack-*")
    use("two")
    wait_until(lambda: not first.exists(), what="room")
    assert len([path for path in environment_dir(cluster).glob("unpack-*") if path.suffix != ".old"]) == 1
    use("one")


def test_an_interpreter_that_dies_is_started_again(cluster: Cluster, links: Path) -> None:
    """Its tasks run again, and the cluster's own workers go on."""

    @jray.remote(num_cpus=0)
    class Bystander:
        def pid(self) -> int:
            return os.getpid()

    other = Bystander.remote()
    bystander = jray.get(other.pid.remote())
    parent = jray.remote(lambda: os.getppid()).options(runtime_env=tiny(links))
    first = jray.get(parent.remote())
    assert first != cluster.head.pid

    def die() -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()

    with pytest.raises(WorkerCrashedError, match=f"pid {first}"):
        jray.get(jray.remote(max_retries=0)(die).options(runtime_env=tiny(links)).remote())
    assert jray.get(parent.remote()) != first
    assert jray.get(other.pid.remote()) == bystander
    assert len(builds(cluster)) == 1


def test_an_interpreter_that_nobody_uses_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there again for who asks."""
    monkeypatch.setenv("JRAY_INTERPRETER_IDLE_S", "0.2")
    jray.init(num_cpus=1)

    @jray.remote(runtime_env={"py_executable": sys.executable})
    class User:
        def parent(self) -> int:
            return os.getppid()

    user = User.remote()
    first = jray.get(user.parent.remote())
    jray.kill(user)
    wait_gone(first)
    assert jray.get(User.remote().parent.remote()) != first


def test_uv_installs_where_it_is(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told the interpreter, the packages and the options; here pip plays its part."""
    folder = links / "bin"
    folder.mkdir()
    uv = folder / "uv"
    uv.write_text(
        f"""#!{sys.executable}
import os, sys
assert sys.argv[1:4] == ["pip", "install", "--python"], sys.argv
python, options = sys.argv[4], sys.argv[5:]
os.execv(python, [python, "-m", "pip", "install", *options])
"""
    )
    uv.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    jray.init(num_cpus=1)
    environment = installing(
        ["tiny==${TINY_VERSION}"], *found_in(links), tool="uv", env_vars={"TINY_VERSION": "2.0"}
    )
    assert jray.get(version.options(runtime_env=environment).remote("tiny")) == "2.0"


def test_the_log_of_a_build_goes_where_it_is_wanted(cluster: Cluster, links: Path, tmp_path: Path) -> None:
    """That of one that fails, too; a checked environment with a conflict is one."""
    log = tmp_path / "build.log"
    environment = tiny(links, "7.7", config={"log_files": [str(log)]})
    with pytest.raises(RuntimeEnvSetupError):
        jray.get(version.options(runtime_env=environment).remote("tiny"))
    assert "tiny==7.7" in log.read_text()


# -- downloads ------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server of packages: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_request(self, *_: object) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", asked
        web.shutdown()
        thread.join()


def test_a_package_is_downloaded_once(
    cluster: Cluster, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Its only directory is left out, as that of an archive of a repository; what is not there is said."""
    address, asked = server
    with zipfile.ZipFile(tmp_path / "repository.zip", "w") as archive:
        archive.writestr("repository-1.0/there.py", "__version__ = 'downloaded'\n")
        archive.writestr("repository-1.0/data.txt", "data")
    environment = {"working_dir": f"{address}/repository.zip"}
    task = version.options(runtime_env=environment)
    assert jray.get([task.remote("there") for _ in range(3)]) == ["downloaded"] * 3
    listed = jray.remote(lambda: sorted(set(os.listdir(".")) - {"__pycache__"})).options(
        runtime_env=environment
    )
    assert jray.get(listed.remote()) == ["data.txt", "there.py"]
    assert asked == ["/repository.zip"]
    gone = {"working_dir": f"{address}/gone.zip"}
    with pytest.raises(RuntimeEnvSetupError, match=r"gone\.zip cannot be downloaded: HTTP Error 404"):
        jray.get(version.options(runtime_env=gone).remote("there"))


def test_an_archive_cannot_leave_its_directory(cluster: Cluster, tmp_path: Path) -> None:
    """Names that lead out of it end inside, or fail the environment."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../outside.txt", "x")
        archive.writestr("inside.py", "__version__ = 'inside'\n")
    task = version.options(runtime_env={"working_dir": f"file://{tmp_path}/evil.zip"})
    assert jray.get(task.remote("inside")) == "inside"
    link = tarfile.TarInfo("out")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as file:
        file.addfile(link)
    bad = version.options(runtime_env={"working_dir": f"file://{tmp_path}/evil.tar.gz"})
    with pytest.raises(RuntimeEnvSetupError, match="absolute path"):
        jray.get(bad.remote("inside"))
    assert not list(cluster.session_dir.parent.rglob("outside.txt")) or all(
        environment_dir(cluster) in path.parents for path in cluster.session_dir.parent.rglob("outside.txt")
    )


# -- several nodes --------------------------------------------------------------------------------------


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """A head's node of 1 CPU, and one of 1 CPU that has the resource "far"; nobody is connected."""
    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "resources": {"near": 1}})
    made.add_node(num_cpus=1, resources={"far": 1})
    yield made
    jray.shutdown()
    made.shutdown()


def test_each_node_makes_environments_of_its_own(nodes: Nodes, links: Path) -> None:
    """With files that the head hands on in pieces, and packages that are installed once on each."""
    folder = links / "project"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(9 * 2**20))
    (folder / "requirements.txt").write_text("tiny==2.0\n")
    line = "-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/requirements.txt"
    environment = installing([line], *found_in(links), working_dir=str(folder))
    jray.init(address=nodes.address, runtime_env=environment)

    @jray.remote
    def look() -> tuple[str, bytes, str, str]:
        return os.getcwd(), Path("large.bin").read_bytes(), __import__("tiny").__version__, sys.prefix

    asked = [look.options(resources={place: 0.1}) for place in ("near", "far")]
    near, far = jray.get([task.remote() for task in asked])
    assert near[1:3] == far[1:3] == ((folder / "large.bin").read_bytes(), "2.0")
    assert near[0] != far[0]
    assert near[3] != far[3]
    again = jray.get([task.remote() for task in asked])
    assert [row[0] for row in again] == [near[0], far[0]]
    rows = jray.util.state.list_runtime_envs()
    assert len({row.node_id for row in rows}) == len(rows) == 2
    bad = look.options(runtime_env=tiny(links, "9.9"), resources={"far": 0.1})
    with pytest.raises(RuntimeEnvSetupError, match=r"tiny==9\.9"):
        jray.get(bad.remote())


def test_a_node_that_dies_while_it_builds_costs_no_task(nodes: Nodes, slow: Slow) -> None:
    """The others make the environment, too."""
    jray.init(address=nodes.address)
    (far,) = nodes.worker_nodes
    task = version.options(
        runtime_env=slow.environment,
        scheduling_strategy=NodeAffinitySchedulingStrategy(far.node_id, soft=True),
    )
    ref = task.remote("slow")
    pid = slow.pid()
    os.kill(far.pid, signal.SIGKILL)
    wait_gone(pid)
    slow.gate.open()
    assert jray.get(ref) == "1.0"
    nodes.remove_node(far, allow_graceful=False)
