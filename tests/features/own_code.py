"""A package of the user's own, as a newcomer would write it, and its mistakes."""

from pathlib import Path

FEATURES = '''"""Features of the shop's customers."""

import numpy as np


def tenure_months(joined, left):
    """Return the months from joining to leaving; missing where either is."""
    return (left - joined) / np.timedelta64(1, "D") / 30.44


def domain(email):
    """Return the domain of each address."""
    return np.array([None if one is None else one.rpartition("@")[2].lower() for one in email], object)


def per_visit(total, visits, least=1.0):
    """Return what a visit is worth."""
    return total / np.maximum(visits, least)
'''
MISTAKES = '''"""Functions that are refused."""

from datetime import datetime

import numpy as np

NUMBERS = {}
RANDOM = np.random.default_rng(0)
CALLS = []


def centred(total):
    return total - np.nanmean(total)


def ranked(total):
    return np.argsort(np.argsort(total))


def shuffled(total):
    return total * RANDOM.random(len(total))


def seeded(total):
    return total * np.random.default_rng(0).random(len(total))


def counted(total):
    CALLS.append(1)
    return total + len(CALLS)


def numbered(email):
    return [NUMBERS.setdefault(one, len(NUMBERS)) for one in email]


def from_first_mean(total):
    NUMBERS.setdefault("mean", np.nanmean(total))
    return total - NUMBERS["mean"]


def hashed(email):
    return np.array([hash(one or "") % 1000 for one in email])


def aged(joined):
    return (np.datetime64(datetime.now()) - joined) / np.timedelta64(1, "D")


def aged_by_string(joined):
    return [(np.datetime64("today") - one) / np.timedelta64(1, "D") for one in joined]


def filled(total):
    total[np.isnan(total)] = 0.0
    return total


def short(total):
    return total[1:]


def single(total):
    return total.sum()


def table(total):
    return np.stack([total, total], axis=1)


def moment(joined):
    return joined


def ragged(total):
    return [[1.0] * (1 + row % 2) for row in range(len(total))]


def nothing_returned(total):
    total + 1


def huge(total):
    return [10**400 for one in total]


def surrogate(email):
    return np.array(["\\ud800" for one in email])


def objects(total):
    return [{"total": one} for one in total]


def picky(email):
    return np.array([len(one) for one in email])


def whole(total):
    if len(total) > 5:
        raise RuntimeError("too many")
    return total


def leaving(total):
    raise SystemExit(3)


def peeking(total):
    return total + float(open("data/shop/clean/holdout.csv").read())


def nothing():
    return 1


def several(*totals):
    return totals[0]


NUMBER = 3
'''
TRANSFORMERS = '''"""Transformers of the shop's customers, and mistakes."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class Levels(TransformerMixin, BaseEstimator):
    """Rank among the training rows, from 0 to 1, and whether a value is larger than all of them."""

    def __init__(self, steps=4):
        self.steps = steps

    def fit(self, X, y=None):
        self.edges_ = np.nanquantile(X, np.linspace(0, 1, self.steps + 1), axis=0)
        return self

    def transform(self, X):
        level = np.searchsorted(self.edges_[:, 0], X[:, 0]) / self.steps
        return np.stack([np.where(np.isnan(X[:, 0]), np.nan, level), X[:, 0] > self.edges_[-1, 0]], axis=1)


class BatchScaler(Levels):
    """Looks at the rows that it transforms."""

    def transform(self, X):
        return (X - np.nanmean(X, axis=0)) / np.nanstd(X, axis=0)


class Greedy(Levels):
    """Learns from whatever it sees."""

    def fit(self, X, y=None):
        self.largest_ = np.nanmax(X)
        return self

    def transform(self, X):
        self.largest_ = max(self.largest_, np.nanmax(X))
        return X / self.largest_


class Random(Levels):
    def fit(self, X, y=None):
        self.factor_ = np.random.default_rng().random()
        return self

    def transform(self, X):
        return X * self.factor_


class Remembering(Levels):
    """Keeps what the first one has learned."""

    MEANS = []

    def transform(self, X):
        self.MEANS.append(np.nanmean(X))
        return X / self.MEANS[0]


class NeedsTarget(Levels):
    def fit(self, X, y):
        self.mean_ = y.mean()
        return self


class Overwriting(Levels):
    def fit(self, X, y=None):
        X[np.isnan(X)] = 0.0
        return self


class Unsaved(Levels):
    def fit(self, X, y=None):
        self.rule_ = lambda values: values
        return super().fit(X)


class Leaving(Levels):
    def fit(self, X, y=None):
        raise KeyboardInterrupt


class Peeking(Levels):
    def transform(self, X):
        return X + float(open("data/shop/clean/holdout.csv").read())


class PeekingInFit(Levels):
    def fit(self, X, y=None):
        open("data/shop/clean/holdout.csv").close()
        return super().fit(X)


class NoTransform:
    def fit(self, X, y=None):
        return self


def make_levels():
    return Levels()
'''


def write_package(root: Path, name: str) -> Path:
    """Write the package into the `lib` folder of a checkout and return its folder."""
    folder = root / "lib" / name
    folder.mkdir(parents=True, exist_ok=True)
    for module, content in (("features", FEATURES), ("mistakes", MISTAKES), ("transformers", TRANSFORMERS)):
        (folder / f"{module}.py").write_text(content)
    (folder / "__init__.py").write_text("")
    return folder
