"""Tuning on a real small table."""

import numpy as np
import pytest
from labkit.errors import ModelError
from labkit.model.estimators import candidates
from labkit.model.training import tuning
from labkit.model.training.comparison import compare
from labkit.model.training.selection import choose
from labkit.params.tables import Target
from labkit.params.training import Training
from sklearn.dummy import DummyClassifier

from tests.model.tables import make_timeline
from tests.model.training.real_tables import CANCER, DIABETES, load


def run(name: str, target: Target, metric: str, *, models: tuple[str, ...], trials: int = 6, seed: int = 0):
    features, y_true, _ = load(name)
    training = Training(models=models, metric=metric, folds=3, tuning_trials=trials)
    options = {"target": target, "training": training, "seed": seed, "timeline": make_timeline(len(features))}
    comparison = compare(features, y_true, **options)
    return comparison, tuning.tune(comparison, features, y_true, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [name for name in tuning.SEARCH_SPACES if name not in ("random_forest", "extra_trees")]
)
def test_first_trial_is_the_candidate_and_the_end_is_no_worse(model: str) -> None:
    for name, target, metric, sign in (("breast_cancer", CANCER, "log_loss", -1), ("diabetes", DIABETES, "r2", 1)):
        comparison, tuned = run(name, target, metric, models=(model,), trials=3)
        before = comparison.frame[metric].iloc[0]
        assert tuned.frame[metric].iloc[0] == before
        assert tuned.frame["trial"].tolist() == [0, 1, 2]
        choice = choose(comparison, tuned, metric)
        assert sign * choice.score >= sign * before
        assert choice.score == tuned.frame["best"].iloc[-1]
        assert choice.pipeline[-1].get_params().items() >= choice.settings.items()


@pytest.mark.slow
def test_trials_are_the_same_from_run_to_run() -> None:
    boards = [run("breast_cancer", CANCER, "roc_auc", models=("linear",), trials=12)[1].frame for _ in range(2)]
    assert boards[0].equals(boards[1])
    assert set(boards[0]["state"]) == {"complete", "pruned"}
    assert (boards[0].loc[boards[0]["state"] == "pruned", "folds"] < 3).all()


def test_without_trials_the_best_candidate_stays() -> None:
    for models, trials in ((("linear", "dummy"), 0), (("naive_bayes", "dummy"), 5)):
        comparison, tuned = run("breast_cancer", CANCER, "roc_auc", models=models, trials=trials)
        assert tuned.frame.empty
        assert choose(comparison, tuned, "roc_auc").model == models[0]


class Picky(DummyClassifier):
    """An estimator that takes no settings but its own."""

    def __init__(self, C: float = 1.0) -> None:
        super().__init__(strategy="prior")
        self.C = C

    def fit(self, X: object, y: object, sample_weight: object = None) -> "Picky":
        if self.C != 1.0:
            raise ModelError(f"C is {self.C > 1}")
        return super().fit(X, y)


def test_failed_trials_stay_with_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (lambda seed: Picky(), None))
    comparison, tuned = run("breast_cancer", CANCER, "roc_auc", models=("linear",), trials=3)
    assert tuned.frame["state"].tolist() == ["complete", "failed", "failed"]
    assert tuned.frame["error"].str.startswith("ModelError: C is ").tolist() == [False, True, True]
    assert tuned.best == 0
    assert np.isnan(tuned.frame["roc_auc"].iloc[1])
    assert choose(comparison, tuned, "roc_auc").settings == {}
