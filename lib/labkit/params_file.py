"""How `params/<experiment>.yaml` is read, checked, overridden and described.

Not what can be set: that is `labkit.params`; not how YAML is read: that is `labkit.yaml_file`.
"""

import difflib
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, list_briefly, name_nearest
from labkit.faults import describe_remedy, list_expected
from labkit.files import write_text
from labkit.params import Params
from labkit.paths import show
from labkit.secret import TOKENS, describe_secret, find_secret
from labkit.values import check_value
from labkit.yaml_file import (
    YamlList,
    YamlMap,
    load_yaml,
    make_commented,
    make_plain,
    make_yaml,
    parse_yaml,
    read_yaml,
)

PLACEHOLDER = re.compile(r"\$\{[^}]*\}")


@dataclass(frozen=True)
class Entry:
    """One value as `labkit params` shows it."""

    name: str
    value: Any
    origin: str
    meaning: str


def list_experiments() -> list[str]:
    """Return the names of all experiments that have a params file, sorted."""
    return sorted(path.stem for path in paths.find_params_dir().glob("*.yaml"))


def load_params(experiment: str) -> Params:
    """Read and check the params of one experiment.

    Raises
    ------
    ParamsError
        The experiment is unknown, or the file is not valid; the message names file, line, key and the nearest
        valid word.
    """
    if experiment not in list_experiments():
        raise ParamsError(f"no experiment {experiment!r} in params/: {name_nearest(experiment, list_experiments())}")
    path = paths.find_params_path(experiment)
    return parse_params(read_yaml(path), path)[1]


@lru_cache(maxsize=8)
def parse_params(text: str, path: Path) -> tuple[YamlMap, Params]:
    """Return the tree, which is not to be changed, and the params of a file's text; the same text is parsed once."""
    tree = parse_yaml(text, show(path))
    return tree, check_params(tree, path)


def check_params(tree: Mapping[str, Any], path: Path) -> Params:
    """Turn a parsed mapping into `Params`; `path` gives the expected name and stands in messages.

    Raises
    ------
    ParamsError
        Naming every fault (five at most) with line, key and nearest valid word.
    """
    try:
        plain = make_plain(tree)
        check_texts(plain, tree, show(path))
        params = Params.model_validate_json(json.dumps(plain, allow_nan=False))
    except ValidationError as error:
        faults = [f"{show(path)}{describe_fault(fault, tree)}" for fault in error.errors(include_url=False)]
        raise ParamsError(list_briefly(faults)) from error
    except (ValueError, TypeError) as error:
        raise ParamsError(f"{show(path)}: {error}: use plain finite values") from error
    if params.experiment != path.stem:
        raise ParamsError(f"{show(path)}: experiment is {params.experiment!r}: the file's name says {path.stem!r}")
    return params


def check_texts(plain: Mapping[str, Any], tree: Mapping[str, Any], where: str) -> None:
    """Refuse what no field may hold: secrets in the open, placeholders, what is not plain data."""
    for keys in find_secret(plain, holds_columns=holds_columns):
        line = find_line(tree, keys)
        raise ParamsError(f"{where}{f':{line}' if line else ''}: {describe_secret(keys)}")
    for key, value in plain.items():
        line = find_line(tree, [key])
        lead = f"{where}{f':{line}' if line else ''}"
        check_value(value, f"{lead}: {key}")
        if found := PLACEHOLDER.search(json.dumps(value)):
            raise ParamsError(
                f"{lead}: {key} holds {found[0]}: nothing is filled in here: write the value, or, if it is "
                "a secret, name its environment variable under `secrets`"
            )


def holds_columns(keys: list[str]) -> bool:
    """Tell whether the keys of the mapping at a place are chosen by the user, such as names of columns."""
    return bool(keys) and keys[0] in Params.model_fields and not find_fields(list(keys))


def describe_fault(fault: Mapping[str, Any], tree: Mapping[str, Any]) -> str:
    """Say in one line what is wrong at one place, led by the line number."""
    keys = [key for key in fault["loc"] if not str(key).startswith(("function-", "literal", "[key]"))]
    name = ".".join(str(key) for key in keys)
    line = find_line(tree, keys)
    lead = f":{line}: " if line else ": "
    found = repr(fault["input"])
    found = found if len(found) <= 60 else found[:57] + "…"
    if keys[:1] == ["secrets"]:
        # What stands there by mistake may be the secret itself: it is not repeated.
        return (
            f"{lead}{name}: a name in small letters and the environment variable that holds it in capitals, "
            "e.g. secrets: {warehouse: WAREHOUSE_URL}; its value stays out of this file"
        )
    match fault["type"]:
        case "extra_forbidden":
            known = find_fields(keys[:-1])
            return f"{lead}unknown key {name}: {name_nearest(str(keys[-1]), known)}"
        case "missing":
            return f"{lead}{name} is missing: add it"
        case "value_error":
            return f"{lead}{name + ': ' if name else ''}{fault['ctx']['error']}"
        case "literal_error" if isinstance(fault["input"], str):
            return f"{lead}{name} is {found}: {name_nearest(fault['input'], list_expected(fault))}"
        case _:
            return f"{lead}{name} is {found}: {describe_remedy(fault)}"


def find_line(tree: Any, keys: list[Any]) -> int | None:
    """Return the line, counted from 1, of the deepest key that stands in the file."""
    line = None
    for key in keys:
        places = getattr(getattr(tree, "lc", None), "data", None) or {}
        if key not in places:
            break
        line = places[key][0] + 1
        tree = tree[key]
    return line


def find_fields(keys: list[Any]) -> list[str]:
    """Return the names of the fields that the tree knows at a place."""
    model: Any = Params
    for key in keys:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = model.model_fields[key].annotation
        else:
            arguments = getattr(model, "__args__", ())
            model = next((a for a in reversed(arguments) if isinstance(a, type) and issubclass(a, BaseModel)), None)
            if model is not None and isinstance(key, str) and key in model.model_fields:
                model = model.model_fields[key].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        arguments = getattr(model, "__args__", ())
        model = next((a for a in reversed(arguments) if isinstance(a, type) and issubclass(a, BaseModel)), None)
    return list(model.model_fields) if model else []


def tell_changed(params: Params) -> str:
    """Say that an experiment's params file does not say any more what a run began with; empty if it still does.

    DVC records the file as it is when a stage ends, whatever the stage was given.
    """
    try:
        is_same = load_params(params.experiment) == params
    except ParamsError:
        is_same = False
    path = show(paths.find_params_path(params.experiment))
    said = f"{path} was changed while the run was under way; what had finished is kept: labkit run {params.experiment}"
    return "" if is_same else said


def apply_overrides(experiment: str, settings: list[str], *, is_written: bool = True) -> str:
    """Write `section.field=value` settings into the params file, comments and style kept.

    Parameters
    ----------
    settings
        Each `name=value`; the value is YAML, typed by the field it is for.
    is_written
        Whether to write them, or only to look whether they could be.

    Returns
    -------
    str
        The change as a unified diff, empty if nothing changed.

    Raises
    ------
    ParamsError
        A setting is malformed or its value not valid; the file is then untouched.
    """
    load_params(experiment)
    path = paths.find_params_path(experiment)
    before = path.read_text(encoding="utf-8")
    tree = load_yaml(path)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if TOKENS.search(setting):
            raise ParamsError(f"-S {describe_secret(TOKENS.sub('secret', name).strip().split('.'))}")
        if not equals:
            raise ParamsError(f"-S {setting}: no '=': write section.field=value")
        set_value(tree, name.strip().split("."), parse_value(text.strip(), setting))
    check_params(tree, path)
    stream = StringIO()
    make_yaml().dump(tree, stream)
    after = stream.getvalue()
    if make_plain(parse_yaml(after, show(path))) == make_plain(parse_yaml(before, show(path))):
        return ""
    if is_written:
        write_text(path, after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), show(path), show(path), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


def parse_value(text: str, setting: str) -> Any:
    """Read the value of one setting as YAML; a bare comma list becomes a list."""
    if "," in text and not text.startswith(("[", "{", '"', "'")):
        text = f"[{text}]"
    where = make_printable(setting if setting.startswith("-") else f"-S {setting}")
    tree = parse_yaml(f"value: {text}", where)
    if list(tree) != ["value"]:
        raise ParamsError(f"{where}: more than one value: write each as a -S of its own")
    return tree["value"]


def set_value(tree: YamlMap, keys: list[str], value: Any) -> None:
    """Put a value at a dotted place, making mappings on the way."""
    place = tree
    for depth, key in enumerate(keys[:-1]):
        if depth == 0 and key not in Params.model_fields:
            raise ParamsError(f"-S {'.'.join(keys)}: no section {key!r}: {name_nearest(key, Params.model_fields)}")
        child = place.setdefault(key, YamlMap())
        if not isinstance(child, YamlMap):
            raise ParamsError(f"-S {'.'.join(keys)}: {key} holds one value, not a section")
        place = child
    if isinstance(place.get(keys[-1]), YamlList) and isinstance(value, YamlList):
        value.fa.set_flow_style()
    place[keys[-1]] = value


def override_section(params: Params, section: str, overrides: Mapping[str, Any]) -> Params:
    """Return params with fields of one section replaced, checked like a file."""
    if not isinstance(overrides, Mapping):
        raise ParamsError(f'{section} is a {type(overrides).__name__}: write a mapping, e.g. {{"field": value}}')
    tree = params.model_dump(mode="json")
    tree[section] = {**tree[section], **check_value(overrides, section)}
    return check_params(tree, paths.find_params_path(params.experiment))


def describe_params(experiment: str) -> list[Entry]:
    """Return every value of an experiment with where it comes from and what it means."""
    path = paths.find_params_path(experiment)
    load_params(experiment)
    tree, params = parse_params(read_yaml(path), path)
    return list(walk_params(params, tree, [], path))


def walk_params(section: BaseModel, tree: Any, keys: list[str], path: Path) -> Iterator[Entry]:
    """Yield the entries below one section, in the order of the tree."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        here = [*keys, name]
        if isinstance(value, BaseModel):
            below = tree.get(name) if isinstance(tree, Mapping) else None
            yield from walk_params(value, below or {}, here, path)
            continue
        line = find_line(tree, [name])
        origin = f"{show(path)}:{line}" if line else "default"
        yield Entry(".".join(here), make_shown(value), origin, field.description or "")


def make_shown(value: Any) -> Any:
    """Return a value as plain data without the parts that were left at their defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: make_shown(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [make_shown(item) for item in value]
    return value


def write_commented(tree: Mapping[str, Any], comments: Mapping[tuple[str, ...], str], title: str, path: Path) -> str:
    """Return a new params file as text: plain data with comments, checked as if it had been read.

    Parameters
    ----------
    comments
        What stands above a key, by its place in the tree.
    title
        What stands at the top.

    Raises
    ------
    ParamsError
        The data are no valid params.
    """
    commented = make_commented(tree)
    for place, comment in comments.items():
        parent: Any = commented
        for key in place[:-1]:
            parent = parent.get(key, {})
        if place[-1] in parent:
            lines = "\n".join(textwrap.wrap(make_printable(comment), 100))
            parent.yaml_set_comment_before_after_key(place[-1], before=lines, indent=2 * (len(place) - 1))
    stream = StringIO()
    stream.write("# yaml-language-server: $schema=schema.json\n")
    stream.writelines(f"# {line}\n" for line in textwrap.wrap(make_printable(title), 110))
    make_yaml().dump(commented, stream)
    check_params(parse_yaml(stream.getvalue(), show(path)), path)
    return stream.getvalue()


def make_schema() -> str:
    """Return the JSON schema of a params file, for editors."""
    return json.dumps(Params.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
