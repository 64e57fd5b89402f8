"""`%%remote` and `%jray` through a real shell, over a runtime that runs tasks in this process."""

from __future__ import annotations

import asyncio
import json
import linecache
import os
import subprocess
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from jray import exceptions
from jray._core.frontend import Output, get_frontend, set_frontend
from jray._core.refs import ObjectRef
from jray._heads.cards import Head
from jray._heads.processes import ProcessId
from jray.notebook.arguments import REMOTE_OPTIONS, split_options
from jray.notebook.candidates import addresses
from jray.notebook.command_table import COMMANDS
from jray.notebook.completion import complete
from jray.notebook.remote import RemoteCell

GOLDEN = Path(__file__).parent / "golden"


def run(shell: InteractiveShell, line: str, cell: str) -> Any:
    return shell.run_cell_magic("remote", line, cell)


def shown(shell: InteractiveShell) -> list[dict[str, Any]]:
    """Return the mime bundles displayed since the last call."""
    publisher: Any = shell.display_pub
    bundles = [output["data"] for output in publisher.outputs]
    publisher.outputs.clear()
    return bundles


# --- in and out ------------------------------------------------------------------------------------


def test_names_go_in_and_chosen_names_come_back(magic_shell: InteractiveShell) -> None:
    """The cell sees the notebook's variables; only the names of -o come back."""
    magic_shell.user_ns["a"] = 20
    run(magic_shell, "-o b,c", "b = a + 1\nc = b * 2\nd = 0\n")
    assert (magic_shell.user_ns["b"], magic_shell.user_ns["c"]) == (21, 42)
    assert "d" not in magic_shell.user_ns


def test_functions_classes_and_modules_of_the_notebook_work_there(magic_shell: InteractiveShell) -> None:
    """What the notebook defines travels by value, modules by name."""
    magic_shell.run_cell("import math\ndef double(x): return 2 * x\nclass Point:\n    n = 3\n")
    run(magic_shell, "-o result", "result = double(math.floor(Point().n + 0.5))")
    assert magic_shell.user_ns["result"] == 6


def test_what_the_cell_defines_can_come_back(magic_shell: InteractiveShell) -> None:
    """Functions and instances of classes made in the cell are usable in the notebook."""
    run(
        magic_shell,
        "-o f,p",
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: 'int'\n"
        "def f(): return P(1).x + k\nk = 1\np = P(5)\n",
    )
    assert magic_shell.user_ns["f"]() == 2
    assert magic_shell.user_ns["p"].x == 5


def test_string_annotations_find_the_classes_of_the_cell(magic_shell: InteractiveShell) -> None:
    """The cell runs as the main module, where typing looks names up."""
    run(
        magic_shell,
        "-o hints",
        "import typing\nclass A: ...\nclass B:\n    a: 'A'\nhints = list(typing.get_type_hints(B))",
    )
    assert magic_shell.user_ns["hints"] == ["a"]


def test_names_that_share_a_value_still_share_it(magic_shell: InteractiveShell) -> None:
    """Two names of one list are two names of one list on the worker."""
    magic_shell.run_cell("a = []\nb = a")
    run(magic_shell, "-o b", "a.append(1)\nb = list(b)")
    assert magic_shell.user_ns["b"] == [1]
    assert magic_shell.user_ns["a"] == []


def test_a_name_used_and_not_assigned_may_come_back(magic_shell: InteractiveShell) -> None:
    """A captured value changed in place comes back when it is asked for."""
    magic_shell.user_ns["xs"] = [1]
    run(magic_shell, "--output xs", "xs.append(2)")
    assert magic_shell.user_ns["xs"] == [1, 2]


def test_an_output_that_no_line_assigns_is_refused_at_once(
    magic_shell: InteractiveShell, runtime: Any
) -> None:
    """-o with a name that can never come back names what could."""
    with pytest.raises(UsageError, match="never assigns 'nope'; it assigns x, y"):
        run(magic_shell, "-o nope", "x = 1\ny = 2")
    assert runtime.options == {}


def test_an_output_that_this_run_did_not_assign_is_an_error(magic_shell: InteractiveShell) -> None:
    """A name assigned on one path only is missed when the other path was taken."""
    with pytest.raises(NameError, match="-o x: the cell ended without assigning 'x'"):
        run(magic_shell, "-o x", "if False:\n    x = 1")


def test_refs_arrive_as_refs_unless_resolved(magic_shell: InteractiveShell, runtime: Any) -> None:
    """A captured ObjectRef is the same ObjectRef there; --resolve delivers its value."""
    ref = magic_shell.user_ns["ref"] = runtime.put([1, 2])
    run(magic_shell, "-o kind", "kind = type(ref).__name__")
    assert magic_shell.user_ns["kind"] == "ObjectRef"
    run(magic_shell, "-o total --resolve", "total = sum(ref)")
    assert magic_shell.user_ns["total"] == 3
    assert magic_shell.user_ns["ref"] is ref


def test_ref_brings_refs_back(magic_shell: InteractiveShell, runtime: Any) -> None:
    """With --ref the values stay where they are."""
    run(magic_shell, "-o big --ref", "big = 'value'")
    ref = magic_shell.user_ns["big"]
    assert isinstance(ref, ObjectRef)
    assert runtime.get(ref) == "value"


def test_ref_without_output_is_refused(magic_shell: InteractiveShell) -> None:
    """--ref says something about -o, and there is none."""
    with pytest.raises(UsageError, match="there is no -o"):
        run(magic_shell, "--ref", "x = 1")


# --- display ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1 + 1", ["2"]),
        ("'text'", ["'text'"]),
        ("1 + 1;", []),
        ("x = 1", []),
        ("None", []),
        ("display(1, 2)\n3", ["1", "2", "3"]),
        ("from IPython.display import display as show\nshow('a')", ["'a'"]),
        ("{3, 1, 2}", ["{1, 2, 3}"]),
        ("a = []\na.append(a)\na", ["[[...]]"]),
        ("import asyncio\nawait asyncio.sleep(0, 'awaited')", ["'awaited'"]),
        ("async def g():\n    yield 1\n[x async for x in g()]", ["[1]"]),
    ],
)
def test_the_last_expression_and_displays_are_shown(
    magic_shell: InteractiveShell, cell: str, expected: list[str]
) -> None:
    """A remote cell shows what the same cell would show here."""
    run(magic_shell, "", cell)
    assert [bundle["text/plain"] for bundle in shown(magic_shell)] == expected


@pytest.mark.parametrize(
    "expression",
    [
        "list(range(100))",
        "{'k' * 50: 'v' * 50, 'b': [1.5] * 30}",
        "int",
        "'a\\nb' * 60",
        "b'x'",
        "(1,)",
        "{}",
        "...",
        "1e300",
    ],
)
def test_plain_values_read_as_they_do_here(magic_shell: InteractiveShell, expression: str) -> None:
    """The text of a value is IPython's, whether or not IPython made it."""
    run(magic_shell, "", expression)
    formatter: Any = magic_shell.display_formatter
    here, _ = formatter.format(eval(expression))  # noqa: S307 -- one of the above
    assert shown(magic_shell)[0]["text/plain"] == here["text/plain"]


def test_a_data_frame_is_shown_as_html(magic_shell: InteractiveShell) -> None:
    """A data frame as the last expression has its HTML and its text."""
    run(magic_shell, "", "import pandas as pd\npd.DataFrame({'a': [1]})")
    (bundle,) = shown(magic_shell)
    assert "<table" in bundle["text/html"]
    assert "a" in bundle["text/plain"]


@pytest.mark.parametrize("ending", ["", "plt.show()\n", "fig\n", "fig.gca().set_title('t');\n"])
def test_a_figure_is_shown_once_as_png(magic_shell: InteractiveShell, ending: str) -> None:
    """Figures appear whether shown, left open, or given as the last expression."""
    run(
        magic_shell,
        "",
        f"import matplotlib.pyplot as plt\nfig = plt.figure()\nplt.plot([1, 2]);\n{ending}",
    )
    images = [bundle["image/png"] for bundle in shown(magic_shell) if "image/png" in bundle]
    assert len(images) == 1
    assert images[0].startswith("iVBOR")


def test_quiet_drops_prints_and_displays(
    magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """--quiet leaves errors alone."""
    run(magic_shell, "--quiet", "import sys\nprint('out')\nprint('err', file=sys.stderr)\ndisplay(1)\n2")
    assert capsys.readouterr() == ("", "")
    assert shown(magic_shell) == []
    with pytest.raises(ZeroDivisionError):
        run(magic_shell, "--quiet", "1 / 0")


# --- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("--num-cpus 2", {"num_cpus": 2}),
        ("--num-cpus 0.5 --num-gpus 1", {"num_cpus": 0.5, "num_gpus": 1}),
        ("--memory 2GiB", {"memory": 2**31}),
        ("--memory 1.5kb", {"memory": 1500}),
        ("--memory 1000", {"memory": 1000}),
        ("--resources a=1,b=0.5", {"resources": {"a": 1, "b": 0.5}}),
        ("""--resources '{"a": 2}'""", {"resources": {"a": 2}}),
        ("--retries 2 --retry-exceptions", {"max_retries": 2, "retry_exceptions": True}),
        ("--max-retries -1", {"max_retries": -1}),
        ("--name train", {"name": "train"}),
        ("--name 'two words'", {"name": "two words"}),
        ("--num-cpus {n}", {"num_cpus": 3}),
        ("--num-cpus $n", {"num_cpus": 3}),
    ],
)
def test_options_become_those_of_the_task(
    magic_shell: InteractiveShell, runtime: Any, line: str, expected: dict[str, Any]
) -> None:
    """Only what is given is passed on; {expressions} are replaced."""
    magic_shell.user_ns["n"] = 3
    magic_shell.user_ns["In"] = [""] * (5 + 1)
    magic_shell.run_cell_magic("remote", magic_shell.var_expand(line), "pass")
    assert runtime.options == {"name": "In[5]", "num_returns": 1, **expected}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--num-cpus many", "'many' is not a number"),
        ("--num-cpus -1", "from 0 up"),
        ("--memory 2XB", "not a size"),
        ("--resources a=b", "not a number"),
        ("--resources '{a'", "not JSON"),
        ("-o 1x", "'1x' is not a name"),
        ("--no-such-option", "unrecognized arguments: --no-such-option"),
        ("stray", "unrecognized arguments: stray"),
    ],
)
def test_a_wrong_option_is_said_in_one_line(magic_shell: InteractiveShell, line: str, message: str) -> None:
    """Nothing is run, and the message names the option's value."""
    with pytest.raises(UsageError, match=message):
        run(magic_shell, line, "1")


# --- what cannot run there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%time 1", "%time in line 1 of a remote cell needs the notebook"),
        ("x = 1\n%matplotlib inline", "%matplotlib in line 2"),
        ("x?", "the \\? help"),
    ],
)
def test_magics_inside_are_refused_by_name(magic_shell: InteractiveShell, cell: str, message: str) -> None:
    """A magic belongs to the notebook's process; the message says which and where."""
    with pytest.raises(UsageError, match=message):
        run(magic_shell, "", cell)


def test_shell_commands_run_there(magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """`!command` works on the worker, with {names} of the cell replaced."""
    run(
        magic_shell, "-o lines,_exit_code", "word = 'hello'\nlines = !echo {word} $word\n!echo direct; exit 3"
    )
    assert magic_shell.user_ns["lines"] == ["hello hello"]
    assert magic_shell.user_ns["_exit_code"] == 3
    assert capsys.readouterr().out == "direct\n"


def test_a_variable_that_cannot_be_sent_is_named(magic_shell: InteractiveShell) -> None:
    """The message tells the variable, and where inside it the trouble is."""
    magic_shell.user_ns["model"] = {"weights": 1, "lock": threading.Lock()}
    with pytest.raises(TypeError, match=r"The cell uses `model`(.|\n)*\['lock'\]") as caught:
        run(magic_shell, "", "model['weights']")
    error: Any = caught.value
    assert error._render_traceback_()[0].startswith("TypeError: The cell uses `model`")


def test_an_unused_variable_does_no_harm(magic_shell: InteractiveShell) -> None:
    """What the cell assigns first is not captured, be it picklable or not."""
    magic_shell.user_ns["lock"] = threading.Lock()
    run(magic_shell, "-o lock", "lock = 5")
    assert magic_shell.user_ns["lock"] == 5


def test_a_large_variable_is_named_with_advice(
    magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than 10 MiB in one name is worth putting once."""
    magic_shell.user_ns["table"] = bytes(11 * 1024 * 1024)
    run(magic_shell, "", "len(table);")
    assert "`table` is 11 MiB" in (text := capsys.readouterr().err)
    assert "table = jray.put(table)" in text


def test_a_dry_run_lists_and_runs_nothing(
    magic_shell: InteractiveShell, runtime: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """--dry-run shows each name with its size, largest first, and what cannot be sent."""
    magic_shell.run_cell("import math\ndef f(): ...")
    magic_shell.user_ns["blob"] = bytes(2048)
    magic_shell.user_ns["lock"] = threading.Lock()
    magic_shell.user_ns["ref"] = runtime.put(1)
    run(magic_shell, "--dry-run --resolve", "print(blob, lock, math, f, ref, missing)")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["blob", "bytes", "2.0"]
    assert {line.split()[0] for line in lines} == {"blob", "lock", "math", "f", "ref", "missing", "total"}
    assert any(line.startswith("lock") and "cannot be sent" in line for line in lines)
    assert any(line.startswith("math") and "imported there" in line for line in lines)
    assert any(line.startswith("missing") and "NameError" in line for line in lines)
    assert runtime.options == {}


def test_a_dry_run_of_a_cell_of_its_own_says_so(
    magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell that needs nothing is told in a sentence."""
    run(magic_shell, "--dry-run", "print(1)")
    assert capsys.readouterr().out == "The cell uses nothing of the notebook.\n"


# --- errors ----------------------------------------------------------------------------------------


def test_an_unknown_name_says_that_the_notebook_has_none_either(magic_shell: InteractiveShell) -> None:
    """The NameError of the cell carries the hint."""
    with pytest.raises(NameError, match="'nowhere' is not defined") as caught:
        run(magic_shell, "", "nowhere + 1")
    assert "run the cell that defines it first" in caught.value.__notes__[0]


def test_a_name_bound_late_is_no_unknown_name(magic_shell: InteractiveShell) -> None:
    """A NameError of another making gets no hint."""
    with pytest.raises(NameError) as caught:
        run(magic_shell, "", "x = 1\ndel x\nx")
    assert not hasattr(caught.value, "__notes__")


def test_lines_of_errors_are_those_of_the_cell_as_it_stands(magic_shell: InteractiveShell) -> None:
    """Line 1 is the magic's; the source can be read back on both sides."""
    with pytest.raises(ZeroDivisionError) as caught:
        run(magic_shell, "", "\nx = 1\n1 / (x - 1)\n")
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.lineno == 4
    assert frame.filename.startswith("<remote cell In[")
    assert linecache.getline(frame.filename, 4) == "1 / (x - 1)\n"
    assert linecache.getline(frame.filename, 1) == "%%remote\n"


def test_a_syntax_error_is_raised_here_with_its_line(magic_shell: InteractiveShell, runtime: Any) -> None:
    """Nothing is sent; the line number counts the magic's line."""
    with pytest.raises(SyntaxError) as caught:
        run(magic_shell, "", "x = 1\ny = = 2\n")
    assert caught.value.lineno == 3
    assert runtime.options == {}


def test_sys_exit_does_not_end_the_worker(magic_shell: InteractiveShell) -> None:
    """SystemExit becomes an error of the cell."""
    with pytest.raises(RuntimeError, match=r"called sys.exit\(3\)"):
        run(magic_shell, "", "import sys\nsys.exit(3)")


def test_an_error_assigns_nothing(magic_shell: InteractiveShell) -> None:
    """A failed cell leaves the notebook's variables as they were."""
    magic_shell.user_ns["x"] = "old"
    with pytest.raises(ZeroDivisionError):
        run(magic_shell, "-o x", "x = 'new'\n1 / 0")
    assert magic_shell.user_ns["x"] == "old"


def test_an_interrupt_cancels_the_cell(magic_shell: InteractiveShell, runtime: Any) -> None:
    """KeyboardInterrupt while waiting stops the task and says so in a line."""
    runtime.holds = True
    runtime.get_raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(magic_shell, "--name job", "1")
    error: Any = caught.value
    assert len(runtime.cancelled) == 1
    assert error._render_traceback_() == ["KeyboardInterrupt: job was cancelled."]


def test_a_cell_that_takes_too_long_is_cancelled(magic_shell: InteractiveShell, runtime: Any) -> None:
    """--timeout ends the wait and the task."""
    runtime.holds = True
    runtime.get_raises = exceptions.GetTimeoutError("late")
    with pytest.raises(
        exceptions.GetTimeoutError, match=r"job took longer than --timeout 2 s and was cancelled"
    ):
        run(magic_shell, "--timeout 2 --name job", "1")
    assert len(runtime.cancelled) == 1


# --- not waiting -----------------------------------------------------------------------------------


class RecordingFrontend:
    cell = 7

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    def write(self, output: Output) -> None:
        self.outputs.append(output)

    def flush(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def frontend() -> Any:
    found = RecordingFrontend()
    before = get_frontend()
    set_frontend(found)
    yield found
    set_frontend(before)


@pytest.mark.parametrize("flag", ["--async", "--no-block"])
def test_an_asynchronous_cell_shows_its_value_when_it_ends(
    magic_shell: InteractiveShell, runtime: Any, frontend: RecordingFrontend, flag: str
) -> None:
    """The handle comes at once, names are ObjectRefs, the display goes to the cell that sent it."""
    runtime.holds = True
    handle = run(magic_shell, f"{flag} -o x --name bg", "x = 4\nx * 2")
    assert isinstance(handle, RemoteCell)
    assert (repr(handle), handle.name) == ("RemoteCell(x)", "bg")
    assert not handle.done()
    assert isinstance(magic_shell.user_ns["x"], ObjectRef)
    frontend.cell = 8
    runtime.run_waiting()
    assert handle.done()
    (output,) = frontend.outputs
    assert (output.cell, output.kind) == (7, "display")
    assert output.data is not None
    assert output.data["data"] == {"text/plain": "8"}
    assert handle.result() == {"x": 4}


def test_an_asynchronous_cell_shows_its_error_when_it_ends(
    magic_shell: InteractiveShell, runtime: Any, frontend: RecordingFrontend
) -> None:
    """An error appears under the cell too, not only when somebody asks for the result."""
    runtime.holds = True
    handle = run(magic_shell, "--async", "1 / 0")
    runtime.run_waiting()
    (output,) = frontend.outputs
    assert (output.cell, output.kind) == (7, "stderr")
    assert "ZeroDivisionError" in output.text
    with pytest.raises(ZeroDivisionError):
        handle.result()


def test_an_asynchronous_cell_can_be_awaited(
    magic_shell: InteractiveShell, frontend: RecordingFrontend
) -> None:
    """`await cell` gives its outputs by name."""
    handle = run(magic_shell, "--async -o x", "x = 4")

    async def main() -> Any:
        return await handle

    assert asyncio.run(main()) == {"x": 4}


def test_an_asynchronous_cell_can_be_cancelled(
    magic_shell: InteractiveShell, runtime: Any, frontend: RecordingFrontend
) -> None:
    """`cell.cancel()` stops its task, and so does the end of its time."""
    runtime.holds = True
    handle = run(magic_shell, "--async", "1")
    handle.cancel()
    assert len(runtime.cancelled) == 1
    cancelled = threading.Event()
    runtime.cancel = lambda ref: cancelled.set()
    run(magic_shell, "--async --timeout 0.01", "1")
    assert cancelled.wait(30)


# --- %remote ---------------------------------------------------------------------------------------


def test_a_line_that_is_an_expression_gives_a_ref_at_once(
    magic_shell: InteractiveShell, runtime: Any
) -> None:
    """`ref = %remote f(3)` waits for nothing; options come before the code."""
    runtime.holds = True
    magic_shell.user_ns["n"] = 20
    ref = magic_shell.run_line_magic("remote", "--num-cpus 2 n + 1")
    assert isinstance(ref, ObjectRef)
    assert runtime.options["num_cpus"] == 2
    runtime.run_waiting()
    assert runtime.get(ref) == 21


def test_a_line_that_is_a_statement_runs_as_a_cell(magic_shell: InteractiveShell) -> None:
    """`%remote -o x x = 5` waits, and brings the name back."""
    assert magic_shell.run_line_magic("remote", "-o x x = 5") is None
    assert magic_shell.user_ns["x"] == 5


def test_what_an_expression_displays_appears_when_it_ends(
    magic_shell: InteractiveShell, runtime: Any, frontend: RecordingFrontend
) -> None:
    """Its value is the ref's, and is not shown beside; an error is the ref's too."""
    runtime.holds = True
    good = magic_shell.run_line_magic("remote", "display(7) or 5")
    bad = magic_shell.run_line_magic("remote", "1 / 0")
    runtime.run_waiting()
    (output,) = frontend.outputs
    assert output.data is not None
    assert output.data["data"] == {"text/plain": "7"}
    assert runtime.get(good) == 5
    with pytest.raises(ZeroDivisionError):
        runtime.get(bad)


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        ("f(3)", [], "f(3)"),
        ("--num-cpus 2 f(-3)", ["--num-cpus", "2"], "f(-3)"),
        ("-o x,y x = y = 1", ["-o", "x,y"], "x = y = 1"),
        ("--resolve --name 'two words' it's", ["--resolve", "--name", "'two words'"], "it's"),
        ("--num-cpus=2 -- -x", ["--num-cpus=2"], "-x"),
        ("", [], ""),
    ],
)
def test_options_end_where_the_code_begins(line: str, words: list[str], code: str) -> None:
    """Code is never split into words, whatever quotes are in it."""
    assert split_options(line, REMOTE_OPTIONS) == (words, code)


@pytest.mark.parametrize(
    ("line", "message"), [("", "takes code"), ("--ref f", "at once anyway"), ("--async f", "at once anyway")]
)
def test_a_line_without_sense_is_refused(magic_shell: InteractiveShell, line: str, message: str) -> None:
    """No code, and options that say what an expression does anyway."""
    magic_shell.user_ns["f"] = 1
    with pytest.raises(UsageError, match=message):
        magic_shell.run_line_magic("remote", line)


# --- --actor ---------------------------------------------------------------------------------------


class FakeActor:
    """A living actor: runs what `__ray_call__` is given with an object as `self`."""

    def __init__(self, runtime: Any, instance: Any) -> None:
        def call(function: Any, *arguments: Any) -> Any:
            run = runtime.remote(lambda *given: function(instance, *given))
            return run.options(**runtime.options).remote(*arguments)

        def options(**given: Any) -> Any:
            runtime.options = given
            return types.SimpleNamespace(remote=call)

        self.__ray_call__ = types.SimpleNamespace(options=options)


def test_a_cell_runs_inside_an_actor(magic_shell: InteractiveShell, runtime: Any) -> None:
    """It calls the actor `self`; the notebook's own `self` is not sent."""
    instance = types.SimpleNamespace(n=1)
    runtime.get_actor = lambda name: FakeActor(runtime, instance)
    magic_shell.user_ns["self"] = threading.Lock()
    run(magic_shell, "--actor bob -o seen", "self.n += 1\nseen = self.n")
    assert (instance.n, magic_shell.user_ns["seen"]) == (2, 2)
    assert set(runtime.options) == {"name", "num_returns"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--actor nobody", "no living actor was made with it as its name"),
        ("--actor bob --num-cpus 1", "--num-cpus: the actor has its own"),
        ("--actor bob --retries 1 --retry-exceptions", "--max-retries, --retry-exceptions: the actor"),
    ],
)
def test_an_actor_that_is_not_there_is_said(magic_shell: InteractiveShell, line: str, message: str) -> None:
    """And so are options that an actor's call has not."""
    with pytest.raises(UsageError, match=message):
        run(magic_shell, line, "1")


# --- %%autoremote ----------------------------------------------------------------------------------


@pytest.fixture
def auto_shell(magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> InteractiveShell:
    """A shell in which `%autoremote on` has run."""
    magic_shell.run_cell("%autoremote on --num-cpus 2")
    capsys.readouterr()
    return magic_shell


def test_autoremote_sends_plain_cells(
    auto_shell: InteractiveShell, runtime: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they assign comes back, what can't is named, and each says loudly where it ran."""
    auto_shell.run_cell("import threading\nx = 4\nlock = threading.Lock()\nx * 2").raise_error()
    assert runtime.options["num_cpus"] == 2
    assert auto_shell.user_ns["x"] == 4
    assert "lock" not in auto_shell.user_ns
    said = capsys.readouterr().err
    assert said.startswith("jray: %autoremote is ON")
    assert "lock stays on the worker: Cannot serialize" in said
    assert [bundle["text/plain"] for bundle in shown(auto_shell)] == ["8"]


@pytest.mark.parametrize(
    "cell",
    [
        "%time 1",
        "# why\n%time 1",
        "%%time\nx = 1",
        "!true",
        "x?",
        "",
        "# a remark",
        "status = %autoremote",
        "x = (",
    ],
)
def test_autoremote_leaves_ipythons_cells_here(auto_shell: InteractiveShell, runtime: Any, cell: str) -> None:
    """Magics, commands and help belong to the notebook, and what is no Python gets its usual error."""
    auto_shell.run_cell(cell)
    assert runtime.options == {}


def test_autoremote_goes_off_without_a_trace(auto_shell: InteractiveShell, runtime: Any) -> None:
    """Cells run here again, and the shell has nothing of it left."""
    auto_shell.run_cell("%autoremote off")
    auto_shell.run_cell("x = 1")
    assert runtime.options == {}
    assert not any("autoremote" in repr(found).lower() for found in auto_shell.input_transformers_cleanup)


def test_autoremote_tells_its_state(
    magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an argument it says which it is, and an option without `on` is enough to switch it on."""
    magic_shell.run_cell("%autoremote")
    assert capsys.readouterr().out.startswith("jray: %autoremote is off")
    magic_shell.run_cell("%autoremote --num-cpus 1")
    assert capsys.readouterr().out.startswith("jray: %autoremote is ON with --num-cpus 1")
    with pytest.raises(UsageError, match="options are for %autoremote on"):
        magic_shell.run_line_magic("autoremote", "off --quiet")


# --- jray.new_magic --------------------------------------------------------------------------------


def new_magic(shell: InteractiveShell, name: str, **options: Any) -> None:
    shell.magics_manager.registry["JrayMagics"].add(name, options)


def test_a_magic_of_ones_own_has_its_defaults(magic_shell: InteractiveShell, runtime: Any) -> None:
    """What the cell says comes first; the line form gives a ref, whatever names cells bring back."""
    new_magic(magic_shell, "gpu", num_gpus=1, memory="1GiB", output=["q", "r"])
    magic_shell.run_cell_magic("gpu", "", "q = 1\nr = 2")
    assert (runtime.options["num_gpus"], runtime.options["memory"]) == (1, 2**30)
    assert (magic_shell.user_ns["q"], magic_shell.user_ns["r"]) == (1, 2)
    magic_shell.run_cell_magic("gpu", "--num-gpus 2 -o s", "s = 3")
    assert runtime.options["num_gpus"] == 2
    assert magic_shell.user_ns["s"] == 3
    assert runtime.get(magic_shell.run_line_magic("gpu", "q + 1")) == 2


@pytest.mark.filterwarnings("ignore::IPython.core.completer.ProvisionalCompleterWarning")
def test_a_magic_of_ones_own_has_help_and_completion(magic_shell: InteractiveShell) -> None:
    """Made from the same table, with the defaults in it; given again, the newer counts."""
    new_magic(magic_shell, "gpu", num_gpus=4)
    new_magic(magic_shell, "gpu", num_gpus=1)
    assert completions(magic_shell, "%%gpu --num-g") == ["--num-gpus"]
    assert completions(magic_shell, "%gpu --num-g") == ["--num-gpus"]
    text = magic_shell.find_magic("gpu", "cell").__doc__
    assert "%%gpu [options]" in text
    assert "GPUs to reserve (here: 1)." in text


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("gpu", {"num_gpu": 1}, TypeError, "did you mean 'num_gpus'"),
        ("gpu", {"num_gpus": "many"}, TypeError, "'many' is not a number"),
        ("gpu", {"quiet": 1}, TypeError, "quiet is a switch"),
        ("gpu", {"memory": {}}, TypeError, "memory takes no dict"),
        ("no-name", {}, ValueError, "not a name for a magic"),
        ("time", {}, ValueError, "There is a magic %time already"),
        ("remote", {}, ValueError, "There is a magic %remote already"),
    ],
)
def test_a_wrong_magic_is_refused(
    magic_shell: InteractiveShell, name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """An option that does not exist, a value of the wrong type, a name that is taken."""
    with pytest.raises(error, match=message):
        new_magic(magic_shell, name, **options)


def test_magics_go_with_the_extension(magic_shell: InteractiveShell) -> None:
    """Those that users made, too."""
    new_magic(magic_shell, "gpu")
    magic_shell.magics_manager.registry["JrayMagics"].remove()
    assert not {"gpu", "jray", "remote", "actor"} & {
        name for kind in magic_shell.magics_manager.magics.values() for name in kind
    }


# --- %jray -----------------------------------------------------------------------------------------


def test_status_as_text(magic_shell: InteractiveShell) -> None:
    """The text of a state is the same each time."""
    status = magic_shell.run_line_magic("jray", "status")
    assert repr(status) == (
        "jray: 1 node\n  CPU     1.5 of 2 in use\n  memory  0 B of 4.0 GiB in use\n  lic<b>  0 of 1 in use"
    )
    assert repr(magic_shell.run_line_magic("jray", "")) == repr(status)


def test_status_as_html_is_escaped(magic_shell: InteractiveShell) -> None:
    """Names of resources and hosts are text, whatever they hold."""
    html = magic_shell.run_line_magic("jray", "status")._repr_html_()
    assert "lic&lt;b&gt;" in html
    assert "<b>" not in html
    # of one node the totals say it all
    assert "abababab" not in html
    assert "node:127" not in html


def test_status_of_nothing_starts_nothing(magic_shell: InteractiveShell, runtime: Any) -> None:
    """Without a cluster the status says how to get one."""
    runtime.is_up = False
    assert "%jray start" in repr(magic_shell.run_line_magic("jray", "status"))
    assert runtime.started_with is None


def test_start_and_stop(magic_shell: InteractiveShell, runtime: Any) -> None:
    """They are jray.init and jray.shutdown with the options given."""
    runtime.is_up = False
    magic_shell.run_line_magic("jray", "start --num-cpus 2 --resources lic=1")
    assert runtime.started_with == (None, {"num_cpus": 2, "resources": {"lic": 1.0}})
    with pytest.raises(UsageError, match="jray runs in this notebook already"):
        magic_shell.run_line_magic("jray", "start")
    assert magic_shell.run_line_magic("jray", "stop") is None
    assert not runtime.is_up
    magic_shell.run_line_magic("jray", "start --address auto")
    assert runtime.started_with == ("auto", {})
    magic_shell.run_line_magic("jray", "stop")
    magic_shell.run_line_magic("jray", "connect /run/head.sock")
    assert runtime.started_with == ("/run/head.sock", {})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bogus", "no command 'bogus'"),
        ("taks", "did you mean 'tasks'"),
        ("stop --num-cpus 1", "unrecognized arguments: --num-cpus 1"),
        ("connect", "required: ADDRESS"),
        ("help taks", "did you mean 'tasks'"),
    ],
)
def test_a_wrong_command_is_refused(magic_shell: InteractiveShell, line: str, message: str) -> None:
    """A command that does not exist, and an option that the command does not take."""
    with pytest.raises(UsageError, match=message):
        magic_shell.run_line_magic("jray", line)


# --- help and completion ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [
        ("cell", "remote", "remote"),
        ("line", "remote", "remote-line"),
        ("line", "jray", "jray"),
        ("cell", "actor", "actor"),
        ("cell", "autoremote", "autoremote"),
        ("line", "autoremote", "autoremote-line"),
    ],
)
@pytest.mark.promise("T7")
def test_help_lists_every_option(magic_shell: InteractiveShell, kind: str, name: str, file: str) -> None:
    """The help is made from the option table; a change of it is a change of this file."""
    text = (magic_shell.find_magic(name, kind).__doc__ or "").rstrip() + "\n"
    assert text == (GOLDEN / f"{file}.txt").read_text()


def test_each_command_has_help_of_its_own(
    magic_shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """`%jray help NAME` lists the options of that command; all of them are one file."""
    names = [command.name for command in COMMANDS]
    for name in names:
        magic_shell.run_line_magic("jray", f"help {name}")
        sys.stdout.write("\n")
    assert capsys.readouterr().out == (GOLDEN / "commands.txt").read_text()


def completions(shell: InteractiveShell, text: str, *, cursor: int | None = None) -> list[str]:
    """Return what IPython offers at the cursor."""
    cursor = len(text) if cursor is None else cursor
    found = shell.Completer.completions(text, cursor)
    return [completion.text for completion in found]


@pytest.mark.filterwarnings("ignore::IPython.core.completer.ProvisionalCompleterWarning")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%%remote --nu", ["--num-cpus", "--num-gpus"]),
        ("%%remote --num-cpus 2 --nu", ["--num-gpus"]),
        ("%%remote --as", ["--async"]),
        ("%%remote -o a --q", ["--quiet"]),
        ("%remote --nu", ["--num-cpus", "--num-gpus"]),
        ("%%actor counter --max", ["--max-concurrency", "--max-restarts", "--max-task-retries"]),
        ("%autoremote o", ["on", "off"]),
        ("%jray st", ["status", "start", "stop"]),
        ("x = %jray sta", ["status", "start"]),
        ("%jray start --ad", ["--address"]),
        ("%jray tasks --s", ["--state"]),
        ("%jray tasks --state f", ["finished", "failed"]),
        ("%jray tasks --state=w", ["waiting"]),
        ("%jray help ta", ["tasks"]),
    ],
)
@pytest.mark.promise("T7")
def test_options_complete(magic_shell: InteractiveShell, text: str, expected: list[str]) -> None:
    """Options and subcommands complete, and nothing else is offered in their place."""
    assert sorted(completions(magic_shell, text)) == sorted(expected)


@pytest.mark.filterwarnings("ignore::IPython.core.completer.ProvisionalCompleterWarning")
@pytest.mark.parametrize(
    ("line", "body", "expected"),
    [
        ("%%remote -o ", "alpha = 1\nbeta = 2", ["alpha", "beta"]),
        ("%%remote -o al", "alpha = 1\nbeta = 2", ["alpha"]),
        ("%%remote -o alpha,", "alpha = 1\nbeta = 2", ["beta"]),
        ("%%remote --output=b", "alpha = 1\nbeta = 2", ["beta"]),
    ],
)
def test_output_names_complete_from_the_cell(
    magic_shell: InteractiveShell, line: str, body: str, expected: list[str]
) -> None:
    """After -o the names come that the cell below assigns, those already listed left out."""
    assert completions(magic_shell, f"{line}\n{body}", cursor=len(line)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%jray cancel ", ("", ["In[4]", "--all", "--force"])),
        ("%jray cancel In", ("In", ["In[4]"])),
        ("%jray cancel In[4] ", ("", ["--all", "--force"])),
        ("%jray why re", ("re", ["refs"])),
        ("%jray why refs re", ("re", ["refs"])),
        ("%%remote --actor c", ("c", ["counter"])),
        ("%%remote --actor=c", ("c", ["counter"])),
        ("%jray connect /", ("/", ["/run/head.sock"])),
        ("%jray free --out r", ("r", ["refs"])),
        ("%jray stop ", ("", [])),
        ("%jray bogus ", ("", [])),
        ("%remote f", ("", [])),
        ("%remote --num-cpus 1 f", ("", [])),
        ("%%remote --num-cpus ", ("", [])),
        ("%time x", ("", [])),
        ("5 % 3 ", ("", [])),
    ],
)
def test_values_complete_from_what_there_is(text: str, expected: tuple[str, list[str]]) -> None:
    """Cells, variables, actors and addresses come where they can stand, and no place is filled twice."""
    known = {
        "cancellable": ["In[4]"], "refs": ["refs"], "actors": ["counter"], "addresses": ["/run/head.sock"],
        "held": ["refs"],
    }  # fmt: skip
    tables = {"%%remote": REMOTE_OPTIONS, "%remote": REMOTE_OPTIONS}
    found = complete(text, 0, len(text), tables, COMMANDS, lambda kind, _: known[kind])
    if expected == ("", []):
        assert found[1] == []
    else:
        assert found == expected


def test_addresses_are_those_of_living_heads_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest first; none of the dead, of broken cards, or from directories that others can write."""
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(tmp_path))

    def card(name: str, text: str, mode: int = 0o700) -> None:
        folder = tmp_path / f"jray-{os.geteuid()}-{name}"
        folder.mkdir()
        (folder / "head.json").write_text(text)
        folder.chmod(mode)

    def told(address: str, created_s: float, process: ProcessId) -> str:
        head = Head(
            session=address, pid=process.pid, start_time=process.start_time, address=address, session_dir="",
            store_dir="", spill_dir="", num_cpus=1, owner_pid=None, started_by="a test", idle_timeout_s=None,
            python="", created_s=created_s,
        )  # fmt: skip
        return json.dumps(head.to_record())

    own = ProcessId.own()
    card("old", told("/old.sock", 1.0, own))
    card("new", told("/new.sock", 2.0, own))
    card("dead", told("/dead.sock", 3.0, ProcessId(2**22 + 1, 1)))
    card("open", told("/open.sock", 4.0, own), mode=0o777)
    card("broken", "{")
    assert addresses() == ["/new.sock", "/old.sock"]


@pytest.mark.filterwarnings("ignore::IPython.core.completer.ProvisionalCompleterWarning")
def test_completion_leaves_other_lines_alone(magic_shell: InteractiveShell) -> None:
    """In the body of the cell Python's own completion works."""
    magic_shell.user_ns["zebra_crossing"] = 1
    assert "zebra_crossing" in completions(magic_shell, "%%remote\nzebra_cr")


def test_the_worker_side_needs_no_ipython() -> None:
    """Running a plain cell on a worker loads neither IPython nor matplotlib."""
    script = (
        "import sys\n"
        "from jray.notebook.remote_cell import CellCode, run_cell\n"
        "code = CellCode('x + 1', '<c>', 'x + 1', 0, (), True, False, ())\n"
        "assert run_cell(code, {'x': 1}, ()).bundles[0].data == {'text/plain': '2'}\n"
        "print([name for name in ('IPython', 'matplotlib', 'cloudpickle') if name in sys.modules])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
