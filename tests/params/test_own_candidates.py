"""Candidates that the params name: what is no estimator is refused before a kernel starts, with both lines."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.params.load import load_params
from labkit.run.pipeline.experiment_run import check_own_code, write_settings
from labkit.run.pipeline.progress import Progress

from tests.own_library import open_library

DIABETES = Path(__file__).resolve().parents[2] / "params" / "diabetes.yaml"
CLASS = "class Stubborn(Ridge):\n    def __init__(self, depth=3):\n        self.depth = depth + 1\n"
HIDING = "class Stubborn(Ridge):\n    def get_params(self, deep=True):\n        raise OSError('no settings')\n"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the package `churn` in the lib folder of a checkout with the params of diabetes."""
    with open_library(tmp_path, monkeypatch, "churn") as folder:
        (tmp_path / "params" / "diabetes.yaml").write_text(DIABETES.read_text())
        yield folder


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def make(): ...\n", "lib/churn/bad.py:1: NoneType has no fit; predict: give a scikit-learn estimator for it"),
        ("def make():\n    return {}['x']\n", "lib/churn/bad.py:2: it raised KeyError: 'x': correct it"),
        ("def make(rows): ...\n", "lib/churn/bad.py:1: it needs the argument 'rows': take any of task, seed, by name"),
        (
            "from sklearn.linear_model import Ridge\ndef make(): return Ridge\n",
            "lib/churn/bad.py:2: it is the class Ridge",
        ),
        (
            f"from sklearn.linear_model import Ridge\n{CLASS}def make(): return Stubborn()\n",
            "lib/churn/bad.py:5: Stubborn cannot be cloned: ",
        ),
        (
            f"from sklearn.linear_model import Ridge\n{HIDING}def make(): return Stubborn()\n",
            "lib/churn/bad.py:5: Stubborn cannot be cloned: no settings, at lib/churn/bad.py:4",
        ),
    ],
)
def test_run_is_refused_with_both_lines_before_a_kernel_starts(library: Path, source: str, message: str) -> None:
    (library / "bad.py").write_text(source)
    params = library.parents[1] / "params" / "diabetes.yaml"
    text = re.sub(r"models: \[", 'models: ["churn.bad:make", ', params.read_text())
    params.write_text(text)
    with pytest.raises(
        ParamsError, match=rf"^params/diabetes.yaml:\d+: training.models: churn.bad:make: {re.escape(message)}"
    ):
        check_own_code(load_params("diabetes"))


def test_setting_that_names_no_estimator_leaves_the_file_alone(library: Path) -> None:
    (library / "bad.py").write_text("def linear(): ...\n")
    params = library.parents[1] / "params" / "diabetes.yaml"
    before = params.read_bytes()
    with pytest.raises(ParamsError, match=r"^-S training.models: churn.bad:linear: .* named 'linear': use a name of"):
        write_settings("diabetes", ('training.models=[dummy, "churn.bad:linear"]',), Progress())
    assert params.read_bytes() == before
