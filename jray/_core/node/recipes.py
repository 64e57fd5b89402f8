"""Owns what a runtime environment is made of on a node: its parts, how each is made, and what a worker is told of them.

Pure: the parts' keys say what is in them, so that whoever wants the same has the same.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from jray._core.environments import SETUP_TIMEOUT_S, WORKING_DIR_VARIABLE, Environment, as_dict
from jray._core.machine.provisions import Part

#: a directory of the node that nobody has used for so long is looked for again
_PLACE_S = 1.0
#: what of the variables changes what is installed
_INSTALLERS_OWN = ("PIP_", "UV_")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A directory that this node must have."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class Unpack:
    """A package of files."""

    uri: str


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """A package that is not unpacked: a pickled function."""

    uri: str


@dataclasses.dataclass(frozen=True, slots=True)
class Install:
    """Packages of Python."""

    tool: str
    fields: Mapping[str, Any]
    variables: Mapping[str, str]
    working_dir: str  #: key of the part that is the working directory; "": they do not refer to it


@dataclasses.dataclass(frozen=True, slots=True)
class Interpret:
    """An interpreter that runs: that of installed packages, or the one of a command."""

    packages: str  #: key of the part that has it
    command: tuple[str, ...]
    working_dir: str  #: key of the part it starts in; ""
    variables: Mapping[str, str]


Order = Place | Unpack | Keep | Install | Interpret


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """The parts of one environment."""

    parts: tuple[Part, ...]
    orders: Mapping[str, Order]  #: by key
    working_dir: str = ""  #: keys of what they are; "": there is none
    modules: tuple[str, ...] = ()
    hook: str = ""
    packages: str = ""
    interpreter: str = ""
    timeout_s: float | None = SETUP_TIMEOUT_S
    log_files: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(part.key for part in self.parts)


@functools.lru_cache(maxsize=256)
def recipe(environment: Environment, interpreter_idle_s: float) -> Recipe:
    """Return what must be made for an environment; an interpreter ends once it was unused for `interpreter_idle_s`."""
    fields = as_dict(environment)
    variables = fields.get("env_vars", {})
    parts: dict[str, Part] = {}
    orders: dict[str, Order] = {}

    def add(order: Order, *needs: str, keep_s: float | None = None) -> str:
        needs = tuple(need for need in needs if need)
        key = f"{type(order).__name__.lower()} {json.dumps(_facts(order), sort_keys=True)}"
        parts[key] = Part(key, needs, keep_s)
        orders[key] = order
        return key

    def files(uri: str) -> str:
        if uri.startswith("local://"):  # it is its owner's, who may remove it: look again by and by
            return add(Place(uri.removeprefix("local://")), keep_s=_PLACE_S)
        return add(Unpack(uri))

    working_dir = files(fields["working_dir"]) if "working_dir" in fields else ""
    modules = tuple(files(uri) for uri in fields.get("py_modules", ()))
    hook = fields.get("worker_process_setup_hook", "")
    hook = add(Keep(hook)) if "://" in hook else ""
    packages = interpreter = ""
    for tool in ("pip", "uv"):
        if tool in fields:
            refers = working_dir if WORKING_DIR_VARIABLE in json.dumps(fields[tool]) else ""
            order = Install(tool, fields[tool], _relevant(variables, fields[tool]), refers)
            packages = add(order, refers)
            interpreter = add(Interpret(packages, (), "", {}), packages, keep_s=interpreter_idle_s)
    if "py_executable" in fields:
        import shlex  # noqa: PLC0415 -- every head imports this module, and few need that

        command = tuple(shlex.split(fields["py_executable"]))
        order_ = Interpret("", command, working_dir, variables)
        interpreter = add(order_, working_dir, keep_s=interpreter_idle_s)
    config = fields.get("config", {})
    timeout_s = config.get("setup_timeout_seconds", SETUP_TIMEOUT_S)
    return Recipe(
        tuple(parts.values()),
        orders,
        working_dir,
        modules,
        hook,
        packages,
        interpreter,
        None if timeout_s == -1 else timeout_s,
        tuple(config.get("log_files", ())),
    )


def _facts(order: Order) -> dict[str, Any]:
    facts = dataclasses.asdict(order)
    if isinstance(order, Install):  # in whatever order they are listed
        facts["fields"] = {**order.fields, "packages": sorted(order.fields["packages"])}
    return facts


def _relevant(variables: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that installing depends on."""
    text = json.dumps(fields)
    return {
        name: value
        for name, value in variables.items()
        if name.startswith(_INSTALLERS_OWN) or f"${{{name}}}" in text
    }
