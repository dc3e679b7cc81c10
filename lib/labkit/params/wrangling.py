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
        None, description="type of the values; strings that cannot be converted become missing"
    )
    decimal: Literal[".", ","] = Field(".", description="decimal separator, with type number")
    units: dict[str, float] = Field({}, description="unit after a number: the factor to multiply by, with type number")
    format: Style | None = Field(None, description="format of dates, e.g. %d/%m/%Y; ISO 8601 if not set")
    trim: bool = Field(False, description="remove spaces at both ends of strings")
    case: Literal["lower", "upper"] | None = Field(None, description="case to which strings are converted")
    map: dict[str, str] = Field({}, description="strings and their replacements, after trim and case")
    missing: tuple[Scalar, ...] = Field((), description="values that mark a missing value, e.g. -999 or '?'")
    minimum: float | None = Field(None, description="smallest possible value, in the column's unit")
    maximum: float | None = Field(None, description="largest possible value, in the column's unit")
    outside: Literal["missing", "clip"] = Field("missing", description="what happens to values out of range")

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
            raise ValueError("`format` is for type date")
        if (self.units or self.decimal != ".") and self.type != "number":
            raise ValueError("`units` and `decimal` are for type number")
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
    """How missing values of one column are filled, learned from the training rows."""

    strategy: Literal["median", "mean", "most_frequent", "constant", "drop"] = Field(
        "median", description="how missing values are filled; drop leaves such rows out of all parts"
    )
    value: Scalar | None = Field(None, description="value to fill in, with strategy constant")
    indicator: bool = Field(False, description="add a feature that is true where the value was missing")

    @model_validator(mode="after")
    def check_value(self) -> "Fill":
        """Refuse a constant without a value, and a value without a constant."""
        if (self.strategy == "constant") != (self.value is not None):
            raise ValueError("`value` is for strategy constant, which needs it")
        return self


class Outliers(Section):
    """Which numbers of one column are outliers, learned from the training rows, and what happens to them."""

    method: Literal["iqr", "quantiles"] = Field("iqr", description="how outliers are detected")
    factor: float = Field(3.0, gt=0, description="interquartile ranges beyond the quartiles, with method iqr")
    low: float = Field(
        0.01, ge=0, lt=0.5, description="quantile below which a value is an outlier, with method quantiles"
    )
    high: float = Field(
        0.99, gt=0.5, le=1, description="quantile above which a value is an outlier, with method quantiles"
    )
    action: Literal["clip", "missing", "flag", "drop"] = Field(
        "clip", description="what happens to outliers; flag adds a feature, drop leaves out training rows only"
    )


class Limits(Section):
    """Largest shares of missing values that columns and rows may have."""

    columns: float | None = Field(None, gt=0, lt=1, description="largest share of a column in the training rows")
    rows: float | None = Field(None, gt=0, lt=1, description="largest share of a row in its columns")


IDENTIFIER = "identifier"


class Wrangling(Section):
    """Which columns and rows are kept, and the rules that clean them."""

    drop: dict[Column, str] = Field({}, description="columns left out: the reason for each")
    filters: tuple[str, ...] = Field((), description="expressions; rows for which one is false are left out")
    rules: dict[Column, Rule] = Field({}, description="stateless rules by column")
    duplicates: Literal["keep", "drop"] = Field("keep", description="what happens to rows that repeat an earlier one")
    duplicates_by: tuple[Column, ...] = Field((), description="columns by which rows repeat each other; all if empty")
    fill: dict[Column, Fill] = Field({}, description="column: how its missing values are filled; else by preprocessing")
    outliers: dict[Column, Outliers] = Field({}, description="numeric column: what happens to its outliers")
    most_missing: Limits = Field(
        Limits(), description="shares of missing values above which columns and rows are left out"
    )

    def list_identifiers(self) -> list[str]:
        """Return the columns that are left out because they identify rows, by their reason."""
        return [name for name, reason in self.drop.items() if IDENTIFIER in reason.lower()]
