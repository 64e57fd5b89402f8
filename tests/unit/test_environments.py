"""Runtime environments merge as in Ray; what is wrong, or cannot be made, is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jray._core.environments import as_dict, ending, is_at_hand, normalize, parse, redacted, uris_of


class Packer:
    """Stands for what makes packages: names what it was asked for."""

    def directory(self, path: str, excludes: Sequence[str], *, keeps_name: bool) -> str:
        kept = "named" if keeps_name else "plain"
        return f"gcs://{kept}-{Path(path).name}-{'+'.join(excludes)}.zip"

    def file(self, path: str) -> str:
        return f"gcs://file-{Path(path).name}.zip"

    def function(self, function: Callable[[], Any]) -> str:
        return f"gcs://hook-{function.__name__}.pkl"


def merged(own: dict[str, Any] | None, parent: dict[str, Any] | None = None) -> dict[str, Any]:
    return as_dict(normalize(own, normalize(parent, (), Packer()), Packer()))


def test_environments_are_equal_by_content() -> None:
    """The form is hashable, and neither order nor empty parts make a difference."""
    first = normalize({"env_vars": {"A": "1", "B": "2"}, "pip": ["x"]})
    second = normalize(
        {"pip": {"packages": ["x", "x"], "pip_check": False}, "env_vars": {"B": "2", "A": "1"}}
    )
    assert first == second
    assert hash(first) == hash(second)
    empty: list[dict[str, Any] | None] = [
        None, {}, {"env_vars": None}, {"env_vars": {}}, {"pip": []}, {"py_modules": []}, {"config": {}}, {"excludes": []},
    ]  # fmt: skip
    assert {normalize(each) for each in empty} == {()}


def test_variables_merge_key_by_key_and_other_fields_replace() -> None:
    """The child's count more (Ray's rule); an interpreter comes from one place only."""
    parent = {"env_vars": {"A": "1", "B": "2"}, "pip": ["x"], "config": {"setup_timeout_seconds": 5}}
    assert merged({"env_vars": {"B": "3", "C": "4"}}, parent)["env_vars"] == {"A": "1", "B": "3", "C": "4"}
    assert merged(None, parent) == as_dict(normalize(parent))
    child = merged({"pip": ["y"]}, parent)
    assert child["pip"] == {"packages": ["y"], "pip_check": False}
    assert child["config"]["setup_timeout_seconds"] == 5
    assert merged({"uv": ["y"]}, parent).keys() == {"env_vars", "uv", "config"}
    assert merged({"py_executable": "python -X dev"}, parent).keys() == {
        "env_vars",
        "py_executable",
        "config",
    }


def test_what_is_local_becomes_a_package(tmp_path: Path) -> None:
    """Directories, files, modules and functions; what `excludes` says is for these alone."""
    (tmp_path / "module.py").touch()
    (tmp_path / "work.zip").touch()

    def hook() -> None: ...

    environment = {
        "working_dir": tmp_path,
        "py_modules": [str(tmp_path), tmp_path / "module.py", "file:///x.whl"],
        "excludes": ["a", "b"],
        "worker_process_setup_hook": hook,
    }
    assert merged(environment) == {
        "working_dir": f"gcs://plain-{tmp_path.name}-a+b.zip",
        "py_modules": [f"gcs://named-{tmp_path.name}-a+b.zip", "gcs://file-module.py.zip", "file:///x.whl"],
        "worker_process_setup_hook": "gcs://hook-hook.pkl",
    }
    normal = normalize(environment, (), Packer())
    assert uris_of(normal) == [
        f"gcs://plain-{tmp_path.name}-a+b.zip",
        "gcs://hook-hook.pkl",
        *as_dict(normal)["py_modules"],
    ]
    assert normalize({}, normal) == normal
    assert merged({"working_dir": str(tmp_path / "work.zip")}) == {"working_dir": "gcs://file-work.zip.zip"}


def test_modules_are_named_by_themselves() -> None:
    """A package is its directory, a module its file."""
    import json  # noqa: PLC0415
    import textwrap  # noqa: PLC0415

    assert parse({"py_modules": [json, textwrap]}) == {
        "py_modules": [str(Path(json.__file__).parent), textwrap.__file__]
    }


def test_requirements_are_read_from_a_file(tmp_path: Path) -> None:
    """Here, where the file is; comments and empty lines are left out."""
    file = tmp_path / "requirements.txt"
    file.write_text("# what is needed\nx==1\n\n  y\n")
    for value in (str(file), {"packages": str(file)}):
        assert parse({"pip": value})["pip"]["packages"] == ["x==1", "y"]


def test_files_of_requirements_are_read_here(tmp_path: Path) -> None:
    """Also those that they name, each once; one whose name has a variable is the node's."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("x\n-r sub/b.txt\n--requirement=a.txt\n-r ${A}/c.txt\n")
    (tmp_path / "sub" / "b.txt").write_text("y\n-r ../a.txt\n")
    packages = parse({"uv": ["z", f"-r {tmp_path}/a.txt"]})["uv"]["packages"]
    assert packages[:3] == ["z", "x", "y"]
    assert packages[-1] == "-r ${A}/c.txt"


def test_a_local_archive_that_is_built_anew_is_another(tmp_path: Path) -> None:
    """Whatever its name; of others nothing is noted."""
    wheel = tmp_path / "x-1-py3-none-any.whl"
    seen = set()
    for content in (b"1", b"22"):
        wheel.write_bytes(content)
        seen |= {normalize({"pip": [line]}) for line in (str(wheel), f"x @ file://{wheel}")}
    assert len(seen) == 4
    assert as_dict(normalize({"pip": ["x"]}))["pip"].keys() == {"packages", "pip_check"}


def test_credentials_are_not_told() -> None:
    """Names and addresses are."""
    assert redacted("x @ git+https://me:secret@host/a@b") == "x @ git+https://...@host/a@b"
    assert redacted("x==1") == "x==1"


def test_what_needs_nothing_made_is_at_hand() -> None:
    """A worker starts in it at once."""
    assert is_at_hand(normalize({"env_vars": {"A": "1"}, "config": {"eager_install": False}}))
    assert not is_at_hand(normalize({"py_executable": sys.executable}))


@pytest.mark.parametrize(
    ("uri", "end"),
    [
        ("https://a/b.zip?x=1.whl", ".zip"),
        ("file:///a.tar.gz", ".tar.gz"),
        ("gcs://x.whl", ".whl"),
        ("/a/b.py", ""),
    ],
)
def test_the_ending_says_how_a_package_is_unpacked(uri: str, end: str) -> None:
    """That of the path, where a URI has more than that."""
    assert ending(uri) == end


@pytest.mark.parametrize(
    ("environment", "error", "message"),
    [
        ({"conda": "x"}, NotImplementedError, r"\{'conda': \.\.\.\} is not supported.*'pip' or 'uv'"),
        ({"image_uri": "x"}, NotImplementedError, "start the notebook, or the cluster, in that image"),
        ({"container": {}}, NotImplementedError, "in that image"),
        ({"java_jars": ["x"]}, NotImplementedError, "no Java"),
        ({"env_var": {}}, ValueError, "unknown field 'env_var'.*jray knows config, env_vars"),
        ({"env_vars": {"A": 1}}, TypeError, r"must map str to str, got 'A': 1 \(str to int\)"),
        ({"env_vars": {1: "A"}}, TypeError, r"\(int to str\)"),
        ({"env_vars": ["A=1"]}, TypeError, r"must be a dict of str to str, got \['A=1'\]"),
        ({"env_vars": {"": "x"}}, ValueError, "'': 'x', which cannot be an environment variable"),
        ({"env_vars": {"A=B": "x"}}, ValueError, "cannot be an environment variable"),
        ({"env_vars": {"A": "x\0y"}}, ValueError, "neither may hold a zero byte"),
        ({"env_vars": {"A": "\ud800"}}, ValueError, "cannot be encoded"),
        ("pip", TypeError, "runtime_env must be a dict, got 'pip'"),
        ({"working_dir": 1}, TypeError, r"must be a path or a URI, got 1 \(int\)"),
        ({"working_dir": "."}, ValueError, r"only supported at the job level.*local:///"),
        ({"working_dir": "s3://a/b.zip"}, NotImplementedError, "does not fetch from s3://; give an https://"),
        ({"working_dir": "ftp://a/b.zip"}, ValueError, "unknown scheme ftp://"),
        ({"working_dir": "https://a/b.whl"}, ValueError, r"only packages that end in \.zip"),
        ({"working_dir": "local://a"}, ValueError, "must be absolute"),
        ({"py_modules": "x"}, TypeError, "must be a list of paths, URIs or modules"),
        ({"py_modules": [1]}, TypeError, r"must hold paths, URIs or modules, got 1 \(int\)"),
        ({"py_modules": [sys]}, ValueError, "module sys, which lies in 1 places"),
        ({"py_modules": ["x"]}, ValueError, "'py_modules'.*job level"),
        ({"excludes": "x"}, TypeError, "must be a list of str, got 'x'"),
        ({"pip": 1}, TypeError, r"must be a list of packages.* got 1 \(int\)"),
        ({"pip": [1]}, TypeError, "must be a list of str"),
        ({"pip": {}}, ValueError, "must have 'packages'"),
        (
            {"pip": {"packages": ["x"], "check": True}},
            ValueError,
            "has 'check'; it may have packages, pip_check",
        ),
        ({"pip": {"packages": ["x"], "pip_check": 1}}, TypeError, "must be of type bool, got 1"),
        ({"uv": {"packages": ["x"], "uv_version": 1}}, TypeError, "must be of type str"),
        ({"uv": {"packages": ["x"], "uv_pip_install_options": "-q"}}, TypeError, "must be a list of str"),
        (
            {"pip": "no_such.txt"},
            ValueError,
            "requirements file .*no_such.txt', which cannot be read: No such file",
        ),
        ({"pip": ["x"], "uv": ["x"]}, ValueError, "has pip and uv, and each would choose the interpreter"),
        ({"py_executable": " "}, ValueError, "must name an interpreter"),
        ({"py_executable": ["python"]}, TypeError, "must be of type str"),
        ({"worker_process_setup_hook": 1}, TypeError, "must be a function, or the name of one"),
        ({"worker_process_setup_hook": "a-b"}, ValueError, "is no name of a function"),
        ({"worker_process_setup_hook": print}, ValueError, "only supported at the job level"),
        ({"config": {"timeout": 1}}, ValueError, "has 'timeout'; it may have setup_timeout_seconds"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "must be above 0, or -1, got 0"),
    ],
)
def test_what_no_worker_can_have_is_refused(environment: Any, error: type[Exception], message: str) -> None:
    """Before a worker dies of it, with what to do instead."""
    with pytest.raises(error, match=message):
        normalize(environment)


@pytest.mark.parametrize("field", ["working_dir", "py_modules"])
def test_what_is_not_there_is_refused(field: str, tmp_path: Path) -> None:
    """Before there is a cluster, naming the path."""
    path = str(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"nothing.*must be an existing directory"):
        normalize({field: path if field == "working_dir" else [path]}, (), Packer())
