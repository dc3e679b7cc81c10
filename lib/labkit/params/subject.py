"""What an experiment is about, in the words that its params declare: the question, the rows, classes and columns.

Pages, plots, the model card, the terminal and MLflow take their words from here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from labkit.names import escape
from labkit.params.experiment import Params
from labkit.params.tables import ColumnMeaning
from labkit.units import LARGEST_FIXED, format_clock, format_count

LONGEST_NAMED = 38
"""Characters of a label in which the description of a column is not cut."""


@dataclass(frozen=True)
class Subject:
    """What an experiment is about; words that are not declared are generic.

    Attributes
    ----------
    question
        What is predicted, as one question.
    row, rows
        What one row is, and several.
    labels
        What readers call a class, by the class as a string.
    columns
        Description and unit by column.
    zone
        Time zone of the dates shown.

    Examples
    --------
    >>> subject = Subject("Will this flight be late?", "flight", "flights", {"1": "late", "0": "on time"})
    >>> subject.count_rows(8374, of_class=1), subject.name_class(0), subject.name_column("distance")
    ('8,374 late flights', 'on time', 'distance')
    >>> Subject("What is `late`?").count_rows(1, of_class=1)
    '1 row of class `1`'
    """

    question: str
    row: str = "row"
    rows: str = "rows"
    labels: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, ColumnMeaning] = field(default_factory=dict)
    zone: str = "UTC"

    @classmethod
    def from_params(cls, params: Params) -> "Subject":
        """Return the words that params declare; the question is made from the target if none is declared."""
        row, _, rows = params.row.partition("/")
        question = params.question.strip() or f"What is {escape(params.data.target.column)} for this {row}?"
        zone = params.data.time.zone if params.data.time else "UTC"
        return cls(question, row, rows or f"{row}s", params.data.target.labels, params.data.columns, zone)

    def count_rows(self, n_rows: int, *, kind: str = "", of_class: object = None) -> str:
        """Return a number of rows in words, in Markdown.

        Parameters
        ----------
        n_rows
            Number of rows.
        kind
            Word before the noun, e.g. the part of the split that the rows are from.
        of_class
            The class that they are of, if they are of one.

        Examples
        --------
        >>> subject = Subject("", "flight", "flights")
        >>> subject.count_rows(0), subject.count_rows(1), subject.count_rows(2000, kind="holdout")
        ('no flights', '1 flight', '2,000 holdout flights')
        """
        one, several = (self.name_rows(noun, kind=kind, of_class=of_class) for noun in (self.row, self.rows))
        return format_count(n_rows, one, several) if n_rows else f"no {several}"

    def name_rows(self, noun: str = "", *, kind: str = "", of_class: object = None) -> str:
        """Return the name of rows in Markdown, without their number; parameters as in `count_rows`.

        Examples
        --------
        >>> subject = Subject("", "flight", "flights", {"1": "late"})
        >>> subject.name_rows(), subject.name_rows(of_class=1), subject.name_rows(of_class=0)
        ('flights', 'late flights', 'flights of class `0`')
        """
        label = None if of_class is None else self.find_label(of_class)
        named = " ".join(word for word in (kind, label, noun or self.rows) if word)
        return named if of_class is None or label else f"{named} of class {escape(of_class)}"

    def find_label(self, value: object) -> str | None:
        """Return the declared label of a class, None without one; `1.0`, as in a column with gaps, is the class 1."""
        names = [str(value)]
        if isinstance(value, float) and value.is_integer():
            names.append(str(int(value)))
        return next((self.labels[name] for name in names if name in self.labels), None)

    def name_class(self, value: object) -> str:
        """Return what readers call a class: its label, or the class itself."""
        return self.find_label(value) or str(value)

    def list_labels(self, classes: Iterable[object]) -> dict[str, str]:
        """Return the label of each class that has one, by the class as a string.

        Examples
        --------
        >>> Subject("", labels={"1": "late"}).list_labels([0, 1.0])
        {'1.0': 'late'}
        """
        found = {str(value): self.find_label(value) for value in classes}
        return {name: label for name, label in found.items() if label}

    def name_column(self, name: str) -> str:
        """Return what a column holds, with its unit: for axes.

        Parameters
        ----------
        name
            Name of a column, raw or made.

        Examples
        --------
        >>> delay = ColumnMeaning(description="departure delay", unit="minutes")
        >>> subject = Subject("", columns={"dep_delay": delay, "alt": ColumnMeaning(unit="feet")})
        >>> subject.name_column("dep_delay"), subject.name_column("alt"), subject.name_column("carrier")
        ('departure delay (minutes)', 'alt (feet)', 'carrier')
        """
        return self.add_unit((name in self.columns and self.columns[name].description) or name, name)

    def name_axis(self, name: str) -> str:
        """Return what a column holds for an axis whose ticks are written like its values: times of a day have no unit.

        Examples
        --------
        >>> left = ColumnMeaning(description="departure", unit="minutes after midnight", format="time_of_day")
        >>> Subject("", columns={"left": left}).name_axis("left")
        'departure'
        """
        return (self.columns[name].description or name) if self.is_clock(name) else self.name_column(name)

    def name_briefly(self, name: str, longest: int = LONGEST_NAMED, *, as_clock: bool = False) -> str:
        """Return what a column holds, or its own name where that would have to be cut: for labels in a row.

        Parameters
        ----------
        longest
            Characters that a label has room for.
        as_clock
            Whether the label stands beside a value that is written as a time of the day where it is one.

        Examples
        --------
        >>> texture = ColumnMeaning(description="standard deviation of grey values, mean", unit="levels")
        >>> subject = Subject("", columns={"mean texture": texture})
        >>> subject.name_briefly("mean texture"), subject.name_briefly("mean texture", 60)
        ('mean texture (levels)', 'standard deviation of grey values, mean (levels)')
        """
        full = self.name_axis(name) if as_clock else self.name_column(name)
        own = name if as_clock else self.add_unit(name, name)
        return next((words for words in (full, own) if len(words) <= longest), name)

    def describe_column(self, name: str) -> str:
        """Return what a column holds, with its unit, as in `name_column`; empty if nothing is declared."""
        return self.name_column(name) if name in self.columns else ""

    def is_clock(self, name: str) -> bool:
        """Return whether the numbers of a column are declared to be times of a day."""
        return name in self.columns and self.columns[name].format == "time_of_day"

    def format_value(self, name: str, value: float) -> str:
        """Return a number of a column, as a time of the day if that is declared; whole numbers in full, as identifiers.

        Examples
        --------
        >>> subject = Subject("", columns={"departure": ColumnMeaning(format="time_of_day")})
        >>> subject.format_value("departure", 1110), subject.format_value("distance", 1110.5)
        ('18:30', '1110.5')
        >>> subject.format_value("customer_id", 123456789.0), subject.format_value("price", 1 / 3)
        ('123456789', '0.333333')
        """
        if self.is_clock(name):
            return format_clock(value)
        return f"{value:.0f}" if abs(value) < LARGEST_FIXED and value % 1 == 0 else f"{value:g}"

    def find_clocks(self) -> dict[str, Callable[[float], str]]:
        """Return the formatter of each column whose numbers are times of a day, for tables."""
        return {name: format_clock for name in self.columns if self.is_clock(name)}

    def format_time(self, time: datetime) -> str:
        """Return a time in the zone of the dates shown; naive times as they are."""
        return f"{time.astimezone(ZoneInfo(self.zone)) if time.tzinfo else time:%Y-%m-%d %H:%M}"

    def add_unit(self, words: str, name: str) -> str:
        """Return words with the unit of a column after them, if one is declared."""
        unit = self.columns[name].unit if name in self.columns else ""
        return f"{words} ({unit})" if unit else words


GENERIC = Subject("What is predicted?")
"""The words where nothing is declared."""
