"""Arrays in `.npz` files: the same bytes for the same arrays, and no Python objects."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from labkit.errors import DataError, MissingDataError
from labkit.storage.npz import load_arrays, save_arrays

ARRAYS = {
    "numbers": np.arange(1000, dtype="float64") / 3,
    "words": np.array(["a", "größer", ""]),
    "times": np.array(["2024-01-02T03:04:05", "NaT"], dtype="datetime64[us]"),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "empty": np.empty((0, 3)),
}


def test_arrays_come_back_with_type_and_shape(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.npz", ARRAYS)
    loaded = load_arrays(tmp_path / "a.npz")
    assert list(loaded) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_same_arrays_give_same_bytes_at_any_time_and_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_arrays(tmp_path / "a.npz", ARRAYS)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    save_arrays(tmp_path / "b.npz", dict(reversed(ARRAYS.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_python_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        save_arrays(tmp_path / "a.npz", {"objects": objects})
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "b.npz", objects=objects)
    with pytest.raises(DataError, match="damaged"):
        load_arrays(tmp_path / "b.npz")
    with pytest.raises(MissingDataError, match="run the stage that writes it"):
        load_arrays(tmp_path / "c.npz")


def test_arrays_written_with_other_settings_of_zip_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, array in ARRAYS.items():
            np.save(tmp_path / name, array)
            archive.write(tmp_path / f"{name}.npy", f"{name}.npy", zipfile.ZIP_STORED)
    np.testing.assert_array_equal(load_arrays(tmp_path / "a.npz")["numbers"], ARRAYS["numbers"])
