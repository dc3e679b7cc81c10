"""Rows to predict: read as the main table is, whatever stands beside the columns that the model needs."""

import json
from pathlib import Path

import pandas as pd
import pytest
from labkit.data.reading.raw_table import Source
from labkit.errors import LabkitError
from labkit.new.inspect import survey_table
from labkit.new.options import Choices
from labkit.new.proposal import make_proposal
from labkit.params.experiment import Params
from labkit.params.wrangling import Rule
from labkit.serving.batch_input import load_rows

HEADER = "Nr;Beginn;Straße;PLZ;Betrag (€);Rabatt;gekündigt"
INPUTS = {"Beginn": "time", "Straße": "category", "PLZ": "category", "Betrag (€)": "number", "Rabatt": "number"}


def make_params(folder: Path) -> Params:
    """Return the params that `labkit new` proposes for an export as Excel in German writes it."""
    lines = [
        f"{n};{n % 28 + 1:02d}.{n % 12 + 1:02d}.2024;{'Gänseweg' if n % 3 else 'Allee'};0{n % 9}{n:03d};"
        f"1.{n:03d},{n % 10}0;{'' if n % 7 == 0 else f'{n % 5},5'};{'ja' if n % 5 == 0 else 'nein'}"
        for n in range(100, 200)
    ]
    path = folder / "kunden.csv"
    path.write_text("\r\n".join([HEADER, *lines, ""]), encoding="cp1252", newline="")
    choices = Choices()
    survey = survey_table("kunden", [Source(path, "kunden.csv")], ("kunden.csv",), "gekündigt", choices)
    tree = make_proposal("kunden", survey, "gekündigt", choices).tree
    return Params.model_validate_json(json.dumps(tree))


def write(folder: Path, content: str, encoding: str = "cp1252") -> Path:
    path = folder / "neu.csv"
    path.write_text(content, encoding=encoding, newline="")
    return path


def test_new_rows_are_read_as_the_table_was(tmp_path: Path) -> None:
    params = make_params(tmp_path)
    path = write(tmp_path, f"{HEADER}\r\n1;31.12.2024;Größenwahn;01067;1.234,50;;ja\r\n2;01.02.2025;;1;7;2,5;\r\n")
    rows = load_rows(path, params, INPUTS)
    assert list(rows) == [
        "Nr",
        "Beginn",
        "Straße",
        "PLZ",
        "Betrag (€)",
        "Rabatt",
        "gekündigt",
        "predict_at",
        "outcome_known_at",
    ]
    assert list(rows["Beginn"]) == [pd.Timestamp("2024-12-31"), pd.Timestamp("2025-02-01")]
    assert list(rows["Betrag (€)"]) == [1234.5, 7.0]
    assert rows["Straße"].to_list()[0] == "Größenwahn"  # a category never seen is for the model to predict
    assert rows["Straße"].isna().to_list() == [False, True]
    assert rows["PLZ"].to_list() == ["01067", "1"]
    assert rows["Nr"].to_list() == ["1", "2"], "an identifier is as it was written"
    assert rows["Rabatt"].isna().to_list() == [True, False]
    assert rows["gekündigt"].to_list()[0] == "ja"


def test_columns_in_any_order_without_the_target_and_with_any_others(tmp_path: Path) -> None:
    params = make_params(tmp_path)
    path = write(
        tmp_path, "mix;Rabatt;Betrag (€);PLZ;Straße;Beginn\n9;1,5;2,5;04109;Allee;05.06.2024\nx;1;3;4;a;06.06.2024\n"
    )
    rows = load_rows(path, params, INPUTS)
    assert set(rows) == {*INPUTS, "predict_at", "outcome_known_at"}
    assert list(rows["Rabatt"]) == [1.5, 1.0]


def test_few_rows_do_not_change_what_a_column_is_and_times_are_computed(tmp_path: Path) -> None:
    params = make_params(tmp_path)
    path = write(tmp_path, f"{HEADER}\n1;31.12.2024;007;01067;1;2;ja\n")
    rows = load_rows(path, params, {**INPUTS, "predict_at": "time"})
    assert rows["Straße"].to_list() == ["007"]
    assert rows["predict_at"].to_list() == [pd.Timestamp("2024-12-31", tz="UTC")]


def test_what_a_rule_reads_is_left_as_it_was_written(tmp_path: Path) -> None:
    params = make_params(tmp_path)
    rule = Rule(type="number", units={"$": 1.0})
    wrangling = params.wrangling.model_copy(update={"rules": {"Rabatt": rule}})
    path = write(tmp_path, f"{HEADER}\n1;31.12.2024;a;1;1;$7;ja\n")
    rows = load_rows(path, params.model_copy(update={"wrangling": wrangling}), INPUTS)
    assert rows["Rabatt"].to_list() == ["$7"]


@pytest.mark.parametrize("ending", [".parquet", ".xlsx", ".csv.gz", ".tsv", ".TSV.gz"])
def test_files_of_other_forms(tmp_path: Path, ending: str) -> None:
    params = make_params(tmp_path)
    path = write(tmp_path, f"{HEADER}\n1;31.12.2024;Allee;01067;1.234,50;2,5;ja\n")
    expected = load_rows(path, params, INPUTS).drop(columns=["predict_at", "outcome_known_at"])
    other = tmp_path / f"neu{ending}"
    if ending == ".parquet":
        expected.to_parquet(other)
    elif ending == ".xlsx":
        expected.assign(Beginn="31.12.2024", **{"Betrag (€)": "1.234,50", "Rabatt": "2,5"}).to_excel(other, index=False)
    else:
        packing, delimiter = "gzip" if "gz" in ending else None, ";" if "csv" in ending else "\t"
        strings = pd.read_csv(path, sep=";", dtype=str, encoding="cp1252")
        strings.to_csv(other, sep=delimiter, index=False, encoding="cp1252", compression=packing)
    rows = load_rows(other, params, INPUTS)
    pd.testing.assert_frame_equal(rows[list(expected)], expected, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (f"{HEADER.replace('Rabatt', 'Rabat')}\n1;31.12.2024;a;1;1;;ja\n", "cp1252",
         "missing columns 'Rabatt': for 'Rabatt', did you mean 'Rabat'? (read with encoding 'cp1252', delimiter ';', as "
         "declared in data.tables.kunden)"),
        (f"{HEADER.replace(';', ',')}\n1,31.12.2024,a,1,1,,ja\n", "cp1252",
         "for 'Beginn', its cells are separated by ',', and not by ';' (read with"),
        (f"{HEADER}\n1;31.12.2024;Gänseweg;1;1;;ja\n", "utf-8", "neu.csv: UTF-8, not CP1252 (4 accented characters would be garbled)"),
        (f"{HEADER}\n1;2024-12-31;a;1;1;;ja\n", "cp1252", "column Beginn, row 1: '2024-12-31' is not a time written as"),
        (f"{HEADER}\n1;31.12.2024;a;1;viel;;ja\n", "cp1252", "column 'Betrag (€)' holds 'viel': give numbers"),
        (f"{HEADER}\n", "cp1252", "0 data rows below the header"),
        ("", "cp1252", "is empty (0 bytes)"),
        (f"{HEADER}\n1;31.12.2024;a;1;1\n", "cp1252", "line 2 has 5 fields, header 7"),
    ],
)  # fmt: skip
def test_faulty_rows_are_reported_with_place_and_remedy(
    tmp_path: Path, content: str, encoding: str, message: str
) -> None:
    params = make_params(tmp_path)
    path = write(tmp_path, content, encoding)
    with pytest.raises(LabkitError) as caught:
        load_rows(path, params, INPUTS)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


SURVEY = "id,Age,Fan?,Visited,\n,Response,Response,Rome,Oslo\n" + "".join(
    f"{n},{20 + n * 7 % 50},{'Yes' if n % 3 else 'No'},{'Rome' if n % 2 else ''},{'Oslo' if n % 5 else ''}\n"
    for n in range(60)
)


def test_rows_of_a_survey_are_read_by_its_two_rows_of_names(tmp_path: Path) -> None:
    path = tmp_path / "survey.csv"
    path.write_text(SURVEY)
    choices = Choices()
    survey = survey_table("t", [Source(path, "t.csv")], ("t.csv",), "Fan?", choices)
    params = Params.model_validate_json(json.dumps(make_proposal("t", survey, "Fan?", choices).tree))
    new = tmp_path / "new.csv"
    new.write_text("\n".join(SURVEY.splitlines()[:4]))
    rows = load_rows(new, params, {"Age": "number", "Visited: Rome": "boolean", "Visited: Oslo": "boolean"})
    assert rows["Visited: Oslo"].to_list() == [False, True]
    assert rows["Fan?"].to_list() == ["No", "Yes"]


@pytest.mark.parametrize("name", ["rows", "rows.csv", "rows.txt"])
def test_what_a_file_is_counts_and_not_what_it_is_called(tmp_path: Path, name: str) -> None:
    params = make_params(tmp_path)
    path = write(tmp_path, f"{HEADER}\n1;31.12.2024;Allee;01067;1.234,50;2,5;ja\n")
    expected = load_rows(path, params, INPUTS).drop(columns=["predict_at", "outcome_known_at"])
    expected.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").rename(tmp_path / name)
    pd.testing.assert_frame_equal(
        load_rows(tmp_path / name, params, INPUTS)[list(expected)], expected, check_dtype=False
    )
    (tmp_path / name).write_bytes(path.read_bytes())
    pd.testing.assert_frame_equal(load_rows(tmp_path / name, params, INPUTS)[list(expected)], expected)
