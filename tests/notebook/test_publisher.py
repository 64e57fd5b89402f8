"""What `display` does in a task: bundles, options, handles, limits."""

from __future__ import annotations

from typing import Any

import pytest

from jray.notebook.mime import MimeBundle, within
from jray.notebook.publisher import LivePublisher


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def publisher(sent: list[dict[str, Any]]) -> LivePublisher:
    return LivePublisher(sent.append)


class Rich:
    def __repr__(self) -> str:
        return "rich"

    def _repr_html_(self) -> str:
        return "<b>rich</b>"


def test_a_value_is_sent_in_all_its_forms(publisher: LivePublisher, sent: list[dict[str, Any]]) -> None:
    """Or in those that were asked for; nothing is returned without an id."""
    assert publisher.display(Rich(), 5, metadata={"a": 1}) is None
    assert [message["data"] for message in sent] == [
        {"text/plain": "rich", "text/html": "<b>rich</b>"},
        {"text/plain": "5"},
    ]
    assert sent[1]["metadata"] == {"a": 1}
    publisher.display(Rich(), include=["text/html"])
    publisher.display(Rich(), exclude=["text/html"])
    assert [list(message["data"]) for message in sent[2:]] == [["text/html"], ["text/plain"]]


def test_a_handle_updates_what_was_shown(publisher: LivePublisher, sent: list[dict[str, Any]]) -> None:
    """Under the id it was given, or one of its own; without a value there is room for one."""
    handle = publisher.display(1, display_id="mine")
    assert handle is not None
    handle.update(2)
    handle.display(3)
    assert [message["update"] for message in sent] == [False, True, False]
    assert {message["transient"]["display_id"] for message in sent} == {"mine"}
    empty = publisher.display(display_id=True)
    assert empty is not None
    assert sent[-1]["data"] == {}
    assert empty.display_id not in ("mine", "")


def test_options_that_need_the_notebook_are_refused(publisher: LivePublisher) -> None:
    """By name, with what to do instead."""
    with pytest.raises(TypeError, match=r"does not take clear: .* update\(\)"):
        publisher.display(1, clear=True)
    with pytest.raises(TypeError, match="needs the display_id"):
        publisher.display(1, update=True)


def test_forms_that_are_too_large_are_left_out() -> None:
    """The largest first, until the rest fits; what is shown says what is missing."""
    bundle = MimeBundle({"text/plain": "t", "text/html": "h" * 50, "image/png": "p" * 100}, {})
    assert within(bundle, 1000) is bundle
    smaller = within(bundle, 100)
    assert set(smaller.data) == {"text/plain", "text/html"}
    assert "image/png of 0.0 MB" in smaller.data["text/html"]
    assert "image/png" in smaller.data["text/plain"]
    assert set(within(bundle, 10).data) == {"text/plain"}
    assert "not shown" in within(MimeBundle({"image/png": "p" * 100}, {}), 10).data["text/plain"]
