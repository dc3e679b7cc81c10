"""A key or category that is a number is the same string in training, in histories and in a request."""

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError
from labkit.features import imputation, row_rules
from labkit.features.arrays import MANY_TIMES, make_array, make_objects, make_times, number_to_string
from labkit.features.table_columns import to_array
from labkit.new.column_kinds import classify_column
from labkit.new.options import Choices
from labkit.serving.batch_input import match_spelling

NUMBERS = [3, 3.0, 2.5, -0.0, 10**15, 1e-7, 12345678.0, np.float64(4.0), np.int64(7)]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_the_same_string_everywhere(number: float) -> None:
    expected = str(number_to_string(np.asarray([number], object).tolist()[0]))
    plain = number.item() if isinstance(number, np.generic) else number
    rule = row_rules.RowRule(type="category")
    assert row_rules.apply_rule(np.array([plain], object), rule).tolist() == [expected]
    assert make_array(np.array([plain], object), "category", "x").tolist() == [expected]
    assert make_array(np.array([float(plain)]), "category", "x").tolist() == [str(number_to_string(float(plain)))]
    assert imputation.write_part(plain) == expected
    served = match_spelling(pd.Series([plain], dtype=object).infer_objects(), "category", ["a"], "t.csv")
    assert served.tolist() == [expected]


def test_whole_numbers_have_no_fraction_and_long_ones_do_not_overflow() -> None:
    values = [3, 3.0, 2.5, True, None, "3.0", 10**400]
    assert [number_to_string(value) for value in values] == ["3", "3", "2.5", True, None, "3.0", str(10**400)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series([1.5, 2.0, None]), "number"),
        (pd.Series([3, 5, 4]), "number"),
        (pd.Series([True, False]), "boolean"),
        (pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"])), "date"),
        (pd.Series(["a", "b", "a"]), "category"),
        (pd.Series(["a", "b", "a"], dtype="category"), "category"),
    ],
    ids=str,
)
def test_a_column_is_of_one_kind_for_new_tables_and_features(values: pd.Series, kind: str) -> None:
    from labkit.features.table_columns import find_column_kind

    assert classify_column(values.rename("x"), None, Choices()).kind == kind
    assert find_column_kind(values) == {"date": "time"}.get(kind, kind)
    assert len(to_array(values)) == len(values)


@pytest.mark.parametrize("value", [5, [1], {}, True])
def test_value_that_is_not_a_string_is_not_a_time(value: object) -> None:
    with pytest.raises(DataError, match="column 'at': .+ is not a time: give ISO 8601 times"):
        make_times(make_objects([value]), "at")


def test_number_beyond_float64_is_not_a_number() -> None:
    with pytest.raises(DataError, match="column 'x': 1000.+ is not a number"):
        make_array(make_objects([1.5, 10**400]), "number", "x")


TIMES = [
    "2013-07-01T16:30:00Z", "2013-07-01T16:30:01Z", "2013-07-01 16:30:00Z", "2013-07-01T16:30:00", "2013-07-01T16:30:00.5Z",
    "2013-07-01T16:30:00.123456Z", "2013-07-01T16:30:00+02:00", "2013-07-01", "2013-07", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "2012-02-29T00:00:00Z",
]  # fmt: skip
NO_TIMES = [
    "2013-02-29T16:30:00Z", "0000-07-01T16:30:00Z", "2013-07-01T24:00:00Z", "2013-07-01T16:60:00Z", "2013-07-01T16:30:60Z",
    "2013-07-01T16:30:0xZ", "2013-07-01T16-30:00Z", "2013-07-01T16:30:٣0Z", "2013-07-01T16:30:0\0Z", "2013-07-01T16:30:00z",
    "2013-07-01T16:30:00+02:00Z",
]  # fmt: skip


@pytest.mark.parametrize("usual", ["2013-07-01T16:30:00Z", "2013-07-01T16:30:00", "2013-07-01T16:30:00.000Z"])
@pytest.mark.parametrize("value", [*TIMES, None])
def test_a_time_is_the_same_alone_and_among_many(value: str | None, usual: str) -> None:
    for values in ([value, *[usual] * MANY_TIMES], [*[usual] * MANY_TIMES, value], [value] * MANY_TIMES):
        alone = [make_times(make_objects([one]), "at")[0] for one in values]
        np.testing.assert_array_equal(make_times(make_objects(values), "at"), np.array(alone))


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_time_alone_is_none_among_many(value: str) -> None:
    for values in ([value], [value] * MANY_TIMES, ["2013-07-01T16:30:00Z"] * MANY_TIMES + [value]):
        with pytest.raises(DataError, match="column 'at': .+ is not a time"):
            make_times(make_objects(values), "at")
