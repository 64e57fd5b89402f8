"""docs/ray-api.md: every name of Ray Core that users expect is there and tested, or on the list of what is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from jray import _refusals
from tools import api_names, api_table, api_uses
from tools.api_table import Row
from tools.api_uses import Uses

pytestmark = pytest.mark.timeout(300)

#: how many names of T1 and T2 were still to come when this was last looked at: let it shrink
MOST_PLANNED = 31


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return api_table.rows()


def test_the_page_is_current(rows: list[Row]) -> None:
    """It is what `python tools/api_table.py` makes now."""
    assert api_table.PAGE.read_text() == api_table.make(rows)


def test_no_name_of_the_first_two_tiers_is_missing(rows: list[Row]) -> None:
    """Each is there, or planned."""
    assert [row.name for row in rows if row.is_due] == []


def test_each_name_that_is_there_is_used_by_a_test(rows: list[Row]) -> None:
    """Nothing of the first two tiers is there by its name alone."""
    there = [row for row in rows if row.tier in {"T1", "T2"} and row.status == api_table.YES]
    assert [row.name for row in there if not row.tests] == []


def test_what_is_planned_is_not_there_yet() -> None:
    """What has come leaves the list, and none comes back; the list has names of the inventory alone."""
    planned = api_names.planned()
    assert planned.keys() <= {name for _, name, _ in api_names.inventory()}
    assert [name for name in planned if api_table.status_of(name) == api_table.YES] == []
    assert len(planned) <= MOST_PLANNED


def test_no_name_is_listed_twice() -> None:
    """A name has one tier."""
    names = [name for _, name, _ in api_names.inventory()]
    assert len(names) == len(set(names))


def test_what_is_out_is_refused(rows: list[Row]) -> None:
    """Libraries on top of Ray Core are refused by name."""
    assert {row.status for row in rows if row.tier == "OUT"} == {api_table.REFUSED}


@pytest.mark.parametrize("name", _refusals.REFUSED)
def test_nothing_is_both_there_and_refused(name: str) -> None:
    """A refusal leaves the list when what it refuses comes; each says more than that the name is not there."""
    assert api_table.find(f"jray.{name}") is None
    text = _refusals.advice(name)
    assert text is not None
    assert text.startswith(f"jray.{name} is not part of jray")
    assert text.endswith(".")
    assert len(text) > len(f"jray.{name} is not part of jray.")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("jray.get", "yes"),
        ("jray.no_such_name", "no"),
        ("jray.data", "refused"),
        ("jray.data.range", "refused"),
        ("jray.ObjectRef.hex", "yes"),
        ("jray.ObjectRef.no_such_method", "no"),
        ("jray.session.RayContext.address_info", "yes"),
        ("jray.actor.ActorHandle.__ray_ready__", "yes"),
        ("jray.actor.ActorMethod.bind", "refused"),
        ("jray.get(timeout)", "yes"),
        ("jray.get(no_such_keyword)", "no"),
        ("jray.init(num_cpus)", "yes"),
        ("jray.init(_system_config)", "yes"),
        ("jray.init(local_mode)", "yes"),
        ("jray.init(enable_resource_isolation)", "refused"),
        ("jray.init(no_such_keyword)", "no"),
        ("task(num_cpus)", "yes"),
        ("task(_labels)", "refused"),
        ("actor(max_restarts)", "yes"),
        ("task(max_restarts)", "no"),
        ("runtime_env(env_vars)", "yes"),
        ("runtime_env(no_such_field)", "no"),
        ("$RAY_TASK_MAX_RETRIES", "yes"),
        ("$RAY_NO_SUCH_VARIABLE", "no"),
        ("$ jray no-such-command", "no"),
    ],
)
def test_whether_jray_has_a_name(name: str, status: str) -> None:
    """Names of every form are found, by looking at jray itself."""
    assert api_table.status_of(name) == status


SOURCE = '''
import asyncio
import jray
import jray.util.queue as q
from jray import exceptions
from jray.util import ActorPool as Pool

@jray.remote(num_cpus=2)
def function(): ...

@jray.remote
class Actor:
    @jray.method(num_returns=2)
    def method(self): ...

    def leave(self):
        jray.actor.exit_actor()

Other = jray.remote(Actor)
unused = jray.nodes

def helper(pool):
    return pool.map(function, [1])

@pytest.fixture
def started():
    jray.shutdown()

def test_pool(started):
    return helper(Pool([]))

def test_options(fresh):
    fresh(num_gpus=1)
    function.options(max_retries=3).remote()
    Actor.options(name="x")
    Other.options(lifetime="detached")
    handle.method.options(concurrency_group="io")
    jray.remote(max_restarts=1)(Actor)
    jray.remote(max_calls=1)(lambda: 1)
    jray.get([], timeout=3)
    jray.get_actor("x")

@pytest.mark.parametrize("name", ["GetTimeoutError"])
def test_by_text(name):
    getattr(exceptions, name)
    os.environ["RAY_X"]

async def test_syntax(ref):
    await ref
    with jray.init(): pass

def test_program():
    run("""
        import jray
        jray.put(1)
    """)

def test_nothing():
    "jray.kill is only spoken of"
    q
'''


@pytest.fixture(scope="module")
def uses() -> dict[str, Uses]:
    return dict(api_uses.tests_of(SOURCE))


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("test_pool", "jray.util.ActorPool"),
        ("test_pool", "jray.util.ActorPool.map"),
        ("test_pool", "task(num_cpus)"),
        ("test_pool", "jray.shutdown"),
        ("test_options", "jray.init"),
        ("test_options", "jray.init(num_gpus)"),
        ("test_options", "task(max_retries)"),
        ("test_options", "task(max_calls)"),
        ("test_options", "actor(name)"),
        ("test_options", "actor(lifetime)"),
        ("test_options", "actor(max_restarts)"),
        ("test_options", "method(concurrency_group)"),
        ("test_options", "method(num_returns)"),
        ("test_options", "jray.get(timeout)"),
        ("test_options", "jray.get_actor(name)"),
        ("test_by_text", "jray.exceptions.GetTimeoutError"),
        ("test_by_text", "$RAY_X"),
        ("test_program", "jray.put"),
        ("test_nothing", "jray.util.queue"),
        ("test_syntax", "jray.session.RayContext.__enter__"),
    ],
)  # fmt: skip
def test_a_use_is_found(uses: dict[str, Uses], test: str, name: str) -> None:
    """Whatever name it was imported by, and through the module's own helpers, fixtures and programs in strings."""
    assert api_table.is_used(name, uses[test])


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("test_pool", "jray.nodes"),
        ("test_pool", "jray.util.ActorPool.submit"),
        ("test_pool", "jray.init"),
        ("test_options", "task(name)"),
        ("test_options", "actor(max_retries)"),
        ("test_options", "jray.get_actor(namespace)"),
        ("test_options", "jray.actor.exit_actor"),
        ("test_nothing", "jray.kill"),
        ("test_nothing", "jray.util.queue.Queue"),
        ("test_program", "jray.get"),
    ],
)
def test_no_use_is_made_up(uses: dict[str, Uses], test: str, name: str) -> None:
    """What a test neither calls nor reads does not count, however near it stands."""
    assert not api_table.is_used(name, uses[test])


def test_all_tests_are_read(tmp_path: Path) -> None:
    """Tests are named as pytest names them."""
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_x.py").write_text("def test_one(): ...\ndef helper(): ...\n")
    assert list(api_uses.all_tests(tmp_path)) == ["unit/test_x.py::test_one"]


def test_the_page_shows_each_name_once() -> None:
    """A row has the name, its tier, its status and its first tests."""
    made = api_table.make([Row("Top level", "jray.get", "T1", "yes", ("a.py::b", "c.py::d", "e.py::f"))])
    assert "| `jray.get` | T1 | yes | `a.py::b`<br>`c.py::d`<br>and more |" in made
    assert "| T1 | 1 | 1 | 0 | 0 | 0 | 1 |" in made
