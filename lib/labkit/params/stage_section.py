"""Parameters of stages of the user's own: declared by a notebook's `parameters` cell, set below `stages` in params.

A section of such a stage is typed like the built-in ones. Reading the cell: `labkit.run.notebook.stage_table`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError, create_model

from labkit.errors import ParamsError, name_nearest
from labkit.params.experiment import Params
from labkit.params.load import describe_key
from labkit.params.plain_values import check_value
from labkit.params.section import Scalar, Section
from labkit.params.validation_messages import describe_remedy

STAGES = "stages"


@dataclass(frozen=True)
class DeclaredParam:
    """A parameter that a notebook declares: its type, default and meaning."""

    name: str
    kind: type
    default: Any
    meaning: str = ""

    @property
    def annotation(self) -> Any:
        """The type of its values: a list holds numbers and strings, and a default of None allows either."""
        if self.kind is list:
            return tuple[Scalar, ...]
        return Scalar | None if self.default is None else self.kind


def make_section(stage: str, declared: Sequence[DeclaredParam]) -> type[Section]:
    """Return the class of a stage's section: frozen, strictly typed, without unknown keys.

    >>> make_section("segments", [DeclaredParam("count", int, 4, "how many")])().count
    4
    """
    fields: dict[str, Any] = {
        one.name: (
            one.annotation,
            Field(tuple(one.default) if one.kind is list else one.default, description=one.meaning),
        )
        for one in declared
    }
    return create_model(f"Stage_{stage}", __base__=Section, **fields)


def load_section(
    params: Params, stage: str, declared: Sequence[DeclaredParam], overrides: Mapping[str, Any] | None = None
) -> Section:
    """Return the section of a stage of the user's own: the declared defaults, the params file, then overrides.

    An override that equals the declared default is none: a notebook passes on all names of its `parameters` cell.

    Raises
    ------
    ParamsError
        A name is not declared, or a value has another type than its default.
    """
    if not isinstance(overrides or {}, Mapping):
        raise ParamsError(f'{stage} is a {type(overrides).__name__}: write a mapping, e.g. {{"field": value}}')
    given = dict(params.stages.get(stage, {}))
    changed = list_overridden(declared, check_value(overrides or {}, stage))
    kind = make_section(stage, declared)
    try:
        return kind.model_validate_json(json.dumps({**given, **changed}))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        where = f"parameter {name}" if name in changed else describe_key(params.experiment, [STAGES, stage, name])
        if fault["type"] == "extra_forbidden":
            nearest = name_nearest(name, kind.model_fields)
            raise ParamsError(f"{where}: the stage {stage} has no parameter {name!r}: {nearest}") from error
        raise ParamsError(f"{where} is {fault['input']!r:.60}: {describe_remedy(fault)}") from error
    except (ValueError, TypeError) as error:
        raise ParamsError(f"stage {stage}: {error}: use plain finite values") from error


def list_overridden(declared: Sequence[DeclaredParam], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values that differ from the declared defaults."""
    defaults = {one.name: one.default for one in declared}
    return {name: value for name, value in given.items() if name not in defaults or defaults[name] != value}
