"""Rows of the main table are joined for a prediction exactly as training joins them, with the columns needed alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.data.joins import join_tables
from labkit.data.needed_tables import find_main_table
from labkit.data.reading.locate import find_files
from labkit.errors import DataError, ModelError
from labkit.features.arrays import make_array
from labkit.features.main_table import MainTable
from labkit.features.table_columns import find_column_kind, take_columns
from labkit.model.release.main_table_files import (
    MAIN_TABLE,
    describe_main_table,
    load_main_table,
    make_main_table_files,
)
from labkit.params.load import load_params
from labkit.params.tables import Data
from labkit.stages.source import load_tables

from tests.timed_shop import DATA, make_contract, make_tables

INPUTS = ("customer", "price", "gift", "hour_of_day", "customer_city", "customer_since", "region_name", "region_open",
          "rate_value", "predict_at")  # fmt: skip


def find(
    data: Data, tables: dict[str, pd.DataFrame], names: tuple[str, ...], *, is_carrying: bool = True
) -> tuple[MainTable | None, str]:
    """Return what is found for a model of some joined columns."""
    joined = join_tables(tables, data)
    inputs = {name: find_column_kind(joined[name]) for name in names}
    return find_main_table(data, tables, make_contract(tables), inputs, is_carrying=is_carrying)


def give_all(main: MainTable | None, tables: dict[str, pd.DataFrame]) -> MainTable:
    """Return the main table with the rows of all tables."""
    assert main is not None
    for name in main.list_unknown():
        main = main.with_rows(name, take_columns(tables[name], main.tables[name]))
    return main


def check_same(main: MainTable, tables: dict[str, pd.DataFrame], data: Data) -> None:
    """Compare the columns of the model with those that training joins, to the bit."""
    made = main.join(take_columns(tables[data.main_table], main.columns))
    expected = take_columns(join_tables(tables, data), main.inputs)
    for name, kind in main.inputs.items():
        found, wanted = (make_array(one[name], kind, name) for one in (made, expected))
        assert np.array_equal(found, wanted, equal_nan=kind != "category"), name


def test_joins_are_those_of_training_with_missing_and_unseen_keys(tmp_path: Path) -> None:
    tables = make_tables(n_orders=3000)
    main, _ = find(DATA, tables, INPUTS)
    assert main is not None
    for name, content in make_main_table_files(main).items():
        (tmp_path / name).write_bytes(content)
    check_same(give_all(load_main_table(tmp_path), tables), tables, DATA)
    joined = join_tables(tables, DATA)
    assert joined["customer_city"].isna().mean() > 0.1, "some keys are missing or unseen"
    assert 0.1 < joined["rate_value"].isna().mean() < 0.9, "some readings are too old, some are found"


def test_joins_of_real_flights_are_those_of_training() -> None:
    data = load_params("flights").data
    joined = {name: table for name, table in data.tables.items() if name != "flights"}
    tables = load_tables(data.model_copy(update={"tables": joined}))
    (path,) = find_files("flights", data.tables["flights"])
    flights = pd.read_csv(path, nrows=20_000, parse_dates=["time_hour"])
    flights.loc[::50, "tailnum"] = "N-NEW"
    flights.loc[1::50, ["tailnum", "dest"]] = None
    tables["flights"] = flights
    names = ("carrier", "departure_minute", "predict_at", "weather_temp", "weather_wind_gust", "plane_year",
             "plane_manufacturer", "dest_tz")  # fmt: skip
    main, _ = find(data, tables, names)
    check_same(give_all(main, tables), tables, data)


def test_only_columns_that_the_model_needs_are_carried() -> None:
    tables = make_tables(n_orders=50)
    main, _ = find(DATA, tables, ("price", "customer_city"))
    assert main is not None
    assert {name: [*rows] for name, rows in main.rows.items()} == {"customers": ["id", "city"]}
    assert [*main.columns] == ["customer", "price"]
    assert main.computed == {}
    assert describe_main_table(main, "") == "Rows of the main table need 2 columns; carried: 40 rows of customers."
    main, _ = find(DATA, tables, ("price", "customer_city"), is_carrying=False)
    assert main is not None
    assert main.rows == {}
    with pytest.raises(DataError, match="no rows of the table customers are known"):
        main.join(take_columns(tables["orders"], main.columns))


def test_tables_joined_by_time_are_not_carried() -> None:
    main, _ = find(DATA, make_tables(n_orders=50), INPUTS)
    assert main is not None
    assert sorted(main.rows) == ["customers", "regions"]
    assert main.list_unknown() == ["rates"]


def test_nothing_is_written_where_rows_have_the_columns_of_the_model() -> None:
    main, reason = find(DATA, make_tables(n_orders=50), ("price", "gift"))
    assert main is None
    assert make_main_table_files(main) == {}
    assert describe_main_table(main, reason) == (
        "Requests have the columns of the model: the main table has the columns of the model."
    )


def test_keys_that_requests_cannot_hold_exactly_are_named() -> None:
    tables = make_tables(n_orders=50)
    tables["customers"] = tables["customers"].assign(id=tables["customers"]["id"] + 2**53 + 1)
    main, reason = find(DATA, tables, ("price", "customer_city"))
    assert main is None
    assert reason == "table customers: keys in 'id' are above 2^53: declare the column in `texts`"


def test_repeated_keys_are_refused_as_in_training() -> None:
    tables = make_tables(n_orders=50)
    main = give_all(find(DATA, tables, INPUTS)[0], tables)
    twice = pd.concat([tables["rates"], tables["rates"].head(1)])
    with pytest.raises(DataError, match=r"join with rates: two rows share their key, \{'kind': '\w+', 'at': .*\}"):
        main.with_rows("rates", take_columns(twice, main.tables["rates"]))


def test_a_later_row_is_never_joined() -> None:
    tables = make_tables(n_orders=300)
    main = give_all(find(DATA, tables, INPUTS)[0], tables)
    columns = take_columns(tables["orders"], main.columns)
    before = main.join(columns)
    later = tables["rates"].assign(at=tables["rates"]["at"] + pd.Timedelta(days=900), value=-1.0)
    rows = take_columns(pd.concat([tables["rates"], later]), main.tables["rates"])
    after = main.with_rows("rates", rows).join(columns)
    np.testing.assert_array_equal(before["rate_value"], after["rate_value"])


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    main, _ = find(DATA, make_tables(n_orders=50), INPUTS)
    for name, content in make_main_table_files(main).items():
        (tmp_path / name).write_bytes(content)
    content = json.loads((tmp_path / MAIN_TABLE).read_text())
    (tmp_path / MAIN_TABLE).write_text(json.dumps({**content, "joins": [{"table": "t"}]}))
    with pytest.raises(ModelError, match="not written by labkit, or damaged"):
        load_main_table(tmp_path)
