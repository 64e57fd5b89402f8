"""Tell which tests hold which sentences of docs/semantics.md.

usage: python tools/sentences.py [--without]

Prints each sentence with its tests, or with the reason why it has none; with --without only the latter kind.
Ends with status 1 if a sentence has neither.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "semantics.md"
TESTS = ROOT / "tests"

_LINE = re.compile(r"- \*\*S(\d+)\*\* (.*?)(?: \*no test: (.*)\*)?")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the page."""

    number: int
    text: str
    #: why no test holds it; None: one must
    excuse: str | None = None


def read_page(text: str) -> dict[int, Sentence]:
    """Return the sentences by number.  Raises ValueError for a number that comes twice or not in order."""
    found: dict[int, Sentence] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        number = int(match[1])
        if number != len(found) + 1:
            raise ValueError(f"S{number} follows S{len(found)}")
        found[number] = Sentence(number, match[2], match[3])
    return found


def marks_of(source: str) -> Iterator[tuple[str, int]]:
    """Yield (test, number) for each sentence that a test of a module names, as "S26" or 26."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.sentences":
                    for argument in call.args:
                        yield node.name, int(str(ast.literal_eval(argument)).removeprefix("S"))


def tests_by_sentence() -> dict[int, list[str]]:
    """Return the tests, as pytest names them, by the sentences that they hold."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.glob("**/test_*.py")):
        for name, number in marks_of(path.read_text()):
            found.setdefault(number, []).append(f"{path.relative_to(ROOT)}::{name}")
    return found


def neither(sentences: dict[int, Sentence], tests: dict[int, list[str]]) -> list[int]:
    """Return the numbers of the sentences that have neither test nor excuse."""
    return [number for number, sentence in sentences.items() if not tests.get(number) and not sentence.excuse]


def both(sentences: dict[int, Sentence], tests: dict[int, list[str]]) -> list[int]:
    """Return the numbers of the sentences that have an excuse beside a test."""
    return [number for number, sentence in sentences.items() if tests.get(number) and sentence.excuse]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Tell which tests hold which sentences.")
    parser.add_argument("--without", action="store_true", help="only sentences without a test")
    wanted = parser.parse_args(arguments)
    sentences, tests = read_page(PAGE.read_text()), tests_by_sentence()
    for number, sentence in sentences.items():
        mine = tests.get(number, [])
        if mine and wanted.without:
            continue
        print(f"S{number} {sentence.text}")
        for line in mine or [f"no test: {sentence.excuse}" if sentence.excuse else "NO TEST"]:
            print(f"    {line}")
    return 1 if neither(sentences, tests) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
