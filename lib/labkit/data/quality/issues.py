"""Find data-quality issues in a table, each with its evidence and the line of the params file that fixes it.

Nothing is changed here: a fix takes effect when it is declared, and notebook 02 shows its effect. The work is bounded
for tables with thousands of columns. Issues with the values of string columns are in `labkit.data.quality.text_issues`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data.quality import text_issues
from labkit.data.quality.blank_rows import find_blank_rows
from labkit.data.quality.evidence import floor_percent
from labkit.data.quality.formula import find_formula
from labkit.data.quality.identifiers import Identifier, find_identifier, list_unnamed
from labkit.data.quality.leakage import find_leaks
from labkit.data.quality.placeholders import Placeholder, describe_placeholder, find_placeholders
from labkit.data.quality.profile import MANY_MISSING, MOST_ROWS, find_pairs
from labkit.data.stability import find_drifted
from labkit.errors import list_briefly
from labkit.features.expressions import write_name
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.table_columns import is_numeric
from labkit.params.tables import FEWEST_OF_CLASS, Data, Target
from labkit.params.wrangling import Wrangling
from labkit.params.yaml_lines import quote, write_filter, write_line
from labkit.units import format_count, format_share

SEVERITIES = ("high", "medium", "low")
FAR = 3.0
"""Multiple of the interquartile range beyond the quartiles: Tukey's "far out" (Exploratory Data Analysis, 1977)."""
VERY_FAR = 10.0
RARE_SHARE = 0.1
FEW_ROWS_TO_SKEW = 10
MANY_VALUES = 30
FOREST_SEED = 0
SKEWED = 2.0
FIRST_COLUMNS = 3
"""Columns compared first in search of duplicated rows; then twice as many, and so on."""


@dataclass(frozen=True)
class Issue:
    """A data-quality issue.

    Attributes
    ----------
    severity
        `high`: the model would be wrong or could not be fitted; `medium`: it would be worse; `low`: worth knowing.
    column
        Name of the column; empty if the issue concerns whole rows.
    fix
        A line for the params file; empty if there is nothing to declare.
    """

    severity: str
    column: str
    what: str
    evidence: str
    fix: str


def find_all(
    frame: pd.DataFrame,
    profile: pd.DataFrame,
    data: Data,
    *,
    correlation_alert: float,
    drift: pd.DataFrame,
    every: pd.DataFrame | None = None,
    dropped: Collection[str] = (),
) -> pd.DataFrame:
    """Return the data-quality issues of a joined table, most severe first.

    Parameters
    ----------
    profile
        As returned by `labkit.data.quality.profile.profile_table`.
    correlation_alert
        Minimum absolute rank correlation for two columns to be reported as redundant.
    drift
        As returned by `labkit.data.stability.compute_drift`.
    every
        All rows, if `frame` holds only those that may be described: duplicated and blank rows and missing targets are
        counted among all.
    dropped
        Columns that are dropped: they have no findings of low severity, and no other column is redundant with them, nor
        with one that leaks the target.

    Returns
    -------
    pandas.DataFrame
        `severity`, `column`, `what`, `evidence`, `fix`: see `Issue`.
    """
    target, never = data.target, {data.target.column, PREDICT_AT, OUTCOME_KNOWN_AT}
    every = frame if every is None else every
    inputs = frame[[name for name in frame.columns if name not in never]]
    step = len(inputs) // MOST_ROWS + 1
    sample = frame.iloc[::step] if len(inputs) > MOST_ROWS else frame
    lines = profile.set_index("column")
    placeholders = find_placeholders(sample if target.task == "regression" else sample[list(inputs.columns)])
    identifiers = find_identifiers(inputs, data)
    found = [
        *find_missing_target(every[target.column]),
        *find_in_target(frame, target, placeholders),
        *find_in_rows(every, target, list_keys(inputs, lines, identifiers)),
    ]
    for name in inputs.columns:
        line: pd.Series = lines.loc[str(name)]  # type: ignore[assignment]
        found += find_in_column(inputs[name], line, identifiers.get(str(name)))
        if line["distinct"] > 1:
            found += find_in_values(sample[name], line, placeholders.get(str(name), []))
    varied = [str(name) for name in lines.index[lines["distinct"] > 1]]
    able = [str(name) for name in inputs.columns if name in varied and name not in identifiers]
    scores = dict(zip(profile["column"], profile["score"], strict=True))
    leaking = list(find_leaking(frame, able, target, scores, placeholders))
    found += leaking
    found = [issue for issue in found if not (issue.severity == "low" and issue.column in dropped)]
    unusable = {*dropped, *(issue.column for issue in leaking)}
    found += find_correlated(inputs[[name for name in inputs.columns if name not in unusable]], correlation_alert)
    found += [
        Issue("medium", name, "drift", f"population stability index {value:.2f}", drop(name, "drifts"))
        for name, value in find_drifted(drift)[["column", "drift"]].itertuples(index=False)
        if name not in never
    ]
    ordered = sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    return pd.DataFrame(
        [astuple(finding) for finding in ordered], columns=[field.name for field in fields(Issue)], dtype=str
    )


def list_open(findings: pd.DataFrame, wrangling: Wrangling) -> pd.DataFrame:
    """Return findings of medium or high severity that wrangling or the target could fix, but no declaration does yet.

    Findings without a fix are included. A finding counts as treated if its column appears in `wrangling.drop`, `rules`,
    `fill` or `outliers`, or, for duplicated rows, if `wrangling.duplicates` is `drop`.
    """
    declared = {*wrangling.drop, *wrangling.rules, *wrangling.fill, *wrangling.outliers}
    is_treated = findings["column"].isin(declared)
    if wrangling.duplicates == "drop":
        is_treated |= findings["what"] == "duplicated rows"
    is_ours = findings["fix"].str.startswith(("wrangling.", "data.target.")) | (findings["fix"] == "")
    return findings[(findings["severity"] != "low") & is_ours & ~is_treated]


def drop(name: str, reason: str) -> str:
    """Return the params line that drops a column."""
    return write_line("wrangling.drop", name, reason)


def set_aside(profile: pd.DataFrame, findings: pd.DataFrame, drop: Mapping[str, str]) -> pd.DataFrame:
    """Return the profile with the reason why a column is no usable input in its column `set_aside`, empty for others.

    Set aside are columns that are dropped, leak the target, identify the row, or are constant or empty, and the times
    of the prediction and its outcome.

    Parameters
    ----------
    findings
        As returned by `find_all`.
    drop
        `wrangling.drop`.
    """
    target = profile.attrs.get("target")
    is_severe = (findings["severity"] == "high") | findings["what"].isin(["constant", "empty"])
    found = findings[is_severe & (findings["column"] != target)]
    reasons = dict(zip(found["column"], found["what"], strict=True))
    reasons |= dict.fromkeys(drop, "dropped") | dict.fromkeys((PREDICT_AT, OUTCOME_KNOWN_AT), "time of the prediction")
    return profile.assign(set_aside=[reasons.get(name, "") for name in profile["column"]])


def find_missing_target(outcomes: pd.Series) -> Iterator[Issue]:
    """Find rows without a target."""
    if n_missing := int(outcomes.isna().sum()):
        name = str(outcomes.name)
        fix = write_filter(f"not missing({write_name(name)})")
        yield Issue("high", name, "target missing", f"{format_count(n_missing, 'row')} without a target", fix)


def find_in_target(
    frame: pd.DataFrame, target: Target, placeholders: Mapping[str, list[Placeholder]]
) -> Iterator[Issue]:
    """Find infinite or skewed target values, rare classes, and placeholders for missing values."""
    outcomes, name = frame[target.column], target.column
    if target.task == "classification":
        yield from find_rare_classes(outcomes.dropna(), target)
    elif is_numeric(outcomes):
        for placeholder in placeholders.get(name, []):
            fix = f"data.target.rule: {{missing: [{placeholder.number}]}}"
            yield Issue("high", name, "marker for missing", describe_placeholder(placeholder), fix)
        numbers = outcomes.dropna().astype("float64")
        if infinite := int(np.isinf(numbers).sum()):
            fix = write_filter(f"abs({write_name(name)}) < 1e300")
            yield Issue("high", name, "infinite target", format_count(infinite, "row"), fix)
        skew = float(stats.skew(numbers[np.isfinite(numbers)])) if numbers.nunique() > FEW_ROWS_TO_SKEW else 0.0
        if skew > SKEWED:
            kind = "log" if numbers.min() >= 0 else "yeo_johnson"
            yield Issue("low", name, "skewed target", f"skewness {skew:.1f}", f"training.target_transform: {kind}")


def find_rare_classes(outcomes: pd.Series, target: Target) -> Iterator[Issue]:
    """Find classes that are hard to learn because they have few rows or far fewer than others."""
    counts, name = outcomes.value_counts(), target.column
    if len(counts) < 2:
        evidence = f"only {counts.index.tolist()[0]!r}" if len(counts) else "no row has a target"
        yield Issue("high", name, "one class", evidence, "")
        return
    rare = [] if target.rare else [label for label in counts.index.tolist() if counts[label] < FEWEST_OF_CLASS]
    if rare:
        named = list_briefly(f"{label!r} with {counts[label]}" for label in rare)
        evidence = f"{format_count(len(rare), 'class', 'classes')} with fewer than {FEWEST_OF_CLASS} rows: {named}"
        fix = f"data.target.rare: {{fewest_rows: {FEWEST_OF_CLASS}, action: drop}}"
        yield Issue("high" if counts[rare].min() < 3 else "medium", name, "rare classes", evidence, fix)
    # How rarer classes are handled is already declared.
    kept = counts[counts >= target.rare.fewest_rows] if target.rare else counts
    if not len(kept):
        return
    smallest, share = kept.index.tolist()[-1], float(kept.iloc[-1] / counts.sum())
    if share * len(kept) < RARE_SHARE * 2:
        evidence = f"{smallest!r} holds {format_share(share, 1)} of the rows"
        yield Issue("medium", name, "imbalanced classes", evidence, "training.class_weight: balanced")


def list_keys(inputs: pd.DataFrame, lines: pd.DataFrame, identifiers: Mapping[str, Identifier]) -> set[str]:
    """Return the columns that may have values even in a blank row: identifiers, times and constants."""
    is_key = (lines["kind"] == "time") | (lines["distinct"] <= 1)
    return {*identifiers, *(name for name in map(str, inputs.columns) if is_key[name]), PREDICT_AT, OUTCOME_KNOWN_AT}


def find_in_rows(frame: pd.DataFrame, target: Target, keys: set[str]) -> Iterator[Issue]:
    """Find duplicated rows and blank rows."""
    if n_repeated := count_repeated(frame):
        evidence = f"{n_repeated:,} of {format_count(len(frame), 'row')} repeat an earlier one in every column"
        yield Issue("medium", "", "duplicated rows", evidence, "wrangling.duplicates: drop")
    if blank := find_blank_rows(frame, keys):
        fix = write_filter(f"not missing({write_name(target.column)})")
        yield Issue("low", "", "blank rows", blank.describe(), fix)


def count_repeated(frame: pd.DataFrame) -> int:
    """Return how many rows repeat an earlier one in every column.

    Rows that differ in a few columns are set aside first: to number the values of all columns at once would take more
    memory than the table.

    >>> count_repeated(pd.DataFrame({"a": [1, 1, 1, 2], "b": ["x", "x", "y", "x"]}))
    1
    """
    varied = list(frame.iloc[:MOST_ROWS].nunique().sort_values(ascending=False, kind="stable").index)
    n_columns = FIRST_COLUMNS
    while n_columns < len(varied) and len(frame):
        frame = frame[frame.duplicated(subset=varied[:n_columns], keep=False)]
        n_columns *= 2
    return int(frame.duplicated().sum())


def find_identifiers(inputs: pd.DataFrame, data: Data) -> dict[str, Identifier]:
    """Return the columns that are identifiers."""
    unnamed = list_unnamed([str(name) for name in inputs.columns], data.tables[data.main_table])
    found = {str(name): find_identifier(inputs[name], is_unnamed=name in unnamed) for name in inputs.columns}
    return {name: identifier for name, identifier in found.items() if identifier}


def find_in_column(values: pd.Series, line: pd.Series, identifier: Identifier | None) -> Iterator[Issue]:
    """Find the issues that are visible in one column's row of the profile."""
    name, share = str(values.name), line["missing_share"]
    if line["distinct"] == 0:
        yield Issue("medium", name, "empty", "no row has a value", drop(name, "empty"))
        return
    if line["distinct"] == 1 and share == 0:
        yield Issue("medium", name, "constant", f"every row has {line['most_common']!r}", drop(name, "constant"))
    elif line["distinct"] == 1:
        evidence = f"{line['most_common']!r} in {format_share(1 - share)} of the rows, nothing in the others"
        yield Issue("low", name, "one value or none", evidence, drop(name, "one value or none"))
    if share >= MANY_MISSING:
        evidence = f"{format_share(share)} of the rows have no value"
        yield Issue("medium", name, "many missing values", evidence, drop(name, "mostly missing"))
    if line["kind"] == "time":
        fix = write_line("features.dates", name, "{parts: [hour, weekday, month]}")
        yield Issue("low", name, "time", f"from {line['smallest']} to {line['largest']}", fix)
    elif identifier:
        yield Issue("high", name, "identifier", identifier.reason, drop(name, "identifier"))


def find_leaking(
    frame: pd.DataFrame,
    inputs: list[str],
    target: Target,
    scores: Mapping[str, float],
    placeholders: Mapping[str, list[Placeholder]],
) -> Iterator[Issue]:
    """Find columns that leak the target, or may leak it, and a formula of several columns that yields it."""
    leaks = find_leaks(
        frame, inputs, target.column, target.task, seed=FOREST_SEED, scores=scores, placeholders=placeholders
    )
    for name, leak in leaks.items():
        fix = drop(name, quote("known only with the target"))
        yield Issue("high" if leak.is_sure else "medium", name, leak.kind, leak.evidence, fix)
    if target.task == "regression":
        others = [name for name in inputs if not (name in leaks and leaks[name].is_sure)]
        if formula := find_formula(frame, others, target.column):
            evidence = f"{formula.expression} explains {floor_percent(formula.explained)} of it"
            yield Issue("high", target.column, "formula of other columns", evidence, "")


def find_in_values(values: pd.Series, line: pd.Series, placeholders: list[Placeholder]) -> Iterator[Issue]:
    """Find issues in a column's values: missing-value markers, outliers, spellings, numbers or dates as text, prose."""
    name = str(values.name)
    if line["kind"] == "number":
        yield from find_in_numbers(name, values.dropna().to_numpy(dtype="float64"), placeholders)
    if line["kind"] == "category":
        for what, evidence, severity, rule in text_issues.find_string_issues(values):
            fix = write_line(rule[0], name, rule[1]) if rule[1] else ""
            yield Issue(severity, name, what, evidence, fix)
            if what in ("free text", "date as text", "number as text"):
                return
        if line["distinct"] > MANY_VALUES and line["distinct"] < 0.9 * len(values):
            fix = write_line("features.categories", name, str(min(1000, int(line["distinct"]))))
            evidence = f"{line['distinct']:,} distinct values; the {MANY_VALUES} most frequent are distinguished"
            yield Issue("low", name, "many categories", evidence, fix)


def find_in_numbers(name: str, numbers: np.ndarray, placeholders: list[Placeholder]) -> Iterator[Issue]:
    """Find placeholders for missing values, infinite values and outliers."""
    if infinite := int(np.isinf(numbers).sum()):
        fix = write_line("wrangling.rules", name, "{minimum: -1.0e+30, maximum: 1.0e+30}")
        yield Issue("medium", name, "infinite values", f"{infinite:,} of the rows examined", fix)
    finite = numbers[np.isfinite(numbers)]
    if len(np.unique(finite)) <= 2:
        return
    if placeholders:
        evidence = "; ".join(map(describe_placeholder, placeholders))
        shown = ", ".join(str(placeholder.number) for placeholder in placeholders)
        fix = write_line("wrangling.rules", name, f"{{missing: [{shown}]}}")
        yield Issue("medium", name, "marker for missing", evidence, fix)
    rest = finite[~np.isin(finite, [placeholder.value for placeholder in placeholders])]
    low, high = np.quantile(rest, [0.25, 0.75])
    reach = np.maximum(low - rest, rest - high) / max(high - low, 1e-300)
    if high > low and reach.max() > VERY_FAR:
        share, farthest = format_share(np.mean(reach > FAR), 1), rest[reach.argmax()]
        evidence = f"{share} of the rows are outliers, the farthest at {farthest:.4g}"
        fix = write_line("wrangling.outliers", name, "{method: iqr, action: clip}")
        yield Issue("low", name, "outliers", evidence, fix)


def find_correlated(inputs: pd.DataFrame, correlation_alert: float) -> Iterator[Issue]:
    """Find columns that are redundant with an earlier one, each reported once."""
    reported: set[str] = set()
    for first, second, correlation in find_pairs(inputs, correlation_alert):
        if second not in reported:
            reported.add(second)
            evidence = f"rank correlation {correlation:.3f} with {first}"
            yield Issue("low", second, "duplicates another column", evidence, drop(second, quote(f"like {first}")))
