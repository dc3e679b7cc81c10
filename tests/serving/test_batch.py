"""Predictions as a table: labels by the threshold that was chosen, scores where true values are known."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.data.table_files import save_table
from labkit.errors import LabkitError
from labkit.params.load import load_params
from labkit.serving.batch import BatchSummary, compute_score, predict_file
from labkit.serving.batch_files import check_batch_files, check_destination
from labkit.serving.batch_work import make_prediction_table

from tests.serving.small_champion import INPUTS, PARAMS, TABLE, N
from tests.serving.small_champion import champion as champion

FACTS = {"classes": ["no", "yes"], "positive": "yes", "metric": "roc_auc", "metrics": {"holdout_roc_auc": 0.9}}
PROBABILITIES = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])


def test_threshold_by_costs_decides() -> None:
    assert list(make_prediction_table(PROBABILITIES, FACTS)["prediction"]) == ["no", "no", "yes"]
    assert list(make_prediction_table(PROBABILITIES, {**FACTS, "threshold": 0.3})["prediction"]) == ["no", "yes", "yes"]
    assert list(make_prediction_table(PROBABILITIES, {**FACTS, "threshold": 0.3})) == [
        "prediction",
        "probability_no",
        "probability_yes",
        "threshold",
    ]
    assert list(make_prediction_table(PROBABILITIES, FACTS)) == ["prediction", "probability_no", "probability_yes"]


def test_summary_names_the_threshold_in_force() -> None:
    done = BatchSummary("e", 3, 2, "out.csv", ("row", "prediction"), "yes", 0.3, ("x: no value in any row",), None)
    assert str(done).splitlines() == [
        "2 rows predicted with e version 3 → out.csv",
        "prediction is 'yes' from a probability of 0.3 on: the threshold chosen by costs",
        "x: no value in any row",
    ]


def test_known_true_values_are_scored_beside_the_holdout() -> None:
    params = load_params("breast_cancer")
    tree = params.model_dump(mode="json")
    tree["data"]["target"] |= {"column": "late", "positive": "yes"}
    params = type(params).model_validate_json(json.dumps(tree))
    rows = pd.DataFrame({"late": ["no", "yes", "yes"]})
    score = compute_score(rows, PROBABILITIES, FACTS, params)
    assert str(score) == "roc_auc on these rows 1, on the holdout 0.9: +0.1"
    old = {**FACTS, "metrics": {"roc_auc": 0.9}}  # a release of an earlier version
    assert compute_score(rows, PROBABILITIES, old, params) == score
    assert compute_score(rows.assign(late=["no", None, "yes"]), PROBABILITIES, FACTS, params) is None
    assert compute_score(rows.drop(columns="late"), PROBABILITIES, FACTS, params) is None
    perhaps = compute_score(rows.assign(late=["perhaps", "no", "yes"]), PROBABILITIES, FACTS, params)
    assert str(perhaps) == "The rows have true values that cannot be scored: class 'perhaps' is unknown to the model"
    one = "The rows have true values that cannot be scored: one class only"
    assert str(compute_score(rows.assign(late="yes"), PROBABILITIES, FACTS, params)) == one


def predict(champion: Path, folder: Path, table: pd.DataFrame, name: str = "in.csv") -> tuple[list[str], pd.DataFrame]:
    """Return what is reported of a table's predictions, and these."""
    save = save_table if name.endswith(".parquet") else lambda path, frame: frame.to_csv(path, index=False)
    save(folder / name, table)
    reported = str(predict_file("e", folder / name, folder / "out.csv", overwrite=True)).splitlines()
    assert reported[0] == f"{len(table)} rows predicted with e version 1 → {folder / 'out.csv'}"
    return reported[1:], pd.read_csv(folder / "out.csv")


@pytest.mark.slow
def test_values_never_seen_are_counted_by_column(champion: Path, tmp_path: Path) -> None:
    assert predict(champion, tmp_path, INPUTS)[0] == []
    changed = INPUTS.assign(city="purple", code=["9", "1"] * 6, flag=["yes", "no", "perhaps"] * 4)
    assert predict(champion, tmp_path, changed)[0] == [
        "city: 12 of 12 values were never seen in training: 'purple'",
        "flag: 4 of 12 values were never seen in training: 'perhaps'",
        "code: 6 of 12 values were never seen in training: '9'",
    ]


@pytest.mark.slow
def test_columns_without_any_value_are_named(champion: Path, tmp_path: Path) -> None:
    reported, _ = predict(champion, tmp_path, INPUTS.assign(x=None, city=None))
    assert reported == ["x: no value in any row", "city: no value in any row"]


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
@pytest.mark.parametrize(
    "changes",
    [
        {"flag": INPUTS["flag"] == "yes"},
        {"flag": (INPUTS["flag"] == "yes").astype(int)},
        {"flag": INPUTS["flag"].str.upper()},
        {"is_new": INPUTS["is_new"].map({True: "yes", False: "No"})},
        {"is_new": INPUTS["is_new"].astype(int)},
        {"code": INPUTS["code"].astype(int)},
        {"code": INPUTS["code"].astype(float)},
    ],
    ids=["booleans", "numbers", "capitals", "words for booleans", "numbers for booleans", "codes", "codes as reals"],
)
def test_the_same_value_in_another_form_is_the_same(
    champion: Path, tmp_path: Path, name: str, changes: dict[str, pd.Series]
) -> None:
    _, expected = predict(champion, tmp_path, INPUTS)
    reported, found = predict(champion, tmp_path, INPUTS.assign(**changes), name)
    if name == "in.csv" and changes.keys() == {"code"} and changes["code"].dtype == float:
        assert reported == ["code: 12 of 12 values were never seen in training: '0.0'; '1.0'; '2.0'; … and 1 more"]
        return
    assert reported == []
    pd.testing.assert_frame_equal(found, expected)


def test_true_and_false_for_other_categories_are_refused(champion: Path, tmp_path: Path) -> None:
    message = (
        r"column 'city' holds True and False, the model knows 'blue'; 'green'; 'red': write it as in the training data"
    )
    with pytest.raises(LabkitError, match=message):
        predict(champion, tmp_path, INPUTS.assign(city=INPUTS["is_new"]), "in.parquet")


def test_known_true_values_are_scored_or_the_reason_is_reported(champion: Path, tmp_path: Path) -> None:
    reported, _ = predict(champion, tmp_path, TABLE)
    assert reported[0].startswith("roc_auc on these rows 0.9")
    reported, _ = predict(champion, tmp_path, INPUTS.assign(y="up"))
    assert reported == ["The rows have true values that cannot be scored: one class only"]


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def hard_link(path: Path, target: Path) -> Path:
    path.hardlink_to(target)
    return path


SPELLINGS = {
    "same": lambda source: source,
    "other spelling": lambda source: source.parent / "." / ".." / source.parent.name / source.name,
    "symbolic link": lambda source: link(source.parent / "link.csv", source),
    "hard link": lambda source: hard_link(source.parent / "hard.csv", source),
    "relative": lambda source: Path(os.path.relpath(source)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_source_is_never_overwritten(champion: Path, tmp_path: Path, spelling: str, overwrite: bool) -> None:
    source = tmp_path / "in.csv"
    INPUTS.to_csv(source, index=False)
    before = source.read_bytes()
    with pytest.raises(LabkitError, match="is the file with the rows to predict, .*: name another one") as refused:
        predict_file("e", source, SPELLINGS[spelling](source), overwrite=overwrite)
    assert refused.value.exit_code == 2
    assert source.read_bytes() == before


def test_only_predictions_are_replaced_without_being_asked(champion: Path, tmp_path: Path) -> None:
    source, destination = tmp_path / "in.csv", tmp_path / "out.csv"
    INPUTS.to_csv(source, index=False)
    predict_file("e", source, destination)
    predict_file("e", source, destination)
    for content in ("a,b\n1,2\n", "prediction,note\nup,mine\n", "prediction", "\x00\x01"):
        destination.write_text(content)
        if content == "prediction":
            check_destination(destination, source, overwrite=False)
            continue
        with pytest.raises(LabkitError, match="exists and was not written by labkit predict: name another one, or"):
            predict_file("e", source, destination)
        assert destination.read_text() == content
    predict_file("e", source, destination, overwrite=True)
    assert list(pd.read_csv(destination)) == ["row", "prediction", "probability_down", "probability_up"]
    table = tmp_path / "out.parquet"
    INPUTS.to_parquet(table)
    with pytest.raises(LabkitError, match="was not written by labkit predict"):
        predict_file("e", source, table)
    predict_file("e", source, table, overwrite=True)
    predict_file("e", source, table)


IDS = [f"{n:03}" for n in range(7, 7 + len(INPUTS))]


@pytest.fixture
def identified(champion: Path) -> Iterator[Path]:
    """Return a checkout whose params name `patient` as an identifier."""
    path = champion / "params" / "e.yaml"
    path.write_text(PARAMS.replace("wrangling: {}", 'wrangling: {drop: {patient: "identifier: all distinct"}}'))
    yield champion
    path.write_text(PARAMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_predictions_name_their_rows(identified: Path, tmp_path: Path, name: str) -> None:
    table = INPUTS.assign(patient=IDS if name == "in.csv" else range(len(INPUTS)), seen=["2024-01-31"] * len(INPUTS))
    save = save_table if name.endswith(".parquet") else lambda path, frame: frame.to_csv(path, index=False)
    save(tmp_path / name, table)
    summary = predict_file("e", tmp_path / name, tmp_path / "out.csv", keep=["seen", "x", "patient"])
    found = pd.read_csv(tmp_path / "out.csv", dtype={"patient": str})
    assert tuple(found) == ("patient", "seen", "x", "prediction", "probability_down", "probability_up")
    assert summary.columns == tuple(found)
    assert list(found["patient"]) == list(map(str, table["patient"])), "as written, with leading zeros"
    assert list(found["seen"]) == list(table["seen"])
    np.testing.assert_allclose(found["x"], table["x"])
    # Written once more without asking, because these columns are copied again; not if they would be lost.
    predict_file("e", tmp_path / name, tmp_path / "out.csv", keep=["seen", "x"])
    with pytest.raises(LabkitError, match="was not written by labkit predict"):
        predict_file("e", tmp_path / name, tmp_path / "out.csv")


@pytest.mark.slow
def test_rows_without_an_identifier_are_numbered(identified: Path, tmp_path: Path) -> None:
    _, found = predict(identified, tmp_path, INPUTS)
    assert list(found["row"]) == list(range(1, len(INPUTS) + 1))
    assert list(found)[:2] == ["row", "prediction"]


@pytest.mark.slow
def test_summary_of_predictions_is_plain_data(champion: Path, tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "in.csv", index=False)
    found = json.loads(json.dumps(predict_file("e", tmp_path / "in.csv", tmp_path / "out.csv").to_dict()))
    assert (found["experiment"], found["version"], found["n_rows"], found["threshold"]) == ("e", 1, N, None)
    assert found["columns"] == ["row", "prediction", "probability_down", "probability_up"]
    assert (found["score"]["metric"], found["score"]["holdout"], found["remarks"]) == ("roc_auc", 0.9, [])


@pytest.mark.slow
def test_column_to_keep_that_is_not_there_is_named(champion: Path, tmp_path: Path) -> None:
    INPUTS.to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(LabkitError, match=r"^--keep citty: .*in\.csv has no such column: did you mean 'city'\?$"):
        predict_file("e", tmp_path / "in.csv", tmp_path / "out.csv", keep=["citty"])
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("source", "destination", "keep", "message"),
    [
        ("patient.csv", "out.csv", [], "patient.csv: no such file: did you mean 'patients.csv'?"),
        ("elsewhere.csv", "out.csv", [], "elsewhere.csv: no such file"),
        ("nowhere/a.csv", "out.csv", [], "nowhere/a.csv: no such file"),
        ("patients.csv", "out.txt", [], "out.txt: .txt: use .csv or .parquet"),
        ("patients.csv", "nowhere/out.csv", [], "nowhere: no such folder"),
        ("patients.csv", "out.csv", ["prediction"], "--keep prediction: the predictions have a column of that name: "
         "rename it in patients.csv"),
    ],
)  # fmt: skip
def test_paths_are_checked_without_reading_anything(
    params_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    destination: str,
    keep: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(params_root)
    Path("patients.csv").write_text("a\n1\n")
    with pytest.raises(LabkitError) as refused:
        check_batch_files(load_params("diabetes"), Path(source), Path(destination), keep=keep, overwrite=False)
    assert str(refused.value) == message
