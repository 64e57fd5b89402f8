"""Runtime environments merge as in Ray, and what cannot be made is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from jray._core.environments import normalize


def test_environments_are_equal_by_content() -> None:
    """The form is hashable, and neither order nor empty parts make a difference."""
    first = normalize({"env_vars": {"A": "1", "B": "2"}})
    second = normalize({"env_vars": {"B": "2", "A": "1"}, "config": {"setup_timeout_seconds": 1}})
    assert first == second == (("env_vars", (("A", "1"), ("B", "2"))),)
    assert hash(first) == hash(second)
    assert (
        normalize(None) == normalize({}) == normalize({"env_vars": None}) == normalize({"env_vars": {}}) == ()
    )


def test_variables_are_merged_into_the_parents_key_by_key() -> None:
    """The child's count more (Ray's rule)."""
    parent = normalize({"env_vars": {"A": "1", "B": "2"}})
    assert normalize({"env_vars": {"B": "3", "C": "4"}}, parent) == (
        ("env_vars", (("A", "1"), ("B", "3"), ("C", "4"))),
    )
    assert normalize(None, parent) == parent


@pytest.mark.parametrize(
    ("environment", "error", "message"),
    [
        (
            {"pip": ["numpy"]},
            NotImplementedError,
            r"runtime_env=\{'pip': \.\.\.\} is not supported.*install the packages",
        ),
        ({"working_dir": "."}, NotImplementedError, "share the driver's working directory"),
        ({"env_var": {}}, ValueError, "unknown field 'env_var'.*knows env_vars"),
        ({"env_vars": {"A": 1}}, TypeError, r"must map str to str, got 'A': 1 \(str to int\)"),
        ({"env_vars": {1: "A"}}, TypeError, r"\(int to str\)"),
        ({"env_vars": ["A=1"]}, TypeError, r"must be a dict of str to str, got \['A=1'\]"),
        ({"env_vars": {"": "x"}}, ValueError, "'': 'x', which cannot be an environment variable"),
        ({"env_vars": {"A=B": "x"}}, ValueError, "cannot be an environment variable"),
        ({"env_vars": {"A": "x\0y"}}, ValueError, "neither may hold a zero byte"),
        ({"env_vars": {"A": "\ud800"}}, ValueError, "cannot be encoded"),
        ("pip", TypeError, "runtime_env must be a dict, got 'pip'"),
    ],
)
def test_what_no_worker_can_have_is_refused(environment: Any, error: type[Exception], message: str) -> None:
    """Before a worker dies of it, with what to do instead."""
    with pytest.raises(error, match=message):
        normalize(environment)
