"""Tables on the disk and joins."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.data.computed_columns import settle_target
from labkit.data.joins import join_tables, list_joins
from labkit.data.table_files import load_table, save_table
from labkit.errors import DataError, MissingDataError
from labkit.params.tables import Data, Join, Time

FRAME = pd.DataFrame(
    {
        "number": [1.5, np.nan, 3.0],
        "count": [1, 2, 3],
        "text": ["a", None, "ü<script>"],
        "time": pd.to_datetime(["2013-01-01", None, "2013-01-03"]),
    }
)


def make_data(**join: object) -> Data:
    """Return params of two tables and one join."""
    joins = [{"table": "planes", "keys": {"plane": "id"}, **join}]
    return Data.model_validate_json(
        __import__("json").dumps(
            {
                "tables": {"flights": {"path": "f.csv"}, "planes": {"path": "p.csv"}},
                "joins": joins,
                "target": {"column": "late", "task": "regression"},
            }
        )
    )


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    save_table(tmp_path / "a.parquet", FRAME)
    pd.testing.assert_frame_equal(load_table(tmp_path / "a.parquet"), FRAME)


def test_same_table_gives_same_bytes(tmp_path: Path) -> None:
    save_table(tmp_path / "a.parquet", FRAME)
    save_table(tmp_path / "b.parquet", FRAME.copy())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_flipped_bit_in_a_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=10_000)})
    save_table(path, frame)
    content = bytearray(path.read_bytes())
    for place in range(1000, len(content) - 1500, len(content) // 25):
        broken = bytearray(content)
        broken[place] ^= 16
        path.write_bytes(broken)
        with pytest.raises(DataError, match="damaged"):
            load_table(path)


def test_missing_file_error_explains_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="run the stage that writes it"):
        load_table(tmp_path / "none.parquet")


def test_twin_columns_are_refused(tmp_path: Path) -> None:
    twins = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(DataError, match="duplicate column names: a"):
        save_table(tmp_path / "a.parquet", twins)


def test_mixed_column_is_refused_and_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"a\.parquet: column 'a' holds values of the types int and str and list: give each column one type",
    ):
        save_table(tmp_path / "a.parquet", pd.DataFrame({"a": [1, "x", [2]]}))
    assert list(tmp_path.iterdir()) == []


def test_join_keeps_every_row_once() -> None:
    flights = pd.DataFrame({"plane": ["x", "y", None, "x"], "late": [1.0, 2.0, 3.0, 4.0]})
    planes = pd.DataFrame({"id": ["x", "z"], "seats": [100, 200]})
    joined = join_tables({"flights": flights, "planes": planes}, make_data(prefix="plane_"))
    assert joined["plane_seats"].tolist()[0] == 100
    assert joined["plane_seats"].isna().tolist() == [False, True, True, False]
    assert joined["late"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert joined.index.name == "row"


def test_join_that_multiplies_rows_is_refused() -> None:
    flights = pd.DataFrame({"plane": ["x"], "late": [1.0]})
    planes = pd.DataFrame({"id": ["x", "x"], "seats": [100, 200]})
    with pytest.raises(DataError, match=r"join with planes: 2 rows share their key, first \{'id': 'x'\}"):
        join_tables({"flights": flights, "planes": planes}, make_data())


def test_one_to_one_join_checks_both_sides() -> None:
    flights = pd.DataFrame({"plane": ["x", "x"], "late": [1.0, 2.0]})
    planes = pd.DataFrame({"id": ["x"], "seats": [100]})
    with pytest.raises(DataError, match="join with the rows so far: 2 rows share their key"):
        join_tables({"flights": flights, "planes": planes}, make_data(cardinality="one_to_one"))


def test_join_that_would_overwrite_a_column_is_refused() -> None:
    flights = pd.DataFrame({"plane": ["x"], "late": [1.0], "seats": [1]})
    planes = pd.DataFrame({"id": ["x"], "seats": [100]})
    with pytest.raises(DataError, match="columns already exist: seats: give the join a `prefix`"):
        join_tables({"flights": flights, "planes": planes}, make_data())


def make_as_of() -> tuple[dict[str, pd.DataFrame], Data]:
    """Return trips and a joined table of readings, some late, some early, some of the second they are asked in."""
    trips = pd.DataFrame(
        {
            "at": pd.to_datetime(
                ["2020-01-01T10:00", "2020-01-01T10:00", "2020-01-01T20:00", None, "2020-01-01T09:59"]
            ),
            "place": ["a", None, "a", "a", "a"],
            "delay": [20.0, np.nan, 10.0, 5.0, 30.0],
        }
    )
    seen = ["2020-01-01T07:00Z", "2020-01-01T10:00Z", "2020-01-01T10:00:01Z", "2020-01-01T20:30Z"]
    sky = pd.DataFrame({"seen": pd.to_datetime(seen, format="ISO8601"), "where": "a", "heat": [1, 2, 3, 4], "wind": 0})
    tree = {
        "tables": {"trips": {"path": "t.csv"}, "sky": {"path": "s.csv"}},
        "derived": {"soon": "delay / 2"},
        "time": {"predict_at": "at + minutes(0)", "outcome_known_at": "at + hours(delay)"},
        "joins": [
            {"table": "sky", "keys": {"place": "where"}, "as_of": "seen", "within_hours": 6, "columns": ["heat"]}
        ],
        "target": {"column": "late", "task": "classification", "expression": "delay > 15"},
    }
    return {"trips": trips, "sky": sky}, Data.model_validate_json(__import__("json").dumps(tree))


def test_as_of_join_takes_the_latest_reading_that_was_there_and_not_too_old() -> None:
    tables, data = make_as_of()
    joined = join_tables(tables, data)
    np.testing.assert_array_equal(joined["heat"], [2, np.nan, np.nan, np.nan, 1])
    assert list(joined) == ["at", "place", "delay", "soon", "predict_at", "outcome_known_at", "heat", "late"]
    assert joined["outcome_known_at"].isna().tolist() == [False, True, False, True, False]
    assert joined["predict_at"].dt.tz is not None


def test_computed_target_is_missing_where_its_inputs_are_missing() -> None:
    tables, data = make_as_of()
    joined = join_tables(tables, data)
    np.testing.assert_array_equal(joined["late"], [1, np.nan, 0, 0, 1])
    assert settle_target(joined, data.target)["late"].tolist() == [1, 0, 0, 1]
    assert settle_target(joined, data.target)["late"].dtype == "int64"


def test_two_readings_of_one_moment_are_refused() -> None:
    tables, data = make_as_of()
    tables["sky"] = pd.concat([tables["sky"], tables["sky"].head(1)])
    with pytest.raises(DataError, match="join with sky: 2 rows share their key"):
        join_tables(tables, data)


def test_each_join_is_listed_with_the_rows_that_found_one() -> None:
    data = make_data(prefix="plane_")
    tables = {
        "flights": pd.DataFrame({"plane": ["a", "b", "c", None], "late": [0.0, 1.0, 0.0, 1.0]}),
        "planes": pd.DataFrame({"id": ["a", "b"], "seats": [100.0, None]}),
    }
    listed = list_joins(join_tables(tables, data), tables, data)
    line = {"table": "planes", "keys": "plane = id", "row taken": "the one with these keys", "matched": 0.5}
    assert listed.to_dict("records") == [line]


@pytest.mark.parametrize(("within_hours", "matched"), [(None, 2 / 3), (1.5, 1 / 3)])
def test_a_join_in_time_matches_rows_up_to_the_prediction(within_hours: float | None, matched: float) -> None:
    times = pd.to_datetime(["2013-01-01 00:00", "2013-01-01 02:00", "2013-01-01 04:00"], utc=True)
    asked = Time(predict_at="left", outcome_known_at="left + hours(1)")
    join = Join(table="planes", keys={"plane": "id"}, as_of="at", within_hours=within_hours)
    data = make_data().model_copy(update={"joins": (join,), "time": asked})
    joined = pd.DataFrame({"plane": "a", "predict_at": times, "late": 1.0}).rename_axis(index="row")
    tables = {"planes": pd.DataFrame({"id": ["a"], "at": times[1:2], "seats": [100.0]})}
    (line,) = list_joins(joined, tables, data).to_dict("records")
    assert line["matched"] == pytest.approx(matched)
