"""Open findings: searched for again among the clean rows, so that what filters have removed is not left open."""

import numpy as np
import pandas as pd
from labkit.data.cleaning import clean_table
from labkit.data.quality.issues import find_all, list_open
from labkit.data.quality.open_findings import list_still_open
from labkit.data.quality.profile import profile_table
from labkit.data.stability import DRIFT_COLUMNS
from labkit.params.tables import Data, Target
from labkit.params.wrangling import Wrangling

TARGET = Target(column="late", task="classification", positive=1)
DATA = Data.model_validate({"tables": {"t": {"path": "t.csv"}}, "target": TARGET.model_dump()})
N = 300


def make_table() -> pd.DataFrame:
    """Return a table with missing targets, a mostly empty column, a leak and a constant."""
    random = np.random.default_rng(0)
    size = random.normal(size=N)
    late = pd.Series((size + random.normal(size=N) > 0).astype(float))
    table = pd.DataFrame({"size": size, "gust": np.where(random.random(N) < 0.8, np.nan, size), "year": 2013})
    table = table.assign(paid=np.where(late == 1, "yes", "no"), late=late.where(np.arange(N) % 10 > 0))
    return table.rename_axis(index="row")


def find_open(wrangling: Wrangling) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return what is open by the declarations alone, and what the clean rows still show."""
    table = make_table()
    drift = pd.DataFrame({name: [] for name in DRIFT_COLUMNS})
    profile = profile_table(table, TARGET, seed=0)
    findings = find_all(table, profile, DATA, correlation_alert=0.95, drift=drift)
    clean, _ = clean_table(table, wrangling, TARGET)
    still = list_still_open(findings, table, clean, DATA, wrangling, seed=0)
    declared = list_open(findings, wrangling)
    return tuple(set(zip(one["column"], one["what"], strict=True)) for one in (declared, still))  # type: ignore[return-value]


def test_finding_that_a_filter_has_removed_is_not_open() -> None:
    declared, still = find_open(Wrangling(filters=("not missing(late)",), drop={"year": "constant"}))
    assert ("late", "target missing") in declared
    assert ("late", "target missing") not in still
    assert declared - still == {("late", "target missing")}
    assert {("gust", "many missing values"), ("paid", "copy of the target")} <= still


def test_finding_stays_open_without_the_filter() -> None:
    declared, still = find_open(Wrangling(filters=("size < 100",)))
    assert ("late", "target missing") in still
    assert declared == still


def test_nothing_is_searched_for_where_nothing_is_open() -> None:
    drop = {"gust": "empty", "paid": "leak", "year": "constant"}
    assert find_open(Wrangling(filters=("not missing(late)",), drop=drop))[1] == set()
