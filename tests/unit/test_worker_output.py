"""What a worker's tasks write is sent before what says that they have ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jray._core.frontend import OutputKind
from jray._core.worker.output import OutputRouter


class Wire:
    """Takes what is sent, once the test lets it through."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.is_sending = threading.Event()
        self.is_open = threading.Event()

    def send(self, *fields: Any) -> None:
        self.is_sending.set()
        self.is_open.wait()
        self.sent.append(fields)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def router(tmp_path: Path, wire: Wire) -> Iterator[OutputRouter]:
    path = tmp_path / "worker"
    for suffix in (".out", ".err"):
        path.with_suffix(suffix).touch()
    made = OutputRouter(str(path), wire.send, lambda: None)
    yield made
    for fd in (made._log, made._err_log, *(raw.fd for raw in made._raw)):
        os.close(fd)


@pytest.mark.parametrize("is_raw", [False, True])
def test_what_another_thread_is_sending_is_sent_when_a_flush_returns(
    router: OutputRouter, wire: Wire, tmp_path: Path, is_raw: bool
) -> None:
    """A result that is sent after the flush is read after what its task wrote."""

    def flush() -> None:
        router.flush()
        router.forward_raw(None)

    def flush_and_look() -> None:
        flush()
        seen.append(len(wire.sent))

    seen: list[int] = []
    if is_raw:
        (tmp_path / "worker.out").write_text("a\n")
    else:
        router.write(OutputKind.STDOUT, "a\n")
    first, second = threading.Thread(target=flush), threading.Thread(target=flush_and_look)
    first.start()
    wire.is_sending.wait()
    second.start()
    second.join(0.1)  # a moment in which to return too early
    wire.is_open.set()
    first.join()
    second.join()
    assert seen == [1]
