"""Owns the reading of tests: which public names each test function really uses.

A test uses what its own code names, and what the functions, classes and values of its module name that it names in
turn, its fixtures and decorators among them; programs in strings count as code.  It is read, not run, so a member is
taken as used where its name is an attribute and an instance of its class is at hand (see `OWNERS`).
"""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: what tests define for themselves, and what it stands for
_FIXTURES = {"fresh": "jray.init"}
#: syntax that calls a member without its name
_SYNTAX: dict[type[ast.AST], tuple[str, ...]] = {
    ast.AsyncFor: ("__aiter__", "__anext__"),
    ast.Await: ("__await__",),
    ast.For: ("__iter__", "__next__"),
    ast.Subscript: ("__getitem__",),
    ast.With: ("__enter__",),
    ast.Yield: ("yield",),
}
_FUNCTIONS = {
    "next": "__next__",
    "anext": "__anext__",
    "iter": "__iter__",
    "list": "__iter__",
    "bytes": "__bytes__",
}


@dataclass
class Uses:
    """What some code names."""

    #: "jray.util.ActorPool", by whatever name it was imported
    dotted: set[str] = field(default_factory=set)
    #: of anything
    attributes: set[str] = field(default_factory=set)
    #: (function, keyword), and (function, position) for arguments without one
    arguments: set[tuple[str, str | int]] = field(default_factory=set)
    #: functions called with `**`
    open_calls: set[str] = field(default_factory=set)
    #: (what it is an option of: "task", "actor" or "method", option)
    options: set[tuple[str, str]] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    #: names of the module that it uses
    local: set[str] = field(default_factory=set)

    def add(self, other: Uses) -> None:
        for name in ("dotted", "attributes", "arguments", "open_calls", "options", "texts"):
            getattr(self, name).update(getattr(other, name))


@dataclass
class _Module:
    """What a module's names mean."""

    #: name -> what was imported under it
    imported: dict[str, str] = field(default_factory=dict)
    #: name -> what defines it
    defined: dict[str, ast.AST] = field(default_factory=dict)
    #: name -> "task" or "actor", where it is known
    remote: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, tree: ast.AST) -> _Module:
        found = cls()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        found.imported[alias.asname] = alias.name
                    else:
                        found.imported[alias.name.partition(".")[0]] = alias.name.partition(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.remote[node.name] = "task"
            elif isinstance(node, ast.ClassDef):
                found.remote[node.name] = "actor"
        for node in getattr(tree, "body", []):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.defined[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found.defined[target.id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                found.defined[node.target.id] = node.value
        for node in ast.walk(tree):  # A = jray.remote(B)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and node.value.args:
                inner = node.value.args[0]
                if (
                    isinstance(inner, ast.Name)
                    and inner.id in found.remote
                    and isinstance(node.targets[0], ast.Name)
                ):
                    found.remote[node.targets[0].id] = found.remote[inner.id]
        return found

    def dotted(self, node: ast.AST) -> str | None:
        """Return the full name of what an expression names, None if it does not begin with something imported."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id) or _FIXTURES.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def kind(self, node: ast.AST) -> str:
        """Return what `node.options(...)` are options of."""
        if isinstance(node, ast.Attribute):
            return "method" if self.dotted(node) is None else "task"
        if isinstance(node, ast.Call):
            return self.kind(node.args[0]) if node.args else "task"
        if isinstance(node, ast.Name):
            return self.remote.get(node.id, "actor" if node.id[:1].isupper() else "task")
        return "task"


class _Reader(ast.NodeVisitor):
    def __init__(self, module: _Module) -> None:
        self._module = module
        self.uses = Uses()

    def generic_visit(self, node: ast.AST) -> None:
        for kind, names in _SYNTAX.items():
            if isinstance(node, kind):
                self.uses.attributes.update(names)
        if isinstance(node, ast.comprehension):
            self.uses.attributes.update(
                ("__aiter__", "__anext__") if node.is_async else ("__iter__", "__next__")
            )
        super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.uses.local.add(node.id)
        self._name(node)

    def visit_arg(self, node: ast.arg) -> None:
        self.uses.local.add(node.arg)  # a fixture

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.uses.attributes.add(node.attr)
        self._name(node)
        self.generic_visit(node)

    def _name(self, node: ast.AST) -> None:
        name = self._module.dotted(node)
        while name and name.startswith("jray"):
            self.uses.dotted.add(name)
            name = name.rpartition(".")[0]

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if self._module.dotted(node.value):
            self.uses.attributes.add("__class_getitem__")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str):
            return
        self.uses.texts.add(node.value)
        if "jray" in node.value:
            if "\n" in node.value:
                self._program(node.value)
            self.uses.texts.update(node.value.split())

    def _program(self, text: str) -> None:
        try:
            tree = ast.parse(textwrap.dedent(text))
        except SyntaxError:
            return
        inner = _Reader(_Module.read(tree))
        inner.visit(tree)
        self.uses.add(inner.uses)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            self.uses.attributes.add(_FUNCTIONS[node.func.id])
        name = self._module.dotted(node.func)
        if name is not None:
            for keyword in node.keywords:
                if keyword.arg is None:
                    self.uses.open_calls.add(name)
                else:
                    self.uses.arguments.add((name, keyword.arg))
            self.uses.arguments.update((name, position) for position in range(len(node.args)))
        if isinstance(node.func, ast.Attribute) and node.func.attr == "options":
            self._options(self._module.kind(node.func.value), node)
        if name == "jray.method":
            self._options("method", node)
        if (
            isinstance(node.func, ast.Call)
            and self._module.dotted(node.func.func) == "jray.remote"
            and node.args
        ):
            self._options(self._module.kind(node.args[0]), node.func)
        for keyword in node.keywords:
            if keyword.arg is not None:
                self.uses.texts.add(keyword.arg)
        self.generic_visit(node)

    def _options(self, kind: str, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg is None:
                self.uses.open_calls.add(kind)
            else:
                self.uses.options.add((kind, keyword.arg))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._decorated(node, "task")

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._decorated(node, "actor")

    def _decorated(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, kind: str) -> None:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and self._module.dotted(decorator.func) == "jray.remote":
                self._options(kind, decorator)
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.usefixtures":
                self.uses.local.update(str(ast.literal_eval(argument)) for argument in decorator.args)
        self.generic_visit(node)


def tests_of(source: str) -> Iterator[tuple[str, Uses]]:
    """Yield (name, uses) of each test function of a module."""
    module = _Module.read(ast.parse(source))
    parts = _Parts(module)
    for name in module.defined:
        if name.startswith("test_"):
            yield name, _reached(name, parts)


class _Parts:
    """The definitions of a module, each read once; a class's methods stand by themselves."""

    def __init__(self, module: _Module) -> None:
        self._module = module
        self._nodes: dict[str, ast.AST] = {}
        #: class -> its methods, by the names of the parts that they are
        self.methods: dict[str, dict[str, str]] = {}
        self._read: dict[str, Uses] = {}
        for name, node in module.defined.items():
            if isinstance(node, ast.ClassDef):
                methods = [
                    each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
                self.methods[name] = {f"{name}.{each.name}": each.name for each in methods}
                self._nodes |= {f"{name}.{each.name}": each for each in methods}
                shell = copy.copy(node)
                shell.body = [each for each in node.body if each not in methods]
                self._nodes[name] = shell
            else:
                self._nodes[name] = node

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def uses(self, name: str) -> Uses:
        if name not in self._read:
            reader = _Reader(self._module)
            reader.visit(self._nodes[name])
            self._read[name] = reader.uses
        return self._read[name]


def _reached(test: str, parts: _Parts) -> Uses:
    """Return what a test uses itself, and by the parts that it names; of a class, by the methods that are named."""
    total, seen, waiting = Uses(), set[str](), [test]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            uses = parts.uses(name)
            total.add(uses)
            waiting += [other for other in uses.local if other in parts]
        if not waiting:
            waiting = [
                part
                for cls in seen & parts.methods.keys()
                for part, method in parts.methods[cls].items()
                if part not in seen and (method.startswith("__") or method in total.attributes)
            ]
    return total


def all_tests(folder: Path) -> dict[str, Uses]:
    """Return the uses of every test function in a folder, by the name that pytest gives it."""
    return {
        f"{path.relative_to(folder)}::{name}": uses
        for path in sorted(folder.glob("**/test_*.py"))
        for name, uses in tests_of(path.read_text())
    }
