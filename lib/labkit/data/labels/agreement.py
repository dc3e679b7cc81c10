"""How far annotators agree, and which label a row gets of several.

Where one class is rare, annotators agree on most rows by chance: 95 % can be no better than chance. So coefficients are
shown beside the raw share. Only rows that several annotators labelled count; a row that one of them has not labelled,
or has skipped, never becomes a category. Labels accepted in bulk are the model's and do not count.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from labkit.data.labels.judgements import GIVEN, MODEL, Judgement
from labkit.errors import ParamsError
from labkit.units import format_count


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree.

    Attributes
    ----------
    n_shared
        Rows that at least two annotators labelled.
    raw
        Share of pairs of labels of the same row that are equal.
    fleiss
        Fleiss' kappa on the rows that all annotators labelled (Psychological Bulletin 76, 1971); None without such
        rows, or if they have only one class.
    n_of_all
        Number of these rows.
    alpha
        Krippendorff's alpha for names of classes, on all shared rows (Content Analysis, 2004); None if undefined, as
        where only one class occurs.
    """

    n_shared: int
    raw: float | None
    fleiss: float | None
    n_of_all: int
    alpha: float | None

    def __str__(self) -> str:
        """Return the numbers in words."""
        if not self.n_shared:
            return "agreement: not measured, as no row was labelled by two annotators"
        numbers = [
            f"{self.raw:.1%} of pairs of labels equal, on {format_count(self.n_shared, 'row')} labelled by several"
        ]
        numbers += [] if self.alpha is None else [f"Krippendorff's alpha {self.alpha:.2f}"]
        numbers += (
            [] if self.fleiss is None else [f"Fleiss' kappa {self.fleiss:.2f} on the {self.n_of_all:,} labelled by all"]
        )
        return "agreement: " + "; ".join(numbers)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return asdict(self)


def make_label_table(judgements: Iterable[Judgement]) -> pd.DataFrame:
    """Return the labels as a table: a row per key, a column per annotator; missing where none was given."""
    given = [one for one in judgements if one.status == GIVEN and one.annotator != MODEL]
    table: dict[str, dict[str, str | None]] = {}
    for one in given:
        table.setdefault(one.annotator, {})[one.key] = one.label
    return pd.DataFrame(table, dtype=object).sort_index().sort_index(axis="columns")


def measure_agreement(table: pd.DataFrame) -> Agreement:
    """Return how far the annotators of a table of labels agree.

    Parameters
    ----------
    table
        As returned by `make_label_table`.
    """
    shared = table[table.notna().sum(axis="columns") >= 2]
    complete = table.dropna()
    counts = [Counter(row.dropna()) for _, row in shared.iterrows()]
    pairs = sum(n * (n - 1) // 2 for n in (sum(one.values()) for one in counts))
    equal = sum(n * (n - 1) // 2 for one in counts for n in one.values())
    fleiss = None
    if table.shape[1] >= 2 and len(complete):
        fleiss = compute_fleiss(complete.to_numpy(dtype=str))
    return Agreement(len(shared), equal / pairs if pairs else None, fleiss, len(complete), compute_alpha(counts))


def compute_fleiss(labels: np.ndarray) -> float | None:
    """Return Fleiss' kappa; None if there is only one class.

    Parameters
    ----------
    labels
        Labels of rows that all annotators labelled, shape (n_rows, n_annotators).
    """
    counts = (labels[:, :, None] == np.unique(labels)).sum(axis=1)
    n_rows, n_annotators = labels.shape
    observed = ((counts**2).sum() / n_rows - n_annotators) / (n_annotators * (n_annotators - 1))
    expected = float(((counts.sum(axis=0) / labels.size) ** 2).sum())
    return None if expected == 1 else float((observed - expected) / (1 - expected))


def compute_alpha(counts: Collection[Counter[str]]) -> float | None:
    """Return Krippendorff's alpha of nominal labels; None if it is undefined.

    Parameters
    ----------
    counts
        For each row that at least two annotators labelled, how many gave each label.
    """
    total: Counter[str] = Counter()
    observed = 0.0
    for one in counts:
        n = sum(one.values())
        total.update(one)
        observed += (n * n - sum(value * value for value in one.values())) / (n - 1)
    n = sum(total.values())
    expected = n * n - sum(value * value for value in total.values())
    return None if not expected else 1 - (n - 1) * observed / expected


def check_referee(judgements: Iterable[Judgement], referee: str) -> None:
    """Raise ParamsError if an annotator has given no label."""
    names = sorted({one.annotator for one in judgements if one.annotator != MODEL})
    if referee not in names:
        raise ParamsError(f"referee {referee!r} has given no label; annotators are {', '.join(names) or 'none yet'}")


def compare_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each pair of annotators the `rows` that both labelled, the share `equal`, and Cohen's `kappa`.

    Kappa is missing where both gave one label only (Cohen, Educational and Psychological Measurement 20, 1960).
    """
    lines = []
    for first, second in combinations(table, 2):
        both = table[[first, second]].dropna()
        ours, theirs = both[first].to_numpy(dtype=str), both[second].to_numpy(dtype=str)
        has_two = len(np.unique([*ours, *theirs])) > 1
        kappa = cohen_kappa_score(ours, theirs) if has_two else np.nan
        lines.append((first, second, len(both), float(np.mean(ours == theirs)) if len(both) else np.nan, kappa))
    return pd.DataFrame(lines, columns=["first", "second", "rows", "equal", "kappa"])


def resolve_labels(judgements: Iterable[Judgement], *, referee: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the label of each row, and the rows without one because annotators disagree.

    The referee's label counts; without one, that of more than half of the annotators who labelled the row; without
    those, a label accepted in bulk.

    Parameters
    ----------
    judgements
        Current judgements of rows of one source, see `labkit.data.labels.judgements.JudgementLog.list_current`.
    referee
        Annotator who decides conflicts; may be empty.

    Returns
    -------
    labels, conflicts : pandas.DataFrame
        `key`, `label`, number of `annotators`, and how the row was `drawn`, by the first of them; and `key` and
        `labels`, those of each annotator.
    """
    by_key: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        if one.status == GIVEN:
            by_key[one.key].append(one)
    labels, conflicts = [], []
    for key, every in sorted(by_key.items()):
        given = [one for one in every if one.annotator != MODEL] or every
        counts = Counter(one.label for one in given)
        label, n_same = counts.most_common(1)[0]
        decided = [one.label for one in given if referee and one.annotator == referee]
        if decided or 2 * n_same > len(given):
            labels.append((key, decided[0] if decided else label, len(given), given[0].drawn))
        else:
            conflicts.append((key, "; ".join(f"{one.annotator}: {one.label}" for one in given)))
    return (
        pd.DataFrame(labels, columns=["key", "label", "annotators", "drawn"]),
        pd.DataFrame(conflicts, columns=["key", "labels"]),
    )
