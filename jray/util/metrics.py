"""Owns the user's own figures: counters, gauges and histograms, added up over all processes of the cluster.

Recording changes a number in this process and nothing else.  What changed is told to the head soon after, at
most five times a second, and when the process ends in good order; the head keeps it when the process is gone.

    counter, histogram   counts since each process began, added up; what dead processes counted stays counted
    gauge                as it was last set, by whichever process; it is gone with the actor or the job that set
                         it, for nobody can correct it any more

A process that is killed takes with it what it recorded in the last fraction of a second.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import math
import os
import re
import threading
import time
import warnings
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, Self

from jray._core.refs import current
from jray._core.wire import messages

__all__ = ["Counter", "Family", "Gauge", "Histogram", "Metric", "Sample", "collect", "prometheus_text"]

Kind = Literal["counter", "gauge", "histogram"]
#: (key, value) pairs in the order of the keys
Tags = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]|^(?=[0-9])")
#: where the head keeps what the processes told
_SPACE = "jray.metrics"
#: a process tells its figures at most this often, with this fraction of its time ...
_INTERVAL_S = 0.2
_FRACTION = 0.01
#: ... and the first after a pause almost at once, together with what is recorded meanwhile
_GATHER_S = 0.02


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The figure of one combination of tags."""

    tags: Mapping[str, str]
    #: of a counter the sum, of a gauge what was set, of a histogram the sum of what was observed
    value: float
    #: of a histogram: (upper bound, how many were observed up to and with it), the last bound infinite
    buckets: tuple[tuple[float, int], ...] = ()

    @property
    def count(self) -> int:
        """How many values a histogram observed."""
        return self.buckets[-1][1] if self.buckets else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """All figures of one name."""

    name: str
    kind: Kind
    description: str
    samples: tuple[Sample, ...]


# -- what this process records ------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Series:
    """What one process recorded with one definition of a metric."""

    name: str
    kind: Kind
    description: str
    boundaries: tuple[float, ...]
    defined_s: float  #: when, as `time.time()`
    #: counter: the sum; gauge: (value, `time.time()` of the setting); histogram: [sum, count of each bucket ...]
    figures: dict[Tags, Any] = dataclasses.field(default_factory=dict)
    #: whether this process has another of the name by now
    is_replaced: bool = False

    def is_like(self, other: _Series) -> bool:
        """Tell whether figures of both can be added."""
        return (self.kind, self.boundaries) == (other.kind, other.boundaries)

    def copy(self) -> _Series:
        figures = {
            tags: [*figure] if isinstance(figure, list) else figure for tags, figure in self.figures.items()
        }
        return dataclasses.replace(self, figures=figures)


@dataclasses.dataclass(frozen=True, slots=True)
class _Report:
    """What one process tells of its figures."""

    job: str | None  #: None: the process that asks
    actor: str | None
    series: list[_Series]

    def to_bytes(self) -> bytes:
        # JSON, so that programs which may not unpickle can read what the head keeps
        rows = [
            [of.name, of.kind, of.description, of.boundaries, of.defined_s, list(of.figures.items())]
            for of in self.series
            if of.figures
        ]
        return json.dumps([self.job, self.actor, rows]).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> _Report:
        job, actor, rows = json.loads(blob)
        series = [
            _Series(
                name, kind, description, tuple(boundaries), defined_s, {_as_tags(t): f for t, f in figures}
            )
            for name, kind, description, boundaries, defined_s, figures in rows
        ]
        return cls(job, actor, series)


def _as_tags(pairs: Iterable[Sequence[str]]) -> Tags:
    return tuple((key, value) for key, value in pairs)


class _Recorder:
    """The figures of this process, and their way to the head."""

    def __init__(self) -> None:
        # re-entrant: a finalizer that records may strike while its thread records
        self.lock = threading.RLock()
        self.series: dict[str, _Series] = {}
        #: the client in whose session a call of `_tell` is on its way
        self._armed: Callable[[], Any] = weakref.ref(self)
        #: when, as `time.monotonic()`, it may be told again
        self._next_s = 0.0
        self._tells_at_exit = False

    def define(self, name: str, kind: Kind, description: str, boundaries: tuple[float, ...]) -> _Series:
        """Return the series of that name.  A cell that was edited and runs again starts it anew."""
        series = _Series(name, kind, description, boundaries, time.time())
        with self.lock:
            known = self.series.get(name)
            if known is not None and known.is_like(series):
                known.description = description or known.description
                return known
            if known is not None:
                known.is_replaced = True
            self.series[name] = series
            return series

    def changed(self) -> None:
        """Have the figures told, now or with what changes next; the lock is held."""
        client = current.client
        if client is None or self._armed() is client or not _has_head(client):
            return
        self._armed = weakref.ref(client)
        if not self._tells_at_exit:
            # only now: exit handlers run last to first, so this one runs before the client's
            self._tells_at_exit = True
            atexit.register(self._tell)
        client.pump.call_later(max(_GATHER_S, self._next_s - time.monotonic()), self._tell)

    def _tell(self) -> None:
        """Tell the head the figures of this process; called by the thread that polls, which must not wait."""
        client: Any = current.client
        with self.lock:
            if client is None or self._armed() is not client:
                return
            self._armed = weakref.ref(self)  # nobody
            began_s = time.monotonic()
            blob = _Report(*_place(client), list(self.series.values())).to_bytes()
            self._next_s = began_s + max(_INTERVAL_S, (time.monotonic() - began_s) / _FRACTION)
        with client.lock:
            client.node.request_later(
                messages.ASK, "kv_put", (_SPACE, _key(client), blob, True), callback=_ignore
            )

    def own(self) -> _Report:
        """Return the figures as they are now."""
        with self.lock:
            return _Report(None, None, [series.copy() for series in self.series.values()])

    def forget(self) -> None:
        """In a forked child: what the parent recorded is the parent's."""
        self.lock = threading.RLock()
        self._armed = weakref.ref(self)
        for series in self.series.values():
            series.figures.clear()


def _has_head(client: Any) -> bool:
    """Tell whether this engine has processes that are to be added up, and a head that keeps their figures."""
    return getattr(type(client), "engine_name", None) == "jray"


def _place(client: Any) -> tuple[str, str | None]:
    """Return the job and the actor of this process."""
    actor = None if client.worker is None else client.worker.actor
    return client.job_id.hex(), None if actor is None else actor.spec.actor_id.hex()


def _key(client: Any) -> bytes:
    number: int = client.number
    return number.to_bytes(8, "big")


def _ignore(_: object) -> None:
    """Take the answer to what was only told."""


_recorder = _Recorder()
os.register_at_fork(after_in_child=_recorder.forget)


# -- the metrics ----------------------------------------------------------------------------------------


class Metric:
    """What counters, gauges and histograms have in common."""

    _kind: Kind
    _boundaries: tuple[float, ...] = ()

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        if not name:
            raise ValueError("A metric needs a name, and '' is none.")
        if not isinstance(tag_keys, tuple | None):
            raise TypeError(f"tag_keys must be a tuple of strings, got {type(tag_keys).__name__}.")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"tag_keys must be a tuple of strings; it has a {type(key).__name__}.")
        self._name = name
        self._description = description
        self._tag_keys = tag_keys or ()
        self._default_tags: dict[str, str] = {}
        #: None: the name is not one that Prometheus could take, and what is recorded goes nowhere
        self._series: _Series | None = None
        if _NAME.fullmatch(name) is None:
            warnings.warn(
                f"Invalid metric name: {name!r}. What is recorded under it is discarded. A name has letters, digits "
                "and underscores, and does not begin with a digit.",
                UserWarning,
                stacklevel=3,
            )
            return
        if ":" in name:
            warnings.warn(
                f"Metric name {name!r} contains a colon, which Prometheus keeps for its own rules. Use an underscore.",
                FutureWarning,
                stacklevel=3,
            )
        self._series = _recorder.define(name, self._kind, description, self._boundaries)

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def set_default_tags(self, default_tags: dict[str, str]) -> Self:
        """Set the values of tags that are not given when something is recorded; return the metric itself.

        They replace those set before.  Raises ValueError for a key that is not in `tag_keys`.
        """
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(self._unrecognized(key))
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value).__name__} for {key!r}.")
        self._default_tags = default_tags
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process it is the same metric, whose figures that process counts for itself.
        return type(self), self._arguments(), self._default_tags or None

    def __setstate__(self, default_tags: dict[str, str]) -> None:
        self._default_tags = default_tags

    def _arguments(self) -> tuple[Any, ...]:
        return self._name, self._description, self._tag_keys

    def _tags(self, given: dict[str, str] | None) -> Tags:
        """Return the tags of a figure, the given ones before the default ones."""
        if given:
            for key, value in given.items():
                if not isinstance(value, str):
                    raise TypeError(f"Tag values must be str, got {type(value).__name__} for {key!r}.")
            merged = {**self._default_tags, **given}
            for key in [key for key in given if key not in self._tag_keys]:
                warnings.warn(f"{self._unrecognized(key)} It is left out.", UserWarning, stacklevel=4)
                del merged[key]
        else:
            merged = self._default_tags
        if len(merged) < len(self._tag_keys):
            missing = ",".join(key for key in self._tag_keys if key not in merged)
            raise ValueError(f"Missing value for tag key(s): {missing}.")
        return tuple(sorted(merged.items()))

    def _unrecognized(self, key: str) -> str:
        return f"Unrecognized tag key {key}. The tag_keys of {self._name!r} are {self._tag_keys!r}."

    def _record(
        self, value: float, tags: dict[str, str] | None, add: Callable[[dict[Tags, Any], Tags, float], None]
    ) -> None:
        if not isinstance(value, int | float):
            raise TypeError(f"value must be int or float, got {type(value).__name__}.")
        series = self._series
        if series is None:
            return
        key = self._tags(tags)
        if series.is_replaced:
            warnings.warn(
                f"{self._name!r} was defined anew with another kind or other boundaries: what is recorded by the old "
                "definition is discarded. Give metrics that differ names that differ.",
                UserWarning,
                stacklevel=3,
            )
            return
        with _recorder.lock:
            add(series.figures, key, value)
            _recorder.changed()


class Counter(Metric):
    """Counts something that only ever becomes more.

    `tag_keys` names the tags, by whose values the count is split; each must then have a value.
    """

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add *value*, which must be above 0 (ValueError)."""
        if isinstance(value, int | float) and not value > 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record(value, tags, _add)


class Gauge(Metric):
    """Says how much there is of something now; see `Counter` for the tags."""

    _kind = "gauge"

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Say that it is *value* now; None changes nothing."""
        if value is not None:
            self._record(value, tags, _set)


class Histogram(Metric):
    """Counts values by size; see `Counter` for the tags.

    Each of *boundaries*, all above 0, is the highest value of a bucket; a last bucket takes what is above all.
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        if not boundaries:
            raise ValueError(
                'A histogram needs boundaries between its buckets, as in Histogram("name", boundaries=[1.0, 2.0]).'
            )
        for index, boundary in enumerate(boundaries):
            if not boundary > 0:
                raise ValueError(f"boundaries must be above 0; number {index} of {boundaries} is {boundary}.")
        self.boundaries = boundaries
        self._boundaries = tuple(sorted({float(boundary) for boundary in boundaries}))
        super().__init__(name, description, tag_keys)

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Count *value* in its bucket."""
        self._record(value, tags, self._count)

    @property
    def info(self) -> dict[str, Any]:
        """As of every metric, and the boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def _arguments(self) -> tuple[Any, ...]:
        return self._name, self._description, self.boundaries, self._tag_keys

    def _count(self, figures: dict[Tags, Any], key: Tags, value: float) -> None:
        figure = figures.get(key)
        if figure is None:
            figure = figures[key] = [0.0] + [0] * (len(self._boundaries) + 1)
        figure[0] += value
        # what is not a number is above every boundary, as in Prometheus
        figure[1 + (bisect_left(self._boundaries, value) if value == value else len(self._boundaries))] += 1  # noqa: PLR0124


def _add(figures: dict[Tags, Any], key: Tags, value: float) -> None:
    figures[key] = figures.get(key, 0.0) + value


def _set(figures: dict[Tags, Any], key: Tags, value: float) -> None:
    figures[key] = (value, time.time())


# -- what all recorded --------------------------------------------------------------------------------------


def collect() -> list[Family]:
    """Return what the processes of this cluster recorded, in the order of the names; blocks for the head's answer.

    What this process recorded is all in it; what others did, up to a fraction of a second ago.  Before `jray.init` it is
    what this process recorded.  Raises NotImplementedError with engine="ray", where tasks are Ray's to watch.
    """
    client = current.client
    own = _recorder.own()
    if client is None or client.engine_name == "inline":
        return _merge([own])
    if not _has_head(client):
        raise NotImplementedError(
            f"jray.util.metrics does not add up figures with engine={client.engine_name!r}. In tasks, record with "
            "ray.util.metrics: Ray exports it with its own figures."
        )
    jobs = {row["job_id"] for row in client.cluster.rows("jobs").rows if row["status"] == "RUNNING"}
    actors = {row["actor_id"] for row in client.cluster.rows("actors").rows if row["state"] != "DEAD"}
    reports = [own]
    for key in client.ask("kv_keys", _SPACE, b""):
        blob = None if key == _key(client) else client.ask("kv_get", _SPACE, key)
        if blob is not None:
            report = _Report.from_bytes(blob)
            is_alive = report.job in jobs if report.actor is None else report.actor in actors
            reports.append(report if is_alive else _without_gauges(report))
    return _merge(reports)


def _without_gauges(report: _Report) -> _Report:
    return dataclasses.replace(report, series=[series for series in report.series if series.kind != "gauge"])


def _merge(reports: Iterable[_Report]) -> list[Family]:
    """Add up the figures of all processes.

    There may be several definitions of one name, as after a cell was edited and run again: the newest counts, and
    what cannot be added to it is left out.
    """
    by_name: dict[str, list[_Series]] = {}
    for report in reports:
        for series in report.series:
            by_name.setdefault(series.name, []).append(series)
    return [_family(name, by_name[name]) for name in sorted(by_name)]


def _family(name: str, of_processes: list[_Series]) -> Family:
    newest = max(of_processes, key=lambda series: series.defined_s)
    sums: dict[Tags, Any] = {}
    for series in of_processes:
        if series.is_like(newest):
            for tags, figure in series.figures.items():
                known = sums.get(tags)
                sums[tags] = figure if known is None else _sum(newest.kind, known, figure)
    samples = tuple(_sample(newest, tags, sums[tags]) for tags in sorted(sums))
    return Family(name, newest.kind, newest.description, samples)


def _sum(kind: Kind, one: Any, other: Any) -> Any:
    if kind == "counter":
        return one + other
    if kind == "gauge":
        return max(one, other, key=lambda figure: figure[1])
    return [a + b for a, b in zip(one, other, strict=True)]


def _sample(series: _Series, tags: Tags, figure: Any) -> Sample:
    if series.kind == "counter":
        return Sample(dict(tags), figure)
    if series.kind == "gauge":
        return Sample(dict(tags), figure[0])
    bounds = (*series.boundaries, math.inf)
    return Sample(dict(tags), figure[0], tuple(zip(bounds, accumulate(figure[1:]), strict=True)))


# -- Prometheus' text exposition format ---------------------------------------------------------------------


def prometheus_text(families: Iterable[Family] | None = None, *, prefix: str = "ray_") -> str:
    """Return figures, by default those of `collect()`, in Prometheus' text format (version 0.0.4).

    The names are those under which Ray exports: with *prefix*, and of counters with `_total` at the end.
    """
    lines: list[str] = []
    for family in collect() if families is None else families:
        name = f"{prefix}{family.name}"
        if family.kind == "counter" and not name.endswith("_total"):
            name += "_total"
        lines.append(f"# HELP {name} {_escape(family.description)}".rstrip())
        lines.append(f"# TYPE {name} {family.kind}")
        for sample in family.samples:
            lines += _sample_lines(name, sample)
    return "".join(f"{line}\n" for line in lines)


def _sample_lines(name: str, sample: Sample) -> Iterator[str]:
    if not sample.buckets:
        yield f"{name}{_labels(sample.tags)} {_number(sample.value)}"
        return
    for bound, count in sample.buckets:
        yield f"{name}_bucket{_labels({**sample.tags, 'le': _number(bound)})} {count}"
    yield f"{name}_sum{_labels(sample.tags)} {_number(sample.value)}"
    yield f"{name}_count{_labels(sample.tags)} {sample.count}"


def _labels(tags: Mapping[str, str]) -> str:
    if not tags:
        return ""
    pairs = ",".join(
        f'{_NOT_IN_LABEL.sub("_", key)}="{_escape(value, quotes=True)}"' for key, value in tags.items()
    )
    return f"{{{pairs}}}"


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
