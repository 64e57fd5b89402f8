"""Owns what a command says when it cannot do what it was asked."""

from __future__ import annotations


class Problem(Exception):  # noqa: N818 -- it ends as a line for the user, not as an error
    """Ends the command with a line on stderr, and a status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status
