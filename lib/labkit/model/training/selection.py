"""Selection of the candidate that becomes the model, its hyperparameters, and the reason."""

from dataclasses import dataclass, replace
from typing import Any

from sklearn.pipeline import Pipeline

from labkit.model.evaluation import metrics
from labkit.model.training.calibration import Calibration
from labkit.model.training.comparison import Comparison
from labkit.model.training.tuning import Tuning
from labkit.params.training import DUMMY, Training


@dataclass(frozen=True)
class Choice:
    """The chosen candidate.

    Attributes
    ----------
    pipeline
        Unfitted pipeline of preprocessing and estimator.
    score, deviation
        Mean and standard deviation of the metric over the folds.
    settings
        Hyperparameters found by tuning; empty if the candidate was not changed.
    reason
        Explanation in one sentence.
    dummy
        Mean of the metric for the best constant prediction in the same folds; None if it was not a candidate or failed.
    """

    model: str
    source: str
    pipeline: Pipeline
    metric: str
    score: float
    deviation: float
    settings: dict[str, Any]
    reason: str
    dummy: float | None = None

    @property
    def beats_dummy(self) -> bool:
        """Whether the mean is better than that of the best constant prediction; True if that mean is unknown."""
        if self.dummy is None:
            return True
        return self.score > self.dummy if metrics.is_greater_better(self.metric) else self.score < self.dummy

    def to_dict(self, calibration: Calibration, training: Training, *, validation: float) -> dict[str, Any]:
        """Return the choice as plain data, with the result of the calibration and whether the run is reproducible.

        Parameters
        ----------
        validation
            The metric on the validation rows, of the candidate fitted without them.
        """
        name = self.metric
        scores = {f"cv_{name}": self.score, f"cv_{name}_std": self.deviation, f"validation_{name}": validation}
        return {
            "model": self.model,
            "source": self.source,
            "scores": scores,
            "settings": self.settings,
            "reason": self.reason,
            "beats_dummy": self.beats_dummy,
            "is_reproducible": training.budget_seconds is None,
            "calibration": calibration.to_dict(),
        }


def choose(comparison: Comparison, tuning: Tuning, metric: str) -> Choice:
    """Return the candidate with the best mean over the folds, tuned or not; never the dummy."""
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
        describe_lead(comparison),
        dummy=find_dummy(comparison, metric),
    )
    chosen = choose_settings(as_it_was, comparison, tuning, metric)
    if not chosen.beats_dummy:
        reason = (
            f"none is better than the dummy, whose mean is {chosen.dummy:.4g}; {chosen.model} is the best of the rest"
        )
        return replace(chosen, reason=reason)
    return chosen


def describe_lead(comparison: Comparison) -> str:
    """Return why the best candidate is chosen unless tuning finds a better one."""
    rivals = comparison.frame.loc[~comparison.frame["model"].isin([DUMMY, comparison.best]), "error"]
    if (rivals == "").any():
        return "it has the best mean of all candidates in the folds; nothing was tuned"
    return f"it is the only candidate{' that could be fitted' * bool(len(rivals))}; nothing was tuned"


def find_dummy(comparison: Comparison, metric: str) -> float | None:
    """Return the dummy's mean over the folds; None if it was not a candidate or failed."""
    rows = comparison.frame[(comparison.frame["model"] == DUMMY) & (comparison.frame["error"] == "")]
    return float(rows[metric].iloc[0]) if len(rows) else None


def choose_settings(as_it_was: Choice, comparison: Comparison, tuning: Tuning, metric: str) -> Choice:
    """Return the best candidate unchanged, or the result of the best trial if that has a better mean."""
    if tuning.frame.empty:
        return as_it_was
    board = comparison.frame.set_index("model")
    found: dict[Any, Any] = tuning.frame.iloc[tuning.best].to_dict()
    sign = 1 if metrics.is_greater_better(metric) else -1
    gain = sign * (float(found[metric]) - as_it_was.score)
    if tuning.best == 0 or gain <= 0:
        reason = f"none of {len(tuning.frame)} trials of {tuning.model} did better in the same folds"
        return replace(as_it_was, reason=reason)
    score, deviation = float(found[metric]), float(found[f"{metric}_std"])
    reason = f"trial {tuning.best} of {len(tuning.frame)} did better by {gain:.2g} than any candidate in the same folds"
    source = str(board.loc[tuning.model, "source"])
    tuned = (tuning.model, source, tuning.candidate, metric, score, deviation, tuning.settings, reason)
    return Choice(*tuned, dummy=as_it_was.dummy)
