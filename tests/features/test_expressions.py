"""Expressions: what they give, and what they refuse."""

import numpy as np
import pytest
from labkit.errors import ParamsError
from labkit.features.expressions import LONGEST_EXPRESSION, compute, find_names

COLUMNS = {
    "a": np.array([1.0, 2.0, np.nan, 4.0]),
    "b": np.array([2.0, 0.0, 1.0, np.nan]),
    "n": np.array([1, 2, 3, 0]),
    "tiny": np.array([200, 100, 50, 0], "uint8"),
    "flag": np.array([True, False, True, False]),
    "text": np.array(["x", None, "y", "x"], object),
    "mean area": np.array([2.0, 4.0, 6.0, 8.0]),
    "max": np.array([9.0, 8.0, 7.0, 6.0]),
    "when": np.array(["2013-01-01", "2013-06-01", "NaT", "2014-01-01"], "datetime64[us]"),
}
nan = np.nan
RESULTS = [
    ("a + b", [3, 2, nan, nan]),
    ("a * col('mean\u00a0area')", [2, 8, nan, 32]),
    ("a / b", [0.5, nan, nan, nan]),
    ("a // b", [0, nan, nan, nan]),
    ("a % b", [1, nan, nan, nan]),
    ("a // n", [1, 1, nan, nan]),
    ("n / 0", [nan] * 4),
    ("n // 0", [nan] * 4),
    ("7 // n", [7, 3, 2, nan]),
    ("-a ** 2", [-1, -4, nan, -16]),
    ("9 ** 9 ** 9 * n", [nan] * 4),
    ("n ** -1", [1, 0.5, 1 / 3, nan]),
    ("tiny - 201", [-1, -101, -151, -201]),
    ("tiny + tiny", [400, 200, 100, 0]),
    ("-tiny", [-200, -100, -50, 0]),
    ("(a > 1) + (n > 1)", [0, 2, 1, 1]),
    ("log(flag + 1)", [np.log(2), 0, np.log(2), 0]),
    ("exp(flag)", [np.e, 1, np.e, 1]),
    ("log(a - 1)", [nan, 0, nan, np.log(3)]),
    ("log1p(n)", [np.log(2), np.log(3), np.log(4), 0]),
    ("max(a, b)", [2, 2, 1, 4]),
    ("max(a, b, 3)", [3, 3, 3, 4]),
    ("min(a, b, n)", [1, 0, 1, 0]),
    ("max * 2", [18, 16, 14, 12]),
    ("clip(a, 2, 3)", [2, 2, nan, 3]),
    ("round(a / 3, 1)", [0.3, 0.7, nan, 1.3]),
    ("round(a / 3)", [0, 1, nan, 1]),
    ("where(missing(a), -1, a)", [1, 2, -1, 4]),
    ("where(flag, a, None)", [1, nan, nan, nan]),
    ("where(a > 1, 'high', 'low')", ["low", "high", "low", "high"]),
    ("where(flag, text, 3)", ["x", 3, "y", 3]),
    ("where(flag, text, None)", ["x", None, "y", None]),
    ("missing(text)", [False, True, False, False]),
    ("missing(when)", [False, False, True, False]),
    ("isin(text, 'x', 'z')", [True, False, False, True]),
    ("text == 'x'", [True, False, False, True]),
    ("text != 'x'", [False, True, True, False]),
    ("a == 'x'", [False] * 4),
    ("0 < n <= 2", [True, True, False, False]),
    ("n > 1 and True", [False, True, True, False]),
    ("n > 1 or flag", [True, True, True, False]),
    ("(n > 1) & flag | (n == 0)", [False, False, True, True]),
    ("not flag", [False, True, False, True]),
    ("~flag", [False, True, False, True]),
    ("when < '2013-07-01'", [True, True, False, False]),
    ("when == '2013-06-01'", [False, True, False, False]),
    ('col("mean area") / 2', [1, 2, 3, 4]),
    ("1", [1] * 4),
    ("  a  ", [1, 2, nan, 4]),
]


@pytest.mark.parametrize(("expression", "expected"), RESULTS)
def test_expression_gives(expression: str, expected: list[object]) -> None:
    before = {name: values.copy() for name, values in COLUMNS.items()}
    found = compute(expression, COLUMNS)
    if isinstance(expected[0], str):
        assert found.dtype == object
        assert found.tolist() == expected
    else:
        assert (found.dtype == bool) == isinstance(expected[0], bool)
        np.testing.assert_allclose(found.astype(float), np.array(expected, float), rtol=1e-15)
    for name, values in before.items():
        np.testing.assert_array_equal(COLUMNS[name], values, err_msg="columns are left as they were")


REFUSED = [
    ("a.real", "'a.real' is not allowed: use columns, numbers and functions"),
    ("a.__class__.__mro__", "'a.__class__.__mro__' is not allowed"),
    ("().__class__", "is not allowed"),
    ("a[0]", "'a[0]' is not allowed"),
    ("__import__('os')", "no function '__import__': known: abs, "),
    ("eval('1')", "no function 'eval'"),
    ("lok(a)", "no function 'lok': did you mean 'log'?"),
    ("log1(a)", "no function 'log1': did you mean 'log1p'?"),
    ("a.sum()", "is not allowed"),
    ("(lambda: 1)()", "is not allowed"),
    ("lambda x: x", "is not allowed"),
    ("[x for x in a]", "is not allowed"),
    ("{1: 2}", "is not allowed"),
    ("f'{a}'", "is not allowed"),
    ("(b := a)", "is not allowed"),
    ("a if flag else b", "is not allowed"),
    ("a @ b", "is not allowed"),
    ("n << 2", "is not allowed"),
    ("a is b", "is not allowed"),
    ("text in ('x', 'y')", "is not allowed"),
    ("log(*a)", "is not allowed"),
    ("log(a, out=b)", "is not allowed"),
    ("1j * a", "is not allowed"),
    ("b'x' == text", "is not allowed"),
    ("... == a", "is not allowed"),
    ("9007199254740993", "is not allowed"),
    ("col(text)", "no function 'col'"),
    ("col('a', 'b')", "no function 'col'"),
    ("col('mean aera')", "no column 'mean aera': did you mean 'mean area'?"),
    ("flga", "no column 'flga': did you mean 'flag'?"),
    ("col", "no column 'col': "),
    ("log(a, b)", "log takes 1 argument, not 2"),
    ("where(flag)", "where takes 3 arguments, not 1"),
    ("clip(a, 0, 1, b)", "clip takes 3 arguments, not 4"),
    ("round(a, n)", "round(a, n)"),
    ("isin()", "isin takes at least 1, not 0"),
    ("round(a, 1, 2)", "round takes 1 or 2 arguments, not 3"),
    ("when - text", "its operations are not defined for when (times); text (strings): compute and compare"),
    ("text + 1", "expression 'text + 1': "),
    ("text < 'y'", "expression \"text < 'y'\": "),
    ("log(text)", "expression 'log(text)': "),
    ("a < 'x'", "expression \"a < 'x'\": "),
    ("when < 'noon'", "expression \"when < 'noon'\": "),
    ("2013-01-01", "not an expression"),
    ("a +", "not an expression"),
    ("a; b", "not an expression"),
    ("import os", "not an expression"),
    ("a = 1", "not an expression"),
    ("", "not an expression"),
    ("a\0b", "not an expression"),
    ("a + " * 2500 + "a", f"expression of 10001 characters: at most {LONGEST_EXPRESSION}"),
    ("-" * 400 + "a", "nested more than 30 deep"),
    ("[" + "-" * 400 + "a]", "is not allowed"),
    ("(" * 240 + "a" + ")" * 240, "not an expression"),
    ("abs(" * 90 + "a" + ")" * 90, "nested more than 30 deep"),
    ("a" + "+a" * 200, "nested more than 30 deep"),
]


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize(
    ("expression", "message"), REFUSED, ids=[expression[:20].replace("\0", "0") for expression, _ in REFUSED]
)
def test_expression_refuses(expression: str, message: str) -> None:
    with pytest.raises(ParamsError) as refused:
        compute(expression, COLUMNS)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("abs(b) + a", ["b", "a"]),
        ('bmi * col("mean area") + bmi', ["bmi", "mean area"]),
        ("max(max, 2)", ["max"]),
        ("log(sqrt(x))", ["x"]),
        ("1 + 2", []),
    ],
)
def test_names_are_found_in_order_once(expression: str, names: list[str]) -> None:
    assert find_names(expression) == names


def test_one_row_gives_what_the_table_gives() -> None:
    for expression, _ in RESULTS:
        whole = compute(expression, COLUMNS)
        for row in range(4):
            one = compute(expression, {name: values[row : row + 1] for name, values in COLUMNS.items()})
            assert (one.dtype, str(one.tolist())) == (whole.dtype, str(whole[row : row + 1].tolist())), expression
