"""Cleaning: columns dropped, rules applied, rows filtered."""

import pandas as pd
import pytest
from labkit.data.cleaning import apply_filters, apply_rules_to, clean_table, describe_rules
from labkit.errors import ParamsError
from labkit.params.wrangling import Rule, Wrangling

FRAME = pd.DataFrame(
    {"age": [-999, 17, 40, 200], "name": [" a", "?", None, "b "], "seats": [1, 2, 3, 4]},
    index=pd.Index([3, 5, 7, 9], name="row"),
)
RULES = {"age": Rule(missing=(-999,), maximum=120.0), "name": Rule(trim=True, missing=("?",))}


def test_clean_table_applies_rules_then_filters_then_drops() -> None:
    wrangling = Wrangling(rules=RULES, filters=("not missing(age)", "seats < 4"), drop={"seats": "not known in time"})
    clean, steps = clean_table(FRAME, wrangling)
    assert list(clean) == ["age", "name"]
    assert clean.index.tolist() == [5, 7], "rows keep their way back to the raw table"
    assert clean["age"].tolist() == [17.0, 40.0]
    assert steps.to_dict("list") == {
        "filter": ["not missing(age)", "seats < 4"],
        "rows before": [4, 2],
        "rows after": [2, 2],
    }
    assert FRAME["age"].tolist() == [-999, 17, 40, 200], "the raw table is left as it was"


def test_a_comparison_with_a_missing_value_leaves_the_row_out() -> None:
    kept, _ = apply_filters(pd.DataFrame({"x": [1.0, None, 3.0]}), ("x > 0",))
    assert kept["x"].tolist() == [1.0, 3.0]


def test_no_filter_keeps_all_rows_and_reports_nothing() -> None:
    kept, steps = apply_filters(FRAME, ())
    assert kept is FRAME
    assert list(steps) == ["filter", "rows before", "rows after"]
    assert steps.empty


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("age + 1", r"wrangling\.filters: 'age \+ 1' gives float64, not true or false: use a comparison"),
        ("age > 1000", r"wrangling\.filters: 'age > 1000' leaves none of 4 rows"),
    ],
)
def test_filter_is_refused(string: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        apply_filters(FRAME, (string,))


def test_boolean_columns_are_filters_by_themselves() -> None:
    kept, _ = apply_filters(pd.DataFrame({"flag": [True, False]}), ("flag",))
    assert len(kept) == 1


def test_strings_stay_strings_even_when_all_become_missing() -> None:
    cleaned = apply_rules_to(FRAME, {"name": Rule(trim=True, missing=("a", "?", "b"))})
    assert cleaned["name"].isna().all()
    assert cleaned["name"].dtype == FRAME["name"].dtype


def test_rules_are_described_by_what_they_changed() -> None:
    described = describe_rules(FRAME, RULES).to_dict("records")
    assert described == [
        {
            "column": "age",
            "rule": "missing (-999,), maximum 120.0",
            "changed": 0,
            "read": 0,
            "lost": 2,
            "missing before": 0,
            "missing after": 2,
        },
        {
            "column": "name",
            "rule": "trim True, missing ('?',)",
            "changed": 2,
            "read": 0,
            "lost": 1,
            "missing before": 1,
            "missing after": 2,
        },
    ]


def test_rule_that_reads_another_type_changes_no_value() -> None:
    frame = pd.DataFrame({"rain": ["0.20", "T", None, "0.5"], "size": [1.0, 2.0, 3.0, 4.0]})
    described = describe_rules(frame, {"rain": Rule(type="number"), "size": Rule(maximum=3.0, outside="clip")})
    counts = described.set_index("column")[["changed", "read", "lost", "missing before", "missing after"]]
    assert counts.loc["rain"].tolist() == [0, 2, 1, 1, 2]
    assert counts.loc["size"].tolist() == [1, 0, 0, 0, 0]


def test_filter_drops_rows_for_which_it_is_undecidable() -> None:
    frame = pd.DataFrame({"age": [10.0, 30.0, None], "city": ["Ulm", None, "Rom"]})
    for string, rows in [
        ("not (age < 18)", [1]),
        ("age != 30", [0]),
        ("city != 'Ulm'", [2]),
        ("missing(city)", [1]),
        ("missing(age) or age > 20", [1, 2]),
    ]:
        assert list(apply_filters(frame, (string,))[0].index) == rows, string
