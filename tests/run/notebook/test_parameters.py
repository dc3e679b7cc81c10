"""What may be injected into a notebook, and that it arrives as it was given."""

import math
import os
import random
import string
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from labkit.errors import ParamsError
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.parameters import check_parameters, read_defaults
from labkit.run.notebook.result import Execution
from labkit.run.notebook.source import read_source

from tests.hostile_strings import HOSTILE
from tests.run.notebook.small_notebooks import make_notebook

CELL = 'alpha = 1.5\nname: str = "a"\noptions = {}\nseed = 7\nis_on = True\nlimit = None\nwide = float("inf")'


def make_cell(source: str) -> nbformat.NotebookNode:
    """Return a notebook with nothing but a `parameters` cell."""
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    return nbformat.v4.new_notebook(cells=[cell])


def run(path: Path, parameters: dict[str, Any]) -> Execution:
    """Execute a notebook with parameters, beside itself."""
    return run_notebook(
        read_source(path),
        path.with_name("executed.ipynb"),
        parameters=parameters,
        environment=dict(os.environ),
        on_cell=lambda *_: None,
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x\nimport os; os.mkdir('pwned')", "is not a valid parameter name"),
        ("x;import os", "is not a valid parameter name"),
        ("os.environ", "is not a valid parameter name"),
        ("print()", "is not a valid parameter name"),
        ("x=1;y", "is not a valid parameter name"),
        ("alpha\n", "is not a valid parameter name"),
        ("class", "is not a valid parameter name"),
        ("None", "is not a valid parameter name"),
        ("1abc", "is not a valid parameter name"),
        ("a b", "is not a valid parameter name"),
        ("", "'' is not a valid parameter name"),
        ("-x", "is not a valid parameter name"),
        ("_", "is not a valid parameter name"),
        ("__builtins__", "is not a valid parameter name"),
        (5, "a int is not a valid parameter name"),
        (None, "a NoneType is not a valid parameter name"),
        ("print", "print has a meaning in Python"),
        ("get_ipython", "get_ipython has a meaning in Python"),
        ("\u0430lpha", r"'\u0430lpha' is not a valid parameter name"),
        ("alpha\u200b", r"'alpha\u200b' is not a valid parameter name"),
        ("\uff41lpha", r"'\uff41lpha' is not a valid parameter name"),
        ("alhpa", "unknown parameter alhpa: did you mean 'alpha'?"),
        ("zzz", "unknown parameter zzz: known: alpha, is_on, limit, name, options, seed, wide"),
    ],
)
def test_name_that_is_not_declared_never_reaches_a_kernel(tmp_path: Path, name: Any, message: str) -> None:
    path = make_notebook(tmp_path / "a.ipynb", CELL, "pass")
    before = path.read_bytes()
    with pytest.raises(ParamsError) as caught:
        run(path, {name: 1})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ipynb"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", "0.1", "parameter alpha is '0.1', of type str: the notebook's default 1.5 is of type float"),
        ("seed", 1.0, "parameter seed is 1.0, of type float: the notebook's default 7 is of type int"),
        ("seed", True, "parameter seed is True, of type bool"),
        ("is_on", 1, "parameter is_on is 1, of type int"),
        ("options", [1], "parameter options is [1], of type list"),
        ("seed", None, "parameter seed is None"),
        ("limit", (1, 2), "parameter limit is a tuple: write a list"),
        ("limit", b"ab", "parameter limit is a bytes: write a string"),
        ("alpha", float("nan"), "parameter alpha is nan: use plain finite values"),
        ("limit", float("inf"), "parameter limit is inf: use plain finite values"),
        ("limit", "\ud800", "parameter limit is not valid Unicode"),
        ("limit", "x" * 1_000_000, "parameter limit is a string of 1,000,000 bytes"),
        ("limit", {"a": 1, 2: 3}, "parameter limit has a key of type int"),
        ("name", "ghp_" + "a1" * 18, "name looks like a secret: name it under `secrets`"),
        ("options", {"api_key": "hidden"}, "options.api_key looks like a secret"),
        ("limit", ["postgresql://me:hidden@db/shop"], "limit.0 looks like a secret"),
    ],
)
def test_value_that_does_not_fit_never_reaches_a_kernel(name: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_parameters(make_cell(CELL), {name: value}, where="a.ipynb")
    assert str(caught.value).startswith("a.ipynb: ")
    assert message in str(caught.value)
    assert "hidden@" not in str(caught.value)


def test_value_of_the_declared_kind_passes() -> None:
    given = {"alpha": 2, "seed": np.int64(3), "limit": np.array([1.5]), "wide": float("nan"), "options": {"a": None}}
    assert repr(check_parameters(make_cell(CELL), given)) == repr(
        {"alpha": 2, "seed": 3, "limit": [1.5], "wide": float("nan"), "options": {"a": None}}
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("alpha = 1\nbeta = alpha * 2", "line 2: the default of beta is computed (alpha * 2), so an override"),
        ("a = 1\nb = a", "line 2: the default of b is computed (a)"),
        ("a = 1\nb = [a]", "line 2: the default of b is computed ([a])"),
        ("a = 1\nb = f'{a}'", "line 2: the default of b is computed"),
        ("b = dict(a=1)", "the default of b is computed (dict(a=1))"),
        ("b = 2 * 3", "the default of b is computed (2 * 3)"),
        ("b = float('1')", "the default of b is computed"),
        ("b = (lambda: 1)()", "the default of b is computed"),
        ("b = [x for x in 'ab']", "the default of b is computed"),
        ("b = (1, 2)", "line 1: b is a tuple: write a list"),
        ("import os\na = 1", "line 1: only lines `name = value` belong here: move the rest to the next cell"),
        ("a, b = 1, 2", "line 1: only lines `name = value`"),
        ("a = b = 1", "line 1: only lines `name = value`"),
        ("a: int", "line 1: only lines `name = value`"),
        ("a += 1", "line 1: only lines `name = value`"),
        ("if True:\n    a = 1", "line 1: only lines `name = value`"),
        ("a = 1\na = 2", "line 2: a is set twice"),
        ("a = ", "`parameters` cell, line 1: not plain Python"),
        ("%matplotlib inline\na = 1", "`parameters` cell, line 1: not plain Python"),
        ("a = " + "9" * 5000, "not plain Python"),
        ("a = " + "[" * 300 + "]" * 300, "not plain Python"),
        ("a = '\x00'", "not plain Python"),
        ("print = 1", "print has a meaning in Python"),
        ("\u0430lpha = 1", r"'\u0430lpha' is not a valid parameter name"),
        ("\uff41lpha = 1", r"'\uff41lpha' is not a valid parameter name"),
        ("api_token = 'hidden'", "api_token looks like a secret: name it under `secrets`"),
        ("password = 'hidden'", "password looks like a secret"),
        ("training = {'db_password': 'hidden'}", "training.db_password looks like a secret"),
        ("url = 'mysql://me:hidden@db/shop'", "url looks like a secret"),
    ],
    ids=lambda word: ascii(word)[:40],
)
def test_parameters_cell_holds_plain_defaults_only(source: str, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        read_defaults(make_cell(source), where="a.ipynb")
    assert message in str(caught.value)
    assert str(caught.value).startswith("a.ipynb: ")
    if "secret" in message:
        assert "hidden" not in str(caught.value)


def test_secret_names_are_fine_where_keys_are_columns_or_nothing_is_set() -> None:
    cell = 'api_token = ""\nwrangling = {"drop": {"customer_key": "only a number"}}\nwarehouse_key = 7'
    assert set(read_defaults(make_cell(cell))) == {"api_token", "wrangling", "warehouse_key"}


@pytest.mark.parametrize("n_cells", [0, 2])
def test_there_is_exactly_one_parameters_cell(tmp_path: Path, n_cells: int) -> None:
    path = make_notebook(tmp_path / "a.ipynb", "a = 1", "a = 2")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata["tags"] = ["parameters"] if cell.cell_type == "code" and n_cells else []
    nbformat.write(notebook, path)
    with pytest.raises(ParamsError, match=f"{n_cells} cells are tagged `parameters`: tag exactly one"):
        read_source(path)


def test_prose_cannot_be_the_parameters_cell() -> None:
    notebook = make_cell("a = 1")
    notebook.cells[0].cell_type = "markdown"
    with pytest.raises(ParamsError, match="the cell tagged `parameters` is markdown: tag a code cell"):
        read_defaults(notebook)


PLAIN = [None, True, False, 0, -1, 2**63, 10**400, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, [], {}, [[[]]]]
ALPHABET = string.printable + "\x00\x07\x1b'\"\\\u00df\u2028\u2029\u202e\ufeff\U0001f40d\u0430"


def draw(rng: random.Random, depth: int = 0) -> Any:
    """Return a value of any kind a parameter may have."""
    kinds = ["text", "text", "integer", "float", "other"] + ["list", "mapping"] * (depth < 4)
    match rng.choice(kinds):
        case "text":
            return draw_string(rng)
        case "integer":
            return rng.randint(-(10 ** rng.randint(1, 300)), 10 ** rng.randint(1, 300))
        case "float":
            return math.ldexp(rng.uniform(-1, 1), rng.randint(-1074, 1023))
        case "list":
            return [draw(rng, depth + 1) for _ in range(rng.randint(0, 4))]
        case "mapping":
            return {draw_string(rng): draw(rng, depth + 1) for _ in range(rng.randint(0, 4))}
    return rng.choice([None, True, False])


def draw_string(rng: random.Random) -> str:
    """Return a string, most of it of characters that mean something somewhere."""
    if rng.random() < 0.3:
        codes = (rng.choice([*range(0xD800), *range(0xE000, 0x11000)]) for _ in range(rng.randint(0, 20)))
        return "".join(map(chr, codes))
    return "".join(rng.choices(ALPHABET, k=rng.randint(0, 40)))


@pytest.mark.slow
def test_every_value_arrives_as_it_was_given_and_none_breaks_out(tmp_path: Path) -> None:
    rng = random.Random(20)
    values = [*HOSTILE, *PLAIN, {word: word for word in HOSTILE}, *(draw(rng) for _ in range(500))]
    given = {f"value_{number}": value for number, value in enumerate(values)}
    not_finite = {"nan": float("nan"), "wide": -math.inf}
    cell = [f"{name} = None" for name in given] + ['nan = float("nan")', "wide = float('inf')", 'experiment = ""']
    writing = (
        f"names = {[*given, *not_finite]}\nopen('found.txt', 'w').write(repr([globals()[name] for name in names]))"
    )
    path = make_notebook(tmp_path / "a.ipynb", "\n".join(cell), writing)
    assert run(path, {**given, **not_finite, "experiment": "{value_0}"}).failure is None
    assert (tmp_path / "found.txt").read_text() == repr([*given.values(), *not_finite.values()])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.ipynb", "executed.ipynb", "found.txt"]


@pytest.mark.slow
def test_braces_in_the_output_path_are_a_name_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / "{experiment}"
    folder.mkdir()
    path = make_notebook(folder / "a.ipynb", 'experiment = ""', "print(experiment)")
    assert run(path, {"experiment": "../elsewhere"}).failure is None
    assert sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*")) == [
        "{experiment}",
        "{experiment}/a.ipynb",
        "{experiment}/executed.ipynb",
    ]


def test_parameter_that_holds_a_declared_secret_is_refused(tmp_path: Path) -> None:
    from labkit.secrets.redaction import Mask

    path = make_notebook(tmp_path / "a.ipynb", 'note = ""')
    with pytest.raises(ParamsError, match="a parameter holds a secret: the notebook gets it by step.secret"):
        run_notebook(
            read_source(path),
            tmp_path / "executed.ipynb",
            parameters={"note": "it is hidden-away, see"},
            environment=dict(os.environ),
            on_cell=lambda *_: None,
            mask=Mask({"warehouse": "hidden-away"}),
        )
    assert not (tmp_path / "executed.ipynb").exists()
