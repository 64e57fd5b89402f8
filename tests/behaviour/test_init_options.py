"""The keywords of `init`: each works, or is refused or warned about by name; and what `init` returns."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jray
from jray.job_config import JobConfig
from tests.behaviour import differences
from tests.behaviour.support import run_driver, start_driver, wait_until

Fresh = Callable[..., Any]


@jray.remote
def seen() -> dict[str, Any]:
    context = jray.get_runtime_context()
    return {
        "namespace": context.namespace,
        "variables": {name: os.environ.get(name) for name in ("JOB_COLOUR", "JOB_SIZE")},
        "labels": context.get_node_labels(),
    }


# -- the node -----------------------------------------------------------------------------------------


def test_labels_and_name_of_the_node(fresh: Fresh) -> None:
    """Labels and name given to `init` are the node's, in `nodes` and in tasks; its id is one of the labels."""
    fresh(labels={"team": "blue", "example.org/zone": "a"}, _node_name="mine")
    (row,) = jray.nodes()
    assert row["NodeName"] == "mine"
    assert row["Labels"] == {"team": "blue", "example.org/zone": "a", "ray.io/node-id": row["NodeID"]}
    assert jray.get(seen.remote())["labels"] == row["Labels"] == jray.get_runtime_context().get_node_labels()


def test_without_labels_a_node_has_its_id(fresh: Fresh) -> None:
    """A node without labels of its user's has the one with its id."""
    fresh()
    (row,) = jray.nodes()
    assert row["Labels"] == {"ray.io/node-id": row["NodeID"]}


def test_resources_of_the_node(fresh: Fresh) -> None:
    """CPUs, GPUs, memory, store and custom resources are the ones given."""
    fresh(num_cpus=3, num_gpus=2, resources={"gadget": 4}, object_store_memory=100 << 20, _memory=1 << 30)
    total = jray.cluster_resources()
    wanted = {"CPU": 3, "GPU": 2, "gadget": 4, "object_store_memory": 100 << 20, "memory": 1 << 30}
    assert {name: total[name] for name in wanted} == wanted


def test_where_sessions_lie(fresh: Fresh) -> None:
    """The session's directory is in `_temp_dir`."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own are too long for the names of sockets
        context = fresh(_temp_dir=place)
        assert Path(context.address_info["session_dir"]).parent == Path(place)
        assert jray.get_runtime_context().get_temp_dir() == place
        jray.shutdown()


# -- the job ------------------------------------------------------------------------------------------


def test_a_job_config_sets_namespace_and_environment(fresh: Fresh) -> None:
    """What a JobConfig says counts for the driver and its tasks."""
    fresh(job_config=JobConfig(ray_namespace="of the job", runtime_env={"env_vars": {"JOB_COLOUR": "red"}}))
    found = jray.get(seen.remote())
    assert found["namespace"] == jray.get_runtime_context().namespace == "of the job"
    assert found["variables"] == {"JOB_COLOUR": "red", "JOB_SIZE": None}
    assert jray.get_runtime_context().runtime_env["env_vars"] == {"JOB_COLOUR": "red"}
    assert json.loads(jray.get_runtime_context().get_runtime_env_string()) == {
        "env_vars": {"JOB_COLOUR": "red"}
    }


def test_what_init_is_given_comes_before_the_job_config(fresh: Fresh) -> None:
    """`namespace` and `runtime_env` of `init` replace those of the JobConfig, whole."""
    config = JobConfig(ray_namespace="of the job", runtime_env={"env_vars": {"JOB_COLOUR": "red"}})
    fresh(job_config=config, namespace="of init", runtime_env={"env_vars": {"JOB_SIZE": "9"}})
    found = jray.get(seen.remote())
    assert found["namespace"] == "of init"
    assert found["variables"] == {"JOB_COLOUR": None, "JOB_SIZE": "9"}


def test_search_path_of_the_job(fresh: Fresh, tmp_path: Path) -> None:
    """Tasks import from the JobConfig's code_search_path, also what the driver cannot."""
    (tmp_path / "only_of_this_job.py").write_text("ANSWER = 42\n")

    @jray.remote
    def answer() -> Any:
        import only_of_this_job  # type: ignore[import-not-found]  # noqa: PLC0415 - written above

        return only_of_this_job.ANSWER

    fresh(job_config=JobConfig(code_search_path=[str(tmp_path)]))
    assert jray.get(answer.remote()) == 42


def test_a_job_config_is_made_and_changed() -> None:
    """It keeps what it is made from or told, and has a form in JSON."""
    config = JobConfig(metadata={"who": "me"})
    config.set_metadata("why", "test")
    config.set_ray_namespace("space")
    config.set_runtime_env({"env_vars": {"A": "1"}})
    config.set_default_actor_lifetime("non_detached")
    assert config.metadata == {"who": "me", "why": "test"}
    assert (config.ray_namespace, config.runtime_env) == ("space", {"env_vars": {"A": "1"}})
    fields = {"ray_namespace": "space", "metadata": {"who": "me"}, "runtime_env": {"env_vars": {"A": "1"}}}
    read = JobConfig.from_json(fields)
    assert (read.ray_namespace, read.metadata, read.runtime_env) == (*fields.values(),)


def test_a_job_config_refuses_what_is_wrong() -> None:
    """An unknown lifetime is a ValueError, a search path that is no list a TypeError."""
    with pytest.raises(ValueError, match="non_detached"):
        JobConfig(default_actor_lifetime="for ever")
    with pytest.raises(TypeError):
        JobConfig(code_search_path="/tmp")
    with pytest.raises(TypeError):
        JobConfig().ensure_logging_config(3)  # type: ignore[arg-type]


def test_a_job_config_takes_a_logging_config_once() -> None:
    """`ensure_logging_config` takes an object or its fields, and leaves what is set."""
    config = JobConfig()
    config.ensure_logging_config(None)
    assert config.py_logging_config is None
    config.ensure_logging_config({"encoding": "JSON", "of another version": 1})
    config.ensure_logging_config(jray.LoggingConfig())
    assert config.py_logging_config == jray.LoggingConfig("JSON")
    config.set_py_logging_config(None)
    assert config.py_logging_config is None


@pytest.mark.only("jray", "Ray has Java")
def test_a_job_config_names_what_it_cannot_do() -> None:
    """What jray does not have is refused by name."""
    with pytest.raises(NotImplementedError, match="jvm_options"):
        JobConfig(jvm_options=["-x"])


DETACHING_DRIVER = """
    import sys
    import jray
    from jray.job_config import JobConfig

    config = JobConfig(default_actor_lifetime="detached")
    jray.init(sys.argv[1], namespace="shared", log_to_driver=False, job_config=config)

    @jray.remote(num_cpus=0)
    class Quiet:
        def ping(self):
            return "here"

    @jray.remote(num_cpus=0)
    def make(name):
        return jray.get(Quiet.options(name=name).remote().ping.remote())

    said = [jray.get(Quiet.options(name="by default").remote().ping.remote()), jray.get(make.remote("of a task"))]
    attached = Quiet.options(name="attached", lifetime="non_detached").remote()
    print(*said, jray.get(attached.ping.remote()))
"""


@pytest.mark.sentences("S105")
def test_a_job_may_have_its_actors_detached_by_default(fresh: Fresh, tmp_path: Path) -> None:
    """Those that name no lifetime outlive handles and job, also those that tasks made."""
    address = fresh(namespace="shared").address_info["address"]
    assert run_driver(tmp_path, DETACHING_DRIVER, address).split() == ["here"] * 3

    def is_gone(name: str) -> bool:
        try:
            jray.get_actor(name)
        except ValueError:
            return True
        return False

    wait_until(lambda: is_gone("attached"))
    for name in ("by default", "of a task"):
        assert jray.get(jray.get_actor(name).ping.remote(), timeout=60) == "here"


# -- logging ------------------------------------------------------------------------------------------


@pytest.fixture
def loggers() -> Iterator[None]:
    """The loggers as they were, after the test."""
    known = [logging.getLogger(), logging.getLogger("jray"), logging.getLogger("ray")]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in known]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


@jray.remote
def formatted(text: str, **extra: Any) -> tuple[str, int]:
    """Return a record as this worker's root logger writes it, and that logger's level."""
    root = logging.getLogger()
    handler = next(handler for handler in reversed(root.handlers) if handler.filters)
    record = root.makeRecord("mine", logging.INFO, "/x/file.py", 7, text, ("you",), None, "function")
    vars(record).update(extra)
    assert handler.filter(record)
    return handler.format(record), root.level


@pytest.mark.usefixtures("loggers")
def test_workers_log_as_the_logging_config_says(fresh: Fresh) -> None:
    """JSON: one object with the message, who says it, and what the user adds."""
    fresh(logging_config=jray.LoggingConfig("JSON", "DEBUG", ["name", "funcName"]))
    ref = formatted.remote("hello %s", colour="red")
    text, level = jray.get(ref)
    line = json.loads(text)
    here = jray.get_runtime_context()
    assert level == logging.DEBUG
    assert line["message"] == "hello you"
    assert (line["filename"], line["lineno"], line["levelname"]) == ("file.py", 7, "INFO")
    assert (line["name"], line["funcName"], line["colour"]) == ("mine", "function", "red")
    assert (line["job_id"], line["node_id"]) == (here.get_job_id(), here.get_node_id())
    assert line["task_id"] == ref.task_id().hex()
    assert line["task_name"].endswith("formatted")
    assert line["task_func_name"].endswith(".formatted")
    assert len(line["worker_id"]) == 56
    assert isinstance(line["timestamp_ns"], int)
    assert line["asctime"]
    assert "actor_id" not in line


@pytest.mark.usefixtures("loggers")
def test_an_actor_tells_its_name_when_it_logs(fresh: Fresh) -> None:
    """TEXT: the line, then who says it as key=value."""
    fresh(logging_config=jray.LoggingConfig())

    @jray.remote
    class Speaker:
        def say(self) -> tuple[str, int]:
            return formatted._function("hello %s")

    speaker = Speaker.options(name="loud").remote()
    text, level = jray.get(speaker.say.remote())
    assert level == logging.INFO
    assert "\tINFO file.py:7 -- hello you " in text
    assert f" actor_id={speaker._actor_id.hex()}" in text
    assert " actor_name=loud" in text
    assert " timestamp_ns=" in text


@pytest.mark.usefixtures("loggers")
def test_a_job_config_sets_the_workers_logging(fresh: Fresh) -> None:
    """The logging configuration may be the JobConfig's."""
    config = JobConfig()
    config.set_py_logging_config(jray.LoggingConfig(log_level="ERROR"))
    fresh(job_config=config)
    assert jray.get(formatted.remote("x %s"))[1] == logging.ERROR


@pytest.mark.parametrize(
    "fields", [{"encoding": "XML"}, {"additional_log_standard_attrs": ["no such"]}], ids=str
)
def test_a_logging_config_refuses_what_it_does_not_know(fields: dict[str, Any]) -> None:
    """An unknown encoding or attribute is a ValueError at once."""
    with pytest.raises(ValueError, match=r"[Vv]alid"):
        jray.LoggingConfig(**fields)


def test_a_logging_config_as_plain_values() -> None:
    """`to_dict` and `from_dict` are each other's inverse; unknown fields are dropped."""
    config = jray.LoggingConfig("JSON", "DEBUG", ["name"])
    fields = {"encoding": "JSON", "log_level": "DEBUG", "additional_log_standard_attrs": ["name"]}
    assert config.to_dict() == fields
    assert jray.LoggingConfig.from_dict(fields | {"new": 1}) == config


LOGGING_DRIVER = """
    import json, logging, sys
    import jray

    options = json.loads(sys.argv[1])
    if options.pop("root", False):
        logging.basicConfig(format="root: %(message)s")
    config = options.pop("logging_config", None)
    if config is not None:
        options["logging_config"] = jray.LoggingConfig(**config)
    jray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, **options)
    engine = logging.getLogger(jray.__name__)
    engine.info("some info")
    engine.warning("some warning")
    logging.getLogger("mine").warning("of mine")
    jray.shutdown()
"""


def log_of(tmp_path: Path, **options: Any) -> list[str]:
    """The lines that a driver with these options of `init` writes to stderr with "some" or "mine" in them."""
    code, _, err = start_driver(tmp_path, LOGGING_DRIVER, json.dumps(options)).end()
    assert code == 0, err
    return [line for line in err.splitlines() if "some " in line or "of mine" in line]


def test_level_and_format_of_the_engines_logger(tmp_path: Path) -> None:
    """They are as given, and other loggers are left alone."""
    lines = log_of(tmp_path, logging_level="warning", logging_format="[%(levelname)s|%(message)s]")
    assert lines == ["[WARNING|some warning]", "of mine"]


def test_the_engines_logger_by_itself(tmp_path: Path) -> None:
    """Without options it tells what is of level INFO, with time, file and line."""
    info, warning, mine = log_of(tmp_path)
    assert info.endswith(" -- some info")
    assert "\tINFO driver_" in info
    assert warning.endswith(" -- some warning")
    assert mine == "of mine"


def test_the_program_may_keep_the_engines_logger(tmp_path: Path) -> None:
    """With configure_logging=False neither level nor format is set."""
    options = {"configure_logging": False, "logging_level": "error", "logging_format": "[%(message)s]"}
    assert "some warning" in log_of(tmp_path, **options)


def test_a_logging_config_counts_for_the_driver(tmp_path: Path) -> None:
    """Its root logger writes so too, and tells the job."""
    lines = [json.loads(line) for line in log_of(tmp_path, logging_config={"encoding": "JSON"})]
    assert [line["message"] for line in lines] == ["some info", "some warning", "of mine"]
    assert all(len(line["job_id"]) == 8 and "task_id" not in line for line in lines)


@differences.log_is_said_once
def test_a_program_with_handlers_gets_each_record_once(tmp_path: Path) -> None:
    """Where the root logger has handlers they write jray's records, unless jray was given a format."""
    assert log_of(tmp_path, root=True) == ["root: some info", "root: some warning", "root: of mine"]
    assert log_of(tmp_path, root=True, logging_format="jray: %(message)s") == [
        "jray: some info",
        "jray: some warning",
        "root: of mine",
    ]


# -- what is refused, and what has no effect -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"unheard_of": 1, "neither": 2}, RuntimeError, "unheard_of"),
        ({"storage": "/tmp"}, RuntimeError, "storage"),
        ({"local_mode": True}, RuntimeError, "local_mode"),
        ({"allow_multiple": True}, RuntimeError, "allow_multiple"),
        ({"_system_config": 3}, TypeError, "_system_config"),
        ({"logging_level": "loud"}, ValueError, "LOUD"),
        ({"cgroup_path": "/sys"}, ValueError, "cgroup_path"),
        ({"system_reserved_cpu": 1.0}, ValueError, "system_reserved_cpu"),
        ({"system_reserved_memory": 1 << 30}, ValueError, "system_reserved_memory"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("loggers")
def test_what_is_refused(fresh: Fresh, options: dict[str, Any], error: type[Exception], word: str) -> None:
    """What is unknown, removed or wrong is refused by name, and starts nothing."""
    with pytest.raises(error, match=word):
        fresh(**options)
    assert not jray.is_initialized()


@pytest.mark.only("jray", "Ray accepts, dies of, or really does these")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labels": {"a": 1}}, TypeError),
        ({"labels": "a=b"}, TypeError),
        ({"job_config": {"ray_namespace": "x"}}, TypeError),
        ({"logging_config": {"encoding": "JSON"}}, TypeError),
        ({"enable_resource_isolation": True}, NotImplementedError),
    ],
    ids=str,
)
def test_what_jray_refuses(fresh: Fresh, options: dict[str, Any], error: type[Exception]) -> None:
    """A wrong type is said as such; what jray cannot do is not done by halves."""
    with pytest.raises(error, match=next(iter(options))):
        fresh(**options)
    assert not jray.is_initialized()


@differences.foreign_settings_are_said
@pytest.mark.parametrize(
    "options",
    [
        {"_system_config": {"object_timeout_milliseconds": 200}},
        {"_metrics_export_port": 8080},
        {"_node_ip_address": "10.0.0.1"},
        {"_tracing_startup_hook": "module:function"},
        {"_plasma_directory": "/elsewhere"},
        {"_driver_object_store_memory": 1 << 20},
        {"_enable_object_reconstruction": True},
        {"proxy_server_url": "http://localhost"},
    ],
    ids=str,
)
def test_settings_of_rays_own_processes_have_no_effect(fresh: Fresh, options: dict[str, Any]) -> None:
    """The program runs, and is told by name that the setting does nothing."""
    with pytest.warns(UserWarning, match=f"{next(iter(options))}=.* has no effect"):
        fresh(**options)
    assert jray.get(jray.remote(lambda: 1).remote()) == 1


@differences.no_dashboard
@pytest.mark.parametrize(
    "options",
    [
        {"include_dashboard": True},
        {"include_dashboard": None, "dashboard_port": 8265},
        {"include_dashboard": None, "dashboard_host": "0.0.0.0"},  # noqa: S104 - nothing listens there
    ],
    ids=str,
)
def test_who_asks_for_a_dashboard_is_told_where_to_look(fresh: Fresh, options: dict[str, Any]) -> None:
    """The program runs without one."""
    with pytest.warns(UserWarning, match=r"no dashboard.*jray\.util\.state"):
        context = fresh(**options)
    assert context.dashboard_url == ""
    assert jray.get(jray.remote(lambda: 1).remote()) == 1


@pytest.mark.only("jray", "Ray's own warnings are not looked at")
def test_settings_that_ask_for_nothing_are_no_news(fresh: Fresh) -> None:
    """The values that Ray has by default, or that ask for what is so anyway, are taken without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh(
            include_dashboard=False,
            dashboard_port=8265,
            dashboard_host="127.0.0.1",
            _system_config={},
            _redis_password="secret",  # noqa: S106 - of a service that is not there
            _redis_username="user",
            _skip_env_hook=True,
            enable_resource_isolation=False,
            storage=None,
            local_mode=False,
            allow_multiple=False,
        )


# -- what init returns --------------------------------------------------------------------------------------


def test_the_context_tells_where_the_cluster_is(fresh: Fresh) -> None:
    """It is a mapping with Ray's keys, and has versions and a table for notebooks."""
    context = fresh()
    keys = {
        "node_ip_address", "redis_address", "object_store_address", "raylet_socket_name", "webui_url", "session_dir",
        "metrics_export_port", "gcs_address", "address", "dashboard_agent_listen_port", "node_id",
    }  # fmt: skip
    assert keys <= set(context.address_info)
    assert dict(context) == context.address_info
    assert len(context) == len(context.address_info)
    here = jray.get_runtime_context()
    assert context["node_id"] == here.get_node_id()
    assert context["session_dir"] == f"{here.get_temp_dir()}/{here.get_session_name()}"
    assert context["gcs_address"] == here.gcs_address
    assert context.address_info["redis_address"] is None
    assert context.dashboard_url == context.address_info["webui_url"] == ""
    assert context.ray_version == jray.__version__
    assert context.ray_commit == jray.__commit__
    assert context.python_version.count(".") == 2
    assert context.python_version in repr(context)
    assert context.python_version in context._repr_html_()


def test_the_context_leaves_the_cluster(fresh: Fresh) -> None:
    """`disconnect` does what `shutdown` does."""
    fresh().disconnect()
    assert not jray.is_initialized()


@pytest.mark.only("jray", "Ray makes a new context each time, and says so in its log")
def test_a_second_init_may_be_ignored(fresh: Fresh) -> None:
    """It returns the context of the first."""
    context = fresh()
    assert jray.init(ignore_reinit_error=True) is context
