"""The numbered sentences of docs/semantics.md: each has a test, or says why it has none."""

from __future__ import annotations

import re

import pytest

from tests.behaviour import differences
from tools import differences_page, sentences
from tools.sentences import Sentence

pytestmark = pytest.mark.timeout(300)  # it reads every test


def test_each_sentence_has_a_test_or_a_reason() -> None:
    """No sentence is left to chance, and no reason outlives the test that came."""
    page, tests = sentences.read_page(sentences.PAGE.read_text()), sentences.tests_by_sentence()
    assert sentences.neither(page, tests) == []
    assert sentences.both(page, tests) == []


def test_tests_name_sentences_that_exist() -> None:
    """A number that the page lacks is a slip of the pen."""
    page = sentences.read_page(sentences.PAGE.read_text())
    assert set(sentences.tests_by_sentence()) <= set(page)


def test_the_page_is_read() -> None:
    """A sentence has its number, its text and, at its end, why it has no test."""
    text = "# Title\n\n- **S1** One.\n- **S2** Two *in* italics. *no test: no `time`.*\n- other\n"
    assert sentences.read_page(text) == {
        1: Sentence(1, "One."),
        2: Sentence(2, "Two *in* italics.", "no `time`."),
    }


@pytest.mark.parametrize("numbers", [(1, 1), (1, 3), (2,)], ids=str)
def test_numbers_have_no_gap(numbers: tuple[int, ...]) -> None:
    """A sentence that is numbered twice or skipped is refused."""
    with pytest.raises(ValueError, match="follows"):
        sentences.read_page("".join(f"- **S{number}** Text.\n" for number in numbers))


def test_marks_are_found() -> None:
    """Marks on functions count, as text and as number; those on other things don't."""
    source = """
@pytest.mark.sentences("S1", 2)
@pytest.mark.parametrize("n", [5])
def test_one(n): ...

class TestGroup:
    @pytest.mark.sentences(3)
    async def test_two(self): ...

@pytest.mark.timeout(7)
def test_three(): ...
"""
    assert sorted(sentences.marks_of(source)) == [("test_one", 1), ("test_one", 2), ("test_two", 3)]


def test_what_lacks_and_what_is_too_much_is_found() -> None:
    """Without test and reason, and with both, a sentence is named."""
    page = {
        1: Sentence(1, "a"),
        2: Sentence(2, "b", "reason"),
        3: Sentence(3, "c"),
        4: Sentence(4, "d", "why"),
    }
    tests = {3: ["test"], 4: ["test"]}
    assert sentences.neither(page, tests) == [1]
    assert sentences.both(page, tests) == [4]


def test_the_page_of_differences_is_current() -> None:
    """docs/differences-from-ray.md is what tools/differences_page.py makes of the list."""
    assert differences_page.PAGE.read_text() == differences_page.make(differences.DIFFERENCES)


def test_each_difference_is_held_by_a_test() -> None:
    """An entry of the list decorates a test of one of the two engines at least."""
    tests = "\n".join(path.read_text() for path in (sentences.TESTS / "behaviour").glob("test_*.py"))
    used = set(re.findall(r"(?:(?<=@)|(?<=differences\.))\w+", tests))
    names = [name for name, value in vars(differences).items() if isinstance(value, differences.Difference)]
    assert [name for name in names if name not in used] == []
