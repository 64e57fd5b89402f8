"""Owns the options of the magics: one table for `%%remote`, and the reading of their values."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import keyword
import re
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.core.magic_arguments import argument, kwds

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", re.IGNORECASE)


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
    match = _SIZE.fullmatch(unquote(text).strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write bytes or a unit, as in 500MB or 2GiB"
        )
    return int(float(match[1]) * _UNITS[match[2].lower()])


def amount(text: str) -> float:
    """Read a number of CPUs, GPUs or seconds; whole ones stay integers."""
    try:
        value = float(unquote(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(value) if value == int(value) else value


def resources(text: str) -> dict[str, float]:
    """Read ``{"license": 1}`` or ``license=1,disk=0.5``."""
    text = unquote(text)
    if text.lstrip().startswith("{"):
        try:
            read = json.loads(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text} is not JSON: {error}") from None
        return {str(name): _resource_amount(name, value) for name, value in read.items()}
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): _resource_amount(name, value) for name, _, value in pairs}


def _resource_amount(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"the amount of {name.strip()!r} is {value!r}, not a number; write NAME=NUMBER,... or JSON"
        ) from None


@dataclasses.dataclass(frozen=True, slots=True)
class MagicOption:
    """A line of a magic's option table."""

    flags: tuple[str, ...]
    settings: dict[str, Any]  #: for `add_argument`


def _option(*flags: str, **settings: Any) -> MagicOption:
    return MagicOption(flags, settings)


#: The options of `%%remote`, in the order of its help.
REMOTE_OPTIONS: tuple[MagicOption, ...] = (
    _option(
        "-o",
        "--output",
        metavar="NAMES",
        type=names,
        action="extend",
        default=[],
        help="names to bring back from the cell, separated by commas.",
    ),
    _option(
        "--ref",
        action="store_true",
        help="bring those names back as ObjectRefs, their values left where they are.",
    ),
    _option("--num-cpus", metavar="N", type=amount, help="CPUs to reserve (default: 1)."),
    _option("--num-gpus", metavar="N", type=amount, help="GPUs to reserve (default: 0)."),
    _option("--memory", metavar="SIZE", type=size_bytes, help="memory to reserve, in bytes or as in 2GiB."),
    _option(
        "--resources",
        metavar="WHAT",
        type=resources,
        help='other resources: JSON, or as in "license=1,disk=0.5".',
    ),
    _option("--name", metavar="NAME", type=unquote, help="name of the task (default: In[n])."),
    _option(
        "--max-retries",
        "--retries",
        metavar="N",
        type=int,
        help="how often to run it again when its worker dies; -1: for ever (default: 3).",
    ),
    _option("--retry-exceptions", action="store_true", help="run it again also when the cell raises."),
    _option("--timeout", metavar="SECONDS", type=amount, help="cancel it when it takes longer."),
    _option(
        "--async",
        "--no-block",
        dest="is_async",
        action="store_true",
        help="do not wait: return a RemoteCell at once and bind the names to ObjectRefs; "
        "what the cell displays appears under it when it ends.",
    ),
    _option(
        "--resolve",
        action="store_true",
        help="give the cell the values of the ObjectRefs it uses; without it they arrive as ObjectRefs.",
    ),
    _option("--dry-run", action="store_true", help="list what would be sent, with sizes, and run nothing."),
    _option("--quiet", action="store_true", help="drop what the cell prints and displays; errors are shown."),
)

#: The subcommands of `%jray`.
JRAY_COMMANDS: dict[str, str] = {
    "status": "what runs here: nodes and resources (the default)",
    "start": "jray.init() with the options below",
    "stop": "jray.shutdown()",
    "compat": "let `import ray` give jray, here and in tasks",
}

JRAY_OPTIONS: tuple[MagicOption, ...] = (
    _option(
        "command",
        nargs="?",
        default="status",
        choices=list(JRAY_COMMANDS),
        help="; ".join(f"{name}: {text}" for name, text in JRAY_COMMANDS.items()) + ".",
    ),
    _option(
        "--address",
        metavar="ADDRESS",
        type=unquote,
        help="start: join the cluster there instead of starting one.",
    ),
    _option(
        "--num-cpus", metavar="N", type=int, help="start: CPUs to offer (default: those of this machine)."
    ),
    _option("--num-gpus", metavar="N", type=int, help="start: GPUs to offer."),
    _option("--resources", metavar="WHAT", type=resources, help='start: other resources, as in "license=2".'),
)


def with_options(options: tuple[MagicOption, ...], usage: str) -> Callable[[Any], Any]:
    """Return a decorator, to stand under `magic_arguments()`, that gives a magic *options*."""

    def decorate(magic: Any) -> Any:
        # magic_arguments reads the list backwards, as decorators are written
        for option in reversed(options):
            magic = argument(*option.flags, **option.settings)(magic)
        return kwds(usage=usage, formatter_class=_help_formatter)(magic)

    return decorate


def _help_formatter(prog: str, **settings: Any) -> argparse.HelpFormatter:
    # a width of its own: the help is made once, at import, when no terminal need be there
    return _MagicHelp(prog, **{**settings, "width": 100, "max_help_position": 34})


class _MagicHelp(argparse.RawDescriptionHelpFormatter):
    """Help that reads the same in every Python: each option with its value named once."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return str(action.dest)
        text = ", ".join(action.option_strings)
        return text if action.nargs == 0 else f"{text} {action.metavar}"

    def _fill_text(self, text: str, _width: int, indent: str) -> str:
        return textwrap.indent(inspect.cleandoc(text), indent)

    def add_usage(self, usage: str | None, *_arguments: Any, **_settings: Any) -> None:
        self._add_item(lambda: f"{usage}\n\n", [])


def task_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords for `RemoteFunction.options` that the user gave."""
    wanted = ("num_cpus", "num_gpus", "memory", "resources", "max_retries")
    options = {name: getattr(arguments, name) for name in wanted if getattr(arguments, name) is not None}
    if arguments.retry_exceptions:
        options["retry_exceptions"] = True
    return options
