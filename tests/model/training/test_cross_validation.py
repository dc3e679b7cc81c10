"""How rows are cut into folds."""

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError
from labkit.model.training.cross_validation import choose_rows, make_folds, plan_folds
from labkit.params.tables import Target
from labkit.params.training import Training

from tests.model.tables import make_timeline

CLASSES = Target(column="y", task="classification")


def test_ordered_rows_are_judged_later_than_all_that_were_learnt() -> None:
    folds = make_folds(pd.Series(np.arange(40) % 2), target=CLASSES, n_folds=3, seed=0, timeline=make_timeline(40))
    assert [len(train) for train, _ in folds] == [10, 20, 30]
    for train, test in folds:
        assert train.max() < test.min()
    assert [test.min() for _, test in folds] == [10, 20, 30]


def test_a_fold_is_fitted_only_on_outcomes_that_were_known() -> None:
    y_true = pd.Series(np.arange(40) % 2)
    timeline = make_timeline(40, delay_days=4.5)
    options = {"target": CLASSES, "n_folds": 3, "seed": 0}
    folds = make_folds(y_true, **options, timeline=timeline)
    # A row of five days before the first test row got its outcome half a day before that row.
    assert [(train.max(), test.min()) for train, test in folds] == [(5, 10), (15, 20), (25, 30)]
    timeline.known[5] = timeline.asked[11]
    assert make_folds(y_true, **options, timeline=timeline)[0][0].tolist() == [0, 1, 2, 3, 4]
    # What is known at the very moment of the question may be used; what never became known may not.
    timeline.known[5], timeline.known[3] = timeline.asked[10], np.datetime64("NaT")
    assert make_folds(y_true, **options, timeline=timeline)[0][0].tolist() == [0, 1, 2, 4, 5]


def test_folds_of_which_nothing_is_left() -> None:
    y_true = pd.Series(np.arange(40) % 2)
    folds = make_folds(y_true, target=CLASSES, n_folds=3, seed=0, timeline=make_timeline(40, delay_days=15.5))
    assert [len(train) for train, _ in folds] == [5, 15]
    training = Training(metric="roc_auc", folds=3)
    with pytest.raises(DataError, match="no fold of 40 training rows can be scored: .* known too late"):
        plan_folds(y_true, target=CLASSES, training=training, seed=0, timeline=make_timeline(40, delay_days=99))


def test_shuffled_folds_hold_equal_shares_of_classes_and_every_row_once() -> None:
    y_true = pd.Series([0] * 30 + [1] * 10)
    folds = make_folds(y_true, target=CLASSES, n_folds=5, seed=0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(40))
    assert [int(y_true.iloc[test].sum()) for _, test in folds] == [2] * 5


def test_rows_to_compare_on() -> None:
    assert choose_rows(10, 3, seed=0, is_ordered=True).tolist() == [7, 8, 9]
    drawn = choose_rows(1000, 50, seed=0, is_ordered=False)
    assert len(set(drawn)) == 50
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == choose_rows(1000, 50, seed=0, is_ordered=False).tolist()
    assert drawn.tolist() != choose_rows(1000, 50, seed=1, is_ordered=False).tolist()
    assert choose_rows(10, None, seed=0, is_ordered=False).tolist() == list(range(10))
