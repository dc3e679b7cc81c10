"""The reference profile: the same from a table and from its file, without rows or strings, kept with the release."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError, MissingDataError, ModelError
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.model.release import bundle
from labkit.model.release.runtime import PROFILE, PROFILE_ARRAYS
from labkit.monitoring import reference_profile
from labkit.monitoring.profile_files import load_profile, make_profile_files
from labkit.monitoring.reference_profile import make_profile, profile_release
from labkit.monitoring.row_batches import read_frame, read_parquet

from tests.model.tables import make_model, make_table
from tests.monitoring import streams


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return streams.make_days(30, seed=1, rows=400)


@pytest.fixture(scope="module")
def row_features(rows: pd.DataFrame) -> RowFeatures:
    return streams.fit_features(rows)


def write_profile(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_profile_of_a_table_is_that_of_its_file_and_survives_being_stored(
    tmp_path: Path, rows: pd.DataFrame, row_features: RowFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path, row_group_size=1000)
    files = make_profile_files(streams.profile_rows(rows, row_features))
    monkeypatch.setattr("labkit.monitoring.row_batches.BATCH_ROWS", 700)
    streamed = make_profile("small", lambda: read_parquet(path, row_features), row_features)
    assert json.loads(make_profile_files(streamed)[PROFILE]) == json.loads(files[PROFILE])
    loaded = load_profile(write_profile(tmp_path / "release", files))
    assert make_profile_files(loaded) == files
    assert (loaded.n_rows, loaded.inputs.windows.days, loaded.quiet_hours) == (len(rows), 1, 7)
    assert loaded.inputs.complete.sum() == 28, "the first and the last day may be incomplete"
    for name in loaded.inputs.layout:
        assert streamed.inputs.counts.cells[name].tolist() == loaded.inputs.counts.cells[name].tolist()


def test_profile_holds_no_string_of_the_rows(rows: pd.DataFrame, row_features: RowFeatures) -> None:
    files = make_profile_files(streams.profile_rows(rows, row_features))
    assert not [value for value in {*rows["city"], *rows["tail"]} if f'"{value}"' in files[PROFILE].decode()]
    with np.load(io.BytesIO(files[PROFILE_ARRAYS])) as arrays:
        assert {arrays[name].dtype.kind for name in arrays.files} == {"i", "f"}


def test_sample_is_thinned_but_every_row_is_counted(
    rows: pd.DataFrame, row_features: RowFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_profile, "MOST_SAMPLED", 500)
    monkeypatch.setattr("labkit.monitoring.row_batches.BATCH_ROWS", 300)
    profile = streams.profile_rows(rows, row_features)
    assert profile.inputs.counts.rows.sum() == len(rows)
    assert profile.inputs.counts.cells["dew"].sum() == len(rows)
    assert profile.inputs.layout["dew"].mean == pytest.approx(rows["dew"].mean(), abs=1.5)


def test_windows_beyond_the_most_count_in_their_sum_only(
    rows: pd.DataFrame, row_features: RowFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_profile, "MOST_WINDOWS", 22)
    inputs = streams.profile_rows(rows, row_features).inputs
    assert (len(inputs.counts.rows), inputs.has_older, inputs.complete.sum()) == (24, True, 22)
    assert inputs.counts.rows.sum() == len(rows)


@pytest.mark.parametrize(("rows_per_day", "days"), [(400, 1), (60, 7), (8, 28)])
def test_windows_are_long_enough_to_hold_enough_rows(row_features: RowFeatures, rows_per_day: int, days: int) -> None:
    profile = streams.profile_rows(streams.make_days(60, seed=1, rows=rows_per_day), row_features)
    assert profile.inputs.windows.days == days


def test_rows_without_times_are_divided_by_their_number(rows: pd.DataFrame) -> None:
    untimed = rows.drop(columns="predict_at")
    profile = streams.profile_rows(untimed, streams.fit_features(untimed))
    assert (profile.begin, profile.inputs.windows.days, profile.inputs.windows.rows) == (None, None, 300)
    assert profile.inputs.is_calibrated


def test_column_with_too_many_values_is_compared_by_its_missing_values_only(
    rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_profile, "MOST_VALUES", 100)
    layout = streams.profile_rows(rows, streams.fit_features(rows)).inputs.layout
    assert [name for name, cells in layout.items() if cells.is_open] == ["tail"]


def test_no_rows_have_no_profile(rows: pd.DataFrame, row_features: RowFeatures) -> None:
    with pytest.raises(DataError, match="no rows to profile"):
        make_profile("small", lambda: read_frame(rows.head(0), row_features), row_features)


def write_small_release(folder: Path) -> str:
    facts = {"experiment": "t", "task": "classification", "classes": ["no", "yes"], "positive": "yes"}
    return bundle.write_release(
        folder,
        make_model("decision_tree", "binary"),
        graph=None,
        facts=facts,
        contract="{}",
        card="",
        example=make_table(),
    )


def test_release_carries_the_profile_in_its_manifest(tmp_path: Path) -> None:
    folder, table = tmp_path / "release", make_table()
    before = write_small_release(folder)
    model = make_model("decision_tree", "binary")
    classes = [*model[-1].classes_]
    facts = {"classes": classes, "positive": classes[1]}
    days = ("2026-01-01", "2026-02-01")
    training, holdout = (table.assign(**{PREDICT_AT: pd.Timestamp(day, tz="UTC")}) for day in days)
    profile = profile_release("t", model, training, holdout, facts=facts)
    assert profile_release("t", model, table, table, facts=facts).known_until is None
    digest = bundle.extend_release(folder, make_profile_files(profile))
    assert digest != before
    loaded = load_profile(bundle.load_release(folder, digest=digest).folder)
    assert loaded.n_rows == len(table)
    assert (loaded.end, loaded.known_until) == ("2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00")
    assert profile.predictions is not None
    assert profile.predictions.layout["prediction"].kind == "number"
    with pytest.raises(ModelError, match="not the one that was published"):
        bundle.load_release(folder, digest=before)
    (folder / PROFILE_ARRAYS).write_bytes(b"changed")
    with pytest.raises(ModelError, match="reference_profile.npz: changed since it was released"):
        bundle.load_release(folder)


def test_release_without_a_profile_predicts_but_cannot_be_monitored(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    write_small_release(folder)
    opened = bundle.load_release(folder)
    assert len(opened.predict(make_table())) == len(make_table())
    with pytest.raises(
        MissingDataError, match="has no reference_profile.json: it predicts, but drift cannot be measured"
    ):
        load_profile(folder)


def test_damaged_profile_is_refused(tmp_path: Path, rows: pd.DataFrame, row_features: RowFeatures) -> None:
    files = make_profile_files(streams.profile_rows(rows, row_features))
    content = json.loads(files[PROFILE])
    cases = {
        "version 2 of the profile": {**content, "version": 2},
        "not a reference profile": {"version": 1},
    }
    for number, (message, changed) in enumerate(cases.items()):
        folder = write_profile(tmp_path / str(number), {**files, PROFILE: json.dumps(changed).encode()})
        with pytest.raises(ModelError, match=message):
            load_profile(folder)
    folder = write_profile(tmp_path / "torn", {**files, PROFILE_ARRAYS: files[PROFILE_ARRAYS][:100]})
    with pytest.raises(DataError, match="damaged"):
        load_profile(folder)
