"""What a table is like, column by column."""

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.profile import correlate_ranks, find_pairs, profile_table, score_column
from labkit.errors import DataError
from labkit.features.table_columns import find_column_kind
from labkit.params.tables import Target

N = 240


def make_table() -> pd.DataFrame:
    """Return a table in which every kind of fault stands once."""
    random = np.random.default_rng(0)
    size = random.normal(size=N)
    labels = np.where(size + random.normal(size=N) / 3 > 0, "yes", "no")
    return pd.DataFrame(
        {
            "size": size,
            "copy": size * -2 + 1,
            "noise": random.normal(size=N),
            "leak": np.where(labels == "yes", "paid", "open"),
            "same": "x",
            "nothing": pd.Series([None] * N, dtype="float64"),
            "key": [f"id{row}" for row in range(N)],
            "sparse": np.where(np.arange(N) % 2 == 0, np.nan, random.normal(size=N)),
            "infinite": np.where(np.arange(N) == 3, np.inf, random.normal(size=N)),
            "when": pd.date_range("2013-01-01", periods=N),
            "flag": random.random(N) < 0.5,
            "outcome": labels,
        }
    )


TARGET = Target(column="outcome", task="classification", positive="yes")


def test_profile_describes_every_column() -> None:
    table = make_table()
    profile = profile_table(table, TARGET, seed=0).set_index("column")
    assert list(profile.index) == list(table)
    kinds = {"number": 6, "category": 4, "time": 1, "boolean": 1}
    assert profile["kind"].value_counts().to_dict() == kinds
    assert profile.loc["sparse", "missing_share"] == 0.5
    assert profile.loc["key", "distinct"] == N
    assert profile.loc["when", "smallest"].startswith("2013-01-01")
    assert profile.loc["size", "mean"] == pytest.approx(table["size"].mean())
    assert np.isnan(profile.loc["outcome", "score"])
    assert profile.loc["leak", "score"] > 0.95
    assert 0.1 < profile.loc["size", "score"] < 0.9
    assert profile.loc["noise", "score"] < 0.1
    assert (profile["score"].dropna() >= 0).all()


@pytest.mark.filterwarnings("error")
def test_profile_is_deterministic_and_quiet() -> None:
    table = make_table().drop(columns="infinite")
    first, second = (profile_table(table, TARGET, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_score_for_regression_and_for_a_target_that_cannot_be_scored() -> None:
    table = make_table().assign(price=lambda frame: frame["size"] * 3, one="x")
    price = profile_table(table, Target(column="price", task="regression"), seed=0).set_index("column")
    assert price.loc["size", "score"] > 0.9
    assert price.loc["noise", "score"] == 0
    one = profile_table(table, Target(column="one", task="classification"), seed=0)
    assert one["score"].isna().all()


def test_a_number_to_predict_must_be_a_number() -> None:
    target = Target(column="outcome", task="regression")
    with pytest.raises(
        DataError, match=r"target 'outcome' holds '\w+', not numbers: set data\.target\.task: classification"
    ):
        profile_table(make_table(), target, seed=0)


def test_pairs_strongest_first() -> None:
    x = np.arange(50.0)
    table = pd.DataFrame({"x": x, "y": x**3, "z": np.where(x == 49, 0, -x), "text": "a"})
    assert find_pairs(table, 0.5)[0][:2] == ("x", "y")
    assert find_pairs(table, 0.5)[0][2] == pytest.approx(1)


def test_many_columns_are_correlated_as_few_are() -> None:
    random = np.random.default_rng(2)
    table = pd.DataFrame(random.normal(size=(60, 5)), columns=list("abcde")).assign(f=lambda t: t["a"] ** 3, g=1.0)
    exact = table.corr(method="spearman").fillna(0).to_numpy(copy=True)
    np.fill_diagonal(exact, np.diag(correlate_ranks(table)))
    np.testing.assert_allclose(correlate_ranks(table), exact, atol=1e-12)


def test_classes_of_a_row_or_two_do_not_keep_a_column_from_being_scored() -> None:
    size = pd.Series(np.arange(60.0))
    classes = pd.Series(["low"] * 30 + ["high"] * 29 + ["odd"])
    assert score_column(size, classes, "classification", seed=0) > 0.7
    assert np.isnan(score_column(size[:5], classes[:5], "classification", seed=0))
    assert np.isnan(score_column(size[:5], size[:5], "regression", seed=0))
    assert score_column(size, size.where(size > 0, np.inf), "regression", seed=0) > 0.8


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "number"),
        ([1.5, None], "number"),
        ([True, False], "boolean"),
        ([True, None], "category"),
        (["a", None], "category"),
        (pd.to_datetime(["2013-01-01"]), "time"),
        (pd.to_datetime(["2013-01-01"], utc=True), "time"),
        (pd.Categorical([1, 2]), "category"),
    ],
)
def test_kinds(values: object, kind: str) -> None:
    assert find_column_kind(pd.Series(values)) == kind
