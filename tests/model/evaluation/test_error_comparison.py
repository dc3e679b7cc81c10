"""Errors of two models or periods by group: equal to scipy's tests, additive, and silent where there is nothing."""

import numpy as np
import pandas as pd
import pytest
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.blocks import DAY, Blocks, make_rows
from labkit.model.evaluation.error_comparison import (
    ALL_ROWS,
    OF_CLASSES,
    ErrorSource,
    Side,
    compare_errors,
    measure_apart,
)
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slice_comparison import measure_difference
from labkit.model.evaluation.slices import cut_column
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

N = 600
NAMES = ("log loss", "Brier score", "error rate")


@pytest.fixture(scope="module")
def cancer() -> ErrorSource:
    """Return two models of breast cancer on the half of the rows that neither was fitted on."""
    rows, target = load_breast_cancer(return_X_y=True, as_frame=True)
    rows = rows.iloc[:, :6].assign(clinic=np.where(np.arange(len(rows)) % 3 == 0, "north", "south"))
    numbers = StandardScaler().fit_transform(rows.drop(columns="clinic"))
    seen = np.arange(len(rows)) % 2 == 0
    models = {"linear": LogisticRegression(), "tree": DecisionTreeClassifier(max_depth=3, random_state=0)}
    made = {
        name: Predictions.from_proba(
            target[~seen].to_numpy(), model.fit(numbers[seen], target[seen]).predict_proba(numbers[~seen]), (0, 1)
        )
        for name, model in models.items()
    }
    return ErrorSource(made, rows[~seen], make_rows(int((~seen).sum())), 0.95)


def make_numbers(frame: pd.DataFrame, errors: dict[str, np.ndarray], blocks: Blocks | None = None) -> ErrorSource:
    models = {name: Predictions(np.zeros(len(frame)), values) for name, values in errors.items()}
    return ErrorSource(models, frame, blocks or make_rows(len(frame)), 0.95)


@pytest.mark.parametrize("loss", NAMES)
def test_groups_of_one_column_add_up_to_the_whole(cancer: ErrorSource, loss: str) -> None:
    found = cancer.compare(("linear", ALL_ROWS), ("tree", ALL_ROWS), loss=loss, columns=["clinic"])
    assert found is not None
    first, second = (OF_CLASSES[loss](one).sum() for one in cancer.models.values())
    assert found.table["rows"].sum() == len(cancer.frame)
    assert found.table["total"].sum() == pytest.approx(first - second)


def test_models_on_the_same_rows_are_compared_by_a_paired_test(cancer: ErrorSource) -> None:
    found = cancer.compare(("linear", ALL_ROWS), ("tree", ALL_ROWS), loss="log loss", columns=["clinic"])
    assert found is not None
    assert found.is_paired
    means = [f"{side.losses.mean():.3f}" for side in found.sides]
    expected_words = (
        f"Mean log loss: {means[0]} (linear) and {means[1]} (tree), measured on the same 284 rows. Of 2 groups"
    )
    assert found.describe().startswith(expected_words)
    for line in found.table.itertuples():
        rows = (cancer.frame["clinic"] == line.slice.removeprefix("clinic = ")).to_numpy()
        ours, theirs = (side.losses[rows] for side in found.sides)
        expected = stats.ttest_rel(ours, theirs)
        assert (line.first, line.second) == pytest.approx((ours.mean(), theirs.mean()))
        assert line.is_certain == (line.low > 0 or line.high < 0)
        # Two groups, so the interval without a discovery is that of a test at half the level.
        if not found.table["is_certain"].any():
            interval = expected.confidence_interval(1 - 0.05 / 2)
            assert (line.low, line.high) == pytest.approx((interval.low, interval.high))


def test_periods_are_compared_as_independent_samples() -> None:
    random = np.random.default_rng(1)
    times = pd.date_range("2024-01-01", "2024-02-29 23:00", periods=N, tz="UTC")
    frame = pd.DataFrame({PREDICT_AT: times, "place": random.choice(["A", "B"], N)})
    is_later = (times >= "2024-02-01").astype(float)
    errors = np.abs(random.normal(size=N)) + 3 * is_later * (frame["place"] == "B").to_numpy()
    found = make_numbers(frame, {"model": errors}).compare(
        ("model", "2024-02"), ("model", ALL_ROWS), loss="absolute error", columns=["place"]
    )
    assert found is not None
    assert not found.is_paired
    assert found.second.name == "model, all other rows"
    worse, same = (found.table[found.table["slice"] == f"place = {place}"].iloc[0] for place in "BA")
    assert worse["is_certain"]
    assert worse["difference"] == pytest.approx(3, abs=0.3)
    assert not same["is_certain"]
    parts = [errors[(frame["place"] == "A").to_numpy() & (is_later == part)] for part in (1, 0)]
    welch = stats.ttest_ind(*parts, equal_var=False)
    assert same["difference"] / welch.statistic == pytest.approx(
        np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
    )
    assert worse["rows"] + worse["rows_second"] == (frame["place"] == "B").sum()


def test_groups_of_two_columns_are_those_of_pandas(cancer: ErrorSource) -> None:
    frame = cancer.frame.assign(is_large=np.where(cancer.frame["mean radius"] > 14, "yes", "no"))
    source = ErrorSource(cancer.models, frame, cancer.blocks, 0.95)
    found = source.compare(("linear", ALL_ROWS), ("tree", ALL_ROWS), loss="log loss", columns=["clinic", "is_large"])
    assert found is not None
    losses = pd.Series(found.first.losses, index=frame.index).groupby([frame["clinic"], frame["is_large"]])
    expected = {f"clinic = {a} and is_large = {b}": one.mean() for (a, b), one in losses}
    assert dict(zip(found.table["slice"], found.table["first"], strict=True)) == pytest.approx(expected)


def test_random_differences_are_rarely_found() -> None:
    n_found = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        frame = pd.DataFrame({name: random.normal(size=N) for name in "abcdefgh"})
        source = make_numbers(frame, {name: random.normal(size=N) for name in ("first", "second")})
        found = source.compare(("first", ALL_ROWS), ("second", ALL_ROWS), loss="squared error")
        assert found is not None
        assert len(found.table) == 8 * 6
        excludes_0 = (found.table["low"] > 0) | (found.table["high"] < 0)
        assert (excludes_0 == found.table["is_certain"]).all()
        n_found += bool(found.table["is_certain"].any())
    # One in twenty is expected, and without the correction almost each of the 60 has a group at this level.
    assert n_found <= 7


def test_rows_of_one_day_are_not_taken_for_independent_ones() -> None:
    random = np.random.default_rng(0)
    days = np.repeat(np.arange(20), N // 20)
    frame = pd.DataFrame({"half": np.where(days % 2, "odd", "even")})
    shared = random.normal(size=20)[days] + random.normal(0, 0.1, N)
    errors = {"first": 5 + shared, "second": np.full(N, 5.0)}
    pair = {"first": ("first", ALL_ROWS), "second": ("second", ALL_ROWS), "loss": "absolute error"}
    naive, honest = (make_numbers(frame, errors, blocks).compare(**pair) for blocks in (None, Blocks(days, DAY)))
    assert naive is not None
    assert honest is not None
    assert naive.table["is_certain"].any()
    assert not honest.table["is_certain"].any()


def test_groups_are_in_the_order_in_which_they_matter() -> None:
    random = np.random.default_rng(5)
    place = random.choice(list("ABCDE"), N, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    added = pd.Series(place).map({"A": 1.0, "B": 2.5, "C": 0.0, "D": -4.0, "E": -5.0}).to_numpy()
    base = 10 + random.normal(0, 0.3, N)
    source = make_numbers(pd.DataFrame({"place": place}), {"first": base + added, "second": np.full(N, 10.0)})
    found = source.compare(("first", ALL_ROWS), ("second", ALL_ROWS), loss="absolute error")
    assert found is not None
    assert [name[-1] for name in found.table["slice"]] == list("BADEC")
    assert found.table["is_certain"].tolist() == [True] * 4 + [False]


def test_rows_of_a_group_are_listed_by_what_the_first_loses(cancer: ErrorSource) -> None:
    found = cancer.compare(("linear", ALL_ROWS), ("tree", ALL_ROWS), loss="log loss", columns=["clinic"])
    assert found is not None
    rows = found.list_rows(0, cancer.frame, most=7)
    lost = rows["log loss, linear"] - rows["log loss, tree"]
    clinic = found.table["slice"][0].removeprefix("clinic = ")
    assert list(lost) == sorted(lost, reverse=True)
    assert set(cancer.frame.loc[rows.index, "clinic"]) == {clinic}
    every = (found.first.losses - found.second.losses)[(cancer.frame["clinic"] == clinic).to_numpy()]
    assert lost.max() == pytest.approx(every.max())


def test_regression_and_small_groups() -> None:
    rows, target = load_diabetes(return_X_y=True, as_frame=True)
    predicted = LinearRegression().fit(rows, target).predict(rows)
    models = {
        "linear": Predictions(target.to_numpy(), predicted),
        "mean": Predictions(target.to_numpy(), 0 * target + 152),
    }
    source = ErrorSource(models, rows.assign(rare=["x"] * 20 + ["y"] * 422), make_rows(442), 0.95)
    found = source.compare(("linear", ALL_ROWS), ("mean", ALL_ROWS), loss="absolute error")
    assert found is not None
    assert "rare = y" in set(found.table["slice"])
    assert "rare = x" not in set(found.table["slice"])
    assert found.table["is_certain"].iloc[0]
    certain = found.table[found.table["is_certain"]]
    assert (certain["difference"] < 0).all()


def test_sides_must_be_the_same_rows_or_none_in_common(cancer: ErrorSource) -> None:
    assert cancer.compare(("linear", ALL_ROWS), ("linear", ALL_ROWS), loss="log loss") is None
    made = cancer.models["linear"]
    losses = OF_CLASSES["log loss"](made)
    sides = [Side(str(start), made, losses, np.arange(start, start + 100)) for start in (0, 50)]
    options = {"loss": "log loss", "confidence": 0.95, "blocks": cancer.blocks}
    with pytest.raises(ValueError, match="on the same rows or on rows without any in common"):
        compare_errors(*sides, [], **options)
    three = [cut_column(name, cancer.frame[name]) for name in cancer.frame.columns[:3]]
    with pytest.raises(ValueError, match="3 columns were given: groups are made of at most 2"):
        compare_errors(sides[0], sides[0], [three], **options)


def make_errors_in_one_group(n_wrong: int) -> ErrorSource:
    """Return two models that err alike on all of eight groups of 500 rows but some rows of the last."""
    frame = pd.DataFrame({"place": np.repeat(list("ABCDEFGH"), 500)})
    wrong = np.arange(len(frame)) % 10 == 0
    more = wrong | (np.arange(len(frame)) >= len(frame) - n_wrong)
    models = {
        name: Predictions.from_proba(np.ones(len(frame), int), np.column_stack([one, ~one]) * 1.0, ("no", "yes"))
        for name, one in (("first", more), ("second", wrong))
    }
    return ErrorSource(models, frame, make_rows(len(frame)), 0.95)


def test_groups_without_a_difference_count_as_tested() -> None:
    found = make_errors_in_one_group(6).compare(("first", ALL_ROWS), ("second", ALL_ROWS), loss="error rate")
    assert found is not None
    last = found.table.set_index("slice").loc["place = H"]
    # A p-value of about 0.02 passes alone, but not as the smallest of eight: the limit is 0.05 / 8.
    sides = [side.losses[3500:] for side in found.sides]
    assert 0.05 / 8 < stats.ttest_rel(*sides).pvalue < 0.05
    assert "Of 8 groups with at least 25 rows, 0 differ beyond random variation." in found.describe()
    assert last["low"] < 0 < last["difference"] < last["high"]
    clear = make_errors_in_one_group(60).compare(("first", ALL_ROWS), ("second", ALL_ROWS), loss="error rate")
    assert clear is not None
    assert "Of 8 groups with at least 25 rows, 1 differs beyond random variation." in clear.describe()


def test_equal_groups_of_periods_and_of_models_count_alike() -> None:
    same, blocks = np.full(50, 0.5), make_rows(50)
    assert measure_difference(same - same, blocks) == measure_apart(same, same, blocks, blocks) == (0, 0, 49, 1)
    one = Blocks(np.zeros(50, int), DAY)
    assert measure_difference(same - same, one) is measure_apart(same, same, one, blocks) is None
