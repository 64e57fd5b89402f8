"""Owns the running of a cell on a worker: its namespace, its source for tracebacks, and what comes back."""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import io
import linecache
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

from jray._core import serialization
from jray.notebook.mime import MimeBundle, bundle_of
from jray.notebook.publisher import publish_open_figures, publishing

#: Where the value of the last expression waits until the cell has ended.
_LAST = "__jray_last_value__"
_BACKEND = "module://jray.notebook.figures"


@dataclasses.dataclass(frozen=True, slots=True)
class CellCode:
    """A cell as a worker gets it."""

    source: str  #: after `transform_cell`
    filename: str  #: the name that tracebacks show
    text: str  #: the whole cell as it stands in the notebook, magic line included
    skipped_lines: int  #: lines of `text` before the first of `source`
    outputs: tuple[str, ...]  #: names whose values come back
    shows_last: bool  #: whether the value of a last expression is shown
    is_quiet: bool  #: whether prints and displays are dropped
    unknown: tuple[str, ...]  #: names that the notebook did not have when the cell was sent
    #: whether the outputs come in one dict, without those that were not assigned or can't travel
    is_lenient: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class CellOutcome:
    """What a remote cell gives back beside its outputs."""

    bundles: tuple[MimeBundle, ...]  #: what it displayed, in order
    #: (name, why) of the outputs of a lenient cell that can't travel
    left_behind: tuple[tuple[str, str], ...] = ()


def run_cell(code: CellCode, names: dict[str, Any], resolved: tuple[str, ...], *values: Any) -> Any:
    """Run *code* with *names* as its globals, and *resolved* names bound to *values*.

    Returns a `CellOutcome`, followed by the values of `code.outputs` if there are any: as many objects as
    the task has returns.

    Raises:
        NameError: an output was never assigned.
        Exception: whatever the cell raises.
    """
    register_source(code)
    module = types.ModuleType("__main__")
    namespace = module.__dict__
    with (
        _as_main(module),
        _inline_figures(),
        publishing(patch_ipython=_uses_ipython(code)) as publisher,
        _silence() if code.is_quiet else contextlib.nullcontext(),
    ):
        shell = WorkerShell(namespace)
        namespace.update({"display": publisher.display, "get_ipython": lambda: shell})
        namespace.update(names)
        namespace.update(zip(resolved, values, strict=True))
        try:
            last = _execute(code, namespace)
        except NameError as error:
            _explain(error, code.unknown)
            raise
        except SystemExit as error:
            # it would end the worker, and the notebook would hear of a crash
            raise RuntimeError(f"the remote cell called sys.exit({error.code!r})") from error
        shown = last if code.shows_last else None
        publish_open_figures(but=shown)
        bundle = None if shown is None else bundle_of(shown)
        bundles = [*publisher.bundles, *([] if bundle is None else [bundle])]
    shown_bundles = () if code.is_quiet else tuple(bundles)
    if code.is_lenient:
        found, left_behind = _what_can_travel(namespace, code.outputs)
        return CellOutcome(shown_bundles, left_behind), found
    outcome = CellOutcome(shown_bundles)
    if not code.outputs:
        return outcome
    return (outcome, *(_output(namespace, name) for name in code.outputs))


def run_cell_inside(
    actor: Any, code: CellCode, names: dict[str, Any], resolved: tuple[str, ...], *values: Any
) -> Any:
    """Run *code* in the process of an actor, which it calls ``self``: see `run_cell`."""
    return run_cell(code, {**names, "self": actor}, resolved, *values)


def _what_can_travel(
    namespace: dict[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """Return (values by name, the names that can't be sent and why); names without a value are left out."""
    values: dict[str, Any] = {}
    left_behind: list[tuple[str, str]] = []
    for name in names:
        if name not in namespace:
            continue
        try:
            serialization.serialize(namespace[name])
        except TypeError as error:
            left_behind.append((name, str(error).partition("\n")[0]))
        else:
            values[name] = namespace[name]
    return values, tuple(left_behind)


def register_source(code: CellCode) -> None:
    """Let tracebacks of this process show the cell's lines."""
    lines = code.text.splitlines(keepends=True)
    # no time of modification: linecache then never looks for a file
    linecache.cache[code.filename] = (len(code.text), None, lines, code.filename)


def compile_cell(code: CellCode) -> types.CodeType:
    """Compile the cell so that line numbers are those of `code.text` and a last expression is kept."""
    tree = ast.parse(code.source, code.filename)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        target = ast.copy_location(ast.Name(_LAST, ast.Store()), last)
        tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
    ast.increment_lineno(tree, code.skipped_lines)
    compiled: types.CodeType = compile(
        tree, code.filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    return compiled


def _execute(code: CellCode, namespace: dict[str, Any]) -> Any:
    result = eval(compile_cell(code), namespace)  # noqa: S307 -- running the user's cell is the point
    if inspect.iscoroutine(result):
        if asyncio._get_running_loop() is not None:
            result.close()
            raise RuntimeError(
                "A cell with `await` at its top level cannot run inside an asynchronous actor, whose loop runs already. "
                "Call one of its methods and await the ref in the notebook."
            )
        asyncio.run(result)
    return namespace.pop(_LAST, None)


def _output(namespace: dict[str, Any], name: str) -> Any:
    try:
        return namespace[name]
    except KeyError:
        raise NameError(
            f"-o {name}: the cell ended without assigning {name!r}. "
            "Assign it on every path, or leave it out of -o."
        ) from None


def _explain(error: NameError, unknown: tuple[str, ...]) -> None:
    if error.name in unknown:
        error.add_note(
            f"{error.name!r} did not exist in the notebook either when this cell was sent: "
            "run the cell that defines it first, or define it in this one."
        )


@contextlib.contextmanager
def _as_main(module: types.ModuleType) -> Iterator[None]:
    """Make *module* the main one, where string annotations and pickle look for the cell's classes."""
    previous = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = previous


@contextlib.contextmanager
def _inline_figures() -> Iterator[None]:
    """Let pyplot draw in memory and `show` in the notebook."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        if pyplot.get_backend() != _BACKEND:
            pyplot.switch_backend(_BACKEND)
    elif "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use(_BACKEND)
    previous = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = _BACKEND
    try:
        yield
    finally:
        if previous is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = previous
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:  # what a failed cell left open must not appear under the next one
            pyplot.close("all")


def _uses_ipython(code: CellCode) -> bool:
    if "IPython" in sys.modules:
        return True
    return "IPython" in code.source and importlib.util.find_spec("IPython") is not None


class _Nowhere(io.TextIOBase):
    """A text stream that drops what is written."""

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(_Nowhere()), contextlib.redirect_stderr(_Nowhere()):
        yield


class WorkerShell:
    """What `get_ipython()` gives in a remote cell: shell commands; magics need the notebook's process."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.user_ns = namespace

    def system(self, command: str) -> None:
        """Run *command*, its output going where prints go, and leave its exit status in `_exit_code`."""
        with subprocess.Popen(  # noqa: S602 -- `!command` is a shell's line
            self._expand(command), shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stdout.write(line)
        self.user_ns["_exit_code"] = process.returncode

    def getoutput(self, command: str) -> list[str]:
        """Run *command* and return the lines it printed."""
        done = subprocess.run(  # noqa: S602 -- `!!command` is a shell's line
            self._expand(command),
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.user_ns["_exit_code"] = done.returncode
        return done.stdout.splitlines()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"get_ipython().{name} needs the notebook's own process, and this cell runs on a worker. "
            "Only !commands work here; call the magic in a cell of its own."
        )

    def _expand(self, command: str) -> str:
        """Replace ``{expression}`` and ``$name`` as IPython does."""
        formatter = importlib.import_module("IPython.utils.text").DollarFormatter()
        # names the formatter evaluates: the cell's, then the builtins
        known = {**vars(builtins), **self.user_ns}
        with contextlib.suppress(Exception):  # braces that are no expression are left as they are
            return str(formatter.vformat(command, args=[], kwargs=known))
        return command
