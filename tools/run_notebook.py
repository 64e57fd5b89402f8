"""Run a notebook from top to bottom with this Python, print what its cells say, keep the executed copy.

usage: python tools/run_notebook.py NOTEBOOK --output FILE [--timeout SECONDS]

Ends with status 1 if a cell raises; the executed copy then holds what came before, and the error.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets import default

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def text_of(output: NotebookNode) -> str:
    """Return what a terminal can show of one output of a cell."""
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return "\n".join(output.traceback)
    if "text/plain" in output.data:
        return str(output.data["text/plain"])
    return f"[{', '.join(output.data)}]"


def report(cell: NotebookNode) -> Iterator[str]:
    """Yield the lines that show a cell: its prompt with its first line of code, then its outputs."""
    lines = [line for line in cell.source.splitlines() if line.strip()]
    more = " ..." if len(lines) > 1 else ""
    yield f"In [{cell.execution_count}]: {lines[0] if lines else ''}{more}"
    for output in cell.outputs:
        yield from (f"    {line}" for line in text_of(output).splitlines())


def show(cell: NotebookNode) -> None:
    text = "\n".join(report(cell))
    print(text if sys.stdout.isatty() else ANSI.sub("", text), flush=True)


class ThisPython(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels are installed on this machine."""

    @default("kernel_spec_manager")
    def _no_installed_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])

    @default("transport_encryption")
    def _encrypt_if_possible(self) -> str:
        return "auto"  # where neither side knows of it, nobody reads this


def client_for(notebook: NotebookNode, folder: Path, timeout_s: int) -> NotebookClient:
    """Return what runs `notebook` in `folder` and shows each cell as it ends."""

    def executed(cell: NotebookNode, **_: object) -> None:
        show(cell)

    return NotebookClient(
        notebook,
        timeout=timeout_s,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,  # a new run changes only what it must
        on_cell_executed=executed,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as described above; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="where the executed copy goes")
    parser.add_argument("--timeout", type=int, default=120, help="seconds a cell may take (default: 120)")
    options = parser.parse_args(arguments)
    if not options.notebook.is_file():
        parser.error(f"there is no notebook {options.notebook}")

    notebook = nbformat.read(options.notebook, as_version=4)
    started_s = time.monotonic()
    failure: Exception | None = None
    try:
        client_for(notebook, options.notebook.parent, options.timeout).execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        failure = error
    options.output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, options.output)

    took = f"{time.monotonic() - started_s:.1f} s"
    if failure is None:
        print(f"\n{options.notebook} ran in {took}; executed copy: {options.output}")
        return 0
    # what a cell raised has been shown with the cell
    why = "a cell raised" if isinstance(failure, CellExecutionError) else str(failure).splitlines()[0]
    print(f"\n{options.notebook} stopped after {took}: {why}; what ran: {options.output}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
