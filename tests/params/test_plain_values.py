"""What a parameter's value may be."""

import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import ParamsError
from labkit.params.plain_values import check_value
from labkit.secrets.secret import Secret


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    YES = "yes"


class Number(enum.IntEnum):
    ONE = 1


def name_case(value: object) -> str:
    return value[:40] if isinstance(value, str) and len(value) < 1000 else type(value).__name__


def nest(depth: int) -> list[Any]:
    return [nest(depth - 1)] if depth > 1 else []


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), "x is a tuple: write a list"),
        ([(1, 2)], "x[0] is a tuple: write a list"),
        (b"ab", "x is a bytes: write a string"),
        ({1, 2}, "x is a set: write a list"),
        (datetime(2024, 1, 1, tzinfo=UTC), "x is a datetime: write an ISO string"),
        (date(2024, 1, 1), "x is a date: write an ISO string"),
        (pd.Timestamp("2024-01-01"), "x is a Timestamp: write an ISO string"),
        (np.datetime64("2024-01-01"), "x is a date: write an ISO string"),
        (Path("a"), "x is a PosixPath: write a string"),
        (Decimal("1.5"), "x is a Decimal: write a number or a string"),
        (1 + 2j, "x is a complex: write two numbers"),
        (Colour.RED, "x is a Enum: write a plain number, string, list or mapping"),
        (Word.YES, "x is a Enum"),
        (Number.ONE, "x is a Enum"),
        (object(), "x is a object"),
        (print, "x is a builtin_function_or_method"),
        (pd.NA, "x is a NAType"),
        (np.bytes_(b"a"), "x is a bytes"),
        (np.longdouble(1), "x is a longdouble"),
        (Secret("warehouse", "hidden-away"), "x is a Secret: write its name; a notebook gets the value by step.secret"),
        ({1: "a"}, "x has a key of type int: keys are strings"),
        ({"a": 1, 2: "b"}, "x has a key of type int: keys are strings"),
        ({None: 1}, "x has a key of type NoneType"),
        ("\ud800", "x is not valid Unicode: a lone surrogate at character 1"),
        (["ab\udfff"], "x[0] is not valid Unicode: a lone surrogate at character 3"),
        ({"\ud800": 1}, "a key of x is not valid Unicode"),
        ("x" * 65_537, "x is a string of 65,537 bytes, over 65,536: put it into a file"),
        ("é" * 40_000, "x is a string of 80,000 bytes"),
        ("x" * 1_000_000, "x is a string of 1,000,000 bytes"),
        (10**4300, "x is an integer of more than 4,300 digits"),
        (-(10**5000), "x is an integer of more than 4,300 digits"),
        (float("nan"), "x is nan: use plain finite values"),
        (float("inf"), "x is inf"),
        ({"a": [float("-inf")]}, "x.a[0] is -inf"),
        (np.float32("nan"), "x is nan"),
        (nest(11), "is nested more than 10 deep: flatten it"),
        (CIRCLE, "is nested more than 10 deep"),
    ],
    ids=name_case,
)
def test_what_is_not_plain_data_is_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_value(value, "x")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(3.5), 3.5),
        ({"a": [np.int32(1), np.array([0.5])]}, {"a": [1, [0.5]]}),
        (nest(10), nest(10)),
        (10**400, 10**400),
        (10**4299, 10**4299),
        ("x" * 65_536, "x" * 65_536),
        ("\x00\u2028\u202e🐍", "\x00\u2028\u202e🐍"),
        (None, None),
        (-0.0, -0.0),
    ],
    ids=name_case,
)
def test_plain_data_stay_and_numpy_becomes_plain(value: object, plain: object) -> None:
    assert repr(check_value(value, "x")) == repr(plain)


def test_numbers_that_are_not_finite_pass_where_they_are_welcome() -> None:
    assert repr(check_value([float("nan"), np.float64("inf")], "x", allow_nan=True)) == "[nan, inf]"
