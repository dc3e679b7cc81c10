"""Which columns are missing together."""

import pandas as pd

from labkit.data.stability import compute_outcome
from labkit.params.tables import Target


def find_missing_patterns(frame: pd.DataFrame, target: Target, *, most: int = 8) -> pd.DataFrame:
    """Return which columns are missing together, in how many rows, and how the target differs there.

    Returns
    -------
    pandas.DataFrame
        `missing`, `rows`, `share` (fraction of rows), `target there`, `target elsewhere` (means as in
        `labkit.data.stability.compute_outcome`; NaN where no target is known). Most frequent first, at most `most`
        rows; only patterns of at least two columns, or in at least one of a thousand rows.
    """
    missing = frame.drop(columns=target.column).isna()
    missing = missing.loc[:, missing.any()]
    outcome, lines = compute_outcome(frame, target), []
    if missing.shape[1]:
        patterns = missing.groupby(list(missing.columns), sort=False).ngroup()
        for number, rows in patterns.value_counts().head(most + 1).items():
            is_there = patterns == number
            names = [str(name) for name in missing.columns[missing[is_there].iloc[0].to_numpy()]]
            if names and (rows >= len(frame) / 1000 or len(names) > 1):
                there, elsewhere = outcome[is_there].mean(), outcome[~is_there].mean()
                lines.append([", ".join(names), rows, rows / len(frame), there, elsewhere])
    names = ["missing", "rows", "share", "target there", "target elsewhere"]
    return pd.DataFrame(lines[:most], columns=names)
