"""Rules for single columns: what they do, and that doing it twice is doing it once."""

import numpy as np
import pytest
from labkit.errors import DataError
from labkit.features.row_rules import apply_rule, apply_rules
from labkit.params.wrangling import Rule

NUMBERS = np.array([-999.0, -5.0, 0.0, 3.0, 12.0, np.nan])
STRINGS = np.array([" a ", "?", " ? ", "", "b", None, "-999"], object)
CASES = [
    (NUMBERS, Rule(), [-999.0, -5.0, 0.0, 3.0, 12.0, None]),
    (NUMBERS, Rule(missing=(-999,)), [None, -5.0, 0.0, 3.0, 12.0, None]),
    (NUMBERS, Rule(minimum=0.0), [None, None, 0.0, 3.0, 12.0, None]),
    (NUMBERS, Rule(minimum=0.0, maximum=10.0), [None, None, 0.0, 3.0, None, None]),
    (NUMBERS, Rule(minimum=0.0, maximum=10.0, outside="clip"), [0.0, 0.0, 0.0, 3.0, 10.0, None]),
    (NUMBERS, Rule(missing=(-999,), minimum=-1.0, outside="clip"), [None, -1.0, 0.0, 3.0, 12.0, None]),
    # A clipped value lands on a marker: it must be missing the first time already.
    (NUMBERS, Rule(missing=(0,), minimum=0.0, outside="clip"), [None, None, None, 3.0, 12.0, None]),
    (NUMBERS, Rule(missing=("?",), trim=True), [-999.0, -5.0, 0.0, 3.0, 12.0, None]),
    (STRINGS, Rule(), [" a ", "?", " ? ", "", "b", None, "-999"]),
    (STRINGS, Rule(trim=True), ["a", "?", "?", "", "b", None, "-999"]),
    (STRINGS, Rule(missing=("?",)), [" a ", None, " ? ", "", "b", None, "-999"]),
    (STRINGS, Rule(trim=True, missing=("?", "", -999)), ["a", None, None, None, "b", None, None]),
]


def to_list(values: np.ndarray) -> list[object]:
    """Return values with None for every missing one."""
    return [None if value is None or value != value else value for value in values.tolist()]


@pytest.mark.parametrize(("values", "rule", "expected"), CASES)
def test_rule_does_what_it_declares_and_is_idempotent(values: np.ndarray, rule: Rule, expected: list[object]) -> None:
    before = values.copy()
    once = apply_rule(values, rule)
    assert to_list(once) == expected
    assert to_list(apply_rule(once, rule)) == expected
    assert to_list(values) == to_list(before), "the input is left as it was"


def test_type_changes_only_where_a_rule_bites() -> None:
    whole = np.array([1, 2, 3])
    assert apply_rule(whole, Rule(minimum=0.0)).dtype == whole.dtype
    assert apply_rule(whole, Rule(minimum=2.0)).dtype == np.float64
    assert apply_rule(np.array([True, False]), Rule(missing=(-1,))).dtype == bool


def test_other_columns_are_left_alone_and_absent_ones_passed_over() -> None:
    columns = {"a": np.array([1.0, -1.0]), "b": np.array([1.0, -1.0])}
    cleaned = apply_rules(columns, {"a": Rule(minimum=0.0), "gone": Rule(trim=True)})
    assert list(cleaned) == ["a", "b"]
    assert np.isnan(cleaned["a"][1])
    assert cleaned["b"] is columns["b"]


def test_rule_for_times_is_refused() -> None:
    with pytest.raises(DataError, match=r"wrangling\.rules\.when: holds times: rules apply to numbers and strings"):
        apply_rules({"when": np.array(["2013-01-01"], "datetime64[us]")}, {"when": Rule(trim=True)})
