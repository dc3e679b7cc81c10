"""The section `wrangling`: rules, fills, outliers and limits."""

from typing import Literal

from pydantic import Field, model_validator

from labkit.params.section import Column, Scalar, Section, Style
from labkit.vocabulary import tidy


class Rule(Section):
    """A stateless rule for one column, applied to training rows and to live requests alike.

    Applying it twice is the same as once: strings are trimmed, their case changed, then mapped, then read as the type;
    numbers are checked against the range last.
    """

    type: Literal["number", "category", "boolean", "date"] | None = Field(
        None, description="what values become; strings that cannot be read as that become missing"
    )
    decimal: Literal[".", ","] = Field(".", description="what stands before a fraction, with type number")
    units: dict[str, float] = Field({}, description="word after a number: what to multiply by, with type number")
    format: Style | None = Field(None, description="how dates are written, e.g. %d/%m/%Y; ISO 8601 if not set")
    trim: bool = Field(False, description="remove spaces at both ends of strings")
    case: Literal["lower", "upper"] | None = Field(None, description="case that strings are changed to")
    map: dict[str, str] = Field({}, description="strings and what they become, after trim and case")
    missing: tuple[Scalar, ...] = Field((), description="values that stand for a missing one, e.g. -999 or '?'")
    minimum: float | None = Field(None, description="smallest possible value, in the column's unit")
    maximum: float | None = Field(None, description="largest possible value, in the column's unit")
    outside: Literal["missing", "clip"] = Field("missing", description="what becomes of values out of range")

    @model_validator(mode="after")
    def check_range(self) -> "Rule":
        """Refuse an empty range."""
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum} is not below maximum {self.maximum}")
        return self

    @model_validator(mode="after")
    def check_type(self) -> "Rule":
        """Refuse options of another type, and a map whose results would change again."""
        if self.format is not None and self.type != "date":
            raise ValueError("`format` belongs to type date")
        if (self.units or self.decimal != ".") and self.type != "number":
            raise ValueError("`units` and `decimal` belong to type number")
        if self.type in ("date", "category") and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"`minimum` and `maximum` are for numbers, not for type {self.type}")
        for value in self.map.values():
            again = self.tidy(value)
            if self.map.get(again, again) != value:
                raise ValueError(f"map: {value!r} would be changed again, to {self.map.get(again, again)!r}")
        return self

    def tidy(self, string: str) -> str:
        """Return a string trimmed and in its case."""
        return tidy(string, trim=self.trim, case=self.case)


class Fill(Section):
    """What stands for a missing value of one column, learnt on the training rows."""

    strategy: Literal["median", "mean", "most_frequent", "constant", "drop"] = Field(
        "median", description="what is filled in; drop leaves such rows out of all parts"
    )
    value: Scalar | None = Field(None, description="what is filled in, with strategy constant")
    indicator: bool = Field(False, description="add a feature that is true where the value was missing")

    @model_validator(mode="after")
    def check_value(self) -> "Fill":
        """Refuse a constant without a value, and a value without a constant."""
        if (self.strategy == "constant") != (self.value is not None):
            raise ValueError("`value` belongs to strategy constant, which needs it")
        return self


class Outliers(Section):
    """Which numbers of one column lie too far out, learnt on the training rows, and what becomes of them."""

    method: Literal["iqr", "quantiles"] = Field("iqr", description="how far is too far")
    factor: float = Field(3.0, gt=0, description="interquartile ranges beyond the quartiles, with method iqr")
    low: float = Field(0.01, ge=0, lt=0.5, description="share of rows below which a value is too small")
    high: float = Field(0.99, gt=0.5, le=1, description="share of rows above which a value is too large")
    action: Literal["clip", "missing", "flag", "drop"] = Field(
        "clip", description="what becomes of them; flag adds a feature, drop leaves out training rows only"
    )


class Limits(Section):
    """From which share of missing values on columns and rows are left out."""

    columns: float | None = Field(None, gt=0, lt=1, description="of the training rows; the column is left out above it")
    rows: float | None = Field(None, gt=0, lt=1, description="of the row's columns; the row is left out above it")


class Wrangling(Section):
    """Which columns and rows stay, and the rules that clean them."""

    drop: dict[Column, str] = Field({}, description="columns left out: the reason for each")
    filters: tuple[str, ...] = Field((), description="expressions; rows for which one is false are left out")
    rules: dict[Column, Rule] = Field({}, description="stateless rules by column")
    duplicates: Literal["keep", "drop"] = Field("keep", description="what becomes of rows that repeat an earlier one")
    duplicates_by: tuple[Column, ...] = Field((), description="columns by which rows repeat each other; all if empty")
    fill: dict[Column, Fill] = Field(
        {}, description="column: what stands for its missing values; else the preparation's"
    )
    outliers: dict[Column, Outliers] = Field({}, description="column of numbers: what becomes of those too far out")
    most_missing: Limits = Field(Limits(), description="shares of missing values above which columns and rows go")
