"""Owns what the server does with heads of this user: finds them by what they leave on disk, starts, keeps, ends them.

It loads nothing of the runtime: starting and ending is the business of the command line, `python -m jray`, in a process
of its own and by the Python of a kernel if that is another.  A head that the server keeps knows it by its pid
(`jray._heads.keepers`), by which the server's kernels know that head, and after the server's end it stays for
`keep_s` seconds: long enough to be taken over by the server that comes next.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from traitlets import Dict, Float, Int, List, Unicode, default
from traitlets.config import LoggingConfigurable

from jray._heads import cards, keepers
from jray._heads.cards import Head
from jray._heads.keepers import Keeper
from jray._heads.processes import ProcessId

#: what is written into the card of a head that a server has started
STARTED_BY = "jupyter"
#: seconds that starting or ending a head may take, far more than it does
_PATIENCE_S = 60.0
_LONGEST_MESSAGE = 2000


class UnknownHeadError(Exception):
    """No head of that session runs."""

    def __init__(self, session: str) -> None:
        super().__init__(f"No head of session {session} is running.")


class BadRequestError(ValueError):
    """What is asked for is no head that there can be."""


class NotKeepableError(Exception):
    """The head ends with a program, whoever would like to keep it."""


class HeadCommandError(Exception):
    """The command that starts or ends heads has failed; the text is what it said."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeptHead:
    """A running head, and who keeps it."""

    head: Head
    keeper: Keeper | None

    def to_record(self) -> dict[str, Any]:
        """Return the keys of its card with their values, and `keeper`: null, or an object with "pid" and "keep_s"."""
        keeper = self.keeper
        kept = None if keeper is None else {"pid": keeper.process.pid, "keep_s": keeper.keep_s}
        return {**self.head.to_record(), "keeper": kept}


class HeadManager(LoggingConfigurable):
    """Finds, starts, keeps and ends heads.  All methods block: call them off the event loop."""

    runtime_dir = Unicode(
        help="Where the directories of heads are; kernels of this server look there, too. Default: JRAY_RUNTIME_DIR, "
        "else $XDG_RUNTIME_DIR/jray if that exists, else /tmp."
    ).tag(config=True)
    head_command = List(
        Unicode(),
        help="The command line that starts and ends heads, for kernels of the server's own Python. "
        "Default: this Python's -m jray.",
    ).tag(config=True)
    keep_s = Float(
        600.0,
        allow_none=True,
        help="Seconds that a head outlives this server, so that the next one finds it: 0 for a head that ends with the "
        "server, None for one that stays until it is stopped.",
    ).tag(config=True)
    idle_s = Float(
        None,
        allow_none=True,
        help="Seconds after which a head ends by itself if nobody uses it: no program is connected and no task runs. "
        "None: it stays as long as the server.",
    ).tag(config=True)
    num_cpus = Int(None, allow_none=True, help="CPUs of a head. Default: those of the machine.").tag(
        config=True
    )
    num_gpus = Int(None, allow_none=True, help="GPUs of a head. Default: those that are found.").tag(
        config=True
    )
    resources = Dict(help="Other resources of a head, by name.").tag(config=True)
    labels = Dict(help="Labels of a head's node.").tag(config=True)
    object_store_memory = Int(
        None, allow_none=True, help="Bytes of a head's object store. Default: 30 % of memory."
    ).tag(config=True)

    @default("runtime_dir")
    def _default_runtime_dir(self) -> str:
        return cards.runtime_dir()

    @default("head_command")
    def _default_head_command(self) -> list[str]:
        return command_of(sys.executable)

    def publish(self) -> None:
        """Have the kernels of this server look where it looks itself."""
        if self.runtime_dir != cards.runtime_dir():
            os.environ["JRAY_RUNTIME_DIR"] = self.runtime_dir

    # -- what there is --------------------------------------------------------------------------------

    def heads(self) -> list[KeptHead]:
        """Return the running heads, oldest first."""
        found = cards.survey(self.runtime_dir)
        for path, why in found.unreadable:
            self.log.debug("No head is listed for %s: %s", path, why)
        return [KeptHead(head, self._keeper(head)) for head in found.heads]

    def head(self, session: str) -> KeptHead:
        """Return the head of a session.  Raises UnknownHeadError."""
        for found in self.heads():
            if found.head.session == session:
                return found
        raise UnknownHeadError(session)

    def _keeper(self, head: Head) -> Keeper | None:
        try:
            return keepers.read_keeper(head.folder)
        except (OSError, ValueError) as error:
            self.log.warning("Who keeps the head in %s cannot be read: %s", head.folder, error)
            return None

    def own_heads(self) -> list[KeptHead]:
        """Return the heads that this server keeps, oldest first."""
        own = ProcessId.own()
        return [found for found in self.heads() if found.keeper is not None and found.keeper.process == own]

    # -- what is done -----------------------------------------------------------------------------------

    def start(
        self, wanted: Mapping[str, Any] | None = None, command: Sequence[str] | None = None
    ) -> KeptHead:
        """Start a head that this server keeps; blocks until it can be joined.

        *wanted* has the names of this class's settings, for this head alone; *command* stands for `head_command`.
        Raises BadRequestError for what it does not know, or what is of a wrong type or size, HeadCommandError if the head
        does not start.
        """
        arguments = [
            "start",
            "--head",
            "--format=json",
            f"--started-by={STARTED_BY}",
            f"--keep-with={os.getpid()}",
        ]
        for name, value in self._settings(wanted or {}).items():
            if value is not None and value != {}:
                flag, written = _OPTIONS[name]
                arguments.append(f"{flag}={written(value)}")
        said = self._run(arguments, command)
        head = self.head(json.loads(said)["session"])
        self.log.info("Started the jray head of session %s.", head.head.session)
        return head

    def keep(self, session: str, keep_s: float | None) -> KeptHead:
        """Take a head that stays into this server's keeping; *keep_s* as in the setting.

        Raises UnknownHeadError, BadRequestError for a wrong number, NotKeepableError for a head that a program owns.
        """
        _check_seconds("keep_s", keep_s)
        head = self.head(session).head
        if not head.is_free:
            raise NotKeepableError(
                f"The head of session {session} ends with the process {head.owner_pid}, which has started it by "
                "jray.init(). To have one that stays, start it here or by `jray start --head`."
            )
        keeper = Keeper(ProcessId.own(), keep_s)
        if not keepers.take(head, keeper):
            raise UnknownHeadError(session)
        return KeptHead(head, keeper)

    def stop(self, session: str) -> None:
        """End a head with all that runs on it; blocks until it is gone.  Raises UnknownHeadError, HeadCommandError."""
        self.head(session)  # what the command is given is a name that is known
        self._run(["stop", "--format=json", session], None)
        self.log.info("Stopped the jray head of session %s.", session)

    def take_over(self) -> list[KeptHead]:
        """Keep the heads of servers that have ended, which wait for one that comes next; return them."""
        taken = []
        for found in self.heads():
            keeper = found.keeper
            if found.head.started_by == STARTED_BY and keeper is not None and not keeper.process.is_running():
                try:
                    taken.append(self.keep(found.head.session, keeper.keep_s))
                except UnknownHeadError:  # its time was over
                    continue
                self.log.info(
                    "Keeping the jray head of session %s, of an earlier server.", found.head.session
                )
        return taken

    # -- how ----------------------------------------------------------------------------------------------

    def _settings(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings for a head.  Raises BadRequestError."""
        unknown = sorted(wanted.keys() - _CHECKS.keys())
        if unknown:
            raise BadRequestError(
                f"{', '.join(unknown)} cannot be set for a head; what can is {', '.join(_CHECKS)}."
            )
        for name, value in wanted.items():
            _CHECKS[name](name, value)
        return {name: wanted.get(name, getattr(self, name)) for name in _CHECKS}

    def _run(self, arguments: Sequence[str], command: Sequence[str] | None) -> str:
        """Run the command line of jray and return what it printed."""
        line = [*(command or self.head_command), *arguments]
        environ = {**os.environ, "JRAY_RUNTIME_DIR": self.runtime_dir}
        try:
            done = subprocess.run(
                line, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=_PATIENCE_S, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise HeadCommandError(
                f"`{' '.join(line[:6])} ...` took longer than {_PATIENCE_S:g} s."
            ) from None
        except OSError as error:
            raise HeadCommandError(f"{line[0]} cannot be run: {error.strerror}.") from error
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr or done.stdout).strip()[-_LONGEST_MESSAGE:]
        if done.returncode == 2:
            raise BadRequestError(said)
        raise HeadCommandError(said or f"`{' '.join(line[:6])} ...` ended with status {done.returncode}.")


def command_of(python: str) -> list[str]:
    """Return the command line of jray by that Python, which looks for no modules in the server's directory."""
    return [python, "-P", "-m", "jray"]


def _check_seconds(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 <= value < math.inf):
        raise BadRequestError(f"{name} is {value!r}; give seconds from 0 up, or null.")


def _check_count(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise BadRequestError(f"{name} is {value!r}; give a whole number from 0 up, or null.")


def _check_resources(name: str, value: Any) -> None:
    if not isinstance(value, dict) or not all(
        isinstance(amount, int | float) and not isinstance(amount, bool) for amount in value.values()
    ):
        raise BadRequestError(f"{name} is {value!r}; give an object of numbers by name.")


def _check_labels(name: str, value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadRequestError(f"{name} is {value!r}; give an object of text by name.")
    # they travel as NAME=VALUE,...
    odd = [text for pair in value.items() for text in pair if "," in text or "=" in text]
    if odd:
        raise BadRequestError(f"{name} has {odd[0]!r}; labels are without commas and equals signs.")


def _labels(value: Mapping[str, str]) -> str:
    return ",".join(f"{name}={text}" for name, text in value.items())


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "num_cpus": _check_count,
    "num_gpus": _check_count,
    "resources": _check_resources,
    "labels": _check_labels,
    "object_store_memory": _check_count,
    "idle_s": _check_seconds,
    "keep_s": _check_seconds,
}
#: setting -> (option of `jray start`, how its value is written)
_OPTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "num_cpus": ("--num-cpus", str),
    "num_gpus": ("--num-gpus", str),
    "resources": ("--resources", json.dumps),
    "labels": ("--labels", _labels),
    "object_store_memory": ("--object-store-memory", str),
    "idle_s": ("--idle-timeout", str),
    "keep_s": ("--keep-for", str),
}
