"""Messages arrive whole, once and in order, and nothing that arrives can end the process."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray._core.wire import connection as wire
from jray._core.wire.connection import (
    Connection,
    Listener,
    Message,
    Reactor,
    check_path,
    connect,
    socket_pair,
)

MIB = 1 << 20
DEADLINE_S = 50.0


class End:
    """One process's end of a connection, with what it was told."""

    def __init__(self, sock: socket.socket, reactor: Reactor) -> None:
        self.reactor = reactor
        self.messages: list[Message] = []
        self.closed = 0
        self.on_message: Callable[[Message], None] = lambda _: None
        self.connection = Connection(sock, reactor, self._told, self._closed)

    def _told(self, connection: Connection, message: Message) -> None:
        assert connection is self.connection
        self.messages.append(message)
        self.on_message(message)

    def _closed(self, connection: Connection) -> None:
        assert connection is self.connection
        self.closed += 1

    def until(self, condition: Callable[[], Any]) -> None:
        poll_until(condition, self.reactor)


def poll_until(condition: Callable[[], Any], *reactors: Reactor) -> None:
    deadline = monotonic() + DEADLINE_S
    while not condition():
        assert monotonic() < deadline, "it did not happen"
        for reactor in reactors:
            reactor.poll(0.001 if len(reactors) > 1 else 0.1)


def frame(message: object) -> bytes:
    data = pickle.dumps(message, 5)
    return len(data).to_bytes(4, "little") + data


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def raw(reactor: Reactor) -> Iterator[tuple[End, socket.socket]]:
    """An end, and the bare socket at the other side of it."""
    ours, theirs = socket_pair()
    end = End(ours, reactor)
    yield end, theirs
    end.connection.close()
    theirs.close()


@pytest.fixture
def ends(reactor: Reactor) -> Iterator[tuple[End, End]]:
    """Two ends, as of two processes, each with a reactor of its own."""
    other = Reactor()
    ours, theirs = socket_pair()
    pair = End(ours, reactor), End(theirs, other)
    yield pair
    for end in pair:
        end.connection.close()
    other.close()


# --- boundaries -----------------------------------------------------------------------------------


def test_messages_split_anywhere_arrive_whole(raw: tuple[End, socket.socket]) -> None:
    """A stream knows no messages: wherever it is cut, inside a size or inside a pickle, they are the same."""
    end, theirs = raw
    sent: list[Message] = [(1, "a"), (), (2, b"x" * 40, None)]
    stream = b"".join(frame(message) for message in sent)
    for cut in range(1, len(stream)):
        end.messages.clear()
        theirs.sendall(stream[:cut])
        end.reactor.poll(1)
        theirs.sendall(stream[cut:])
        end.until(lambda: len(end.messages) >= len(sent))
        assert end.messages == sent


def test_a_message_that_trickles_in_arrives_once(raw: tuple[End, socket.socket]) -> None:
    """Byte by byte."""
    end, theirs = raw
    for byte in frame((1, "slow")) + frame((2,)):
        theirs.sendall(bytes([byte]))
        end.reactor.poll(1)
    assert end.messages == [(1, "slow"), (2,)]


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 40_000), max_size=8),
    buffer=st.sampled_from([5, 64, 1000]),
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_messages_larger_than_the_buffer_and_cut_anywhere_arrive(
    sizes: list[int], cuts: list[int], buffer: int
) -> None:
    """Neither where the sender's writes end nor how much one read takes makes a difference."""
    reactor = Reactor()
    reactor.buffer = bytearray(buffer)
    reactor.view = memoryview(reactor.buffer)
    ours, theirs = socket_pair()
    end = End(ours, reactor)
    sent = [(number, b"m" * size) for number, size in enumerate(sizes)]
    stream = b"".join(frame(message) for message in sent)
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, stop in itertools.pairwise(borders):
        theirs.sendall(stream[start:stop])
        end.reactor.poll(0)
    end.until(lambda: len(end.messages) == len(sent))
    assert end.messages == sent
    theirs.close()
    end.until(lambda: end.closed)
    reactor.close()


def test_many_small_messages_keep_their_order(ends: tuple[End, End]) -> None:
    """Also when the socket takes no more and the rest is queued."""
    sender, receiver = ends
    for number in range(20_000):
        assert sender.connection.send((number, "payload"))
    assert sender.connection.backlog_bytes > 0
    poll_until(lambda: len(receiver.messages) == 20_000, sender.reactor, receiver.reactor)
    assert receiver.messages == [(number, "payload") for number in range(20_000)]
    assert sender.connection.backlog_bytes == 0


def test_a_large_message_arrives(ends: tuple[End, End]) -> None:
    """50 MB: hundreds of reads, and nobody waits in `send`."""
    sender, receiver = ends
    large = os.urandom(MIB) * 48
    sender.connection.send((1, large))
    sender.connection.send((2,))
    poll_until(lambda: len(receiver.messages) == 2, sender.reactor, receiver.reactor)
    assert receiver.messages == [(1, large), (2,)]


def test_both_sides_may_send_large_messages_at_once(ends: tuple[End, End]) -> None:
    """Neither waits for the other to read: no deadlock."""
    large = b"x" * (8 * MIB)
    for end in ends:
        end.connection.send((1, large))
        end.connection.send((2,))
    poll_until(lambda: all(len(end.messages) == 2 for end in ends), *(end.reactor for end in ends))
    assert all(end.messages == [(1, large), (2,)] for end in ends)


def test_threads_may_send_at_once(ends: tuple[End, End]) -> None:
    """Their messages do not mix, and each thread's keep their order."""
    sender, receiver = ends
    threads = [
        threading.Thread(
            target=lambda who=who: [sender.connection.send((who, n, b"." * 500)) for n in range(500)]
        )
        for who in range(4)
    ]
    for thread in threads:
        thread.start()
    poll_until(lambda: len(receiver.messages) == 2000, sender.reactor, receiver.reactor)
    for thread in threads:
        thread.join()
    for who in range(4):
        assert [m[1] for m in receiver.messages if m[0] == who] == list(range(500))


def test_a_message_of_4_gib_is_refused(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size fits no frame; what is sent next arrives."""

    class Huge(bytes):
        def __len__(self) -> int:
            return 5 << 30

    monkeypatch.setattr(wire.pickle, "dumps", lambda *_: Huge())
    with pytest.raises(ValueError, match=r"5\.0 GiB cannot be sent.*jray\.put"):
        ends[0].connection.send((1,))
    monkeypatch.undo()
    ends[0].connection.send((2,))
    ends[1].until(lambda: ends[1].messages)
    assert ends[1].messages == [(2,)]


# --- ends -----------------------------------------------------------------------------------------


def test_the_end_of_the_other_side_is_told_once_after_its_last_message(
    raw: tuple[End, socket.socket],
) -> None:
    """Also if it dies with a message half written, which is dropped."""
    end, theirs = raw
    theirs.sendall(frame((1,)) + frame((2, "lost"))[:-3])
    theirs.close()
    end.until(lambda: end.closed)
    assert end.messages == [(1,)]
    assert end.closed == 1
    assert not end.connection.is_open
    end.connection.close()
    assert end.closed == 1


def test_sending_to_the_dead_returns_false(raw: tuple[End, socket.socket]) -> None:
    """Before its end is noticed, and after."""
    end, theirs = raw
    theirs.close()
    assert not end.connection.send((1,))
    assert end.connection.is_open
    end.until(lambda: end.closed)
    assert not end.connection.send((2,))


def test_a_death_with_messages_queued_for_it_ends_the_connection(raw: tuple[End, socket.socket]) -> None:
    """They are dropped, and nothing spins on a socket that takes nothing any more."""
    end, theirs = raw
    while not end.connection.backlog_bytes:
        end.connection.send((1, b"x" * MIB))
    theirs.close()
    end.until(lambda: end.closed)
    assert end.closed == 1
    assert end.reactor.poll(0) == 0


def test_closing_from_a_handler_drops_what_came_after(raw: tuple[End, socket.socket]) -> None:
    """Who closes wants no more; the closing is told, as any other."""
    end, theirs = raw
    end.on_message = lambda _: end.connection.close()
    theirs.sendall(frame((1,)) + frame((2,)))
    end.until(lambda: end.closed)
    assert end.messages == [(1,)]
    assert end.closed == 1


def test_closing_while_other_threads_send_harms_nobody(ends: tuple[End, End]) -> None:
    """Their sends return False from then on; nothing raises, and nothing is written to a closed descriptor."""
    sender, receiver = ends
    failures: list[BaseException] = []
    has_sent = threading.Event()

    def send() -> None:
        try:
            while sender.connection.send((1, b"x" * 1000)):
                has_sent.set()
        except BaseException as error:  # noqa: BLE001 -- collected for the assertion
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert has_sent.wait(DEADLINE_S)
    sender.connection.close()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert failures == []
    assert sender.closed == 1
    receiver.until(lambda: receiver.closed)


# --- draining -------------------------------------------------------------------------------------


def test_drain_blocks_until_everything_is_sent(ends: tuple[End, End]) -> None:
    """A process that ends sends its last words first."""
    sender, receiver = ends
    sender.connection.send((1, b"x" * (4 * MIB)))
    reader = threading.Thread(target=lambda: receiver.until(lambda: receiver.messages))
    reader.start()
    assert sender.connection.drain(DEADLINE_S)
    assert sender.connection.backlog_bytes == 0
    reader.join()


def test_drain_gives_up_in_time(raw: tuple[End, socket.socket]) -> None:
    """The time is for all of it: a peer that reads a little now and then does not extend it."""
    end, theirs = raw
    end.connection.send((1, b"x" * (64 * MIB)))
    theirs.setblocking(False)
    stop = threading.Event()

    def nibble() -> None:
        while not stop.wait(0.02):
            with contextlib.suppress(BlockingIOError):
                theirs.recv(100_000)

    nibbler = threading.Thread(target=nibble)
    nibbler.start()
    try:  # all of it would take the nibbler a quarter of a minute
        assert not end.connection.drain(0.2)
    finally:
        stop.set()
        nibbler.join()


def test_drain_ends_when_the_other_side_has_died(raw: tuple[End, socket.socket]) -> None:
    """What can never be sent is waited for by nobody, and was not sent."""
    end, theirs = raw
    end.connection.send((1, b"x" * (4 * MIB)))
    theirs.close()
    assert not end.connection.drain(24 * 3600.0)
    assert end.connection.drain(0.0), "there is nothing left to send"


# --- bad input ------------------------------------------------------------------------------------

BAD_PICKLES = {
    "an empty frame": b"",
    "no pickle": b"GET / HTTP/1.1\r\n",
    "a pickle cut short": pickle.dumps((1, "x"))[:-4],
    "an unknown module": b"cno_such_module\nThing\n.",
    "an unknown class": b"c__main__\nNoSuchThing\n.",
    "a constructor that raises": b"cbuiltins\nint\n(Vx\ntR.",
}


@pytest.mark.parametrize("data", BAD_PICKLES.values(), ids=BAD_PICKLES)
def test_a_message_that_cannot_be_read_ends_its_connection_only(
    data: bytes, raw: tuple[End, socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    """What came before it is handled, what comes after it is not; the reason is printed, the process goes on."""
    end, theirs = raw
    theirs.sendall(frame((1,)) + len(data).to_bytes(4, "little") + data + frame((2,)))
    end.until(lambda: end.closed)
    assert end.messages == [(1,)]
    assert end.closed == 1
    assert "a message cannot be read" in capsys.readouterr().err
    assert end.reactor.poll(0) == 0


def test_a_handler_that_raises_costs_no_other_message(
    raw: tuple[End, socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    """The defect is printed; the messages that came in the same read are handled."""
    end, theirs = raw

    def fail(message: Message) -> None:
        if message == (1,):
            raise KeyError("a defect")

    end.on_message = fail
    theirs.sendall(frame((1,)) + frame((2,)))
    end.until(lambda: len(end.messages) == 2)
    assert end.connection.is_open
    assert "KeyError: 'a defect'" in capsys.readouterr().err


def test_a_handler_that_polls_does_not_reorder_messages(raw: tuple[End, socket.socket]) -> None:
    """What it reads meanwhile comes after what had arrived before, and the end comes last."""
    end, theirs = raw
    order: list[int] = []

    def poll_in_the_first(message: Message) -> None:
        if message[0] == 1:
            theirs.sendall(frame((4,)))
            theirs.close()
            poll_until(lambda: end.closed, end.reactor)
        order.append(message[0])

    end.on_message = poll_in_the_first
    theirs.sendall(frame((1,)) + frame((2,)) + frame((3,)))
    end.until(lambda: end.closed and 1 in order)
    assert order == [2, 3, 4, 1]
    assert [message[0] for message in end.messages] == [1, 2, 3, 4]


# --- the reactor ----------------------------------------------------------------------------------


def test_wake_makes_a_poll_in_another_thread_return(reactor: Reactor) -> None:
    """However often: one pending wake-up is enough, and none stays behind."""
    polled = threading.Thread(target=lambda: reactor.poll(DEADLINE_S))
    polled.start()
    reactor.wake()
    polled.join(DEADLINE_S)
    assert not polled.is_alive()
    for _ in range(100_000):
        reactor.wake()
    poll_until(lambda: reactor.poll(0) == 0, reactor)


def test_a_closed_reactor_writes_to_nobodys_file(tmp_path: Path) -> None:
    """The number of its descriptor may be another file's: a late `wake` must not write there."""
    reactor = Reactor()
    numbers = set(reactor.fds())
    reactor.close()
    reactor.close()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(n)).open("wb")) for n in range(8)]
        assert numbers & {file.fileno() for file in files}
        reactor.wake()
    assert all(not path.read_bytes() for path in tmp_path.iterdir())


def test_the_reactors_descriptor_says_when_there_is_something_to_do(raw: tuple[End, socket.socket]) -> None:
    """So that another event loop can watch it."""
    end, theirs = raw
    assert select.select([end.reactor.fileno()], [], [], 0) == ([], [], [])
    theirs.sendall(frame((1,)))
    assert select.select([end.reactor.fileno()], [], [], DEADLINE_S)[0]
    end.reactor.poll(0)
    assert end.messages == [(1,)]


def test_a_forked_child_can_let_go_without_disturbing_its_parent(raw: tuple[End, socket.socket]) -> None:
    """Its copies are closed, the parent still hears, and the other side notices the parent's end."""
    end, theirs = raw
    child = os.fork()
    if not child:
        end.reactor.close()
        end.connection.forget()
        end.connection.close()
        os._exit(0 if end.closed == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    theirs.sendall(frame((1,)))
    end.until(lambda: end.messages)
    assert end.connection.send((2,))


# --- listening ------------------------------------------------------------------------------------


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    path = Path(f"/tmp/jw{os.urandom(4).hex()}")
    path.mkdir(mode=0o700)
    yield path
    for entry in path.iterdir():
        entry.unlink()
    path.rmdir()


def test_processes_meet_at_a_path(reactor: Reactor, short_dir: Path) -> None:
    """The listener hands over a socket for each that connects; its file goes with it."""
    path = short_dir / "s"
    accepted: list[End] = []
    listener = Listener(str(path), reactor, lambda sock: accepted.append(End(sock, reactor)))
    assert path.stat().st_mode & 0o777 == 0o600
    caller = End(connect(str(path)), reactor)
    caller.connection.send((1,))
    poll_until(lambda: accepted and accepted[0].messages, reactor)
    listener.close()
    listener.close()
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        connect(str(path))
    caller.connection.close()
    poll_until(lambda: accepted[0].closed, reactor)


def test_a_path_too_long_for_a_socket_is_refused_by_name(reactor: Reactor) -> None:
    """The message has the path, both lengths, and what to do; no descriptor is left."""
    path = "/tmp/" + "x" * 103
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match=rf"{path}.* has 108 bytes.*takes 107.*JRAY_RUNTIME_DIR"):
        Listener(path, reactor, lambda sock: sock.close())
    assert len(os.listdir("/proc/self/fd")) <= before  # what earlier tests left may go meanwhile
    check_path(path[:-1])
    with pytest.raises(ValueError, match="108 bytes"):
        check_path("/tmp/" + "é" * 51 + "x")


def test_a_listener_that_cannot_be_made_leaves_nothing(reactor: Reactor, short_dir: Path) -> None:
    """Not even a descriptor."""
    (short_dir / "taken").touch()
    before = len(os.listdir("/proc/self/fd"))
    for path, code in [(short_dir / "taken", errno.EADDRINUSE), (short_dir / "no" / "dir", errno.ENOENT)]:
        with pytest.raises(OSError) as caught:  # noqa: PT011 -- the number is looked at below
            Listener(str(path), reactor, lambda sock: sock.close())
        assert caught.value.errno == code
    assert len(os.listdir("/proc/self/fd")) <= before


def test_other_users_are_neither_accepted_nor_believed(
    reactor: Reactor, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user's process says would be unpickled: it is turned away, and not connected to."""
    accepted: list[socket.socket] = []
    path = str(short_dir / "s")
    listener = Listener(path, reactor, accepted.append)
    stranger = connect(path)
    monkeypatch.setattr(wire.os, "geteuid", lambda: os.getuid() + 1)
    reactor.poll(1)
    assert accepted == []
    assert stranger.recv(1) == b""
    with pytest.raises(PermissionError, match="another user's"):
        connect(path)
    stranger.close()
    monkeypatch.undo()
    listener.close()


_OUT_OF_DESCRIPTORS = """
import os, resource, socket, sys
from jray._core.wire.connection import Listener, Reactor, connect
reactor = Reactor()
accepted = []
listener = Listener(sys.argv[1], reactor, accepted.append)
callers = [connect(sys.argv[1]) for _ in range(2)]
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, 4096))
spare = []
try:
    while True:
        spare.append(os.dup(0))
except OSError:
    pass
while reactor.poll(0):
    pass
assert not accepted
assert [caller.recv(1) for caller in callers] == [b"", b""]
os.close(spare.pop())
os.close(spare.pop())
late = connect(sys.argv[1])
reactor.poll(1)
assert len(accepted) == 1
"""


def test_without_descriptors_callers_are_turned_away(short_dir: Path) -> None:
    """They see the end of the connection; the listener neither spins nor dies, and accepts again later."""
    command = [sys.executable, "-c", _OUT_OF_DESCRIPTORS, str(short_dir / "s")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr


def test_a_frame_is_a_little_endian_size_and_a_pickle(raw: tuple[End, socket.socket]) -> None:
    """The zygote, which must not load this module, speaks the same."""
    end, theirs = raw
    end.connection.send((1, "x"))
    data = theirs.recv(1000)
    (size,) = struct.unpack("<I", data[:4])
    assert size == len(data) - 4
    assert pickle.loads(data[4:]) == (1, "x")


def test_an_eager_poll_finds_what_arrives_while_it_looks() -> None:
    """And handles it, as one that slept would have."""
    reactor = Reactor(spin_us=5_000_000)
    ours, theirs = socket_pair()
    end = End(ours, reactor)
    sender = threading.Timer(0.01, lambda: theirs.send(frame((1, "late"))))
    sender.start()
    while not end.messages:
        reactor.poll_eagerly(None)
    sender.join()
    assert end.messages == [(1, "late")]
    end.connection.close()
    theirs.close()
    reactor.close()


def test_an_eager_poll_that_looks_in_vain_sleeps_until_its_time_is_over() -> None:
    """The next ones do without looking; the first that finds something makes them look again."""
    reactor = Reactor(spin_us=1)
    ours, theirs = socket_pair()
    end = End(ours, reactor)
    for _ in range(5):
        start = monotonic()
        assert reactor.poll_eagerly(0.002) == 0
        assert monotonic() - start >= 0.002
    theirs.send(frame((1, "here")))
    end.until(lambda: end.messages)
    end.connection.close()
    theirs.close()
    reactor.close()
