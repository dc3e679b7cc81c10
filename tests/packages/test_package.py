"""Every form of package is compared with the model on real and made rows, and not written if it differs."""

import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from labkit.artifacts import PLACES
from labkit.data.table_files import save_table
from labkit.errors import ModelError, ParamsError
from labkit.model.release import bundle
from labkit.packages import mlflow_model, package, parity
from labkit.params.load import load_params
from labkit.paths import use_root

from tests.conftest import ROOT
from tests.model.tables import make_table
from tests.serving.running import write_release

FORMS = [form for form in package.FORMS if form != "pmml"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("r") / "release")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a checkout with a lock, and with a holdout of the experiment `shop`."""
    for name in ("dvc.yaml", "requirements.lock"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params").mkdir()
    path = tmp_path / "data/shop" / PLACES["clean_holdout"]
    path.parent.mkdir(parents=True)
    save_table(path, make_table(1200).assign(other=1).rename_axis(index="row"))
    return tmp_path


def write(root: Path, release: Path, form: str) -> package.Package:
    """Write a package of the release of the experiment `shop`."""
    params = load_params("diabetes").model_copy(update={"experiment": "shop"})
    with use_root(root):
        return package.write_package(params, root / "dist", form=form, release=release)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_package_is_compared_on_rows_of_the_holdout_and_on_made_ones(root: Path, release: Path, form: str) -> None:
    made = write(root, release, form)
    assert made.path.parent == root / "dist"
    assert made.path.exists()
    assert made.compared.startswith("1,000 rows of the holdout and ")
    assert made.compared.endswith(" with missing values, unknown categories and extremes")
    assert [path.name for path in (root / "dist").iterdir()] == [made.path.name]


@pytest.mark.parametrize("form", FORMS)
def test_package_that_differs_is_refused_with_its_rows(
    root: Path, release: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with use_root(root):
        number = parity.load_parity_rows("shop", bundle.load_release(release)).numbers[3]

    def shift(frame: pd.DataFrame) -> np.ndarray:
        found = bundle.load_release(release).predict(frame)
        found[[3, 1004]] += 2e-5
        return found

    monkeypatch.setitem(package.FORMS, form, package.Form(lambda _, folder: folder, lambda _: shift))
    message = (
        rf"{form} predicts otherwise .* 2 rows of 1,\d+, .*: row {number} of the holdout by 2e-05; made row 4 by 2e-05"
    )
    with pytest.raises(ModelError, match=message):
        write(root, release, form)
    assert not (root / "dist").exists()


def test_numbers_that_are_not_finite_differ(release: Path) -> None:
    opened = bundle.load_release(release)
    rows = parity.Rows(make_table(4), range(4), "the examples")
    with pytest.raises(ModelError, match="4 rows of 4"):
        parity.check_package("wheel", opened, rows, lambda frame: np.full((4, 2), np.nan))
    with pytest.raises(ModelError, match=r"predicts \(4,\) numbers, the model \(4, 2\)"):
        parity.check_package("wheel", opened, rows, lambda frame: np.zeros(4))


def test_examples_of_the_release_are_compared_without_a_holdout(root: Path, release: Path) -> None:
    (root / "data/shop" / PLACES["clean_holdout"]).unlink()
    with use_root(root):
        rows = parity.load_parity_rows("shop", bundle.load_release(release))
    assert (rows.n_real, rows.place) == (5, "the examples")


def test_folder_that_exists_is_not_replaced(root: Path, release: Path) -> None:
    kept = root / "dist" / "shop-mlflow" / "kept"
    kept.mkdir(parents=True)
    with pytest.raises(ParamsError, match="shop-mlflow: exists: remove it, or choose another folder with --to"):
        write(root, release, "mlflow")
    assert kept.is_dir()


def test_release_without_graph_is_packaged_for_mlflow_only(root: Path) -> None:
    release = write_release(root / "r", has_graph=False)
    with pytest.raises(ModelError, match="has no model.onnx, which the form service needs: choose --form mlflow"):
        write(root, release, "service")
    assert write(root, release, "mlflow").compared == "1,000 rows of the holdout"


@pytest.mark.slow
def test_mlflow_takes_the_table_whatever_its_types_and_returns_probabilities(release: Path, tmp_path: Path) -> None:
    opened = bundle.load_release(release)
    place = mlflow_model.write_model(opened, tmp_path)
    model = mlflow.pyfunc.load_model(str(place / "model"))
    frame = make_table()
    expected = opened.pipeline.predict_proba(frame)
    assert model.predict(frame.assign(outcome="yes")) == pytest.approx(expected)
    whole = frame.assign(a_b=frame["a_b"].round().astype("int64"), flag=frame["flag"].astype("int64"))
    assert model.predict(whole) == pytest.approx(opened.pipeline.predict_proba(whole))
    described = model.metadata.metadata
    assert (described["classes"], described["positive"], described["threshold"]) == (["no", "yes"], "yes", 0.3)
    limits = {"greater_than_or_equal_to": -5000.0, "less_than_or_equal_to": 5000.0}
    assert described["columns"]["a_b"] == {"nullable": False, **limits}
    serving = json.loads((place / "model" / "serving_input_example.json").read_text())
    assert len(serving["dataframe_split"]["data"]) == 5
    assert {path.suffix for path in (place / "model").iterdir()} <= {"", ".json", ".skops", ".txt", ".yaml"}
