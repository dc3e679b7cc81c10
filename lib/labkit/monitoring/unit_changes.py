"""Changes of a unit: columns whose values are those of the reference after a conversion, such as °C for °F.

A shift becomes a change of unit if a conversion takes back mean and spread: the mean to what the other columns predict
for the window, or to the range of the reference's windows if they do not predict the column, and the standard deviation
to the range of the reference's windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from labkit.monitoring.drift import Change, Drift
from labkit.monitoring.reference_profile import Reference
from labkit.monitoring.relations import Relations

LEAST_SHIFT = 1.0
"""Standard deviations by which the mean of a window is off at least: smaller shifts match some conversion by chance."""
LEAST_EXPLAINED = 0.5
"""Share of the variance from which on the others are taken to predict a column."""
TOLERANCE = 0.2
"""Largest distance from the predicted mean after the conversion, in standard deviations."""
MARGIN = 1.25
"""Factor by which a standard deviation may lie outside the range of the reference's windows."""
FACTORS = {
    "tens": 10.0, "hundreds": 100.0, "thousands": 1000.0, "millions": 1e6, "60, as minutes or seconds": 60.0,
    "3,600, as hours or seconds": 3600.0, "1.609, as miles or kilometres": 1.609344,
    "3.281, as feet or metres": 1 / 0.3048, "2.54, as inches or centimetres": 2.54,
    "2.205, as pounds or kilograms": 1 / 0.45359237,
}  # fmt: skip


@dataclass(frozen=True)
class UnitChange:
    """A column that seems to have another unit; `conversion` describes it in words."""

    column: str
    conversion: str
    window: int


@dataclass(frozen=True)
class Conversion:
    """A linear conversion back to the unit of the reference."""

    words: str
    slope: float
    offset: float = 0.0


def list_conversions() -> Iterator[Conversion]:
    """Yield the usual conversions."""
    yield Conversion("°C in place of °F", 1.8, 32.0)
    yield Conversion("°F in place of °C", 1 / 1.8, -32.0 / 1.8)
    for words, factor in FACTORS.items():
        yield Conversion(f"values divided by {words}", factor)
        yield Conversion(f"values multiplied by {words}", 1 / factor)


def find_unit_changes(reference: Reference, relations: Relations, drift: Drift) -> list[UnitChange]:
    """Return the columns whose change is that of a unit, each with the first window in which it is.

    Parameters
    ----------
    drift
        Its changes of distribution and relation are examined.
    """
    found: dict[str, UnitChange] = {}
    for change in drift.changes:
        is_numeric = change.kind in ("distribution", "relation") and change.column in relations.names
        if is_numeric and (one := explain_change(reference, relations, drift, change)):
            found.setdefault(change.column, one)
    return list(found.values())


def explain_change(reference: Reference, relations: Relations, drift: Drift, change: Change) -> UnitChange | None:
    """Return the change of unit that explains the first window of a change; None if none does."""
    name, place = change.column, relations.names.index(change.column)
    cells, chosen = reference.layout[name], reference.complete
    window = drift.counts.take(drift.counts.numbers == change.first)
    [(mean, sd)] = measure_spread(window.sums[name], window.cells[name])
    means, spreads = measure_spread(reference.counts.sums[name], reference.counts.cells[name])[chosen].T
    if relations.explained[place] >= LEAST_EXPLAINED:
        expected = float(relations.predict_means(window.moments, window.rows)[0, place])
        low, high = expected - TOLERANCE, expected + TOLERANCE
    else:
        low, high = float(np.nanmin(means)), float(np.nanmax(means))
    if low - LEAST_SHIFT < mean < high + LEAST_SHIFT:
        return None
    narrowest, widest = np.nanmin(spreads) / MARGIN, np.nanmax(spreads) * MARGIN
    matching: Sequence[Conversion] = [
        one
        for one in list_conversions()
        if low <= (one.slope * (mean * cells.sd + cells.mean) + one.offset - cells.mean) / cells.sd <= high
        and narrowest <= abs(one.slope) * sd <= widest
    ]
    return UnitChange(name, matching[0].words, change.first) if matching else None


def measure_spread(sums: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return mean and deviation of standardized numbers by window, shape (n_windows, 2); NaN without values."""
    known = cells.sum(axis=1).astype("float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        means, squares = (sums / np.where(known > 0, known, np.nan)[:, None]).T
    return np.column_stack([means, np.sqrt(np.maximum(squares - means**2, 0.0))])
