"""The user's own metrics: what they take, what they refuse, and how figures of many processes become one."""

from __future__ import annotations

import functools
import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import jray
from jray.util.metrics import Counter, Gauge, Histogram
from tests.behaviour import differences, engine
from tests.behaviour.support import Bench, run_driver, wait_gone, wait_until

if not engine.ON_RAY:
    from jray.util.metrics import Family, Sample, collect, prometheus_text


def of_jray(test: Any) -> Any:
    """Mark a test that reads what was recorded."""
    return differences.figures_are_read_here(pytest.mark.usefixtures("cluster")(test))


def of_processes(test: Any) -> Any:
    """Mark a test of how several processes do it."""
    return of_jray(pytest.mark.differs("inline", "all is recorded in one process")(test))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own: what is recorded stays as long as its process."""
    return f"m_{request.node.name}".translate(str.maketrans("[]-. ", "_____"))


def family(name: str) -> Any:
    """Return what all recorded under *name*; without samples if nobody did."""
    found = [family for family in collect() if family.name == name]
    return found[0] if found else Family(name, "counter", "", ())


def values(name: str) -> dict[tuple[str, ...], float]:
    """Return the figures by the values of their tags."""
    return {tuple(sample.tags.values()): sample.value for sample in family(name).samples}


def until_values(name: str, expected: dict[tuple[str, ...], float]) -> None:
    wait_until(lambda: values(name) == expected, what=lambda: f"{expected}; there is {values(name)}")


# -- what is taken and what is refused ----------------------------------------------------------------------


def test_a_metric_tells_what_it_is(name: str) -> None:
    """By `info`, as it was made."""
    expected = {"name": name, "description": "what for", "tag_keys": ("a",), "default_tags": {}}
    assert Counter(name, "what for", ("a",)).info == expected
    assert Gauge(name + "_g", "what for", ("a",)).info == expected | {"name": name + "_g"}
    histogram = Histogram(name + "_h", "what for", [1, 2.5], ("a",))
    assert histogram.info == expected | {"name": name + "_h", "boundaries": [1, 2.5]}
    assert Counter(name).info == {"name": name, "description": "", "tag_keys": (), "default_tags": {}}


def test_an_empty_name_is_a_value_error() -> None:
    """A metric needs one."""
    with pytest.raises(ValueError, match="name"):
        Counter("")


@pytest.mark.parametrize("bad", ["a-b", "1a", "a b", "ä", "a\n"])
def test_a_name_that_prometheus_refuses_is_discarded(bad: str) -> None:
    """With a warning; to record under it is no error."""
    if bad == "a\n" and engine.ON_RAY:
        pytest.skip("Ray's check does not see a newline at the end")
    with pytest.warns(UserWarning, match="Invalid metric name"):
        counter = Counter(bad, tag_keys=("a",))
    counter.inc(1)
    if not engine.ON_RAY:
        assert bad not in {family.name for family in collect()}


def test_a_name_with_a_colon_is_warned_of(name: str) -> None:
    """Prometheus keeps colons for its own rules."""
    with pytest.warns(FutureWarning, match=":"):
        Gauge(f"{name}:x")


@pytest.mark.parametrize("keys", [["a"], "a", (1,)])
def test_tag_keys_are_a_tuple_of_strings(name: str, keys: Any) -> None:
    """Anything else is a TypeError."""
    with pytest.raises(TypeError, match=r"(?i)tag.?keys"):
        Counter(name, tag_keys=keys)


@pytest.mark.parametrize("value", [0, -1, -0.5])
def test_a_counter_only_counts_up(name: str, value: float) -> None:
    """ValueError for anything else."""
    with pytest.raises(ValueError, match=f"value must be >0, got {value}"):
        Counter(name).inc(value)


def test_what_is_no_number_is_a_type_error(name: str) -> None:
    """For each kind of metric."""
    methods: list[Any] = [
        Counter(name).inc,
        Gauge(name + "_g").set,
        Histogram(name + "_h", boundaries=[1]).observe,
    ]
    for record in methods:
        with pytest.raises(TypeError, match="value must be int or float"):
            record("1")


def test_setting_a_gauge_to_none_does_nothing(name: str) -> None:
    """Not even when tags are missing."""
    Gauge(name, tag_keys=("a",)).set(None)


@pytest.mark.parametrize("boundaries", [None, [], [0, 1], [-1.0, 1]])
def test_a_histogram_needs_boundaries_above_0(name: str, boundaries: Any) -> None:
    """ValueError without."""
    with pytest.raises(ValueError, match="boundaries"):
        Histogram(name, boundaries=boundaries)


def test_each_tag_needs_a_value(name: str) -> None:
    """Given with the figure, or before; the given one counts."""
    counter = Counter(name, tag_keys=("a", "b"))
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): a,b"):
        counter.inc()
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): b"):
        counter.inc(1, {"a": "1"})
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.inc(1, {"a": 1, "b": "2"})  # type: ignore[dict-item]
    assert counter.set_default_tags({"a": "1", "b": "2"}) is counter
    counter.inc()
    counter.inc(5, {"b": "3"})
    counter.set_default_tags({"a": "only"})
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): b"):
        counter.inc()
    if not engine.ON_RAY:
        assert values(name) == {("1", "2"): 1, ("1", "3"): 5}


def test_a_default_for_an_unknown_tag_is_refused(name: str) -> None:
    """ValueError that has the key; TypeError for a value that is no string."""
    counter = Counter(name, tag_keys=("a",))
    with pytest.raises(ValueError, match="Unrecognized tag key z"):
        counter.set_default_tags({"z": "1"})
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.set_default_tags({"a": 1})  # type: ignore[dict-item]


@differences.unknown_tags_are_said
def test_a_tag_that_is_not_of_the_metric_is_left_out_and_said(name: str) -> None:
    """The figure counts without it."""
    with pytest.warns(UserWarning, match="Unrecognized tag key z"):
        Counter(name, tag_keys=("a",)).inc(1, {"a": "1", "z": "2"})
    assert [sample.tags for sample in family(name).samples] == [{"a": "1"}]


def test_a_metric_travels(name: str) -> None:
    """Pickled it is the same metric."""
    histogram = Histogram(name, "what for", [1, 2], ("a",))
    assert pickle.loads(pickle.dumps(histogram)).info == histogram.info


@differences.default_tags_travel
def test_a_metric_travels_with_its_default_tags(name: str) -> None:
    """So that a task need not know of them."""
    counter = Counter(name, tag_keys=("a",)).set_default_tags({"a": "1"})
    jray.get(jray.remote(lambda: counter.inc(2)).remote())
    until_values(name, {("1",): 2})


# -- the figures of many processes --------------------------------------------------------------------------


@jray.remote
class Recorder:
    def record(self, record: Callable[[], None]) -> int:
        record()
        return os.getpid()


def recorders(count: int) -> list[Any]:
    return [Recorder.options(num_cpus=0).remote() for _ in range(count)]


def record(actor: Any, what: Callable[[], None]) -> int:
    pid: int = jray.get(actor.record.remote(what))
    return pid


@of_jray
def test_counts_of_all_processes_are_added_up(name: str) -> None:
    """By tags; what this process counts is there at once."""
    counter = Counter(name, "calls", ("who",))
    counter.inc(1, {"who": "all"})
    assert values(name) == {("all",): 1}
    first, second = recorders(2)
    record(first, lambda: counter.inc(10, {"who": "all"}))
    record(second, lambda: counter.inc(100, {"who": "all"}))
    record(second, lambda: counter.inc(5, {"who": "one"}))
    until_values(name, {("all",): 111, ("one",): 5})
    record(first, lambda: counter.inc(0.5, {"who": "one"}))
    until_values(name, {("all",): 111, ("one",): 5.5})
    assert (family(name).kind, family(name).description) == ("counter", "calls")


@of_jray
@pytest.mark.differs("inline", "a task has ended when its call returns")
def test_what_a_task_counts_is_seen_while_it_runs(name: str, bench: Bench) -> None:
    """It need not end, nor ask jray for anything."""
    counter, gate = Counter(name), bench.gate()

    @jray.remote
    def count() -> None:
        for _ in range(3):
            counter.inc()
        gate.wait()

    ref = count.remote()
    until_values(name, {(): 3})
    gate.open()
    jray.get(ref)


@of_jray
def test_a_task_sees_what_the_driver_recorded(name: str) -> None:
    """Every process can ask."""
    Counter(name).inc(3)

    @jray.remote
    def see() -> float:
        (found,) = [family for family in collect() if family.name == name]
        return found.samples[0].value

    def seen() -> float:
        try:
            return jray.get(see.remote())
        except ValueError:  # not yet
            return 0

    wait_until(lambda: seen() == 3)


@of_processes
@pytest.mark.parametrize("sent", [signal.SIGKILL, None], ids=["killed", "ended"])
def test_what_a_dead_process_counted_stays_counted(name: str, sent: signal.Signals | None) -> None:
    """A process that ends in good order tells what it has not told before."""
    counter = Counter(name)
    (actor,) = recorders(1)
    pid = record(actor, lambda: counter.inc(7))
    if sent is not None:
        until_values(name, {(): 7})
        os.kill(pid, sent)
    else:
        record(actor, lambda: counter.inc(1))
        jray.wait([actor.__ray_terminate__.remote()])
    wait_gone(pid)
    until_values(name, {(): 7 if sent else 8})


@of_jray
def test_a_gauge_is_as_it_was_last_set(name: str) -> None:
    """Whoever set it."""
    gauge = Gauge(name)
    first, second = recorders(2)
    for actor, value in ((first, 1), (second, 2), (first, -3.5)):
        record(actor, functools.partial(gauge.set, value))
        until_values(name, {(): value})
    gauge.set(4)
    assert values(name) == {(): 4}


@of_processes
def test_a_gauge_goes_with_the_actor_that_set_it(name: str) -> None:
    """One that a task set stays, for tasks have no process of their own."""
    gauge = Gauge(name, tag_keys=("who",))
    (actor,) = recorders(1)
    pid = record(actor, lambda: gauge.set(1, {"who": "actor"}))
    jray.get(jray.remote(lambda: gauge.set(2, {"who": "task"})).remote())
    until_values(name, {("actor",): 1, ("task",): 2})
    jray.kill(actor)
    wait_gone(pid)
    until_values(name, {("task",): 2})


@of_jray
def test_a_histogram_counts_in_buckets_that_have_their_upper_bound(name: str) -> None:
    """Each bucket has what is in those below, too, and the last one all."""
    histogram = Histogram(name, boundaries=[2.5, 1, 2.5])
    (actor,) = recorders(1)

    def observe() -> None:
        for value in (0.5, 1, 1.001, 2.5, 3, math.inf):
            histogram.observe(value)

    observe()
    record(actor, observe)
    wait_until(lambda: family(name).samples[0].count == 12)
    (sample,) = family(name).samples
    assert sample.buckets == ((1.0, 4), (2.5, 8), (math.inf, 12))
    assert sample.value == math.inf
    histogram.observe(math.nan)
    assert family(name).samples[0].buckets == ((1.0, 4), (2.5, 8), (math.inf, 13))


@of_jray
def test_metrics_of_one_name_are_one(name: str) -> None:
    """A cell that runs again goes on counting."""
    Counter(name, "old").inc(1)
    Counter(name, "new").inc(2)
    assert values(name) == {(): 3}
    assert family(name).description == "new"


@of_jray
def test_a_metric_that_is_defined_anew_starts_anew(name: str) -> None:
    """In all processes; who goes on recording by the old definition is told."""
    old = Histogram(name, boundaries=[1])
    old.observe(1)
    (actor,) = recorders(1)
    record(actor, lambda: old.observe(1))
    wait_until(lambda: family(name).samples[0].count == 2)
    Histogram(name, boundaries=[2]).observe(1)
    assert family(name).samples[0].buckets == ((2.0, 1), (math.inf, 1))
    with pytest.warns(UserWarning, match=f"'{name}' was defined anew"):
        old.observe(1)
    Gauge(name).set(5)
    assert (family(name).kind, values(name)) == ("gauge", {(): 5})


@of_jray
def test_threads_lose_no_count(name: str) -> None:
    """Whenever they take turns."""
    counter = Counter(name)

    class Yielding(float):
        def __radd__(self, other: float) -> float:
            time.sleep(0)  # another thread's turn
            return other + float(self)

    def count() -> None:
        for _ in range(500):
            counter.inc(Yielding(1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(name) == {(): 2000}


@of_processes
def test_another_driver_reads_and_adds(name: str, tmp_path: Any) -> None:
    """What it counted stays when it leaves; its gauges go."""
    Counter(name).inc(1)
    address = jray.get_runtime_context().gcs_address
    out = run_driver(
        tmp_path,
        """
        import sys, time
        import jray
        from jray.util.metrics import Counter, Gauge, collect

        name, address = sys.argv[1:]
        jray.init(address=address)
        Counter(name).inc(10)
        Gauge(name + "_g").set(5)
        while True:
            found = {family.name: family.samples[0].value for family in collect() if family.samples}
            if found.get(name) == 11:
                break
            time.sleep(0.01)
        print(found[name + "_g"])
        """,
        name,
        address,
    )
    assert out.split() == ["5"]
    until_values(name, {(): 11})
    until_values(name + "_g", {})


@of_jray
@pytest.mark.usefixtures("no_cluster")
def test_what_is_recorded_without_a_cluster_is_not_lost(name: str, fresh: Callable[..., Any]) -> None:
    """It is this process's until there is a head, and again when that is gone."""
    counter = Counter(name)
    counter.inc(1)
    assert values(name) == {(): 1}
    for expected in (2, 3):
        fresh()
        counter.inc(1)

        @jray.remote
        def seen() -> list[float]:
            return [sample.value for found in collect() if found.name == name for sample in found.samples]

        wait_until(lambda: jray.get(seen.remote()) == [expected])  # noqa: B023 -- called at once
        jray.shutdown()
    assert values(name) == {(): 3}


@of_jray
def test_a_forked_child_starts_from_nothing(name: str) -> None:
    """What the parent counted is the parent's."""
    counter = Counter(name)
    counter.inc(1)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            counter.inc(5)
            os.write(writer, repr(counter._series and counter._series.figures).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"{(): 5.0}"
    os.waitpid(pid, 0)
    assert values(name) == {(): 1}


# -- Prometheus' text ----------------------------------------------------------------------------------------


@of_jray
def test_the_text_is_prometheus() -> None:
    """With Ray's names, and the characters escaped that mean something there."""
    text = prometheus_text(
        [
            Family("calls", "counter", 'how\noften \\ "it"', (Sample({"k": 'a"\\b\nc', "9-x": "ü"}, 4.0),)),
            Family("done_total", "counter", "", (Sample({}, 1.5),)),
            Family("level", "gauge", "", (Sample({}, -math.inf), Sample({"k": "1"}, math.nan))),
            Family("time", "histogram", "s", (Sample({"k": "1"}, 4.0, ((1.0, 0), (2.5, 2), (math.inf, 3))),)),
        ]
    )  # fmt: skip
    assert text == (
        '# HELP ray_calls_total how\\noften \\\\ "it"\n'
        "# TYPE ray_calls_total counter\n"
        'ray_calls_total{k="a\\"\\\\b\\nc",_9_x="ü"} 4.0\n'
        "# HELP ray_done_total\n"
        "# TYPE ray_done_total counter\n"
        "ray_done_total 1.5\n"
        "# HELP ray_level\n"
        "# TYPE ray_level gauge\n"
        "ray_level -Inf\n"
        'ray_level{k="1"} NaN\n'
        "# HELP ray_time s\n"
        "# TYPE ray_time histogram\n"
        'ray_time_bucket{k="1",le="1.0"} 0\n'
        'ray_time_bucket{k="1",le="2.5"} 2\n'
        'ray_time_bucket{k="1",le="+Inf"} 3\n'
        'ray_time_sum{k="1"} 4.0\n'
        'ray_time_count{k="1"} 3\n'
    )
    assert prometheus_text([]) == ""


@of_jray
def test_the_text_has_what_was_recorded(name: str) -> None:
    """By default everything, under names with a prefix that can be chosen."""
    Gauge(name).set(2)
    assert f"\nray_{name} 2.0\n" in prometheus_text()
    assert f"\nmine_{name} 2.0\n" in prometheus_text(prefix="mine_")
