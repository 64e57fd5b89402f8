"""Environment variables of tasks and actors: `runtime_env={"env_vars": ...}`."""

from __future__ import annotations

import os
from typing import Any

import pytest

import jray

pytestmark = pytest.mark.usefixtures("cluster")


def env(**variables: str) -> dict[str, Any]:
    return {"env_vars": variables}


@jray.remote
def read(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@jray.remote
class Reader:
    def read(self, *names: str) -> list[str | None]:
        return [os.environ.get(name) for name in names]

    def pid(self) -> int:
        return os.getpid()


@pytest.mark.sentences("S40", "S42")
def test_a_task_has_its_variables() -> None:
    """The variables are there in that task, and in no other."""
    assert jray.get(read.options(runtime_env=env(COLOUR="red")).remote("COLOUR")) == ["red"]
    assert jray.get(read.remote("COLOUR")) == [None]
    assert "COLOUR" not in os.environ


@pytest.mark.sentences("S40", "S42")
def test_an_actor_has_its_variables() -> None:
    """An actor's variables last for its life."""
    reader = Reader.options(runtime_env=env(COLOUR="blue")).remote()
    assert jray.get([reader.read.remote("COLOUR"), reader.read.remote("COLOUR")]) == [["blue"]] * 2
    assert jray.get(Reader.remote().read.remote("COLOUR")) == [None]


@pytest.mark.sentences("S37")
def test_workers_are_not_shared_between_environments() -> None:
    """Tasks with different variables run in different processes."""
    pid = jray.remote(lambda: os.getpid())
    one, two = env(COLOUR="one"), env(COLOUR="two")
    pids = [
        {jray.get(pid.options(runtime_env=each).remote()) for _ in range(3)}
        if each
        else {jray.get(pid.remote())}
        for each in (one, two, None)
    ]
    assert not pids[0] & pids[1]
    assert not (pids[0] | pids[1]) & pids[2]


@pytest.mark.sentences("S42")
def test_children_inherit() -> None:
    """A task's children have its variables; those they are given are merged over them, key by key."""

    @jray.remote
    def parent() -> list[Any]:
        return jray.get(
            [
                read.remote("COLOUR", "SHAPE"),
                read.options(runtime_env=env(SHAPE="round")).remote("COLOUR", "SHAPE"),
                read.options(runtime_env=env(COLOUR="black")).remote("COLOUR", "SHAPE"),
            ]
        )

    seen = jray.get(parent.options(runtime_env=env(COLOUR="red", SHAPE="flat")).remote())
    assert seen == [["red", "flat"], ["red", "round"], ["black", "flat"]]


@pytest.mark.sentences("S42")
def test_the_job_gives_variables_to_all(fresh: Any) -> None:
    """`init(runtime_env=...)` is for every task and actor; a task's own are merged over it."""
    fresh(runtime_env=env(COLOUR="job", SHAPE="job"))
    reader = Reader.remote()
    assert jray.get(read.remote("COLOUR", "SHAPE")) == ["job", "job"]
    assert jray.get(reader.read.remote("COLOUR", "SHAPE")) == ["job", "job"]
    assert jray.get(read.options(runtime_env=env(SHAPE="own")).remote("COLOUR", "SHAPE")) == ["job", "own"]


@pytest.mark.sentences("S42", "S148")
@pytest.mark.parametrize("variables", [{"A": 1}, {1: "a"}, "A=1"], ids=str)
def test_variables_must_be_text(variables: Any) -> None:
    """Anything but a dict of str to str raises TypeError."""
    with pytest.raises(TypeError):
        read.options(runtime_env={"env_vars": variables}).remote("A")
