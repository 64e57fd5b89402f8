"""What the driver is told without asking: output of tasks, unhandled errors, warnings."""

from __future__ import annotations

import contextlib
import signal

import pytest

from tests.behaviour.support import start_driver, wait_until

SCRIPT = """
    import os, sys, time
    import jray

    jray.init(num_cpus=2, include_dashboard=False)

    @jray.remote
    def speak():
        print("word on stdout")
        print("word on stderr", file=sys.stderr)

    @jray.remote(max_retries=0)
    def fail():
        raise ValueError("nobody asked for this")

    def make_large():
        ballast = os.urandom(11_000_000)

        @jray.remote
        def heavy_function():
            return len(ballast)

        return heavy_function

    @jray.remote
    class Blocking:
        async def look(self):
            return jray.get(jray.put(5))

    jray.get(speak.remote())
    jray.get(make_large().remote())
    jray.get(Blocking.remote().look.remote())
    fail.remote()
    open(sys.argv[1] + "/done", "w").close()
    # Output takes its time to come here; whoever reads it ends this process.
    time.sleep(600)
"""

# What must have been seen, however late, on either stream.
TOLD = {
    "stdout of a task": "word on stdout",
    "stderr of a task": "word on stderr",
    "an unhandled error": "nobody asked for this",
    "a large function": "heavy_function",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that the driver's terminal showed until everything expected was there, or half a minute had passed."""
    folder = tmp_path_factory.mktemp("messages")
    # To files: a pipe that nobody reads while this waits would fill up and stop the driver.
    with open(folder / "out", "w") as out:
        driver = start_driver(folder, SCRIPT, folder, output=out)

    def text() -> str:
        return (folder / "out").read_text(errors="replace")

    try:
        wait_until((folder / "done").exists, 90, lambda: f"the script to its end; it wrote {text()}")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(part in text() for part in TOLD.values()))
    finally:
        driver.signal(signal.SIGTERM)
        driver.end()
    return text()


@pytest.mark.sentences("S34", "S80")
@pytest.mark.parametrize("what", TOLD)
def test_the_driver_is_told(told: str, what: str) -> None:
    """Output of tasks, an error nobody got, and a function that captures too much show in the driver."""
    assert TOLD[what] in told


@pytest.mark.sentences("S80")
def test_an_unhandled_error_is_told_once(told: str) -> None:
    """The error is logged once, with the way to silence it."""
    assert told.count("ValueError: nobody asked for this") == 1
    assert "RAY_IGNORE_UNHANDLED_ERRORS=1" in told


@pytest.mark.sentences("S34")
def test_a_large_function_is_told_with_its_size(told: str) -> None:
    """The warning has the size."""
    assert "very large (10 MiB)" in told
