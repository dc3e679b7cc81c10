"""A release as PMML: converted where there is Java and a sklearn2pmml that takes scikit-learn, refused by name elsewhere."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from labkit.errors import ModelError, ParamsError
from labkit.model.release import bundle
from labkit.packages import pmml
from labkit.packages.parity import Rows, check_package

from tests.conftest import ROOT
from tests.model.tables import make_table
from tests.services import skip_outside_of_ci
from tests.serving.running import write_release

CONVERTER = """
__version__ = "0.1"

def sklearn2pmml(pipeline, path):
    raise RuntimeError("The version of scikit-learn is not supported, downgrade\\nmore")
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> bundle.Release:
    return bundle.load_release(write_release(tmp_path_factory.mktemp("r") / "release", "regression", model="linear"))


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called java first into the path; it is never run."""
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(pmml.PYTHON_VARIABLE, raising=False)


def test_java_is_needed(opened: bundle.Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParamsError, match="there is no `java` in the path: install it, or choose another --form"):
        pmml.write_pmml(opened, tmp_path)


@pytest.mark.usefixtures("java")
def test_environment_without_the_converter_is_refused_with_what_to_do(
    opened: bundle.Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="it lacks sklearn2pmml: make an environment with .* LABKIT_PMML_PYTHON="):
        pmml.write_pmml(opened, tmp_path)
    monkeypatch.setenv(pmml.PYTHON_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ModelError, match="gone: No such file or directory: make an environment"):
        pmml.write_pmml(opened, tmp_path / "again")


@pytest.mark.usefixtures("java")
def test_refusal_names_both_versions(opened: bundle.Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter of this test refuses like the real one, which names its own and scikit-learn's version."""
    import sklearn

    library = tmp_path / "library"
    (library / "sklearn2pmml").mkdir(parents=True)
    (library / "sklearn2pmml" / "__init__.py").write_text(CONVERTER)
    (library / "sklearn2pmml" / "pipeline.py").write_text("from sklearn.pipeline import Pipeline as PMMLPipeline\n")
    (library / "jpmml_evaluator.py").write_text("make_evaluator = None\n")
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{library}{os.pathsep}{before}" if before else str(library))
    message = f"sklearn2pmml 0.1 refuses it with scikit-learn {sklearn.__version__}: The version of scikit-learn is not"
    with pytest.raises(ModelError, match=message):
        pmml.write_pmml(opened, tmp_path)


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make the environment as documented, which is not that of the lock, and return its Python."""
    if shutil.which("java") is None:
        skip_outside_of_ci("no Java on this machine: install it from the distribution")
    folder = tmp_path_factory.mktemp("pmml")
    page = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")
    [block] = [block for block in page.split("```")[1::2] if f"{pmml.PYTHON_VARIABLE}=" in block]
    *commands, last = block.replace("\\\n", " ").strip().splitlines()
    for command in commands:
        done = subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            skip_outside_of_ci(f"{command}: {done.stderr}")
    return str(folder / last.partition("=")[2])


@pytest.mark.slow
@pytest.mark.xdist_group("pmml")
@pytest.mark.parametrize(("task", "model"), [("regression", "linear"), ("binary", "hist_gradient_boosting")])
def test_evaluator_predicts_what_the_model_predicts(
    task: str, model: str, converter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pmml.PYTHON_VARIABLE, converter)
    opened = bundle.load_release(write_release(tmp_path / "release", task, model=model))
    place = pmml.write_pmml(opened, tmp_path)
    frame = make_table()
    check_package("pmml", opened, Rows(frame, range(len(frame)), "the table"), pmml.predict_with_pmml(place))
    assert json.loads((place / "row_features.json").read_text())["inputs"]
