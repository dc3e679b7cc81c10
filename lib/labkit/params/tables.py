"""The section `data`: tables, joins, target, time and split."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from labkit.params.section import Column, Fraction, Name, Scalar, Section, Style, Wording
from labkit.params.wrangling import Rule
from labkit.vocabulary import USUAL_MISSING

Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,126}$")]


FEWEST_OF_CLASS = 8
"""Rows that a class needs to be present in every part and fold."""


class Table(Section):
    """The origin of one raw table (exactly one of `dataset`, `path` and `paths`), and how its file is read."""

    dataset: str | None = Field(None, description="scikit-learn's bundled table load_<dataset>, e.g. diabetes")
    path: str | None = Field(
        None, description="file of the table, e.g. CSV, Parquet, Excel, relative to the checkout or to `package`"
    )
    paths: tuple[str, ...] = Field((), description="several files of one table, all with the same columns, in order")
    package: str | None = Field(None, description="installed package that ships the file at `path`")
    times: tuple[Column, ...] = Field(
        (), description="columns that hold times: ISO, unless `formats` names another format"
    )
    formats: dict[Column, Style] = Field({}, description="time column: its format, e.g. %d.%m.%Y")
    encoding: str = Field("utf-8", description="encoding of the file, e.g. cp1252")
    delimiter: str = Field(",", min_length=1, max_length=1, description="delimiter of cells")
    quote: Literal['"', "'", ""] = Field('"', description="quote character; empty for none")
    escape: Literal["\\", ""] = Field("", description="character before a quote inside a cell, if not doubled")
    decimal: Literal[".", ","] = Field(".", description="decimal separator")
    thousands: Literal["", ",", ".", " ", "'", "\u00a0", "\u202f"] = Field("", description="thousands separator")
    header: bool | None = Field(
        None, description="whether the first row is a header; if not set, a header that looks like data is rejected"
    )
    header_rows: int = Field(
        1, ge=1, le=3, description="number of header rows; several are joined, as `question: option`"
    )
    skip_lines: int = Field(0, ge=0, le=1000, description="lines before the first row that are not part of the table")
    name_unnamed: bool = Field(False, description="name an unnamed column by its position, e.g. column_3")
    sheet: str | None = Field(None, description="sheet of a spreadsheet; may be left out if only one holds cells")
    skip: tuple[Column, ...] = Field((), description="columns that are not read at all")
    texts: tuple[Column, ...] = Field(
        (), description="columns kept as strings although they look like numbers, e.g. codes"
    )
    checkboxes: tuple[Column, ...] = Field(
        (), description="columns with one word if ticked, else nothing: read as yes and no"
    )
    codes: tuple[Column, ...] = Field(
        (), description="columns of an SPSS or Stata file read as numbers although their codes have labels"
    )
    missing: tuple[str, ...] = Field(USUAL_MISSING, description="strings that mark a missing value")
    not_missing: dict[str, tuple[str, ...]] = Field(
        {}, description="column: strings that are values there although `missing` lists them, e.g. a class called None"
    )
    allow_short_rows: bool = Field(False, description="accept rows with too few cells; the rest are missing")
    allow_infinite: bool = Field(False, description="read infinite numbers as missing instead of rejecting them")
    max_rows: int = Field(20_000_000, ge=1, description="maximum number of rows")
    max_bytes: int = Field(4_000_000_000, ge=1, description="maximum number of bytes, uncompressed")
    max_columns: int = Field(10_000, ge=1, description="maximum number of columns")

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the table's files, in order; empty for a bundled table."""
        return (self.path,) if self.path is not None else self.paths

    @model_validator(mode="after")
    def check_one_origin(self) -> "Table":
        """Refuse a table without exactly one origin."""
        if [self.dataset is not None, self.path is not None, bool(self.paths)].count(True) != 1:
            raise ValueError("set either `dataset` or `path`, or `paths` for several files")
        if self.package and not self.path:
            raise ValueError("`package` needs a `path` inside it")
        return self

    @model_validator(mode="after")
    def check_reading(self) -> "Table":
        """Refuse unknown encodings and options that contradict each other."""
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f"no encoding {self.encoding!r}: use a name such as utf-8 or cp1252") from error
        if self.thousands == self.decimal:
            raise ValueError(f"`thousands` and `decimal` are both {self.decimal!r}")
        if self.header is False and self.header_rows > 1:
            raise ValueError("`header_rows` needs a header: remove `header: false`")
        if self.delimiter in (self.quote, "\n", "\r"):
            raise ValueError(f"`delimiter` cannot be {self.delimiter!r}")
        if strange := [name for name in self.formats if name not in self.times]:
            raise ValueError(f"`formats` names {strange[0]!r}, which is not among `times`")
        return self


class Join(Section):
    """One left join onto the main table."""

    table: str = Field(description="table to join, a key of data.tables")
    keys: dict[Column, Column] = Field(
        min_length=1, description="column of the rows so far: column of the joined table"
    )
    cardinality: Literal["many_to_one", "one_to_one"] = Field(
        "many_to_one", description="how many rows may share one joined row; checked"
    )
    prefix: str = Field("", description="prefix of the joined columns' names")
    as_of: Column | None = Field(
        None, description="time column of the joined table: the latest row known at `predict_at` is taken"
    )
    within_hours: float | None = Field(None, gt=0, description="maximum age of a joined row in hours, with `as_of`")
    columns: tuple[Column, ...] = Field((), description="columns to join; all if empty")


class RareClasses(Section):
    """What happens to classes with too few rows to be learned and evaluated."""

    fewest_rows: int = Field(
        FEWEST_OF_CLASS, ge=2, description="fewest rows that a class needs to be kept, after cleaning"
    )
    action: Literal["drop", "other"] = Field(
        "drop", description="what happens to rows of rarer classes: left out, or merged into the class `other`"
    )


class Target(Section):
    """What is predicted."""

    column: Column = Field(description="column that holds the target")
    task: Literal["classification", "regression"] = Field(description="kind of prediction")
    positive: Scalar | None = Field(None, description="class of interest of a two-class target")
    labels: Annotated[dict[str, str], Wording()] = Field(
        {}, description='class: what readers call it, e.g. {"1": late, "0": on time}'
    )
    expression: str | None = Field(
        None, description="how the target is computed from raw columns, if it is not one of them"
    )
    rule: Rule | None = Field(
        None, description="how its values are read, e.g. amounts such as $1,200; as in wrangling.rules"
    )
    rare: RareClasses | None = Field(None, description="what happens to rare classes; all are kept if not set")

    @model_validator(mode="after")
    def check_labels(self) -> "Target":
        """Refuse labels of a regression, and labels that do not tell the classes apart."""
        if self.task == "regression" and self.labels:
            raise ValueError("`labels` is for classification only")
        labels = list(self.labels.values())
        if repeated := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"`labels`: two classes are called {repeated[0]!r}: give each its own")
        if not all(label.strip() for label in labels):
            raise ValueError("`labels`: a label is empty: remove its line to show the class itself")
        return self

    @model_validator(mode="after")
    def check_positive(self) -> "Target":
        """Refuse options of classification for regression, and a rule for a computed target."""
        if self.task == "regression" and self.positive is not None:
            raise ValueError("`positive` is for classification only")
        if self.task == "regression" and self.rare is not None:
            raise ValueError("`rare` is for classification only")
        if self.rule is not None and self.expression is not None:
            raise ValueError("`rule` is for a raw column: put what it does into `expression`")
        return self


def find_positive(classes: Sequence[Any], positive: Any) -> int:
    """Return the code of the class of interest: of the declared one, or else of the last class.

    >>> find_positive(["no", "yes"], "no"), find_positive(["no", "yes"], None)
    (0, 1)
    """
    return list(classes).index(positive) if positive in classes else len(classes) - 1


def check_zone_name(zone: str) -> str:
    """Return the name of a time zone if there is one of that name."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {zone!r}: use a name such as Europe/Berlin or UTC") from error
    return zone


class Time(Section):
    """When values are known: nothing known after `predict_at` may be used in a prediction."""

    predict_at: str = Field(description="expression: when the prediction is made")
    outcome_known_at: str = Field(description="expression: when the outcome is known")
    zone: Annotated[str, AfterValidator(check_zone_name)] = Field(
        "UTC", description="time zone of the days of data.split and of the dates shown, e.g. America/New_York"
    )


class Split(Section):
    """Which rows are for training, validation and holdout."""

    method: Literal["random", "time", "group"] = Field("random", description="how rows are assigned to parts")
    group: Column | None = Field(None, description="column whose equal values stay in one part, with method group")
    validation_from: date | None = Field(
        None, description="first day of validation, with method time; in the zone of data.time"
    )
    holdout_from: date | None = Field(None, description="first day of the holdout, with method time")
    aside_from: date | None = Field(None, description="first day of rows set aside for after the release")
    validation: Fraction = Field(0.2, description="share of rows for a second evaluation of the chosen candidate")
    holdout: Fraction = Field(0.2, description="share of rows for the final evaluation; never seen in training")
    stratify: bool = Field(True, description="keep the class shares equal in all parts")

    @model_validator(mode="after")
    def check_training_share(self) -> "Split":
        """Refuse shares that leave too little for training, and options that do not fit the method."""
        if self.validation + self.holdout > 0.8:
            raise ValueError("validation + holdout leave less than 20 % of the rows for training")
        days = [self.validation_from, self.holdout_from, self.aside_from]
        named = [day for day in days if day]
        if self.method == "time" and (days[0] is None or days[1] is None):
            raise ValueError("method time needs `validation_from` and `holdout_from`")
        if self.method != "time" and named:
            raise ValueError(
                f"`validation_from`, `holdout_from` and `aside_from` are for method time, not {self.method}"
            )
        if named != sorted(set(named)):
            raise ValueError("the days must increase: validation_from < holdout_from < aside_from")
        if (self.method == "group") != (self.group is not None):
            raise ValueError("`group` is for method group, which needs it")
        return self


class ColumnMeaning(Section):
    """What readers are shown of a column."""

    description: str = Field("", max_length=80, description="what it holds, in a few words, e.g. departure delay")
    unit: str = Field("", max_length=30, description="unit of its values, e.g. minutes")
    format: Literal["time_of_day"] | None = Field(
        None, description="`time_of_day` shows minutes after midnight as times, e.g. 18:30"
    )


class Data(Section):
    """Raw tables, how they are joined, the target and the split."""

    tables: dict[Name, Table] = Field(
        min_length=1, description="raw tables; predictions are made for the rows of the first"
    )
    derived: dict[Name, str] = Field(
        {}, description="column: expression over the first table, before anything is joined"
    )
    time: Time | None = Field(None, description="when predictions are made and outcomes are known, if rows have a time")
    joins: tuple[Join, ...] = Field((), description="left joins onto the first table, in order")
    target: Target = Field(description="what is predicted")
    columns: Annotated[dict[Column, ColumnMeaning], Wording()] = Field(
        {}, description="column, raw or made: its description and unit, shown in tables and plots"
    )
    split: Split = Field(Split(), description="which rows are for training, validation and holdout")

    @property
    def main_table(self) -> str:
        """Name of the table whose rows are predicted."""
        return next(iter(self.tables))

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files of tables in the checkout."""
        return tuple(file for table in self.tables.values() if not table.package for file in table.files)

    @model_validator(mode="after")
    def check_time(self) -> "Data":
        """Refuse a split or a join that needs a time where no time is declared."""
        if self.time is None and self.split.method == "time":
            raise ValueError("split.method time needs data.time")
        if self.time is None and any(join.as_of for join in self.joins):
            raise ValueError("joins with as_of need data.time")
        return self
