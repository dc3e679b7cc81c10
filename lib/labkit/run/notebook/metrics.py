"""Metrics that a notebook records with `step.log`."""

import math

from labkit.errors import DataError


def check_metric(name: str, value: float) -> float:
    """Return a metric as a float if it is finite.

    Raises
    ------
    DataError
        It is not finite; the store would record another number instead.
    """
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"step.log({name}={value}): not a finite number: log a finite metric instead")
    return number
