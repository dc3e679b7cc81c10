"""Sentences about related inputs: what cannot be told apart by replacing one column at a time."""

from collections.abc import Mapping
from typing import Any

from labkit.model.explanation.related_columns import RelatedColumns
from labkit.model.explanation.shapley import Explanation, choose_output
from labkit.model.explanation.telling_rows import TellingRow
from labkit.params.subject import GENERIC, Subject
from labkit.view.explanation_plots import name_input
from labkit.view.prose import escape, join_names

MOST_PAIRS = 5


def describe_determined(related: RelatedColumns, subject: Subject = GENERIC) -> str:
    """Return which columns determine each other and what that means for contributions; empty without any."""
    if not related.determined:
        return ""
    groups = [join_names([escape(name_input(name, subject)) for name in group]) for group in related.determined]
    return (
        f"{'; '.join(groups)} follow from each other in every {subject.row}. They are replaced independently here, so "
        f"some of the {subject.rows} compared cannot exist, and how a contribution is divided among them means little: "
        "read their sum."
    )


def describe_sums(
    found: Mapping[TellingRow, Explanation], related: RelatedColumns, *, facts: Mapping[str, Any], subject: Subject
) -> list[str]:
    """Return what columns that determine each other contribute together to each single row: a lead and list items.

    Parameters
    ----------
    found
        Explanations by the row that they explain.
    facts
        Facts of the release, with its `classes` and the `positive` one.
    """
    classes, positive, lines = facts["classes"], facts["positive"], []
    for telling, one in found.items():
        place = choose_output(one.prediction, None if positive is None else classes.index(positive)) if classes else 0
        by_name = dict(zip(one.columns, one.contributions[:, place], strict=True))
        sums = [
            f"{join_names([escape(name_input(name, subject)) for name in group])} together "
            f"{sum(by_name[name] for name in group):+.3g}"
            for group in related.determined
        ]
        lines += [f"- {telling.title}: {'; '.join(sums)}."] if sums else []
    lead = "Columns that follow from each other are replaced one at a time here too, so only their sums mean something:"
    return [lead, *lines] if lines else []


def describe_correlated(related: RelatedColumns, subject: Subject = GENERIC) -> str:
    """Return which inputs are strongly correlated and what that means for their effects; empty without any."""
    if not related.correlated:
        return ""
    pairs = [
        f"{escape(name_input(one, subject))} with {escape(name_input(other, subject))} {value:.2f}"
        for one, other, value in related.correlated
    ]
    return (
        f"Correlated inputs (rank correlation): {join_names(pairs, most=MOST_PAIRS)}. Their effects cannot be told "
        "apart: a curve can rise or fall only because it corrects that of the other column, whatever the column alone "
        "says about the target."
    )
