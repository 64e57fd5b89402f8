"""What the command `jray` understands, and how it writes its answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from jray._core.quantities import labels
from jray.cli import main, output
from jray.cli.parser import COMMANDS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("start", "give --head"),
        ("start --address=auto --head", "cannot be given with --address"),
        ("start --head --num-cpus=two", "'two' is not a number"),
        ("start --head --num-cpus=1.5", "not a whole number"),
        ("start --head --num-cpus=-1", "is not a number from 0 up"),
        ("start --head --object-store-memory=1KiB", "at least 4194304 bytes"),
        ("start --head --object-store-memory=huge", "'huge' is not a size"),
        ("start --head --resources=CPU=1", "its own keyword"),
        ("start --head --resources=gadget=1.5", "must be whole numbers"),
        ("start --head --labels=zone", "'zone' is not a label"),
        ("start --head --port=6379", "--port is not supported: jray's processes talk over Unix sockets"),
        ("start --head --include-dashboard=true", "jray has no dashboard"),
        ("start --head --system-config={}", "environment variables"),
        ("start --head --keep-for=1", "give --keep-with"),
        ("start --head --keep-with=999999999", "not the pid of a running process"),
        ("start --head --idle-timeout=inf", "not a number from 0 up"),
        ("start --head --no-such", "unrecognized arguments: --no-such"),
        ("start --hea", "unrecognized arguments: --hea"),
        ("stop --grace-period=-1", "-1.0 is not a number of seconds"),
        ("list", "required: resource"),
        ("list cats", "invalid choice: 'cats'"),
        ("list actors --filter=state", "COLUMN=VALUE"),
        ("list actors --filter==x", "COLUMN=VALUE"),
        ("logs this that", "is no kind of log"),
        ("logs task", "give the task's --id"),
        ("memory --num-entries=0", "not a number from 1 up"),
        ("fly", "invalid choice: 'fly'"),
    ],
)
def test_what_is_not_understood_ends_with_status_2(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with what is wrong about it; nothing is started."""
    monkeypatch.setenv("JRAY_RUNTIME_DIR", str(tmp_path))
    try:
        status: object = main(words.split())
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With every option explained, unless it is one that is only there to be refused."""
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: jray {name}" in capsys.readouterr().out


DATA = {
    "name": 'a "quoted"\nname',
    "none": None,
    "on": True,
    "1st": [1, 2.5, "no"],
    "empty": [{}, [], ""],
    "rows": [{"a": 1, "b": {"c": ["x"]}}, {"a": 2}],
}


def test_yaml_is_written_in_blocks_with_scalars_of_json() -> None:
    """So that no text is taken for a number, a truth value or a comment."""
    assert output.as_data(DATA, "yaml").splitlines() == [
        "---",
        'name: "a \\"quoted\\"\\nname"',
        "none: null",
        '"on": true',
        '"1st":',
        "  - 1",
        "  - 2.5",
        '  - "no"',
        "empty:",
        "  - {}",
        "  - []",
        '  - ""',
        "rows:",
        "  - a: 1",
        "    b:",
        "      c:",
        '        - "x"',
        "  - a: 2",
        "...",
    ]
    assert output.as_data([], "yaml").splitlines() == ["---", "[]", "..."]


def test_yaml_says_what_json_says() -> None:
    """Any reader of YAML finds the same data."""
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(output.as_data(DATA, "yaml")) == DATA
    assert json.loads(output.as_data(DATA, "json")) == DATA


def test_a_table_keeps_its_lines_and_columns() -> None:
    """Whatever a name holds; what is not there is empty, not None."""
    rows: list[dict[str, object]] = [{"name": "a\nb", "n": 1}, {"name": "longer", "n": None, "x": {"k": 1}}]
    assert output.table(["name", "n", "x"], rows).splitlines() == [
        "NAME    N  X",
        "a b     1",
        'longer     {"k": 1}',
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.9, "59 s"), (61, "1 min"), (3600, "1 h"), (3900, "1 h 5 min"), (90_000, "1 d 1 h")],
)
def test_how_long_ago_something_was(seconds: float, said: str) -> None:
    """In the two largest units."""
    assert output.elapsed(seconds) == said


def test_labels_are_pairs() -> None:
    """Of text that may be empty."""
    assert labels("zone=a, disk=, ") == {"zone": "a", "disk": ""}
    with pytest.raises(argparse.ArgumentTypeError, match="'=x' is not a label"):
        labels("=x")
