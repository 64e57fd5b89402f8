"""The list of behaviour tests that one process cannot hold names tests that there are."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from tests.behaviour import inline_exclusions

FOLDER = Path(inline_exclusions.__file__).parent


@functools.cache
def names(file: str) -> set[str]:
    tree = ast.parse((FOLDER / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_what_is_excluded_exists() -> None:
    """Each file, and each test in it."""
    gone = {file for file in inline_exclusions.FILES if not (FOLDER / file).exists()}
    gone |= {
        f"{file}::{test}"
        for file, tests in inline_exclusions.TESTS.items()
        for test in tests
        if test.partition("[")[0] not in names(file)
    }
    assert gone == set()
