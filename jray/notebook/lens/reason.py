"""Owns the words for why a cell's calls wait.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from jray._core.engine import Demand, Holder
from jray.notebook.lens.progress import Counts

#: Holders that are named.
_MOST_HOLDERS = 3

#: A cell's number -> what the notebook calls it, "In[3]"; None: it is forgotten, or of another program.
CellLabel = Callable[[int], str | None]


def short_name(name: str) -> str:
    """Return a function's name without its module and what it is defined in."""
    if name.startswith("In["):
        return name
    name = name.rpartition("<locals>.")[2]
    parts = name.split(".")
    # Class.method keeps its class; a module goes
    return ".".join(parts[-2:]) if len(parts) > 1 and parts[-2][:1].isupper() else parts[-1]


def why_waiting(
    cell: int, functions: Sequence[Counts], demands: Iterable[Demand], label_of: CellLabel
) -> str | None:
    """Return what calls of *cell* ask for and do not get, as a clause; None: nothing, or what its own calls hold."""
    waiting = [counts for counts in functions if counts.waiting]
    if not waiting:
        return None
    own: list[Demand] = []
    actors: list[Demand] = []
    classes = {counts.name.rpartition(".")[0] for counts in waiting if counts.is_actor_call}
    for demand in demands:
        if demand.cell == cell:
            own.append(demand)
        elif demand.name.removeprefix("actor ") in classes and demand.name.startswith("actor "):
            actors.append(demand)
    is_running = any(counts.running for counts in functions)
    if is_running:  # that calls wait for those of their own cell goes without saying
        own = [demand for demand in own if not _is_held_by_own(demand, cell)]
    if own or actors:
        clauses = [_clause(demand, label_of, cell) for demand in own or actors]
        with_names = len(functions) > 1 or not own or own[0].name.startswith("actor ")
        named = [
            f"{_subject(demand)} {clause}" if with_names else clause
            for demand, clause in zip(own or actors, clauses, strict=True)
        ]
        return "; ".join(dict.fromkeys(named))
    return None


def why_idle(functions: Sequence[Counts]) -> str | None:
    """Return what calls wait for that ask for no worker; None: for those that run.

    Nobody tells that a call waits for its arguments: it is what is left.
    """
    waiting = [counts for counts in functions if counts.waiting]
    if not waiting or any(counts.running for counts in functions):
        return None
    if all(counts.is_actor_call for counts in waiting):
        return "waits for arguments, or its turn at the actor"
    return "waits for its arguments"


def _is_held_by_own(demand: Demand, cell: int) -> bool:
    return bool(demand.holders) and all(
        holder.cell == cell and not holder.name.startswith("actor ") for holder in demand.holders
    )


def _subject(demand: Demand) -> str:
    return demand.name if demand.name.startswith("actor ") else short_name(demand.name)


def _clause(demand: Demand, label_of: CellLabel, cell: int) -> str:
    if not demand.holders or not demand.reason.endswith("in use"):
        return demand.reason
    named = [_holder(holder, label_of, cell) for holder in demand.holders[:_MOST_HOLDERS]]
    rest = sum(holder.workers for holder in demand.holders[_MOST_HOLDERS:])
    if rest:
        named.append(f"{rest} more")
    said = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{demand.reason} by {said}"


def _holder(holder: Holder, label_of: CellLabel, cell: int) -> str:
    is_actor = holder.name.startswith("actor ")
    name = holder.name if is_actor else short_name(holder.name) or "a task"
    times = f"{holder.workers} \N{MULTIPLICATION SIGN} " if holder.workers > 1 else ""
    if holder.cell == 0:
        place = " (another program)"
    elif holder.cell == cell and not is_actor:
        place = ""
    else:
        label = label_of(holder.cell)
        place = "" if label in {None, name} else f" ({label})"
    return f"{times}{name}{place}"
