"""Releases of models with the user's own code: carried as wheels, and used wherever they are loaded."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.cli import main
from labkit.errors import MissingCodeError, ModelError, ParamsError
from labkit.features import own_functions
from labkit.features.row_features import RowFeatures
from labkit.model.release import bundle, own_code, release_code
from labkit.params.load import parse_file
from labkit.storage.digests import compute_digest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from tests.features.own_code import write_package
from tests.own_library import open_library

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "releasedshop"
TYPES = [f"{PACKAGE}.transformers.Levels"]
TABLE = pd.DataFrame({"joined": pd.date_range("2020-01-31", periods=40), "total": np.arange(40.0), "visits": 1.0})


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of a package in the `lib` folder of a checkout."""
    with open_library(tmp_path, monkeypatch, PACKAGE):
        yield write_package(tmp_path, PACKAGE)


def make_model(*, has_transformer: bool) -> Pipeline:
    """Return a model of one own function and, if wanted, of one own transformer."""
    functions = own_functions.make_function_specs({"worth": f"{PACKAGE}.features:per_visit"})
    levels = {
        "path": f"{PACKAGE}.transformers:Levels",
        "columns": ["total"],
        "names": ["level", "above"],
        "options": {},
    }
    columns = {"functions": functions} | ({"transformers": {"levels": levels}} if has_transformer else {})
    features = RowFeatures(drop=["joined"], columns=columns).fit(TABLE)
    model = Pipeline([("row_features", features), ("estimator", LinearRegression())])
    return model.fit(TABLE, TABLE["total"] * 2)


def write(folder: Path, own: Path, *, has_transformer: bool = False, graph: bytes | None = None) -> Path:
    """Write a release that carries the package."""
    needs = ("scikit-learn", "skops") if has_transformer else ()
    bundle.write_release(
        folder,
        make_model(has_transformer=has_transformer),
        graph=graph,
        facts={"task": "regression", "experiment": "t"},
        contract="{}",
        card="",
        example=TABLE,
        code=own_code.OwnCode(own_code.find_own_packages([f"{PACKAGE}.features:per_visit"]), TYPES, needs),
    )
    return folder


def change(own: Path, factor: str) -> None:
    """Edit the package: what a visit is worth is multiplied."""
    path = own / "features.py"
    path.write_text(path.read_text().replace("return total / ", f"return {factor} * total / "))
    release_code.remove_modules([PACKAGE])


def test_a_release_carries_the_package_with_its_digest(tmp_path: Path, own: Path) -> None:
    folder = write(tmp_path / "r", own, has_transformer=True)
    described = json.loads((folder / "release.json").read_text())["own_code"]
    wheel = folder / described["packages"][PACKAGE]["wheel"]
    assert described["packages"][PACKAGE]["sha256"] == compute_digest(wheel)
    assert json.loads((folder / "manifest.json").read_text())[wheel.name]["sha256"] == compute_digest(wheel)
    assert described["trusted_types"] == TYPES
    assert described["needs"] == ["scikit-learn", "skops"]
    with zipfile.ZipFile(wheel) as archive:
        assert f"{PACKAGE}/features.py" in archive.namelist()


def test_the_same_package_gives_the_same_bytes(tmp_path: Path, own: Path) -> None:
    (own / "table.csv").write_text("a,b\n")
    first = write(tmp_path / "a", own)
    (own / "__pycache__").mkdir(exist_ok=True)
    (own / "__pycache__" / "more.pyc").touch()
    (own / "features.py").touch()
    second = write(tmp_path / "b", own)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    [wheel] = release_code.list_wheels(first)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert f"{PACKAGE}/table.csv" in names
    assert not [name for name in names if name.endswith("pyc")]
    change(own, "2")
    assert release_code.list_wheels(write(tmp_path / "c", own))[0].name != wheel.name


@pytest.mark.parametrize("has_transformer", [False, True])
def test_a_release_predicts_with_the_code_that_trained_it(tmp_path: Path, own: Path, has_transformer: bool) -> None:
    expected = make_model(has_transformer=has_transformer).predict(TABLE)
    folder = write(tmp_path / "r", own, has_transformer=has_transformer)
    change(own, "1000")
    assert make_model(has_transformer=False)[0].transform(TABLE)["worth"].max() == 39000
    opened = bundle.load_release(folder)
    np.testing.assert_allclose(opened.predict(TABLE), expected)
    newer = bundle.load_release(write(tmp_path / "newer", own, has_transformer=has_transformer))
    for _ in range(2):
        with opened.code.active():
            assert opened.row_features.transform(TABLE)["worth"].max() == 39
        with newer.code.active():
            assert newer.row_features.transform(TABLE)["worth"].max() == 39000
    assert sys.modules[f"{PACKAGE}.features"].__file__ == str(own / "features.py")


def test_a_release_predicts_where_the_package_is_not_installed(tmp_path: Path, own: Path) -> None:
    folder = write(tmp_path / "r", own, has_transformer=True)
    expected = bundle.load_release(folder).predict(TABLE)
    program = (
        "import sys, pandas as pd; from pathlib import Path; from labkit.model.release.bundle import load_release\n"
        "print(load_release(Path(sys.argv[1])).predict(pd.read_json(sys.argv[2])).tolist())"
    )
    TABLE.to_json(tmp_path / "rows.json")
    done = subprocess.run(
        [sys.executable, "-c", program, folder, tmp_path / "rows.json"],
        cwd="/",
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), expected)


def test_a_wheel_that_was_changed_is_never_opened(tmp_path: Path, own: Path) -> None:
    folder = write(tmp_path / "r", own)
    [wheel] = release_code.list_wheels(folder)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(f"{PACKAGE}/more.py", "raise SystemExit('run')")
    with pytest.raises(ModelError, match=r"\.whl: changed since it was released: do not use this release"):
        bundle.load_release(folder)


@pytest.mark.parametrize("is_installed", [False, True])
def test_a_release_without_its_package_is_refused(tmp_path: Path, own: Path, is_installed: bool) -> None:
    folder = tmp_path / "r"
    bundle.write_release(
        folder, make_model(has_transformer=False), graph=None, facts={}, contract="{}", card="", example=TABLE
    )
    if not is_installed:
        own.rename(tmp_path / "elsewhere")
        release_code.remove_modules([PACKAGE])
    with pytest.raises(
        MissingCodeError, match=f"needs the package {PACKAGE}, which it does not carry: run the stage `deploy`"
    ):
        bundle.load_release(folder)


@pytest.mark.parametrize("path", ["os:system", "posixpath:join", "numpy:sort_complex"])
def test_a_release_calls_no_function_of_python_or_of_installed_packages(tmp_path: Path, own: Path, path: str) -> None:
    """Neither where its features are opened, nor where a model file holds other features, nor in training."""
    folder = write(tmp_path / "r", own)
    features = json.loads((folder / "row_features.json").read_text())
    features["columns"]["functions"]["worth"]["path"] = path
    (folder / "row_features.json").write_text(json.dumps(features))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["row_features.json"]["sha256"] = compute_digest(folder / "row_features.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=f"its features call {path}, which is in no package that it carries"):
        bundle.load_release(folder)
    spec = {"path": path, "columns": ["total"]}
    for call in (
        lambda: own_functions.compute_function("worth", spec, {"total": np.ones(2)}),
        lambda: own_functions.list_function_columns(path, where="params/t.yaml:3: features.functions.worth"),
    ):
        with pytest.raises(
            ParamsError, match=f"features.functions.worth: {path} is neither in lib/ nor carried by the"
        ):
            call()


def test_a_type_that_no_params_name_is_not_released(tmp_path: Path, own: Path) -> None:
    with pytest.raises(ModelError, match=rf"holds types that are not trusted: {PACKAGE}\.transformers\.Levels"):
        bundle.write_release(
            tmp_path / "r", make_model(has_transformer=True), graph=None, facts={}, contract="", card="", example=TABLE
        )


def test_packages_that_a_package_imports_come_with_it(own: Path) -> None:
    (own.parent / "sharedshop.py").write_text("import labkit\nimport numpy\n")
    (own.parent / "typeshop.py").write_text("")
    source = "import sharedshop\nfrom . import mistakes\nif TYPE_CHECKING:\n    import typeshop\n"
    (own / "features.py").write_text(source)
    found = own_code.find_own_packages([f"{PACKAGE}.features:per_visit", "numpy:log"])
    assert found == {PACKAGE: own, "sharedshop": own.parent / "sharedshop.py"}


def test_what_the_modules_of_a_model_import_is_required_where_it_predicts(tmp_path: Path, own: Path) -> None:
    (own.parent / "sharedshop.py").write_text("def make():\n    import requests\n")
    (own / "__init__.py").write_text("import json\n")
    (own / "inner.py").write_text("import dateutil.parser\nfrom labkit import names\n")
    (own / "plots.py").write_text("import matplotlib.pyplot\n")
    features = own / "features.py"
    features.write_text("import yaml, sharedshop\nfrom .inner import dateutil\n" + features.read_text())
    found = own_code.list_libraries([f"{PACKAGE}.features"])
    assert found == ["PyYAML", "numpy", "python-dateutil", "requests"], "not matplotlib, which no feature needs"
    transformers = own / "transformers.py"
    transformers.write_text(f"from {PACKAGE} import inner\n" + transformers.read_text())
    pins = (write(tmp_path / "r", own, has_transformer=True) / "requirements.txt").read_text()
    assert "python-dateutil==" in pins, "which the module of a class in the model imports"
    text = (ROOT / "params" / "diabetes.yaml").read_text()
    named = f"features:\n  functions: {{worth: '{PACKAGE}.features:per_visit'}}\n"
    code = own_code.find_code(
        parse_file(text.replace("features:\n", named, 1), ROOT / "params" / "diabetes.yaml").params
    )
    assert code.needs == ["PyYAML", "python-dateutil", "requests"]
    assert "PyYAML==" in "".join(bundle.list_requirements(needs=code.needs))


@pytest.mark.parametrize("command", [["serve", "t", "--port", "0"], ["package", "t", "--to", "dist"]])
def test_a_folder_with_code_is_refused_unless_it_is_trusted(
    tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    folder = write(tmp_path / "r", own)
    [wheel] = release_code.list_wheels(folder)
    with pytest.raises(SystemExit) as ended:
        main.main([*command, "--release", str(folder)])
    message = f"carries code, which would be run: {wheel.name}: add --trust-code if you know who made this release"
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main([*command, "--release", str(folder), "--trust-code"])
    assert "carries code" not in capsys.readouterr().err, "another reason: it has no graph, or no params"
