"""Owns the sub-commands of `%jray`: what one is, how its line is read, and the help of all."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

from IPython.core.error import UsageError

from jray.exceptions import RaySystemError
from jray.notebook.arguments import MagicOption, option, parser_for, split
from jray.notebook.context import Context, closest

_INTRODUCTION = """%jray [command] [options]

Look at jray's cluster and what runs on it, start it, stop it.

commands:
"""
_ENDING = """
What a command returns is shown as a table; `table = %jray tasks` keeps it, and `table.rows` has its
rows as dicts. %jray help COMMAND tells more, and each command's options.
"""
#: what runs when the line names none
DEFAULT = "status"


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: one entry of the table is all that it takes to add one."""

    name: str
    help: str  #: a line, as a sentence without its full stop
    run: Callable[[Context, argparse.Namespace], Any]
    options: tuple[MagicOption, ...] = ()
    description: str = ""  #: more than the line, for its own help

    @property
    def usage(self) -> str:
        places = [
            str(line.settings.get("metavar") or line.flags[0]) for line in self.options if line.is_positional
        ]
        has_flags = any(not line.is_positional for line in self.options)
        return " ".join(
            [f"%jray {self.name}", *(f"[{place}]" for place in places), *(["[options]"] if has_flags else [])]
        )

    def help_text(self) -> str:
        """Return its help, from its options."""
        description = f"{self.help}.\n\n{self.description}".strip()
        text: str = parser_for(self.options, usage=self.usage, description=description).format_help()
        return text.rstrip()


class CommandTable:
    """The commands of `%jray`, in the order of their help."""

    def __init__(self, *commands: Command) -> None:
        helper = Command(
            "help",
            "what the commands are, or one of them with its options",
            self._help,
            (option("command", nargs="?", metavar="COMMAND", completes="commands", help="which one."),),
        )
        self._commands = {command.name: command for command in (*commands, helper)}

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())

    def get(self, name: str) -> Command | None:
        return self._commands.get(name)

    def run(self, context: Context, line: str) -> Any:
        """Run the command that *line* names.

        Raises UsageError for a name or an option that does not exist, and where the cluster cannot answer.
        """
        name, *words = split(line) or [DEFAULT]
        if name.startswith("-"):
            name, words = DEFAULT, [name, *words]
        command = self._named(name)
        parser = parser_for(command.options, usage=command.usage)
        try:
            return command.run(context, parser.parse_args(words))
        except RaySystemError as error:  # the cluster is gone: how the question got lost is nobody's matter
            raise UsageError(str(error.client_exc)) from None

    def help_text(self) -> str:
        """Return the help of the magic."""
        width = max(len(command.name) for command in self)
        lines = [f"  {command.name:<{width}}  {command.help}." for command in self]
        return _INTRODUCTION + "\n".join(lines) + "\n" + _ENDING

    def _named(self, name: str) -> Command:
        command = self._commands.get(name)
        if command is None:
            raise UsageError(
                f"%jray has no command {name!r}{closest(name, self._commands) or '.'} "
                f"The commands are {', '.join(self._commands)}."
            )
        return command

    def _help(self, _context: Context, arguments: argparse.Namespace) -> None:
        text = self._named(arguments.command).help_text() if arguments.command else self.help_text()
        sys.stdout.write(text.rstrip() + "\n")
