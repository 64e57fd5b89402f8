"""Owns what processes of a job log and how: the "jray" logger of the driver, and `LoggingConfig` for all of them.

It uses the standard library's `logging` and adds who is speaking: job, node, worker, actor and task.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping
from typing import Any

from jray._core.refs import current

#: what a record has of its own, whoever made it; anything else on it was added
_STANDARD = frozenset(
    (
        "args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname", "levelno",
        "lineno", "message", "module", "msecs", "msg", "name", "pathname", "process", "processName",
        "relativeCreated", "stack_info", "taskName", "thread", "threadName",
    )
)  # fmt: skip
_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"


@dataclasses.dataclass
class LoggingConfig:
    """How the root loggers of a job's driver and workers write: `jray.init(logging_config=LoggingConfig(...))`.

    Each record also tells its job, node, worker, actor and task.  Raises ValueError for what is unknown.
    """

    #: "TEXT", or "JSON": one object per line
    encoding: str = "TEXT"
    #: records below this are not written
    log_level: str = "INFO"
    #: further attributes of `logging.LogRecord`, like "name" or "funcName"
    additional_log_standard_attrs: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in _FORMATTERS:
            raise ValueError(
                f"Invalid encoding type: {self.encoding}. Valid encoding types are: {sorted(_FORMATTERS)}"
            )
        for name in self.additional_log_standard_attrs:
            if name not in _STANDARD:
                raise ValueError(
                    f"Unknown python logging standard attribute: {name}. The valid attributes are: {sorted(_STANDARD)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LoggingConfig:
        """Return the configuration that `to_dict` wrote; unknown fields are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})

    def _apply(self) -> None:
        """Make this process log so, from the root logger on; a second time replaces the first."""
        handler = _Handler()
        handler.setLevel(self.log_level)
        handler.addFilter(_add_context)
        handler.setFormatter(_FORMATTERS[self.encoding](self.additional_log_standard_attrs))
        root, own = logging.getLogger(), logging.getLogger("jray")
        for logger in (root, own):
            for old in [old for old in logger.handlers if isinstance(old, _Handler)]:
                logger.removeHandler(old)
            logger.setLevel(self.log_level)
        root.addHandler(handler)
        own.propagate = True  # through the root's handler


LoggingConfig.__module__ = "jray"


def configure(level: int | str, format_: str | None) -> None:
    """Set up the driver's "jray" logger as Ray does its own.

    Its records are written once: by the handlers of the root logger where the program has set up any, else, and
    where the program gave a format, by one of jray's own.
    """
    logger = logging.getLogger("jray")
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    handler = next((handler for handler in logger.handlers if isinstance(handler, _Handler)), None)
    if handler is None:
        handler = _Handler(yields_to_root=format_ is None)
        logger.addHandler(handler)
        handler.setFormatter(logging.Formatter(format_ or _FORMAT))
    elif format_ is not None:
        handler.yields_to_root = False
        handler.setFormatter(logging.Formatter(format_))
    logger.propagate = handler.yields_to_root


def leave_alone() -> None:
    """Undo `configure`: the program wants to set up the "jray" logger itself."""
    logger = logging.getLogger("jray")
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    logger.propagate = True


class _Handler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: notebooks and workers put their own there."""

    def __init__(self, *, yields_to_root: bool = False) -> None:
        super().__init__()
        #: whether it is silent while the root logger has handlers, which then write the record
        self.yields_to_root = yields_to_root

    def emit(self, record: logging.LogRecord) -> None:
        if self.yields_to_root and logging.getLogger().handlers:
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 -- a handler's errors are for `logging` to tell, whatever they are
            self.handleError(record)


def _add_context(record: logging.LogRecord) -> bool:
    """Put on a record who is speaking, as far as there is something to say; a filter that lets all pass."""
    for name, value in _context().items():
        if value:
            setattr(record, name, value)
    return True


def _context() -> Mapping[str, str | None]:
    if current.client is None:
        return {}
    here = current.client.whereabouts()
    ids = {"job_id": here.job_id, "worker_id": here.worker_id, "node_id": here.node_id}
    ids |= {"actor_id": here.actor_id, "task_id": here.task_id}
    names = {"task_name": here.task_name, "task_func_name": here.function_name, "actor_name": here.actor_name}
    return {name: value.hex() for name, value in ids.items() if value is not None} | names


class _Formatter(logging.Formatter):
    def __init__(self, attributes: list[str]) -> None:
        super().__init__(_FORMAT)
        self._attributes = attributes

    def additions(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what the record tells beyond the line itself."""
        found = {name: getattr(record, name, None) for name in self._attributes}
        found |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return found | {"timestamp_ns": int(record.created * 1e9)}


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        additions = " ".join(f"{name}={value}" for name, value in self.additions(record).items())
        return f"{super().format(record)} {additions}"


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        import json  # noqa: PLC0415 -- 2 ms; only who asked for JSON

        line: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
        }
        if record.exc_info:
            line["exc_text"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line | self.additions(record), default=str)


_FORMATTERS: dict[str, type[_Formatter]] = {"TEXT": _TextFormatter, "JSON": _JsonFormatter}
