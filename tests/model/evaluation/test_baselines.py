"""What the model is compared with, and what it relies on."""

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation import baselines, importance, metrics
from labkit.model.evaluation.predictions import compute_predictions
from labkit.params.tables import Target

from tests.model.tables import TASKS, make_model, make_new_rows, make_table, make_target


def make_frame(task: str) -> pd.DataFrame:
    """Return the mixed table with a time and a target."""
    frame = make_table().assign(when=pd.date_range("2024-01-01", periods=200, tz="UTC"))
    score = frame["a b"].fillna(0) + frame["a_b"] / 1000
    predictions = {"binary": score > 0, "multiclass": np.digitize(score, [-0.5, 0.5]), "regression": score * 100}
    return frame.assign(outcome=predictions[task])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_plain_lightgbm_takes_raw_rows_as_they_come(task: str) -> None:
    frame, target = make_frame(task), make_target(task)
    names = [name for name in frame if name != "outcome"]
    plain = baselines.fit_plain_lightgbm(frame, names, target=target, seed=0)
    dummy = baselines.fit_dummies(frame, target=target)["mae" if task == "regression" else "log_loss"]
    assert plain is not None
    assert "when" not in plain.kinds
    found = [compute_predictions(frame["outcome"], one, frame, target) for one in (plain, dummy)]
    metric = "mae" if task == "regression" else "log_loss"
    assert metrics.compute_metric(metric, found[0]) < metrics.compute_metric(metric, found[1])
    later = plain.predict(make_new_rows().assign(when=None))
    assert len(later) == 60


def test_no_column_besides_times_gives_no_plain_lightgbm() -> None:
    frame = make_frame("regression")
    assert baselines.fit_plain_lightgbm(frame, ["when"], target=make_target("regression"), seed=0) is None
    assert baselines.fit_plain_lightgbm(frame, [], target=make_target("regression"), seed=0) is None


def test_unseen_category_counts_as_missing() -> None:
    frame = make_frame("regression")
    plain = baselines.fit_plain_lightgbm(frame, ["größe", "a b"], target=make_target("regression"), seed=0)
    assert plain is not None
    unseen, missing = frame.assign(**{"größe": "never"}), frame.assign(**{"größe": None})
    np.testing.assert_array_equal(plain.predict(unseen), plain.predict(missing))


@pytest.mark.slow
def test_importance_finds_what_the_target_is_made_of() -> None:
    frame = make_table()
    frame["outcome"] = (frame["a b"].fillna(0) + frame["a_b"] / 1000 + 2 * (frame["größe"] == "rot")) * 100
    target = Target(column="outcome", task="regression")
    model = make_model("lightgbm", "regression")
    options = {"target": target, "most_rows": 150, "confidence": 0.95, "seed": 0}
    found = importance.compute_importance(model, frame, "mae", **options)  # type: ignore[arg-type]
    assert set(found["column"]) == set(model[0].outputs_)
    assert set(found["column"].head(3)) == {"a b", "a_b", "größe"}
    assert (found["low"] <= found["loss"]).all()
    pd.testing.assert_frame_equal(found, importance.compute_importance(model, frame, "mae", **options))  # type: ignore[arg-type]
