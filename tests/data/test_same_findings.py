"""`labkit new` and the EDA find the same leaks and the same placeholders in a table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.issues import find_all
from labkit.data.quality.profile import profile_table
from labkit.data.reading.raw_table import Source
from labkit.data.stability import compute_drift
from labkit.new.inspect import survey_table
from labkit.new.options import Choices
from labkit.new.proposal import make_proposal
from labkit.params.tables import Data, Table, Target

N = 400


def make_inputs() -> pd.DataFrame:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(N, 3)).round(3), columns=["height", "weight", "age"])
    frame["colour"] = random.choice(["red", "green", "blue"], N)
    frame["score"] = random.integers(1, 6, N).astype(float)
    frame.loc[::17, "score"] = 99
    frame["depth"] = random.uniform(0, 20, N).round(2)
    frame.loc[::13, "depth"] = -999
    return frame


def make_classes() -> pd.DataFrame:
    frame = make_inputs()
    random = np.random.default_rng(4)
    is_yes = frame["height"] + random.normal(size=N) > 0
    frame["code"] = np.where(is_yes, "A", "B")
    frame["closed"] = np.where(is_yes, random.integers(1, 9, N), np.nan)
    frame["level"] = np.where(is_yes, 10.0, 0.0) + random.uniform(0, 5, N).round(3)
    return frame.assign(y=np.where(is_yes, "yes", "no"))


def make_numbers() -> pd.DataFrame:
    frame = make_inputs()
    y = (frame["height"] * 3 + np.random.default_rng(5).normal(size=N)).round(4)
    frame["scaled"] = y * 1.8 + 32
    return frame.assign(y=y)


@pytest.mark.parametrize("make", [make_classes, make_numbers])
def test_new_tables_and_the_eda_name_the_same_columns(make: object, tmp_path: Path) -> None:
    frame = make()  # type: ignore[operator]
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    task = "classification" if frame["y"].dtype == "str" or frame["y"].dtype == object else "regression"
    proposal = make_proposal(
        "t", survey_table("t", [Source(path, "t.csv")], ("t.csv",), "y", Choices()), "y", Choices()
    )
    target = Target(column="y", task=task, positive="yes" if task == "classification" else None)
    data = Data(tables={"t": Table(path="t.csv")}, target=target)
    read = pd.read_csv(path)
    drift = compute_drift(read, data, [])
    found = find_all(read, profile_table(read, target, seed=0), data, correlation_alert=0.95, drift=drift)

    wrangling = proposal.tree["wrangling"]
    may_leak = {one.subject[8:-1] for one in proposal.decisions if one.value == "may leak the target"}
    is_leak = found["fix"].str.contains("known only with the target")
    assert {*found.loc[is_leak & (found["severity"] == "high"), "column"]} == {*wrangling["drop"]}
    assert {*found.loc[is_leak & (found["severity"] == "medium"), "column"]} == may_leak
    assert wrangling["drop"]
    marked = found[found["what"] == "marker for missing"]
    assert {*marked["column"]} == {name for name, rule in wrangling["rules"].items() if rule.get("missing")}
    assert {*marked["column"]} == {"score", "depth"}
