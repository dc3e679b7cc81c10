"""Rows of folds behind the preprocessing of a candidate, which is the same for all trials and for many candidates."""

from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

MOST_BYTES = 256_000_000
"""Memory that the prepared rows of all folds may take in one process."""

Prepared = tuple[np.ndarray, np.ndarray]
"""The training and the test rows of a fold, of shapes (n_training, n_columns) and (n_test, n_columns)."""


class PreparedFolds:
    """The prepared rows of each fold for the preprocessing that was used last."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[bytes, Prepared]] = {}

    def prepare(
        self, number: int, preparation: Any, rows: tuple[pd.DataFrame, pd.DataFrame], y_true: pd.Series
    ) -> tuple[Any, Any]:
        """Return the training and the test rows of a fold, prepared by what is learned from the training rows.

        Arrays that are kept cannot be written to: an estimator that tried to would fail.

        Parameters
        ----------
        number
            Number of the fold.
        preparation
            Unfitted preprocessing.
        rows
            Features of the training and of the test rows.
        y_true
            True values of the training rows.
        """
        key = bytes(ForkingPickler.dumps(preparation))  # as it is sent to a process; it is only compared
        known, found = self.kept.get(number, (b"", None))
        if found is not None and known == key:
            return found
        self.kept.pop(number, None)
        fitted = clone(preparation)
        training = fitted.fit_transform(rows[0], y_true)
        made = training, fitted.transform(rows[1])
        arrays = [one for one in made if isinstance(one, np.ndarray)]
        taken = sum(one.nbytes for _, parts in self.kept.values() for one in parts)
        if len(arrays) == len(made) and taken + sum(one.nbytes for one in arrays) <= MOST_BYTES:
            for one in arrays:
                one.setflags(write=False)
            self.kept[number] = key, made
        return made
