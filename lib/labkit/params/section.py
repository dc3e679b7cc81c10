"""Foundation of all sections of the params: strict types, and types that sections share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labkit.names import EXPERIMENT_NAME, normalize_spaces
from labkit.params.import_path import parse_import_path

Name = Annotated[str, Field(pattern=f"^{EXPERIMENT_NAME}$")]


Column = Annotated[str, AfterValidator(normalize_spaces)]
"""Name of a column; different kinds of spaces match each other."""


Fraction = Annotated[float, Field(gt=0, lt=1)]


Scalar = bool | int | float | str


def check_style(style: str) -> str:
    """Return a date format if it is a valid one.

    Parameters
    ----------
    style
        Format for `datetime.strptime`.

    Raises
    ------
    ValueError
        It is not a valid format.
    """
    try:
        datetime.strptime("", style)
    except ValueError as error:
        if "does not match" not in str(error):
            raise ValueError(f"{style!r} is not a date format: write e.g. %d.%m.%Y or %Y-%m-%d %H:%M") from error
    return style


Style = Annotated[str, Field(min_length=1), AfterValidator(check_style)]
"""Date format for `datetime.strptime`."""


def check_import_path(text: str) -> str:
    """Return an import path if it has the form `module:name`; nothing is imported."""
    parse_import_path(text)
    return text


ImportPath = Annotated[str, AfterValidator(check_import_path)]
"""Code of the user's own, as `module:name`; see `labkit.params.import_path`."""


class Section(BaseModel):
    """Base class of all sections: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Wording:
    """Marks a field whose value is only shown to readers: no number depends on it."""


def find_wordings(section: type[BaseModel], place: str = "") -> Iterator[str]:
    """Yield the dotted names of a section's fields that are only shown to readers.

    Parameters
    ----------
    section
        Class of the section.
    place
        Dotted name of the section itself, with a dot at its end.
    """
    for name, field in section.model_fields.items():
        if any(isinstance(mark, Wording) for mark in field.metadata):
            yield f"{place}{name}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from find_wordings(field.annotation, f"{place}{name}.")


@dataclass(frozen=True)
class UsedBy:
    """Marks a field that holds import paths: the stages that run this code, which is part of their fingerprints."""

    stages: tuple[str, ...]


@dataclass(frozen=True)
class OwnCode:
    """One import path in the params.

    Attributes
    ----------
    keys
        Path of its key, with the number of an item of a list.
    text
        The import path.
    stages
        The stages that use it.
    """

    keys: tuple[str | int, ...]
    text: str
    stages: tuple[str, ...]


def find_own_code(section: BaseModel, place: tuple[str | int, ...] = ()) -> Iterator[OwnCode]:
    """Yield the import paths in a section and in the sections within it.

    Parameters
    ----------
    section
        The section.
    place
        Path of its key.
    """
    for name, field in type(section).model_fields.items():
        value, keys = getattr(section, name), (*place, name)
        marks = [mark for mark in field.metadata if isinstance(mark, UsedBy)]
        if isinstance(value, BaseModel):
            yield from find_own_code(value, keys)
        if isinstance(value, Mapping):
            for key, one in value.items():
                if isinstance(one, BaseModel):
                    yield from find_own_code(one, (*keys, key))
        for mark in marks:
            items = value.items() if isinstance(value, Mapping) else enumerate(value or ())
            listed = [(keys, value)] if isinstance(value, str) else [((*keys, key), item) for key, item in items]
            yield from (OwnCode(path, text, mark.stages) for path, text in listed if ":" in text)
