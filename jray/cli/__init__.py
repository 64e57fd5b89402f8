"""The command `jray`: heads that stay, and what runs on them.

`main` reads the first word and loads only what that command needs: what a shell waits for must start quickly.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jray.cli.parser import build_parser, command_module
from jray.cli.problems import Problem

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 0, 1 for what did not work, 2 for what is not understood."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser(given)
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        status = command_module(options.command).run(options)
        sys.stdout.flush()
    except Problem as problem:
        sys.stderr.write(f"jray {options.command}: {problem}\n")
        return problem.status
    except KeyboardInterrupt:
        return 130  # as a shell has it of a program that SIGINT ended
    except BrokenPipeError:  # whoever reads has seen enough, as in `jray list tasks | head`
        sys.stderr.close()  # the interpreter would complain at its end
        return 0
    return status
