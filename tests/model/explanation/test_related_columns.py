"""Related raw columns, and what is said of them."""

import numpy as np
import pandas as pd
from labkit.model.explanation.related_columns import RelatedColumns, find_related, make_determined_facts
from labkit.model.explanation.shapley import explain_row
from labkit.model.explanation.telling_rows import TellingRow
from labkit.params.subject import Subject
from labkit.view.related_inputs import describe_correlated, describe_determined, describe_sums

RANDOM = np.random.default_rng(0)
N_ROWS = 400
KINDS = {
    "predict_at": "time",
    "leaves": "time",
    "minute": "number",
    "total": "number",
    "part": "number",
    "age": "number",
}


def make_rows() -> pd.DataFrame:
    """Return rows whose times are two hours apart, with the local minute of the day, and two correlated numbers."""
    leaves = pd.Series(pd.date_range("2024-03-01", periods=N_ROWS, freq="3h", tz="UTC"))
    local = leaves.dt.tz_convert("America/New_York")
    total, noise = RANDOM.normal(size=N_ROWS), RANDOM.normal(size=N_ROWS)
    columns = {"predict_at": leaves - pd.Timedelta("2h"), "leaves": leaves, "minute": 60 * local.dt.hour}
    return pd.DataFrame({**columns, "total": total, "part": -total + 0.3 * noise, "age": RANDOM.normal(size=N_ROWS)})


def test_times_at_a_fixed_distance_and_minutes_of_the_day_determine_each_other() -> None:
    found = find_related(make_rows().drop(columns="minute"), {k: v for k, v in KINDS.items() if k != "minute"}, "UTC")
    assert found.determined == (("predict_at", "leaves"),)
    found = find_related(make_rows(), KINDS, "America/New_York")
    assert found.determined == (("predict_at", "leaves", "minute"),)
    loose = make_rows().assign(
        leaves=lambda rows: rows["leaves"] + pd.to_timedelta(RANDOM.integers(0, 9, N_ROWS), "min")
    )
    assert find_related(loose, {"predict_at": "time", "leaves": "time"}, "UTC").determined == ()


def test_strongly_correlated_numbers_are_found() -> None:
    ((one, other, value),) = find_related(make_rows(), KINDS, "America/New_York").correlated
    assert (one, other) == ("total", "part")
    assert -1 < value < -0.8


def test_what_cannot_be_told_apart_is_stated() -> None:
    subject = Subject("?", "flight", "flights")
    related = RelatedColumns((("predict_at", "leaves"),), (("s1", "s2", 0.884),))
    sentence = describe_determined(related, subject)
    assert sentence.startswith("`time of the prediction` and `leaves` follow from each other in every flight.")
    assert "some of the flights compared cannot exist" in sentence
    assert describe_correlated(related).startswith("Correlated inputs (rank correlation): `s1` with `s2` 0.88. Their")
    assert (describe_determined(RelatedColumns((), ())), describe_correlated(RelatedColumns((), ()))) == ("", "")


def test_release_names_the_columns_that_determine_each_other() -> None:
    assert make_determined_facts(make_rows(), KINDS, "America/New_York") == {
        "determined": [["predict_at", "leaves", "minute"]]
    }
    assert make_determined_facts(make_rows()[["age", "total"]], {"age": "number", "total": "number"}, "UTC") == {}


def test_sum_of_columns_that_determine_each_other_is_stated_for_each_row() -> None:
    row, background = ({name: np.array([value]) for name in "abc"} for value in (3.0, 1.0))
    found = explain_row(lambda columns: 2 * columns["a"] - columns["b"] + columns["c"], row, background)
    facts, rows = {"classes": [], "positive": None}, {TellingRow("Median prediction", 0): found}
    related = RelatedColumns((("a", "b"),), ())
    lead, line = describe_sums(rows, related, facts=facts, subject=Subject("?"))
    assert lead.endswith("so only their sums mean something:")
    assert line == "- Median prediction: `a` and `b` together +2."
    assert describe_sums(rows, RelatedColumns((), ()), facts=facts, subject=Subject("?")) == []
