"""Code of the user's own, named in the params as `module:name`, e.g. `churn.models:make_stack`.

The module is imported like any other; packages in the checkout's `lib` folder need no installation. Fields that hold
such strings are declared in the sections with `labkit.params.section.ImportPath` and `UsedBy`.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import HiddenRowsError, ParamsError, get_first_line, name_nearest
from labkit.params.own_calls import find_own_line, find_raising_line, own_code
from labkit.paths import show_path

IMPORT_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
CARRIED: set[Path] = set()
"""Folders with the packages of releases, each for as long as it is predicted with."""


def parse_import_path(text: str) -> tuple[str, str]:
    """Return module and name of an import path, without importing anything.

    Raises
    ------
    ValueError
        The string is not of that form.

    Examples
    --------
    >>> parse_import_path("churn.models:make_stack")
    ('churn.models', 'make_stack')
    """
    found = IMPORT_PATH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no import path: write module:name, e.g. churn.models:make_stack")
    return found[1], found[2]


def resolve(text: str, *, where: str) -> Any:
    """Import a module and return what has that name in it.

    Parameters
    ----------
    text
        Module and name, e.g. `churn.models:make_stack`.
    where
        Where it is named, for messages, e.g. `params/churn.yaml:12: training.models`.

    Raises
    ------
    ParamsError
        The string has another form, the module cannot be imported, or has nothing of that name; the message names the
        file and line in the module.
    """
    try:
        module_name, name = parse_import_path(text)
    except ValueError as error:
        raise ParamsError(f"{where}: {error}") from error
    paths.make_library_importable()
    module = import_own(module_name, where=f"{where}: {text}")
    if not hasattr(module, name):
        known = [one for one in vars(module) if not one.startswith("_")]
        place = show_path(Path(str(getattr(module, "__file__", None) or module_name)))
        raise ParamsError(f"{where}: {text}: {place} has no {name!r}: {name_nearest(name, known)}")
    return getattr(module, name)


def resolve_callable(text: str, *, where: str) -> Callable[..., Any]:
    """Return the function or class of that name; see `resolve`.

    Raises
    ------
    ParamsError
        It cannot be resolved, cannot be called, or is asynchronous.
    """
    found = resolve(text, where=where)
    if not callable(found):
        raise ParamsError(f"{where}: {text} is of type {type(found).__name__}, not a function: name a function")
    if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
        raise ParamsError(f"{where}: {text}: {locate_code(found)}: it is asynchronous: remove `async`")
    return found


def import_own(module: str, *, where: str) -> Any:
    """Import a module; whatever stops it is reported with the file and line in which it happened."""
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        with own_code():
            return importlib.import_module(module)
    except HiddenRowsError as error:
        raise ParamsError(f"{where}: while it is imported, {error}") from error
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if module == missing or module.startswith(f"{missing}."):
            own, top = list_own_modules(), module.partition(".")[0]
            if module in own and top in sys.modules:
                known = getattr(sys.modules[top], "__file__", None) or "a part of Python"
                raise ParamsError(
                    f"{where}: lib/{top} has the name of another module, {known}: rename it, e.g. own_{top}"
                ) from error
            is_own = any(one.partition(".")[0] == top for one in own)
            near = name_nearest(module, own) if is_own else f"`uv pip install {top}`, or correct the name"
            raise ParamsError(f"{where}: there is no module {module} in lib/ or installed: {near}") from error
        line = find_raising_line(error)
        hint = f"`uv pip install {missing.partition('.')[0]}`"
        raise ParamsError(f"{where}: {line}: {missing} is not installed: {hint}, or import another") from error
    except SyntaxError as error:
        place = f"{show_path(Path(error.filename))}:{error.lineno}" if error.filename else locate_module(module)
        raise ParamsError(f"{where}: {place}: SyntaxError: {error.msg}: correct it") from error
    except Exception as error:  # whatever the user's code raises
        fault = f"{type(error).__name__}: {get_first_line(error)}"
        raise ParamsError(f"{where}: {find_own_line(error) or locate_module(module)}: {fault}: correct it") from error


def locate_module(module: str) -> str:
    """Return the file of a module in the checkout's `lib` folder; of any other its name."""
    place = paths.find_library_dir().joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((show_path(file) for file in files if file.is_file()), module)


def list_own_modules() -> list[str]:
    """Return the modules of the packages beside labkit in the checkout's `lib` folder."""
    library = paths.find_library_dir()
    files = [path.relative_to(library).with_suffix("").parts for path in library.rglob("*.py")]
    names = {".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in files if parts[0] != "labkit"}
    return sorted(names - {""})


def find_own_package(name: str) -> Path | None:
    """Return the folder or file of a package in the checkout's `lib` folder; None if there is none, or no checkout."""
    try:
        library = paths.find_library_dir()
    except ParamsError:
        return None
    places = (library / name, library / f"{name}.py") if name != "labkit" else ()
    return next((place for place in places if place.exists()), None)


def is_foreign(package: str) -> bool:
    """Return whether a package can be imported and is neither in the checkout's `lib` folder nor carried by a release.

    >>> is_foreign("os"), is_foreign("numpy"), is_foreign("no_such_package")
    (True, True, False)
    """
    if find_own_package(package) is not None:
        return False
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module that was made by hand
        return True
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return spec is not None and not any(Path(place).is_relative_to(one) for place in places for one in CARRIED)


def locate_code(function: Any) -> str:
    """Return the file and line of a function or class, as `lib/churn/models.py:12`; else its file, or its name."""
    plain = inspect.unwrap(function) if callable(function) else function
    code = getattr(plain, "__code__", None)
    module = sys.modules.get(str(getattr(plain, "__module__", None)))
    file = code.co_filename if code else getattr(module, "__file__", None)
    if file is None:
        return str(getattr(function, "__qualname__", type(function).__name__))
    line = code.co_firstlineno if code else find_class_line(plain)
    return f"{show_path(Path(file))}{'' if line is None else f':{line}'}"


def find_class_line(kind: Any) -> int | None:
    """Return the line at which a class begins; None if it is no class, or has no source."""
    if not inspect.isclass(kind):
        return None
    # Not by `inspect`: whether code reads source decides whether docstrings count in the fingerprint of its stages.
    try:
        nodes = ast.walk(ast.parse(Path(str(inspect.getsourcefile(kind))).read_text()))
    except (OSError, TypeError, SyntaxError, UnicodeDecodeError):
        return None
    return next((node.lineno for node in nodes if isinstance(node, ast.ClassDef) and node.name == kind.__name__), None)


def choose_arguments(function: Callable[..., Any], offered: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return those of the offered keyword arguments that a function takes.

    Raises
    ------
    ParamsError
        It needs an argument that is not offered.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C: it has no signature
        return {}
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return dict(offered)
    named = [one for one in parameters if one.kind is not inspect.Parameter.VAR_POSITIONAL]
    known = {one.name for one in named if one.kind is not inspect.Parameter.POSITIONAL_ONLY}
    for one in named:
        if one.default is inspect.Parameter.empty and one.name not in {*offered} & known:
            raise ParamsError(
                f"{where}: {locate_code(function)}: it needs the argument {one.name!r}: take any of "
                f"{', '.join(offered)}, by name, or nothing"
            )
    return {name: value for name, value in offered.items() if name in known}
