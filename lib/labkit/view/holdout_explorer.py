"""The error explorer for a model in service: its errors on current rows against those on the holdout."""

from typing import Any

from labkit.monitoring.holdout_comparison import describe_not_compared, make_holdout_source
from labkit.monitoring.performance import Performance
from labkit.params.subject import GENERIC, Subject
from labkit.view.error_explorer import explore_source
from labkit.view.prose import report


def explore_holdout(found: Performance, *, confidence: float, subject: Subject = GENERIC) -> Any:
    """Return the error explorer, a widget; in a batch run show the comparison instead and return None.

    Reports why where nothing can be compared.
    """
    source = make_holdout_source(found, confidence=confidence, subject=subject)
    if source is None:
        report(describe_not_compared(found))
        return None
    return explore_source(source)
