"""Owns `jray start`."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any, NoReturn

from jray._core.client.capacity import node_wanted
from jray._core.client.finding import find_head, running_heads
from jray._core.client.launching import FreeHead, NodeWanted, launch_free
from jray._core.config import Config
from jray._core.engine import StartOptions
from jray._core.quantities import amount, labels, resources, size_bytes
from jray._heads.cards import Head, runtime_dir, survey
from jray._heads.ending import end_heads
from jray._heads.keepers import Keeper
from jray._heads.processes import ProcessId
from jray.cli.output import add_format, as_data, note, write
from jray.cli.problems import Problem
from jray.exceptions import RaySystemError

_NO_PORT = "jray's processes talk over Unix sockets of this machine, in a directory that is its user's alone"
_NO_DASHBOARD = "jray has no dashboard: `jray status`, `jray list` and jray.panel() show what runs"
_NO_CGROUP = "jray does not put its processes into a cgroup; give the service that runs it limits"
#: option of `ray start` -> why it is not here
_REFUSED = {
    **dict.fromkeys(
        (
            "--port", "--node-ip-address", "--redis-username", "--redis-password", "--redis-shard-ports",
            "--object-manager-port", "--node-manager-port", "--min-worker-port", "--max-worker-port",
            "--worker-port-list", "--ray-client-server-port", "--dashboard-agent-listen-port",
            "--dashboard-agent-grpc-port", "--runtime-env-agent-port", "--metrics-export-port",
        ),
        _NO_PORT,
    ),
    **dict.fromkeys(
        ("--include-dashboard", "--dashboard-host", "--dashboard-port", "--proxy-server-url"), _NO_DASHBOARD
    ),
    **dict.fromkeys(
        ("--enable-resource-isolation", "--system-reserved-cpu", "--system-reserved-memory", "--cgroup-path"),
        _NO_CGROUP,
    ),
    "--plasma-directory": "jray chooses between /dev/shm and the runtime directory",
    "--autoscaling-config": "jray starts no machines",
    "--system-config": "jray's settings are environment variables, JRAY_<NAME> (see jray._core.config)",
    "--tracing-startup-hook": "jray has no tracing; `jray timeline` shows which task ran when",
    "--ray-debugger-external": "debug with jray.init(engine='inline') and breakpoint()",
    "--labels-file": "give --labels NAME=VALUE,...",
}  # fmt: skip
#: seconds that a head has to end by itself; Ray's
_GRACE_S = 16.0
#: what ends a command in the foreground
_ASKS_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Refuse(argparse.Action):
    """Ends the command with why an option of Ray's is not here."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        _values: Any,
        option_string: str | None = None,
    ) -> None:
        parser.error(f"{option_string} is not supported: {_REFUSED[option_string or '']}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("--head", action="store_true", help="start a head.")
    add(
        "--address",
        metavar="ADDRESS",
        help="start a node of that head: its session or socket, or auto for the one that jray.init() would join.",
    )
    add("--num-cpus", metavar="N", type=_whole, help="CPUs to offer (default: those of this machine).")
    add("--num-gpus", metavar="N", type=_whole, help="GPUs to offer (default: those that are found).")
    add("--resources", metavar="WHAT", type=resources, help='other resources: JSON, or as in "license=2".')
    add("--labels", metavar="WHAT", type=labels, help="labels of the node, as in zone=a,disk=fast.")
    add("--memory", metavar="SIZE", type=size_bytes, help="memory to offer, in bytes or as in 2GiB.")
    add(
        "--object-store-memory",
        metavar="SIZE",
        type=size_bytes,
        help="room for objects, in bytes or as in 2GiB (default: 30 %% of memory).",
    )
    add("--object-spilling-directory", metavar="DIR", help="where objects go that the store has no room for.")
    add("--temp-dir", metavar="DIR", help="where its files go (default: the runtime directory).")
    add("--node-name", metavar="NAME", help="what the node is called (default: the machine's name).")
    add(
        "--idle-timeout",
        metavar="SECONDS",
        type=_seconds,
        help="end by itself once nobody has used it for so long (default: stay until `jray stop`).",
    )
    add(
        "--keep-with",
        metavar="PID",
        type=_process,
        help="end by itself when that process has ended and --keep-for is over, unless somebody else keeps it.",
    )
    add(
        "--keep-for",
        metavar="SECONDS",
        type=_seconds,
        help="how long it outlives the process of --keep-with (default: for ever).",
    )
    add("--block", action="store_true", help="stay in the foreground; Ctrl-C ends the head.")
    # who starts heads on a user's behalf says so
    add("--started-by", default="jray start", help=argparse.SUPPRESS)
    add(
        "--disable-usage-stats", action="store_true", help="changes nothing: jray tells nobody about its use."
    )
    add_format(parser)
    for name in _REFUSED:
        add(name, nargs="?", action=_Refuse, help=argparse.SUPPRESS)


def _whole(text: str) -> int:
    value = amount(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def _seconds(text: str) -> float:
    return float(amount(text))


def _process(text: str) -> ProcessId:
    found = ProcessId.of(int(text)) if text.isdecimal() else None
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not the pid of a running process")
    return found


def run(options: argparse.Namespace) -> int:
    """Start a head and say how to use it."""
    if options.address is not None:
        return _join(options)
    if not options.head:
        raise Problem(
            "give --head to start a head, or --address=ADDRESS to start a node of one: `jray start --head`.",
            2,
        )
    if options.keep_for is not None and options.keep_with is None:
        raise Problem("--keep-for tells how long the head outlives a process: give --keep-with PID, too.", 2)
    if options.block:
        for number in _ASKS_TO_END:
            signal.signal(number, _interrupt)
    others = running_heads()
    head: Head | None = None
    try:
        head, warning = _start(options)
        _report(head, warning, others, options)
        return _wait(head) if options.block else 0
    except _AskedToEnd as asked:
        for number in _ASKS_TO_END:
            signal.signal(number, signal.SIG_IGN)
        if head is not None:
            end_heads([head], grace_s=_GRACE_S)
            note(f"Ended the head of session {head.session}.")
        return 0 if asked.number == signal.SIGTERM else 128 + asked.number


def _join(options: argparse.Namespace) -> int:
    """Start a node of a head that runs, and say what it has."""
    refused = {
        "--head": options.head,
        "--idle-timeout": options.idle_timeout is not None,
        "--keep-with": options.keep_with is not None,
        "--keep-for": options.keep_for is not None,
    }
    given = [name for name, is_given in refused.items() if is_given]
    if given:
        raise Problem(
            f"{' and '.join(given)} cannot be given with --address: a node lives as long as its head.", 2
        )
    try:
        found = find_head(options.address)
    except ConnectionError as error:
        raise Problem(str(error)) from None
    if found.address is None:
        raise Problem(f"--address={options.address} names no running head; `jray ps` shows them.", 2)
    if options.block:
        for number in _ASKS_TO_END:
            signal.signal(number, _interrupt)
    node: FreeHead | None = None
    try:
        wanted = _wanted(options, is_head=False)
        try:
            node = launch_free(
                wanted,
                started_by=options.started_by,
                idle_timeout_s=None,
                keeper=None,
                timeout_s=Config.from_environ().head_start_timeout_s,
                head_address=found.address,
            )
        except (RaySystemError, OSError) as error:
            raise Problem(str(error)) from None
        _report_node(node, wanted, found.address, options)
        return _wait_for_node(node) if options.block else 0
    except _AskedToEnd as asked:
        for number in _ASKS_TO_END:
            signal.signal(number, signal.SIG_IGN)
        process = None if node is None else ProcessId.of(node.pid)
        if process is not None:
            process.signal(signal.SIGTERM)
            process.wait_ended(_GRACE_S)
            note(f"Ended the node with pid {process.pid}.")
        return 0 if asked.number == signal.SIGTERM else 128 + asked.number


def _report_node(node: FreeHead, wanted: NodeWanted, address: str, options: argparse.Namespace) -> None:
    if node.warning:
        note(f"Note: {node.warning}")
    cpus = wanted.resources.to_floats().get("CPU", 0)
    if options.format in {"json", "yaml"}:
        record = {"node_id": node.node_id.hex(), "pid": node.pid, "num_cpus": cpus, "head": address}
        write(as_data(record, options.format))
    else:
        write(
            f"Started a node with {cpus:g} CPUs (id {node.node_id.hex()}, pid {node.pid}) of the head at {address}.\n"
            f"It ends with its head, or by `kill {node.pid}`."
        )
    sys.stdout.flush()


def _wait_for_node(node: FreeHead) -> int:
    """Wait for the node's end, which is its head's, or nobody's wish."""
    process = ProcessId.of(node.pid)
    while process is not None and not process.wait_ended(3600.0):
        pass
    note(f"The node with pid {node.pid} has ended.")
    return 1


def _wanted(options: argparse.Namespace, *, is_head: bool) -> NodeWanted:
    try:
        return node_wanted(_start_options(options), is_head=is_head)
    except (ValueError, TypeError) as error:
        raise Problem(str(error), 2) from None


def _start(options: argparse.Namespace) -> tuple[Head, str]:
    """Start a head; return its card, and what the user should know about its store."""
    wanted = _wanted(options, is_head=True)
    try:
        started = launch_free(
            wanted,
            started_by=options.started_by,
            idle_timeout_s=options.idle_timeout,
            keeper=None if options.keep_with is None else Keeper(options.keep_with, options.keep_for),
            timeout_s=Config.from_environ().head_start_timeout_s,
        )
    except (RaySystemError, OSError) as error:
        raise Problem(str(error)) from None
    for head in survey(runtime_dir()).heads:
        if head.folder == started.folder:
            return head, started.warning
    raise Problem(
        "the head has ended at once; an --idle-timeout or --keep-for of 0 leaves nobody time to join."
    )


def _start_options(options: argparse.Namespace) -> StartOptions:
    return StartOptions(
        address=None,
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        resources=options.resources,
        labels=options.labels,
        object_store_memory=options.object_store_memory,
        memory=options.memory,
        namespace=None,
        runtime_env=None,
        temp_dir=options.temp_dir,
        log_to_driver=False,
        node_name=options.node_name,
        spill_dir=options.object_spilling_directory,
    )


def _report(head: Head, warning: str, others: list[Head], options: argparse.Namespace) -> None:
    if warning:
        note(f"Note: {warning}")
    if options.format in {"json", "yaml"}:
        write(as_data(head.to_record(), options.format))
        sys.stdout.flush()
        return
    ends = "until Ctrl-C or `jray stop` ends it" if options.block else "until `jray stop` ends it"
    if head.idle_timeout_s is not None:
        ends += f", or nobody has used it for {head.idle_timeout_s:g} s"
    write(
        f"Started a head with {head.num_cpus:g} CPUs (session {head.session}, pid {head.pid}). It stays {ends}.\n"
        "\n"
        "  Join it from Python:    import jray; jray.init()\n"
        f"  Where others run, too:  jray.init({head.session!r})\n"
        "  See what it does:       jray status\n"
        f"  End it:                 jray stop {head.session}"
    )
    if others:
        count = f"{len(others)} other head{'s' if len(others) > 1 else ''}"
        note(
            f"Note: {count} of yours on this machine; `jray ps` shows them. jray.init() joins the latest that stays."
        )
    sys.stdout.flush()


def _wait(head: Head) -> int:
    """Wait for the head's end, which is nobody's wish."""
    while not head.process.wait_ended(3600.0):
        pass
    note(f"The head of session {head.session} has ended.")
    return 1


class _AskedToEnd(BaseException):
    """A signal has come that asks this command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _interrupt(number: int, _: object) -> NoReturn:
    raise _AskedToEnd(number)
