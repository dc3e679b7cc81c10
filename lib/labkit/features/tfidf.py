"""TF-IDF: words of a text column as weighted features, learned from the training rows."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.features.row_rules import Columns

LENGTH = "length"
WORD = re.compile(r"\w\w+")


def learn_words(values: np.ndarray, options: Mapping[str, Any], name: str) -> dict[str, float]:
    """Learn the words to keep and their inverse document frequencies.

    The weight is log((1 + n_rows) / (1 + n_rows_with_word)) + 1, as in scikit-learn's `TfidfTransformer`.

    Parameters
    ----------
    values
        Texts, None where missing, shape (n_rows,).
    options
        `most_words` and `fewest_rows`, as in `labkit.params.features.Text`.
    name
        Name of the column, for error messages.

    Raises
    ------
    DataError
        The column does not hold strings.
    """
    if values.dtype.kind != "O":
        raise DataError(f"features.text.{name}: does not hold text")
    n_rows = Counter(word for value in values if value is not None for word in set(find_words(value)))
    ordered = sorted(n_rows.items(), key=lambda item: (-item[1], item[0]))[: options["most_words"]]
    kept = sorted((word, rows) for word, rows in ordered if rows >= options["fewest_rows"])
    return {word: float(np.log((1 + len(values)) / (1 + rows)) + 1) for word, rows in kept}


def find_words(text: str) -> list[str]:
    """Return the words of a text in lower case.

    >>> find_words("Don't panic, I said")
    ['don', 'panic', 'said']
    """
    return WORD.findall(text.lower())


def weigh_words(values: np.ndarray, weights: Mapping[str, float], name: str) -> Columns:
    """Return the TF-IDF feature of each word, and the number of words of each text.

    Parameters
    ----------
    values
        Texts, None where missing, shape (n_rows,).
    weights
        Weight by word, from `learn_words`.
    name
        Name of the column, which begins the names of the features.

    Returns
    -------
    dict of numpy.ndarray
        float64, shape (n_rows,): the count of each word times its weight, normalized to unit length (L2) per text; and
        the number of words.
    """
    places = {word: place for place, word in enumerate(weights)}
    counts = np.zeros((len(values), len(places)))
    lengths = np.zeros(len(values))
    for row, value in enumerate(values):
        words = find_words(value) if value is not None else []
        lengths[row] = len(words)
        for word in words:
            if word in places:
                counts[row, places[word]] += 1
    weighed = counts * np.array(list(weights.values()))
    norms = np.sqrt((weighed**2).sum(axis=1, keepdims=True))
    weighed /= np.where(norms > 0, norms, 1)
    return {**{f"{name}: {word}": weighed[:, place] for word, place in places.items()}, f"{name}_{LENGTH}": lengths}
