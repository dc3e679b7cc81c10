"""Checks of new features: families that do harm, values beyond those of training, and copies of raw columns."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from labkit.checks import CheckResult, make_check
from labkit.data.quality.profile import find_pairs
from labkit.errors import list_briefly
from labkit.features import expressions
from labkit.features.row_features import RowFeatures
from labkit.model.training.ablation import Ablation
from labkit.units import format_column, format_count, format_share

MOST_OUTSIDE = 0.1
"""Share of validation rows that may lie outside the range of the training rows: a convention."""
ALMOST_SAME = 0.95
"""Absolute rank correlation from which two columns are almost the same: a convention. Rounding can take off 0.03."""
MOST_ROWS = 5000


def list_feature_checks(
    row_features: RowFeatures,
    made: pd.DataFrame,
    checked: pd.DataFrame,
    ablation: Ablation,
    repeated: Mapping[str, tuple[str, float]],
) -> list[CheckResult]:
    """Check the new features.

    Parameters
    ----------
    row_features
        The fitted features.
    made, checked
        Features of training and validation rows.
    repeated
        As `find_raw_copies` returns it.
    """
    new = [name for name in row_features.find_origins() if row_features.outputs_[name] == "number"]
    if not row_features.find_origins():
        return [make_check(code, None, "no new column is declared") for code in ("LK301", "LK302", "LK303")]
    pairs = [f"{name} and {raw} (rank correlation {value:.3f})" for name, (raw, value) in repeated.items()]
    return [
        check_families(ablation),
        check_range(made[new], checked[new]),
        make_check("LK303", not pairs, list_briefly(pairs) or "no new column is almost the same as a raw column"),
    ]


def check_families(ablation: Ablation) -> CheckResult:
    """Check whether LightGBM is worse beyond random variation with a family of features than without it."""
    frame, metric = ablation.families, ablation.metric
    if frame.empty:
        return make_check("LK301", None, "there is no family of features to leave out")
    harmful = frame[frame["high"] < 0]
    lost = format_column(-harmful["gain"])
    named = [f"{family} (by {loss})" for family, loss in zip(harmful["family"], lost, strict=True)]
    some, every = len(harmful) or "none", format_count(len(frame), "family", "families")
    evidence = f"{metric} on validation rows is worse beyond random variation with {some} of {every} than without"
    return make_check("LK301", harmful.empty, f"{evidence}: {list_briefly(named)}" if named else evidence)


def check_range(made: pd.DataFrame, checked: pd.DataFrame) -> CheckResult:
    """Check whether the values of new features on validation rows lie within the range of the training rows.

    Parameters
    ----------
    made, checked
        New numbers of training and validation rows.
    """
    low, high = made.min(), made.max()
    shares = ((checked < low) | (checked > high)).mean()
    far = shares[shares > MOST_OUTSIDE].sort_values(ascending=False, kind="stable")
    named = [
        f"{name}: {format_share(share)} of validation rows ({checked[name].min():g} to {checked[name].max():g}; "
        f"training: {low[name]:g} to {high[name]:g})"
        for name, share in zip(map(str, far.index), far.tolist(), strict=True)
    ]
    most = (
        f"at most {format_share(MOST_OUTSIDE)} of validation rows lie outside the range of any new column in training"
    )
    return make_check("LK302", far.empty, list_briefly(named, most=3) or most)


def find_raw_copies(row_features: RowFeatures, made: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Return the raw column that each new column almost repeats, with their rank correlation, for those that do.

    A column that an expression only transforms, such as `log(x)` and `x`, does not count.

    Parameters
    ----------
    made
        Features of the training rows; of more than `MOST_ROWS`, rows at equal distances are used.
    """
    origins, kinds = row_features.find_origins(), row_features.outputs_
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    places = np.unique(np.linspace(0, len(made) - 1, min(len(made), MOST_ROWS)).round().astype(int))
    found: dict[str, tuple[str, float]] = {}
    for pair in find_pairs(made[numbers].iloc[places], ALMOST_SAME):
        new, raw = sorted(pair[:2], key=lambda name: name not in origins)
        if new in origins and raw not in origins and raw != find_only_source(row_features, new):
            found.setdefault(new, (raw, pair[2]))
    return found


def find_only_source(row_features: RowFeatures, name: str) -> str | None:
    """Return the column that a new column is computed from, if it is only one; None otherwise."""
    expression = (row_features.expressions or {}).get(name)
    function = row_features.get_declared("functions").get(name)
    sources = expressions.find_names(expression) if expression else [*function["columns"]] if function else []
    return sources[0] if len(sources) == 1 else None
