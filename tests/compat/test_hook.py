"""`import ray` where jray stands for Ray: what the names mean, and in which processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jray import compat
from jray.compat.alias import SITE

Run = Callable[..., str]

pytestmark = pytest.mark.timeout(240)


def test_names_of_ray_are_those_of_jray(run_code: Run) -> None:
    """Every name leads to the very object of jray, so that a class has one identity under both names."""
    run_code("""
        import pickle
        import ray
        from ray.exceptions import RayTaskError
        from ray._raylet import ObjectRef
        import ray.actor, ray.remote_function, ray.util.scheduling_strategies
        import jray, jray.actor, jray.util.scheduling_strategies
        assert ray.ObjectRef is jray.ObjectRef is ObjectRef
        assert ray.actor is jray.actor and ray.util is jray.util
        assert RayTaskError is jray.exceptions.RayTaskError is ray.exceptions.RayTaskError
        assert ray.util.scheduling_strategies is jray.util.scheduling_strategies
        assert jray.actor.__spec__.name == jray.actor.__name__ == "jray.actor"
        assert pickle.loads(b"cray._raylet\\nObjectRef\\n.") is jray.ObjectRef
        assert pickle.loads(b"cray.exceptions\\nGetTimeoutError\\n.") is jray.exceptions.GetTimeoutError
        assert set(jray.__all__) <= set(dir(ray)) and "_core" not in dir(ray)
        namespace = {}
        exec("from ray import *", namespace)
        assert namespace["remote"] is jray.remote
    """)


def test_it_says_it_is_that_version_of_ray(run_code: Run) -> None:
    """Whoever asks, and however, is told the version of Ray whose API this is; jray keeps its own."""
    code = """
        import importlib.metadata, importlib.util
        assert importlib.util.find_spec("ray") is not None
        print(importlib.metadata.version("ray"))
        import ray, jray
        print(ray.__version__)
        assert importlib.util.find_spec("ray") is not None and isinstance(ray.__commit__, str)
        assert jray.__version__ != ray.__version__
    """
    assert run_code(code).split() == [compat.RAY_VERSION] * 2


def test_what_ray_has_and_jray_has_not_is_refused_with_advice(run_code: Run) -> None:
    """An import fails as of something that is not installed, and says more; a question is answered with no."""
    run_code("""
        import importlib.util, pickle
        import ray
        def failing(statement):
            try:
                exec(statement)
            except ImportError as error:
                return error
            raise AssertionError(statement)
        for statement in ("import ray.tune", "from ray import tune", "from ray.tune.schedulers import X",
                          "import ray.data.context", "from ray.util import nothing_of_this_name",
                          "import ray.rllib.no_such_module", "import ray._core", "from ray import notebook"):
            error = failing(statement)
            assert "ray" in str(error), (statement, error)
        error = failing("from ray import tune")
        assert "not part of jray" in str(error) and "task" in str(error) and error.name == "ray", error
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert importlib.util.find_spec("ray.tune") is None
        assert not hasattr(ray, "data") and not hasattr(ray, "_core") and not hasattr(ray, "nonsense")
        try:
            ray.data
        except AttributeError as error:
            assert "not part of jray" in str(error)
        assert importlib.util.find_spec("ray.util") is not None
    """)


def test_workers_import_it_too(run_code: Run) -> None:
    """Tasks, actors, the modules that they import and the processes that they start have it."""
    out = run_code("""
        import os, subprocess, sys
        with open("library.py", "w") as file:
            file.write("import ray\\nfrom ray.util import get_node_ip_address\\ndef ref():\\n    return ray.put(7)\\n")
        sys.path.append(os.getcwd())
        import ray

        @ray.remote
        def task():
            import library
            return ray.get(library.ref()), ray.__version__

        @ray.remote
        class Actor:
            def spawn(self):
                code = "import ray; print(ray.ObjectRef.__name__, ray.__version__)"
                return subprocess.run([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE).stdout

        ray.init(num_cpus=1)
        print(*ray.get(task.remote()))
        print(ray.get(Actor.remote().spawn.remote()), end="")
    """)
    assert out.split() == ["7", compat.RAY_VERSION, "ObjectRef", compat.RAY_VERSION]


def test_it_can_be_installed_while_a_cluster_runs(run_code: Run) -> None:
    """What is submitted after `install` finds `ray`, though the cluster was started without."""
    code = """
        import jray
        jray.init(num_cpus=1)

        @jray.remote
        def version():
            import ray
            from ray.exceptions import RayError
            return ray.__version__

        from jray import compat
        compat.install()
        compat.install()
        import ray

        inside = ray.util

        @ray.remote
        def by_global():
            return ray.__version__ if inside is ray.util else "two"

        print(*ray.get([version.remote(), by_global.remote()]))
    """
    assert run_code(code, compat=False).split() == [compat.RAY_VERSION] * 2


def test_ray_itself_is_not_mixed_in(run_code: Run, tmp_path: Path) -> None:
    """Where another `ray` is installed jray's is taken; where it is imported already the two are not mixed."""
    (tmp_path / "packages" / "ray").mkdir(parents=True)
    (tmp_path / "packages" / "ray" / "__init__.py").write_text("__version__ = 'another'\n")
    path = os.pathsep.join([str(Path(SITE).parents[2]), str(tmp_path / "packages")])
    assert run_code("import ray; print(ray.__version__)", PYTHONPATH=path).split() == [compat.RAY_VERSION]
    code = """
        import ray
        assert ray.__version__ == "another"
        from jray import compat
        try:
            compat.install()
        except RuntimeError as error:
            print("jray.compat" in str(error))
    """
    assert run_code(code, compat=False, PYTHONPATH=path).split() == ["True"]


def test_a_file_of_the_users_that_hides_it_is_named(run: Run, tmp_path: Path) -> None:
    """A program beside a ray.py is told so, and does not run on that."""
    (tmp_path / "ray.py").write_text("")
    (tmp_path / "program.py").write_text("")
    with pytest.raises(AssertionError, match=r"ray\.py.*stands before"):
        run("program.py")


def test_the_runner_runs_programs_as_python_does(run: Run, tmp_path: Path) -> None:
    """A file, a module and a text find the arguments, the name and the path that `python` gives them."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "beside.py").write_text("word = 'beside'\n")
    source = (
        "import sys, atexit\nfrom beside import word\n"
        "def last():\n    print(word, __name__, sys.argv[1:], sys.modules['__main__'].last is last)\n"
        "if __name__ == '__main__':\n    atexit.register(last)\n"
    )
    (folder / "program.py").write_text(source)
    expected = "beside __main__ ['-x', '1'] True\n"
    assert run("folder/program.py", "-x", "1") == expected
    assert run("-c", "import sys; print(__name__, sys.argv)", "a") == "__main__ ['-c', 'a']\n"
    (tmp_path / "module.py").write_text(
        "import sys, ray; print(__name__, sys.argv[1:], ray.is_initialized())"
    )
    assert run("-m", "module", "b") == "__main__ ['b'] False\n"


def test_the_runner_needs_no_installation(tmp_path: Path) -> None:
    """Started in jray's source tree by a bare interpreter, a program elsewhere runs, and its workers too."""
    (tmp_path / "program.py").write_text(
        "import ray\n@ray.remote\ndef f():\n    import ray\n    return ray.__version__\n"
        "ray.init(num_cpus=1)\nprint(ray.get(f.remote()))\n"
    )
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "jray.compat", str(tmp_path / "program.py")],
        env=environment,
        cwd=Path(SITE).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"{compat.RAY_VERSION}\n", 0), done.stderr


@pytest.mark.parametrize("arguments", [(), ("-m",), ("--nonsense",), ("absent.py",)])
def test_the_runner_refuses_what_it_cannot_run(run: Run, arguments: tuple[str, ...]) -> None:
    """It says how it is to be called, or which file it cannot read."""
    with pytest.raises(AssertionError, match=r"usage|absent\.py"):
        run(*arguments)


def test_version_and_metadata_agree() -> None:
    """The three places that tell Ray's version tell one."""
    folder = Path(SITE) / f"ray-{compat.RAY_VERSION}.dist-info"
    assert f"\nVersion: {compat.RAY_VERSION}\n" in (folder / "METADATA").read_text()
    assert f'__version__ = "{compat.RAY_VERSION}"\n' in (Path(SITE) / "ray" / "__init__.py").read_text()


def test_it_does_not_stand_in_where_jray_runs_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Ray as jray's engine `import ray` must stay Ray's."""
    monkeypatch.setenv("JRAY_ENGINE", "ray")
    with pytest.raises(RuntimeError, match="JRAY_ENGINE"):
        compat.install()
    assert SITE not in sys.path


def test_the_stand_in_is_no_ray_to_join(tmp_path: Path) -> None:
    """The engine that needs Ray itself says so, and does not run jray on jray."""
    (tmp_path / "program.py").write_text("import ray, jray\njray.init(engine='ray')\n")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "jray.compat", str(tmp_path / "program.py")],
        env=environment,
        cwd=Path(SITE).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "stand-in" in done.stderr
