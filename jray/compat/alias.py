"""Owns the import hook: what `import ray.x` means where jray stands for Ray.

A module of Ray is, in this order: a file of that name under `site/ray`, where Ray's name or place differs from
jray's; the module of jray of the same name, the very same object, so that classes are one class; or an error
that says what to do instead.
"""

from __future__ import annotations
import __future__

import importlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import jray
from jray.compat.parts import MissingPartError, explain, placeholder

#: a directory for `sys.path`: the package `ray` is in it, and the metadata that tells of its version
SITE = os.path.join(os.path.dirname(__file__), "site")

#: modules of jray that are no modules of Ray, whatever Ray may call its own
_OURS = {"_core", "api", "cli", "compat", "notebook", "session", "testing"}

#: modules of Ray that jray has under another name
_ELSEWHERE = {"ray.util.check_serialize": "jray.util"}

#: what Ray imports with itself inside its packages: programs use it without importing it
_LOADED = {
    "ray._private": {"ray_constants", "ray_option_utils", "services", "state", "utils", "worker"},
    "ray.experimental": {"internal_kv", "locations", "tqdm_ray"},
    "ray.runtime_env": {"runtime_env"},
    "ray.util": {
        "accelerators",
        "actor_pool",
        "annotations",
        "check_serialize",
        "client",
        "debug",
        "placement_group",
        "scheduling_strategies",
        "serialization",
    },
}


class RayModule(ModuleType):
    """The module `ray`: jray's public names under Ray's name, with Ray's version."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in {"__all__", "__commit__"}:
            raise AttributeError(f"module 'ray' has no attribute {name!r}")
        if name not in _OURS:
            try:
                value = getattr(jray, name)
            except AttributeError:
                value = None
            if value is None or isinstance(value, ModuleType):
                value = self._import(name)
            setattr(self, name, value)
            return value
        raise AttributeError(f"module 'ray' has no attribute {name!r}")

    def _import(self, name: str) -> Any:
        # Ray imports most of its modules with itself
        try:
            return importlib.import_module(f"ray.{name}")
        except MissingPartError:
            raise AttributeError(
                f"module 'ray' has no attribute {name!r}: {explain(f'ray.{name}')}"
            ) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(jray)} - _OURS)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return load, ("ray",)


class Package(ModuleType):
    """A package of jray under Ray's name: finds the modules in it that programs do not import themselves."""

    def __getattr__(self, name: str) -> Any:
        full_name = self.__name__.removeprefix("j")
        if name in _LOADED.get(full_name, ()):
            try:
                return importlib.import_module(f"{full_name}.{name}")
            except MissingPartError:
                pass
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return load, (self.__name__,)


def load(name: str) -> ModuleType:
    """Return the module of that name, one of Ray's or of jray's, also in a process that has not been told yet."""
    add_to_path()
    importlib.import_module("ray")
    return importlib.import_module(name)


def add_to_path() -> None:
    """Make `import ray` find jray's in this process and in those that inherit its environment."""
    wanted = [SITE]
    root = os.path.dirname(os.path.dirname(jray.__file__))
    # jray's own name must not depend on the directory one starts in; what is installed is found as it is, and
    # would mislead the interpreters of other environments
    if os.path.basename(root) not in {"site-packages", "dist-packages"}:
        wanted.append(root)
        if root not in sys.path:
            sys.path.append(root)
    if SITE not in sys.path:
        # behind the program's own directory, which some programs take from here
        sys.path.insert(1, SITE)
    inherited = os.environ.get("PYTHONPATH")
    known = inherited.split(os.pathsep) if inherited else []
    os.environ["PYTHONPATH"] = os.pathsep.join([*(path for path in wanted if path not in known), *known])


def dress(module: ModuleType) -> None:
    """Make *module*, the package `ray` of `SITE`, what its name promises; add the hook for what is inside it."""
    module.__class__ = RayModule
    if not any(isinstance(finder, RayFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RayFinder())


class RayFinder(importlib.abc.MetaPathFinder):
    """Finds the modules inside `ray`."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- the place does not depend on the parent's
        target: ModuleType | None = None,  # noqa: ARG002 -- a hint for reloads
    ) -> ModuleSpec | None:
        """Return where that module is; None if it is not in `ray`, or not there and only asked about.

        Raises MissingPartError if it is to be imported and jray has it not.
        """
        if not fullname.startswith("ray."):
            return None
        found = _file_of(fullname) or _alias_of(fullname)
        if found is not None:
            return found
        importer = _importer(sys._getframe(1))
        if importer == "importlib.util":  # its `find_spec` is a question, and the answer is no
            return None
        stand_in = placeholder(fullname, importer.partition(".")[0])
        if stand_in is None:
            raise MissingPartError(fullname)
        return ModuleSpec(fullname, _ModuleLoader(stand_in))


def _importer(frame: Any) -> str:
    """Return the name of the module for which importlib's search, which *frame* is, is made."""
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
        frame = frame.f_back
    return "" if frame is None else str(frame.f_globals.get("__name__"))


def _file_of(fullname: str) -> ModuleSpec | None:
    base = os.path.join(SITE, *fullname.split("."))
    for path, inside in ((os.path.join(base, "__init__.py"), [base]), (f"{base}.py", None)):
        if os.path.exists(path):
            return importlib.util.spec_from_file_location(fullname, path, submodule_search_locations=inside)
    return None


def _alias_of(fullname: str) -> ModuleSpec | None:
    if fullname.split(".")[1] in _OURS:
        return None
    try:
        found = importlib.util.find_spec(_ELSEWHERE.get(fullname, f"j{fullname}"))
    except ModuleNotFoundError:  # its package is no package, or not there
        return None
    if found is None:
        return None
    return ModuleSpec(fullname, _ModuleLoader(found.name), is_package=bool(found.submodule_search_locations))


class _ModuleLoader(importlib.abc.Loader):
    """Gives a module, or the one of that name, a second name."""

    def __init__(self, module: ModuleType | str) -> None:
        self._module = module

    def exec_module(self, module: ModuleType) -> None:
        found = importlib.import_module(self._module) if isinstance(self._module, str) else self._module
        if type(found) is ModuleType and module.__name__ in _LOADED:
            found.__class__ = Package
            if isinstance(vars(found).get("annotations"), __future__._Feature):
                del (
                    found.annotations
                )  # left by `from __future__ import annotations`; a module of Ray's has the name
        # The import system takes over what stands in sys.modules when this returns.
        sys.modules[module.__name__] = found
