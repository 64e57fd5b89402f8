"""Interrupts: Ctrl-C while a driver waits returns to the user, and the work goes on."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.behaviour import differences
from tests.behaviour.support import START_S, is_ever_within, start_driver, wait_until

# Waits in the way it is told to, notes when the interrupt came through, and shows that the task went on.
SCRIPT = """
    import asyncio, os, sys, time
    import jray

    folder, how = sys.argv[1:]
    jray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

    def wait_for(name):
        while not os.path.exists(f"{folder}/{name}"):
            time.sleep(0.005)

    @jray.remote
    def work():
        open(f"{folder}/running", "w").close()
        wait_for("gate")
        return "finished"

    ref = work.remote()
    wait_for("running")
    try:
        open(f"{folder}/waiting", "w").close()
        if how == "get":
            jray.get(ref)
        elif how == "get with timeout":
            jray.get(ref, timeout=500)
        elif how == "wait":
            jray.wait([ref])
        elif how == "await":
            async def main():
                await ref
            asyncio.run(main())
    except KeyboardInterrupt:
        open(f"{folder}/interrupted", "w").close()
        assert jray.wait([ref], timeout=0) == ([], [ref])
        open(f"{folder}/gate", "w").close()
        print(jray.get(ref, timeout=60))
"""


def interrupt(folder: Path, how: str) -> float:
    """Interrupt a driver that waits; return how many seconds that took to come through."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    driver = start_driver(folder, SCRIPT, folder, how)
    try:
        wait_until((folder / "waiting").exists, START_S)
        # The note is made just before the wait; then the process has nothing to do but sleep.
        process = psutil.Process(driver.pid)
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING)
        start = time.monotonic()
        driver.signal(signal.SIGINT)
        wait_until((folder / "interrupted").exists, what=f"interrupt of {how}")
        took = time.monotonic() - start
        assert driver.finish().split() == ["finished"]
    finally:
        if driver.process.poll() is None:
            driver.signal(signal.SIGKILL)
            driver.end()
    return took


@pytest.mark.sentences("S73")
@pytest.mark.parametrize("how", ["get", "wait"])
def test_an_interrupt_ends_the_wait_and_not_the_task(tmp_path: Path, how: str) -> None:
    """SIGINT raises KeyboardInterrupt from `get` and `wait`; the task goes on, and its value can be got."""
    interrupt(tmp_path, how)


@differences.prompt_interrupt
@pytest.mark.sentences("S73")
@pytest.mark.parametrize("how", ["get", "get with timeout", "wait", "await"])
def test_an_interrupt_is_prompt(tmp_path: Path, how: str) -> None:
    """However the driver waits, it is free again in less than half a second."""
    assert is_ever_within(0.5, lambda: interrupt(tmp_path, how))
