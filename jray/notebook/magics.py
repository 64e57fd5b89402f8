"""Owns the magics: what the user typed becomes a call of what works without IPython."""

from __future__ import annotations

import argparse
import linecache
import sys
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import magic_arguments, parse_argstring

from jray import compat
from jray._core.frontend import get_frontend
from jray.notebook import shipment as shipments
from jray.notebook.arguments import JRAY_OPTIONS, REMOTE_OPTIONS, task_options, with_options
from jray.notebook.capture import CellAnalysis, analyze
from jray.notebook.cells import running_number
from jray.notebook.remote import CellRequest, RemoteCell, Runtime, source_name, submit, wait
from jray.notebook.remote_cell import CellCode, register_source
from jray.notebook.status import Status, read_status


@magics_class
class JrayMagics(Magics):
    """``%%remote`` and ``%jray``."""

    def __init__(self, shell: Any, runtime: Runtime) -> None:
        super().__init__(shell)
        self._shell = shell
        self._runtime = runtime

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
        arguments = _parse(self.remote, line)
        request = self._request(arguments, line, cell)
        if arguments.dry_run:
            sys.stdout.write(shipments.manifest_text(shipments.manifest(request.shipment)) + "\n")
            return None
        for name, size in shipments.large_names(request.shipment).items():
            sys.stderr.write(f"jray: {shipments.advice(name, size)}\n")
        register_source(request.code)
        refs = submit(self._runtime, request)
        if arguments.is_async:
            running = RemoteCell(self._runtime, request, refs)
            running.show_when_done(get_frontend)
            self._shell.user_ns.update(running.refs)
            return running
        outcome, outputs = wait(self._runtime, request, refs)
        for bundle in outcome.bundles:
            self._shell.display_pub.publish(bundle.data, bundle.metadata)
        self._shell.user_ns.update(outputs)
        return None

    @magic_arguments()
    @with_options(JRAY_OPTIONS, "%jray [command] [options]")
    @line_magic
    def jray(self, line: str) -> Status | None:
        """Look at jray's cluster, start it, stop it; make room for programs written for Ray."""
        arguments = _parse(self.jray, line)
        given = {
            name: getattr(arguments, name)
            for name in ("address", "num_cpus", "num_gpus", "resources")
            if getattr(arguments, name) is not None
        }
        if given and arguments.command != "start":
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{flags}: only for %jray start")
        if arguments.command == "stop":
            self._runtime.shutdown()
            return None
        if arguments.command == "compat":
            try:
                compat.install()
            except RuntimeError as error:
                raise UsageError(str(error)) from None
            return None
        if arguments.command == "start":
            self._runtime.init(given.pop("address", None), **given)
        return read_status(self._runtime)

    # -- inside -----------------------------------------------------------------------------------

    def _request(self, arguments: argparse.Namespace, line: str, cell: str) -> CellRequest:
        analysis, source = self._read(cell)
        outputs = tuple(dict.fromkeys(arguments.output))
        problem = shipments.unsupported_syntax(analysis) or shipments.missing_outputs(outputs, analysis)
        if problem is not None:
            raise UsageError(problem)
        if arguments.ref and not outputs:
            raise UsageError("--ref brings the names of -o back as ObjectRefs; there is no -o.")
        shipment = shipments.gather(analysis, self._shell.user_ns, resolve=arguments.resolve)
        label = f"In[{running_number(self._shell, is_recorded=True)}]"
        text = f"%%remote {line}".rstrip() + "\n" + cell
        code = CellCode(
            source=source,
            filename=source_name(label, text),
            text=text,
            skipped_lines=1,
            outputs=outputs,
            shows_last=analysis.ends_in_expression and not analysis.is_silenced,
            is_quiet=arguments.quiet,
            unknown=shipment.unknown,
        )
        return CellRequest(
            code,
            shipment,
            options=task_options(arguments),
            name=arguments.name or label,
            timeout_s=arguments.timeout,
            returns_refs=arguments.ref,
        )

    def _read(self, cell: str) -> tuple[CellAnalysis, str]:
        """Return what the cell says, and its source as Python, each line where it stands in the notebook."""
        blank = len(cell) - len(cell.lstrip("\n"))
        source = "\n" * blank + self._shell.transform_cell(cell)
        try:
            return analyze(source), source
        except SyntaxError as error:
            # shown with the notebook's lines: line 1 is the one of the magic
            name = source_name(f"In[{running_number(self._shell, is_recorded=True)}]", cell)
            lines = ["%%remote\n", *source.splitlines(keepends=True)]
            linecache.cache[name] = (len(source), None, lines, name)
            error.filename = name
            if error.lineno is not None:
                error.lineno += 1
            if error.end_lineno is not None:
                error.end_lineno += 1
            raise


def _parse(magic: Any, line: str) -> argparse.Namespace:
    arguments: argparse.Namespace = parse_argstring(magic, line)
    return arguments
