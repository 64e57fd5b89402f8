"""Owns the reading of a cell's source: which names it needs from the notebook, and which it assigns.

Pure: it looks at text only, never at a namespace.  The answer errs on one side: a name that *may* be read
before the cell assigns it counts as read.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import symtable
import tokenize
from collections.abc import Iterable, Iterator

#: Names that every module has of its own.
_MODULE_NAMES = frozenset(
    {
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__class__",
        "__classdict__",
        "__debug__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__spec__",
    }
)
#: Builtins through which code reaches names that no reading of the source can find.
_DYNAMIC = frozenset({"eval", "exec", "globals", "locals", "vars"})
#: Methods of the shell that IPython's own syntax turns into.
_SHELL_CALLS = frozenset({"getoutput", "run_cell_magic", "run_line_magic", "set_next_input", "system"})


@dataclasses.dataclass(frozen=True, slots=True)
class ShellCall:
    """A piece of IPython's syntax in a transformed cell, e.g. ``!ls`` or ``%time``."""

    method: str  #: of the shell: run_line_magic, run_cell_magic, system, getoutput, ...
    argument: str  #: the first one: a magic's name, or a command; "" where it is computed
    line: int  #: from 1


@dataclasses.dataclass(frozen=True, slots=True)
class CellAnalysis:
    """What a cell's source says about the names it needs and makes."""

    #: global names that may be read before the cell assigns them, in order of appearance; builtins included
    reads: tuple[str, ...]
    #: global names that the cell may assign, in order of appearance
    assigns: tuple[str, ...]
    #: modules of ``from module import *``, whose names are unknown here
    star_imports: tuple[str, ...]
    #: whether names may be reached by `eval`, `exec`, `globals` and the like
    is_dynamic: bool
    #: whether the last statement is an expression, whose value a notebook shows
    ends_in_expression: bool
    #: whether a trailing semicolon asks not to show it
    is_silenced: bool
    #: whether ``await`` and its kin stand at the top level
    has_top_level_await: bool
    #: IPython's own syntax, as `transform_cell` rewrote it
    shell_calls: tuple[ShellCall, ...]


def analyze(source: str) -> CellAnalysis:
    """Read *source*, a cell after `transform_cell`.

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source)
    # what the parser takes and the compiler refuses, such as a `return` outside a function
    code = compile(tree, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    reader = _Reader(has_lazy_annotations=_has_lazy_annotations(tree))
    reader.block(tree.body)
    reader.finish()
    last = tree.body[-1] if tree.body else None
    return CellAnalysis(
        reads=tuple(reader.reads),
        assigns=tuple(reader.assigns),
        star_imports=tuple(reader.star_imports),
        is_dynamic=reader.is_dynamic,
        ends_in_expression=isinstance(last, ast.Expr),
        is_silenced=isinstance(last, ast.Expr) and ends_in_semicolon(source),
        has_top_level_await=bool(code.co_flags & _CO_COROUTINES),
        shell_calls=tuple(_shell_calls(tree)),
    )


#: inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_CO_COROUTINES = 0x80 | 0x200


def ends_in_semicolon(source: str) -> bool:
    """Tell whether the last token of *source* is a semicolon, comments aside."""
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.DEDENT}
    last = ""
    # an unfinished source has no last token to speak of
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in ignored:
                last = token.string
    return last == ";"


def _has_lazy_annotations(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


def _shell_calls(tree: ast.Module) -> Iterator[ShellCall]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython"), args=[]), attr=method),
                args=args,
            ) if method in _SHELL_CALLS:
                first = args[0] if args else None
                known = (
                    first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
                )
                yield ShellCall(method, known, node.lineno)


@dataclasses.dataclass(frozen=True, slots=True)
class _Deferred:
    """What the body of a function will touch when it is called."""

    reads: tuple[str, ...]
    assigns: tuple[str, ...]


def _deferred(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> _Deferred:
    """Return the global names that the body of *node* reads and assigns, by the compiler's own scoping."""
    inner: ast.stmt = ast.Expr(node) if isinstance(node, ast.Lambda) else _bare(node)
    module = ast.fix_missing_locations(ast.Module(body=[inner], type_ignores=[]))
    table = symtable.symtable(ast.unparse(module), "<cell>", "exec")
    reads: dict[str, None] = {}
    assigns: dict[str, None] = {}
    waiting = list(table.get_children())
    while waiting:
        scope = waiting.pop(0)
        waiting.extend(scope.get_children())
        for symbol in scope.get_symbols():
            if not symbol.is_global():
                # a name that a class body assigns is read from the globals until then
                if scope.get_type() == "class" and symbol.is_referenced():
                    reads[symbol.get_name()] = None
                continue
            if symbol.is_referenced():
                reads[symbol.get_name()] = None
            if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                assigns[symbol.get_name()] = None
    return _Deferred(tuple(reads), tuple(assigns))


def _bare(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
    """Return *node* without what is evaluated where it stands: those names are the reader's to judge."""
    fields = {name: getattr(node, name) for name in node._fields}
    return type(node)(**{**fields, "decorator_list": []})


#: What is surely assigned at one point of the flow: among the globals, and in the class body being read.
_Ends = tuple[set[str] | None, set[str] | None]


class _Reader:
    """Walks the statements of a cell in order and keeps which names are surely assigned by then."""

    def __init__(self, *, has_lazy_annotations: bool) -> None:
        self.reads: dict[str, None] = {}
        self.assigns: dict[str, None] = {}
        self.star_imports: dict[str, None] = {}
        self.is_dynamic = False
        self._has_lazy_annotations = has_lazy_annotations
        #: names surely assigned here; None: no execution gets here
        self._sure: set[str] | None = set()
        #: in a class body: the names surely assigned in it, which shadow globals for its own statements
        self._own: set[str] | None = None
        #: what calls of the functions and classes defined so far will touch
        self._pending: dict[str, list[_Deferred]] = {}
        #: names of those that are being looked into: they may call each other
        self._running: set[str] = set()
        #: for each loop around, what is sure where it is left by `break`
        self._breaks: list[list[_Ends]] = []
        #: where names of a class body's methods go
        self._class_name: str | None = None
        #: targets of the comprehensions around
        self._local: set[str] = set()

    # -- names ------------------------------------------------------------------------------------

    def _read(self, name: str) -> None:
        if name in self._local or (self._own is not None and name in self._own):
            return
        self._read_global(name)

    def _read_global(self, name: str) -> None:
        if self._sure is None:
            return
        if name in _DYNAMIC:
            self.is_dynamic = True
        if name not in self._sure and name not in _MODULE_NAMES:
            self.reads[name] = None
        if name in self._pending and name not in self._running:
            # whoever holds the function may call it here
            self._running.add(name)
            for deferred in self._pending[name]:
                self._run(deferred)
            self._running.discard(name)

    def _run(self, deferred: _Deferred) -> None:
        for name in deferred.reads:
            self._read_global(name)
        for name in deferred.assigns:
            self.assigns[name] = None

    def _assign(self, name: str) -> None:
        if self._own is not None:
            self._own.add(name)
            return
        self.assigns[name] = None
        if self._sure is not None:
            self._sure.add(name)

    def finish(self) -> None:
        """Charge what was defined and never used: it may be called after the cell."""
        for waiting in self._pending.values():
            for deferred in waiting:
                self._run(deferred)

    # -- control flow -----------------------------------------------------------------------------

    def block(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _branches(self, bodies: Iterable[Iterable[ast.stmt]]) -> None:
        """Read *bodies* as alternatives of which one runs."""
        start = self._copy()
        ends: list[_Ends] = []
        for body in bodies:
            self._restore(*start)
            self.block(body)
            ends.append(self._copy())
        self._join(ends)

    def _copy(self) -> _Ends:
        return (
            None if self._sure is None else set(self._sure),
            None if self._own is None else set(self._own),
        )

    def _restore(self, sure: set[str] | None, own: set[str] | None) -> None:
        self._sure = None if sure is None else set(sure)
        self._own = None if own is None else set(own)

    def _join(self, ends: list[_Ends]) -> None:
        """Go on from wherever one of *ends* left off."""
        self._sure = _meet([sure for sure, _ in ends])
        if self._own is not None:
            self._own = _meet([own for _, own in ends]) or set()

    def _maybe(self, expressions: Iterable[ast.expr | None]) -> None:
        """Read *expressions*, of which none may be evaluated."""
        start = self._copy()
        for expression in expressions:
            self._expression(expression)
        if start[0] is not None:  # what is sure before stays sure
            self._restore(*start)

    def _statement(self, node: ast.stmt) -> None:
        method = getattr(self, f"_on_{type(node).__name__}", None)
        if method is not None:
            method(node)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child)

    # -- simple statements ------------------------------------------------------------------------

    def _on_Assign(self, node: ast.Assign) -> None:
        self._expression(node.value)
        for target in node.targets:
            self._target(target)

    def _on_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._expression(node.value)
        if not self._has_lazy_annotations:
            self._expression(node.annotation)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self._target(node.target)

    def _on_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self._expression(node.value)
        self._target(node.target)

    def _on_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                # it must have been there; what reads it afterwards fails here as it does at home
                self._read(target.id)
            else:
                self._target(target)

    def _on_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._assign(alias.asname or alias.name.partition(".")[0])

    def _on_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.star_imports["." * node.level + (node.module or "")] = None
            else:
                self._assign(alias.asname or alias.name)

    def _on_Global(self, node: ast.Global) -> None:
        """At the top level every name is global anyway."""

    def _on_Raise(self, node: ast.Raise) -> None:
        self._expression(node.exc)
        self._expression(node.cause)
        self._sure = None

    def _on_Break(self, _node: ast.Break) -> None:
        self._breaks[-1].append(self._copy())
        self._sure = None

    def _on_Continue(self, _node: ast.Continue) -> None:
        self._sure = None

    def _on_Assert(self, node: ast.Assert) -> None:
        self._expression(node.test)
        self._maybe([node.msg])

    # -- compound statements ----------------------------------------------------------------------

    def _on_If(self, node: ast.If) -> None:
        self._expression(node.test)
        self._branches([node.body, node.orelse])

    def _on_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._expression(node.iter)
        start = self._copy()
        self._target(node.target)
        self._loop(node.body, node.orelse, start)

    _on_AsyncFor = _on_For

    def _on_While(self, node: ast.While) -> None:
        self._expression(node.test)
        is_endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self._loop(node.body, node.orelse, (None, None) if is_endless else self._copy())

    def _loop(self, body: list[ast.stmt], orelse: list[ast.stmt], exhausted: _Ends) -> None:
        """Read a loop whose end, other than by `break`, may come with no pass through *body*."""
        self._breaks.append([])
        self.block(body)
        ends = self._breaks.pop()
        self._restore(exhausted[0], exhausted[1] if self._own is None or exhausted[1] is not None else set())
        self.block(orelse)
        self._join([*ends, self._copy()])

    def _on_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self._expression(item.context_expr)
            if item.optional_vars is not None:
                self._target(item.optional_vars)
        self.block(node.body)

    _on_AsyncWith = _on_With

    def _on_Try(self, node: ast.Try) -> None:
        start = self._copy()
        self.block([*node.body, *node.orelse])
        ends = [self._copy()]
        for handler in node.handlers:
            self._restore(*start)  # the body may have stopped at its first statement
            self._expression(handler.type)
            if handler.name is not None:
                self._assign(handler.name)
            self.block(handler.body)
            self._forget(handler.name)  # Python deletes it at the end of the handler, whatever it was before
            ends.append(self._copy())
        self._join(ends)
        if node.finalbody:
            after = self._copy()
            self._restore(*start)
            self.block(node.finalbody)
            self._sure = None if self._sure is None or after[0] is None else self._sure | after[0]
            self._own = None if self._own is None else self._own | (after[1] or set())

    _on_TryStar = _on_Try

    def _forget(self, name: str | None) -> None:
        for current in (self._sure, self._own):
            if current is not None and name is not None:
                current.discard(name)

    def _on_Match(self, node: ast.Match) -> None:
        self._expression(node.subject)
        start = self._copy()
        ends: list[_Ends] = []
        is_exhaustive = False
        for case in node.cases:
            self._restore(*start)
            self._pattern(case.pattern)
            self._expression(case.guard)
            self.block(case.body)
            ends.append(self._copy())
            is_exhaustive |= case.guard is None and _is_irrefutable(case.pattern)
        if not is_exhaustive:
            ends.append(start)
        self._join(ends)

    def _pattern(self, pattern: ast.pattern) -> None:
        for node in ast.walk(pattern):
            match node:
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    self._assign(name)
                case ast.MatchMapping(rest=str(name)):
                    self._assign(name)
                case ast.expr():
                    self._expression(node)

    # -- definitions ------------------------------------------------------------------------------

    def _on_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self._expression(decorator)
        self._defaults(node.args)
        if not self._has_lazy_annotations:
            own = _type_parameter_names(node)
            for annotation in _annotations(node):
                self._hidden(own, [annotation])
        deferred = _deferred(node)
        self._assign(node.name)
        # a decorator may call it on the spot
        self._defer(node.name, deferred, is_used=bool(node.decorator_list))

    _on_AsyncFunctionDef = _on_FunctionDef

    def _defer(self, name: str, deferred: _Deferred, *, is_used: bool) -> None:
        holder = self._class_name or name
        for assigned in deferred.assigns:
            self.assigns[assigned] = None
        if is_used:
            self._run(deferred)
        else:
            self._pending.setdefault(holder, []).append(deferred)

    def _on_ClassDef(self, node: ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self._expression(decorator)
        own = _type_parameter_names(node)
        bounds = (getattr(parameter, "bound", None) for parameter in getattr(node, "type_params", ()))
        bases = [*node.bases, *(keyword.value for keyword in node.keywords)]
        self._hidden(own, [*bases, *(bound for bound in bounds if bound is not None)])
        outer_own, outer_class, outer_local = self._own, self._class_name, self._local
        self._own = set()
        self._local = outer_local | own
        self._class_name = outer_class or node.name
        try:
            self.block(node.body)
        finally:
            self._own, self._class_name, self._local = outer_own, outer_class, outer_local
        self._assign(node.name)
        if node.decorator_list:
            for deferred in self._pending.get(self._class_name or node.name, ()):
                self._run(deferred)

    def _on_TypeAlias(self, node: ast.stmt) -> None:
        """``type X = ...``: the value is evaluated when somebody asks for it."""
        target: ast.Name = node.name  # type: ignore[attr-defined]  # Python 3.12
        value: ast.expr = node.value  # type: ignore[attr-defined]
        hidden = _type_parameter_names(node)
        names = dict.fromkeys(
            child.id for child in ast.walk(value) if isinstance(child, ast.Name) and child.id not in hidden
        )
        self._assign(target.id)
        self._defer(target.id, _Deferred(tuple(names), ()), is_used=False)

    def _defaults(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            self._expression(default)

    def _hidden(self, names: set[str], expressions: Iterable[ast.expr]) -> None:
        """Read *expressions*, in which *names* are something local."""
        outer = self._local
        self._local = outer | names
        for expression in expressions:
            self._expression(expression)
        self._local = outer

    # -- expressions ------------------------------------------------------------------------------

    def _target(self, node: ast.expr) -> None:
        match node:
            case ast.Name(id=name):
                self._assign(name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._target(part)
            case ast.Starred(value=value):
                self._target(value)
            case _:  # x.a = ..., x[i] = ...: changes what x is bound to, so x is read
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self._expression(child)

    def _expression(self, node: ast.expr | None) -> None:
        match node:
            case None:
                return
            case ast.Name(id=name):
                self._read(name)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                self._expression(value)
                self._local.discard(name)
                self._assign(name)
            case ast.BoolOp(values=[first, *rest]):
                self._expression(first)
                self._maybe(rest)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self._expression(test)
                self._maybe([body])
                self._maybe([orelse])
            case ast.Compare(left=left, comparators=[first, *rest]):
                self._expression(left)
                self._expression(first)
                self._maybe(rest)
            case ast.Lambda():
                self._defaults(node.args)
                for name in _deferred(node).reads:
                    if name not in self._local:
                        self._read_global(name)
            case ast.ListComp(elt=element) | ast.SetComp(elt=element) | ast.GeneratorExp(elt=element):
                self._comprehension(node.generators, [element])
            case ast.DictComp(key=key, value=value):
                self._comprehension(node.generators, [key, value])
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self._expression(child)
                    elif isinstance(child, ast.keyword):
                        self._expression(child.value)

    def _comprehension(self, generators: list[ast.comprehension], elements: list[ast.expr]) -> None:
        self._expression(generators[0].iter)
        outer_local, outer_own = self._local, self._own
        start = self._copy()
        # Names of a class body are not seen inside, except by the first iterable.
        self._own = None
        self._local = set(outer_local)
        for number, generator in enumerate(generators):
            if number:
                self._expression(generator.iter)
            self._bind(generator.target)
            for condition in generator.ifs:
                self._expression(condition)
        for element in elements:
            self._expression(element)
        self._restore(*start)  # there may be no item at all
        self._local, self._own = outer_local, outer_own

    def _bind(self, target: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Store):
                    self._local.add(node.id)
                else:
                    self._read(node.id)


def _meet(ends: list[set[str] | None]) -> set[str] | None:
    """Return the names that are sure whichever way execution came; None if it came no way."""
    reached = [end for end in ends if end is not None]
    return set.intersection(*reached) if reached else None


def _is_irrefutable(pattern: ast.pattern) -> bool:
    match pattern:
        case ast.MatchAs(pattern=None):
            return True
        case ast.MatchAs(pattern=ast.pattern() as inner):
            return _is_irrefutable(inner)
        case ast.MatchOr(patterns=patterns):
            return any(_is_irrefutable(part) for part in patterns)
        case _:
            return False


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = node.args
    extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]:
        if argument.annotation is not None:
            yield argument.annotation
    if node.returns is not None:
        yield node.returns


def _type_parameter_names(node: ast.AST) -> set[str]:
    return {parameter.name for parameter in getattr(node, "type_params", ())}
