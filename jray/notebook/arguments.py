"""Owns the options of the magics: a table for each, the reading of their values, and the form of their help."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import keyword
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser, argument, kwds

from jray._core import quantities


def unquote(text: str) -> str:
    """Return *text* without the quotes around it, which IPython's splitting leaves on."""
    is_quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text


def names(text: str) -> tuple[str, ...]:
    """Read ``a,b``."""
    found = tuple(part.strip() for part in unquote(text).split(",") if part.strip())
    for name in found:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise argparse.ArgumentTypeError(
                f"{name!r} is not a name; give names separated by commas, as in a,b"
            )
    return found


def size_bytes(text: str) -> int:
    """Read ``1073741824``, ``500MB`` or ``2GiB``."""
    return quantities.size_bytes(unquote(text))


def amount(text: str) -> float:
    """Read a number of CPUs, GPUs or seconds; whole ones stay integers."""
    return quantities.amount(unquote(text))


def resources(text: str) -> dict[str, float]:
    """Read ``{"license": 1}`` or ``license=1,disk=0.5``."""
    return quantities.resources(unquote(text))


@dataclasses.dataclass(frozen=True, slots=True)
class MagicOption:
    """A line of a magic's option table."""

    flags: tuple[str, ...]  #: for a positional argument, its name
    settings: dict[str, Any]  #: for `add_argument`
    completes: str = ""  #: what its value may be: a kind of `jray.notebook.completion.Candidates`

    @property
    def takes_value(self) -> bool:
        return self.settings.get("action") not in {"store_true", "store_const"}

    @property
    def is_positional(self) -> bool:
        return not self.flags[0].startswith("-")


def option(*flags: str, completes: str = "", **settings: Any) -> MagicOption:
    """Return a line of a table: flags and settings as `add_argument` takes them."""
    return MagicOption(flags, settings, completes)


_NUM_CPUS = option("--num-cpus", metavar="N", type=amount, help="CPUs to reserve (default: 1).")
_NUM_GPUS = option("--num-gpus", metavar="N", type=amount, help="GPUs to reserve (default: 0).")
_MEMORY = option(
    "--memory", metavar="SIZE", type=size_bytes, help="memory to reserve, in bytes or as in 2GiB."
)
_RESOURCES = option(
    "--resources",
    metavar="WHAT",
    type=resources,
    help='other resources: JSON, or as in "license=1,disk=0.5".',
)

_OUTPUT = option(
    "-o",
    "--output",
    metavar="NAMES",
    type=names,
    action="extend",
    default=[],
    completes="outputs",
    help="names to bring back from the cell, separated by commas.",
)
_BASIC = (
    _NUM_CPUS,
    _NUM_GPUS,
    _MEMORY,
    _RESOURCES,
    option("--name", metavar="NAME", type=unquote, help="name of the task (default: In[n])."),
    option(
        "--max-retries",
        "--retries",
        metavar="N",
        type=int,
        help="how often to run it again when its worker dies; -1: for ever (default: 3).",
    ),
    option("--retry-exceptions", action="store_true", help="run it again also when the cell raises."),
    option("--timeout", metavar="SECONDS", type=amount, help="cancel it when it takes longer."),
)
_RESOLVE = option(
    "--resolve",
    action="store_true",
    help="give the cell the values of the ObjectRefs it uses; without it they arrive as ObjectRefs.",
)
_DRY_RUN = option(
    "--dry-run", action="store_true", help="list what would be sent, with sizes, and run nothing."
)
_QUIET = option(
    "--quiet", action="store_true", help="drop what the cell prints and displays; errors are shown."
)

#: The options of `%%remote` and `%remote`, in the order of their help.
REMOTE_OPTIONS: tuple[MagicOption, ...] = (
    _OUTPUT,
    option(
        "--ref",
        action="store_true",
        help="bring those names back as ObjectRefs, their values left where they are.",
    ),
    option(
        "--actor",
        metavar="NAME",
        type=unquote,
        completes="actors",
        help="run the cell inside this actor, which it calls `self`: a variable that holds its handle, or the "
        "name it was made with.",
    ),
    *_BASIC,
    option(
        "--async",
        "--no-block",
        dest="is_async",
        action="store_true",
        help="do not wait: return a RemoteCell at once and bind the names to ObjectRefs; "
        "what the cell displays appears under it when it ends.",
    ),
    _RESOLVE,
    _DRY_RUN,
    _QUIET,
)

#: The options of `%%autoremote`, and of `%autoremote on`.
AUTOREMOTE_OPTIONS: tuple[MagicOption, ...] = (*_BASIC, _RESOLVE, _QUIET)

#: Those of the line form beside them.
AUTOREMOTE_LINE_OPTIONS: tuple[MagicOption, ...] = (
    option(
        "state",
        nargs="?",
        choices=["on", "off"],
        metavar="on|off",
        completes="on off",
        help="switch it on or off; without it: say which it is.",
    ),
    *AUTOREMOTE_OPTIONS,
)

#: The options of `%%actor`.
ACTOR_OPTIONS: tuple[MagicOption, ...] = (
    option("variable", metavar="NAME", completes="variables", help="the variable that becomes the handle."),
    option(
        "--args",
        metavar="EXPRESSION",
        type=unquote,
        help="what the constructor gets, evaluated in the notebook: a tuple for several arguments, a dict for "
        'keywords, anything else for one: "(1, 2)".',
    ),
    option(
        "--num-cpus",
        metavar="N",
        type=amount,
        help="CPUs to reserve while it lives (default: 0, and 1 to start).",
    ),
    option("--num-gpus", metavar="N", type=amount, help="GPUs to reserve while it lives (default: 0)."),
    _MEMORY,
    _RESOURCES,
    option("--max-concurrency", metavar="N", type=int, help="how many calls it runs at once."),
    option(
        "--max-restarts",
        metavar="N",
        type=int,
        help="how often it is made again when its process dies; -1: for ever (default: 0).",
    ),
    option(
        "--max-task-retries",
        metavar="N",
        type=int,
        help="how often its calls run again when its process dies; -1: for ever (default: 0).",
    ),
    option("--name", metavar="NAME", type=unquote, help="name by which jray.get_actor() finds it."),
    option(
        "--lifetime",
        choices=["detached"],
        metavar="detached",
        completes="detached",
        help="detached: it lives on without a handle, until it is killed; needs --name.",
    ),
    option(
        "--get-if-exists",
        action="store_true",
        help="take the living actor of that --name, if there is one, instead of making one.",
    ),
)


def parser_for(options: Iterable[MagicOption], *, usage: str, description: str = "") -> MagicArgumentParser:
    """Return a parser that raises UsageError for what is wrong."""
    parser = MagicArgumentParser(
        usage=usage, description=description, formatter_class=_help_formatter, add_help=False
    )
    for line in options:
        parser.add_argument(*line.flags, **line.settings)
    return parser


def split(line: str) -> list[str]:
    """Return the words of a magic's line; quotes stay where they are, for the readers of values.

    Raises UsageError for a quote that is not closed.
    """
    lexer = shlex.shlex(line, posix=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError as error:
        raise UsageError(f"{line}: {error}") from None


_WORD = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[^\s"'])+)""")


def split_options(line: str, options: Iterable[MagicOption]) -> tuple[list[str], str]:
    """Return the options that a line begins with, and the code after them; ``--`` ends the options."""
    valued = {flag for line in options if line.takes_value for flag in line.flags}
    words: list[str] = []
    rest = line
    while (match := _WORD.match(rest)) is not None:
        word = match[1]
        if word == "--":
            return words, rest[match.end() :].strip()
        if not word.startswith("-"):
            break
        words.append(word)
        rest = rest[match.end() :]
        if word in valued and (value := _WORD.match(rest)) is not None:
            words.append(value[1])
            rest = rest[value.end() :]
    return words, rest.strip()


def with_options(options: tuple[MagicOption, ...], usage: str) -> Callable[[Any], Any]:
    """Return a decorator, to stand under `magic_arguments()`, that gives a magic *options*."""

    def decorate(magic: Any) -> Any:
        # magic_arguments reads the list backwards, as decorators are written
        for line in reversed(options):
            magic = argument(*line.flags, **line.settings)(magic)
        return kwds(usage=usage, formatter_class=_help_formatter)(magic)

    return decorate


def _help_formatter(prog: str, **settings: Any) -> argparse.HelpFormatter:
    # a width of its own: the help is made once, at import, when no terminal need be there
    return _MagicHelp(prog, **{**settings, "width": 100, "max_help_position": 34})


class _MagicHelp(argparse.RawDescriptionHelpFormatter):
    """Help that reads the same in every Python: each option with its value named once."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return str(action.metavar or action.dest)
        text = ", ".join(action.option_strings)
        return text if action.nargs == 0 else f"{text} {action.metavar}"

    def _fill_text(self, text: str, _width: int, indent: str) -> str:
        return textwrap.indent(inspect.cleandoc(text), indent)

    def _expand_help(self, action: argparse.Action) -> str:
        return str(action.help)  # as it stands: names of magics begin with %

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return "" if action.nargs == 0 else str(action.metavar or default_metavar)

    def add_usage(self, usage: str | None, *_arguments: Any, **_settings: Any) -> None:
        self._add_item(lambda: f"{usage}\n\n", [])


#: options of `%%remote` that a task has and an actor's call has not
TASK_OPTIONS = ("num_cpus", "num_gpus", "memory", "resources", "max_retries")


def task_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords for `RemoteFunction.options` that the user gave."""
    options = given(arguments, TASK_OPTIONS)
    if arguments.retry_exceptions:
        options["retry_exceptions"] = True
    return options


def given(arguments: argparse.Namespace, wanted: Iterable[str]) -> dict[str, Any]:
    """Return those of the *wanted* options that the user gave, by name."""
    return {name: getattr(arguments, name) for name in wanted if getattr(arguments, name) is not None}


def flag_of(name: str) -> str:
    """Return ``--num-cpus`` for ``num_cpus``."""
    return f"--{name.replace('_', '-')}"
