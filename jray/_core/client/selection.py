"""Owns which of a process's tasks a question about the cluster's state wants.

Most of what is asked for is the same for all calls of a function, or a matter of their state: that is decided without
making a row for a task, which takes twenty times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jray._core.filters import Filter, matches

#: columns that all calls by one template share
_SHARED = frozenset({"name", "func_or_class_name", "cell", "type", "job_id"})
#: states that only the worker tells apart: to its owner such a task is on its way
_ON_THEIR_WAY = frozenset({"RUNNING", "SUBMITTED_TO_WORKER", "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY"})
_ENDED = frozenset({"FINISHED", "FAILED"})
_TOLD_BY_WORKERS = frozenset({"running", "running_in_ray_get", "running_in_ray_wait", "submitted_to_worker"})


class Selection:
    """What the filters of one question ask of tasks."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._shared = [entry for entry in filters if entry[0] in _SHARED]
        #: by states; empty: all are taken
        self.of_state = [entry for entry in filters if entry[0] == "state"]
        #: what only a task's row can answer
        self.of_row = [entry for entry in filters if entry[0] not in _SHARED and entry[0] != "state"]
        self._states: dict[str, bool] = {}

    @property
    def takes_pending(self) -> bool:
        """Whether tasks without an outcome can be meant."""
        return not any(sign == "=" and str(value).upper() in _ENDED for _, sign, value in self.of_state)

    def takes_calls(self, shared: dict[str, Any]) -> bool:
        """Tell whether calls by a template can be meant, of which these columns are known."""
        return matches(shared, self._shared)

    def takes_state(self, state: str) -> bool:
        """Tell whether a task can be meant of which its owner says so: it may be further than its owner knows."""
        found = self._states.get(state)
        if found is None:
            found = self._states[state] = all(self._may_be(state, entry) for entry in self.of_state)
        return found

    @staticmethod
    def _may_be(state: str, entry: Filter) -> bool:
        if is_told_by_workers(entry):
            return entry[1] == "!=" or state in _ON_THEIR_WAY
        return matches({"state": state}, [entry])


def is_told_by_workers(entry: Filter) -> bool:
    """Tell whether a filter is by a state of tasks that their owner cannot be sure of."""
    return entry[0] == "state" and str(entry[2]).lower() in _TOLD_BY_WORKERS
