"""Owns the points at which a process can be made to die or to stop, so that tests see what any step leaves behind.

`JRAY_FAULT=put.created:kill` makes each process that is started with it kill itself when it comes to that point;
`put.created:stop:3` makes it stop there the third time, until somebody continues it.  A worker alone is given a fault
by its runtime environment.  Without the variable a point costs one call of a function that does nothing, and none is
on the path of a small task.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

#: what has just happened, or is about to, in the process that comes there
POINTS = {
    # whoever writes an object into the store: by `put`, or as a task's result
    "put.begin": "a block is about to be asked for",
    "put.created": "there is a block, and nothing in it",
    "put.written": "the bytes are in it, and nobody knows",
    "put.sealed": "the node was told that they are complete",
    # whoever gets another's object, and its owner
    "get.wanted": "the owner was asked for the value",
    "get.asked": "the owner is about to answer, or to note who wants to know",
    "get.answered": "the owner has answered",
    "get.told": "the answer has arrived",
    "get.mapped": "there is a view of stored bytes",
    # a reference on its way in arguments
    "pass.sending": "its sender is about to send it",
    "pass.received": "it has arrived, and its owner does not know",
    "pass.told": "the owner was told",
    "pass.lent": "the owner knows",
    "pass.settled": "the borrower knows that the owner knows",
    # a reference on its way in a result
    "return.packed": "it is in a result that is about to be sent",
    "return.adopted": "it has arrived, and its owner does not know",
    "return.held": "the worker was told that it need not keep it any more",
    "return.done": "the worker lets it go",
    # whoever's last reference is gone, and the owner
    "free.begin": "nobody was told yet",
    "free.told": "the node was told that nobody needs the object",
    "free.releasing": "its owner is about to be told",
    "free.released": "its owner was told",
    "free.returned": "the owner knows that a borrower needs it no more",
    # whoever learns of another's death
    "death.heard": "the node said so, and asks what of its objects is looked at",
    "death.answered": "the node was told",
    "death.dropped": "the node was told that an object of the dead is not looked at any more",
    # an owner whose objects go to disk
    "spill.asked": "the node asks what can go",
    "spill.offered": "it was told",
    "spill.moving": "copies are there, and nobody reads them",
    "spill.moved": "the node was told which were taken",
    # the node
    "node.created": "somebody's block was made, and he does not know",
    "node.sealed": "an object is complete",
    "node.freed": "objects were freed",
    "node.copying": "a file of objects is about to be written",
    "node.copied": "a file was written, and nobody knows",
    "node.settled": "an owner's objects are on disk, and no more in the store",
}
_ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Faults:
    """What is to happen to this process, and where.

    Raises:
        ValueError: the setting names no point or action.
    """

    __slots__ = ("reached",)

    def __init__(self, setting: str) -> None:
        #: to be called with the name of each point; from any thread
        self.reached: Callable[[str], None] = _parse(setting).reached if setting else _nothing


class _Fault:
    """One point, and what happens there the n-th time."""

    def __init__(self, point: str, number: int, count: int) -> None:
        self._point = point
        self._signal = number
        self._left = count

    def reached(self, point: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), self._signal)


def _parse(setting: str) -> _Fault:
    point, _, rest = setting.partition(":")
    action, _, count = rest.partition(":")
    if point not in POINTS:
        raise ValueError(f"JRAY_FAULT={setting!r}: there is no point {point!r}, but {', '.join(POINTS)}")
    if action not in _ACTIONS or not (count or "1").isdecimal() or int(count or 1) < 1:
        raise ValueError(
            f"JRAY_FAULT={setting!r} does not say what is to happen at {point}: give {point}:kill, {point}:stop, or with "
            f"the number of times to come there, as in {point}:kill:2"
        )
    return _Fault(point, _ACTIONS[action], int(count or 1))


def _nothing(_: str) -> None:
    pass
