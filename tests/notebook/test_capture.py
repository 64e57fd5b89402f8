"""The reading of a cell: what it needs, what it makes, and what it may not do on a worker."""

from __future__ import annotations

import builtins
import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jray.notebook.capture import ShellCall, analyze, ends_in_semicolon


def reads(source: str) -> set[str]:
    """Return the names read from the notebook, builtins aside."""
    return {name for name in analyze(textwrap.dedent(source)).reads if not hasattr(builtins, name)}


def assigns(source: str) -> list[str]:
    return list(analyze(textwrap.dedent(source)).assigns)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\nprint(x)", set()),
        ("print(x)\nx = 1", {"x"}),
        ("x = x + 1", {"x"}),
        ("x += 1", {"x"}),
        ("x: int = y", {"y"}),
        ("x: T", {"T"}),
        ("from __future__ import annotations\nx: T", set()),
        ("a = b = c", {"c"}),
        ("a, (b, *c) = d\nprint(a, b, c)", {"d"}),
        ("a[i] = v", {"a", "i", "v"}),
        ("a.b = v", {"a", "v"}),
        ("del x", {"x"}),
        ("x = 1\ndel x", set()),
        ("del x[0], y.z", {"x", "y"}),
        ("(w := f(v))\nprint(w)", {"f", "v"}),
        ("p and (q := 1)\nprint(q)", {"p", "q"}),
        ("(q := 1) and p\nprint(q)", {"p"}),
        ("1 if c else (q := 2)\nprint(q)", {"c", "q"}),
        ("assert x, y", {"x", "y"}),
        ("f'{x!r:>{width}}'", {"x", "width"}),
        ("x[a:b:c]", {"x", "a", "b", "c"}),
        ("f(*args, key=value, **options)", {"f", "args", "value", "options"}),
        ("raise E from cause", {"E", "cause"}),
        ("a < b < (c := d)\nprint(c)", {"a", "b", "c", "d"}),
    ],
)
def test_a_name_is_read_when_the_cell_may_need_it_before_assigning_it(
    source: str, expected: set[str]
) -> None:
    """Simple statements: reads come before the assignment they stand in, assignments after."""
    assert reads(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("if c:\n    x = 1\nprint(x)", {"c", "x"}),
        ("if c:\n    x = 1\nelse:\n    x = 2\nprint(x)", {"c"}),
        ("if c:\n    x = 1\nelse:\n    raise E\nprint(x)", {"c", "E"}),
        ("for i in xs:\n    y = i\nprint(i, y)", {"xs", "i", "y"}),
        ("for i in xs:\n    if i:\n        y = 1\n        break\nelse:\n    y = 2\nprint(y)", {"xs"}),
        ("while True:\n    x = 1\n    if x:\n        break\nprint(x)", set()),
        ("while c:\n    x = 1\nprint(x)", {"c", "x"}),
        ("while c:\n    continue\nelse:\n    x = 1\nprint(x)", {"c"}),
        ("for i in range(3):\n    total += i", {"total"}),
        ("with f() as g:\n    data = g.read()\nprint(data)", {"f"}),
        ("try:\n    import fast as m\nexcept ImportError:\n    m = slow\nm.f()", {"slow"}),
        ("try:\n    x = f()\nexcept E as e:\n    print(e)\nprint(x)", {"f", "E", "x"}),
        ("try:\n    x = f()\nexcept E:\n    raise\nprint(x)", {"f", "E"}),
        ("try:\n    f()\nexcept E as e:\n    pass\nprint(e)", {"f", "E", "e"}),
        ("try:\n    f()\nexcept* E as e:\n    print(e)", {"f", "E"}),
        ("try:\n    x = 1\nfinally:\n    y = 2\nprint(x, y)", set()),
        ("match v:\n    case [a, *rest]:\n        print(a, rest)", {"v"}),
        ("match v:\n    case {'k': K.a, **rest} if g(rest):\n        pass", {"v", "K", "g"}),
        ("match v:\n    case P(x=1) | Q() as whole:\n        print(whole)", {"v", "P", "Q"}),
        ("match v:\n    case 1:\n        x = 1\n    case _:\n        x = 2\nprint(x)", {"v"}),
        ("match v:\n    case 1:\n        x = 1\nprint(x)", {"v", "x"}),
    ],
)
def test_branches_count_only_where_all_of_them_assign(source: str, expected: set[str]) -> None:
    """A name that one way through leaves unassigned is still needed from the notebook."""
    assert reads(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a):\n    return a + b", {"b"}),
        ("def f():\n    return x\nx = 1\nf()", set()),
        ("def f():\n    return x\nf()\nx = 1", {"x"}),
        ("def f():\n    return g()\ndef g():\n    return x\nx = 1\nf()", set()),
        ("def f():\n    return g()\ndef g():\n    return f()\nf()", set()),
        ("def f():\n    return x\nx = 1", set()),
        ("if c:\n    x = 1\n    def f():\n        return x\n    f()\nelse:\n    f()", {"c", "f", "x"}),
        ("def f(a=b, *, c: C = d) -> R: ...", {"b", "C", "d", "R"}),
        ("from __future__ import annotations\ndef f(a: A) -> R: ...", set()),
        ("@deco(arg)\ndef f():\n    return late\nlate = 1", {"deco", "arg", "late"}),
        (
            "def outer():\n    x = 1\n    def inner():\n        nonlocal x\n        x = y\n    return inner",
            {"y"},
        ),
        ("def f():\n    global g\n    g = 1\nf()\nprint(g)", {"g"}),
        ("lambda a, b=c: a + b + d", {"c", "d"}),
        ("[lambda: i + j for i in xs]", {"xs", "j"}),
        ("async def f():\n    async with a as b:\n        return [await c async for c in b]", {"a"}),
        ("def f():\n    try:\n        pass\n    except E as e:\n        print(e)", {"E"}),
        ("def f():\n    import os.path as p\n    return p", set()),
        ("def f():\n    class A:\n        x = x\n    return A", {"x"}),
    ],
)
def test_function_bodies_are_read_when_they_may_be_called(source: str, expected: set[str]) -> None:
    """What a body needs counts where somebody may call the function, not where it stands."""
    assert reads(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class A(B, metaclass=M):\n    x = y", {"B", "M", "y"}),
        ("class A:\n    x = 1\n    y = x", set()),
        ("class A:\n    x = 1\n    def f(self):\n        return x", {"x"}),
        ("class A:\n    def f(self):\n        return A, helper\ndef helper(): ...\nA()", set()),
        ("class A:\n    def f(self):\n        return super().f()", set()),
        ("class A:\n    class B:\n        z = w", {"w"}),
        ("class A:\n    if c:\n        x = 1\n    y = x", {"c", "x"}),
        ("class A:\n    n = 3\n    xs = [i * k for i in range(n)]", {"k"}),
        ("@d\nclass A:\n    def f(self):\n        return q\nq = 1", {"d", "q"}),
    ],
)
def test_class_bodies_are_read_at_once_and_methods_later(source: str, expected: set[str]) -> None:
    """Names of a class body shadow the notebook's for that body, and for nothing else."""
    assert reads(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[i * k for i in xs if i > lo]", {"xs", "k", "lo"}),
        ("{i: j for i, j in pairs}", {"pairs"}),
        ("[j for i in xs for j in i]", {"xs"}),
        ("sum(x * y for x in range(n))", {"y", "n"}),
        ("[i for i in i]", {"i"}),
        ("[i for i in xs]\nprint(i)", {"xs", "i"}),
        ("any((hit := x) for x in xs)\nprint(hit)", {"xs", "hit"}),
        ("[await f(x) async for x in xs]", {"f", "xs"}),
    ],
)
def test_comprehensions_keep_their_targets(source: str, expected: set[str]) -> None:
    """Targets of a comprehension are its own; its first iterable is evaluated outside."""
    assert reads(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b, c as d\nfrom e import f, g as h", ["a", "d", "f", "h"]),
        ("for i, (j, k) in xs: ...", ["i", "j", "k"]),
        ("with a as b, c as (d, e): ...", ["b", "d", "e"]),
        ("def f(): x = 1\nclass A: y = 2", ["f", "A"]),
        ("def f():\n    global g\n    g = 1", ["g", "f"]),
        ("[(w := i) for i in xs]", ["w"]),
        ("x = y = 1\nx += 1\nz: int = 2\nu: int", ["x", "y", "z"]),
        ("match v:\n    case {'a': a, **rest}: ...", ["a", "rest"]),
        ("a.b = c[0] = 1", []),
    ],
)
def test_every_name_that_the_cell_may_bind_is_offered(source: str, expected: list[str]) -> None:
    """The names that -o can bring back are those bound at the top level, in any way."""
    assert sorted(assigns(source)) == sorted(expected)


@pytest.mark.parametrize("source", ["eval('x')", "def f():\n    return globals()\nf()", "exec(code)"])
def test_names_reached_by_their_text_are_noted(source: str) -> None:
    """A cell that looks names up by text says so, for then no list of names is complete."""
    assert analyze(source).is_dynamic


def test_star_imports_are_noted() -> None:
    """What a star import brings is unknown, and its module is named."""
    assert analyze("from numpy import *\nfrom .m import *").star_imports == ("numpy", ".m")


@pytest.mark.parametrize(
    ("source", "is_expression", "is_silenced"),
    [
        ("x = 1\nx", True, False),
        ("x;", True, True),
        ("x; # why", True, True),
        ("x = 1;", False, False),
        ("'a;'", True, False),
        ("if c:\n    x", False, False),
        ("", False, False),
        ("# only words", False, False),
    ],
)
def test_the_last_expression_is_shown_unless_silenced(
    source: str, is_expression: bool, is_silenced: bool
) -> None:
    """The value of a last expression is shown, a semicolon asks not to."""
    found = analyze(source)
    assert (found.ends_in_expression, found.is_silenced) == (is_expression, is_silenced)


def test_semicolons_of_unfinished_source_do_not_matter() -> None:
    """A source that stops in the middle of a bracket has no last token."""
    assert not ends_in_semicolon("f(")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("await x", True),
        ("async with a: ...", True),
        ("[x async for x in y]", True),
        ("async def f():\n    await x", False),
    ],
)
def test_await_counts_at_the_top_level_only(source: str, expected: bool) -> None:
    """An `await` inside a function is that function's."""
    assert analyze(source).has_top_level_await is expected


def test_ipython_syntax_is_found_after_its_transformation() -> None:
    """Magics and shell commands are recognised, wherever they stand."""
    source = "x = get_ipython().getoutput('ls')\nfor i in x:\n    get_ipython().run_line_magic('time', 'f()')"
    assert analyze(source).shell_calls == (
        ShellCall("getoutput", "ls", 1),
        ShellCall("run_line_magic", "time", 3),
    )


@pytest.mark.parametrize("source", ["def f(:", "return 1", "x = = 1", "break"])
def test_what_python_refuses_is_refused(source: str) -> None:
    """A cell that cannot be compiled fails here, before anything is sent."""
    with pytest.raises(SyntaxError):
        analyze(source)


# --- against Python itself -------------------------------------------------------------------------

NAMES = st.sampled_from("abcde")


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _expressions() -> st.SearchStrategy[str]:
    leaf = st.one_of(NAMES, st.just("1"))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: f"use({pair[0]}, {pair[1]})"),
            st.tuples(NAMES, inner).map(lambda pair: f"({pair[0]} := {pair[1]})"),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]} and {pair[1]})"),
            st.tuples(inner, inner, inner).map(lambda three: f"({three[0]} if {three[1]} else {three[2]})"),
            st.tuples(leaf, NAMES, leaf).map(
                lambda three: f"[use({three[0]}) for {three[1]} in use({three[2]})]"
            ),
            leaf.map(lambda body: f"(lambda: {body})()"),
        ),
        max_leaves=4,
    )


def _blocks(depth: int) -> st.SearchStrategy[list[str]]:
    return st.lists(_statements(depth), min_size=1, max_size=3).map(
        lambda parts: [line for part in parts for line in part]
    )


def _statements(depth: int) -> st.SearchStrategy[list[str]]:
    expression = _expressions()
    simple = [
        expression.map(lambda text: [text]),
        st.tuples(NAMES, expression).map(lambda pair: [f"{pair[0]} = {pair[1]}"]),
        st.tuples(NAMES, expression).map(lambda pair: [f"{pair[0]} += use({pair[1]})"]),
        NAMES.map(lambda name: [f"call({name})"]),
    ]
    if not depth:
        return st.one_of(simple)
    block = _blocks(depth - 1)
    return st.one_of(
        *simple,
        st.tuples(expression, block, block).map(
            lambda p: [f"if {p[0]}:", *_indent(p[1]), "else:", *_indent(p[2])]
        ),
        st.tuples(NAMES, block, block).map(
            lambda p: [
                f"for {p[0]} in use():",
                *_indent(p[1]),
                "    if use(): break",
                "else:",
                *_indent(p[2]),
            ]
        ),
        block.map(lambda body: ["while True:", *_indent(body), "    break"]),
        st.tuples(block, NAMES, block).map(
            lambda p: ["try:", *_indent(p[0]), "    fail()", f"except Oops as {p[1]}:", *_indent(p[2])]
        ),
        st.tuples(NAMES, block).map(lambda p: [f"def {p[0]}():", *_indent(p[1])]),
        st.tuples(NAMES, NAMES, block).map(
            lambda p: [f"def {p[0]}():", f"    global {p[1]}", *_indent(p[2])]
        ),
        st.tuples(NAMES, block).map(lambda p: [f"class {p[0]}:", *_indent(p[1])]),
    )


class _Oops(Exception):
    pass


class _Value(int):
    """Supports all that the generated programs do."""

    def __add__(self, other: Any) -> _Value:
        return self

    __radd__ = __add__


class _Watched(dict[str, Any]):
    """Globals that note which names were looked up and were not there."""

    def __init__(self, choices: list[bool]) -> None:
        super().__init__()
        self.missed: set[str] = set()
        self._choices = iter(choices)
        self._calls = 0
        own = {"use": self._use, "call": self._call, "fail": self._fail, "Oops": _Oops}
        super().update({"__builtins__": builtins, "__name__": "__main__", **own})

    def __getitem__(self, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            if name in "abcde":
                self.missed.add(name)
                return _Value(1)
            raise

    def _use(self, *_: Any) -> list[Any]:
        return [_Value(1)] if next(self._choices, False) else []

    def _call(self, value: Any) -> None:
        self._calls += 1
        if callable(value) and self._calls < 20:
            value()

    def _fail(self) -> None:
        if next(self._choices, False):
            raise _Oops


@settings(max_examples=400, deadline=None)
@given(program=_blocks(2), choices=st.lists(st.booleans(), max_size=12))
def test_no_name_that_a_run_misses_is_overlooked(program: list[str], choices: list[bool]) -> None:
    """Whatever way a program takes, each name it looks up in vain was said to be read."""
    source = "\n".join(program)
    try:
        found = analyze(source)
    except SyntaxError:
        return  # e.g. a name used before its `global`
    watched = _Watched(choices)
    code = compile(source, "<program>", "exec")
    try:
        exec(code, watched)  # noqa: S102 -- a program made here
    except (UnboundLocalError, TypeError, NameError, RecursionError, _Oops):
        pass  # it stopped early: what it missed so far still counts
    assert watched.missed <= set(found.reads), source
