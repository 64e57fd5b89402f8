"""Runtime environments: files, packages, interpreters and hooks of jobs, actors and tasks."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jray
import jray.util.state
from jray.exceptions import RuntimeEnvSetupError
from jray.runtime_env import RuntimeEnv
from tests.behaviour.support import Bench
from tests.behaviour.wheels import found_in, installing, make_wheel

# installing takes seconds, and many more on a machine that is busy
pytestmark = pytest.mark.timeout(240)


@jray.remote
def version(name: str) -> str:
    return str(importlib.import_module(name).__version__)


@jray.remote
def prefix() -> tuple[str, int]:
    return sys.prefix, os.getpid()


@jray.remote
class Importer:
    def version(self, name: str) -> str:
        return str(importlib.import_module(name).__version__)

    def version_in_a_task(self, name: str) -> str:
        return str(jray.get(version.remote(name)))


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two versions of a package."""
    folder = tmp_path_factory.mktemp("links")
    for number in ("1.0", "2.0"):
        make_wheel(folder, "tiny", number)
    return folder


def tiny(links: Path, number: str, **fields: Any) -> dict[str, Any]:
    return installing([f"tiny=={number}"], *found_in(links), **fields)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory of a user: code, data, and what is not to be sent."""
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("from package.part import __version__\n")
    (folder / "package" / "part.py").write_text("__version__ = 'of the package'\n")
    (folder / "beside.py").write_text("__version__ = 'beside'\n")
    (folder / "data.txt").write_text("data")
    (folder / "secret.txt").write_text("secret")
    (folder / "large.bin").write_bytes(bytes(1000))
    (folder / ".gitignore").write_text("secret.txt\n")
    return folder


# -- files ----------------------------------------------------------------------------------------------


@pytest.mark.sentences("S38", "S42")
def test_a_job_has_a_working_directory(fresh: Callable[..., Any], project: Path) -> None:
    """All tasks and actors run in a copy of it, and import from it; what is excluded is not there."""
    fresh(runtime_env={"working_dir": str(project), "excludes": ["large.bin"]})

    @jray.remote
    def look() -> tuple[str, list[str], str]:
        return os.getcwd(), sorted(os.listdir(".")), Path("data.txt").read_text()

    place, names, data = jray.get(look.remote())
    assert (data, names) == ("data", [".gitignore", "beside.py", "data.txt", "package"])
    assert place != str(project)
    actor = Importer.remote()
    calls = [actor.version.remote("package"), actor.version_in_a_task.remote("beside")]
    assert jray.get([*calls, version.remote("beside")]) == ["of the package", "beside", "beside"]
    # a task with variables of its own runs in the same copy
    assert jray.get(look.options(runtime_env={"env_vars": {"A": "1"}}).remote())[0] == place
    assert str(jray.get_runtime_context().runtime_env["working_dir"]).startswith("gcs://")


@pytest.mark.sentences("S42")
def test_a_job_has_modules(fresh: Callable[..., Any], project: Path, tmp_path: Path) -> None:
    """Directories, files, wheels and modules that are imported here are found by the imports of its tasks."""
    imported = tmp_path / "elsewhere" / "imported_here"
    imported.mkdir(parents=True)
    (imported / "__init__.py").write_text("__version__ = 'imported'\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(imported.parent))
        module = importlib.import_module("imported_here")
    try:
        wheel = make_wheel(tmp_path, "wheeled", "3.0")
        modules = [str(project / "package"), str(project / "beside.py"), str(wheel), module]
        fresh(runtime_env={"py_modules": modules})
        names = ["package", "beside", "wheeled", "imported_here"]
        found = jray.get([version.remote(name) for name in names])
        assert found == ["of the package", "beside", "3.0", "imported"]
    finally:
        del sys.modules["imported_here"]


@pytest.mark.usefixtures("cluster")
@pytest.mark.sentences("S38", "S42")
def test_a_task_runs_in_a_directory_of_the_node(project: Path) -> None:
    """It is named by a URI, and used as it is."""

    @jray.remote
    def look() -> str:
        return os.getcwd()

    there = look.options(runtime_env={"working_dir": f"local://{project}"})
    assert jray.get(there.remote()) == str(project)
    assert jray.get(look.remote()) != str(project)
    modules = {"py_modules": [f"local://{project}"]}
    assert jray.get(version.options(runtime_env=modules).remote("beside")) == "beside"


@pytest.mark.usefixtures("cluster")
@pytest.mark.sentences("S43")
def test_a_directory_that_is_missing_fails_its_tasks_only(tmp_path: Path) -> None:
    """And the error names it."""
    gone = {"working_dir": f"local://{tmp_path}/gone"}
    with pytest.raises(RuntimeEnvSetupError, match="gone"):
        jray.get(prefix.options(runtime_env=gone).remote())
    assert jray.get(prefix.remote())


@pytest.mark.usefixtures("cluster")
def test_local_directories_are_for_jobs(project: Path) -> None:
    """A task or an actor that names one is told so."""
    for environment in ({"working_dir": str(project)}, {"py_modules": [str(project)]}):
        with pytest.raises(ValueError, match="job level"):
            prefix.options(runtime_env=environment).remote()
        with pytest.raises(ValueError, match="job level"):
            Importer.options(runtime_env=environment).remote()


@pytest.mark.parametrize("field", ["working_dir", "py_modules"])
def test_a_job_is_refused_a_directory_that_is_not_there(
    fresh: Callable[..., Any], tmp_path: Path, field: str
) -> None:
    """Before anything is started; a RuntimeEnv says so where it is made."""
    path = str(tmp_path / "nothing")
    value = path if field == "working_dir" else [path]
    with pytest.raises(ValueError, match="nothing"):
        fresh(runtime_env={field: value})
    assert not jray.is_initialized()
    with pytest.raises(ValueError, match="nothing"):
        RuntimeEnv(**{field: value})  # type: ignore[arg-type]


@pytest.mark.only("jray", "Ray has a limit that no variable lowers")
def test_a_package_that_is_too_large_is_refused(
    fresh: Callable[..., Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started, naming the largest files."""
    monkeypatch.setenv("JRAY_PACKAGE_MAX_BYTES", "900")
    with pytest.raises(ValueError, match=r"limit is 0 MiB. The largest files are:\n.*large\.bin"):
        fresh(runtime_env={"working_dir": str(project)})
    assert not jray.is_initialized()


# -- packages -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cluster")
@pytest.mark.sentences("S37", "S42", "S44")
def test_two_versions_of_a_package_side_by_side(links: Path) -> None:
    """Tasks and actors have those they ask for, children what their parents have; the same is made once."""
    one, two = tiny(links, "1.0"), tiny(links, "2.0")
    refs = [version.options(runtime_env=env).remote("tiny") for env in (one, two)]
    actor = Importer.options(runtime_env=two).remote()
    refs += [actor.version.remote("tiny"), actor.version_in_a_task.remote("tiny")]
    assert jray.get(refs) == ["1.0", "2.0", "2.0", "2.0"]
    with pytest.raises(ModuleNotFoundError):
        jray.get(version.remote("tiny"))
    again = {**tiny(links, "1.0"), "env_vars": {"A": "1"}}
    (place, pid), (same, other) = (jray.get(prefix.options(runtime_env=env).remote()) for env in (one, again))
    assert place == same != sys.prefix
    assert pid != other
    # what this Python has is there, too
    assert jray.get(version.options(runtime_env=one).remote("cloudpickle"))


@pytest.mark.usefixtures("cluster")
@pytest.mark.sentences("S43")
def test_what_cannot_be_installed_fails_its_tasks_and_actors_only(links: Path) -> None:
    """With the end of the log; the others go on."""
    bad = tiny(links, "9.9")
    ref = version.options(runtime_env=bad).remote("tiny")
    assert jray.get(prefix.remote())
    with pytest.raises(RuntimeEnvSetupError, match=r"tiny==9\.9"):
        jray.get(ref)
    actor = Importer.options(runtime_env=bad).remote()
    with pytest.raises(RuntimeEnvSetupError, match=r"tiny==9\.9"):
        jray.get(actor.version.remote("tiny"))


@pytest.mark.sentences("S42", "S44")
def test_requirements_lie_in_the_working_directory(
    fresh: Callable[..., Any], links: Path, project: Path
) -> None:
    """The job's packages are made before its tasks ask for them, and may be listed in a file of the job."""
    (project / "requirements.txt").write_text("tiny==2.0\n")
    line = "-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/requirements.txt"
    fresh(runtime_env={**installing([line], *found_in(links)), "working_dir": str(project)})
    assert jray.get([version.remote("tiny"), version.remote("beside")]) == ["2.0", "beside"]


# -- interpreters ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cluster")
def test_a_task_runs_in_another_interpreter() -> None:
    """Any command that runs Python, with arguments of its own."""

    @jray.remote
    def look() -> tuple[bool, str]:
        return sys.flags.dev_mode, sys.executable

    other = look.options(runtime_env={"py_executable": f"{sys.executable} -X dev"})
    assert jray.get([other.remote(), look.remote()]) == [(True, sys.executable), (False, sys.executable)]


@pytest.mark.usefixtures("cluster")
@pytest.mark.only("jray", "in Ray such tasks wait for ever")
@pytest.mark.sentences("S43")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-python", "No such file"),
        ("/bin/true", "exited with code 0"),
        (f"{sys.executable} -c 'raise SystemExit(\"not today\")'", "not today"),
    ],
)
def test_an_interpreter_that_does_not_start_fails_its_tasks(command: str, message: str) -> None:
    """With what it said."""
    with pytest.raises(RuntimeEnvSetupError, match=message):
        jray.get(prefix.options(runtime_env={"py_executable": command}).remote())


# -- hooks and settings ---------------------------------------------------------------------------------


@pytest.mark.sentences("S42")
def test_each_worker_calls_the_setup_hook_first(fresh: Callable[..., Any], bench: Bench) -> None:
    """A function of the driver; what it changes is there when the first task runs."""
    calls = bench.tally()

    def hook() -> None:
        os.environ["SET_BY_HOOK"] = "yes"
        calls.add(os.getpid())

    fresh(runtime_env={"worker_process_setup_hook": hook})

    @jray.remote
    def look() -> tuple[str | None, int]:
        return os.environ.get("SET_BY_HOOK"), os.getpid()

    said, pid = jray.get(look.remote())
    assert said == "yes"
    assert calls.notes().count(pid) == 1


@pytest.mark.only("jray", "Ray takes a hook for a job alone, and its workers die of one that raises")
@pytest.mark.usefixtures("cluster")
@pytest.mark.sentences("S43")
def test_a_hook_that_raises_fails_its_tasks_only(project: Path) -> None:
    """With the traceback; a hook may be named as well, and be a task's or an actor's own."""

    def hook() -> None:
        raise ValueError("on purpose")

    with pytest.raises(RuntimeEnvSetupError, match="ValueError: on purpose"):
        jray.get(prefix.options(runtime_env={"worker_process_setup_hook": hook}).remote())
    (project / "hooks.py").write_text("import sys\ndef begin(): sys.begun = True\n")
    named = {"worker_process_setup_hook": "hooks.begin", "working_dir": f"local://{project}"}
    begun = jray.remote(lambda: getattr(sys, "begun", False))
    assert jray.get(begun.options(runtime_env=named).remote())
    with pytest.raises(RuntimeEnvSetupError, match="No module named 'nowhere'"):
        jray.get(begun.options(runtime_env={"worker_process_setup_hook": "nowhere.begin"}).remote())


@pytest.mark.only("jray", "Ray's agent takes many seconds to give up")
@pytest.mark.usefixtures("cluster")
def test_who_waits_too_long_for_an_environment_is_told(tmp_path: Path) -> None:
    """Once `setup_timeout_seconds` are over; others go on."""
    script = tmp_path / "endless"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o700)
    endless = {"py_executable": str(script), "config": {"setup_timeout_seconds": 1}}
    ref = prefix.options(runtime_env=endless).remote()
    assert jray.get(prefix.remote())
    with pytest.raises(RuntimeEnvSetupError, match=r"not ready within 1 s.*setup_timeout_seconds"):
        jray.get(ref)


@pytest.mark.usefixtures("cluster")
def test_the_code_that_runs_is_told_its_environment(project: Path) -> None:
    """By the runtime context, and by the state API."""
    environment = {"working_dir": f"local://{project}", "env_vars": {"A": "1"}}

    @jray.remote
    def told() -> dict[str, Any]:
        return dict(jray.get_runtime_context().runtime_env)

    assert jray.get(told.options(runtime_env=environment).remote()) == environment
    rows = [row for row in jray.util.state.list_runtime_envs(detail=True) if row.runtime_env == environment]
    assert rows
    assert all(row.success for row in rows)


@pytest.mark.only("jray", "Ray has conda and containers")
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("field", ["conda", "container", "image_uri"])
def test_what_jray_cannot_make_is_refused_by_name(field: str) -> None:
    """With what to use instead."""
    with pytest.raises(NotImplementedError, match=rf"{field}.*; (install|start)"):
        prefix.options(runtime_env={field: "x"}).remote()


def test_an_environment_object_tells_its_parts(project: Path) -> None:
    """In plain form, whatever form it was given in."""
    env = RuntimeEnv(pip=["a", "a"], working_dir=str(project), config={"setup_timeout_seconds": 5})
    assert env["pip"]["packages"] == ["a"]
    assert env["pip"]["pip_check"] is False
    assert (env.has_pip(), env.has_uv(), env.has_conda(), env.has_working_dir()) == (True, False, False, True)
    assert env.working_dir() == env.working_dir_uri() == str(project)
    assert (env.pip_config()["packages"], env.uv_config()) == (["a"], {})
    assert (env.py_modules(), env.py_modules_uris(), env.py_executable(), env.image_uri()) == (
        [],
        [],
        None,
        None,
    )
    env["uv"] = []
    assert "uv" not in env
    assert RuntimeEnv.deserialize(RuntimeEnv(uv=["b"]).serialize()).uv_config()["packages"] == ["b"]
