"""Owns how a command asks a cluster: it joins the head that is meant, without a job, for as long as it asks."""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

from jray._core.client.finding import Found, find_head
from jray._core.client.session import observe
from jray._core.config import Config
from jray._core.refs import current
from jray.cli.output import note
from jray.cli.problems import Problem
from jray.exceptions import RaySystemError
from jray.util.state.exception import RayStateApiException

#: seconds that an answer may take; Ray's
DEFAULT_TIMEOUT_S = 30


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add --address."""
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="the head to ask: the path of its socket, or its session (default: JRAY_ADDRESS, else the latest "
        "that was started to stay, else the latest).",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add --timeout."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        help="seconds that processes have to answer (default: 30; a busy one answers within JRAY_REPORT_TIMEOUT_S).",
    )


def find(address: str | None) -> Found:
    """Return the head that is meant.  Raises Problem if there is none."""
    given = address or next(filter(None, map(os.environ.get, ("JRAY_ADDRESS", "RAY_ADDRESS"))), "auto")
    if given.startswith("ray://"):
        raise Problem(f"{given} is a Ray cluster: `ray status`, `ray list` and their kin tell of it.")
    try:
        found = find_head(address or "auto")
    except ConnectionError as error:
        raise Problem(str(error)) from None
    if found.address is None:
        raise Problem(
            '"local" names no head: give the path of its socket, or its session, as `jray ps` shows it.'
        )
    return found


@contextlib.contextmanager
def asking(address: str | None) -> Iterator[Any]:
    """Join the head that is meant; the state API asks it meanwhile.  What goes wrong is a Problem."""
    found = find(address)
    try:
        session = observe(found, Config.from_environ())
    except (ConnectionError, RuntimeError, RaySystemError) as error:
        raise Problem(str(error)) from None
    current.client = session.client
    session.client.on_node_lost = _forget  # who follows a log goes no further
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield session.client
        for warning in said:
            note(f"Note: {warning.message}")
    except (RayStateApiException, RaySystemError, NotImplementedError, ValueError) as error:
        raise Problem(str(error)) from None
    finally:
        current.client = None
        session.close()


def _forget() -> None:
    current.client = None
