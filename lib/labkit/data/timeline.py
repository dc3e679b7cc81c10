"""When predictions were requested and outcomes became known, and which outcomes were known in time.

A row must not train a model that is evaluated on rows whose prediction was requested before its outcome was known: in
production, that model could not have learned from it. Leaving such rows out is called an embargo (López de Prado,
Advances in Financial Machine Learning, 2018, section 7.4).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.params.tables import Data

TIMES = (PREDICT_AT, OUTCOME_KNOWN_AT)
GROUP = "split_group"
"""Name of the split's group column next to the features: under its own name it may also be a feature."""


@dataclass(frozen=True)
class Timeline:
    """When the prediction for each row was requested and when its outcome became known.

    Attributes
    ----------
    asked, known
        `datetime64[us]` in UTC, shape (n_rows,). `asked` is in ascending order; NaT in `known` means not known yet.
    """

    asked: np.ndarray
    known: np.ndarray

    def take(self, rows: np.ndarray) -> "Timeline":
        """Return the timeline of some rows, given by their positions."""
        return Timeline(self.asked[rows], self.known[rows])

    def apply_embargo(self, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        """Return the earlier rows whose outcome was known when the first prediction of the later ones was requested.

        Parameters
        ----------
        earlier, later
            Positions of rows, shapes (n_earlier,) and (n_later,). Without later rows, all earlier ones are returned.
        """
        return earlier[self.known[earlier] <= self.asked[later].min()] if len(later) else earlier


def find_timeline(rows: pd.DataFrame) -> Timeline | None:
    """Return the timeline of rows, or None if no times are declared."""
    if PREDICT_AT not in rows:
        return None
    asked, known = (pd.DatetimeIndex(rows[name]).tz_convert("UTC").tz_localize(None) for name in TIMES)
    return Timeline(asked.as_unit("us").to_numpy(), known.as_unit("us").to_numpy())


def take_labels(rows: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the columns stored next to the features: the target, and times and group where declared.

    Parameters
    ----------
    rows
        Cleaned rows, shape (n_rows, n_columns).
    """
    labels = rows[[data.target.column, *(name for name in TIMES if name in rows)]]
    return labels if data.split.group is None else labels.assign(**{GROUP: rows[data.split.group]})


def drop_labels(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the features only, without the columns that `take_labels` adds."""
    return table.drop(columns=[name for name in (data.target.column, *TIMES, GROUP) if name in table])
