"""Detect a numeric target that follows from other columns by a formula: a sum, another linear function or a product.

Such a target needs no model, or its parts become known only together with it. For a single column, see
`labkit.data.quality.copies`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labkit.data.quality.copies import compute_spread, correlate
from labkit.data.quality.evidence import FEWEST_ROWS, SMOOTH, compute_smoothness
from labkit.features.expressions import write_name
from labkit.features.table_columns import find_column_kind

MOST_ROWS = 5_000
MOST_TERMS = 20
ROWS_PER_TERM = 3
MOSTLY_FILLED = 0.5
EXACT = 0.9999
"""Minimum share of the target's variance that a formula must explain."""
WORSE, NOTHING = 1.5, 1e-8
"""Allowed increase of the unexplained share without a term or with rounded factors; and the share taken as zero."""
TYPICALLY = 0.01
"""Maximum residual of a typical row, as a fraction of the typical deviation (both median absolute deviations)."""
DIGITS = (0, 1, 2, 3, 4, 6)
"""Decimal places (significant digits for small factors) that factors are rounded to, fewest first."""
POWERS = {1.0, -1.0, 2.0, -2.0}


@dataclass(frozen=True)
class Formula:
    """How a target follows from other columns.

    Attributes
    ----------
    expression
        The formula as an expression over columns, e.g. `aroma + body + taste`.
    columns
        The columns that it uses.
    explained
        Share of the target's variance that the formula explains as written, with rounded factors.
    """

    expression: str
    columns: tuple[str, ...]
    explained: float


def find_formula(frame: pd.DataFrame, inputs: Sequence[str], target: str) -> Formula | None:
    """Return the formula by which a numeric target follows from at least two columns, or None.

    >>> random = np.random.default_rng(0)
    >>> frame = pd.DataFrame(random.normal(size=(60, 3)), columns=["net", "tax", "age"])
    >>> find_formula(frame.assign(gross=frame["net"] + frame["tax"]), ["net", "tax", "age"], "gross").expression
    'net + tax'
    """
    rows = frame[np.isfinite(frame[target].to_numpy(dtype="float64", na_value=np.nan))]
    rows = rows if len(rows) <= MOST_ROWS else rows.iloc[:: -(-len(rows) // MOST_ROWS)]
    names = [name for name in inputs if is_usable(rows[name])]
    if len(names) < 2 or len(rows) < FEWEST_ROWS:
        return None
    y_true = rows[target].to_numpy(dtype="float64")
    raw = rows[names].to_numpy(dtype="float64", na_value=np.nan)
    columns = np.where(np.isfinite(raw), raw, np.nan)
    most = min(MOST_TERMS, len(rows) // ROWS_PER_TERM - 1)
    chosen = list(range(len(names))) if len(names) <= most else choose_columns(columns, y_true, most)
    found = find_sum(columns, y_true, chosen, names)
    positive = [place for place in chosen if not (columns[:, place] <= 0).any()]
    if found is None and len(positive) > 1 and (y_true > 0).all():
        found = find_product(columns, y_true, positive, names)
    return found


def is_usable(values: pd.Series) -> bool:
    """Return whether a column is numeric, varies, and has values in enough rows."""
    is_number = find_column_kind(values) == "number"
    return is_number and bool(values.isna().mean() <= MOSTLY_FILLED) and values.nunique() > 1


def choose_columns(columns: np.ndarray, y_true: np.ndarray, most: int) -> list[int]:
    """Return the columns that a formula would use, chosen one at a time by correlation with the residual."""
    # Orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad, 1993); missing values are replaced by the mean.
    centred = np.nan_to_num(columns - np.nanmean(columns, axis=0))
    unit = centred / np.sqrt((centred**2).sum(axis=0)).clip(min=1e-300)
    goal = y_true - y_true.mean()
    closeness = unit.T @ goal
    left, chosen = closeness, list[int]()
    products = np.empty((columns.shape[1], 0))
    while len(chosen) < min(most, columns.shape[1]):
        open_ones = np.abs(left)
        open_ones[chosen] = -1
        chosen.append(int(open_ones.argmax()))
        products = np.column_stack([products, unit.T @ unit[:, chosen[-1]]])
        factors = np.linalg.lstsq(products[chosen], closeness[chosen], rcond=None)[0]
        left = closeness - products @ factors
        if goal @ goal - factors @ closeness[chosen] <= NOTHING * (goal @ goal):
            break
    return sorted(chosen)


def find_sum(columns: np.ndarray, y_true: np.ndarray, chosen: list[int], names: list[str]) -> Formula | None:
    """Return the target as a linear function of a few columns, or None."""
    fitted = find_terms(columns, y_true, chosen)
    if fitted is None:
        return None
    kept, rows, left = fitted
    part, goal = columns[rows][:, kept], y_true[rows]
    factors, _ = solve(part, goal)
    for digits in DIGITS:
        rounded = np.array([round_factor(factor, digits) for factor in factors])
        constant = float((goal - part @ rounded).mean())
        for shown in (0.0, float(f"{constant:.{digits + 2}g}")):
            unexplained = compute_unexplained(part @ rounded + shown, goal)
            most = 1 - EXACT if digits == DIGITS[-1] else min(max(WORSE * left, NOTHING), 1 - EXACT)
            if rounded.all() and unexplained <= most:
                terms = [(factor, write_name(names[place])) for factor, place in zip(rounded, kept, strict=True)]
                return Formula(write_sum(terms, shown), tuple(names[place] for place in kept), 1 - unexplained)
    return None


def find_product(columns: np.ndarray, y_true: np.ndarray, chosen: list[int], names: list[str]) -> Formula | None:
    """Return the target as a product of a few columns or of their powers, or None."""
    logs = np.log(columns[:, chosen])
    fitted = find_terms(logs, np.log(y_true), list(range(len(chosen))))
    if fitted is None:
        return None
    kept, rows, _ = fitted
    powers, constant = solve(logs[rows][:, kept], np.log(y_true[rows]))
    rounded = powers.round()
    used = [names[chosen[place]] for place in kept]
    for factor in (1.0, float(f"{np.exp(constant):.4g}")):
        product = factor * np.exp(logs[rows][:, kept] @ rounded)
        unexplained = compute_unexplained(product, y_true[rows])
        if {*rounded} <= POWERS and unexplained <= 1 - EXACT:
            expression = write_product(factor, dict(zip(used, rounded, strict=True)))
            return Formula(expression, tuple(used), 1 - unexplained)
    return None


def find_terms(
    columns: np.ndarray, y_true: np.ndarray, chosen: list[int]
) -> tuple[list[int], np.ndarray, float] | None:
    """Return the columns a target follows from, the rows without missing values, and the unexplained share, or None."""
    # Backward elimination: columns are removed as long as the unexplained share hardly grows.
    rows = np.isfinite(columns[:, chosen]).all(axis=1)
    goal = y_true[rows]
    if len(goal) < max(FEWEST_ROWS, ROWS_PER_TERM * (len(chosen) + 1)) or goal.std() == 0:
        return None

    def compute_left(places: list[int]) -> float:
        part = columns[rows][:, places]
        factors, constant = solve(part, goal)
        # Adjusted for the degrees of freedom, as in the adjusted R².
        return compute_unexplained(part @ factors + constant, goal) * (len(goal) - 1) / (len(goal) - len(places) - 1)

    kept, left = list(chosen), compute_left(list(chosen))
    if left > 1 - EXACT or not is_followed(columns[rows][:, kept], goal):
        return None
    most = min(max(WORSE * left, NOTHING), 1 - EXACT)
    while len(kept) > 1:
        without = [compute_left(kept[:place] + kept[place + 1 :]) for place in range(len(kept))]
        place = int(np.argmin(without))
        if without[place] > most:
            break
        del kept[place]
    return (kept, rows, left) if 2 <= len(kept) <= MOST_TERMS else None


def is_followed(part: np.ndarray, goal: np.ndarray) -> bool:
    """Return whether a fit holds for typical rows, not only extreme ones, and for the changes of a time series."""
    factors, constant = solve(part, goal)
    fitted = part @ factors + constant
    if compute_spread(goal - fitted) > TYPICALLY * compute_spread(goal):
        return False
    is_trend = compute_smoothness(np.arange(len(goal)), goal) >= SMOOTH
    return not is_trend or correlate(np.diff(fitted), np.diff(goal)) ** 2 >= SMOOTH


def solve(part: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the coefficients and the intercept of a least-squares fit to the target."""
    centre = part.mean(axis=0)
    scale = part.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    factors = np.linalg.lstsq((part - centre) / scale, goal - goal.mean(), rcond=None)[0] / scale
    return factors, float(goal.mean() - centre @ factors)


def compute_unexplained(fitted: np.ndarray, goal: np.ndarray) -> float:
    """Return the share of a target's variance that a fit leaves unexplained."""
    return float(((goal - fitted) ** 2).mean() / goal.var())


def round_factor(factor: float, digits: int) -> float:
    """Return a factor rounded to decimal places, or to significant digits if it is below 0.5 in absolute value.

    >>> round_factor(0.99999, 0), round_factor(-1.2034, 1), round_factor(0.00123456, 2)
    (1.0, -1.2, 0.0012)
    """
    is_small = abs(factor) < 0.5
    return float(f"{factor:.{max(digits, 1)}g}") if is_small and digits else round(float(factor), digits)


def write_sum(terms: Sequence[tuple[float, str]], constant: float) -> str:
    """Return a linear function as an expression, with positive terms first if there are any.

    >>> write_sum([(-1.0, "cost"), (1.0, "sales"), (0.5, "fee")], 3.0)
    'sales + 0.5 * fee + 3 - cost'
    """
    parts = [(factor, name if abs(factor) == 1 else f"{abs(factor):.6g} * {name}") for factor, name in terms]
    parts += [(constant, f"{abs(constant):.6g}")] if constant else []
    added = [term for factor, term in parts if factor > 0]
    taken = "".join(f" - {term}" for factor, term in parts if factor < 0)
    return " + ".join(added) + taken if added else taken.strip().replace("- ", "-", 1)


def write_product(factor: float, powers: dict[str, float]) -> str:
    """Return a product of powers as an expression.

    >>> write_product(1.0, {"price": 1.0, "quantity": 1.0, "rate": -1.0})
    'price * quantity / rate'
    """
    shown = {name: write_name(name) + ("" if abs(power) == 1 else " ** 2") for name, power in powers.items()}
    above = ([] if factor == 1 else [f"{factor:.6g}"]) + [shown[name] for name, power in powers.items() if power > 0]
    return " / ".join([" * ".join(above) or "1", *(shown[name] for name, power in powers.items() if power < 0)])
