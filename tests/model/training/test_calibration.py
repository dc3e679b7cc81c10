"""Calibration of two-class models."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.model.estimators import candidates, preprocessing
from labkit.model.estimators.calibrated import calibrate
from labkit.model.evaluation import blocks
from labkit.model.onnx import converters, graph
from labkit.model.release.skops_file import load_model, save_model
from labkit.model.training import comparison, cross_validation
from labkit.model.training.calibration import Calibration, try_calibration
from labkit.params.tables import Target

from tests.model.tables import limit_trees, make_timeline

TARGET = Target(column="y", task="classification")
CONVERTED = (
    "lightgbm",
    "hist_gradient_boosting",
    "random_forest",
    "linear",
    "gradient_boosting",
    "naive_bayes",
    "blend",
)


def make_rows(n_rows: int, labels: tuple[object, object]) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(n_rows)
    frame = pd.DataFrame(random.normal(size=(n_rows, 4)), columns=list("abcd"))
    frame["k"] = random.choice(["x", "y"], n_rows)
    is_yes = frame["a"] + frame["b"] * (frame["k"] == "x") + random.normal(size=n_rows) > 0.5
    return frame, pd.Series(np.where(is_yes, labels[1], labels[0]))


@pytest.mark.slow
@pytest.mark.parametrize("labels", [("no", "yes"), (0, 1)])
@pytest.mark.parametrize("model", CONVERTED)
def test_calibrated_model_is_saved_and_converted(model: str, labels: tuple[object, object], tmp_path: Path) -> None:
    frame, y_true = make_rows(400, labels)
    features = RowFeatures().fit(frame)
    candidate = candidates.make_candidate(model, TARGET, preprocessing.find_kinds(frame), seed=0)
    limit_trees(candidate[-1], 30)
    calibrated = Calibration(is_used=True, reason="", slope=0.6, intercept=0.3).apply(candidate)
    rows = [(features.transform(frame), y_true)]
    fitted = comparison.fit_model(calibrated, features, rows, target=TARGET, seed=0)
    plain = comparison.fit_model(candidate, features, rows, target=TARGET, seed=0)
    expected = calibrate(plain.predict_proba(frame)[:, 1], 0.6, 0.3)
    assert fitted.predict_proba(frame)[:, 1] == pytest.approx(expected)
    assert set(fitted.predict(frame)) == set(labels)
    save_model(tmp_path / "m.skops", fitted)
    assert np.array_equal(load_model(tmp_path / "m.skops").predict_proba(frame), fitted.predict_proba(frame))
    content, parity = graph.make_graph(fitted, frame, tolerance=1e-5)
    assert parity.reason == ""
    assert content is not None
    opened = graph.Graph(converters.convert(fitted), features)
    taken = features.transform(frame)
    feeds = {
        node: taken[name].to_numpy(dtype).reshape(-1, 1)
        for (node, dtype), name in zip(opened.inputs.items(), taken, strict=True)
    }
    assert opened.session.run(None, feeds)[0].tolist() == fitted.predict(frame).tolist()


@pytest.mark.slow
def test_overconfident_model_is_calibrated_and_a_calibrated_one_left_alone() -> None:
    learn, check = make_rows(500, (0, 1)), make_rows(2000, (0, 1))
    kinds = preprocessing.find_kinds(learn[0])
    wild = candidates.make_candidate("lightgbm", TARGET, kinds, seed=0).set_params(estimator__min_child_samples=1)
    honest = candidates.make_candidate("linear", TARGET, kinds, seed=0)
    for candidate, is_used in ((wild, True), (honest, False)):
        fitted = cross_validation.fit_candidate(candidate, *learn)
        found = try_calibration(
            fitted, check, target=TARGET, seed=0, blocks=blocks.make_rows(2000), timeline=make_timeline(2000)
        )
        assert found.is_used == is_used, found.reason
    assert "log loss" in found.reason
    assert found.apply(honest) is honest


def test_reasons_why_nothing_is_calibrated() -> None:
    learn = make_rows(300, (0, 1))
    fitted = cross_validation.fit_candidate(
        candidates.make_candidate("linear", TARGET, preprocessing.find_kinds(learn[0]), seed=0), *learn
    )
    options = {"target": TARGET, "seed": 0, "blocks": blocks.make_rows(300)}
    few = (learn[0][:50], learn[1][:50])
    assert "off" in try_calibration(fitted, learn, **options, is_wanted=False).reason
    assert "fewer than 100" in try_calibration(fitted, few, **options).reason
    regression = {**options, "target": Target(column="y", task="regression")}
    assert "two classes" in try_calibration(fitted, learn, **regression).reason
