"""Owns what the values of options may be, for completion: names of the notebook, of the cluster, of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jray._core.refs import ObjectRef
from jray._heads.cards import runtime_dir, survey
from jray.actor import ActorHandle
from jray.notebook.capture import analyze
from jray.notebook.command_table import COMMANDS
from jray.notebook.context import Context
from jray.notebook.holders import held_in, places
from jray.notebook.inventory import STATES, task_rows

_FIXED = {
    "on off": ["on", "off"],
    "detached": ["detached"],
    "engines": ["jray", "inline"],
    "states": list(STATES),
    "actor states": ["alive", "pending", "restarting", "dead"],
}
_ID_DIGITS = 8


class LiveCandidates:
    """Answers for one notebook.  Starts nothing; without a cluster there is less to offer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._makers: dict[str, Callable[[str], list[str]]] = {
            "outputs": self._outputs,
            "variables": lambda _: self._variables(lambda value: isinstance(value, ActorHandle)),
            "actors": lambda _: self._actors(),
            "functions": lambda _: sorted({row["name"] for row in self._tasks()}),
            "cells": lambda _: self._cells(self._tasks()),
            "held": lambda _: self._held(),
            "refs": lambda _: [*self._refs(), *(row["task_id"][:_ID_DIGITS] for row in self._tasks())],
            "cancellable": lambda _: self._cancellable(),
            "addresses": lambda _: addresses(),
            "commands": lambda _: [command.name for command in COMMANDS],
        }

    def __call__(self, kind: str, body: str) -> list[str]:
        if kind in _FIXED:
            return _FIXED[kind]
        try:
            return self._makers[kind](body)
        except Exception:  # noqa: BLE001 -- a key pressed must never end in an error
            return []

    def _outputs(self, body: str) -> list[str]:
        """Return what the cell assigns; of a cell that can't be read yet, the notebook's own names."""
        try:
            return list(analyze(self._context.shell.transform_cell(body)).assigns)
        except SyntaxError:
            return sorted(name for name in self._context.namespace if not name.startswith("_"))

    def _variables(self, wanted: Callable[[Any], bool]) -> list[str]:
        found = self._context.namespace.items()
        return sorted(name for name, value in found if not name.startswith("_") and wanted(value))

    def _actors(self) -> list[str]:
        names = self._variables(lambda value: isinstance(value, ActorHandle))
        engine = self._context.find_engine()
        if engine is not None:
            names += [name for _, name in engine.cluster.actor_names(engine.namespace) if name not in names]
        return names

    def _refs(self) -> list[str]:
        return self._variables(
            lambda value: isinstance(value, ActorHandle) or any(True for _ in held_in(value, ObjectRef))
        )

    def _held(self) -> list[str]:
        found = (
            place.removeprefix("variable ").strip("`")
            for place, value in places(self._context.shell)
            if place.startswith(("variable", "Out[")) and any(True for _ in held_in(value, ObjectRef))
        )
        return [*dict.fromkeys(found)]

    def _tasks(self) -> list[dict[str, Any]]:
        return [] if self._context.find_engine() is None else task_rows(self._context)[0]

    @staticmethod
    def _cells(rows: list[dict[str, Any]]) -> list[str]:
        return [*dict.fromkeys(row["cell"] for row in rows if row["cell"])]

    def _cancellable(self) -> list[str]:
        rows = [row for row in self._tasks() if row["status"] in {"waiting", "running"}]
        names = [*dict.fromkeys(row["name"] for row in rows)]
        return [
            *self._cells(rows),
            *names,
            *(name for name in self._refs() if name not in names),
            *(row["task_id"][:_ID_DIGITS] for row in rows),
        ]


def addresses() -> list[str]:
    """Return where the heads of this user on this machine listen, the newest first."""
    return [head.address for head in reversed(survey(runtime_dir()).heads)]
