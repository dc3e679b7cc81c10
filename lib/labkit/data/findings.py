"""What looks wrong with a table, each finding with its evidence and the line of the params file that mends it.

Finds; changes nothing: a line takes effect when it is declared, and notebook 02 shows what it did. Bounded for tables
of thousands of columns. What the values of texts look like is asked in `labkit.data.texts`.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data import texts
from labkit.data.drift import LARGE_DRIFT
from labkit.data.expressions import write_name
from labkit.data.lines import quote, write_filter, write_line
from labkit.data.profile import LEAK_SCORE, MANY_MISSING, MOST_ROWS, find_kind, find_pairs
from labkit.data.tables import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.params import Target, Wrangling

SEVERITIES = ("high", "medium", "low")
MARKERS = (-9, -99, -999, -9999, -99999, 99, 999, 9999, 99999)
"""Numbers that often stand for a missing one; suspicious only where they lie far from all others."""
FAR = 3.0
"""Times the interquartile range beyond the quartiles: Tukey's far out (Exploratory Data Analysis, 1977)."""
VERY_FAR = 10.0
RARE_SHARE = 0.1
FEW_ROWS = 10
MANY_VALUES = 30
TELLING_GAPS = 0.5
SKEWED = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong.

    Attributes
    ----------
    severity
        `high`: the model would be wrong or could not be made; `medium`: it would be worse; `low`: worth knowing.
    column
        Empty where it is about whole rows.
    fix
        A line for the params file; empty where there is nothing to declare.
    """

    severity: str
    column: str
    what: str
    evidence: str
    fix: str


def find_all(
    frame: pd.DataFrame, profile: pd.DataFrame, target: Target, *, correlation_alert: float, drift: pd.DataFrame
) -> pd.DataFrame:
    """List what looks wrong with a joined table, worst first.

    Parameters
    ----------
    profile
        As `labkit.data.profile.profile_table` gives it.
    correlation_alert
        Absolute rank correlation from which two columns are said to say the same.
    drift
        As `labkit.data.drift.compute_drift` gives it.

    Returns
    -------
    pandas.DataFrame
        `severity`, `column`, `what`, `evidence`, `fix`: see `Finding`.
    """
    never = {target.column, PREDICT_AT, OUTCOME_KNOWN_AT}
    inputs = frame[[name for name in frame.columns if name not in never]]
    sample = inputs if len(inputs) <= MOST_ROWS else inputs.iloc[:: len(inputs) // MOST_ROWS + 1]
    lines = profile.set_index("column")
    n_repeated = int(frame.duplicated().sum())
    found = [*find_in_target(frame, target), *find_in_rows(len(frame), n_repeated)]
    for name in inputs.columns:
        line: pd.Series = lines.loc[str(name)]  # type: ignore[assignment]
        found += find_in_column(inputs[name], line, len(frame) - n_repeated)
        if line["distinct"] > 1:
            found += find_leaks(frame, str(name), line, target)
            found += find_in_values(sample[name], line)
    found += find_twins(inputs, correlation_alert)
    found += [
        Finding("medium", name, "drift", f"population stability index {value:.2f} after training", drop(name, "drifts"))
        for name, value in zip(drift["column"], drift["drift"], strict=True)
        if value > LARGE_DRIFT and name not in never
    ]
    ordered = sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    return pd.DataFrame(
        [astuple(finding) for finding in ordered], columns=[field.name for field in fields(Finding)], dtype=str
    )


def list_open(findings: pd.DataFrame, wrangling: Wrangling) -> pd.DataFrame:
    """Return the findings above low that wrangling could mend and for whose column nothing is declared there."""
    declared = {*wrangling.drop, *wrangling.rules, *wrangling.fill, *wrangling.outliers}
    is_treated = findings["column"].isin(declared)
    if wrangling.duplicates == "drop":
        is_treated |= findings["what"] == "duplicated rows"
    is_ours = findings["fix"].str.startswith("wrangling.") | (findings["fix"] == "")
    return findings[(findings["severity"] != "low") & is_ours & ~is_treated]


def drop(name: str, reason: str) -> str:
    """Return the line that leaves a column out."""
    return write_line("wrangling.drop", name, reason)


def find_in_target(frame: pd.DataFrame, target: Target) -> Iterator[Finding]:
    """Find answers that are missing, endless, rare or skewed."""
    answers, name = frame[target.column], target.column
    if n_missing := int(answers.isna().sum()):
        fix = write_filter(f"not missing({write_name(name)})")
        yield Finding("high", name, "answers missing", f"{n_missing:,} rows have no answer", fix)
    if target.task == "classification":
        yield from find_rare_classes(answers.dropna(), name)
    elif pd.api.types.is_numeric_dtype(answers):
        numbers = answers.dropna().astype("float64")
        if endless := int(np.isinf(numbers).sum()):
            fix = write_filter(f"abs({write_name(name)}) < 1e300")
            yield Finding("high", name, "infinite answers", f"{endless:,} rows", fix)
        skew = float(stats.skew(numbers[np.isfinite(numbers)])) if numbers.nunique() > FEW_ROWS else 0.0
        if skew > SKEWED:
            kind = "log" if numbers.min() >= 0 else "yeo_johnson"
            yield Finding("low", name, "skewed answers", f"skewness {skew:.1f}", f"training.target_transform: {kind}")


def find_rare_classes(answers: pd.Series, name: str) -> Iterator[Finding]:
    """Find classes that are hard to learn because they are few or much fewer than others."""
    counts = answers.value_counts()
    if len(counts) < 2:
        evidence = f"only {counts.index.tolist()[0]!r}" if len(counts) else "no answer at all"
        yield Finding("high", name, "one class", evidence, "")
        return
    for label, size in zip(counts.index.tolist(), counts.tolist(), strict=True):
        if size < FEW_ROWS:
            fix = write_filter(f"{write_name(name)} != {label!r}")
            yield Finding("high" if size < 3 else "medium", name, "rare class", f"{label!r} has {size} rows", fix)
    smallest, share = counts.index.tolist()[-1], float(counts.iloc[-1] / counts.sum())
    if share * len(counts) < RARE_SHARE * 2:
        evidence = f"{smallest!r} holds {share:.1%} of the rows"
        yield Finding("medium", name, "imbalanced classes", evidence, "training.class_weight: balanced")


def find_in_rows(n_rows: int, n_repeated: int) -> Iterator[Finding]:
    """Find rows that are there more than once."""
    if n_repeated:
        evidence = f"{n_repeated:,} of {n_rows:,} rows repeat an earlier one in every column"
        yield Finding("medium", "", "duplicated rows", evidence, "wrangling.duplicates: drop")


def find_in_column(values: pd.Series, line: pd.Series, n_rows: int) -> Iterator[Finding]:
    """Find what one column's line of the profile gives away; `n_rows` are those that are all different."""
    name, share = str(values.name), line["missing_share"]
    if line["distinct"] == 0:
        yield Finding("medium", name, "empty", "no row has a value", drop(name, "empty"))
        return
    if line["distinct"] == 1 and share == 0:
        yield Finding("medium", name, "constant", f"every row has {line['most_common']!r}", drop(name, "constant"))
    elif line["distinct"] == 1:
        evidence = f"{line['most_common']!r} in {1 - share:.0%} of the rows, nothing in the others"
        yield Finding("low", name, "one value or none", evidence, drop(name, "one value or none"))
    if share >= MANY_MISSING:
        evidence = f"{share:.0%} of the rows have no value"
        yield Finding("medium", name, "many gaps", evidence, drop(name, "mostly missing"))
    if line["kind"] == "time":
        fix = write_line("features.dates", name, "{parts: [hour, weekday, month]}")
        yield Finding("low", name, "time", f"from {line['smallest']} to {line['largest']}", fix)
    elif line["distinct"] == n_rows > FEW_ROWS and is_label(values):
        yield Finding("high", name, "identifier", "every value is different", drop(name, "identifier"))


def is_label(values: pd.Series) -> bool:
    """Tell whether values are whole numbers or short texts, as identifiers are: no sentences, prices or dates."""
    if find_kind(values) != "category":
        return pd.api.types.is_integer_dtype(values)
    words = values.head(1000).astype(str)
    special = texts.guess_kind(words.tolist(), [])
    return not texts.is_prose(words) and (special is None or special[0] == "leading zeros")


def find_leaks(frame: pd.DataFrame, name: str, line: pd.Series, target: Target) -> Iterator[Finding]:
    """Find columns that give the answer away: copies of it, near-perfect predictors, gaps that follow the answer."""
    answers, values = frame[target.column], frame[name]
    gaps = values.isna()
    has_gaps = 0.01 <= line["missing_share"] <= 0.99
    if line["score"] >= LEAK_SCORE and not (has_gaps and explain_gaps(gaps, answers, target) >= TELLING_GAPS):
        what = "copy of the answer" if is_copy(values, answers, target) else "may be the answer in disguise"
        evidence = f"alone explains {line['score']:.0%} of the target"
        yield Finding("high", name, what, evidence, drop(name, "known only with the answer"))
        return
    if not has_gaps:
        return
    if answers.isna().any() and gaps.equals(answers.isna()):
        evidence = "missing exactly where the answer is"
        yield Finding("high", name, "filled with the answer", evidence, drop(name, "known only with the answer"))
    elif (told := explain_gaps(gaps, answers, target)) >= TELLING_GAPS:
        evidence = f"whether it is missing explains {told:.0%} of the target"
        yield Finding("high", name, "filled after the answer", evidence, drop(name, "known only with the answer"))


def is_copy(values: pd.Series, answers: pd.Series, target: Target) -> bool:
    """Tell whether a column and the answer say each other exactly."""
    both = pd.DataFrame({"value": values, "answer": answers}).dropna()
    if target.task == "regression" and find_kind(values) == "number":
        return abs(both["value"].corr(both["answer"], method="spearman")) > 0.9999
    pairs = both.drop_duplicates()
    return len(pairs) == pairs["value"].nunique() == pairs["answer"].nunique()


def explain_gaps(gaps: pd.Series, answers: pd.Series, target: Target) -> float:
    """Return the share of the answers' variance, or of the classes' impurity, that a column's gaps explain."""
    known = answers.notna()
    gaps, answers = gaps[known], answers[known]
    if target.task == "regression":
        return float(np.nan_to_num(np.corrcoef(gaps, answers.astype("float64"))[0, 1] ** 2))
    table = pd.crosstab(gaps, answers)
    whole = 1 - float(((table.sum() / len(answers)) ** 2).sum())
    inside = 1 - (table.div(table.sum(axis=1), axis=0) ** 2).sum(axis=1)
    return 1 - float((inside * table.sum(axis=1)).sum() / len(answers)) / whole if whole > 0 else 0.0


def find_in_values(values: pd.Series, line: pd.Series) -> Iterator[Finding]:
    """Find what a column's values give away: markers, outliers, spellings, numbers and dates as text, prose."""
    name = str(values.name)
    if line["kind"] == "number":
        yield from find_in_numbers(name, values.dropna().to_numpy(dtype="float64"))
    if line["kind"] == "category":
        for what, evidence, severity, rule in texts.find_in_texts(values):
            fix = write_line(rule[0], name, rule[1]) if rule[1] else ""
            yield Finding(severity, name, what, evidence, fix)
            if what in ("free text", "date as text", "number as text"):
                return
        if line["distinct"] > MANY_VALUES and line["distinct"] < 0.9 * len(values):
            fix = write_line("features.categories", name, str(min(1000, int(line["distinct"]))))
            evidence = f"{line['distinct']:,} different values; the {MANY_VALUES} most frequent are told apart"
            yield Finding("low", name, "many categories", evidence, fix)


def find_in_numbers(name: str, numbers: np.ndarray) -> Iterator[Finding]:
    """Find numbers that stand for a missing one, endless ones, and those far from all others."""
    if endless := int(np.isinf(numbers).sum()):
        fix = write_line("wrangling.rules", name, "{minimum: -1.0e+30, maximum: 1.0e+30}")
        yield Finding("medium", name, "infinite values", f"{endless:,} of the rows looked at", fix)
    finite = numbers[np.isfinite(numbers)]
    if len(np.unique(finite)) <= 2:
        return
    markers = [marker for marker in MARKERS if is_far(marker, finite)]
    if markers:
        evidence = ", ".join(f"{marker} in {np.mean(finite == marker):.1%}" for marker in markers)
        fix = write_line("wrangling.rules", name, f"{{missing: [{', '.join(map(quote, markers))}]}}")
        yield Finding("medium", name, "marker for missing", f"{evidence} of the rows, far from all others", fix)
    rest = finite[~np.isin(finite, markers)]
    low, high = np.quantile(rest, [0.25, 0.75])
    reach = np.maximum(low - rest, rest - high) / max(high - low, 1e-300)
    if high > low and reach.max() > VERY_FAR:
        evidence = f"{np.mean(reach > FAR):.1%} of the rows lie far out, the farthest at {rest[reach.argmax()]:.4g}"
        fix = write_line("wrangling.outliers", name, "{method: iqr, action: clip}")
        yield Finding("low", name, "outliers", evidence, fix)


def is_far(marker: int, numbers: np.ndarray) -> bool:
    """Tell whether a number stands among others, at one of their ends and far from the rest."""
    rest = numbers[numbers != marker]
    if len(rest) == len(numbers) or len(rest) < FEW_ROWS:
        return False
    low, high = np.quantile(rest, [0.25, 0.75])
    is_end = marker < rest.min() or marker > rest.max()
    return bool(is_end and (marker < low - FAR * (high - low) or marker > high + FAR * (high - low)))


def find_twins(inputs: pd.DataFrame, correlation_alert: float) -> Iterator[Finding]:
    """Find columns that say the same as an earlier one, each told once."""
    told: set[str] = set()
    for first, second, correlation in find_pairs(inputs, correlation_alert):
        if second not in told:
            told.add(second)
            evidence = f"rank correlation {correlation:.3f} with {first}"
            yield Finding("low", second, "says the same as another", evidence, drop(second, quote(f"like {first}")))
