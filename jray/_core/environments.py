"""Owns what a runtime environment may say: its fields, how they merge, and their hashable form.

    env_vars                  variables of the worker's processes, merged key by key into the parent's
    working_dir, py_modules   what is unpacked on the node, and found by imports
    pip, uv                   packages, in a virtual environment over that of the node
    py_executable             another interpreter
    worker_process_setup_hook what each worker calls before its first task
    config                    how long the making may take, and when it begins

Any other field than `env_vars` replaces the parent's.  Nothing here touches a file: what exists in this process alone
(a directory, a module, a function) is turned into the URI of a package by a `Local`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn, Protocol

#: fields in their order, each a pair of name and hashable value
Environment = tuple[tuple[str, Any], ...]

#: field -> what to do instead
_UNSUPPORTED = {
    "conda": "install the packages with 'pip' or 'uv', or name the environment's interpreter: "
    "runtime_env={'py_executable': '/path/of/the/environment/bin/python'}",
    "container": "start the notebook, or the cluster, in that image",
    "image_uri": "start the notebook, or the cluster, in that image",
    "java_jars": "jray runs no Java",
    "nsight": "run the profiler itself: runtime_env={'py_executable': 'nsys profile python'}",
    "_nsight": "run the profiler itself: runtime_env={'py_executable': 'nsys profile python'}",
    "rocprof_sys": "run the profiler itself: runtime_env={'py_executable': 'rocprof-sys-python --'}",
    "_rocprof_sys": "run the profiler itself: runtime_env={'py_executable': 'rocprof-sys-python --'}",
}
#: what Ray writes there for itself
_INERT = {"_ray_commit", "_ray_release", "_inject_current_ray"}
#: who installs packages: an environment has one of these at most
INSTALLERS = ("conda", "pip", "uv")
#: an interpreter comes from one of these
_INTERPRETERS = ("pip", "uv", "py_executable")
#: fields whose value is a dict
_DICTS = ("env_vars", "pip", "uv", "config")

SETUP_TIMEOUT_S = 600
#: where programs for Ray find the unpacked working directory while packages are installed
WORKING_DIR_VARIABLE = "RAY_RUNTIME_ENV_CREATE_WORKING_DIR"
#: of a field that installs: sizes and times of local archives among the packages
STAMPS = "_files"
_REQUIREMENTS = re.compile(r"(?:-r|--requirement)[ =]?\s*(.+)")
#: field -> the endings of the packages that it takes
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.xz")
_ENDINGS = {"working_dir": ARCHIVES, "py_modules": (*ARCHIVES, ".whl")}
#: schemes of packages: of the cluster itself, files of the node, downloads, and directories of the node
_SCHEMES = ("gcs", "file", "http", "https", "local")
_FOREIGN_SCHEMES = ("s3", "gs", "azure", "abfss")


class Local(Protocol):
    """Makes URIs of what exists in this process alone, so that workers anywhere can have it."""

    def directory(self, path: str, excludes: Sequence[str], *, keeps_name: bool) -> str: ...
    def file(self, path: str) -> str: ...
    def function(self, function: Callable[[], Any]) -> str: ...


# -- the whole ------------------------------------------------------------------------------------------


def normalize(
    runtime_env: Mapping[str, Any] | None, parent: Environment = (), local: Local | None = None
) -> Environment:
    """Return the hashable form of *runtime_env* merged into its parent's.

    `local` makes packages of local directories and functions; without it these are refused.

    Raises NotImplementedError for fields that jray can't make, TypeError or ValueError for wrong values, and what
    `local` raises.
    """
    own = parse(runtime_env)
    excludes = own.pop("excludes", ())
    for field, pack in (("working_dir", _pack_directory), ("py_modules", _pack_modules)):
        if field in own:
            own[field] = pack(own[field], excludes, local)
    for tool in ("pip", "uv"):
        if tool in own and (stamps := _stamps(own[tool]["packages"])):
            own[tool] = {**own[tool], STAMPS: stamps}
    hook = own.get("worker_process_setup_hook")
    if callable(hook):
        own["worker_process_setup_hook"] = _local(local, "worker_process_setup_hook", hook).function(hook)
    merged = as_dict(parent)
    if any(field in own for field in _INTERPRETERS):
        merged = {field: value for field, value in merged.items() if field not in _INTERPRETERS}
    variables = {**merged.get("env_vars", {}), **own.get("env_vars", {})}
    merged |= own
    if variables:
        merged["env_vars"] = variables
    return tuple((field, _frozen(value)) for field, value in sorted(merged.items()))


def parse(runtime_env: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fields that are given, each checked and in its plain form; local paths and functions stay.

    Raises as `normalize`, but for what `local` raises.
    """
    if runtime_env is not None and not isinstance(runtime_env, Mapping):
        raise TypeError(f"runtime_env must be a dict, got {runtime_env!r} ({type(runtime_env).__name__}).")
    found = {}
    for field, value in (runtime_env or {}).items():
        if field in _UNSUPPORTED and value is not None:
            raise NotImplementedError(
                f"runtime_env={{{field!r}: ...}} is not supported by jray; {_UNSUPPORTED[field]}."
            )
        if value is None or field in _INERT or field in _UNSUPPORTED:
            continue
        plain = check_field(field, value)
        if plain is not None:
            found[field] = plain
    given = [field for field in _INTERPRETERS if field in found]
    if len(given) > 1:
        raise ValueError(
            f"runtime_env has {' and '.join(given)}, and each would choose the interpreter: give one of them."
        )
    return found


def check_field(field: str, value: Any) -> Any:
    """Return the plain form of a field's value, or None if it says nothing; raises as `parse`."""
    check = _CHECKS.get(field)
    if check is None:
        raise ValueError(f"unknown field {field!r} in runtime_env; jray knows {', '.join(sorted(_CHECKS))}.")
    return check(value)


def as_dict(environment: Environment) -> dict[str, Any]:
    """Return the fields in their plain form."""
    return {
        field: {name: _thawed(entry) for name, entry in value} if field in _DICTS else _thawed(value)
        for field, value in environment
    }


def redacted(text: str) -> str:
    """Return *text* without the credentials that an address in it may have."""
    return re.sub(r"(?<=://)[^/@\s]+@", "...@", text)


def is_at_hand(environment: Environment) -> bool:
    """Tell whether a worker can start in an environment at once: nothing of it must be made."""
    return all(field in {"env_vars", "config"} for field, _ in environment)


def uris_of(environment: Environment) -> list[str]:
    """Return the URIs of the packages that an environment has."""
    fields = as_dict(environment)
    found = [
        fields.get("working_dir"),
        fields.get("worker_process_setup_hook"),
        *fields.get("py_modules", ()),
    ]
    return [text for text in found if text is not None and is_uri(text)]


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _frozen(entry)) for name, entry in value.items()))
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# -- one field each -------------------------------------------------------------------------------------


def _check_variables(value: Any) -> dict[str, str] | None:
    if not isinstance(value, Mapping):
        raise TypeError(f"runtime_env['env_vars'] must be a dict of str to str, got {value!r}.")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(
                f"runtime_env['env_vars'] must map str to str, got {name!r}: {text!r} "
                f"({type(name).__name__} to {type(text).__name__})."
            )
        _check_variable(name, text)
    return dict(value) or None


def _check_variable(name: str, text: str) -> None:
    # found here and not in the worker, which would die of it while it starts
    if not name or "=" in name or "\0" in name + text:
        raise ValueError(
            f"runtime_env['env_vars'] has {name!r}: {text!r}, which cannot be an environment variable: its name "
            "must be neither empty nor hold '=', and neither may hold a zero byte."
        )
    try:
        os.fsencode(name + text)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"runtime_env['env_vars'] has {name!r}: {text!r}, which cannot be encoded: {error}."
        ) from None


def _check_working_dir(value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"runtime_env['working_dir'] must be a path or a URI, got {value!r} ({type(value).__name__})."
        )
    return _checked_place("working_dir", os.fspath(value))


def _check_modules(value: Any) -> list[Any] | None:
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"runtime_env['py_modules'] must be a list of paths, URIs or modules, got {value!r} "
            f"({type(value).__name__})."
        )
    return [_checked_place("py_modules", _path_of(entry)) for entry in value] or None


def _path_of(entry: Any) -> str:
    """Return the path or URI that an entry of py_modules stands for."""
    if isinstance(entry, ModuleType):
        places = list(getattr(entry, "__path__", ())) or [getattr(entry, "__file__", None)]
        if len(places) > 1 or not isinstance(places[0], str):
            raise ValueError(
                f"runtime_env['py_modules'] has the module {entry.__name__}, which lies in {len(places)} places "
                f"({', '.join(map(str, places))}); a module that can be sent is one directory or one file."
            )
        return places[0]
    if not isinstance(entry, str | os.PathLike):
        raise TypeError(
            f"runtime_env['py_modules'] must hold paths, URIs or modules, got {entry!r} ({type(entry).__name__})."
        )
    return os.fspath(entry)


def _checked_place(field: str, text: str) -> str:
    """Return *text*, a path or a good URI."""
    if not is_uri(text):
        return text
    scheme, _, rest = text.partition("://")
    if scheme in _FOREIGN_SCHEMES:
        raise NotImplementedError(
            f"runtime_env[{field!r}] = {text!r}: jray does not fetch from {scheme}://; give an https:// address of it "
            "(a signed one, say), a file:// path that every node has, or a local directory."
        )
    if scheme not in _SCHEMES:
        raise ValueError(
            f"runtime_env[{field!r}] = {text!r}: unknown scheme {scheme}://; jray fetches "
            f"{', '.join(f'{name}://' for name in _SCHEMES)}."
        )
    if scheme == "local":
        if not rest.startswith("/"):
            raise ValueError(f"runtime_env[{field!r}] = {text!r}: the path after local:// must be absolute.")
    elif not _path_in(text).endswith(_ENDINGS[field]):
        raise ValueError(
            f"runtime_env[{field!r}] = {text!r}: only packages that end in {', '.join(_ENDINGS[field])} are supported."
        )
    return text


def is_uri(text: str) -> bool:
    """Tell whether *text* is a URI, and not a path."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.isidentifier()


def ending(uri: str) -> str:
    """Return the ending of a package by which it is unpacked; "" if it has none of these."""
    return next((end for end in (*ARCHIVES, ".whl") if _path_in(uri).endswith(end)), "")


def _path_in(uri: str) -> str:
    """Return a URI without its query and fragment, which only addresses of the web have."""
    return re.split("[?#]", uri, maxsplit=1)[0] if uri.startswith("http") else uri


def _check_excludes(value: Any) -> list[str] | None:
    return _texts("excludes", value) or None


def _check_packages(tool: str, value: Any) -> dict[str, Any] | None:
    """Return the plain form of `pip` or `uv`."""
    if isinstance(value, str):
        value = {"packages": value}
    elif isinstance(value, list | tuple):
        value = {"packages": list(value)}
    elif not isinstance(value, Mapping):
        raise TypeError(
            f"runtime_env[{tool!r}] must be a list of packages, the path of a requirements file, or a dict, got "
            f"{value!r} ({type(value).__name__})."
        )
    check, version, options = f"{tool}_check", f"{tool}_version", f"{tool}_pip_install_options"
    if tool == "pip":
        options = "pip_install_options"
    unknown = value.keys() - {"packages", check, version, options, STAMPS}
    if unknown:
        raise ValueError(
            f"runtime_env[{tool!r}] has {', '.join(sorted(map(repr, unknown)))}; it may have packages, {check}, "
            f"{version} and {options}."
        )
    if "packages" not in value:
        raise ValueError(f"runtime_env[{tool!r}] must have 'packages', got {dict(value)!r}.")
    packages = value["packages"]
    if isinstance(packages, str):
        packages = [f"-r {packages}"]
    packages = _with_files(tool, _texts(f"{tool}']['packages", packages), os.getcwd(), ())
    plain = {
        "packages": list(dict.fromkeys(packages)),
        check: _of_type(f"{tool}']['{check}", value.get(check, False), bool),
    }
    if value.get(version) is not None:
        plain[version] = _of_type(f"{tool}']['{version}", value[version], str)
    if value.get(options) is not None:
        plain[options] = _texts(f"{tool}']['{options}", value[options])
    return plain if plain["packages"] else None


def _with_files(tool: str, lines: Sequence[str], folder: str, above: tuple[str, ...]) -> list[str]:
    """Return requirements with those of the files that they name in place of the names: nodes may not have these.

    A file whose name has a variable is the node's, and left to the installer.
    """
    found = []
    for line in lines:
        named = _REQUIREMENTS.fullmatch(line.strip())
        if named is None or "$" in named[1] or is_uri(named[1]):
            found.append(line)
            continue
        path = os.path.normpath(os.path.join(folder, named[1]))
        if path not in above:
            found += _with_files(tool, _read_lines(tool, path), os.path.dirname(path), (*above, path))
    return found


def _read_lines(tool: str, path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise ValueError(
            f"runtime_env[{tool!r}] names the requirements file {path!r}, which cannot be read: {error.strerror}. "
            "Packages are given as a list."
        ) from None
    return [line for line in lines if line and not line.startswith("#")]


def _stamps(packages: Sequence[str]) -> list[str]:
    """Return size and time of the local archives among the packages: one built anew under the same name is another."""
    found = []
    for package in packages:
        path = package.rpartition("file://")[2].strip()
        if path.endswith((*ARCHIVES, ".whl")) and os.path.isfile(path):
            status = os.stat(path)
            found.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return found


def _check_executable(value: Any) -> str:
    text = _of_type("py_executable", value, str)
    if not text.strip():
        raise ValueError("runtime_env['py_executable'] must name an interpreter, got an empty text.")
    return str(text)


def _check_hook(value: Any) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise TypeError(
            "runtime_env['worker_process_setup_hook'] must be a function, or the name of one as 'module.function', got "
            f"{value!r} ({type(value).__name__})."
        )
    if not is_uri(value) and not all(part.isidentifier() for part in value.split(".")):
        raise ValueError(
            f"runtime_env['worker_process_setup_hook'] = {value!r} is no name of a function; give 'module.function'."
        )
    return value


def check_config(value: Any) -> dict[str, Any] | None:
    """Return the plain form of a configuration; raises TypeError or ValueError."""
    if not isinstance(value, Mapping):
        raise TypeError(f"config must be a dict or a RuntimeEnvConfig, got {type(value)}.")
    unknown = value.keys() - {"setup_timeout_seconds", "eager_install", "log_files"}
    if unknown:
        raise ValueError(
            f"runtime_env['config'] has {', '.join(sorted(map(repr, unknown)))}; it may have setup_timeout_seconds, "
            "eager_install and log_files."
        )
    timeout = value.get("setup_timeout_seconds", SETUP_TIMEOUT_S)
    if not isinstance(timeout, int) or isinstance(timeout, bool):
        raise TypeError(f"setup_timeout_seconds must be an int, got {type(timeout)}.")
    if timeout <= 0 and timeout != -1:
        raise ValueError(f"setup_timeout_seconds must be above 0, or -1, got {timeout}.")
    eager = value.get("eager_install", True)
    if not isinstance(eager, bool):
        raise TypeError(f"eager_install must be a bool, got {type(eager)}.")
    files = value.get("log_files")
    files = [] if files is None else files
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise TypeError(f"log_files must be a list of str, or None, got {files!r}.")
    return {"setup_timeout_seconds": timeout, "eager_install": eager, "log_files": files} if value else None


def _texts(field: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"runtime_env['{field}'] must be a list of str, got {value!r}.")
    return list(value)


def _of_type(field: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(
            f"runtime_env['{field}'] must be of type {kind.__name__}, got {value!r} ({type(value).__name__})."
        )
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "env_vars": _check_variables,
    "working_dir": _check_working_dir,
    "py_modules": _check_modules,
    "excludes": _check_excludes,
    "pip": lambda value: _check_packages("pip", value),
    "uv": lambda value: _check_packages("uv", value),
    "py_executable": _check_executable,
    "worker_process_setup_hook": _check_hook,
    "config": check_config,
}
#: what an environment may have
FIELDS = frozenset(_CHECKS)


# -- what is local --------------------------------------------------------------------------------------


def _pack_directory(path: str, excludes: Sequence[str], local: Local | None) -> str:
    if is_uri(path):
        return path
    packer = _local(local, "working_dir", path)
    if os.path.isdir(path):
        return packer.directory(path, excludes, keeps_name=False)
    if not os.path.isfile(path) or not path.endswith(ARCHIVES):
        raise ValueError(
            f"runtime_env['working_dir'] = {path!r} must be an existing directory, or a package that ends in "
            f"{', '.join(ARCHIVES)}."
        )
    return packer.file(path)


def _pack_modules(paths: Sequence[str], excludes: Sequence[str], local: Local | None) -> list[str]:
    return [_pack_module(path, excludes, local) for path in paths]


def _pack_module(path: str, excludes: Sequence[str], local: Local | None) -> str:
    if is_uri(path):
        return path
    packer = _local(local, "py_modules", path)
    if os.path.isdir(path):
        return packer.directory(path, excludes, keeps_name=True)
    if not os.path.isfile(path) or not path.endswith((".py", ".whl")):
        raise ValueError(
            f"runtime_env['py_modules'] has {path!r}, which must be an existing directory, a .py file or a .whl file."
        )
    return packer.file(path)


def _local(local: Local | None, field: str, what: Any) -> Local:
    if local is None:
        refuse_local(field, what)
    return local


def refuse_local(field: str, what: Any) -> NoReturn:
    """Raise what a local directory or file raises where only URIs are good."""
    remedy = ""
    if field == "working_dir" and isinstance(what, str):
        remedy = f" A directory that every node has can be given as {'local://' + os.path.abspath(what)!r}."
    raise ValueError(
        f"runtime_env[{field!r}] has {what!r}, and is not a valid URI: local directories, files and modules are only "
        f"supported at the job level, in jray.init(runtime_env=...).{remedy}"
    )
