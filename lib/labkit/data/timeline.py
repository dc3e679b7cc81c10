"""When rows were asked for and when their outcomes became known, and which outcomes were known in time.

A row must not train a model that is judged on rows asked before its outcome was known: in life that model could not
have learnt from it. Leaving such rows out is called an embargo (López de Prado, Advances in Financial Machine Learning,
2018, section 7.4).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.params.tables import Data

TIMES = (PREDICT_AT, OUTCOME_KNOWN_AT)
GROUP = "split_group"
"""Name of the split's group column beside the features: under its own name it may be a feature as well."""


@dataclass(frozen=True)
class Timeline:
    """When each of some rows was asked for and when its outcome became known.

    Attributes
    ----------
    asked, known
        `datetime64[us]` in UTC, shape (n_rows,); `asked` does not fall. NaT in `known`: not known yet.
    """

    asked: np.ndarray
    known: np.ndarray

    def take(self, rows: np.ndarray) -> "Timeline":
        """Return the timeline of some rows, given by their positions."""
        return Timeline(self.asked[rows], self.known[rows])

    def apply_embargo(self, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        """Return those of the earlier rows whose outcome was known when the first of the later ones was asked for.

        Parameters
        ----------
        earlier, later
            Positions of rows.
        """
        return earlier[self.known[earlier] <= self.asked[later].min()] if len(later) else earlier


def find_timeline(rows: pd.DataFrame) -> Timeline | None:
    """Return the timeline of rows, or None if they have no times."""
    if PREDICT_AT not in rows:
        return None
    asked, known = (pd.DatetimeIndex(rows[name]).tz_convert("UTC").tz_localize(None) for name in TIMES)
    return Timeline(asked.as_unit("us").to_numpy(), known.as_unit("us").to_numpy())


def take_labels(rows: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return what a table of features carries beside the features: the target, and times and group where declared.

    Parameters
    ----------
    rows
        Clean rows.
    """
    labels = rows[[data.target.column, *(name for name in TIMES if name in rows)]]
    return labels if data.split.group is None else labels.assign(**{GROUP: rows[data.split.group]})


def drop_labels(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the features alone, without what `take_labels` put beside them."""
    return table.drop(columns=[name for name in (data.target.column, *TIMES, GROUP) if name in table])
