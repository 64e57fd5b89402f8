"""Owns the list of what jray and Ray do differently on purpose; documentation is made from it.

Each entry is a decorator for the tests that hold it.  `DIFFERENCES` keeps all of them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["DIFFERENCES", "Difference"]


@dataclass(frozen=True)
class Difference:
    """One deliberate difference, and the decorator that keeps its tests to the engine they are about."""

    #: What differs, in a few words.
    title: str
    #: How jray differs, and why.
    reason: str
    #: The engine whose tests these are.
    engine: str = "jray"

    def __call__(self, test: Any) -> Any:
        return pytest.mark.only(self.engine, self.reason)(test)


DIFFERENCES: list[Difference] = []


def _difference(title: str, reason: str) -> Difference:
    entry = Difference(title, reason)
    DIFFERENCES.append(entry)
    return entry


prompt_interrupt = _difference(
    "An interrupt ends a blocking call within half a second",
    "a notebook's stop button must feel immediate; Ray looks for signals once a second",
)
infeasible_is_said = _difference(
    "What no node can ever run is said within two seconds",
    "the request stays pending as in Ray, but the driver warns at once, naming the resource that is lacking",
)
death_within_two_seconds = _difference(
    "Everything of a killed driver is gone within two seconds",
    "children watch for the death of their parent, so nothing waits for a time-out",
)
crash_is_explained = _difference(
    "A crashed worker's error tells how it died",
    "WorkerCrashedError names the exit cause and carries the last lines the worker wrote to stderr",
)
remote_function_is_named = _difference(
    "A remote function keeps its name and documentation",
    "help() and completion in a notebook need them; Ray's remote functions have neither",
)
cancelled_calls_do_not_run = _difference(
    "A queued actor call that is cancelled does not run, and those behind it do",
    "Ray runs a call that has reached the actor and discards its result, and one that hasn't leaves a gap "
    "for which the calls behind it wait until they fail",
)
generators_are_plain = _difference(
    "A generator task may `yield from` anything that can be iterated",
    "Ray sends an object of its own into the generator at each step, which a plain iterator doesn't take",
)
cancelled_consumers_are_forgotten = _difference(
    "A task that is cancelled while it waits for an argument costs nothing when the argument comes",
    "Ray 2.60 aborts the whole driver by a failed check in its core when that happens",
)
log_is_said_once = _difference(
    "What jray logs appears once",
    "Ray's logger has a handler of its own beside those of the program; jray's is silent where the program set up any",
)
foreign_settings_are_said = _difference(
    "Settings of Ray's own processes are said to have no effect",
    "jray has no Redis, no raylet and no ports to set; a program that sets them runs, and `init` warns by name",
)
no_dashboard = _difference(
    "There is no dashboard",
    "nothing listens on a port; `jray.util.state` and the notebook show the same, and `init` says so who asks for one",
)
pool_raises_errors = _difference(
    "imap of a pool raises the error of an item, as multiprocessing does, and goes on with the next",
    "Ray's imap returns an exception object of its own among the results, and its error callbacks get one too",
)
pool_workers_are_replaced = _difference(
    "A pool's worker that dies is replaced",
    "only the call that it died of fails; in Ray all later calls of that worker fail too",
)
pool_calls_wait_for_no_worker = _difference(
    "A pool's call goes to the next worker that is free",
    "Ray deals calls out in turn, so one can wait behind a long one, or for ever behind one that waits for it",
)
pool_initializers_set_globals = _difference(
    "What a pool's initializer sets with `global` is seen by the functions that run there",
    "also in a notebook, where Ray gives each function a copy of the globals as they are in the driver",
)
pool_callbacks_get_lists_in_order = _difference(
    "The callback of a pool's map gets the results in the order of the items",
    "as multiprocessing's does; Ray hands them over as they came",
)
pool_results_outlive_close = _difference(
    "close() lets imap finish",
    "as multiprocessing does; in Ray the workers end with what was submitted, and the rest are errors",
)
joblib_takes_what_there_is = _difference(
    "n_jobs may be more than the cluster has CPUs, and without n_jobs all are used",
    "programs name the number of another machine's cores; Ray's backend raises ValueError, and uses one by default",
)
ids_are_checked = _difference(
    "A malformed id is a ValueError",
    "Ray logs an error and returns the nil id; and jray's UniqueID, ObjectRef and ActorID have all methods of ids",
)
libraries_are_refused = _difference(
    "Libraries on top of Ray Core are refused by name",
    "jray is Ray Core; `import jray.data` and its like raise an ImportError that says what to do instead",
)
ignored_calls_keep_their_actor = _difference(
    "An ActorPool's actor that is busy with an ignored call gets no other value",
    "Ray gives it the next one, which then waits behind the call that was too slow although other actors are free",
)
no_value_of_a_pool_is_lost = _difference(
    "Each value given to an ActorPool gets its result or an error of its own",
    "Ray forgets values that wait when the last actor dies, loses the actor if the function raises, and mixes "
    "the results of two maps",
)
fixed_returns_fail_together = _difference(
    "A generator with a fixed number of returns that fails, fails in each of them",
    "a task that failed has no values; Ray keeps the items that came before the error",
)
children_of_calls_are_cancelled = _difference(
    "Cancelling a call of an actor cancels what the call submitted",
    "recursive=True means the same for calls as for tasks; Ray leaves the children of calls running",
)
unknown_groups_are_refused = _difference(
    "A call in a concurrency group that its actor lacks raises ValueError, and the actor lives on",
    "a slip in a name should cost one call; Ray's worker dies of it, and the actor with it",
)
unknown_environment_fields_are_refused = _difference(
    "An unknown field of a runtime environment is refused at the call",
    "what is not carried out is not accepted; Ray ignores such a field",
)
waiting_for_itself_is_said = _difference(
    "An actor that waits for a call to itself is told after a second",
    "the call hangs as in Ray, which says nothing about it",
)
every_line_is_shown = _difference(
    "Lines that several workers write alike are all shown",
    "in a notebook the output belongs to its cell; Ray shows one of the same lines of five seconds, with a count",
)
queues_need_no_cpu = _difference(
    "A Queue can be made while every CPU is taken",
    "its actor asks for none, unless actor_options do; Ray's waits for a free CPU to start on",
)
no_item_of_a_queue_is_lost = _difference(
    "A Queue gives no item to a `get` that was interrupted or cancelled, or whose process has died",
    "in Ray the call stays in the actor, and the next item goes to it and so to nobody; at a thousand such calls "
    "the actor takes no other",
)
state_is_of_this_session = _difference(
    "The state API asks the cluster of this session, and no other",
    "Ray looks for clusters on the whole machine, and raises ConnectionError where it finds several",
)
not_equal_is_the_contrary = _difference(
    'A filter with "!=" of the state API finds what "=" does not',
    "Ray compares a number with text there and finds all rows",
)
figures_are_read_here = _difference(
    "jray.util.metrics.collect() and prometheus_text() give what all processes recorded, added up",
    "nothing else need be installed or started; Ray hands the figures of each process to Prometheus alone",
)
default_tags_travel = _difference(
    "A metric keeps its default tags on its way to a task",
    "what is pickled is the metric as it is; Ray's has lost them there, so that recording raises ValueError",
)
unknown_tags_are_said = _difference(
    "A figure with a tag that its metric lacks is recorded without the tag, and that is said",
    "Ray leaves out the tag and says nothing",
)
restarts_find_their_arguments = _difference(
    "An actor restarts with large arguments that its creator has let go",
    "they live as long as the actor may need them; in Ray they are freed, and the restart fails",
)
removed_groups_fail_their_tasks = _difference(
    "What needs a placement group that was removed fails, whenever it was submitted",
    "in Ray tasks and actors wait for ever that were submitted before the group was placed, or after it was removed; "
    "so do tasks that ran there and may be run again, and actors that may restart",
)
