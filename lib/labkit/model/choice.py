"""Which candidate becomes the model, with which settings, and why."""

from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import Pipeline

from labkit.model import metrics
from labkit.model.automl import Comparison
from labkit.model.calibration import Calibration
from labkit.model.tuning import Tuning
from labkit.params import Training


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Attributes
    ----------
    pipeline
        Unfitted: preparation and estimator.
    figure, deviation
        Mean and standard deviation of the metric over the folds.
    settings
        What tuning found; empty if the candidate stays as it was.
    reason
        One sentence for people.
    """

    model: str
    source: str
    pipeline: Pipeline
    metric: str
    figure: float
    deviation: float
    settings: dict[str, Any]
    reason: str

    def to_dict(self, calibration: Calibration, training: Training) -> dict[str, Any]:
        """Return it as plain data, with what became of the calibration, and whether another run must find the same."""
        figures = {self.metric: self.figure, f"{self.metric}_std": self.deviation}
        return {
            "model": self.model,
            "source": self.source,
            "figures": figures,
            "settings": self.settings,
            "reason": self.reason,
            "is_reproducible": training.budget_seconds is None,
            "calibration": calibration.to_dict(),
        }


def choose(comparison: Comparison, tuning: Tuning, metric: str) -> Choice:
    """Return the candidate with the best figure in the folds, as it was or tuned."""
    board = comparison.frame.set_index("model")
    best: dict[Any, Any] = board.loc[comparison.best].to_dict()
    as_it_was = Choice(
        comparison.best,
        str(best["source"]),
        comparison.candidates[comparison.best],
        metric,
        float(best[metric]),
        float(best[f"{metric}_std"]),
        {},
        "it has the best figure of all candidates, and nothing was tuned",
    )
    if tuning.frame.empty:
        return as_it_was
    found: dict[Any, Any] = tuning.frame.iloc[tuning.best].to_dict()
    sign = 1 if metrics.is_greater_better(metric) else -1
    gain = sign * (float(found[metric]) - as_it_was.figure)
    if tuning.best == 0 or gain <= 0:
        reason = f"none of {len(tuning.frame)} trials of {tuning.model} did better in the same folds"
        return Choice(**{**vars(as_it_was), "reason": reason})
    figure, deviation = float(found[metric]), float(found[f"{metric}_std"])
    reason = f"trial {tuning.best} of {len(tuning.frame)} did better by {gain:.2g} than any candidate in the same folds"
    source = str(board.loc[tuning.model, "source"])
    return Choice(tuning.model, source, tuning.candidate, metric, figure, deviation, tuning.settings, reason)
