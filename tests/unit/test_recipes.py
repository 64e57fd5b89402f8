"""What runtime environments are made of on a node: who wants the same has the same parts."""

from __future__ import annotations

from typing import Any

from jray._core.environments import normalize
from jray._core.head.packages import Packages
from jray._core.node.recipes import Install, Interpret, Keep, Place, Recipe, Unpack, recipe
from jray._core.worker.surroundings import search_path


def made(**fields: Any) -> Recipe:
    return recipe(normalize(fields), 60.0)


def test_what_is_at_hand_has_no_parts() -> None:
    """Nothing is made for variables."""
    assert made(env_vars={"A": "1"}, config={"setup_timeout_seconds": -1}).parts == ()
    assert made().timeout_s == 600
    assert made(config={"setup_timeout_seconds": -1}).timeout_s is None


def test_each_field_has_its_part() -> None:
    """Interpreters come after what they need."""
    whole = made(
        working_dir="gcs://a.zip",
        py_modules=["local:///b", "https://c/d.whl"],
        pip=["x"],
        worker_process_setup_hook="gcs://h.pkl",
    )
    kinds = [type(whole.orders[key]) for key in whole.keys]
    assert kinds == [Unpack, Place, Unpack, Keep, Install, Interpret]
    assert [part.keep_s for part in whole.parts] == [None, 1.0, None, None, None, 60.0]
    assert whole.parts[-1].needs == (whole.packages,)
    assert whole.interpreter == whole.keys[-1]
    assert made(worker_process_setup_hook="module.function").parts == ()


def test_packages_are_the_same_in_any_order() -> None:
    """Variables count where they change what is installed."""
    plain = made(pip=["x", "y"])
    assert made(pip=["y", "x"], env_vars={"A": "1"}).keys == plain.keys
    assert made(pip=["y", "x"], env_vars={"PIP_INDEX_URL": "u"}).keys != plain.keys
    assert made(pip=["y"]).keys != plain.keys
    assert made(uv=["x", "y"]).packages != plain.packages
    one, two = ({"pip": ["-r ${A}/r.txt"], "env_vars": {"A": text, "B": text}} for text in "12")
    assert made(**one).keys != made(**two).keys


def test_packages_that_refer_to_the_working_directory_need_it() -> None:
    """And are others where that is another."""
    line = "-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/requirements.txt"
    one, two = (made(pip=[line], working_dir=f"gcs://{name}.zip") for name in "ab")
    assert one.packages != two.packages
    assert one.working_dir in {need for part in one.parts for need in part.needs}
    assert made(pip=["x"], working_dir="gcs://a.zip").packages == made(pip=["x"]).packages


def test_an_interpreter_starts_in_the_working_directory() -> None:
    """So that its command may name files of it."""
    whole = made(py_executable="./run.sh -x", working_dir="gcs://a.zip", env_vars={"A": "1"})
    order = whole.orders[whole.interpreter]
    assert isinstance(order, Interpret)
    assert (order.command, order.working_dir, order.variables) == (
        ("./run.sh", "-x"),
        whole.working_dir,
        {"A": "1"},
    )


# -- where imports are looked for -----------------------------------------------------------------------


def test_the_environments_directories_come_first() -> None:
    """Then the driver's, or this process's own where a driver says nothing."""
    assert search_path(["/own"], ["/d", "/p"], ["/m", "/d"], has_own=False) == ["/m", "/d", "/p"]
    assert search_path(["/own"], [], ["/m"], has_own=False) == ["/m", "/own"]


def test_what_an_environment_has_installed_comes_before_what_the_driver_has() -> None:
    """What lies beside the notebook comes before both; the driver's own library is of no use."""
    own = ["/usr/lib/python3.11", "/venv/lib/python3.11/site-packages", "/base/lib/python3.11/site-packages"]
    drivers = [
        "/notebook", "/usr/lib/python311.zip", "/usr/lib/python3.11", "/usr/lib/python3.11/lib-dynload",
        "/base/lib/python3.11/site-packages", "/more/dist-packages",
    ]  # fmt: skip
    assert search_path(own, drivers, ["/work"], has_own=True) == [
        "/work",
        "/notebook",
        *own,
        "/more/dist-packages",
    ]


# -- packages at the head -------------------------------------------------------------------------------


def test_a_package_stays_as_long_as_a_job_needs_it() -> None:
    """What was not sealed is not there; what detached actors need outlives its job."""
    packages = Packages()
    assert not packages.has(b"1", "u")
    packages.put(b"1", "u", b"a")
    packages.put(b"2", "u", b"x")
    packages.put(b"1", "u", b"b")
    assert packages.piece("u", 0) is None
    packages.seal(b"1", "u")
    assert [packages.piece("u", index) for index in (0, 1, 2)] == [b"a", b"b", None]
    assert packages.has(b"2", "u")
    packages.job_gone(b"1", ())
    assert packages.uris() == ["u"]
    packages.job_gone(b"2", {"u"})
    assert packages.uris() == ["u"]
    packages.job_gone(b"", ())
    assert packages.uris() == []


def test_half_a_package_goes_with_its_job() -> None:
    """Whoever sends it again begins anew."""
    packages = Packages()
    packages.put(b"1", "u", b"a")
    assert not packages.has(b"1", "u")
    packages.put(b"1", "u", b"b")
    packages.job_gone(b"1", ())
    packages.seal(b"1", "u")
    assert packages.piece("u", 0) is None
