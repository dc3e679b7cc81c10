"""Which rows to ask annotators about, and in which order.

Rows of which the model is least sure teach it most, but tell nothing of how often it is right: on rows chosen by
uncertainty, classes and errors are more frequent than elsewhere. So a share of every queue is drawn at random: the next
rows in one random order of all rows. Quality is measured on the labelled rows at the beginning of that order, whether
they were drawn at random or chosen earlier; those drawn at random alone would lack the chosen ones. On flights, with
3,000 labels, a fifth at random beside the least certain was better than either alone (Settles, Active Learning
Literature Survey, 2009, on the methods).
"""

import hashlib
from collections.abc import Collection
from enum import StrEnum

import numpy as np
import pandas as pd

from labkit.errors import DataError, ParamsError, list_briefly

LEAST_RANDOM_SHARE = 0.2
KEY, DRAWN, SCORE = "key", "drawn", "score"


class Drawn(StrEnum):
    """How a row came into a queue."""

    RANDOM = "random"
    UNCERTAINTY = "uncertainty"
    DISAGREEMENT = "disagreement"
    BULK = "bulk"


def make_queue(
    keys: pd.Series,
    *,
    n_rows: int,
    seed: int,
    proba: np.ndarray | None = None,
    other_proba: np.ndarray | None = None,
    random_share: float = LEAST_RANDOM_SHARE,
    done: Collection[str] = (),
) -> pd.DataFrame:
    """Return the rows to ask about.

    Parameters
    ----------
    keys
        Key of each row, shape (n,): unique, none missing.
    n_rows
        Length of the queue; fewer if fewer rows are left.
    proba
        Probabilities of a model for each row, shape (n, n_classes); None to draw all rows at random.
    other_proba
        Probabilities of a second model: rows are then chosen by how far the two differ (total variation distance), not
        by how small the margin between the two most probable classes is.
    random_share
        Share of rows drawn at random, at least a fifth: the first in the random order that are left.
    done
        Keys that are left out.

    Returns
    -------
    pandas.DataFrame
        Random and chosen rows mixed: `key` as string, `drawn`, and `score`, the reason for which a row was chosen, from
        0 to 1; missing where drawn at random. Its index holds the positions of the rows.

    Raises
    ------
    ParamsError
        A number is out of range.
    DataError
        A key is missing or occurs twice, or probabilities are those of other rows.
    """
    if n_rows < 1:
        raise ParamsError(f"n_rows: {n_rows} is not a length: use 1 or more")
    if not LEAST_RANDOM_SHARE <= random_share <= 1:
        raise ParamsError(
            f"random_share: {random_share:g} is not between {LEAST_RANDOM_SHARE:g} and 1: "
            "without rows drawn at random, quality could not be measured"
        )
    names, random = check_keys(keys), np.random.default_rng(seed)
    is_done = names.isin({*map(str, done)}).to_numpy()
    in_order = order_at_random(names, seed)
    left = in_order[~is_done[in_order]]
    n_rows = min(n_rows, len(left))
    scores = measure_uncertainty(proba, other_proba, len(names))
    n_random = n_rows if scores is None else int(np.ceil(round(random_share * n_rows, 9)))
    drawn, rest = left[:n_random], np.sort(left[n_random:])
    reason = Drawn.UNCERTAINTY if other_proba is None else Drawn.DISAGREEMENT
    chosen = np.array([], dtype=int)
    if scores is not None:
        # Among equal scores at random, and independent of the random order, whose beginning would be biased otherwise.
        shuffled = random.permutation(rest)
        chosen = shuffled[np.argsort(-scores[shuffled], kind="stable")][: n_rows - n_random]
    places = np.concatenate([drawn, chosen]).astype(int)
    kinds = [Drawn.RANDOM.value] * len(drawn) + [reason.value] * len(chosen)
    found = [np.nan] * len(drawn) + ([] if scores is None else scores[chosen].tolist())
    table = pd.DataFrame({KEY: names.iloc[places].to_numpy(), DRAWN: kinds, SCORE: found}, index=places)
    # Mixed, but the rows drawn at random stay in their order.
    mixed = np.argsort(random.permutation([0] * len(drawn) + [1] * len(chosen)), kind="stable")
    return table.iloc[np.argsort(mixed)]


def order_at_random(keys: pd.Series, seed: int) -> np.ndarray:
    """Return the positions of rows in a random order, shape (n,); added or moved rows leave the order of others.

    >>> [order_at_random(pd.Series(keys), 0).tolist() for keys in (["a", "b", "c"], ["c", "b", "a"])]
    [[2, 0, 1], [0, 2, 1]]
    """
    digests = [hashlib.blake2b(f"{seed} {key}".encode(), digest_size=16).digest() for key in keys]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=int)


def check_keys(keys: pd.Series) -> pd.Series:
    """Return keys as strings.

    Raises
    ------
    DataError
        One is missing or occurs twice.
    """
    if keys.isna().any():
        raise DataError(
            f"key {keys.name!r}: {int(keys.isna().sum()):,} rows have none: choose a column without missing values"
        )
    names = pd.Series([str(key) for key in keys], name=keys.name, dtype=object)
    if twins := names[names.duplicated()].unique().tolist():
        raise DataError(f"key {keys.name!r}: not unique: {list_briefly(twins)}: a label would belong to several rows")
    return names


def measure_uncertainty(proba: np.ndarray | None, other: np.ndarray | None, n_rows: int) -> np.ndarray | None:
    """Return why to ask about each row, from 0 to 1, shape (n,); None without a model.

    >>> measure_uncertainty(np.array([[0.5, 0.5], [0.9, 0.1]]), None, 2).round(2).tolist()
    [1.0, 0.2]
    >>> measure_uncertainty(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]]), 1).tolist()
    [0.75]
    """
    if proba is None:
        return None
    for one in (proba, other):
        if one is not None and (one.ndim != 2 or one.shape != proba.shape or len(one) != n_rows):
            raise DataError(f"probabilities of shape {one.shape} do not belong to {n_rows:,} rows of the same classes")
    if other is not None:
        return np.asarray(np.abs(proba - other).sum(axis=1) / 2)
    first_two = np.sort(proba, axis=1)[:, -2:]
    return np.asarray(1 - (first_two[:, 1] - first_two[:, 0]))
