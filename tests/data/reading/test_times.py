"""Times are read alike in a new table, in the EDA, in a training table and from a single request."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality import text_issues
from labkit.data.reading.raw_table import RawTable, Source
from labkit.data.reading.times import read_times
from labkit.errors import DataError
from labkit.features import expressions
from labkit.features.arrays import make_array
from labkit.features.parse_text import look_like_dates, read_date
from labkit.features.row_rules import RowRule, apply_rule
from labkit.new import column_kinds
from labkit.params.tables import Table
from labkit.vocabulary import COMPACT_DATE_FORMATS, DATE_FORMATS

MOMENTS = [datetime(2021, 3, 14, 5, 6, 7), datetime(1999, 12, 31, 23, 59, 59), datetime(2024, 2, 29)]
ISO = [
    "2020", "2020-01", "2020-01-03", "2020-1-3", "2020/01/03", "20200103", "2020-01-03 10", "2020-01-03T10:20",
    "2020-01-03 1:2:3", "2020-01-03T10:20:30.5", "2020-01-03T10:20:30.123456789", "20200103T102030",
    "2020-01-03T10:20Z", "2020-01-03T10:20:30+02:00", "2020-01-03 10:20:30 +02:00", "2020-01-03T10:20-0530",
    "2020-W01-1", "2020-01-03T10:20:30,5",
]  # fmt: skip
NO_TIMES = ["today", "now", "NaT", "2020-02-30", "2020-01-03T24:01", "10:20", "soon", "20-01-03"]


def write_moment(form: str, moment: datetime) -> str:
    zone = timezone(timedelta(hours=2)) if "%z" in form else None
    return moment.replace(tzinfo=zone).strftime(form)


def read_from_file(string: str, folder: Path) -> object:
    path = folder / "t.csv"
    path.write_text(f"at;x\n{string};1\n")
    table = RawTable("t", Table(path="t.csv", delimiter=";", times=("at",)), [Source(path, "t.csv")])
    times = pd.concat([rows.to_pandas() for rows in table.read()])["at"]
    return (times.dt.tz_convert("UTC").dt.tz_localize(None) if times.dt.tz else times).iloc[0].to_pydatetime()


@pytest.mark.parametrize("form", [*DATE_FORMATS, *(form for forms in COMPACT_DATE_FORMATS.values() for form in forms)])
def test_a_format_gives_the_same_times_to_new_tables_the_eda_and_requests(form: str) -> None:
    strings = [write_moment(form, moment) for moment in MOMENTS]
    strings += [string + "000" for string in strings if form.endswith("%f")]
    single = [read_date(string, form) for string in strings]
    new = column_kinds.parse_dates(pd.Series(strings), form)
    whole = (new.dt.tz_localize(None) if new.dt.tz else new).tolist()
    served = apply_rule(np.array(strings, object), RowRule(type="date", format=form)).tolist()
    assert None not in single
    assert whole == single == served


@pytest.mark.parametrize("form", DATE_FORMATS)
def test_what_labkit_new_takes_for_dates_the_eda_takes_for_dates_too(form: str) -> None:
    strings = [write_moment(form, moment) for moment in MOMENTS]
    assert look_like_dates(strings)
    assert column_kinds.is_iso(pd.Series(strings)) or form in column_kinds.list_styles(pd.Series(strings))
    found = text_issues.guess_string_kind(strings, [])
    assert found is not None
    assert found[0] == "date as text"


@pytest.mark.parametrize("string", ISO)
def test_an_iso_time_is_the_same_in_a_file_a_request_a_rule_and_an_expression(string: str, tmp_path: Path) -> None:
    time = read_date(string, None)
    assert time is not None
    assert read_from_file(string, tmp_path) == time
    assert make_array(np.array([string], object), "time", "at").tolist() == [time]
    assert apply_rule(np.array([string], object), RowRule(type="date")).tolist() == [time]
    at = {"at": np.array([time], "datetime64[us]")}
    assert expressions.compute(f"at == {string!r}", at).tolist() == [True]
    assert column_kinds.is_iso(pd.Series([string]))


@pytest.mark.parametrize("string", NO_TIMES)
def test_what_is_not_a_time_is_one_nowhere(string: str, tmp_path: Path) -> None:
    assert read_date(string, None) is None
    with pytest.raises(DataError, match="is not an ISO time"):
        read_from_file(string, tmp_path)
    with pytest.raises(DataError, match="is not a time: give ISO 8601 times"):
        make_array(np.array([string], object), "time", "at")
    assert not column_kinds.is_iso(pd.Series([string]))
    assert read_times(pd.Series([string]), None).isna().all()


def test_iso_times_with_an_offset_are_dates_for_new_tables_and_the_eda() -> None:
    strings = [moment.replace(tzinfo=UTC).isoformat() for moment in MOMENTS]
    assert column_kinds.find_date_format(strings, "t.csv", "at", lambda name: strings) == "ISO"
    found = text_issues.guess_string_kind(strings, [])
    assert found is not None
    assert found[3] == ("wrangling.rules", "{type: date}")


@pytest.mark.parametrize("moment", MOMENTS)
def test_digits_alone_are_dates_of_one_length(moment: datetime) -> None:
    for n_digits, forms in COMPACT_DATE_FORMATS.items():
        assert {len(moment.strftime(form)) for form in forms} == {n_digits}
