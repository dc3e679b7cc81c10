"""Describe params to users and editors: a table, a commented file, a JSON schema."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from labkit.console import make_printable
from labkit.params.experiment import Params
from labkit.params.load import ParamsFile, load_file, parse_file
from labkit.params.yaml_text import make_commented, make_yaml
from labkit.paths import show_path


@dataclass(frozen=True)
class DescribedParam:
    """One value as shown by `labkit params`: its name, value, origin and meaning.

    Attributes
    ----------
    is_changed
        Whether the value differs from the default, or there is no default.
    """

    name: str
    value: Any
    origin: str
    meaning: str
    is_changed: bool


def describe_params(experiment: str) -> list[DescribedParam]:
    """Return every value of an experiment with its origin and its meaning.

    Parameters
    ----------
    experiment
        Name of the experiment.

    Raises
    ------
    ParamsError
        The experiment is unknown, or its params file is not valid.
    """
    file = load_file(experiment)
    return list(describe_section(file.params, [], file))


def describe_section(section: BaseModel, keys: list[str], file: ParamsFile) -> Iterator[DescribedParam]:
    """Yield the values of a section and of its subsections, in order."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        here = [*keys, name]
        if isinstance(value, BaseModel):
            yield from describe_section(value, here, file)
            continue
        line = file.find_line(here)
        origin = f"{show_path(file.path)}:{line}" if line else "default"
        is_changed = field.is_required() or value != field.get_default(call_default_factory=True)
        yield DescribedParam(".".join(here), make_shown(value), origin, field.description or "", is_changed)


def list_names(section: type[BaseModel] = Params, above: str = "") -> list[str]:
    """Return the dotted names of all parameters of a section, in order.

    >>> [name for name in list_names() if name.startswith("evaluation.gate.most_m")]
    ['evaluation.gate.most_miscalibration', 'evaluation.gate.most_milliseconds']
    """
    names = []
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        names += list_names(kind, f"{above}{name}.") if is_section else [above + name]
    return names


def make_shown(value: Any) -> Any:
    """Return a value as plain data without fields at their defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: make_shown(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [make_shown(item) for item in value]
    return value


def write_commented(tree: Mapping[str, Any], comments: Mapping[tuple[str, ...], str], title: str, path: Path) -> str:
    """Return the content of a new params file: plain data with comments, validated as if it had been read.

    Parameters
    ----------
    tree
        Params as plain data.
    comments
        Comment above a key, by the path of the key.
    title
        Comment at the top.
    path
        Path of the new file, which gives the experiment's name; nothing is written.

    Raises
    ------
    ParamsError
        The data are not valid params.
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
    return parse_file(stream.getvalue(), path).content


def make_schema() -> str:
    """Return the JSON schema of a params file, for editors."""
    return json.dumps(Params.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
