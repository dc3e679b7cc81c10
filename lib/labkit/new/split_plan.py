"""How the rows of a new experiment are split (by time, by group or at random), and how its date columns are used."""

import itertools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

import pandas as pd

from labkit.data.joins import to_utc
from labkit.data.quality.evidence import floor_percent
from labkit.errors import DataError, list_briefly
from labkit.features.expressions import LONGEST_EXPRESSION, write_name
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.new.inspect import Survey
from labkit.new.options import Choices, ParamsDecision
from labkit.new.target import TargetPlan
from labkit.params.evaluation import Gate

FEWEST_DAYS = 20
FEWEST_HOLDOUT_DAYS = Gate().fewest_days
FEWEST_GROUPS = 10
MOST_NAMED = 12
MOSTLY_BEFORE, MOSTLY_AFTER = 0.99, 0.5
MOST_MISSING = 0.05
PERSONAL = re.compile(r"birth|born|dob|geburt|naissance|nacimiento", re.I)
SPLIT = ("data", "split")


@dataclass
class SplitPlan:
    """The split, the times at which values are known, and the features made from dates.

    Attributes
    ----------
    split
        Section `data.split`.
    column
        Time column of a split by time, which is the time of prediction.
    time
        Section `data.time`, as part of `data`; empty if rows are not split by time.
    dates
        Section `features.dates`.
    lengths
        Expressions, by feature name, for the days from another date to the time of prediction.
    hidden
        Columns that are not inputs of the model.
    needs_filter
        Time column with missing values; rows without a time are filtered out.
    moment
        What a split by time means for the other columns, in one sentence; empty without such a split.
    decisions
        Decisions about all of these, each with its reason.
    """

    split: dict[str, Any]
    column: str | None = None
    time: dict[str, Any] = field(default_factory=dict)
    dates: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    needs_filter: str | None = None
    moment: str = ""
    decisions: list[ParamsDecision] = field(default_factory=list)


def plan_split(
    survey: Survey, target_plan: TargetPlan, target: str, drop: Mapping[str, str], choices: Choices
) -> SplitPlan:
    """Decide how to split the rows and how to use the date columns.

    Parameters
    ----------
    survey
        Findings about the table.
    target_plan
        Decisions about the target.
    target
        Column to predict.
    drop
        Columns that are left out, with the reasons.
    choices
        Options given by the user; they take precedence.

    Raises
    ------
    DataError
        The column given with --time or --group does not allow such a split.
    """
    days = [name for name, found in survey.kinds.items() if found.kind == "date" and name not in drop]
    split_plan = plan_group_split(survey, choices)
    if split_plan is None:
        by_time = plan_time_split(survey, target_plan, target, days, choices)
        split_plan = plan_random_split(target_plan, by_time) if isinstance(by_time, str) else by_time
    asked = next((column for column in days if split_plan.time and column == split_plan.column), None)
    for column in days:
        add_date(split_plan, survey, column)
        if asked is not None and column != asked:
            add_length(split_plan, survey, column, asked)
            warn_of_later(split_plan, survey, column, asked)
    if split_plan.time and split_plan.column:
        state_moment(split_plan, [name for name in survey.kinds if name not in (*drop, *split_plan.hidden, target)])
    return split_plan


def state_moment(split_plan: SplitPlan, inputs: list[str]) -> None:
    """State what it means that a date is the time of prediction: all other inputs have to be known at that time."""
    others = [name for name in inputs if name != split_plan.column]
    if not others:
        return
    count = "this column" if len(others) == 1 else f"these {len(others)} columns"
    shown = ", ".join(others[:MOST_NAMED]) + (f" and {len(others) - MOST_NAMED} more" * (len(others) > MOST_NAMED))
    split_plan.moment = f"this model predicts at {split_plan.column}; {count} must be known then: {shown}"
    reason = "all other columns must be known then: leave out with --drop what is known only later"
    split_plan.decisions.append(
        ParamsDecision("prediction", f"at {split_plan.column!r}", reason, ("data", "time"), is_warning=True)
    )


def add_length(split_plan: SplitPlan, survey: Survey, column: str, asked: str) -> None:
    """Add the days from a date to the time of prediction as a feature: an age, or the duration of a contract."""
    plain = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode().lower()
    name = "days_since_" + (re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40] or "it")
    expression = f"({write_name(asked)} - {write_name(column)}) / days(1)"
    # Dates after the time of prediction were not known then, even if the table holds them now.
    is_before = compute_share_before(survey.sample, column, asked) > MOSTLY_BEFORE
    if not is_before or name in {*survey.sample.columns, *split_plan.lengths} or len(expression) > LONGEST_EXPRESSION:
        return
    split_plan.lengths[name] = expression
    split_plan.decisions.append(
        ParamsDecision(f"new {name!r}", f"up to {asked!r}", "an age is more informative than a date")
    )


def warn_of_later(split_plan: SplitPlan, survey: Survey, column: str, asked: str) -> None:
    """Add a warning if a date is mostly later than the time of prediction, such as the end of the event to predict."""
    after = 1 - compute_share_before(survey.sample, column, asked)
    if after > MOSTLY_AFTER:
        reason = (
            f"later than {asked!r} in {floor_percent(after)} of the rows: if not known then, --drop {quote(column)}"
        )
        split_plan.decisions.append(
            ParamsDecision(f"column {column!r}", "may be known too late", reason, is_warning=True)
        )


def compute_share_before(frame: pd.DataFrame, column: str, other: str) -> float:
    """Return the share of rows with both dates in which the first is not later; 1 if no row has both."""
    both = frame[[column, other]].dropna()
    return float((to_utc(both[column]) <= to_utc(both[other])).mean()) if len(both) else 1.0


def plan_group_split(survey: Survey, choices: Choices) -> SplitPlan | None:
    """Return a split that keeps rows with the same value of a given column together; None if no column is given."""
    if choices.group is None:
        return None
    values, lead = survey.sample[choices.group], f"{survey.raw.where}: --group {choices.group}"
    if values.isna().any():
        raise DataError(
            f"{lead}: {int(values.isna().sum()):,} sampled rows have no value: fill them, or split at random"
        )
    if values.nunique() < FEWEST_GROUPS:
        raise DataError(f"{lead}: {values.nunique()} groups: at least {FEWEST_GROUPS} are needed for three parts")
    decision = ParamsDecision("split", f"by {choices.group!r}", "given: rows with equal values stay in one part", SPLIT)
    split = {"method": "group", "group": choices.group, "validation": 0.2, "holdout": 0.2}
    # A model can only memorize the entities that rows are about; there may be few of them.
    is_hidden = values.nunique() > 50 or survey.kinds[choices.group].kind == "identifier"
    hidden = [choices.group] if is_hidden else []
    return SplitPlan(split, hidden=hidden, decisions=[decision])


def plan_random_split(target_plan: TargetPlan, why: str) -> SplitPlan:
    """Return a random split, stratified for classes, with the reason why it is not by time."""
    is_class = target_plan.task == "classification"
    reason = f"{why}; {'classes in equal shares' if is_class else 'rows drawn at random'}"
    split = {"validation": 0.2, "holdout": 0.2, **({"stratify": True} if is_class else {})}
    return SplitPlan(split, decisions=[ParamsDecision("split", "random, 60/20/20 %", reason, SPLIT)])


def plan_time_split(
    survey: Survey, target_plan: TargetPlan, target: str, days: list[str], choices: Choices
) -> SplitPlan | str:
    """Return a split by time, or why it is impossible: by the given column, else by the date that is never later."""
    if choices.time is not None:
        if choices.time not in days:
            raise DataError(
                f"{survey.raw.where}: --time {choices.time}: not read as a date: give its format with --format "
                f"'{choices.time}=%d.%m.%Y'"
            )
        split_plan = cut_days(survey, target_plan, target, choices.time, "given")
        if isinstance(split_plan, str):
            raise DataError(f"{survey.raw.where}: --time {choices.time}: {split_plan}: split at random, without --time")
        return split_plan
    unfit = {name: why for name in days if (why := find_unfit(survey.sample[name]))}
    able = [name for name in days if name not in unfit]
    if not able:
        return list_briefly(["no date to split by", *(f"{name!r} {why}" for name, why in unfit.items())], most=4)
    first = find_first(survey.sample, able)
    if first is None:
        return f"{len(able)} dates, {list_dates(able)}, and none is the first in every row: choose one with --time"
    reason = "the only date, so later rows are held out"
    if len(able) > 1:
        reason = f"the first of {len(able)} dates, never later than {list_dates([n for n in able if n != first])}"
    split_plan = cut_days(survey, target_plan, target, first, reason)
    return f"not by time, {first!r}: {split_plan}" if isinstance(split_plan, str) else split_plan


def find_unfit(values: pd.Series) -> str:
    """Return why a date is not fit to split by, in a few words; empty if it is."""
    if PERSONAL.search(str(values.name)):
        return "looks like a date of birth"
    missing = float(values.isna().mean())
    return f"is missing in {floor_percent(missing)} of the rows" if missing >= MOST_MISSING else ""


def find_first(frame: pd.DataFrame, days: list[str]) -> str | None:
    """Return the date that is never later than any other date of its row, or None."""
    for name in days:
        if all(compute_share_before(frame, name, other) == 1 for other in days if other != name):
            return name
    return None


def list_dates(names: list[str]) -> str:
    """Return column names as a phrase that lists the first three.

    >>> list_dates(["from", "to"])
    "'from' and 'to'"
    """
    shown = [repr(name) for name in names[:3]] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def cut_days(survey: Survey, target_plan: TargetPlan, target: str, column: str, reason: str) -> SplitPlan | str:
    """Return a split by time at 60 % and 80 % of the rows, or why it is impossible."""
    rows = survey.sample[survey.sample[target].notna() & survey.sample[column].notna()]
    rows = rows[~rows[target].isin(target_plan.dropped)] if target_plan.dropped else rows
    zone, moments = survey.zones.get(column), read_clock(rows[column], survey.zones.get(column))
    times = moments.sort_values(kind="stable")
    if times.dt.floor("D").nunique() < FEWEST_DAYS:
        return f"fewer than {FEWEST_DAYS} different days"
    cuts, n_days = choose_cuts(times)
    bounds = [times.iloc[0], *cuts, times.iloc[-1] + pd.Timedelta(days=1)]
    parts = [rows[(moments >= low) & (moments < high)] for low, high in itertools.pairwise(bounds)]
    if min(map(len, parts)) < 5:
        return "a part of the rows would be empty"
    first = parts[0].sort_values(column, kind="stable").head(len(parts[0]) // 6)
    if target_plan.task == "classification" and any(part[target].nunique() < 2 for part in (*parts, first)):
        return "a part of the rows would have one class only"
    name = write_name(column)
    time = {"time": {PREDICT_AT: name, OUTCOME_KNOWN_AT: f"{name} + minutes(1)", **({"zone": zone} if zone else {})}}
    named = {"validation_from": f"{cuts[0]:%Y-%m-%d}", "holdout_from": f"{cuts[1]:%Y-%m-%d}"}
    decisions = [
        ParamsDecision("split", f"by time, {column!r}", reason, SPLIT),
        ParamsDecision("outcome known", "at once", "the table does not state when: set it if it is later",
                 ("data", "time"), is_warning=True),
    ]  # fmt: skip
    if n_days < FEWEST_HOLDOUT_DAYS:
        reason = (
            f"the holdout has {n_days} days, the gate requires {FEWEST_HOLDOUT_DAYS}: add days, or lower fewest_days"
        )
        place = ("evaluation", "gate")
        decisions.append(ParamsDecision("publication", "refused for now", reason, place, is_warning=True))
    has_gaps = survey.raw.facts[column].n_missing > 0 if column in survey.raw.facts else rows[column].isna().any()
    return SplitPlan(
        {"method": "time", **named}, column, time, needs_filter=column if has_gaps else None, decisions=decisions
    )


def read_clock(times: pd.Series, zone: str | None) -> pd.Series:
    """Return times as the clocks of a zone showed them; unchanged without a zone."""
    return times.dt.tz_convert(zone).dt.tz_localize(None) if zone else times


def choose_cuts(times: pd.Series) -> tuple[list[pd.Timestamp], int]:
    """Return the first days of validation and holdout, and the holdout's days; times are sorted and not missing."""
    days = times.dt.floor("D")
    distinct = days.drop_duplicates().reset_index(drop=True)
    start = days.iloc[int(len(days) * 0.8)]
    n_days = int((distinct >= start).sum())
    if n_days < FEWEST_HOLDOUT_DAYS <= len(distinct) // 3:
        # A fifth of the rows covers fewer days than the gate needs: the holdout gets as many days as the gate needs,
        # provided that two thirds of all days are left.
        start, n_days = distinct.iloc[-FEWEST_HOLDOUT_DAYS], FEWEST_HOLDOUT_DAYS
    before = days[days < start]
    return [before.iloc[int(len(before) * 0.75)], start], n_days


def add_date(split_plan: SplitPlan, survey: Survey, column: str) -> None:
    """Turn a date into features, or hide it if their names are taken."""
    zone = survey.zones.get(column)
    known = read_clock(survey.sample[column].dropna(), zone)
    has_clock = bool((known != known.dt.floor("D")).any())
    is_long = known.max() - known.min() > pd.Timedelta(days=365)
    parts = [*(["hour"] if has_clock else []), "weekday", *(["month"] if is_long else [])]
    if any(f"{column}_{part}" in survey.sample.columns for part in parts):
        split_plan.hidden.append(column)
        return
    split_plan.dates[column] = {**({"zone": zone} if zone else {}), "parts": parts}
    reason = f"from {known.min():%Y-%m-%d} to {known.max():%Y-%m-%d}"
    split_plan.decisions.append(ParamsDecision(f"column {column!r}", f"becomes {', '.join(parts)}", reason))
