"""Owns the magics: what the user typed becomes a call of what works without IPython."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import magic_arguments, parse_argstring

from jray.notebook.actor_cell import ActorCells
from jray.notebook.arguments import (
    ACTOR_OPTIONS,
    AUTOREMOTE_LINE_OPTIONS,
    AUTOREMOTE_OPTIONS,
    REMOTE_OPTIONS,
    MagicOption,
    split,
    split_options,
    with_options,
)
from jray.notebook.autoremote import AutoRemote
from jray.notebook.cell_runner import CellRunner
from jray.notebook.cells import CellTable
from jray.notebook.command_table import COMMANDS
from jray.notebook.context import Context
from jray.notebook.custom import CustomMagic, checked_defaults
from jray.notebook.remote import RemoteCell, Runtime

_BANNER = "jray: %autoremote is ON: this cell runs on a worker (%autoremote off ends that)\n"


def _documented(text: str) -> Callable[[Any], Any]:
    """Return a decorator that gives a magic its help."""

    def decorate(magic: Any) -> Any:
        magic.__doc__ = text
        return magic

    return decorate


@magics_class
class JrayMagics(Magics):
    """``%jray``, ``%%remote``, ``%%actor``, ``%autoremote``, and those that users bake from them."""

    def __init__(self, shell: Any, runtime: Runtime, context: Context | None = None) -> None:
        super().__init__(shell)
        self._shell = shell
        self._context = Context(shell, runtime, CellTable()) if context is None else context
        self._runner = CellRunner(shell, runtime)
        self._actor_cells = ActorCells(shell, runtime)
        self._autoremote = AutoRemote(shell)
        self._custom: dict[str, CustomMagic] = {}

    @magic_arguments()
    @with_options(REMOTE_OPTIONS, "%%remote [options]")
    @cell_magic
    def remote(self, line: str, cell: str) -> RemoteCell | None:
        """Run the cell as a task on a worker.

        The variables, functions and classes that the cell uses are sent along; modules are imported there.
        What it prints appears here as it runs; what it displays, and the value of its last expression, when
        it ends (not with a semicolon at the end). Names given with -o come back and become variables of the
        notebook; everything else that the cell assigns stays behind.

        ObjectRefs that the cell uses arrive as ObjectRefs, or as their values with --resolve. {expressions}
        in the options are replaced by their values.
        """
        return self._runner.run_cell(_parse(self.remote, line), f"%%remote {line}", cell)

    @magic_arguments()
    @with_options(REMOTE_OPTIONS, "%remote [options] code")
    @line_magic("remote")  # type: ignore[arg-type]  # with a name it takes what it gives without
    def remote_line(self, line: str) -> Any:
        """Run the code on a worker.

        An expression gives an ObjectRef of its value at once: `ref = %remote f(3)`. Anything else runs as in
        %%remote: `%remote -o x x = f(3)` waits, and brings x back. Options come first; -- ends them.
        """
        words, code = split_options(line, REMOTE_OPTIONS)
        arguments = self.remote_line.parser.parse_args(words)
        return self._runner.run_line(arguments, f"%remote {line}", code)

    @magic_arguments()
    @with_options(ACTOR_OPTIONS, "%%actor NAME [options]")
    @cell_magic
    def actor(self, line: str, cell: str) -> None:
        """Define a class, and make an actor of it: NAME becomes its handle.

        The cell runs in the notebook, so that the class and what stands beside it are there as from any cell;
        its last class becomes the actor, `NAME.method.remote()` calls it, and %%remote --actor NAME runs cells
        inside it. Running the cell again ends the actor that it made before, and makes a new one; NAME must
        not be the name of the class.
        """
        self._actor_cells.run(_parse(self.actor, line), line, cell)

    @magic_arguments()
    @with_options(AUTOREMOTE_LINE_OPTIONS, "%autoremote [on|off] [options]")
    @line_magic("autoremote")  # type: ignore[arg-type]  # as above
    def autoremote_line(self, line: str) -> None:
        """Run every following plain cell on a worker, until it is switched off.

        Each runs as with %%autoremote and these options, and says so in a line. Cells that begin with a magic,
        with ! or with ? stay in the notebook.
        """
        arguments = _parse(self.autoremote_line, line)
        words = [word for word in split(line) if word not in {"on", "off"}]
        if arguments.state == "off" or (arguments.state is None and not words):
            if words:
                raise UsageError(f"{' '.join(words)}: options are for %autoremote on.")
            if arguments.state == "off":
                self._autoremote.switch_off()
        else:
            self._autoremote.switch_on(" ".join(words))
        if self._autoremote.is_on:
            options = f" with {self._autoremote.options}" if self._autoremote.options else ""
            text = f"ON{options}: plain cells run on workers from the next one on; %autoremote off ends that"
        else:
            text = "off: cells run in the notebook"
        sys.stdout.write(f"jray: %autoremote is {text}\n")

    @magic_arguments()
    @with_options(AUTOREMOTE_OPTIONS, "%%autoremote [options]")
    @cell_magic
    def autoremote(self, line: str, cell: str) -> None:
        """Run the cell as a task on a worker, and bring back whatever it assigns.

        As %%remote, but every name that the cell assigns becomes a variable of the notebook; of those that
        cannot be sent it says which and why. What the cell changes in place, without assigning it, stays
        behind: the worker has a copy.
        """
        if self._autoremote.is_on:
            sys.stderr.write(_BANNER)
        self._runner.run_leniently(_parse(self.autoremote, line), f"%%autoremote {line}", cell)

    @line_magic
    @_documented(COMMANDS.help_text())
    def jray(self, line: str) -> Any:
        return COMMANDS.run(self._context, line)

    # -- magics that users bake -----------------------------------------------------------------------

    def add(self, name: str, options: dict[str, Any]) -> None:
        """Add `%%name` and `%name`: `%%remote` with *options* as its defaults.

        Raises ValueError for a name that is none, or that another magic has; TypeError for wrong options.
        """
        if not name.isidentifier():
            raise ValueError(
                f"{name!r} is not a name for a magic; it needs letters, digits and _, as in 'gpu'."
            )
        manager = self._shell.magics_manager
        if name not in self._custom and any(name in manager.magics[kind] for kind in ("cell", "line")):
            raise ValueError(f"There is a magic %{name} already, which is not yours; take another name.")
        magic = CustomMagic(name, checked_defaults(options), self._runner)

        @_documented(magic.help_text(is_cell=True))
        def run_cell(line: str, cell: str) -> Any:
            return magic.cell(line, cell)

        @_documented(magic.help_text(is_cell=False))
        def run_line(line: str) -> Any:
            return magic.line(line)

        manager.register_function(run_cell, "cell", name)
        manager.register_function(run_line, "line", name)
        self._custom[name] = magic

    def option_tables(self) -> dict[str, tuple[MagicOption, ...]]:
        """Return the options of each magic but %jray, by its name with its signs."""
        tables: dict[str, tuple[MagicOption, ...]] = {
            "%%remote": REMOTE_OPTIONS,
            "%remote": REMOTE_OPTIONS,
            "%%actor": ACTOR_OPTIONS,
            "%%autoremote": AUTOREMOTE_OPTIONS,
            "%autoremote": AUTOREMOTE_LINE_OPTIONS,
        }
        for name, magic in self._custom.items():
            tables[f"%%{name}"], tables[f"%{name}"] = magic.options, magic.line_options
        return tables

    def remove(self) -> None:
        """Take all of them out of the shell."""
        self._autoremote.switch_off()
        manager = self._shell.magics_manager
        own = [(kind, name) for kind, names in type(self).magics.items() for name in names]
        own += [(kind, name) for name in self._custom for kind in ("cell", "line")]
        for kind, name in own:
            manager.magics[kind].pop(name, None)
        manager.registry.pop(type(self).__name__, None)


def _parse(magic: Any, line: str) -> argparse.Namespace:
    arguments: argparse.Namespace = parse_argstring(magic, line)
    return arguments
