"""What an annotator labels in one sitting."""

import getpass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.data.labels.judgements import add_judgement, make_judgement
from labkit.data.labels.session import get_annotator, start_session
from labkit.data.table_files import save_table
from labkit.errors import ParamsError
from labkit.params.load import load_params

CLASSES = np.tile(["benign", "malignant"], 10)


@pytest.fixture
def root(params_root: Path) -> Path:
    """A checkout with the clean holdout of an experiment, a table of new rows, and predictions of all rows."""
    target = load_params("breast_cancer").data.target.column
    main = pd.DataFrame({"id": range(100, 120), "size": np.arange(20.0), target: CLASSES}).rename_axis("row")
    save_table(params_root / "data/breast_cancer/clean/holdout.parquet", main.iloc[[3, 5, 8]])
    main[["id", "size"]].to_csv(params_root / "new.csv", index=False)
    proba = {f"probability_{name}": (name == CLASSES) * 0.9 + 0.05 for name in ("benign", "malignant")}
    predictions = pd.DataFrame({"row": range(1, 21), "id": range(100, 120), "prediction": CLASSES, **proba})
    predictions.sample(frac=1, random_state=0).to_csv(params_root / "predictions.csv", index=False)
    return params_root


def test_predictions_are_matched_by_a_key_and_never_by_row_numbers(root: Path) -> None:
    for key in ("", "row"):
        with pytest.raises(ParamsError, match="set `key` to a column that identifies a row"):
            start_session("breast_cancer", key=key, predictions="predictions.csv", annotator="ana")
    session = start_session("breast_cancer", key="id", predictions="predictions.csv", annotator="ana")
    assert session.source == "holdout:id"
    assert session.predictions is not None
    assert session.predictions["key"].tolist() == session.keys.tolist() == ["103", "105", "108"]
    assert session.predictions["prediction"].tolist() == ["malignant", "malignant", "benign"]


def test_table_takes_the_classes_of_the_target_and_its_keys_are_its_own(root: Path) -> None:
    holdout = start_session("breast_cancer", key="id", annotator="ana")
    for key in holdout.queue["key"]:
        add_judgement("breast_cancer", make_judgement(holdout.source, key, "benign", annotator="ana", drawn="random"))
    assert len(start_session("breast_cancer", key="id", annotator="ana").queue) == 0
    session = start_session("breast_cancer", table="./new.csv", key="id", annotator="ana")
    assert (session.source, session.choices) == ("new.csv:id", ("benign", "malignant"))
    assert len(session.queue) == 20


def test_annotator_needs_a_name_that_is_not_the_models(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match="under which labels accepted in bulk are stored"):
        start_session("breast_cancer", annotator="model")

    def find_no_user() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", find_no_user)
    with pytest.raises(ParamsError, match="LABKIT_ANNOTATOR"):
        get_annotator()
