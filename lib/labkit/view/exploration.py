"""Sentences of the exploration: which rows it describes, and what it found in them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.data.quality.profile import count_scored
from labkit.data.stability import compute_outcome
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Data, Target
from labkit.view.data_plots import LEAST_PREDICTIVE, find_aside
from labkit.view.prose import escape, format_number, format_share, join_names


def list_weak(profile: pd.DataFrame, target: Target) -> list[str]:
    """Return the usable columns that explain next to nothing by themselves."""
    is_weak = (profile["score"].fillna(0) < LEAST_PREDICTIVE) & (find_aside(profile) == "")
    return [name for name in profile.loc[is_weak, "column"] if name != target.column]


def describe_weak(weak: Sequence[str]) -> str:
    """Return which columns `list_weak` found, in Markdown; empty if none.

    >>> describe_weak(["origin", "dest"])
    'Less than 1 % by themselves, perhaps more in combination: `origin` and `dest`.'
    """
    lead = f"Less than {format_share(LEAST_PREDICTIVE)} by themselves, perhaps more in combination"
    return f"{lead}: {join_names(map(escape, weak))}." if weak else ""


def list_columns(profile: pd.DataFrame, ranked: Sequence[str], subject: Subject = GENERIC) -> pd.DataFrame:
    """Return one row per column for readers: what it explains by itself, what it holds, what is missing, its ends.

    Parameters
    ----------
    profile
        As `labkit.data.quality.profile.profile_table` returns it.
    ranked
        The columns in the order of the rows.
    """
    shown = profile.set_index("column").loc[list(ranked)].reset_index()
    for end in ("smallest", "largest"):
        shown[end] = [
            subject.format_value(name, float(value)) if value and subject.is_clock(name) else value
            for name, value in zip(shown["column"], shown[end], strict=True)
        ]
    shown["meaning"] = shown["column"].map(subject.describe_column)
    meaning = ["meaning"] if subject.columns else []
    shown = shown[
        ["column", "score", "set_aside", *meaning, "kind", "missing_share", "distinct", "smallest", "largest"]
    ]
    return shown.rename(columns={"missing_share": "missing", "score": "explains", "set_aside": "set aside"})


def describe_outcome(frame: pd.DataFrame, target: Target, subject: Subject = GENERIC) -> str:
    """Return the rate of the class of interest, or of the largest class, or the mean of a numeric target."""
    mean = (
        float(np.nanmean(compute_outcome(frame, target).to_numpy())) if frame[target.column].notna().any() else np.nan
    )
    if target.task == "regression":
        return f"mean {target.column} {format_number(mean)}"
    picked = frame[target.column].mode().iloc[0] if target.positive is None and not np.isnan(mean) else target.positive
    label = subject.find_label(picked)
    n_known = int(frame[target.column].notna().sum())
    of = subject.rows if n_known == len(frame) else f"the {subject.count_rows(n_known)} with a target"
    return f"{format_share(mean)} of {of} {'are ' + label if label else f'have {target.column} = {picked}'}"


def name_explored(is_explored: np.ndarray, data: Data, subject: Subject = GENERIC) -> str:
    """Return which rows the exploration describes, as a phrase; see `describe_explored`."""
    rows, first = subject.count_rows(int(is_explored.sum())), data.split.validation_from
    if first is None or is_explored.all():
        return f"all {rows}"
    return f"the {rows} before {first.day} {first:%B %Y}"


def describe_explored(is_explored: np.ndarray, data: Data, subject: Subject = GENERIC) -> str:
    """Return which rows the exploration describes, and what else it has looked at.

    Parameters
    ----------
    is_explored
        As returned by `labkit.data.split.mark_explored`.
    """
    n_rows, first = int(is_explored.sum()), data.split.validation_from
    if first is None or is_explored.all():
        drawn = f"by {data.split.method}" if data.split.method != "random" else "at random"
        return (
            f"**All {subject.count_rows(n_rows)} are described**: the split is drawn {drawn} from the clean "
            f"{subject.rows} in the next notebook, so those that will evaluate the model are among them."
        )
    return (
        f"What follows describes the **{subject.count_rows(n_rows)} before {first.day} {first:%B %Y}**, the training "
        "period. Later ones appear in three places only: they are counted where they are duplicated, blank, without a "
        "target or noticed in reading; the columns that changed, never the target, are found by comparison with them; "
        "and the plot over time shows the target after training in grey."
    )


def describe_sample(explored: pd.DataFrame, subject: Subject = GENERIC) -> str:
    """Return what is measured on a sample of the rows that are described; empty if nothing is.

    >>> describe_sample(pd.DataFrame({"a": [1, 2]}))
    ''
    """
    n_scored = count_scored(explored)
    if n_scored == len(explored):
        return ""
    return (
        f"What a column explains is measured on {n_scored:,} of these {subject.rows}, drawn at random; correlations, "
        "leaks of the target and odd values are looked for in samples, too. Counts, ranges and missing values are "
        "those of all of them."
    )
