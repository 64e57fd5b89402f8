"""Owns the commands that start, join and leave a cluster: status, start, stop, connect, compat."""

from __future__ import annotations

import argparse

from IPython.core.error import UsageError

from jray import compat
from jray.notebook.arguments import given, option, resources, size_bytes, unquote
from jray.notebook.context import Context
from jray.notebook.status import Status, read_status

START_OPTIONS = (
    option("--num-cpus", metavar="N", type=int, help="CPUs to offer (default: those of this machine)."),
    option("--num-gpus", metavar="N", type=int, help="GPUs to offer."),
    option("--resources", metavar="WHAT", type=resources, help='other resources, as in "license=2".'),
    option(
        "--object-store-memory",
        metavar="SIZE",
        type=size_bytes,
        help="room for objects, in bytes or as in 2GiB (default: 30 % of memory).",
    ),
    option(
        "--engine",
        metavar="ENGINE",
        choices=["jray", "inline"],
        completes="engines",
        help="jray (the default): processes; inline: this process and thread, for debugging.",
    ),
    option(
        "--address",
        metavar="ADDRESS",
        type=unquote,
        completes="addresses",
        help="join the cluster there instead of starting one, as %jray connect does.",
    ),
)
CONNECT_OPTIONS = (
    option(
        "address",
        metavar="ADDRESS",
        type=unquote,
        completes="addresses",
        help="the path of a head's socket (Tab offers those of this machine), its session, auto, or ray://HOST:PORT.",
    ),
)


def status(context: Context, _arguments: argparse.Namespace) -> Status:
    """Return what there is and what is in use."""
    return read_status(context.runtime)


def start(context: Context, arguments: argparse.Namespace) -> Status:
    """Start a cluster, or join one."""
    options = given(arguments, ("num_cpus", "num_gpus", "resources", "object_store_memory", "engine"))
    return _enter(context, arguments.address, options)


def connect(context: Context, arguments: argparse.Namespace) -> Status:
    """Join the cluster at an address."""
    return _enter(context, arguments.address, {})


def _enter(context: Context, address: str | None, options: dict[str, object]) -> Status:
    if context.runtime.is_initialized():
        raise UsageError(
            "jray runs in this notebook already: %jray status shows where. %jray stop leaves it (and ends it, if it "
            "was started here); then start or connect again."
        )
    try:
        context.runtime.init(address, **options)
    except (ConnectionError, ValueError) as error:
        raise UsageError(str(error)) from None
    return read_status(context.runtime)


def stop(context: Context, _arguments: argparse.Namespace) -> None:
    """Leave the cluster, and end it if it was started here."""
    context.runtime.shutdown()


def use_compat(_context: Context, _arguments: argparse.Namespace) -> None:
    """Let `import ray` give jray."""
    try:
        compat.install()
    except RuntimeError as error:
        raise UsageError(str(error)) from None
