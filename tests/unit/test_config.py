"""Settings come from the environment, by name, and a wrong one says so."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jray._core.config import Config, wants_log_to_driver


def test_without_variables_the_settings_are_the_defaults() -> None:
    """Whatever else is in the environment."""
    assert Config.from_environ({"JRAY": "1", "JRAY_NO_SUCH": "2", "PATH": "/bin"}) == Config()


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_setting_has_its_variable(field: dataclasses.Field[Any]) -> None:
    """JRAY_ and its name in capitals; the value has the default's type."""
    default: Any = field.default
    text = {bool: "1", int: "123", float: "1.5", str: "a.b:c"}[type(default)]
    config = Config.from_environ({f"JRAY_{field.name.upper()}": text})
    value = getattr(config, field.name)
    assert value == type(default)(text)
    assert type(value) is type(default)
    assert dataclasses.replace(config, **{field.name: default}) == Config()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "JRAY_BATCH_TASKS",
            "many",
            r"JRAY_BATCH_TASKS='many' is not a number of type int from 1 up.*like 512",
        ),
        ("JRAY_BATCH_TASKS", "1.5", r"not a number of type int"),
        ("JRAY_BATCH_TASKS", "0", r"from 1 up"),
        ("JRAY_SEGMENT_BYTES", "0", r"from 1 up"),
        ("JRAY_LEASE_IDLE_S", "-1", r"JRAY_LEASE_IDLE_S='-1' is not a number of type float from 0 up"),
        ("JRAY_LEASE_IDLE_S", "nan", r"from 0 up"),
        ("JRAY_LEASE_IDLE_S", "inf", r"from 0 up"),
        ("JRAY_TASK_MAX_RETRIES", "-2", r"from -1 up"),
        ("RAY_TASK_MAX_RETRIES", "x", r"^RAY_TASK_MAX_RETRIES='x'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, text: str, message: str) -> None:
    """The message has the variable, what it was given, and an example."""
    with pytest.raises(ValueError, match=message):
        Config.from_environ({name: text})


def test_rays_variables_are_honoured_where_ours_are_not_set() -> None:
    """Programs for Ray set them."""
    assert Config.from_environ({"RAY_TASK_MAX_RETRIES": "-1"}).task_max_retries == -1
    both = {"RAY_TASK_MAX_RETRIES": "5", "JRAY_TASK_MAX_RETRIES": "7"}
    assert Config.from_environ(both).task_max_retries == 7
    assert not Config.from_environ({"RAY_IGNORE_UNHANDLED_ERRORS": "1"}).shows_unhandled_errors
    assert Config.from_environ({"RAY_IGNORE_UNHANDLED_ERRORS": "0"}).shows_unhandled_errors


@pytest.mark.parametrize("text", ["", "0", "false", "False", "FALSE", "no", "off"])
def test_words_for_no(text: str) -> None:
    """As people write them; everything else is a yes."""
    assert not Config.from_environ({"JRAY_VALIDATE": text}).validate
    assert not wants_log_to_driver({"RAY_LOG_TO_DRIVER": text})
    assert Config.from_environ({"JRAY_VALIDATE": "yes"}).validate


def test_output_is_shown_unless_it_is_switched_off() -> None:
    """Our variable counts more than Ray's."""
    assert wants_log_to_driver({})
    assert wants_log_to_driver({"RAY_LOG_TO_DRIVER": "0", "JRAY_LOG_TO_DRIVER": "1"})
