"""The example feature of a new project: a function of real columns of the user's table."""

import keyword
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from labkit.new.inspect import Survey
from labkit.new.proposal import Proposal

MODEL = "make_forest_and_boosting"
TAKEN = frozenset({"np", "len", "float", "value", "weekday", "object"})
"""Names that mean something else in the functions of the template."""
LONGEST = 63


@dataclass(frozen=True)
class Example:
    """The example feature: its name, how it is computed (see the template), and its columns.

    Attributes
    ----------
    is_used
        Whether the columns are those of the table, so that params can name the function.
    """

    feature: str
    kind: str
    columns: tuple[str, ...]
    is_used: bool = True


CHOLESTEROL = Example("cholesterol_ratio", "ratio", ("s1", "s3"))
"""The one of the experiment `diabetes`."""


def choose_example(survey: Survey, proposal: Proposal) -> Example:
    """Return an example feature for a table: of two numbers, else of one time, string or number.

    Parameters
    ----------
    survey, proposal
        Findings about the table, and the params that follow from them.
    """
    tree = proposal.tree
    hidden = {*tree["wrangling"].get("drop", ()), *tree["features"].get("drop", ())}
    by_kind: dict[str, list[str]] = {}
    for column, one in survey.kinds.items():
        if column not in hidden and is_parameter(column):
            by_kind.setdefault(one.kind, []).append(column)
    numbers, times = by_kind.get("number", []), by_kind.get("date", [])
    strings = [*by_kind.get("text", []), *by_kind.get("category", [])]
    found = {
        "ratio": tuple(numbers[:2]) if len(numbers) > 1 else (),
        "weekend": tuple(times[:1]),
        "length": tuple(strings[:1]),
        "log": tuple(numbers[:1]),
    }
    for kind, columns in found.items():
        if columns:
            return Example(name_feature(kind, columns, taken=survey.kinds), kind, columns)
    return Example("ratio", "ratio", ("numerator", "denominator"), is_used=False)


def is_parameter(column: str) -> bool:
    """Return whether a column's name can be the name of a parameter in Python."""
    return (
        column.isidentifier()
        and unicodedata.normalize("NFKC", column) == column
        and not keyword.iskeyword(column)
        and column not in TAKEN
    )


def name_feature(kind: str, columns: Sequence[str], *, taken: Collection[str]) -> str:
    """Return a name for the example feature that no column has.

    Examples
    --------
    >>> name_feature("ratio", ("fee", "visits"), taken=["fee", "visits"])
    'fee_per_visits'
    >>> name_feature("length", ("Größe",), taken=["Größe", "length"])
    'own_length'
    """
    name = {
        "ratio": "_per_".join(columns),
        "weekend": f"{columns[0]}_is_weekend",
        "length": f"{columns[0]}_length",
        "log": f"{columns[0]}_log",
    }[kind].lower()
    if not name.isascii() or len(name) > LONGEST or not name[0].isalpha():
        name = kind
    while name in {column.lower() for column in taken}:
        name = f"own_{name}"[:LONGEST]
    return name


def add_example(example: Example, proposal: Proposal, package: str) -> None:
    """Add the example feature and the example model of a project's package to an experiment's params."""
    if example.is_used:
        proposal.tree["features"]["functions"] = {example.feature: f"{package}.features:{example.feature}"}
    proposal.tree["training"]["models"].append(f"{package}.models:{MODEL}")
