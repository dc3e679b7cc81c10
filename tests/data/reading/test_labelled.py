"""Files of SPSS, Stata and SAS: labels name categories, codes for missing values are missing."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyreadstat
import pytest
from labkit.data.reading.raw_table import RawTable, Source
from labkit.errors import LabkitError
from labkit.params.tables import Table

FRAME = pd.DataFrame(
    {
        "sex": [1, 2, 1, 9],
        "age": [30.0, 41.0, 999.0, None],
        "name": ["Anna", "", "Björn", "x"],
        "scale": [1, 2, 3, 5],
        "whole": [0, 1, 0, 7],
        "day": pd.to_datetime(["2024-01-02", "2024-01-03", None, "2024-02-03"]),
        "same": [1, 2, 1, 2],
        "empty": [float("nan")] * 4,
    }
)
LABELS = {"sex": {1: "male", 2: "None", 9: "n/a"}, "scale": {1: "low", 5: "high"}, "same": {1: "yes", 2: "yes"}}


def open_table(path: Path, **fields: Any) -> RawTable:
    return RawTable("t", Table(path=path.name, **fields), [Source(path, path.name)])


def read(path: Path, **fields: Any) -> pa.Table:
    return pa.concat_tables(open_table(path, **fields).read())


def write_spss(folder: Path) -> Path:
    path = folder / "t.sav"
    pyreadstat.write_sav(FRAME, path, variable_value_labels=LABELS, missing_ranges={"age": [999], "sex": [9]})
    return path


def test_labels_are_names_and_codes_for_missing_values_are_missing(tmp_path: Path) -> None:
    found = read(write_spss(tmp_path), codes=("scale",))
    assert found.schema.types == [
        pa.string(), pa.float64(), pa.string(), pa.int64(), pa.int64(), pa.timestamp("us"), pa.string(), pa.float64(),
    ]  # fmt: skip
    # A label is a name, whatever word it is.
    assert found["sex"].to_pylist() == ["male", "None", "male", None]
    assert found["age"].to_pylist() == [30.0, 41.0, None, None]
    assert found["name"].to_pylist() == ["Anna", None, "Björn", "x"]
    assert found["scale"].to_pylist() == [1, 2, 3, 5]
    assert found["same"].to_pylist() == ["yes (1)", "yes (2)", "yes (1)", "yes (2)"]
    assert found["day"].to_pandas().isna().tolist() == [False, False, True, False]


def test_code_without_a_label_is_refused_and_noted_where_it_is_a_number(tmp_path: Path) -> None:
    path = write_spss(tmp_path)
    message = (
        r"t\.sav: column 'scale': code 2 has no label \(2 such codes\): add a label in the file, or name the column"
    )
    with pytest.raises(LabkitError, match=message):
        read(path)
    assert len(read(path, skip=("scale",)).column_names) == 7
    (note,) = open_table(path, codes=("scale",)).notes
    assert (note.column, note.evidence) == ("scale", "1 is 'low'; 5 is 'high'")
    with pytest.raises(LabkitError, match=r"data\.tables\.t\.codes: no column 'scales': did you mean 'scale'\?"):
        open_table(path, codes=("scales",))


def test_missing_codes_of_stata_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.dta"
    frame = pd.DataFrame({"a": [1, "b", 3], "n": [1, 2, 3]}).astype({"a": object})
    pyreadstat.write_dta(frame, path, missing_user_values={"a": ["b"]}, variable_value_labels={"a": {"b": "refused"}})
    assert read(path, codes=("a",))["a"].to_pylist() == [1.0, None, 3.0]


def test_types_are_those_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.data.reading.labelled.BLOCK_ROWS", 2)
    frame = pd.DataFrame(
        {"late": [1, 2, 3, 4.5], "gone": [None, None, 1, 2], "filled": [1, 2, 3, 4], "word": ["", "", "a", ""]}
    )
    pyreadstat.write_sav(frame, tmp_path / "t.sav")
    found = read(tmp_path / "t.sav")
    assert found.schema.types == [pa.float64(), pa.float64(), pa.int64(), pa.string()]


def test_text_in_another_encoding_is_read_as_declared(tmp_path: Path) -> None:
    path = tmp_path / "t.dta"
    pd.DataFrame({"city": ["Köln", "Łódź"]}).assign(n=[1, 2]).to_stata(path, version=118, write_index=False)
    assert read(path)["city"].to_pylist() == ["Köln", "Łódź"]
    old = tmp_path / "old.dta"
    pd.DataFrame({"city": ["Koln", "Rome"]}).to_stata(old, version=114, write_index=False)
    old.write_bytes(old.read_bytes().replace(b"Koln", "Köln".encode("cp850")))
    assert read(old, encoding="cp850")["city"].to_pylist() == ["Köln", "Rome"]
