"""Options of `labkit new`: what the user decides in advance; everything else is inferred from the table.

The decisions themselves, each with its reason, are in `labkit.new.proposal`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labkit.errors import ParamsError, name_nearest
from labkit.names import normalize_spaces
from labkit.params.section import check_style

Kind = Literal["number", "category", "boolean", "date", "text", "identifier", "constant", "empty"]
COLUMN_KINDS: tuple[Kind, ...] = ("number", "category", "boolean", "date", "text", "identifier")
"""Kinds that can be given to a column; constant and empty are only ever detected."""


@dataclass(frozen=True)
class Choices:
    """Options of `labkit new`; None and empty ones are inferred from the table.

    `reading` holds fields of the params' `Table`.

    Raises
    ------
    ParamsError
        A kind, date format, delimiter or encoding is not valid.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None
    sheet: str | None = None
    task: str | None = None
    positive: str | None = None
    metric: str | None = None
    time: str | None = None
    group: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("time", "group"):
            column = getattr(self, name)
            object.__setattr__(self, name, column and normalize_spaces(column))
        for name in ("kinds", "formats", "zones", "missing"):
            found = getattr(self, name)
            object.__setattr__(self, name, {normalize_spaces(column): value for column, value in found.items()})
        for name in ("drop", "keep"):
            object.__setattr__(self, name, tuple(normalize_spaces(column) for column in getattr(self, name)))
        for column, kind in self.kinds.items():
            if kind not in COLUMN_KINDS:
                raise ParamsError(f"--kind {column}={kind}: {name_nearest(kind, COLUMN_KINDS)}")
        for column, style in self.formats.items():
            try:
                check_style(style)
            except ValueError as error:
                raise ParamsError(f"--format {column}={style}: {error}") from error
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise ParamsError(f"--delimiter {self.delimiter!r}: give one character, such as ; or tab")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError as error:
                raise ParamsError(f"--encoding {self.encoding}: no such encoding: use utf-8, cp1252 …") from error

    def name_columns(self) -> dict[str, list[str]]:
        """Return the columns that each option names."""
        single = {"--time": self.time, "--group": self.group}
        named = {option: [column] for option, column in single.items() if column is not None}
        several = {"--kind": self.kinds, "--format": self.formats, "--zone": self.zones, "--missing": self.missing}
        named |= {option: list(columns) for option, columns in several.items() if columns}
        return named | {"--drop": list(self.drop), "--keep": list(self.keep)}


@dataclass(frozen=True)
class ParamsDecision:
    """One decision: its subject, its value and its reason.

    `place` is the path of its field in the params file, which gets the reason as a comment; it may be empty.
    """

    subject: str
    value: str
    reason: str
    place: tuple[str, ...] = ()
    is_warning: bool = False
