"""Owns a notebook's failed calls as the user gets them: which there are, their arguments, and running one again here."""

from __future__ import annotations

import inspect
from typing import Any

from jray._core.engine import FailedCall as _Record
from jray._core.refs import current

#: digits of a task's id that people are told, and enough to find it
_DIGITS = 8


class FailedCall:
    """A call from a cell that raised.  What it was called with is kept until enough others have failed."""

    def __init__(self, record: _Record) -> None:
        self._record = record
        self.task_id: str = record.task_id
        self.name: str = record.name
        #: class and first line of what it raised
        self.error: str = record.error
        self.is_actor_call: bool = record.is_actor_call

    def function(self) -> Any:
        """Return the function as it ran, whatever was defined since.  NotImplementedError for an actor's method."""
        return self._record.load_function()

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the keyword arguments, as the task had them; LookupError if they are not kept."""
        return self._record.load_arguments()

    def rerun(self) -> Any:
        """Run the function again in this process; return or raise what it does.  Of a generator, return the items."""
        args, kwargs = self.arguments()
        return run(self.function(), args, kwargs)

    def __repr__(self) -> str:
        return f"<failed call {self.task_id[:_DIGITS]} of {self.name}(): {self.error}>"


def run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what *function* returns; of a generator the items."""
    result = function(*args, **kwargs)
    return list(result) if inspect.isgenerator(result) else result


def failed_calls() -> list[FailedCall]:
    """Return the last calls from this notebook that raised, the latest first.  Starts nothing.

    Raises NotImplementedError where the engine keeps none.
    """
    return [] if current.client is None else [FailedCall(record) for record in current.client.failed_calls()]


def failed_call(prefix: str) -> FailedCall:
    """Return the failed call whose task id begins with *prefix*; "": the latest.

    Raises ValueError if there is none, or more than one.
    """
    calls = failed_calls()
    found = [call for call in calls if call.task_id.startswith(prefix.lower())]
    if len(found) == 1 or (found and not prefix):
        return found[0]
    known = "; ".join(
        f"{call.task_id[:_DIGITS]} {call.name}(): {call.error}" for call in (found or calls)[:5]
    )
    if found:
        raise ValueError(
            f"{len(found)} failed calls have ids that begin with {prefix!r}: {known}. Give more of it."
        )
    if not calls:
        raise ValueError("No call from a cell of this notebook has raised, so there is nothing to run again.")
    raise ValueError(
        f"No failed call that is remembered has an id that begins with {prefix!r}. The latest are {known}."
    )


def rerun(prefix: str = "") -> Any:
    """Run a failed call again in this process: see `failed_call` and `FailedCall.rerun`."""
    return failed_call(prefix).rerun()
