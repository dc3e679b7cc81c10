"""Families of features: how they are made, what they are worth, and features that no raw column shows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.timeline import take_labels
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.model.evaluation import families, importance
from labkit.model.evaluation.largest_errors import list_largest_errors, take_identifiers
from labkit.model.evaluation.predictions import Predictions
from labkit.model.training import ablation, comparison
from labkit.params.experiment import Params
from labkit.params.wrangling import Wrangling
from labkit.view.family_plots import describe_ablation, plot_ablation

N = 900


def make_params(**changes: Any) -> Params:
    """Return params with joined tables, dates, an expression and a history."""
    data = {
        "tables": {
            "trips": {"path": "t.csv", "times": ("at",)},
            "weather": {"path": "w.csv"},
            "planes": {"path": "p.csv"},
        },
        "joins": (
            {"table": "weather", "keys": {"place": "place"}, "prefix": "weather_", "columns": ("wind",)},
            {"table": "planes", "keys": {"plane": "plane"}, "prefix": "plane_"},
        ),
        "time": {"predict_at": "at", "outcome_known_at": "at + hours(1)"},
        "target": {"column": "late", "task": "regression"},
    }
    features = {
        "dates": {"at": {"parts": ("hour",)}},
        "expressions": {"gust": "weather_wind * 2"},
        "history": {"all": {"keys": (), "days": (1,)}},
    }
    content = {"experiment": "trips", "seed": 0, "data": data, "features": features} | {
        "eda": {},
        "wrangling": {},
        "deploy": {},
    }
    content |= {"training": {"metric": "mae", "models": ("dummy", "linear")}, "evaluation": {}}
    return Params.model_validate(content | changes)


def make_rows() -> pd.DataFrame:
    """Return rows whose target follows the day, which only the history knows, and the wind."""
    random = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=N, freq="h", tz="UTC").as_unit("us")
    day = random.normal(size=N // 24 + 1)[np.arange(N) // 24]
    frame = pd.DataFrame({"at": times, "distance": random.normal(size=N), "weather_wind": random.normal(size=N)})
    frame = frame.assign(plane_age=random.normal(size=N), late=3 * day + frame["weather_wind"])
    times_of = {PREDICT_AT: times, OUTCOME_KNOWN_AT: times + pd.Timedelta("1h")}
    return frame.assign(**times_of).rename_axis(index="row")


def fit(params: Params) -> tuple[RowFeatures, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return fitted features, those of training and validation rows with labels, and the raw validation rows."""
    rows = make_rows()
    training, validation = rows.iloc[:600], rows.iloc[600:]
    row_features = RowFeatures.from_params(params).fit(training.drop(columns="late"), training["late"])
    row_features.observe(validation)
    made = [row_features.transform(part).join(take_labels(part, params.data)) for part in (training, validation)]
    return row_features, made[0], made[1], validation


def test_families_follow_the_declarations() -> None:
    params = make_params()
    row_features, *_ = fit(params)
    assert families.find_families(row_features, params.data) == {
        "trips": ["distance"],
        "weather": ["weather_wind"],
        "planes": ["plane_age"],
        "expressions": ["gust"],
        "dates": ["at_hour"],
        "history": ["all_rate_1d", "all_count_1d"],
    }


@pytest.mark.slow
def test_ablation_shows_what_a_family_adds_with_its_interval() -> None:
    params = make_params()
    row_features, learn, check, _ = fit(params)
    found = ablation.compare_families(row_features, learn, check, params.data, seed=0)
    assert (found.metric, found.n_rows) == ("r2", 300)
    lines = found.families.set_index("family")
    assert lines.loc["history", "low"] > 0
    assert lines.loc["history", "gain"] == pytest.approx(lines.loc["history", "with"] - lines.loc["history", "without"])
    assert lines.loc["planes", "low"] <= 0
    assert lines.loc["weather", "gain"] < 0.1, "the expression holds the same"
    assert describe_ablation(found, "history").startswith(
        "With history, the r2 of LightGBM with its defaults on the validation rows is better by "
    )
    assert describe_ablation(found, "nothing") == ""
    label = plot_ablation(found).get_label()
    assert "LightGBM with its defaults on all features against one without each family" in label
    n_sure = int((found.families["low"] > 0).sum())
    assert f"{n_sure} of {len(found.families)} families {'improves' if n_sure == 1 else 'improve'} r2" in label


def test_families_that_do_harm_are_named() -> None:
    lines = pd.DataFrame(
        {
            "family": ["dates", "weather", "all new columns"],
            "features": [3, 9, 5],
            "gain": [-0.014, 0.05, -0.01],
            "low": [-0.024, 0.01, -0.03],
            "high": [-0.005, 0.09, 0.01],
        }
    )
    found = ablation.Ablation("roc_auc", 900, lines)
    assert describe_ablation(found).endswith(" Beyond random variation it is worse with `dates` than without.")
    assert "1 of 3 families improves roc_auc" in plot_ablation(found).get_label()
    assert plot_ablation(found).get_label().endswith("It is worse with dates than without (orange).")
    assert "worse" not in plot_ablation(ablation.Ablation("roc_auc", 900, lines[1:])).get_label()


def test_nothing_is_compared_where_no_family_can_be_left_out() -> None:
    params = make_params(features={"drop": ("at", "weather_wind", "plane_age")})
    row_features, learn, check, _ = fit(params)
    found = ablation.compare_families(row_features, learn, check, params.data, seed=0)
    assert found.families.empty
    assert "no family of features to leave out" in plot_ablation(found).get_label()


@pytest.mark.slow
def test_importance_sees_a_history_without_keys_and_whole_families() -> None:
    params = make_params()
    row_features, learn, _, validation = fit(params)
    features, target = learn[[*row_features.outputs_]], params.data.target
    model = comparison.fit_model("lightgbm", row_features, [(features, learn["late"])], target=target, seed=0)
    options: dict[str, Any] = {"target": target, "most_rows": 5000, "confidence": 0.95, "seed": 0}
    alone = importance.compute_importance(model, validation, "mae", **options)
    assert "all_rate_1d" in alone["column"].head(3).tolist()
    by_family = families.find_families(row_features, params.data)
    together = importance.compute_importance(model, validation, "mae", **options, families=by_family)
    assert set(together["column"]) == set(by_family)
    assert together["column"].iloc[0] == "history"
    both = {"wind": ["weather_wind", "gust"]}
    hidden = alone.set_index("column").loc[both["wind"], "loss"].max()
    assert importance.compute_importance(model, validation, "mae", **options, families=both)["loss"][0] > hidden


def test_rows_with_the_largest_errors_show_what_identifies_them_and_what_mattered() -> None:
    n_rows = 60
    rows = pd.DataFrame({"ticket": [f"T{number:05d}" for number in range(n_rows)], "size": np.arange(n_rows) * 1.5})
    y_proba = np.full((n_rows, 2), 0.5)
    y_proba[7] = [0.99, 0.01]
    predictions = Predictions.from_proba(np.ones(n_rows, dtype=int), y_proba, ("no", "yes"))
    found = list_largest_errors(predictions, rows, rows[["size"]].assign(rate=0.25), ["rate", "size", "gone"], most=2)
    assert found.index.name == "row"
    assert list(found) == ["ticket", "true", "prediction", "loss", "rate", "size"]
    first = found.iloc[0]
    assert (found.index[0], first["ticket"], first["true"], first["prediction"]) == (7, "T00007", "yes", 0.01)
    assert (first["rate"], first["size"]) == (0.25, 10.5)
    main = pd.DataFrame({"invoice": np.arange(len(rows)) + 70_000.0, "size": 1.0}, index=rows.index)
    dropped = {"invoice": "an identifier", "gone": "an identifier", "size": "constant"}
    declared = take_identifiers(main, rows, Wrangling(drop=dropped))
    found = list_largest_errors(predictions, rows, rows[["size"]], ["size"], declared=declared, most=2)
    assert list(found) == ["invoice", "true", "prediction", "loss", "size"]
    assert found["invoice"].iloc[0] == "70007"
    for missing in (None, np.nan, pd.NA):
        declared = declared.astype(object).assign(invoice=missing)
        found = list_largest_errors(predictions, rows, rows[["size"]], ["size"], declared=declared, most=2)
        assert found["invoice"].tolist() == ["missing", "missing"]
