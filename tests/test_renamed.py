"""Models that were published before modules were renamed still load and predict."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from labkit.model.release.skops_file import TRUSTED, TYPES, load_model, save_model
from labkit.renamed import RENAMED

from tests.model.tables import TASKS, make_model, make_new_rows


def write_old_names(path: Path) -> set[str]:
    """Write the old names of modules into a model file; return those that it has now."""
    used = set()
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for old, new in RENAMED.items():
        changed = files["schema.json"].replace(f'"{new}"'.encode(), f'"{old}"'.encode())
        used |= {old} if changed != files["schema.json"] else set()
        files["schema.json"] = changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return used


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["linear", "extra_trees"])
def test_model_with_old_names_predicts_the_same(tmp_path: Path, name: str, task: str) -> None:
    model, rows = make_model(name, task), make_new_rows()
    save_model(tmp_path / "m.skops", model)
    assert "labkit.data.features" in write_old_names(tmp_path / "m.skops")
    np.testing.assert_array_equal(load_model(tmp_path / "m.skops").predict(rows), model.predict(rows))


@pytest.mark.slow
def test_every_old_name_imports_in_a_new_process() -> None:
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", code, *RENAMED], check=True)


def test_old_names_are_trusted_where_the_new_ones_are() -> None:
    for old, new in RENAMED.items():
        names = {one.rpartition(".")[2] for one in TYPES if one.rpartition(".")[0] == new}
        assert {f"{old}.{name}" for name in names} <= {*TRUSTED}
