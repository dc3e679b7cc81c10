"""Sentences of the exploration: which rows it describes, and what it found in them."""

import numpy as np
import pandas as pd

from labkit.data.stability import compute_outcome
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Data, Target
from labkit.view.data_plots import LEAST_PREDICTIVE, find_aside
from labkit.view.prose import format_number, format_share


def list_weak(profile: pd.DataFrame, target: Target) -> list[str]:
    """Return the usable columns that explain next to nothing by themselves."""
    is_weak = (profile["score"].fillna(0) < LEAST_PREDICTIVE) & (find_aside(profile) == "")
    return [name for name in profile.loc[is_weak, "column"] if name != target.column]


def describe_outcome(frame: pd.DataFrame, target: Target, subject: Subject = GENERIC) -> str:
    """Return the rate of the class of interest, or of the largest class, or the mean of a numeric target."""
    mean = (
        float(np.nanmean(compute_outcome(frame, target).to_numpy())) if frame[target.column].notna().any() else np.nan
    )
    if target.task == "regression":
        return f"mean {target.column} {format_number(mean)}"
    picked = frame[target.column].mode().iloc[0] if target.positive is None and not np.isnan(mean) else target.positive
    label = subject.find_label(picked)
    return f"{format_share(mean)} of {subject.rows} {'are ' + label if label else f'have {target.column} = {picked}'}"


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
