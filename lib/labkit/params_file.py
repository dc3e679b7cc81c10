"""How `params/<experiment>.yaml` is read, checked, overridden and described.

Not what can be set: that is `labkit.params`. YAML here is version 1.2 without aliases, duplicate keys or words that
version 1.1 reads otherwise, so that papermill, DVC and labkit see the same values.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from labkit import paths
from labkit.errors import ParamsError, list_briefly, name_nearest
from labkit.files import write_text
from labkit.params import Params
from labkit.secret import REDACTED, TOKENS, describe_secret, find_secret
from labkit.values import check_value

LARGEST_FILE_BYTES = 1_000_000
DEEPEST_YAML = 20
# Plain words that YAML 1.1 (papermill, DVC) and YAML 1.2 (here) read as different values.
AMBIGUOUS = re.compile(
    r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF"
    r"|[-+]?0[0-7]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?[0-9]+_[0-9_]*"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]*\.[0-9]*[eE][0-9]+)$"
)

# Line ends to YAML 1.1 alone.
SEPARATORS = re.compile("[\x85\u2028\u2029]")
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
    return check_params(load_yaml(path), path)


def load_yaml(path: Path) -> CommentedMap:
    """Read one YAML mapping, refusing what is ambiguous or hostile.

    Raises
    ------
    ParamsError
        Too large, not UTF-8, not one mapping, an alias, a duplicate key, or a word with two readings.
    """
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise ParamsError(f"{show(path)}: {path.stat().st_size:,} bytes; a params file has at most 1,000,000")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParamsError(f"{show(path)}: not UTF-8 at byte {error.start}: save it as UTF-8") from error
    if text.startswith("\ufeff"):
        raise ParamsError(f"{show(path)}: begins with a byte order mark: save it as UTF-8 without one")
    return parse_yaml(text, show(path))


def load_written_yaml(path: Path) -> Any:
    """Read YAML that a program wrote, such as dvc.lock: quickly, and without the checks of what people write.

    Raises
    ------
    ParamsError
        It is not YAML.
    """
    try:
        return YAML(typ="safe").load(path)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{show(path)}: {str(error).splitlines()[0]}: restore it from git, or remove it") from error


def parse_yaml(text: str, where: str) -> CommentedMap:
    """Parse one YAML mapping from text; see `load_yaml`."""
    try:
        check_events(text, where)
        tree = make_yaml().load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = ", ".join(part.split("\n")[0] for part in (error.context, error.problem) if part)
        raise ParamsError(f"{where}{line}: {TOKENS.sub(REDACTED, problem)}: mend the YAML") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{where}: {str(error).splitlines()[0]}: mend the YAML") from error
    if not isinstance(tree, CommentedMap):
        found = "nothing" if tree is None else "a list" if isinstance(tree, CommentedSeq) else "a single value"
        raise ParamsError(f"{where}: {found} where `section: values` are expected")
    return tree


def check_events(text: str, where: str) -> None:
    """Refuse aliases, tags, depths and words with two readings before anything is built from them."""
    if found := SEPARATORS.search(text):
        row = text.count("\n", 0, found.start()) + 1
        raise ParamsError(
            f"{where}:{row}: the line separator U+{ord(found[0]):04X} would become a blank: "
            f'write "\\u{ord(found[0]):04x}" within double quotes'
        )
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(StringIO(text)):
        line = f"{where}:{event.start_mark.line + 1}"
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST_YAML:  # the reader takes minutes over thousands of brackets
            raise ParamsError(f"{line}: nested more than {DEEPEST_YAML} deep: flatten it")
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            raise ParamsError(f"{line}: anchors and aliases (& and *) are not allowed: write the value out")
        if getattr(event, "tag", None):
            raise ParamsError(f"{line}: the tag {event.tag} is not allowed: write a plain value")
        if isinstance(event, ScalarEvent) and event.style is None and AMBIGUOUS.match(event.value):
            raise ParamsError(
                f"{line}: {event.value} is read differently by YAML 1.1 and 1.2: "
                f'write true, false, a plain number such as 0.001, or "{event.value}" in quotes'
            )


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
            known = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
            return f"{lead}{name} is {found}: {name_nearest(fault['input'], known)}"
        case _:
            return f"{lead}{name} is {found}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


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


def apply_overrides(experiment: str, settings: list[str]) -> str:
    """Write `section.field=value` settings into the params file, comments and style kept.

    Parameters
    ----------
    settings
        Each `name=value`; the value is YAML, typed by the field it is for.

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
    write_text(path, after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), show(path), show(path), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


def parse_value(text: str, setting: str) -> Any:
    """Read the value of one setting as YAML; a bare comma list becomes a list."""
    if "," in text and not text.startswith(("[", "{", '"', "'")):
        text = f"[{text}]"
    tree = parse_yaml(f"value: {text}", f"-S {setting}")
    if list(tree) != ["value"]:
        raise ParamsError(f"-S {setting}: more than one value: write each as a -S of its own")
    return tree["value"]


def set_value(tree: CommentedMap, keys: list[str], value: Any) -> None:
    """Put a value at a dotted place, making mappings on the way."""
    place = tree
    for depth, key in enumerate(keys[:-1]):
        if depth == 0 and key not in Params.model_fields:
            raise ParamsError(f"-S {'.'.join(keys)}: no section {key!r}: {name_nearest(key, Params.model_fields)}")
        child = place.setdefault(key, CommentedMap())
        if not isinstance(child, CommentedMap):
            raise ParamsError(f"-S {'.'.join(keys)}: {key} holds one value, not a section")
        place = child
    if isinstance(place.get(keys[-1]), CommentedSeq) and isinstance(value, CommentedSeq):
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
    params = load_params(experiment)
    tree = load_yaml(path)
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


def make_schema() -> str:
    """Return the JSON schema of a params file, for editors."""
    return json.dumps(Params.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def make_plain(tree: Any) -> Any:
    """Return YAML's tree as plain dicts, lists and scalars; dates become ISO texts."""
    if isinstance(tree, Mapping):
        return {str(key): make_plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [make_plain(value) for value in tree]
    if isinstance(tree, date):
        return tree.isoformat()
    if isinstance(tree, bool) or tree is None:
        return tree
    for kind in (int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    raise TypeError(f"{tree!r} is not plain data")


def make_yaml() -> YAML:
    """Return the YAML reader and writer that keeps comments, quotes and order."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 120
    return yaml


def show(path: Path) -> str:
    """Return a path as the user would type it in the checkout."""
    try:
        return str(path.relative_to(paths.find_root()))
    except (ValueError, ParamsError):
        return str(path)


replace_text = write_text
