"""Write docs/ray-api.md: each public name of Ray Core, its tier, whether jray has it, and the tests that use it.

usage: python tools/api_table.py [--check]

With --check nothing is written, and the status is 1 if the page is not current or a name of T1 or T2 is missing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from jray import _refusals, session  # noqa: E402 -- the checkout's, not what may be installed
from jray._core import options as option_tables  # noqa: E402
from jray._core.environments import normalize  # noqa: E402
from jray.cli.parser import COMMANDS  # noqa: E402
from tools import api_names, api_uses  # noqa: E402
from tools.api_uses import Uses  # noqa: E402

PAGE = ROOT / "docs" / "ray-api.md"
TESTS = ROOT / "tests"

#: "yes", or why not
YES, REFUSED, MISSING, PLANNED = "yes", "refused", "no", "planned"
#: they speak of names without using them
_OWN_TESTS = "unit/test_api_table.py"
#: tests shown for one name
_SHOWN = 2

#: what Ray refuses too: a refusal is the behaviour
_AS_IN_RAY = {f"jray.init({name})" for name in ("local_mode", "storage", "allow_multiple")}
_OPTIONS = {
    "task": option_tables.TASK_OPTIONS,
    "actor": option_tables.ACTOR_OPTIONS,
    "method": option_tables.METHOD_CALL_OPTIONS,
}
#: an environment with the field in question, where ["x"] is no good value for it, or nothing by itself
_ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "config": {"config": {}},
    "env_vars": {"env_vars": {}},
    "excludes": {"working_dir": ".", "excludes": []},
    "py_modules": {"py_modules": ["."]},
    "working_dir": {"working_dir": "."},
}

#: class -> what shows that an instance is at hand: a name, or an attribute with a dot in front
OWNERS: dict[str, set[str]] = {
    "jray.ObjectRef": {"jray.ObjectRef", "jray.put", ".remote"},
    "jray.ObjectRefGenerator": {"jray.ObjectRefGenerator", ".yield"},
    "jray.remote_function.RemoteFunction": {".remote", ".options", "jray.remote"},
    "jray.actor.ActorClass": {".remote"},
    "jray.actor.ActorHandle": {".remote"},
    "jray.actor.ActorMethod": {".remote"},
    "jray.runtime_context.RuntimeContext": {"jray.get_runtime_context"},
    "jray.session.RayContext": {"jray.init"},
    "jray.exceptions.RayError": {"jray.exceptions"},
    "jray.exceptions.RayTaskError": {"jray.exceptions"},
    "jray.util.placement_group.PlacementGroup": {"jray.util.placement_group"},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What is known of one name."""

    section: str
    name: str
    tier: str
    status: str
    tests: tuple[str, ...]

    @property
    def is_due(self) -> bool:
        """Tell whether jray has no excuse for lacking it."""
        return self.tier in {"T1", "T2"} and self.status in {MISSING, REFUSED}


# -- whether jray has it ----------------------------------------------------------------------------------


def status_of(name: str) -> str:
    """Return "yes", "refused" or "no"."""
    if name.startswith("$ jray "):
        return _command(name.removeprefix("$ jray "))
    if name.startswith("$"):
        return YES if re.search(rf"\b{name[1:]}\b", _source()) else MISSING
    head, _, argument = name.removesuffix(")").partition("(")
    if head in _OPTIONS:
        option = _OPTIONS[head].get(argument)
        return MISSING if option is None else YES if option.instead is None else REFUSED
    if head == "runtime_env":
        return _field(argument)
    if argument:
        return _keyword(head, argument)
    return _dotted(name)


def _command(name: str) -> str:
    return YES if name in COMMANDS or name == "--version" else MISSING


@functools.cache
def _source() -> str:
    return "\n".join(path.read_text() for path in sorted(ROOT.glob("jray/**/*.py")))


def _field(name: str) -> str:
    try:
        normalize(_ENVIRONMENTS.get(name, {name: ["x"]}))
    except NotImplementedError:
        return REFUSED
    except (TypeError, ValueError) as error:
        return MISSING if "unknown field" in str(error) else YES
    return YES


def _keyword(function: str, keyword: str) -> str:
    if function == "jray.init":
        if (
            f"{function}({keyword})" in _AS_IN_RAY
            or keyword in session._WITHOUT_EFFECT.keys() | session._GRANTED
        ):
            return YES
        if keyword in session._REFUSED:
            return REFUSED
    found = find(function)
    return YES if found is not None and keyword in inspect.signature(found).parameters else MISSING


def _dotted(name: str) -> str:
    if name.endswith(".bind"):  # there to say what to do instead
        return REFUSED
    if find(name) is not None:
        return YES
    parts = name.split(".")[1:]
    prefixes = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    if any(prefix in _refusals.REFUSED for prefix in prefixes):
        return REFUSED
    owner, _, member = name.rpartition(".")
    cls = find(owner)
    if inspect.isclass(cls) and _is_of_instances(cls, member):
        return YES
    return MISSING


@functools.cache
def find(name: str) -> Any:
    """Return the object of that name, None if there is none; an import path counts as in a program."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            try:
                found = (
                    inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
                )
            except (AttributeError, ImportError):
                return None
        return found
    return None


def _is_of_instances(cls: type, name: str) -> bool:
    """Tell whether instances have an attribute that the class itself has not."""
    if name in {"__ray_terminate__", "__ray_ready__", "__ray_call__"}:  # by `__getattr__`
        return cls.__name__ == "ActorHandle"
    return any(
        name in inspect.get_annotations(each) or name in _set_by(each)
        for each in cls.__mro__
        if each.__module__.startswith("jray")
    )


@functools.cache
def _set_by(cls: type) -> set[str]:
    """Return the attributes that a class's methods set on its instances."""
    functions = [value for value in vars(cls).values() if inspect.isfunction(value)]
    return {
        name for function in functions for name in re.findall(r"self\.(\w+)\b", inspect.getsource(function))
    }


# -- which tests use it -----------------------------------------------------------------------------------


def is_used(name: str, uses: Uses) -> bool:
    """Tell whether some test's code uses a name."""
    if name.startswith("$ jray "):
        return name.removeprefix("$ jray ") in uses.texts and bool({"jray", "jray.cli"} & uses.texts)
    if name.startswith("$"):
        return name[1:] in uses.texts
    head, _, argument = name.removesuffix(")").partition("(")
    if head in _OPTIONS:
        return (head, argument) in uses.options or (head in uses.open_calls and argument in uses.texts)
    if head == "runtime_env":
        return argument in uses.texts and (
            "runtime_env" in uses.texts or "jray.runtime_env.RuntimeEnv" in uses.dotted
        )
    if argument:
        return _is_argument_used(head, argument, uses)
    owner, _, member = name.rpartition(".")
    if not inspect.isclass(find(owner)):
        return _is_named(name, uses)
    if member in {"options", "remote"} and owner.startswith("jray.actor."):
        kind = "actor" if owner.endswith("ActorClass") else "method"
        return member in uses.attributes and (
            member == "remote" or any(each[0] == kind for each in uses.options)
        )
    evidence = OWNERS.get(owner, _spellings(owner))
    at_hand = {
        item[1:] for item in evidence if item.startswith(".")
    } & uses.attributes or evidence & uses.dotted
    return bool(at_hand) and member in uses.attributes


def _is_named(name: str, uses: Uses) -> bool:
    """Tell whether a test names it in full, or as a text beside its module: `getattr(jray.exceptions, "RayError")`."""
    module, _, last = name.rpartition(".")
    return bool(_spellings(name) & uses.dotted) or (
        module != "jray" and module in uses.dotted and last in uses.texts
    )


@functools.cache
def _spellings(name: str) -> set[str]:
    """Return the full names by which tests may reach the same object."""
    module, _, last = name.rpartition(".")
    found = find(name)
    home = getattr(found, "__module__", None)
    others = {f"{home}.{last}"} if isinstance(home, str) and home.startswith("jray") else set()
    return {name, *others} if module else {name}


def _is_argument_used(function: str, keyword: str, uses: Uses) -> bool:
    names = _spellings(function)
    if function.startswith("jray.exceptions."):  # its fields: made by jray, read by programs
        return _is_named(function, uses) and keyword in uses.attributes | uses.texts
    position = _parameters(function).get(keyword, -1)
    direct = any((name, keyword) in uses.arguments or (name, position) in uses.arguments for name in names)
    return direct or (bool(names & uses.open_calls) and keyword in uses.texts)


@functools.cache
def _parameters(function: str) -> dict[str, int]:
    """Return the positions of a function's parameters by name; none if there is no such function."""
    found = find(function)
    return {} if found is None else {name: n for n, name in enumerate(inspect.signature(found).parameters)}


# -- the page ----------------------------------------------------------------------------------------------


def rows() -> list[Row]:
    """Return what is known of every name."""
    tests = {
        name: uses for name, uses in api_uses.all_tests(TESTS).items() if not name.startswith(_OWN_TESTS)
    }
    planned = api_names.planned()
    return [
        Row(
            section,
            name,
            tier,
            PLANNED if name in planned else status_of(name),
            tuple(test for test, uses in tests.items() if is_used(name, uses)),
        )
        for section, name, tier in api_names.inventory()
    ]


def make(found: Sequence[Row]) -> str:
    """Return the text of the page."""
    lines = [
        "# Ray's names in jray",
        "",
        "Made by `python tools/api_table.py` from the inventory in `tools/api_names.py`; don't edit it by hand.",
        "",
        "T1: in every tutorial. T2: expected by who uses Ray Core. T3: rare or deprecated. OUT: not Ray Core.",
        "*refused*: using it raises an error that says what to do instead. A test is counted if its code uses the name.",
        "",
        "| tier | names | yes | refused | planned | no | used by tests |",
        "|---|---|---|---|---|---|---|",
    ]
    for tier in ("T1", "T2", "T3", "OUT"):
        mine = [row for row in found if row.tier == tier]
        count = Counter(row.status for row in mine)
        used = sum(bool(row.tests) for row in mine)
        numbers = [len(mine), *(count[status] for status in (YES, REFUSED, PLANNED, MISSING)), used]
        lines.append(f"| {tier} | {' | '.join(map(str, numbers))} |")
    for section in api_names.SECTIONS:
        lines += ["", f"## {section}", "", "| name | tier | jray | tests |", "|---|---|---|---|"]
        lines += [
            f"| `{row.name}` | {row.tier} | {row.status} | {_tests(row.tests)} |"
            for row in found
            if row.section == section
        ]
    if api_names.PLANNED:
        lines += ["", "## Planned", ""]
        for what, groups in api_names.PLANNED.items():
            names = [name for first, each in groups for name in api_names.expand(first, each)]
            lines.append(f"- {what}: {', '.join(f'`{name}`' for name in names)}")
    return "\n".join(lines) + "\n"


def _tests(tests: Sequence[str]) -> str:
    shown = "<br>".join(f"`{test}`" for test in tests[:_SHOWN])
    # not how many: that would change with every test
    return f"{shown}<br>and more" if len(tests) > _SHOWN else shown


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/ray-api.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, and tell whether it is current")
    wanted = parser.parse_args(arguments)
    found = rows()
    text = make(found)
    due = [row.name for row in found if row.is_due]
    untested = [row.name for row in found if row.tier in {"T1", "T2"} and row.status == YES and not row.tests]
    print(f"missing of T1 and T2, and not planned: {' '.join(due) or 'none'}")
    print(f"there, but used by no test: {' '.join(untested) or 'none'}")
    if not wanted.check:
        PAGE.write_text(text)
        return 0
    return int(bool(due) or not PAGE.exists() or PAGE.read_text() != text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
