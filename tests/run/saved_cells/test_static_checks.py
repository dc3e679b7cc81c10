"""What is seen in a notebook without running it."""

import json

import pytest
from labkit.run.saved_cells.static_checks import check_static
from nbformat.v4 import new_markdown_cell

from tests.run.verification.scratch import TOKEN, code, make_scratch, printed


def find(*cells: object) -> list[str]:
    """Return the findings of a notebook of these cells, described."""
    return [one.describe() for one in check_static(make_scratch(*cells))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["frame.head()"], "cell 1 (id-1), line 1: undefined: frame is defined nowhere in the notebook"),
        (
            ["f()", "def f(): pass"],
            "cell 1 (id-1), line 1: undefined: f is used here and defined only in cell 2, below",
        ),
        (
            ["\nx = x + 1"],
            "cell 1 (id-1), line 2: undefined: x is used here and defined only further down in this cell",
        ),
        (["x += 1"], "cell 1 (id-1), line 1: undefined: x is used here and defined only further down in this cell"),
        (["def f():\n    return gone"], "cell 1 (id-1), line 2: undefined: gone is defined nowhere in the notebook"),
        (["x = 1\ndel x", "x"], "cell 2 (id-2), line 1: undefined: x is defined nowhere in the notebook"),
        (["x, y = 1, 2\ndel (x, y)", "y"], "cell 2 (id-2), line 1: undefined: y is defined nowhere in the notebook"),
        (["\n%%time\n\ny = gone"], "cell 1 (id-1), line 4: undefined: gone is defined nowhere in the notebook"),
        (["%time y = gone"], "cell 1 (id-1), line 1: undefined: gone is defined nowhere in the notebook"),
        (["[gone for x in range(3)]"], "cell 1 (id-1), line 1: undefined: gone is defined nowhere in the notebook"),
        (["class A:\n    b = gone"], "cell 1 (id-1), line 2: undefined: gone is defined nowhere in the notebook"),
        (["try:\n    gone\nexcept ValueError:\n    pass"], "cell 1 (id-1), line 2: undefined: gone is defined nowhere"),
        (["for x in range(3) print(x)"], "cell 1 (id-1): syntax: not valid Python"),
    ],
)
def test_name_that_a_restart_would_not_know_is_found(cells: list[str], expected: str) -> None:
    [found] = find(*cells)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    "cells",
    [
        ["import os.path as p, sys\nfrom math import pi as half", "p, sys, half"],
        ["def f(a, *b, c=1, **d):\n    return a, b, c, d, later", "later = 1", "f(1)"],
        ["with open('x') as (a, b), open('y') as c:\n    a, b, c"],
        ["for i, (j, *k) in []:\n    i, j, k\nelse:\n    pass", "i"],
        ["[x + y for x in range(3) for y in range(x) if (n := y)]", "n"],
        ["try:\n    import gone\nexcept ImportError as error:\n    print(error)"],
        ["try:\n    gone\nexcept NameError:\n    gone = 1"],
        ["match [1]:\n    case [a, *rest]:\n        a, rest\n    case {'k': v, **more}:\n        v, more"],
        ["class A:\n    x = 1\n    y = x\n    def f(self):\n        return __class__, A"],
        ["def f():\n    global g\n    g = 1", "f()", "g"],
        ["files = !ls", "files"],
        ["%%capture out\nz = 1", "out, z"],
        ["from somewhere import *", "anything"],
        ["%run other.ipynb", "anything"],
        ["x: int = 1", "x, _, Out[1], _1, __name__, display(x), get_ipython()"],
        ["async def f(): pass", "await f()", "async for x in f():\n    x"],
        ["f = lambda x, y=1: x + y + later", "later = 1"],
        ["%%bash\necho $gone"],
        ["print?", "", "# only a comment"],
        ["x = 1\nif x > 1:\n    del x", "x"],
        ["x = 1\nfor _ in []:\n    del x", "x"],
        [code("gone", tags=["skip-execution"])],
    ],
)
def test_what_may_be_defined_is_not_reported(cells: list[object]) -> None:
    assert find(*cells) == []


def test_order_and_cells_passed_over_are_found() -> None:
    found = find(code("x = 1", 1), code("x", 5), code("x = 2", 3), "x", code("", None), code("x", 6), "x")
    assert found == [
        "cell 3 (id-3): order: ran as [3], before cell 2 above it, which ran as [5]",
        "cell 4 (id-4): order: was not run, and cells below it were",
    ]
    assert find("x = 1", "x") == []


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("open('/home/me/data.csv')", "/home/me/data.csv"),
        ("open(r'C:\\data\\x.csv')", "C:\\data\\x.csv"),
        ("x = 'file:///Users/me/x'", "/Users/me/x"),
        ("!cp a.csv /mnt/share/a.csv", "/mnt/share/a.csv"),
        ("%cd /home/me/project", "/home/me/project"),
    ],
)
def test_absolute_path_is_found(source: str, place: str) -> None:
    [found] = find(source)
    assert (
        found == f"cell 1 (id-1), line 1: path: {place} exists on one machine only: use a path relative to the notebook"
    )


def test_addresses_and_relative_paths_are_no_absolute_paths() -> None:
    lines = ["'https://host/home/x'", "'data/home/x'", "'../home/x'", "'/predict'", "'/dev/null'", "'a b: /'"]
    assert find("x = " + ", ".join(lines), "'''A docstring about /home/me'''") == []


def test_secrets_are_found_everywhere_and_never_shown() -> None:
    found = find(
        new_markdown_cell(f"use {TOKEN}"),
        f"x = 1\nkey = '{TOKEN}'",
        "connect(password='hunter2')\nconfig['api_key'] = 'abc'\n{'token': 'abc'}".replace("connect", "print"),
        code("x = 2", 1, printed(f"token {TOKEN}")),
        f"config = {{}}\npassword = 'x'  # pragma: allowlist secret\nx = '{TOKEN}'  # pragma: allowlist secret",
    )
    remedy = "read it from the environment, as step.secret does"
    assert [line for line in found if "secret" in line.partition(" is ")[0]] == [
        f"cell 1 (id-1), line 1: secret: looks like a token or password: {remedy}",
        f"cell 2 (id-2), line 2: secret: looks like a token or password: {remedy}",
        f"cell 3 (id-3), line 1: secret: password is written out: {remedy}",
        f"cell 3 (id-3), line 2: secret: api_key is written out: {remedy}",
        f"cell 3 (id-3), line 3: secret: token is written out: {remedy}",
        "cell 4 (id-4): secret: output 1 shows what looks like a token: clear it",
    ]
    assert TOKEN not in json.dumps(found)
