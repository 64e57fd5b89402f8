"""Time fresh interpreters: a whole start up to the first result, and what a program prints about itself."""

from __future__ import annotations

import subprocess
import sys
import time


def seconds_to_first_line(program: str) -> float:
    """Seconds from the start of a new interpreter to the first line *program* prints; waits for its end."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            message = "the pipe asked for is missing"
            raise RuntimeError(message)
        line = process.stdout.readline()
        elapsed_s = time.perf_counter() - start
        process.stdout.read()
    if not line.strip() or process.returncode != 0:
        message = f"a fresh interpreter ended with status {process.returncode} and said {line!r}"
        raise RuntimeError(message)
    return elapsed_s


def seconds_printed(program: str) -> float:
    """The number that *program* prints last."""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])
