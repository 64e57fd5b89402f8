"""The patterns of .gitignore files."""

from __future__ import annotations

import pytest

from jray._core.wildmatch import Patterns


@pytest.mark.parametrize(
    ("pattern", "excluded", "not_excluded"),
    [
        ("a", ["a", "x/a"], ["ab", "x/ab"]),
        ("/a", ["a"], ["x/a"]),
        ("x/a", ["x/a"], ["y/x/a", "a"]),
        ("*.pyc", ["a.pyc", "x/.pyc"], ["a.py", "a.pycx"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("[ab]c", ["ac", "x/bc"], ["cc", "/c"]),
        ("[!ab]c", ["cc"], ["ac"]),
        ("[^ab]c", ["cc"], ["bc"]),
        ("[]a]c", ["]c", "ac"], ["bc"]),
        ("[a", ["[a"], ["a"]),
        ("**/a", ["a", "x/a", "x/y/a"], ["xa"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
        ("a/*", ["a/b"], ["a/b/c"]),
        ("./a", ["a"], ["x/a"]),
        (r"\#a", ["#a"], ["a"]),
        (r"\!a", ["!a"], ["a"]),
        ("a  ", ["a"], ["a  "]),
        ("a\\ ", ["a "], ["a"]),
        ("a.b+c", ["a.b+c"], ["axb+c", "a.bbc"]),
    ],
)
def test_a_pattern_matches_names_and_paths(
    pattern: str, excluded: list[str], not_excluded: list[str]
) -> None:
    """As git does."""
    patterns = Patterns([pattern])
    assert [path for path in excluded if patterns.verdict(path, is_directory=False)] == excluded
    assert [path for path in not_excluded if patterns.verdict(path, is_directory=False)] == []


def test_the_last_match_decides() -> None:
    """A "!" keeps on purpose what a line above has excluded; of what no line matches nothing is said."""
    patterns = Patterns(["# all but one\n", "\n", "*.txt\n", "!keep.txt\r\n"])
    names = ["a.txt", "keep.txt", "a.py"]
    assert [patterns.verdict(name, is_directory=False) for name in names] == [True, False, None]
    assert Patterns(["/", "!"]).verdict("a", is_directory=True) is None


def test_a_slash_at_the_end_is_for_directories() -> None:
    """Also where the pattern is tied to its own."""
    for pattern in ("build/", "/build/"):
        assert Patterns([pattern]).verdict("build", is_directory=True)
        assert Patterns([pattern]).verdict("build", is_directory=False) is None
