"""A cancel that comes while a worker imports what a task needs leaves no module half imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import jray
from jray.exceptions import TaskCancelledError
from tests.behaviour.support import Bench

SLOW = """
import time
import slow_package.part
from jray._core.refs import current
from pathlib import Path

Path({started!r}).touch()
deadline = time.monotonic() + 30
# until the cancel has come, and not only been sent
while not current.client.shields.current().pending and time.monotonic() < deadline:
    time.sleep(0.005)
"""


def test_the_import_is_finished_first(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the task is cancelled; the next one in that worker finds the package whole."""
    started = bench.gate("started")
    package = tmp_path / "modules" / "slow_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SLOW.format(started=started.path))
    (package / "part.py").write_text("VALUE = 42")
    monkeypatch.syspath_prepend(str(package.parent))
    jray.init(num_cpus=1)

    class Needy:
        """Imports the package when it is unpickled."""

        def __reduce__(self) -> tuple[object, tuple[str]]:
            return __import__, ("slow_package",)

    @jray.remote
    def value(_: object) -> int:
        return int(sys.modules["slow_package"].part.VALUE)

    ref = value.remote(Needy())
    started.wait()
    jray.cancel(ref)
    other = value.remote(Needy())
    with pytest.raises(TaskCancelledError):
        jray.get(ref)
    assert jray.get(other) == 42
