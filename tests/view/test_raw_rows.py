"""Rows as a person writes them."""

import numpy as np
import pandas as pd
from labkit.params.subject import Subject
from labkit.view import raw_rows


def test_rows_are_shown_as_a_person_writes_them() -> None:
    zoned = Subject("", zone="America/New_York")
    times = pd.to_datetime(["2013-01-01 10:15", None], utc=True)
    frame = pd.DataFrame({"id": [123456789.0, None], "delay": [2.0, 2.5], "late": [True, False], "at": times})
    odd = pd.DataFrame({"code": [2**60 + 1], "parts": [[1, None]], "limit": [np.inf]})
    assert raw_rows.format_rows(odd).to_numpy().tolist() == [["1152921504606846977", "[1, None]", "inf"]]
    assert raw_rows.format_rows(frame, zoned).to_numpy().tolist() == [
        ["123456789", "2", "True", "2013-01-01 05:15"],
        ["–", "2.5", "False", "–"],
    ]
