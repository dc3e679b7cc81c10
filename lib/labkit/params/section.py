"""What every section of the params is made of: strict types, and the kinds of values they share."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labkit.names import EXPERIMENT_NAME, normalize_spaces

Name = Annotated[str, Field(pattern=f"^{EXPERIMENT_NAME}$")]


Column = Annotated[str, AfterValidator(normalize_spaces)]
"""Name of a column: it matches whatever kind of space it holds."""


Fraction = Annotated[float, Field(gt=0, lt=1)]


Scalar = bool | int | float | str


def check_style(style: str) -> str:
    """Return how dates are written, if that is a format of dates."""
    try:
        datetime.strptime("", style)
    except ValueError as error:
        if "does not match" not in str(error):
            raise ValueError(f"{style!r} is not a format of dates: write e.g. %d.%m.%Y or %Y-%m-%d %H:%M") from error
    return style


Style = Annotated[str, Field(min_length=1), AfterValidator(check_style)]
"""How dates are written, as `datetime.strptime` takes it."""


class Section(BaseModel):
    """Base of all parts of the tree: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
