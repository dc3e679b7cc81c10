"""The labels of each table of an experiment in short: how many, how far annotators agree, and which rows conflict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labkit.data.labels.agreement import (
    Agreement,
    check_referee,
    make_label_table,
    measure_agreement,
    resolve_labels,
)
from labkit.data.labels.judgements import MODEL, read_judgements
from labkit.errors import MissingDataError, ParamsError, name_nearest


@dataclass(frozen=True)
class LabelSummary:
    """The labels of rows of one table.

    Attributes
    ----------
    source
        Table and key column.
    annotators
        Number of labels of each annotator.
    n_bulk
        Number of labels accepted in bulk.
    labels, conflicts
        See `labkit.data.labels.agreement.resolve_labels`.
    """

    source: str
    annotators: dict[str, int]
    n_bulk: int
    agreement: Agreement
    labels: pd.DataFrame
    conflicts: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return {
            "annotators": self.annotators,
            "accepted_in_bulk": self.n_bulk,
            "labels": self.labels["label"].value_counts().sort_index().to_dict(),
            "conflicts": self.conflicts.to_dict("records"),
            "agreement": self.agreement.to_dict(),
        }


def summarize_labels(
    experiment: str, *, source: str = "", referee: str = ""
) -> tuple[list[LabelSummary], tuple[str, ...]]:
    """Return the labels of one table, or of each, and messages about lines that could not be read.

    Raises
    ------
    ParamsError
        There are no labels of this table, or none of the referee.
    """
    log = read_judgements(experiment)
    current = log.list_current()
    sources = sorted({one.source for one in current})
    if source and source not in sources:
        raise ParamsError(f"no labels of {source!r}: {name_nearest(source, sources)}")
    chosen = log.list_current(source)
    if referee:
        check_referee(chosen, referee)
    found = []
    for name in [source] if source else sources:
        judgements = [one for one in chosen if one.source == name]
        table = make_label_table(judgements)
        found.append(
            LabelSummary(
                name,
                {str(who): int(values.notna().sum()) for who, values in table.items()},
                sum(one.annotator == MODEL for one in judgements),
                measure_agreement(table),
                *resolve_labels(judgements, referee=referee),
            )
        )
    return found, log.faults


def choose_resolved(found: Sequence[LabelSummary]) -> pd.DataFrame:
    """Return the resolved labels of the only table.

    Raises
    ------
    MissingDataError
        There are no labels.
    ParamsError
        There are labels of several tables.
    """
    if len(found) > 1:
        raise ParamsError(
            f"labels of several tables: choose one with --source: {', '.join(one.source for one in found)}"
        )
    if not found or found[0].labels.empty:
        raise MissingDataError("no row has a label to write: give some in notebooks/08_labelling.ipynb")
    return found[0].labels
