"""The import graph is the architecture: a module may import only from rows below its own.

It is also the list of what must be installed.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(300)  # it reads every module

#: Lowest first; the names inside one row are siblings and never import each other.  A name may be of
#: something that does not exist yet; `test_every_module_has_its_row` says when one lacks.
LAYERS = [
    {"jray.exceptions", "jray._refusals"},
    {
        "jray._core.clock",
        "jray._core.ids",
        "jray._core.config",
        "jray._core.resources",
        "jray._core.detect",
        "jray._core.environments",
        "jray._core.filters",
        "jray._core.lifeline",
        "jray._core.serialization_report",
        "jray._core.signature",
        "jray._core.sketch",
        "jray._core.strategies",
        "jray._core.timeline",
    },
    {"jray._core.specs", "jray._core.refs", "jray._core.frontend"},
    {"jray._core.options", "jray._core.generator", "jray._core.dynamic", "jray._core.logs"},
    {"jray._core.engine", "jray._core.placement"},
    {
        "jray._core.serialization",
        "jray._core.machine",
        "jray._core.store",
        "jray._core.tallies",
        "jray._core.wire",
    },
    {"jray._core.peek", "jray._core.ports", "jray._core.skim", "jray._core.rows"},
    {"jray._core.head", "jray._core.node", "jray._core.client"},
    {"jray._core.daemon", "jray._core.worker", "jray.remote_function", "jray.actor"},
    # the other engines: what they run in their workers is the public API itself
    {"jray._core.inline", "jray._core.on_ray"},
    {"jray.job_config", "jray.types", "jray.runtime_env", "jray.cloudpickle", "jray._private"},
    {"jray.runtime_context", "jray.session"},
    {"jray.api"},
    {"jray.util", "jray.testing", "jray.cluster_utils"},
    {"jray.experimental"},
    {"jray.compat"},
    {"jray.notebook"},
    {"jray.cli", "jray_ext"},
]

FORBIDDEN = {  # package -> what no module inside it may import, and why
    # A machine is told what happened and what time it is; it never looks.
    "jray._core.machine": {"asyncio", "os", "random", "socket", "threading", "time"},
    # The runtime must run in processes that have no notebook.
    "jray._core": {"IPython", "ipykernel", "ipywidgets", "tornado"},
    # The Jupyter server is not a driver: it only reads what heads tell of themselves.
    "jray_ext": {"jray._core", "jray.api", "jray.session", "jray.notebook"},
}

#: What one module may load by name of a row above, and why.
BY_NAME = {
    # A fork starts another process by calling its main: no import in the sense of layers.
    ("jray._core.node.zygote", "jray._core.worker.main"),
    # The notebook is a guest: where there is IPython, the first call lets it in, and knows no more of it.
    ("jray.session", "jray.notebook"),
    # ... and in a worker, what tasks display is the guest's matter.
    ("jray._core.worker.main", "jray.notebook.worker_display"),
    ("jray._core.on_ray.output", "jray.notebook.worker_display"),
}

#: Imported only where the user's own code has brought them.
OPTIONAL = {"dask", "joblib", "matplotlib", "numpy", "pandas", "ray"}
#: Packages that are imported under another name.
IMPORTED_AS = {"pyzmq": "zmq"}
#: Needed without an import: IPython's shell hands jray its kernel, and anywidget's widgets are ipywidgets'.
UNIMPORTED = {"ipykernel", "ipywidgets"}


def inside(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def owner(module: str) -> tuple[int, str] | None:
    """Return (row, name) of the LAYERS entry that owns `module`, or None for `jray` and `jray._core`."""
    hits = [(row, name) for row, names in enumerate(LAYERS) for name in names if inside(module, name)]
    return max(hits, key=lambda hit: len(hit[1]), default=None)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*ROOT.glob("jray/**/*.py"), *ROOT.glob("jray_ext/**/*.py")]):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports, so that this test can read them"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (
                name.value
                for name in node.args
                if isinstance(name, ast.Constant) and isinstance(name.value, str)
            )


def violations() -> Iterator[str]:
    for module, path in modules():
        here = owner(module)
        for target in imports(path):
            there = owner(target)
            if (module, target) in BY_NAME:
                continue
            if here and there and here[1] != there[1] and there[0] >= here[0]:
                yield f"{module} -> {target}: {there[1]} is not below {here[1]}"
            for package, banned in FORBIDDEN.items():
                if inside(module, package) and any(inside(target, name) for name in banned):
                    yield f"{module} -> {target}: forbidden inside {package}"


def test_imports_point_down() -> None:
    """No module imports one of its own row or above, nor anything that its package forbids."""
    assert list(violations()) == []


def test_every_module_has_its_row() -> None:
    """No module escapes the rule above by not being in it."""
    namespaces = {"jray", "jray._core"}
    homeless = [module for module, _ in modules() if owner(module) is None and module not in namespaces]
    assert homeless == []


def test_dependencies_are_what_is_imported() -> None:
    """`pip install jray` brings every package that some module imports, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    imported = {target.split(".")[0] for _, path in modules() for target in imports(path)}
    foreign = imported - set(sys.stdlib_module_names) - {"jray", "jray_ext"} - OPTIONAL
    assert {name.lower() for name in foreign} == {IMPORTED_AS.get(n, n) for n in declared - UNIMPORTED}
