"""Types that the params trust: only classes and functions, as model files name them, and none of Python's own."""

import re
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.params.trusted_types import find_type, list_trusted_types

from tests.own_library import open_library

WHERE = "params/churn.yaml:12: training.trusted_types"
SOURCE = "from subprocess import Popen\nfrom sklearn.linear_model import Ridge\nLIMIT = 3\nclass Stack: ...\n"


def test_types_are_named_as_in_model_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_library(tmp_path, monkeypatch, "trustedshop") as folder:
        (folder / "models.py").write_text(SOURCE)
        assert list_trusted_types(["trustedshop.models:Stack"]) == ["trustedshop.models.Stack"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("os:system", "os:system is part of Python, and could run anything: name types of your own"),
        ("builtins:eval", "builtins:eval is part of Python"),
        ("trustedshop.models:Popen", "trustedshop.models:Popen is subprocess.Popen, a part of Python"),
        ("trustedshop.models:Ridge", "is defined elsewhere: write sklearn.linear_model._ridge:Ridge"),
        ("trustedshop.models:Stak", "lib/trustedshop/models.py has no 'Stak': did you mean 'Stack'?"),
        (
            "numpy.testing._private.utils:runstring",
            "runstring is no scikit-learn estimator: of installed libraries, name",
        ),
        ("labkit.storage.atomic:write_bytes", "write_bytes is no scikit-learn estimator"),
        ("trustedshop.models:LIMIT", "trustedshop.models:LIMIT is of type int"),
        (
            "xgbost.core:Booster",
            "there is no module xgbost.core in lib/ or installed: `uv pip install xgbost`, or correct",
        ),
    ],
)
def test_what_cannot_be_trusted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    with open_library(tmp_path, monkeypatch, "trustedshop") as folder:
        (folder / "models.py").write_text(SOURCE)
        with pytest.raises(ParamsError, match=f"^{re.escape(WHERE)}: .*{re.escape(message)}"):
            find_type(text, where=WHERE)
