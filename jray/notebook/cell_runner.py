"""Owns what happens between the options of a magic and the end of its cell: read, gathered, sent, bound to names."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import sys
from typing import Any

from IPython.core.error import UsageError

from jray._core.frontend import get_frontend
from jray.actor import ActorHandle
from jray.notebook import shipment as shipments
from jray.notebook.arguments import TASK_OPTIONS, flag_of, given, task_options
from jray.notebook.capture import CellAnalysis, analyze
from jray.notebook.cell_syntax import reading
from jray.notebook.cells import running_number
from jray.notebook.remote import CellRequest, RemoteCell, Runtime, source_name, submit, wait
from jray.notebook.remote_cell import CellCode, register_source

#: the name of the value of an expression that `%remote` runs
_VALUE = "__jray_line_value__"
#: what cannot be given for a cell inside an actor: these are the actor's own
_OF_THE_ACTOR = (*TASK_OPTIONS, "retry_exceptions")


@dataclasses.dataclass(frozen=True, slots=True)
class CellSource:
    """A cell as it stands in the notebook, and as Python."""

    python: str  #: after IPython's transformations, each line where it stands in the cell
    analysis: CellAnalysis
    text: str  #: the whole cell, with the line of the magic
    skipped_lines: int  #: lines of `text` before the first of `python`


class CellRunner:
    """Runs cells on workers for a shell."""

    def __init__(self, shell: Any, runtime: Runtime) -> None:
        self._shell = shell
        self._runtime = runtime

    def run_cell(self, arguments: argparse.Namespace, magic: str, cell: str) -> RemoteCell | None:
        """Run *cell* as its options say; *magic* is the line above it."""
        return self._run(arguments, self._read(cell, magic))

    def run_line(self, arguments: argparse.Namespace, magic: str, code: str) -> Any:
        """Run the code of a line; of an expression without -o return an ObjectRef of its value at once."""
        source = self._read_line(code, magic)
        expression = source.python.strip().rstrip(";")
        if not _is_expression(expression) or arguments.output or arguments.dry_run:
            return self._run(arguments, source)
        if arguments.is_async or arguments.ref:
            flag = "--ref" if arguments.ref else "--async"
            raise UsageError(f"{flag}: %remote of an expression gives an ObjectRef at once anyway.")
        value = dataclasses.replace(source, python=f"{_VALUE} = ({expression}\n)")
        request = self._request(arguments, value, (_VALUE,), shows_last=False)
        running = self._start(request)
        running.show_when_done(get_frontend, with_error=False)
        return running.refs[_VALUE]

    def run_leniently(self, arguments: argparse.Namespace, magic: str, cell: str) -> None:
        """Run *cell*, and bring back whatever it assigns that can travel."""
        source = self._read(cell, magic, skipped_lines=0)
        request = self._request(arguments, source, source.analysis.assigns, is_lenient=True)
        outcome = self._finish(request)
        for name, why in outcome.left_behind:
            sys.stderr.write(f"jray: {name} stays on the worker: {why}\n")

    # -- inside -----------------------------------------------------------------------------------

    def _run(self, arguments: argparse.Namespace, source: CellSource) -> RemoteCell | None:
        outputs = tuple(dict.fromkeys(arguments.output))
        problem = shipments.missing_outputs(outputs, source.analysis)
        if problem is not None:
            raise UsageError(problem)
        if arguments.ref and not outputs:
            raise UsageError("--ref brings the names of -o back as ObjectRefs; there is no -o.")
        request = self._request(arguments, source, outputs)
        if arguments.dry_run:
            sys.stdout.write(shipments.manifest_text(shipments.manifest(request.shipment)) + "\n")
            return None
        if arguments.is_async:
            running = self._start(request)
            running.show_when_done(get_frontend)
            self._shell.user_ns.update(running.refs)
            return running
        self._finish(request)
        return None

    def _start(self, request: CellRequest) -> RemoteCell:
        return RemoteCell(self._runtime, request, self._submit(request))

    def _finish(self, request: CellRequest) -> Any:
        """Run the cell to its end, show what it displays, bind its names, and return its outcome."""
        outcome, outputs = wait(self._runtime, request, self._submit(request))
        for bundle in outcome.bundles:
            self._shell.display_pub.publish(bundle.data, bundle.metadata)
        self._shell.user_ns.update(outputs)
        return outcome

    def _submit(self, request: CellRequest) -> list[Any]:
        for name, size in shipments.large_names(request.shipment).items():
            sys.stderr.write(f"jray: {shipments.advice(name, size)}\n")
        register_source(request.code)
        return submit(self._runtime, request)

    def _request(
        self,
        arguments: argparse.Namespace,
        source: CellSource,
        outputs: tuple[str, ...],
        *,
        is_lenient: bool = False,
        shows_last: bool | None = None,
    ) -> CellRequest:
        analysis = source.analysis
        problem = shipments.unsupported_syntax(analysis)
        if problem is not None:
            raise UsageError(problem)
        actor = self._actor(arguments)
        shipment = shipments.gather(
            analysis,
            self._shell.user_ns,
            resolve=arguments.resolve,
            provided=() if actor is None else ("self",),
        )
        label = self._label()
        if shows_last is None:
            shows_last = analysis.ends_in_expression and not analysis.is_silenced
        code = CellCode(
            source=source.python,
            filename=source_name(label, source.text),
            text=source.text,
            skipped_lines=source.skipped_lines,
            outputs=outputs,
            shows_last=shows_last,
            is_quiet=arguments.quiet,
            unknown=shipment.unknown,
            is_lenient=is_lenient,
        )
        return CellRequest(
            code,
            shipment,
            options={} if actor is not None else task_options(arguments),
            name=arguments.name or label,
            timeout_s=arguments.timeout,
            returns_refs=getattr(arguments, "ref", False),
            actor=actor,
        )

    def _actor(self, arguments: argparse.Namespace) -> Any:
        """Return the handle that --actor names; None: there is no --actor."""
        name = getattr(arguments, "actor", None)
        if name is None:
            return None
        refused = [
            flag_of(option) for option in given(arguments, _OF_THE_ACTOR) if getattr(arguments, option)
        ]
        if refused:
            raise UsageError(f"{', '.join(refused)}: the actor has its own; --actor runs the cell inside it.")
        handle = self._shell.user_ns.get(name)
        if isinstance(handle, ActorHandle):
            return handle
        try:
            return self._runtime.get_actor(name)
        except ValueError:
            raise UsageError(
                f"--actor {name}: no variable of that name holds an actor's handle, and no living actor was made with "
                "it as its name. %jray actors lists them."
            ) from None

    def _label(self) -> str:
        return f"In[{running_number(self._shell, is_recorded=True)}]"

    def _read(self, cell: str, magic: str, *, skipped_lines: int = 1) -> CellSource:
        text = f"{magic.rstrip()}\n{cell}" if skipped_lines else cell
        blank = len(cell) - len(cell.lstrip("\n"))
        python = "\n" * blank + self._shell.transform_cell(cell)
        with reading(self._shell, magic, python):
            analysis = analyze(python)
        return CellSource(python, analysis, text, skipped_lines)

    def _read_line(self, code: str, magic: str) -> CellSource:
        if not code:
            raise UsageError("%remote takes code after its options, as in `ref = %remote f(3)`.")
        python = self._shell.transform_cell(code)
        try:
            return CellSource(python, analyze(python), magic, 0)
        except SyntaxError as error:
            error.filename = source_name(self._label(), magic)
            raise


def _is_expression(code: str) -> bool:
    try:
        ast.parse(code, mode="eval")
    except SyntaxError:
        return False
    return True
