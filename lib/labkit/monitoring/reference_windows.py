"""Which windows of the training rows others are compared with, and which days are expected to differ.

By default all windows are compared with. Where seasons differ, those of the same months, or the last four weeks, are
more alike. Holidays that the params declare are not judged.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from labkit.monitoring.drift import MOST_FILLED
from labkit.monitoring.reference_profile import Reference
from labkit.monitoring.window_counts import Counts, Windows
from labkit.params.monitoring import ReferenceChoice
from labkit.units import format_count

RECENT_DAYS = 28


def choose_reference(reference: Reference, counts: Counts, choice: ReferenceChoice) -> tuple[Reference, list[str]]:
    """Return the part of a reference that windows are compared with, and what readers have to know about it.

    If the reference has no such window it is compared as a whole, and a note says so.

    Parameters
    ----------
    counts
        The windows to judge.
    """
    windows, setting = reference.windows, f"(monitoring.reference: {choice})"
    if choice == "training":
        return reference, []
    if windows.days is None:
        return reference, [f"the training rows have no times, so all of them are compared with {setting}"]
    numbers, notes = reference.counts.numbers, []
    if choice == "last_4_weeks":
        what, last = "of the last four weeks", int(numbers[reference.complete].max(initial=numbers.min()))
        is_chosen = reference.complete & (numbers > last - RECENT_DAYS // windows.days)
    else:
        months = {find_month(windows, number) for number in counts.numbers.tolist()}
        found = [find_month(windows, number) for number in numbers.tolist()]
        is_chosen = reference.complete & np.isin(found, sorted(months))
        what = f"of {list_months(months)}"
        if absent := months - {one for one, chosen in zip(found, is_chosen, strict=True) if chosen}:
            notes.append(f"the training rows have no complete window of {list_months(absent)} {setting}")
    if not is_chosen.any():
        return reference, [f"{note}: all of them are compared with" for note in notes]
    part = replace(
        reference, counts=reference.counts.take(is_chosen), has_older=False, is_part=True, everything=reference.counts
    )
    n_windows = format_count(int(is_chosen.sum()), "window")
    return part, [*notes, f"compared with the {n_windows} {what} among the training rows {setting}"]


def find_month(windows: Windows, number: int) -> str:
    """Return the month in which a window of time begins, as two digits."""
    return windows.name(number)[5:7]


def list_months(months: set[str]) -> str:
    """Return the names of months.

    >>> list_months({"12", "01"})
    'January, December'
    """
    return ", ".join(f"{datetime(2000, int(month), 1):%B}" for month in sorted(months))


def find_holidays(windows: Windows, numbers: np.ndarray, holidays: Mapping[str, str]) -> dict[int, str]:
    """Return the windows that contain a declared holiday, with day and name of the first one.

    Parameters
    ----------
    numbers
        Windows, ascending; those that are absent between them count, too.
    holidays
        Name by day, YYYY-MM-DD, or MM-DD of every year.
    """
    if windows.days is None or not holidays or not len(numbers):
        return {}
    found = {}
    for number in range(int(numbers[0]), min(int(numbers[-1]), int(numbers[0]) + MOST_FILLED) + 1):
        first = np.datetime64(windows.name(number), "D")
        days = [str(first + step) for step in range(windows.days)]
        named = [(day, name) for day in days if (name := find_holiday(day, holidays))]
        if named:
            found[number] = f"{named[0][0]} ({named[0][1]})"
    return found


def find_holiday(day: str, holidays: Mapping[str, str]) -> str:
    """Return the name of the holiday on a day, YYYY-MM-DD; empty if it is none."""
    return holidays.get(day) or holidays.get(day[5:]) or ""


def count_holidays(begin: datetime, end: datetime, holidays: Mapping[str, str]) -> int:
    """Return how many holidays the days between two times, and those of the two, contain."""
    n_days = (end.date() - begin.date()).days + 1
    days = (str(begin.date() + timedelta(days=step)) for step in range(n_days)) if holidays else ()
    return sum(bool(find_holiday(day, holidays)) for day in days)
