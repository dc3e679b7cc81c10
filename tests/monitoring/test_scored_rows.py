"""Rows joined with true values: what is counted of rows that are left out, of long logs, and by ids that are numbers."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labkit.model.release.bundle import Release
from labkit.monitoring import current_rows, scored_rows
from labkit.monitoring.current_rows import Current
from labkit.monitoring.outcomes import Outcomes, load_feedback
from labkit.monitoring.performance import find_scored_blocks, measure_performance
from labkit.monitoring.performance_checks import list_performance_checks
from labkit.monitoring.reference_performance import load_performance
from labkit.monitoring.scored_rows import LogReader, score_frame, score_log
from labkit.params.experiment import Params
from labkit.serving.batch_input import load_rows
from labkit.serving.settings import FEEDBACK

from tests.monitoring.scored import NOW, PARAMS, make_current, make_release, make_rows, write_feedback, write_log

LARGE = 2**53 + 1


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release"))


def group_by_city() -> Params:
    split = PARAMS.data.split.model_copy(update={"group": "city"})
    return PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"split": split})})


def test_corrected_value_counts_though_the_first_was_reported_before_the_prediction(release: Release) -> None:
    outcomes = Outcomes()
    outcomes.add("a", 0, 100.0)
    given = Outcomes()
    given.add("a", 1)
    reader = LogReader(Current("log", True, release), scored_rows.merge_outcomes(outcomes, given), NOW)
    assert reader.find_true("a", pd.Timestamp(200, unit="s").to_datetime64()) == 1
    assert reader.n_early == 0


def test_unreadable_values_of_rows_later_than_now_are_not_counted(release: Release) -> None:
    rows = make_rows(100, seed=20)
    later = rows.assign(predict_at=pd.Timestamp("2036-01-01", tz="UTC"), y="perhaps")
    scored = score_frame(PARAMS, make_current(release, pd.concat([rows, later], ignore_index=True)), None, NOW)
    assert (len(scored.output), scored.faults) == (100, [])
    unknown = score_frame(PARAMS, make_current(release, later.drop(columns="y")), None, NOW)
    assert len(unknown.output) == 0, "neither are such rows without true values"


def test_long_log_is_cut_to_its_latest_rows_and_says_so(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_rows, "LOG_ROWS", 10)
    monkeypatch.setattr(scored_rows, "MOST_ROWS", 60)
    rows = make_rows(100, seed=21)
    lines = write_log(tmp_path, release, rows)
    late = [{"id": one["id"], "true": true} for one, true in zip(lines[20:], rows["y"][20:], strict=True)]
    odd = [{"id": lines[0]["id"], "true": "perhaps"}, {"id": lines[1]["id"], "true": "no", "time": 1e9}]
    write_feedback(tmp_path, [*odd, *late])
    feedback = load_feedback(tmp_path / FEEDBACK, NOW)
    scored = score_log(Current("log", True, release), tmp_path / "log", feedback, NOW)
    assert (len(scored.output), scored.is_cut, scored.faults) == (60, True, [])
    found = measure_performance(PARAMS, release, load_performance(release.folder), scored)
    [labels] = [one for one in list_performance_checks(found) if one.code == "LK721"]
    assert labels.evidence.startswith("60 of the latest 60 rows (100 %)")
    assert found.to_dict()["is_cut"]


def test_ids_of_rows_that_are_left_out_go_but_for_those_with_a_true_value(release: Release) -> None:
    outcomes = Outcomes()
    outcomes.add("b", "no")
    reader = LogReader(Current("log", True, release), outcomes, NOW, ids={"a", "b", "c"})
    reader.forget(["a", "b"])
    assert reader.ids == {"b", "c"}


def test_groups_of_all_rows_are_blocks_whether_they_have_true_values_or_not(release: Release, tmp_path: Path) -> None:
    rows = make_rows(60, seed=22)
    write_log(tmp_path, release, rows)
    log = score_log(Current("log", True, release), tmp_path / "log", Outcomes(), NOW, group="city")
    frame = score_frame(group_by_city(), make_current(release, rows.drop(columns="y")), None, NOW)
    for scored in (log, frame):
        blocks = find_scored_blocks(group_by_city(), scored, pd.RangeIndex(60).to_numpy())
        assert (blocks.n_blocks, blocks.unit) == (3, "city")


@pytest.mark.parametrize("key", ["patient", "row"])
def test_whole_ids_beside_a_missing_one_are_read_exactly(release: Release, tmp_path: Path, key: str) -> None:
    rows = make_rows(3, seed=23).drop(columns=["predict_at", "y"])
    table = pa.Table.from_pandas(rows).append_column(key, pa.array([LARGE, LARGE + 1, None]))
    pq.write_table(table, tmp_path / "rows.parquet")
    untimed = PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"time": None})})
    inputs = {"city": "category", "size": "number", "share": "number"}
    frame = load_rows(tmp_path / "rows.parquet", untimed, inputs, keep=[key])
    outcomes = Outcomes(key)
    outcomes.add(str(LARGE), "no")
    scored = score_frame(untimed, make_current(release, frame), outcomes, NOW)
    assert (scored.known.tolist(), scored.faults) == ([0], [])
