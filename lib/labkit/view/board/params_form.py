"""The form for parameters: fields made from the schema, and writing one as `-S` does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.params.describe import describe_params, make_schema
from labkit.params.import_path import parse_import_path
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.pipeline import run_lock

METRIC = "training.metric"
CHOICE, SWITCH, NUMBER, STRING, WORDS, FIXED = "choice", "switch", "number", "string", "words", "fixed"
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {}",
}
TYPES = {"integer": "whole number", "number": "number", "string": "string", "array": "words, separated by commas"}


@dataclass(frozen=True)
class FormField:
    """One parameter in the form.

    Attributes
    ----------
    kind
        `choice`, `switch`, `number`, `string`, `words`, or `fixed` for what has more structure than a form can show.
    value
        Its value as the form shows it, empty if it is not set.
    choices
        The values of a `choice`.
    hint
        Type and range, as a phrase.
    origin
        File and line that set it, or `default`.
    """

    name: str
    kind: str
    value: str
    choices: tuple[str, ...]
    hint: str
    meaning: str
    origin: str
    is_optional: bool


def list_fields(experiment: str) -> dict[str, list[FormField]]:
    """Return the parameters of an experiment by section.

    Raises
    ------
    ParamsError
        The experiment is unknown, or its params file is not valid.
    """
    sections: dict[str, list[FormField]] = {}
    own_metrics = [parse_import_path(path)[1] for path in load_params(experiment).evaluation.metrics]
    for one in describe_params(experiment):
        if one.name != "experiment":
            schema, is_optional = find_schema(one.name)
            kind = find_input_kind(schema)
            field = FormField(
                one.name,
                kind,
                show_value(one.value, kind),
                list_choices(schema, one.value, more=own_metrics if one.name == METRIC else ()),
                describe_type(schema, is_optional),
                one.meaning,
                one.origin,
                is_optional,
            )
            sections.setdefault(one.name.partition(".")[0], []).append(field)
    return sections


@cache
def load_schema() -> dict[str, Any]:
    """Return the schema of a params file."""
    return dict(json.loads(make_schema()))


def find_schema(name: str) -> tuple[dict[str, Any], bool]:
    """Return the schema of a parameter without its null, and whether it may be null.

    >>> find_schema("training.most_rows")[0]["minimum"], find_schema("training.most_rows")[1]
    (100, True)
    """
    here, is_optional = load_schema(), False
    for key in name.split("."):
        here, is_optional = resolve_schema(here.get("properties", {}).get(key, {}))
    return here, is_optional


def resolve_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a schema with its reference followed and its null taken out, and whether there was one."""
    kept = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    is_optional = "anyOf" in schema and len(kept) < len(schema["anyOf"])
    found = {**schema, **kept[0]} if len(kept) == 1 else dict(schema)
    if "$ref" in found:
        found |= load_schema()["$defs"][found["$ref"].rpartition("/")[2]]
    return found, is_optional


def find_enumerated(schema: Mapping[str, Any]) -> list[Any]:
    """Return the words that a schema lists, also where it allows others besides."""
    return list(next((one["enum"] for one in (schema, *schema.get("anyOf", ())) if "enum" in one), ()))


def list_choices(schema: Mapping[str, Any], value: Any, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the words to choose from, with `more` and the one that is set; none if the schema lists none."""
    words = [*map(str, find_enumerated(schema)), *more]
    return tuple(dict.fromkeys([*words, str(value)])) if words and value is not None else tuple(words)


def find_input_kind(schema: Mapping[str, Any]) -> str:
    """Return the kind of input for a schema."""
    if find_enumerated(schema):
        return CHOICE
    kinds = {"boolean": SWITCH, "integer": NUMBER, "number": NUMBER, "string": STRING}
    items = schema.get("items", {})
    if schema.get("type") == "array" and all(one.get("type") == "string" for one in items.get("oneOf", [items])):
        return WORDS
    return kinds.get(str(schema.get("type")), FIXED)


def describe_type(schema: Mapping[str, Any], is_optional: bool) -> str:
    """Return type and range as a phrase.

    >>> describe_type(*find_schema("training.folds"))
    'whole number, at least 2, at most 20'
    """
    parts = [] if find_enumerated(schema) else [TYPES.get(str(schema.get("type")), "")]
    parts += [phrase.format(schema[key]) for key, phrase in BOUNDS.items() if key in schema]
    return ", ".join(filter(None, [*parts, "empty: not set" if is_optional else ""]))


def show_value(value: Any, kind: str) -> str:
    """Return a value as the form shows it."""
    if value is None:
        return ""
    if kind == WORDS:
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def make_setting(field: FormField, entered: str) -> str:
    """Return what was entered as a setting of `-S`."""
    if entered.strip() == "" and field.is_optional:
        return f"{field.name}=null"
    if field.kind == STRING:
        return f"{field.name}={json.dumps(entered, ensure_ascii=False)}"
    return f"{field.name}=[{entered}]" if field.kind == WORDS else f"{field.name}={entered}"


def write_field(experiment: str, field: FormField, entered: str) -> str:
    """Write a parameter into the params file as `-S` does, and return the change as a diff.

    Raises
    ------
    ParamsError
        The value is not valid; the file is left unchanged.
    LabkitError
        A run of the experiment is under way, which reads the file.
    """
    holding = run_lock.hold_experiment(experiment, report=lambda _: None, is_waiting=False, command="the board for")
    with holding:
        return apply_overrides(experiment, [make_setting(field, entered)])
