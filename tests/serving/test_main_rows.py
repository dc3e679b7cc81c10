"""Requests and files with rows as they stand in the main table are predicted like the rows that training joins."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from labkit.cli.models import predict as predict_command
from labkit.data.reading.locate import find_files
from labkit.data.table_files import save_table
from labkit.errors import DataError, LabkitError, ParamsError
from labkit.features.expressions import find_names
from labkit.features.main_table import MainTable
from labkit.model.release import bundle
from labkit.model.release.runtime import load_runtime
from labkit.params.load import load_params
from labkit.serving.batch_tables import join_main_rows, open_joined_rows, read_table_options
from labkit.serving.engine import Engine, load_engine
from labkit.serving.invocations import read_invocation
from labkit.serving.main_rows import MainRows, list_values
from labkit.serving.outcome_lines import OutcomesBody
from labkit.serving.requests import RequestError

from tests.conftest import ROOT
from tests.own_store import work_in
from tests.serving.shop_release import (
    TABLES,
    list_orders,
    make_orders,
    make_shop_params,
    take_rates,
    write_shop_release,
)

ORDERS, JOINED = make_orders()
ROWS = list_orders(ORDERS)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """Enter a checkout of the shop."""
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    with work_in(tmp_path) as root:
        yield root


def add_rates(main_table: MainTable) -> MainTable:
    """Return the main table with the rows of the table that is joined by time."""
    return main_table.with_rows("rates", take_rates([*main_table.tables["rates"]]))


@pytest.fixture(scope="module")
def engine(release: Path) -> Engine:
    opened = load_engine(release, digest=None, version=None)
    assert opened.main_rows is not None
    main_rows = MainRows(add_rates(opened.main_rows.main_table), opened.reader)
    return replace(opened, forms=replace(opened.forms, main_rows=main_rows))


def predict(engine: Engine, rows: list[Any]) -> np.ndarray:
    return engine.predict(engine.reader.make_columns(rows))


def encode(*rows: Any) -> bytes:
    return json.dumps({"rows": list(rows)}).encode()


def test_rows_of_the_main_table_are_predicted_like_joined_ones(engine: Engine, release: Path) -> None:
    expected = bundle.load_release(release).predict(JOINED)
    np.testing.assert_array_equal(predict(engine, engine.read(encode(*ROWS))), expected)
    joined = list_orders(JOINED[[*engine.reader.kinds]])
    np.testing.assert_array_equal(predict(engine, engine.read(encode(*joined))), expected)


def test_invocations_and_the_embedded_runtime_take_them_too(engine: Engine, release: Path) -> None:
    expected = bundle.load_release(release).predict(JOINED)
    records = json.dumps({"dataframe_records": ROWS}).encode()
    np.testing.assert_array_equal(predict(engine, read_invocation(records, "application/json", engine)), expected)
    table = ORDERS.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S").encode()
    np.testing.assert_array_equal(predict(engine, read_invocation(table, "text/csv", engine)), expected)
    runtime = load_runtime(release)
    with pytest.raises(DataError, match="no rows of the table rates are known: give them, or the joined columns"):
        runtime.predict(ROWS)
    assert runtime.main_table is not None
    fed = replace(runtime, main_table=add_rates(runtime.main_table))
    np.testing.assert_array_equal(fed.predict(ROWS), expected)


def test_a_value_that_equals_a_name_of_the_model_is_a_value(engine: Engine) -> None:
    assert engine.main_rows is not None
    name = min(engine.main_rows.main_table.added)
    expected = engine.read(encode({**ROWS[0], "kind": "another"}))
    assert engine.read(encode({**ROWS[0], "kind": name})) == expected


MIXED = (
    "row 0: columns of the main table such as 'kind' beside computed or joined ones such as 'rate_value': give all "
    "columns of the model, or those of the main table only"
)
REFUSED = [
    ([{**ROWS[0], "rate_value": 1.0}], MIXED),
    ([ROWS[0], {**ROWS[1], "rate_value": 1.0}], MIXED.replace("row 0", "row 1")),
    ([{**ROWS[0], "prise": 1.0}], "row 0: prise: did you mean 'price'?"),
    ([ROWS[0], {"kind": "shoe"}], "row 1: customer: missing: send null if it is not known"),
    ([{**ROWS[0], "minute": "noon"}], "row 0: minute: not a number between -3.4e+38 and 3.4e+38, and never null"),
    ([{**ROWS[0], "ordered": "soon"}], "row 0: ordered: not an ISO 8601 time"),
    ([ROWS[0], 5], "row 1: not an object with the columns as names"),
]


@pytest.mark.parametrize(("rows", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_each_fault_is_named_by_row_and_column(engine: Engine, rows: list[Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        engine.read(encode(*rows))
    assert caught.value.status == 422
    assert message in [fault.message for fault in caught.value.faults]


def test_a_name_that_occurs_twice_is_refused(engine: Engine) -> None:
    body = encode(ROWS[0]).replace(b'"price":', b'"price": 1.0, "price":')
    with pytest.raises(RequestError, match="a name occurs twice"):
        engine.read(body)


def test_columns_that_the_model_does_not_need_are_ignored(engine: Engine) -> None:
    row = {name: ROWS[0][name] for name in ("customer", "price", "gift", "kind", "minute", "ordered")}
    assert engine.read(encode(row)) == engine.read(encode({**row, "returned": None, "days_until_known": 3}))


def test_a_time_that_cannot_be_computed_is_refused(engine: Engine) -> None:
    assert engine.main_rows is not None
    computed = {"hour_of_day": "minute // 60", "predict_at": "ordered + hours(customer)"}
    main_table = replace(engine.main_rows.main_table, computed=computed)
    with pytest.raises(RequestError) as caught:
        MainRows(main_table, engine.reader).convert([{**ROWS[1], "customer": 1}, {**ROWS[1], "customer": None}])
    assert [fault.to_dict() for fault in caught.value.faults] == [
        {"row": 1, "column": "predict_at",
         "message": "row 1: predict_at: cannot be computed from the columns of the row"}
    ]  # fmt: skip


def test_releases_made_before_take_joined_columns_only(tmp_path: Path) -> None:
    engine = load_engine(write_shop_release(tmp_path / "r", has_main_table=False), digest=None, version=None)
    assert engine.main_rows is None
    with pytest.raises(RequestError) as caught:
        engine.read(encode(ROWS[0]))
    assert caught.value.faults[-1].message == "this release takes rows with the columns of the model only: see /model"


def load(root: Path, release: Path, source: str, *options: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the rows of a file with the joined columns, and where the joined rows came from."""
    opened, tables = bundle.load_release(release), read_table_options(options)
    with open_joined_rows(
        root / source, make_shop_params(root), opened, labels={}, keep=["days_until_known"], tables=tables
    ) as joined:
        parts = [join_main_rows(rows, joined.main_table) for rows, _ in joined.rows.read(7)]
        return pd.concat(parts), dict(joined.origins)


def test_files_with_rows_of_the_main_table_are_joined(work: Path, release: Path) -> None:
    rows, origins = load(work, release, "orders.csv", f"rates={work}/rates.csv")
    assert origins == {"customers": "release", "regions": "release", "rates": f"{work}/rates.csv"}
    opened = bundle.load_release(release)
    np.testing.assert_array_equal(opened.predict(rows), opened.predict(JOINED))
    assert rows["days_until_known"].tolist() == ORDERS["days_until_known"].astype(str).tolist()


def test_rows_of_other_tables_are_those_of_the_checkout_or_named(work: Path, release: Path) -> None:
    with pytest.raises(ParamsError, match=r"rows of the table rates are needed: give a file .* --table rates=FILE"):
        load(work, release, "orders.csv")
    (work / "data" / "shop" / "raw").mkdir(parents=True)
    save_table(work / "data" / "shop" / "raw" / "rates.parquet", TABLES["rates"])
    rows, origins = load(work, release, "orders.csv")
    assert origins["rates"] == "data/shop/raw/rates.parquet"
    opened = bundle.load_release(release)
    np.testing.assert_array_equal(opened.predict(rows), opened.predict(JOINED))
    TABLES["customers"].assign(city="Oslo").to_csv(work / "moved.csv", index=False)
    moved, origins = load(work, release, "orders.csv", f"customers={work}/moved.csv")
    assert {*moved["customer_city"].dropna()} == {"Oslo"}
    assert origins["customers"] == f"{work}/moved.csv"


BAD_OPTIONS = [
    (("rates",), "--table rates: write the name of a table and a file, e.g. --table weather=today.csv"),
    (("rates=a", "rates=b"), "--table rates=b: a file of rates is named twice: name one"),
    (("prices=a.csv",), "--table prices: the model needs no such table: known: customers, rates, regions"),
    (("rates=WORK/customers.csv",), "missing columns 'kind'; 'at'; 'value' of the table rates"),
    (("rates=WORK/nothing.csv",), "nothing.csv: no such file"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_option_is_refused(work: Path, release: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(LabkitError) as caught:
        load(work, release, "orders.csv", *(option.replace("WORK", str(work)) for option in options))
    assert message in str(caught.value)


def test_files_that_are_joined_already_take_no_tables_and_no_mixture(work: Path, release: Path) -> None:
    JOINED.to_csv(work / "joined.csv", index=False)
    assert load(work, release, "joined.csv")[1] == {}
    with pytest.raises(ParamsError, match=r"--table rates: .*joined\.csv has the joined columns: leave the option out"):
        load(work, release, "joined.csv", "rates=rates.csv")
    JOINED.drop(columns="region_name").to_csv(work / "mixed.csv", index=False)
    with pytest.raises(DataError, match=r"mixed\.csv: columns of the main table such as 'kind' beside"):
        load(work, release, "mixed.csv")


def test_older_releases_say_that_they_take_joined_columns_only(work: Path) -> None:
    old = write_shop_release(work / "r", has_main_table=False)
    with pytest.raises(DataError, match="the release takes joined columns only, as it was made before"):
        load(work, old, "orders.csv")
    with pytest.raises(ParamsError, match="the release takes joined columns only: leave the option out"):
        load(work, old, "orders.csv", "rates=rates.csv")


def test_example_of_the_documentation_is_a_row_of_flights() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    flight, weather_rows, outcomes = (part.split("```")[0] for part in page.split("```json\n")[1:])
    examples = [json.loads(part)["rows"] for part in (flight, weather_rows)]
    (outcome,) = msgspec.json.decode(outcomes, type=OutcomesBody).outcomes
    assert outcome.row.keys() == examples[0][0].keys()
    data = load_params("flights").data
    for name, (row,) in zip(("flights", "weather"), examples, strict=True):
        (path,) = find_files(name, data.tables[name])
        known = list_orders(pd.read_csv(path, nrows=20))
        assert row in [{column: one[column] for column in row} for one in known]
    names = {*examples[0][0], *data.derived}
    assert {key for join in data.joins for key in join.keys} <= names, "the row has all keys"
    for expression in (*data.derived.values(), data.time.predict_at if data.time else ""):
        assert {*find_names(expression)} <= names
    (weather, *_) = data.joins
    assert {*weather.columns, *weather.keys.values(), str(weather.as_of)} == {*examples[1][0]}


def test_command_of_the_documentation_is_understood() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith("labkit predict flights")]
    joined, folder = (predict_command.make_context("predict", command.split()[2:]).params for command in commands)
    assert read_table_options(joined["tables"]) == {"weather": Path("forecast.csv")}
    assert folder["source"] == Path("flights")


def test_times_that_cannot_be_written_are_missing() -> None:
    times = np.array(["0000-12-31T23", "0001-01-01", "9999-12-31T23:59:59.999999", "10000-01-01", "NaT"], "M8[us]")
    found = list_values(times, "time", "t")
    assert found == [None, "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", None, None]
