"""Code of the user's own, named as `module:name`: imported from lib/, and what stops it is located."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError
from dvc.utils.serialize import parse_yaml as parse_dvc_yaml
from labkit import paths
from labkit.errors import ParamsError
from labkit.params.import_path import choose_arguments, locate_code, parse_import_path, resolve, resolve_callable
from labkit.params.section import ImportPath, OwnCode, Section, UsedBy, find_own_code
from labkit.params.yaml_text import parse_yaml
from labkit.run.fingerprint import stage_key
from labkit.run.fingerprint.import_graph import Checkout
from pydantic import Field

from tests.own_library import open_library

WHERE = "params/churn.yaml:12: training.models"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Return a function that writes modules of the package `churn_own` to the lib folder of an empty checkout."""
    with open_library(tmp_path, monkeypatch, "churn_own") as folder:

        def write_module(source: str, name: str = "models") -> Path:
            path = folder / f"{name}.py"
            path.write_text(source)
            return path

        yield write_module


@pytest.mark.parametrize(
    "text", ["churn", "churn.models", "churn:", ":make", "churn.models:make()", "a-b:c", "a:b:c", "a..b:c"]
)
def test_import_path_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="write module:name, e.g. churn.models:make_stack"):
        parse_import_path(text)
    assert parse_import_path("größe.modelle:baue") == ("größe.modelle", "baue")


def test_package_in_lib_needs_no_installation(write) -> None:
    write("import churn_own.other\nLIMIT = 3\ndef make(seed):\n    return churn_own.other.ONE\n")
    write("ONE = 1\n", "other")
    make = resolve_callable("churn_own.models:make", where=WHERE)
    assert make(seed=1) == 1
    assert locate_code(make) == "lib/churn_own/models.py:3"
    write("from abc import ABC\n\nclass Mean(ABC):\n    pass\n\n@ABC.register\nclass Last:\n    pass\n", "kinds")
    kinds = [resolve_callable(f"churn_own.kinds:{name}", where=WHERE) for name in ("Mean", "Last")]
    assert [locate_code(kind) for kind in kinds] == ["lib/churn_own/kinds.py:3", "lib/churn_own/kinds.py:7"]
    assert sys.path[-1] == str(paths.find_library_dir()), "the last, so that it hides no installed package"
    paths.make_library_importable()
    assert sys.path.count(sys.path[-1]) == 1


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("def make(:\n", "churn_own.models:make", "churn_own.models:make: lib/churn_own/models.py:1: SyntaxError: invalid syntax"),
        ("\nimport nowhere_at_all\n", "churn_own.models:make", "lib/churn_own/models.py:2: nowhere_at_all is not installed"),
        ("LIMITS = {}\nLIMITS['a']\n", "churn_own.models:make", "lib/churn_own/models.py:2: KeyError: 'a': correct it"),
        ("raise SystemExit(3)\n", "churn_own.models:make", "lib/churn_own/models.py:1: RuntimeError: raises SystemExit(3), which would end labkit"),
        ("x = 1\n\0\n", "churn_own.models:make", "lib/churn_own/models.py"),
        ("\nasync def make(): ...\n", "churn_own.models:make", "lib/churn_own/models.py:2: it is asynchronous: remove `async`"),
        ("def make_stack(): ...\n", "churn_own.models:make_stak", "lib/churn_own/models.py has no 'make_stak': did you mean 'make_stack'?"),
        ("", "churn_own.modles:make", "there is no module churn_own.modles in lib/ or installed: did you mean 'churn_own.models'?"),
        ("make = 3\n", "churn_own.models:make", "churn_own.models:make is of type int, not a function"),
        ("", "churn_own.models", "'churn_own.models' is no import path"),
    ],
)  # fmt: skip
def test_what_stops_an_import_is_located(write, source: str, text: str, message: str) -> None:
    write("", "__init__")
    write(source)
    with pytest.raises(ParamsError, match=f"^{re.escape(WHERE)}: .*{re.escape(message)}"):
        resolve_callable(text, where=WHERE)


def test_error_in_an_installed_package_is_reported_where_the_user_called_it(write) -> None:
    write("import json\n\njson.loads('{')\n")
    with pytest.raises(ParamsError, match=re.escape("lib/churn_own/models.py:3: JSONDecodeError")):
        resolve("churn_own.models:make", where=WHERE)


def test_function_gets_the_arguments_that_it_names(write) -> None:
    write(
        "def make(seed, *, depth=3): ...\ndef every(**options): ...\ndef wrong(rows): ...\ndef positional(seed, /): ...\n"
    )
    offered = {"task": "regression", "seed": 1}
    chosen = {
        name: choose_arguments(resolve(f"churn_own.models:{name}", where=WHERE), offered, where=WHERE)
        for name in ("make", "every")
    }
    assert chosen == {"make": {"seed": 1}, "every": offered}
    assert choose_arguments(dict, offered, where=WHERE) == {}
    message = "lib/churn_own/models.py:3: it needs the argument 'rows': take any of task, seed, by name, or nothing"
    with pytest.raises(ParamsError, match=re.escape(message)):
        choose_arguments(resolve("churn_own.models:wrong", where=WHERE), offered, where=WHERE)
    with pytest.raises(ParamsError, match="needs the argument 'seed'"):
        choose_arguments(resolve("churn_own.models:positional", where=WHERE), offered, where=WHERE)


def test_kernels_import_packages_of_lib_without_installation(write) -> None:
    write("ONE = 1\n")
    code = (
        "import importlib.util, sys\n"
        "from labkit.run.tracing import trace\n"
        "assert importlib.util.find_spec('churn_own') is None\n"
        "trace.load_ipython_extension(None)\n"
        "import churn_own.models; print(churn_own.models.ONE)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_import_path_within_brackets_needs_quotes_because_dvc_cannot_read_it() -> None:
    for content in ("a:\n  b: [dummy, churn.models:make]\n", "a: {b: churn.models:make}\n", "a: {b: {}, c: [[x:y]]}\n"):
        with pytest.raises(ParamsError, match="DVC cannot read (churn.models:make|x:y) within brackets: write"):
            parse_yaml(content, "params/churn.yaml")
        with pytest.raises(YAMLFileCorruptedError):
            parse_dvc_yaml(content, "params.yaml")
    for content in ("a: [x, {}]\nb: churn.models:make\n", 'a: ["churn.models:make"]\n', "a:\n- churn.models:make\n"):
        assert parse_yaml(content, "params/churn.yaml")
        assert parse_dvc_yaml(content, "params.yaml")


class Part(Section):
    """A section that names code of the user's own."""

    models: Annotated[tuple[str, ...], UsedBy(("training", "evaluation"))] = ()
    functions: Annotated[dict[str, ImportPath], UsedBy(("features",))] = Field({})
    one: Annotated[ImportPath | None, UsedBy(("training",))] = None


class Whole(Section):
    """A section with a section."""

    part: Part


def test_import_paths_in_params_are_found_with_their_keys_and_stages() -> None:
    part = Part(models=("linear", "churn_own.models:make"), functions={"age": "churn_own.age:age"}, one="churn_own:all")
    assert list(find_own_code(Whole(part=part))) == [
        OwnCode(("part", "models", 1), "churn_own.models:make", ("training", "evaluation")),
        OwnCode(("part", "functions", "age"), "churn_own.age:age", ("features",)),
        OwnCode(("part", "one"), "churn_own:all", ("training",)),
    ]
    assert list(find_own_code(Whole(part=Part()))) == []


def test_named_module_and_what_it_imports_is_code_of_the_stages_that_use_it(write, tmp_path: Path) -> None:
    write("from churn_own import other\n")
    other = write("LIMIT = 1\n", "other")
    (tmp_path / "notebooks").mkdir()
    start = tmp_path / "notebooks" / "04_training.ipynb"
    start.write_text('{"cells": []}')
    whole = Whole(part=Part(models=("churn_own.models:make", "sklearn.linear_model:Ridge")))

    def compute(stage: str) -> dict[str, str]:
        checkout = Checkout(tmp_path)
        return stage_key.compute_code_digests(checkout, start, *checkout.list_named_files(whole, stage))

    before = compute("training")
    assert list(before) == ["notebooks/04_training.ipynb", "lib/churn_own/models.py", "lib/churn_own/other.py"]
    assert list(compute("deploy")) == ["notebooks/04_training.ipynb"]
    other.write_text("LIMIT = 1  # a comment\n")
    assert compute("training") == before
    other.write_text("LIMIT = 2\n")
    assert {name for name, digest in compute("training").items() if digest != before[name]} == {
        "lib/churn_own/other.py"
    }


def test_package_with_the_name_of_another_module_is_named(write, tmp_path: Path) -> None:
    write("")
    folder = paths.find_library_dir() / "statistics"
    folder.mkdir()
    (folder / "models.py").write_text("def make(): ...\n")
    message = r"lib/statistics has the name of another module, .*statistics\.py: rename it, e\.g\. own_statistics"
    with pytest.raises(ParamsError, match=message):
        resolve_callable("statistics.models:make", where=WHERE)
