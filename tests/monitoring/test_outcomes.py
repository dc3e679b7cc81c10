"""True values by id: which of several counts, when it was reported, and ids however they are written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labkit.data.labels.judgements import add_judgement, make_judgement
from labkit.data.labels.queue import order_at_random
from labkit.monitoring.outcomes import Outcomes, load_feedback, load_labels, load_outcomes_file, to_ids
from labkit.monitoring.scored_rows import merge_outcomes
from labkit.serving.settings import FEEDBACK

from tests.monitoring.scored import NOW, PARAMS, write_feedback
from tests.own_store import work_in

LARGE = 2**53 + 1


def test_value_of_a_file_has_no_time_of_the_value_that_it_replaces() -> None:
    reported, given = Outcomes(), Outcomes()
    reported.add("a", 0, 100.0)
    given.add("a", 1)
    merged = merge_outcomes(reported, given)
    assert (merged.values, merged.reported) == ({"a": 1}, {})
    assert (reported.values, reported.reported) == ({"a": 0}, {"a": 100.0}), "the reported values stay as they were"


def test_line_without_a_time_replaces_the_time_as_well(tmp_path: Path) -> None:
    write_feedback(tmp_path, [{"id": "a", "true": 0, "time": 100}, {"id": "a", "true": 1}])
    found = load_feedback(tmp_path / FEEDBACK, NOW)
    assert (found.values, found.reported) == ({"a": 1}, {})


@pytest.mark.parametrize(
    "time", ["-1e300", "1e300", "-1", "true", "false", '"soon"', "[]", pytest.param("1" + "0" * 400, id="large")]
)
def test_line_with_an_impossible_time_is_damaged(tmp_path: Path, time: str) -> None:
    (tmp_path / FEEDBACK).write_text(f'{{"id": "a", "true": 0, "time": {time}}}\n')
    found = load_feedback(tmp_path / FEEDBACK, NOW)
    assert (found.n_damaged, found.n_ahead, found.values) == (1, 0, {})


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, LARGE], ["1", str(LARGE)]),
        ([1.0, None], ["1", None]),
        (pd.array([LARGE, None], "Int64"), [str(LARGE), None]),
        (["1.0", "10.0"], ["1", "10"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["007", None], ["007", None]),
        ([None, None], [None, None]),
    ],
)
def test_same_ids_are_equal_however_they_are_written(ids: Any, expected: list[str | None]) -> None:
    assert to_ids(pd.Series(ids)).tolist() == expected


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_large_ids_beside_a_missing_one_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix}"
    if suffix == ".csv":
        path.write_text(f"id,y\n1,no\n{LARGE},yes\n,no\n")
    else:
        pq.write_table(pa.table({"id": pa.array([1, LARGE, None]), "y": ["no", "yes", "no"]}), path)
    assert load_outcomes_file(path, PARAMS.data.target).values == {"1": "no", str(LARGE): "yes"}


def test_index_of_a_stored_table_may_hold_the_ids(tmp_path: Path) -> None:
    table = pd.DataFrame({"y": ["no", "yes"]}, index=pd.Index([1, 2], name="id"))
    table.to_parquet(tmp_path / "o.parquet")
    assert load_outcomes_file(tmp_path / "o.parquet", PARAMS.data.target).values == {"1": "no", "2": "yes"}


@pytest.mark.parametrize("keys", [pd.array([1, 2, LARGE, None], "Int64"), np.array([1.0, 2.0, 3.0, np.nan])])
def test_labels_join_rows_whose_key_is_a_number(tmp_path: Path, keys: Any) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    rows = pd.Series(keys)
    labelled = rows.dropna().astype(str).reset_index(drop=True)
    first = labelled.iloc[order_at_random(labelled, PARAMS.seed)[0]]
    with work_in(tmp_path):
        add_judgement("small", make_judgement("new.csv:patient", first, "yes", annotator="ana", drawn="random"))
        found = load_labels(PARAMS, tmp_path / "new.csv", "patient", rows)
    assert [*found.values] == [first.removesuffix(".0")]
    assert to_ids(rows).isin(found.values).sum() == 1


def test_feedback_without_a_time_counts(tmp_path: Path) -> None:
    (tmp_path / FEEDBACK).write_text(json.dumps({"id": "a", "true": 0, "time": None}))
    assert load_feedback(tmp_path / FEEDBACK, NOW).values == {"a": 0}
