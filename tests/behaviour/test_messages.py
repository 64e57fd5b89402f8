"""What the driver is told without asking: output of tasks, unhandled errors, warnings."""

from __future__ import annotations

import contextlib
import re
import signal

import pytest

from tests.behaviour import differences
from tests.behaviour.engine import ON_RAY
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
    class Speaker:
        def speak(self):
            print("word of an actor")

    @jray.remote
    class Blocking:
        async def look(self):
            return jray.get([speak.remote(), speak.remote()])

    @jray.remote
    class Broken:
        def __init__(self):
            raise ValueError("the constructor broke")

    @jray.remote
    class Selfish:
        def one(self):
            return 1

        def wait(self, me):
            jray.get(me[0].one.remote())

    @jray.remote
    def repeat(folder, name):
        open(f"{folder}/{name}", "w").close()
        while not all(os.path.exists(f"{folder}/{each}") for each in ("first", "second")):
            time.sleep(0.01)
        print("the same line")

    jray.get(speak.remote())
    speaker, broken, selfish = Speaker.remote(), Broken.remote(), Selfish.remote()
    jray.get(speaker.speak.remote())
    jray.get(make_large().remote())
    jray.get(Blocking.remote().look.remote())
    for_ever = selfish.wait.remote([selfish])
    jray.get([repeat.remote(sys.argv[1], name) for name in ("first", "second")])
    @jray.remote(max_retries=0)
    def crash():
        os._exit(3)

    @jray.remote
    class Busy:
        def hold(self, folder):
            while not os.path.exists(f"{folder}/queued"):
                time.sleep(0.01)

        def nothing(self):
            pass

    busy = Busy.remote()
    refs = [busy.hold.remote(sys.argv[1]), *[busy.nothing.remote() for _ in range(5200)]]
    open(f"{sys.argv[1]}/queued", "w").close()
    jray.get(refs)
    jray.wait([crash.remote()])
    fail.remote()
    open(sys.argv[1] + "/done", "w").close()
    # Output takes its time to come here; whoever reads it ends this process.
    time.sleep(600)
"""

# What must have been seen, however late, on either stream.
TOLD = {
    "stdout of a task": "word on stdout",
    "stderr of a task": "word on stderr",
    "output of an actor": "word of an actor",
    "an unhandled error": "nobody asked for this",
    "a large function": "heavy_function",
    "a failed constructor": "the constructor broke",
    "a blocking get in a coroutine": "event loop",
    "a queue that grows": "More than 5000",
    # Ray's node says it, in words of its own
    "a crash": "A worker died"
    if ON_RAY
    else "Unhandled error (suppress with RAY_IGNORE_UNHANDLED_ERRORS=1): The worker",
}
#: ... and how often, where that is looked at too
OFTEN = {} if ON_RAY else {"the same line": 2, "made to itself": 1}

# The script is the first test's, of which it is a part.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that the driver's terminal showed until everything expected was there, or half a minute had passed."""
    folder = tmp_path_factory.mktemp("messages")
    # To files: a pipe that nobody reads while this waits would fill up and stop the driver.
    with open(folder / "out", "w") as out:
        driver = start_driver(folder, SCRIPT, folder, output=out)

    def text() -> str:
        shown = re.sub(r"\x1b\[\d*m", "", (folder / "out").read_text(errors="replace"))
        return shown.replace("'RAY_IGNORE_UNHANDLED_ERRORS=1'", "RAY_IGNORE_UNHANDLED_ERRORS=1")

    def is_all_in(shown: str) -> bool:
        return all(part in shown for part in TOLD.values()) and all(
            shown.count(part) >= count for part, count in OFTEN.items()
        )

    try:
        wait_until((folder / "done").exists, 90, lambda: f"the script to its end; it wrote {text()}")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: is_all_in(text()))
    finally:
        driver.signal(signal.SIGTERM)
        driver.end()
    return text()


@pytest.mark.sentences("S34", "S72", "S79", "S80", "S89", "S109", "S141")
@pytest.mark.parametrize("what", TOLD)
def test_the_driver_is_told(told: str, what: str) -> None:
    """Output, errors that nobody got, and what is better done otherwise show in the driver."""
    assert TOLD[what] in told


@pytest.mark.sentences("S141")
def test_a_line_says_who_wrote_it(told: str) -> None:
    """Before each line stands the task or actor, and the process."""
    assert re.search(r"^\(speak pid=\d+\) word on stdout$", told, re.MULTILINE)
    assert re.search(r"^\(speak pid=\d+\) word on stderr$", told, re.MULTILINE)
    assert re.search(r"^\(Speaker\S* pid=\d+\) word of an actor$", told, re.MULTILINE)


@pytest.mark.sentences("S72")
def test_a_blocking_get_in_a_coroutine_is_told_once(told: str) -> None:
    """However often the coroutine blocks, one line says so."""
    assert sum("event loop" in line for line in told.splitlines()) == 1


@differences.waiting_for_itself_is_said
@pytest.mark.sentences("S95")
def test_an_actor_that_waits_for_itself_is_told(told: str) -> None:
    """One line names the actor."""
    (line,) = [line for line in told.splitlines() if "made to itself" in line]
    assert line.startswith("(Selfish.wait ")
    assert "The actor Selfish" in line


@differences.every_line_is_shown
@pytest.mark.sentences("S141")
def test_the_same_line_of_two_workers_is_shown_twice(told: str) -> None:
    """Nothing is left out because another wrote it too."""
    assert told.count("the same line") == 2


@pytest.mark.sentences("S80")
def test_an_unhandled_error_is_told_once(told: str) -> None:
    """The error is logged once, with the way to silence it."""
    assert told.count("ValueError: nobody asked for this") == 1
    assert "RAY_IGNORE_UNHANDLED_ERRORS=1" in told


@pytest.mark.sentences("S34")
def test_a_large_function_is_told_with_its_size(told: str) -> None:
    """The warning has the size."""
    assert "very large (10 MiB)" in told
