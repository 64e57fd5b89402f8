"""Everything that tasks wrote: kept on disk, found by task, within a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jray._core.frontend import Output, OutputKind
from jray.notebook.task_logs import DEFAULT_LIMIT, LoggedTasks, TaskLog, TaskLogs, _Volume, limit_from_environ


def said(text: str, task: str = "aa11", kind: str = OutputKind.STDOUT, name: str = "f") -> Output:
    data = {"data": {"text/plain": text}} if kind == OutputKind.DISPLAY else None
    return Output(1, kind, "" if data else text, data, name, 9, task)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., TaskLogs]]:
    made: list[TaskLogs] = []

    def make(limit_bytes: int = 1_000_000) -> TaskLogs:
        made.append(TaskLogs(lambda: str(tmp_path), limit_bytes))
        return made[-1]

    yield make
    for logs in made:
        logs.close()
    assert list(tmp_path.iterdir()) == []


def test_each_tasks_text_is_found_whole_and_in_order(make: Callable[..., TaskLogs]) -> None:
    """Whoever wrote in between; by the beginning of its id."""
    logs = make()
    for number in range(1000):
        logs.add(said(f"{number}\n", task=f"{'ab'[number % 2]}c"))
    log = logs.of("a")
    assert isinstance(log, TaskLog)
    assert str(log) == "".join(f"{number}\n" for number in range(0, 1000, 2))
    assert log.task.task_id == "ac"
    assert str(logs.of("b", tail=2)) == "997\n999\n"


def test_streams_are_told_apart_and_displays_are_kept_as_text(make: Callable[..., TaskLogs]) -> None:
    """Together in the order they came in, or one by one; notices are not a task's words."""
    logs = make()
    logs.add(said("out\n"))
    logs.add(said("err\n", kind=OutputKind.STDERR))
    logs.add(said("<Figure>", kind=OutputKind.DISPLAY))
    logs.add(said("jray says\n", kind=OutputKind.NOTICE))
    log = logs.of("aa11")
    assert isinstance(log, TaskLog)
    assert log.text == "out\nerr\n<Figure>\n"
    assert log.stream("stderr") == "err\n"
    with pytest.raises(ValueError, match="must be one of stdout, stderr, display"):
        log.stream("log")


def test_what_each_task_wrote_last_is_told_without_reading_all_again(
    make: Callable[..., TaskLogs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest first; also when the oldest half has gone."""
    logs = make(limit_bytes=2000)
    assert logs.last_lines(10) == []
    logs.add(said("one\ntwo\n\n", task="a", name="f"))
    logs.add(said("three\n", task="b", name="g"))
    logs.add(said("four", task="a", name="f"))

    def told() -> list[tuple[str, str, int, str]]:
        return [(task.task_id, task.name, task.size_bytes, line) for task, line in logs.last_lines(10)]

    assert told() == [("a", "f", 13, "four"), ("b", "g", 6, "three")]
    assert logs.last_lines(1)[0][0].task_id == "a"
    read = []
    pieces = _Volume.pieces

    def counted(volume: _Volume, first: int = 0) -> Iterator[Any]:
        for piece in pieces(volume, first):
            read.append(piece)
            yield piece

    monkeypatch.setattr(_Volume, "pieces", counted)
    logs.add(said("fi", task="b", name="g"))
    logs.add(said("ve", task="b", name="g"))
    logs.add(said("\n", task="b", name="g"))
    assert told() == [("b", "g", 11, "five"), ("a", "f", 13, "four")]
    assert len(read) == 3
    for number in range(30):
        logs.add(said("x" * 100, task=f"c{number}"))
    assert {task for task, *_ in told()} == {f"c{number}" for number in range(20, 30)}
    assert [task.task_id for task in logs.tasks()][-1] == "c29"
    assert "b" not in {task.task_id for task in logs.tasks()}


def test_without_a_task_they_are_listed(make: Callable[..., TaskLogs]) -> None:
    """With names and sizes, also as a table; names are escaped."""
    logs = make()
    assert "No task has written" in repr(logs.of())
    logs.add(said("x" * 2048, name="<b>"))
    listed = logs.of()
    assert isinstance(listed, LoggedTasks)
    assert [(task.name, task.size_bytes) for task in listed] == [("<b>", 2048)]
    assert "2.0 KiB" in repr(listed)
    assert "&lt;b&gt;" in listed._repr_html_()
    assert "<b>" not in listed._repr_html_().replace("</b>", "")


def test_a_log_is_drawn_with_its_end(make: Callable[..., TaskLogs], tmp_path: Path) -> None:
    """The text form and the HTML say how to get the rest; HTML is escaped."""
    logs = make()
    logs.add(said("".join(f"<i>{n}\n" for n in range(2000))))
    log = logs.of("aa")
    assert isinstance(log, TaskLog)
    assert "the last 500 lines (all of it: .text, .save(path))" in repr(log)
    assert len(repr(log).splitlines()) == 501
    assert "&lt;i&gt;1999" in log._repr_html_()
    target = tmp_path / "saved"
    log.save(target)
    assert target.read_text() == log.text
    target.unlink()


def test_what_is_asked_for_and_not_there(make: Callable[..., TaskLogs]) -> None:
    """Nobody, too many, and no number of lines."""
    logs = make()
    logs.add(said("a\n", task="aa11"))
    logs.add(said("b\n", task="aa22", name="g"))
    with pytest.raises(LookupError, match="no task whose id begins with 'zz' wrote anything"):
        logs.of("zz")
    with pytest.raises(LookupError, match=r"the ids of 2 tasks begin with 'aa': aa11 \(f\), aa22 \(g\)"):
        logs.of("aa")
    with pytest.raises(ValueError, match="tail=0"):
        logs.of("aa11", tail=0)


def test_the_oldest_goes_when_there_is_too_much(make: Callable[..., TaskLogs], tmp_path: Path) -> None:
    """Disk use stays within the limit, and it is said what is gone."""
    logs = make(limit_bytes=10_000)
    for number in range(100):
        logs.add(said("x" * 999 + "\n", task=f"{number:04x}"))
        assert sum(path.stat().st_size for path in tmp_path.glob("*.log")) <= 10_000
    assert logs.dropped_bytes >= 90_000
    assert str(logs.of("0063")) == "x" * 999 + "\n"
    with pytest.raises(LookupError, match=r"still kept \(.* are gone\)"):
        logs.of("0000")
    assert "JRAY_TASK_LOGS_MIB" in repr(logs.of())


def test_another_session_begins_anew(tmp_path: Path) -> None:
    """The files of the old one are gone with it, and what was found there says so."""
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
    logs = TaskLogs(lambda: str(places[0]))
    logs.add(said("old\n"))
    old = logs.of("aa11")
    places.pop(0)
    logs.add(said("new\n", task="bb"))
    assert len(list(logs.tasks())) == 1
    with pytest.raises(LookupError, match="its session has ended"):
        str(old)
    assert list((tmp_path / "one").iterdir()) == []
    logs.close()


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """In MiB, by the environment."""
    monkeypatch.delenv("JRAY_TASK_LOGS_MIB", raising=False)
    assert limit_from_environ() == DEFAULT_LIMIT
    monkeypatch.setenv("JRAY_TASK_LOGS_MIB", "1.5")
    assert limit_from_environ() == 1.5 * 1024 * 1024
    monkeypatch.setenv("JRAY_TASK_LOGS_MIB", "none")
    with pytest.raises(ValueError, match="JRAY_TASK_LOGS_MIB='none'"):
        limit_from_environ()
