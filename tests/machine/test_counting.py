"""Reference counting between processes, whatever they do and in whatever order messages arrive, and whoever dies.

The tables are the real ones (`ObjectTable` with its `Borrows`, the node's `Ledger` and `Orphans`); sockets and threads
are played.  Messages of one direction of one connection keep their order, all others arrive as a generated program
likes.  No object goes while a process that lives refers to it, and none stays when nobody does.  What was on its way
from a process that died may be lost; who is told so gets an error, and never other bytes.

`JRAY_TEST_PROGRAMS=10000 python -m pytest tests/machine/test_counting.py` runs ten thousand programs; they are the same
in each run, and a few hundred of them are what a plain run of the tests sees.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core.client.objects import ObjectTable
from jray._core.client.peers import Peer
from jray._core.config import Config
from jray._core.faults import Faults
from jray._core.ids import OBJECT_ID_SIZE
from jray._core.machine.orphans import Orphans
from jray._core.refs import ERROR, INLINE, PENDING, STORED, ObjectRef
from jray._core.specs import Location
from jray._core.store.ledger import Ledger
from jray._core.wire import messages
from jray.exceptions import ObjectLostError

pytestmark = pytest.mark.timeout(3600)

PROGRAMS = int(os.environ.get("JRAY_TEST_PROGRAMS", "300"))
PROCESSES = 4
#: variables that a process has at most, so that programs also drop
_MOST_VARIABLES = 6
_PUSH, _DONE = "push", "done"
_CLOSED = ("closed",)


class Died(Exception):
    """The process whose code this is was killed."""


class Wire:
    """One direction of a connection."""

    def __init__(self, world: World, receive: Callable[[Any], None], to: Process | None) -> None:
        self.receive = receive
        self.to = to
        self.messages: deque[Any] = deque()
        self.is_open = True
        world.wires.append(self)

    def send(self, message: Any) -> bool:
        if self.is_open:
            self.messages.append(message)
        return self.is_open


class Node:
    """The store's part of a node: what `NodeService` and the daemon do with it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = Ledger(1 << 30, 1 << 24)
        self.orphans = Orphans()

    def receive(self, process: Process, message: Any) -> None:
        kind = message[0]
        number = process.number
        if message is _CLOSED:
            self.gone(process)
        elif kind == messages.CREATE:
            block = self.ledger.create(message[2], message[3], number)
            process.from_node.send((messages.REPLY, message[1], ("block", block)))
        elif kind == messages.SEAL:
            self.ledger.seal(message[1], message[2], number)
        elif kind == messages.FREE:
            self.free(message[1])
        elif kind == messages.HOLDS:
            self.free(self.orphans.answered(number, message[1], message[2]))
        elif kind == messages.DROPPED:
            self.free(self.orphans.dropped(number, message[1]))
        else:
            raise AssertionError(message)

    def free(self, ids: Iterable[bytes]) -> None:
        for object_id in ids:
            self.ledger.free(object_id)

    def gone(self, process: Process) -> None:
        others = [other for other in self.world.processes if other is not process and not other.is_gone]
        process.is_gone = True
        orphaned = self.ledger.bequeath(process.number, heir=0)
        self.free(self.orphans.client_gone(process.number))
        self.free(
            self.orphans.owner_died(process.number, orphaned, [o.number for o in others] if orphaned else [])
        )
        for other in others:
            other.from_node.send((messages.CLIENT_GONE, process.address, process.number))


class Contents:
    """A value that is nothing but references, as `serialize` would give it."""

    def __init__(self, refs: list[ObjectRef[Any]], address: Callable[[Any], str], *, is_large: bool) -> None:
        self.refs = refs
        self.nested = [(ref._id, address(ref)) for ref in refs]
        self.size = 1 << 20 if is_large else 100

    def to_bytes(self) -> bytes:
        return pickle.dumps(self.nested)

    def parts(self) -> list[Any]:
        return []


class Process:
    """A client: what `CoreClient` gives the table, a worker's executor, and a user's program that keeps variables."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.address = f"p{number}"
        self.is_dead = False
        #: ... and the node knows
        self.is_gone = False
        self.config = Config(inline_limit_bytes=1000)
        self.faults = Faults("")
        self.lock = threading.Lock()
        self.node_id = b"node"
        self.node = self.arena = self.spiller = self.tasks = self.peers = self.pump = self.recovery = self
        self.to_node = Wire(world, lambda message: world.node.receive(self, message), None)
        self.from_node = Wire(world, self.from_the_node, self)
        self.by_address: dict[str, Peer] = {}
        self.all_peers: list[Peer] = []
        self.deferred: deque[Callable[[], None]] = deque()
        self.replies: dict[int, Any] = {}
        self.made = 0
        self.calls: dict[int, Call] = {}
        self.inbox: deque[tuple[Peer, Any]] = deque()
        self.variables: list[ObjectRef[Any]] = []
        #: references whose bytes the program looks at, each with their place
        self.views: list[tuple[ObjectRef[Any], Location]] = []
        self.objects = ObjectTable(self)  # type: ignore[arg-type]

    # -- what the table asks of its client ------------------------------------------------------------

    def next_object_id(self) -> bytes:
        self.made += 1
        return f"{self.address}-{self.made}".encode().ljust(OBJECT_ID_SIZE, b".")

    def ref_address(self, ref: ObjectRef[Any]) -> str:
        return ref._owner or self.address

    def ref_dropped(self, *of_the_ref: Any) -> None:
        self.objects.dropped.append(of_the_ref)

    def stored_locked(self, _: Any) -> None:
        pass

    def dropped_locked(self, _: Any) -> None:
        pass

    def put_locked(self, _: Any) -> None:
        pass

    def dump_error(self, error: BaseException) -> bytes:
        return pickle.dumps(error)

    def defer(self, callback: Callable[[], None]) -> None:
        self.deferred.append(callback)

    def wait(self, waiter: Any, _: float | None) -> bool:
        self.world.run_until(self, lambda: bool(waiter.done))
        return True

    def request(self, kind: int, *arguments: Any) -> Any:
        self.made += 1
        number = self.made
        self.to_node.send((kind, number, *arguments))
        self.world.run_until(self, lambda: number in self.replies)
        return self.replies.pop(number)

    def tell(self, *message: Any) -> None:
        self.to_node.send(message)

    def tell_store(self, node_id: bytes, *message: Any) -> None:
        assert node_id == self.node_id
        self.tell(*message)

    def write(self, block: Any, parts: Any) -> None:
        pass

    # -- connections, as `Peers` has them -------------------------------------------------------------

    def find(self, address: str) -> Peer | None:
        return self.by_address.get(address)

    def get(self, address: str) -> Peer:
        peer = self.by_address.get(address)
        if peer is None:
            other = self.world.process(address)
            if other.is_dead:
                raise ConnectionRefusedError(address)
            peer, theirs = Peer(None), Peer(None)  # type: ignore[arg-type]
            peer.connection = Wire(self.world, lambda m: other.receive(theirs, m), other)  # type: ignore[assignment]
            theirs.connection = Wire(self.world, lambda m: self.receive(peer, m), self)  # type: ignore[assignment]
            self.all_peers.append(peer)
            other.all_peers.append(theirs)
            peer.address = address
            peer.number = other.number
            self.by_address[address] = peer
        if not peer.knows_us:
            peer.knows_us = True
            peer.connection.send((messages.HELLO_PEER, self.address, self.number))
        return peer

    # -- messages ---------------------------------------------------------------------------------

    def from_the_node(self, message: Any) -> None:
        if message[0] == messages.REPLY:
            self.replies[message[1]] = message[2]
        else:
            self.objects.on_client_gone(message[1], message[2])

    def receive(self, peer: Peer, message: Any) -> None:
        kind = message[0]
        objects = self.objects
        if message is _CLOSED:
            self.closed(peer)
        elif kind == messages.HELLO_PEER:
            peer.address, peer.number = message[1:]
            self.by_address.setdefault(peer.address, peer)
        elif kind == messages.BORROW:
            objects.on_borrow(peer, *message[1:])
        elif kind == messages.BORROWED:
            objects.on_borrowed(message[1])
        elif kind == messages.RELEASE:
            objects.on_release(peer, message[1])
        elif kind == messages.WANT:
            objects.on_want(peer, message[1])
        elif kind == messages.VALUE:
            objects.on_value(*message[1:])
        elif kind == messages.TRANSIT_DONE:
            for number in message[1]:
                peer.held_results.pop(number, None)
        elif kind == _PUSH:
            self.inbox.append((peer, message))
        else:
            self.on_done(peer, message)

    def closed(self, peer: Peer) -> None:
        peer.connection.is_open = False
        self.all_peers.remove(peer)
        if self.by_address.get(peer.address) is peer:
            del self.by_address[peer.address]
        for call in [call for call in self.calls.values() if call.peer is peer]:
            del self.calls[call.number]
            with self.lock:
                if call.ref._state == PENDING:
                    self.objects.forget_locked([call.ref._id])
                    self.objects.resolve_locked(call.ref, ERROR, ConnectionError("the worker died"))
        self.objects.peer_gone(peer)
        assert not peer.held_results

    def housekeeping(self) -> None:
        while self.deferred:
            self.deferred.popleft()()
        if self.objects.dropped:
            self.objects.drain_dropped()

    # -- a program's steps ----------------------------------------------------------------------------

    def export(self, refs: list[ObjectRef[Any]], *, is_large: bool) -> Contents:
        for ref in refs:
            self.objects.exported(ref)
        return Contents(refs, self.ref_address, is_large=is_large)

    def put(self, refs: list[ObjectRef[Any]], *, is_large: bool) -> None:
        ref: ObjectRef[Any] = ObjectRef(self.next_object_id(), self)
        contents = self.export(refs, is_large=is_large)
        self.world.contents[ref._id] = contents.nested
        self.variables.append(self.objects._keep(ref, contents, "put"))  # type: ignore[arg-type]

    def call(
        self, other: Process, nested: list[ObjectRef[Any]], top: ObjectRef[Any] | None, plan: int
    ) -> None:
        """Call a task of another process, with refs inside an argument and a ref as an argument."""
        contents = self.export(nested, is_large=False)
        ref: ObjectRef[Any] = ObjectRef(self.next_object_id(), self)
        ref._state = PENDING
        description = None
        if top is not None and top._state == STORED:
            self.objects.exported(top)
            description = (top._state, top._data, top._id, self.ref_address(top))
        peer = self.get(other.address)
        self.made += 1
        call = Call(self.made, peer, ref, [*nested, top])
        self.calls[call.number] = call
        self.variables.append(ref)
        peer.connection.send((_PUSH, call.number, ref._id, contents.nested, description, plan))

    def run(self) -> None:
        """Run a task: keep some of what it was given, and return some of what there is."""
        peer, (_, number, ref_id, nested, description, plan) = self.inbox.popleft()
        refs = [self.objects.ref_from_id(*pair) for pair in nested]
        if description is not None:
            state, data, top_id, owner = description
            top = self.objects.ref_from_id(top_id, owner)
            if top._state == PENDING:
                with self.lock:
                    self.objects.resolve_locked(top, state, data)
            if top._state == STORED:
                self.views.append((top, top._data))
            if not plan & 1:
                self.views.pop() if top._state == STORED else None
            del top
        if plan & 2:
            self.variables += refs
        result = [*self.variables[: plan >> 2 & 1], *refs[: plan >> 3 & 1]]
        result = [ref for ref in result if not self.world.leads_to(ref._id, ref_id)]
        contents = self.export(result, is_large=bool(plan & 16))
        self.world.contents[ref_id] = contents.nested
        if contents.size <= self.config.inline_limit_bytes:
            entry: tuple[Any, ...] = (INLINE, contents.to_bytes())
        else:
            entry = (STORED, self.objects.write_stored(ref_id, contents, peer.number, ""))  # type: ignore[arg-type]
        if result:
            peer.held_results[number] = result
        del refs, result
        if self.objects._untold:
            self.objects.settle_borrows(peer)
        if not peer.connection.send((_DONE, number, entry, contents.nested)):
            peer.held_results = {}
        contents.refs = []

    def on_done(self, peer: Peer, message: Any) -> None:
        _, number, entry, nested = message
        call = self.calls.pop(number)
        with self.lock:
            if nested:
                call.ref._nested = self.objects.adopt_locked(nested)
            self.objects.resolve_locked(call.ref, *entry)
            if nested:
                waiters = self.objects.tell_borrows_locked(peer)

                def settled() -> None:
                    for waiter in waiters:
                        self.wait(waiter, 10.0)
                    peer.connection.send((messages.TRANSIT_DONE, [number]))

                if waiters:
                    self.defer(settled)
                else:
                    settled()

    def ask(self, ref: ObjectRef[Any]) -> None:
        """Want a value, and do not wait for it."""
        with self.lock:
            self.objects.when_ready_locked(ref, lambda _: None)

    def look(self, ref: ObjectRef[Any], *, keeps_view: bool) -> None:
        """Read a value, and keep the references that are in it."""
        if ref._state == STORED:
            self.world.check_view(self, ref, ref._data)
            if keeps_view:
                self.views.append((ref, ref._data))
            nested = self.world.contents[ref._id]
        elif ref._state == INLINE:
            nested = pickle.loads(ref._data)
        else:
            return
        self.variables += [self.objects.ref_from_id(*pair) for pair in nested]

    def die(self) -> None:
        """End by SIGKILL: what was sent arrives, nothing else happens."""
        self.is_dead = True
        world = self.world
        world.tainted.update(ref._id for ref in self.live_refs() if ref._owner is not None)
        # what its calls and results keep for others, they keep no more
        world.tainted.update(ref._id for call in self.calls.values() for ref in call.pins if ref is not None)
        world.tainted.update(
            ref._id for peer in self.all_peers for refs in peer.held_results.values() for ref in refs
        )
        for peer in self.all_peers:
            peer.connection.send(_CLOSED)
            peer.connection.is_open = False
        self.to_node.send(_CLOSED)
        self.to_node.is_open = False
        for wire in world.wires:
            if wire.to is self:
                wire.messages.clear()
                wire.is_open = False

    def live_refs(self) -> list[ObjectRef[Any]]:
        """The references here that are or were other processes' matter."""
        return [ref for known in list(self.objects._known.values()) if (ref := known()) is not None]


class Call:
    """A call that is under way."""

    def __init__(self, number: int, peer: Peer, ref: ObjectRef[Any], pins: list[Any]) -> None:
        self.number = number
        self.peer = peer
        self.ref = ref
        self.pins = pins


class World:
    """All processes, the node and the wires between them; `choices` decide what happens next."""

    def __init__(self, choices: list[int], deaths: int) -> None:
        self.choices = iter(choices)
        self.is_over = False
        self.deaths = deaths
        self.wires: list[Wire] = []
        #: what is in each object
        self.contents: dict[bytes, list[tuple[bytes, str]]] = {}
        #: objects which somebody who has died referred to: what was on its way from there may be lost
        self.tainted: set[bytes] = set()
        self.node = Node(self)
        self.processes = [Process(self, number + 1) for number in range(PROCESSES)]

    def process(self, address: str) -> Process:
        return self.processes[int(address[1:]) - 1]

    def choose(self, count: int) -> int:
        for choice in self.choices:
            return choice % count
        self.is_over = True
        return 0

    def leads_to(self, ref_id: bytes, other: bytes) -> bool:
        """Tell whether *other* is in an object, at any depth: what contains itself nobody who counts can free."""
        return ref_id == other or any(self.leads_to(i, other) for i, _ in self.contents.get(ref_id, ()))

    def living(self) -> list[Process]:
        return [process for process in self.processes if not process.is_dead]

    # -- what may happen --------------------------------------------------------------------------

    def deliver(self, wire: Wire) -> None:
        wire.receive(wire.messages.popleft())

    def happenings(self) -> list[Callable[[], None]]:
        """What goes on by itself."""
        found: list[Callable[[], None]] = [
            partial(self.deliver, wire) for wire in self.wires if wire.messages
        ]
        found += [p.housekeeping for p in self.living() if p.deferred or p.objects.dropped]
        return found

    def steps(self, process: Process) -> list[Callable[[], None]]:
        """What a process's program may do next."""
        variables = process.variables
        found: list[Callable[[], None]] = []
        if process.inbox:
            found.append(process.run)
        if len(variables) < _MOST_VARIABLES:
            found.append(lambda: process.put(self.some(variables), is_large=bool(self.choose(4))))
            others = [other for other in self.living() if other is not process]
            if others:
                found.append(
                    lambda: process.call(
                        others[self.choose(len(others))],
                        self.some(variables),
                        self.one(variables),
                        self.choose(32),
                    )
                )
        for ref in variables:
            if ref._state == PENDING:
                found.append(lambda ref=ref: process.ask(ref))  # type: ignore[misc]
            elif ref._state in (STORED, INLINE) and len(variables) < _MOST_VARIABLES:
                found.append(lambda ref=ref: process.look(ref, keeps_view=bool(self.choose(2))))  # type: ignore[misc]
        if variables:
            found.append(lambda: self.drop(variables))
        if process.views:
            found.append(lambda: self.drop(process.views))
        return found

    def some(self, variables: list[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        """A variable or none."""
        at = self.choose(len(variables) + 1)
        return variables[at : at + 1]

    def one(self, variables: list[ObjectRef[Any]]) -> ObjectRef[Any] | None:
        found = self.some(variables)
        return found[0] if found else None

    def drop(self, held: list[Any]) -> None:
        del held[self.choose(len(held))]

    def step(self) -> None:
        """Do one thing of all that may happen."""
        processes = self.living()
        which = self.choose(4)
        if which < 2 and (found := self.happenings()):
            found[self.choose(len(found))]()
        elif self.deaths and len(processes) > 1 and self.choose(12) == 0:
            self.deaths -= 1
            processes[self.choose(len(processes))].die()
        else:
            process = processes[self.choose(len(processes))]
            steps = self.steps(process)
            if steps:
                self.act(process, steps[self.choose(len(steps))])
        self.check()

    def act(self, process: Process, step: Callable[[], None]) -> None:
        try:
            step()
        except Died:
            assert process.is_dead

    def run_until(self, process: Process, is_done: Callable[[], bool]) -> None:
        """Let other things happen while a process waits."""
        while not is_done():
            if process.is_dead:
                raise Died
            found = self.happenings()
            assert found, f"{process.address} waits, and nothing will come"
            if self.deaths and self.choose(40) == 0:
                self.deaths -= 1
                processes = self.living()
                processes[self.choose(len(processes))].die()
                continue
            found[self.choose(len(found))]()
            self.check()

    def settle(self) -> None:
        """Let all happen that happens by itself."""
        while True:
            ready = [process for process in self.living() if process.inbox]
            if ready:
                self.act(ready[0], ready[0].run)
            elif found := self.happenings():
                found[0]()
            else:
                return

    # -- what must be so --------------------------------------------------------------------------

    def check_view(self, process: Process, ref: ObjectRef[Any], place: Location) -> None:
        """Assert that bytes which a process looks at are still those of that object."""
        record = self.node.ledger._objects.get(ref._id)  # that it is sealed may be on its way
        assert record is not None, f"{process.address} looks at {ref._id!r}, which was freed"
        assert (record.segment.index, record.offset) == (place.segment, place.offset)

    def check(self) -> None:
        """Assert that nothing was freed that somebody refers to."""
        for process in self.living():
            for ref, place in process.views:
                if ref._id not in self.tainted:
                    self.check_view(process, ref, place)
            for ref in process.live_refs():
                if ref._state == STORED and ref._id not in self.tainted:
                    self.check_view(process, ref, ref._data)
                if ref._state == ERROR and not self.process(process.ref_address(ref)).is_dead:
                    error = pickle.loads(ref._data) if isinstance(ref._data, bytes) else ref._data
                    assert not isinstance(error, ObjectLostError) or ref._id in self.tainted, (
                        f"{process.address} refers to {ref._id!r}, which its owner has lost"
                    )

    def check_settled(self) -> None:
        """Assert that owners know exactly what is borrowed, and that no object is kept that nobody refers to."""
        self.check()
        living = self.living()
        holders: dict[bytes, int] = Counter()
        for process in living:
            process.objects._borrows.check_invariants()
            for ref in process.live_refs():
                holders[ref._id] += 1
                owner = ref._owner and self.process(ref._owner)
                if owner and not owner.is_dead and ref._id not in self.tainted:
                    told = owner.objects._borrows._by_borrower.get(process.address, Counter())
                    assert told[ref._id] == 1, f"{process.address} borrows {ref._id!r}: {told[ref._id]}"
        for process in living:
            for ref_id in process.objects._lent:
                others = [
                    p.address for p in living if p is not process and p.objects.known(ref_id) is not None
                ]
                assert others, f"{process.address} keeps {ref_id!r} for nobody"
            assert not process.calls
            assert not process.objects._borrow_waiters
            assert not any(peer.held_results for peer in process.all_peers)

    def check_empty(self) -> None:
        """Assert that with no variable left nothing is left at all."""
        assert self.node.ledger.statistics().objects == 0
        assert self.node.ledger.used == 0
        assert self.node.orphans.held() == 0
        for process in self.living():
            objects = process.objects
            assert not process.live_refs()
            assert objects._borrows.held() == 0
            assert not objects._lent
            assert not objects._orphaned
            assert not objects._freed
            assert not any(count for counts in objects._untold.values() for count in counts.values())


def play(choices: list[int], deaths: int) -> World:
    """Run a program to its end, look whether the accounts are right, let go of everything, and look again."""
    world = World(choices, deaths)
    while not world.is_over:
        world.step()
    world.deaths = 0
    world.settle()
    world.check_settled()
    for process in world.living():
        process.variables.clear()
        process.views.clear()
        world.settle()
    world.check_settled()
    world.check_empty()
    return world


programs = st.lists(st.integers(0, 2**12), min_size=20, max_size=250)


@settings(max_examples=PROGRAMS)
@given(programs)
def test_what_is_referred_to_stays_and_nothing_else(choices: list[int]) -> None:
    play(choices, deaths=0)


@settings(max_examples=PROGRAMS)
@given(programs, st.integers(1, 3))
def test_what_is_referred_to_stays_and_nothing_else_whoever_dies(choices: list[int], deaths: int) -> None:
    play(choices, deaths)
