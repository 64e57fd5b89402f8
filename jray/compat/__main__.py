"""Owns the command `python -m jray.compat`: it runs a program written for Ray."""

from __future__ import annotations

import os
import runpy
import sys
from types import ModuleType

from jray.compat import install

_USAGE = """\
usage: python -m jray.compat program.py [arguments]
       python -m jray.compat -m module [arguments]
       python -m jray.compat -c code [arguments]

Run a program written for Ray on jray: `import ray` gives jray, here and in its workers.
"""


def main(arguments: list[str]) -> None:
    """Run what *arguments* say as the program of this process, as `python` would."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(_USAGE)
        sys.exit(0 if arguments else 2)
    first = arguments[0]
    takes_text = first in {"-m", "-c"}
    if len(arguments) < 2 if takes_text else first.startswith("-"):
        sys.stderr.write(_USAGE)
        sys.exit(2)
    if first == "-m":
        _enter(os.getcwd(), [first, *arguments[2:]])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif first == "-c":
        _enter("", [first, *arguments[2:]])
        _run(arguments[1], "<string>", None)
    else:
        _enter(os.path.dirname(os.path.realpath(first)), arguments)
        try:
            with open(first, encoding="utf-8") as file:
                source = file.read()
        except OSError as error:
            sys.exit(f"python -m jray.compat: cannot read {first}: {error.strerror}")
        _run(source, first, first)


def _enter(directory: str, argv: list[str]) -> None:
    """Make sys.path and sys.argv what the program would find."""
    if not sys.flags.safe_path:
        sys.path[0] = directory
    sys.argv[:] = argv
    install()


def _run(source: str, name: str, path: str | None) -> None:
    # A new module, which stays: functions of the program may run when it has ended, at exit
    module = ModuleType("__main__")
    if path is not None:
        module.__file__ = path
    module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = module
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- the user's program


if __name__ == "__main__":
    main(sys.argv[1:])
