"""Read a params file: parse and validate it and record the line of every key in one pass, into one object.

Settings given on the command line are applied in `labkit.params.override`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from labkit import paths
from labkit.errors import ParamsError, list_briefly, name_nearest
from labkit.params.experiment import Params
from labkit.params.plain_values import check_value
from labkit.params.validation_messages import describe_remedy, list_expected
from labkit.params.yaml_text import YamlMap, make_plain, parse_yaml, read_yaml
from labkit.paths import show_path
from labkit.secrets.detection import describe_secret, find_secret

PLACEHOLDER = re.compile(r"\$\{[^}]*\}")


def list_experiments() -> list[str]:
    """Return the names of all experiments that have a params file, sorted."""
    return sorted(path.stem for path in paths.find_params_dir().glob("*.yaml"))


@dataclass(frozen=True)
class ParamsFile:
    """A valid params file, read once.

    Attributes
    ----------
    path
        Path of the file.
    content
        Its content, including comments.
    tree
        The content as a YAML tree with comments and line numbers; shared, so copy it before changing it.
    params
        The content as validated params, including defaults.
    """

    path: Path
    content: str
    tree: YamlMap
    params: Params

    def find_line(self, keys: Sequence[str]) -> int | None:
        """Return the line of a key, counted from 1, or None if the file does not set it.

        Parameters
        ----------
        keys
            Path of the key, at least one.
        """
        place: Any = self.tree
        for key in keys[:-1]:
            place = place.get(key) if isinstance(place, Mapping) else None
        return find_line(place, [keys[-1]])


def load_params(experiment: str) -> Params:
    """Return the validated params of an experiment.

    Parameters
    ----------
    experiment
        Name of the experiment.

    Raises
    ------
    ParamsError
        The experiment is unknown, or its params file is not valid; see `load_file`.
    """
    return load_file(experiment).params


def load_file(experiment: str) -> ParamsFile:
    """Read and validate the params file of an experiment.

    Parameters
    ----------
    experiment
        Name of the experiment.

    Raises
    ------
    ParamsError
        The experiment is unknown, or the file is not valid; the message names the file, the line, the key and the
        nearest valid word.
    """
    if experiment not in list_experiments():
        raise ParamsError(f"no experiment {experiment!r} in params/: {name_nearest(experiment, list_experiments())}")
    path = paths.find_params_path(experiment)
    return parse_file(read_yaml(path), path)


def describe_key(experiment: str, keys: Sequence[str | int]) -> str:
    """Return the place of a key of an experiment's params for messages, e.g. `params/churn.yaml:12: training.models`.

    Parameters
    ----------
    keys
        Path of the key, with the number of an item of a list.
    """
    file = load_file(experiment)
    line = find_line(file.tree, list(keys))
    name = ".".join(key for key in keys if isinstance(key, str))
    return f"{show_path(file.path)}{f':{line}' if line else ''}: {name}"


def locate_message(experiment: str, message: str) -> str:
    """Return a message that begins with a key of an experiment's params with the file and line of the key before it."""
    file = load_file(experiment)
    keys = [int(key) if key.isdigit() else key for key in message.partition(": ")[0].split(".")]
    line = find_line(file.tree, keys)
    return f"{show_path(file.path)}{f':{line}' if line else ''}: {message}"


@lru_cache(maxsize=8)
def parse_file(content: str, path: Path) -> ParamsFile:
    """Parse and validate the content of a params file; the same content is parsed only once per process.

    Parameters
    ----------
    content
        Content of the file.
    path
        Its path, which gives the experiment's name.

    Raises
    ------
    ParamsError
        The content is not valid.
    """
    tree = parse_yaml(content, show_path(path))
    return ParamsFile(path, content, tree, check_params(tree, path))


def check_params(tree: Mapping[str, Any], path: Path) -> Params:
    """Convert a parsed mapping to `Params`.

    Parameters
    ----------
    tree
        Content of the file.
    path
        Its path, which gives the experiment's name and is shown in messages.

    Raises
    ------
    ParamsError
        The params are not valid; the message lists up to five faults with line, key and nearest valid word.
    """
    try:
        plain = make_plain(tree)
        check_content(plain, tree, show_path(path))
        params = Params.model_validate_json(json.dumps(plain, allow_nan=False))
    except ValidationError as error:
        faults = [f"{show_path(path)}{describe_fault(fault, tree)}" for fault in error.errors(include_url=False)]
        raise ParamsError(list_briefly(faults)) from error
    except (ValueError, TypeError) as error:
        raise ParamsError(f"{show_path(path)}: {error}: use plain finite values") from error
    if params.experiment != path.stem:
        raise ParamsError(f"{show_path(path)}: experiment is {params.experiment!r}: the file's name is {path.stem!r}")
    return params


def check_content(plain: Mapping[str, Any], tree: Mapping[str, Any], where: str) -> None:
    """Refuse what no field may hold: plaintext secrets, placeholders and values that are not plain data."""
    for keys in find_secret(plain, holds_columns=holds_columns):
        line = find_line(tree, keys)
        raise ParamsError(f"{where}{f':{line}' if line else ''}: {describe_secret(keys)}")
    for key, value in plain.items():
        line = find_line(tree, [key])
        lead = f"{where}{f':{line}' if line else ''}"
        check_value(value, f"{lead}: {key}")
        if found := PLACEHOLDER.search(json.dumps(value)):
            raise ParamsError(
                f"{lead}: {key} holds {found[0]}: placeholders are not filled in: write the value, or, if it is "
                "a secret, name its environment variable under `secrets`"
            )


def holds_columns(keys: list[str]) -> bool:
    """Return whether the user chooses the keys of the mapping at a path, such as names of columns."""
    return bool(keys) and keys[0] in Params.model_fields and not find_fields(list(keys))


def describe_fault(fault: Mapping[str, Any], tree: Mapping[str, Any]) -> str:
    """Describe one fault in one line that begins with the line number."""
    keys = [key for key in fault["loc"] if not str(key).startswith(("function-", "literal", "[key]"))]
    name = ".".join(str(key) for key in keys)
    line = find_line(tree, keys)
    lead = f":{line}: " if line else ": "
    found = repr(fault["input"])
    found = found if len(found) <= 60 else found[:57] + "…"
    if keys[:1] == ["secrets"]:
        # A value given here by mistake may be the secret itself, so the message does not repeat it.
        return (
            f"{lead}{name}: a name in lowercase and the environment variable that holds it in capitals, "
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
    """Return the line, counted from 1, of the deepest key on a path that is in the file."""
    line = None
    for key in keys:
        places = getattr(getattr(tree, "lc", None), "data", None) or {}
        if key not in places:
            break
        line = places[key][0] + 1
        tree = tree[key]
    return line


def find_fields(keys: list[Any]) -> list[str]:
    """Return the names of the fields at a path of the tree."""
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
