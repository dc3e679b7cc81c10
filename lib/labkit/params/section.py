"""Foundation of all sections of the params: strict types, and types that sections share."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labkit.names import EXPERIMENT_NAME, normalize_spaces

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
