"""Which model the page about explanation explains: the published one, as the service does."""

from typing import Any

import pandas as pd

from labkit.model.release.bundle import Release


def choose_explained(opened: Release, evaluated: Any, holdout: pd.DataFrame) -> Any:
    """Return the published pipeline with the outcomes of the holdout in its histories.

    Parameters
    ----------
    opened
        The release.
    evaluated
        The evaluated model, which is the published one unless that was refitted on all rows.
    holdout
        Clean holdout rows, which a refitted model has observed already.
    """
    if opened.is_refitted:
        return opened.pipeline
    evaluated[0].observe(holdout)
    return evaluated
