"""Describe params for people and editors: a table, a commented file, a JSON schema."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from labkit import paths
from labkit.console import make_printable
from labkit.params.experiment import Params
from labkit.params.load import check_params, find_line, load_params, parse_params
from labkit.params.yaml_text import make_commented, make_yaml, parse_yaml, read_yaml
from labkit.paths import show


@dataclass(frozen=True)
class Entry:
    """One value as `labkit params` shows it."""

    name: str
    value: Any
    origin: str
    meaning: str


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
