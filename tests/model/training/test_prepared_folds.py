"""Prepared rows of folds: made once, and only for the same preprocessing."""

import numpy as np
import pytest
from labkit.model.estimators.preprocessing import find_kinds, make_preparation
from labkit.model.training import prepared_folds
from sklearn.base import clone

from tests.model.training.real_tables import load


def test_rows_are_prepared_once_and_anew_for_other_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y_true, _ = load("breast_cancer")
    rows, known = (features.iloc[:300], features.iloc[300:]), y_true.iloc[:300]
    plain, scaled = (make_preparation(find_kinds(features), is_scaled=is_scaled) for is_scaled in (False, True))
    folds = prepared_folds.PreparedFolds()
    first = folds.prepare(0, plain, rows, known)
    assert folds.prepare(0, clone(plain), rows, known) is first
    for preparation, made in ((plain, first), (scaled, folds.prepare(0, scaled, rows, known))):
        fitted = clone(preparation).fit(rows[0], known)
        for given, prepared in zip(rows, made, strict=True):
            np.testing.assert_array_equal(fitted.transform(given), prepared)
            with pytest.raises(ValueError, match="read-only"):
                prepared[0, 0] = 1.0
    assert folds.prepare(0, plain, rows, known) is not first
    other = folds.prepare(1, plain, rows[::-1], y_true.iloc[300:])
    assert other[0].shape == first[1].shape
    monkeypatch.setattr(prepared_folds, "MOST_BYTES", sum(one.nbytes for one in (*first, *other)))
    assert folds.prepare(0, plain, rows, known) is folds.prepare(0, plain, rows, known)
    monkeypatch.setattr(prepared_folds, "MOST_BYTES", 1)
    few = prepared_folds.PreparedFolds()
    assert few.prepare(0, plain, rows, known) is not few.prepare(0, plain, rows, known)
    assert not few.kept
