"""Checks of new features."""

from typing import Any

import numpy as np
import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.model.training.ablation import COLUMNS, Ablation
from labkit.model.training.feature_checks import check_families, check_range, find_raw_copies, list_feature_checks

RANDOM = np.random.default_rng(0)
NONE = Ablation("r2", 100, pd.DataFrame(columns=COLUMNS))


def make_rows(first: str, n_rows: int = 200) -> pd.DataFrame:
    """Return rows of following days with two columns and one that almost is their ratio."""
    times = pd.date_range(first, periods=n_rows, freq="12h", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"at": times, "total": RANDOM.uniform(1, 5, n_rows), "high": RANDOM.uniform(1, 2, n_rows)})
    return frame.assign(known_ratio=(frame["total"] / frame["high"]).round(1), hue=RANDOM.choice(["a", "b"], n_rows))


def fit(rows: pd.DataFrame, **declared: Any) -> tuple[RowFeatures, pd.DataFrame]:
    found = RowFeatures(**{"most_categories": 30, "fewest_rows": 1, "drop": ["at"], **declared}).fit(rows)
    return found, found.transform(rows)


def test_new_column_that_repeats_a_raw_one_is_named() -> None:
    training = make_rows("2024-01-01")
    declared = {"ratio": "total / high", "size": "log(known_ratio)", "product": "total * high"}
    row_features, made = fit(training, expressions=declared)
    found = find_raw_copies(row_features, made)
    assert list(found) == ["ratio"], "the logarithm of one column is no copy that was not meant"
    assert found["ratio"][0] == "known_ratio"
    assert found["ratio"][1] > 0.99
    (check,) = [one for one in list_feature_checks(row_features, made, made, NONE, found) if one.code == "LK303"]
    assert (check.status, check.evidence[:43]) == ("warning", "ratio and known_ratio (rank correlation 0.9")
    hidden, made = fit(training, expressions=declared, drop=["at", "known_ratio"])
    assert find_raw_copies(hidden, made) == {}, "the model does not see the raw column"


def test_new_columns_outside_their_range_in_training_are_named() -> None:
    training, validation = make_rows("2024-01-01"), make_rows("2024-05-01", 40)
    parts = {"at": {"zone": "UTC", "parts": ["day_of_year", "weekday"]}}
    row_features, made = fit(training, columns={"dates": parts})
    checked = row_features.transform(validation)
    results = {one.code: one for one in list_feature_checks(row_features, made, checked, NONE, {})}
    assert results["LK302"].status == "warning"
    assert results["LK302"].evidence == (
        "at_day_of_year: 100 % of validation rows (122 to 141; training: 1 to 100)"
    )  # fmt: skip
    assert [results[code].status for code in ("LK301", "LK303")] == ["not applicable", "passed"]
    assert check_range(made[["at_weekday"]], checked[["at_weekday"]]).status == "passed"


def test_families_that_do_harm_are_counted_and_named() -> None:
    lines = [["dates", 3, 0.5, 0.55, -0.05, -0.08, -0.02], ["planes", 2, 0.5, 0.4, 0.1, 0.05, 0.15]]
    found = check_families(Ablation("roc_auc", 900, pd.DataFrame(lines, columns=COLUMNS)))
    assert found.status == "warning"
    assert (
        found.evidence
        == "roc_auc on validation rows is worse beyond random variation with 1 of 2 families than without: dates (by 0.0500)"
    )
    assert check_families(Ablation("roc_auc", 900, pd.DataFrame(lines[1:], columns=COLUMNS))).status == "passed"


def test_nothing_is_checked_without_new_columns() -> None:
    row_features, made = fit(make_rows("2024-01-01"))
    results = list_feature_checks(row_features, made, made, NONE, find_raw_copies(row_features, made))
    assert [(one.code, one.status) for one in results] == [
        (code, "not applicable") for code in ("LK301", "LK302", "LK303")
    ]
