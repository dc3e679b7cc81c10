"""Models as files: the same bytes, nothing foreign, nothing run."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skops.io
from labkit.errors import MissingDataError, ModelError
from labkit.model.release.skops_file import load_model, measure_parts, save_model
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.model.tables import CASES, TASKS, make_new_rows, make_small_model


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_candidate_comes_back_the_same(tmp_path: Path, name: str, task: str) -> None:
    model = make_small_model(name, task)
    save_model(tmp_path / "a.skops", model)
    read = load_model(tmp_path / "a.skops")
    np.testing.assert_array_equal(read.predict(make_new_rows()), model.predict(make_new_rows()))
    save_model(tmp_path / "b.skops", model)
    assert (tmp_path / "a.skops").read_bytes() == (tmp_path / "b.skops").read_bytes()


SAVE = """
import sys
from pathlib import Path
from labkit.model.release.skops_file import save_model
from tests.model.tables import make_small_model
padding = [object() for _ in range(int(sys.argv[2]))]
for name in ("linear", "random_forest", "hist_gradient_boosting", "lightgbm", "blend"):
    save_model(Path(sys.argv[1]) / name, make_small_model(name, "binary"))
"""


@pytest.mark.slow
def test_same_bytes_in_two_processes(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": number, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, "-c", SAVE, str(tmp_path / number), number + "000"]
        subprocess.run(command, check=True, env=environment)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes(), path.name


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["linear", "random_forest", "extra_trees", "lightgbm", "blend"])
def test_model_that_was_loaded_is_saved_as_the_same_bytes(tmp_path: Path, name: str, task: str) -> None:
    """The stage that releases a model saves one that it has loaded."""
    save_model(tmp_path / "a.skops", make_small_model(name, task))
    for _ in range(3):
        save_model(tmp_path / "b.skops", load_model(tmp_path / "a.skops"))
        assert (tmp_path / "b.skops").read_bytes() == (tmp_path / "a.skops").read_bytes()


def test_foreign_type_is_refused_by_name_and_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "run"
    evil = Pipeline([("run", FunctionTransformer(functools.partial(os.mkdir, str(marker))))])
    with pytest.raises(ModelError, match=r"holds types that are not trusted: .*posix\.mkdir"):
        save_model(tmp_path / "a.skops", evil)
    assert not (tmp_path / "a.skops").exists()
    skops.io.dump(evil, tmp_path / "b.skops")
    with pytest.raises(ModelError, match=r"b\.skops: holds types that are not trusted: .*posix\.mkdir"):
        load_model(tmp_path / "b.skops")
    assert not marker.exists()


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.skops"
    save_model(path, make_small_model("linear", "binary"))
    content = path.read_bytes()
    expected = make_small_model("linear", "binary").predict_proba(make_new_rows())
    for length in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match="not a model file, or damaged"):
            load_model(path)
    for place in range(0, len(content), len(content) // 150):
        broken = bytearray(content)
        broken[place] ^= 16
        path.write_bytes(broken)
        try:
            read = load_model(path)
        except ModelError:
            continue
        np.testing.assert_array_equal(read.predict_proba(make_new_rows()), expected)


def test_missing_file_error_explains_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="run the stage that writes it"):
        load_model(tmp_path / "none.skops")


@pytest.mark.slow
def test_size_is_measured_by_part_and_by_member_of_a_blend(tmp_path: Path) -> None:
    model = make_small_model("blend", "binary")
    sizes = measure_parts(model)
    assert set(sizes) == {"row_features", "preparation", *dict(model[-1].estimators)}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    save_model(tmp_path / "model.skops", model)
    assert sum(sizes.values()) == pytest.approx((tmp_path / "model.skops").stat().st_size, rel=0.3)
    assert set(measure_parts(make_small_model("linear", "binary"))) == {"row_features", "preparation", "estimator"}
