"""The kinds of message."""

from __future__ import annotations

from collections import Counter

from jray._core.wire import messages


def test_each_kind_has_a_number_of_its_own() -> None:
    """One connection carries most of them, both ways: two of a number would be taken for each other."""
    kinds = [number for name, number in vars(messages).items() if name.isupper()]
    assert max(Counter(kinds).values()) == 1, "two kinds of message with one number"
