"""The background of explanations: a few training rows that predictions are compared with."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from labkit.model.release.runtime import BACKGROUND

WITHOUT_RELEASED = 20
"""Background rows of the report if the release has none."""
MOST_RANKED = 5000
"""Training rows, drawn at random, among which the background is chosen."""


def choose_background(
    rows: pd.DataFrame, predict: Callable[[pd.DataFrame], np.ndarray], *, n_rows: int, seed: int
) -> pd.DataFrame:
    """Return rows whose predictions are evenly spread in rank, the lowest prediction first.

    Their mean prediction is then close to that of all rows, however few they are. Of several classes, the probability
    that varies most is ranked.

    Parameters
    ----------
    rows
        Training rows with the raw columns that the model takes.
    predict
        Returns predictions, shape (n_rows,) or (n_rows, n_classes).
    n_rows
        At least 2; all rows if there are fewer.
    """
    drawn = rows.sample(MOST_RANKED, random_state=seed) if len(rows) > MOST_RANKED else rows
    predicted = np.asarray(predict(drawn), "float64").reshape(len(drawn), -1)
    order = np.argsort(predicted[:, predicted.var(axis=0).argmax()], kind="stable")
    n_kept = min(n_rows, len(drawn))
    return drawn.iloc[order[((np.arange(n_kept) + 0.5) * len(drawn) / n_kept).astype(int)]]


def make_background_files(rows: pd.DataFrame) -> dict[str, bytes]:
    """Return the file of a release that holds its background, by name; none for no rows."""
    if rows.empty:
        return {}
    # The values as in requests of the service, which reads them as it reads these.
    content = json.loads(rows.to_json(orient="split", index=False, date_format="iso"))
    return {BACKGROUND: f"{json.dumps(content, ensure_ascii=False)}\n".encode()}
