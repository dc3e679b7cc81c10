"""Errors of the champion on rows whose true values are known by now, against those on its holdout, group by group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.error_comparison import ALL_ROWS, ErrorComparison, ErrorSource
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slices import Bins, Cut
from labkit.monitoring.performance import Performance
from labkit.monitoring.reference_losses import ReferenceLosses
from labkit.params.subject import GENERIC, Subject

CHAMPION, NOW, HOLDOUT = "champion", "current rows", "holdout rows"
OTHERS = {NOW: HOLDOUT, HOLDOUT: NOW}


@dataclass(frozen=True, kw_only=True)
class HoldoutSource(ErrorSource):
    """Current rows, whose predictions and columns are known, and holdout rows, of which a release holds the losses.

    Attributes
    ----------
    cuts
        How each column is divided.
    blocks
        Blocks of the current rows, followed by those of the holdout rows.
    """

    cuts: Mapping[str, Cut]
    reference: ReferenceLosses

    @property
    def n_rows(self) -> int:
        """Rows of both."""
        return len(self.frame) + len(self.reference.losses)

    @property
    def losses(self) -> dict[str, Callable[[Predictions], np.ndarray]]:
        """The loss of the training, which is the only one known of holdout rows."""
        name, compute = next(iter(super().losses.items()))
        return {name: compute}

    @cached_property
    def bins(self) -> dict[str, Bins]:
        """The conditions of each column of the holdout, and which of them the rows meet."""
        return {
            name: Bins(np.concatenate([cut.assign(self.frame[name]), self.reference.codes[name]]), [*cut.conditions])
            for name, cut in self.cuts.items()
            if name in self.frame and name in self.reference.codes
        }

    @cached_property
    def periods(self) -> dict[str, np.ndarray]:
        """Positions of the rows of both."""
        every, n_now = np.arange(self.n_rows), len(self.frame)
        return {HOLDOUT: every[n_now:], NOW: every[:n_now]}

    def measure(self, model: str, loss: str) -> np.ndarray:
        """Return the loss of each row, shape (n_rows,)."""
        return np.concatenate([super().measure(model, loss), self.reference.losses])

    def compare(
        self, first: tuple[str, str], second: tuple[str, str], *, loss: str, columns: Sequence[str] = ()
    ) -> ErrorComparison | None:
        """Compare both; see `ErrorSource.compare`."""
        ours, theirs = first[1], second[1]
        if ALL_ROWS in (ours, theirs):
            ours, theirs = OTHERS.get(theirs, ours) if ours == ALL_ROWS else ours, OTHERS.get(ours, theirs)
        found = super().compare((first[0], ours), (second[0], theirs), loss=loss, columns=columns)
        if found is None:
            return None
        sides = [replace(side, name=name) for side, name in zip(found.sides, (ours, theirs), strict=True)]
        return replace(found, first=sides[0], second=sides[1])


def make_holdout_source(
    performance: Performance, *, confidence: float, subject: Subject = GENERIC
) -> HoldoutSource | None:
    """Return the rows compared and those of the holdout; None without true values, or for releases without losses.

    Parameters
    ----------
    performance
        See `labkit.monitoring.performance.measure_performance`.
    confidence
        One minus the accepted false discovery rate.
    """
    ours, blocks = performance.predictions, performance.blocks
    reference, losses = performance.reference, performance.reference_losses
    if ours is None or blocks is None or reference is None or losses is None:
        return None
    return HoldoutSource(
        {CHAMPION: ours},
        pd.DataFrame(performance.columns),
        join_blocks(blocks, losses.blocks),
        confidence,
        subject,
        cuts=reference.cuts,
        reference=losses,
    )


def compare_groups_with_holdout(
    performance: Performance, *, confidence: float, subject: Subject = GENERIC
) -> dict[str, Any]:
    """Return the errors of each group now and on the holdout, as plain data for the page and JSON of a check.

    Parameters
    ----------
    performance, confidence
        See `make_holdout_source`.

    Returns
    -------
    dict of str to Any
        `description`, in sentences: on which rows it was measured and how, or why nothing was compared. `loss`, None
        if nothing was, and `groups`, those first that differ beyond random variation: name, rows and mean loss of both
        sides, their difference (positive if it is larger now) with its interval, and `is_certain`.
    """
    source = make_holdout_source(performance, confidence=confidence, subject=subject)
    if source is None:
        return {"description": describe_not_compared(performance), "loss": None, "groups": []}
    loss = next(iter(source.losses))
    found = source.compare((CHAMPION, NOW), (CHAMPION, HOLDOUT), loss=loss)
    assert found is not None
    names = {
        "slice": "group", "rows": "rows", "rows_second": "holdout_rows", "first": "loss", "second": "holdout_loss",
        "difference": "difference", "low": "low", "high": "high", "is_certain": "is_certain",
    }  # fmt: skip
    groups = found.table[[*names]].rename(columns=names).to_dict("records")
    return {"description": found.describe(subject), "loss": loss, "groups": groups}


def describe_not_compared(found: Performance) -> str:
    """Return why the errors of groups cannot be compared with those on the holdout, as a sentence."""
    if found.reference_losses is None:
        return "Not compared: the release holds no losses of holdout rows: release again with `deploy.loss_rows` > 0."
    return "Not compared: too few true values are known."


def join_blocks(first: Blocks, second: Blocks) -> Blocks:
    """Return the blocks of the rows of two tables, with the longer of their runs.

    >>> str(join_blocks(Blocks(np.array([0, 1]), "day", 2), Blocks(np.array([0, 0, 1, 2]), "day")))
    '5 days, in runs of 2'
    """
    unit = first.unit if first.unit == second.unit else f"{first.unit} or {second.unit}"
    codes = np.concatenate([first.codes, first.n_blocks + second.codes])
    return Blocks(codes, unit, max(first.length, second.length))
