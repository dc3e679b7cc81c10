"""How rows are cut into folds."""

import numpy as np
import pandas as pd
from labkit.model.folds import choose_rows, make_folds
from labkit.params import Target

CLASSES = Target(column="y", task="classification")


def test_ordered_rows_are_judged_later_than_all_that_were_learnt() -> None:
    folds = make_folds(pd.Series(np.arange(40) % 2), target=CLASSES, n_folds=3, seed=0, is_ordered=True)
    assert [len(train) for train, _ in folds] == [10, 20, 30]
    for train, test in folds:
        assert train.max() < test.min()
    assert [test.min() for _, test in folds] == [10, 20, 30]


def test_shuffled_folds_hold_equal_shares_of_classes_and_every_row_once() -> None:
    truth = pd.Series([0] * 30 + [1] * 10)
    folds = make_folds(truth, target=CLASSES, n_folds=5, seed=0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(40))
    assert [int(truth.iloc[test].sum()) for _, test in folds] == [2] * 5


def test_rows_to_compare_on() -> None:
    assert choose_rows(10, 3, seed=0, is_ordered=True).tolist() == [7, 8, 9]
    drawn = choose_rows(1000, 50, seed=0, is_ordered=False)
    assert len(set(drawn)) == 50
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == choose_rows(1000, 50, seed=0, is_ordered=False).tolist()
    assert drawn.tolist() != choose_rows(1000, 50, seed=1, is_ordered=False).tolist()
    assert choose_rows(10, None, seed=0, is_ordered=False).tolist() == list(range(10))
