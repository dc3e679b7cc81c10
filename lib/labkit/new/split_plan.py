"""How a new experiment's rows are split: by time, by group, or at random, and what becomes of its dates."""

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
from labkit.features.expressions import LONGEST, write_name
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.new.inspect import Survey
from labkit.new.options import Choices, ParamsDecision
from labkit.new.target import TargetPlan
from labkit.params.evaluation import Gate

FEWEST_DAYS = 20
FEWEST_JUDGED = Gate().fewest_days
FEWEST_GROUPS = 10
MOSTLY_BEFORE, MOSTLY_AFTER = 0.99, 0.5
MOST_MISSING = 0.05
PERSONAL = re.compile(r"birth|born|dob|geburt|naissance|nacimiento", re.I)
SPLIT = ("data", "split")


@dataclass
class SplitPlan:
    """The split, when things are known, and the features that dates become.

    `needs_filter` is a time column with gaps; `hidden` are columns the model does not see; `lengths` are expressions
    for the time from another date to the question.
    """

    split: dict[str, Any]
    column: str | None = None
    time: dict[str, Any] = field(default_factory=dict)
    dates: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    needs_filter: str | None = None
    decisions: list[ParamsDecision] = field(default_factory=list)


def plan_split(
    survey: Survey, target_plan: TargetPlan, target: str, drop: Mapping[str, str], choices: Choices
) -> SplitPlan:
    """Decide how rows are split.

    Raises
    ------
    DataError
        A column that was given for it does not allow that.
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
    return split_plan


def add_length(split_plan: SplitPlan, survey: Survey, column: str, asked: str) -> None:
    """Add the days from a date to the question as a feature: an age, or how long a contract has run."""
    plain = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode().lower()
    name = "days_since_" + (re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40] or "it")
    text = f"({write_name(asked)} - {write_name(column)}) / days(1)"
    # What lies after the question was not known then, whatever the table says now.
    is_before = compute_share_before(survey.sample, column, asked) > MOSTLY_BEFORE
    if not is_before or name in {*survey.sample.columns, *split_plan.lengths} or len(text) > LONGEST:
        return
    split_plan.lengths[name] = text
    split_plan.decisions.append(ParamsDecision(f"new {name!r}", f"up to {asked!r}", "an age says more than a date"))


def warn_of_later(split_plan: SplitPlan, survey: Survey, column: str, asked: str) -> None:
    """Add a warning where a date mostly lies after the question, as the end of what is asked about does."""
    after = 1 - compute_share_before(survey.sample, column, asked)
    if after > MOSTLY_AFTER:
        reason = (
            f"later than {asked!r} in {floor_percent(after)} of the rows: if not known then, --drop {quote(column)}"
        )
        split_plan.decisions.append(
            ParamsDecision(f"column {column!r}", "may be known too late", reason, is_warning=True)
        )


def compute_share_before(frame: pd.DataFrame, column: str, other: str) -> float:
    """Return the share of rows with both dates in which the first is not later; 1 where no row has both."""
    both = frame[[column, other]].dropna()
    return float((to_utc(both[column]) <= to_utc(both[other])).mean()) if len(both) else 1.0


def plan_group_split(survey: Survey, choices: Choices) -> SplitPlan | None:
    """Return a split that keeps equal values of a given column together."""
    if choices.group is None:
        return None
    values, lead = survey.sample[choices.group], f"{survey.raw.where}: --group {choices.group}"
    if values.isna().any():
        raise DataError(f"{lead}: {int(values.isna().sum()):,} sampled rows have none: fill them, or split at random")
    if values.nunique() < FEWEST_GROUPS:
        raise DataError(f"{lead}: {values.nunique()} groups: at least {FEWEST_GROUPS} are needed for three parts")
    decision = ParamsDecision("split", f"by {choices.group!r}", "given: its equal values stay in one part", SPLIT)
    split = {"method": "group", "group": choices.group, "validation": 0.2, "holdout": 0.2}
    # Whom rows are about can only be learnt by heart; there may be few of them.
    is_hidden = values.nunique() > 50 or survey.kinds[choices.group].kind == "identifier"
    hidden = [choices.group] if is_hidden else []
    return SplitPlan(split, hidden=hidden, decisions=[decision])


def plan_random_split(target_plan: TargetPlan, why: str) -> SplitPlan:
    """Return a random split, classes in equal shares, and why it is not one by time."""
    is_class = target_plan.task == "classification"
    reason = f"{why}; {'classes in equal shares' if is_class else 'rows drawn at random'}"
    split = {"validation": 0.2, "holdout": 0.2, **({"stratify": True} if is_class else {})}
    return SplitPlan(split, decisions=[ParamsDecision("split", "random, 60/20/20 %", reason, SPLIT)])


def plan_time_split(
    survey: Survey, target_plan: TargetPlan, target: str, days: list[str], choices: Choices
) -> SplitPlan | str:
    """Return a split by time, or why there is none: by the column given, else by the date that is never later."""
    if choices.time is not None:
        if choices.time not in days:
            raise DataError(
                f"{survey.raw.where}: --time {choices.time}: not read as a date: say how it is written with --format "
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
        return f"{len(able)} dates, {list_dates(able)}, and none is the first in every row: --time says which"
    reason = "the only date, so later rows judge"
    if len(able) > 1:
        reason = f"the first of {len(able)} dates, never later than {list_dates([n for n in able if n != first])}"
    split_plan = cut_days(survey, target_plan, target, first, reason)
    return f"not by time, {first!r}: {split_plan}" if isinstance(split_plan, str) else split_plan


def find_unfit(values: pd.Series) -> str:
    """Return why rows are not split by a date, in a few words; empty if they may be."""
    if PERSONAL.search(str(values.name)):
        return "says when somebody was born"
    missing = float(values.isna().mean())
    return f"is missing in {floor_percent(missing)} of the rows" if missing >= MOST_MISSING else ""


def find_first(frame: pd.DataFrame, days: list[str]) -> str | None:
    """Return the date that is never later than any other one in its row, or None."""
    for name in days:
        if all(compute_share_before(frame, name, other) == 1 for other in days if other != name):
            return name
    return None


def list_dates(names: list[str]) -> str:
    """Return names of columns as a phrase, the first three of them.

    >>> list_dates(["from", "to"])
    "'from' and 'to'"
    """
    shown = [repr(name) for name in names[:3]] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def cut_days(survey: Survey, target_plan: TargetPlan, target: str, column: str, reason: str) -> SplitPlan | str:
    """Return a split after three and four fifths of the rows in time, or why there is none.

    Where a fifth of the rows spans fewer days than the gate asks for, the holdout is as many days long if that leaves
    two thirds of all days.
    """
    rows = survey.sample[survey.sample[target].notna() & survey.sample[column].notna()]
    rows = rows[~rows[target].isin(target_plan.dropped)] if target_plan.dropped else rows
    times = rows[column].sort_values(kind="stable")
    if times.dt.floor("D").nunique() < FEWEST_DAYS:
        return f"fewer than {FEWEST_DAYS} different days"
    cuts, n_judged = choose_cuts(times)
    bounds = [times.iloc[0], *cuts, times.iloc[-1] + pd.Timedelta(days=1)]
    parts = [rows[(rows[column] >= low) & (rows[column] < high)] for low, high in itertools.pairwise(bounds)]
    if min(map(len, parts)) < 5:
        return "a part of the rows would be empty"
    first = parts[0].sort_values(column, kind="stable").head(len(parts[0]) // 6)
    if target_plan.task == "classification" and any(part[target].nunique() < 2 for part in (*parts, first)):
        return "a part of the rows would have one class only"
    name = write_name(column)
    time = {"time": {PREDICT_AT: name, OUTCOME_KNOWN_AT: f"{name} + minutes(1)"}}
    named = {"validation_from": f"{cuts[0]:%Y-%m-%d}", "holdout_from": f"{cuts[1]:%Y-%m-%d}"}
    decisions = [
        ParamsDecision("split", f"by time, {column!r}", reason, SPLIT),
        ParamsDecision("answers known", "at once", "the table does not say when: set it if it is later",
                 ("data", "time"), is_warning=True),
    ]  # fmt: skip
    if n_judged < FEWEST_JUDGED:
        reason = f"the holdout has {n_judged} days, the gate asks for {FEWEST_JUDGED}: add days, or lower fewest_days"
        place = ("evaluation", "gate")
        decisions.append(ParamsDecision("publication", "refused for now", reason, place, is_warning=True))
    has_gaps = survey.raw.facts[column].n_missing > 0 if column in survey.raw.facts else rows[column].isna().any()
    return SplitPlan(
        {"method": "time", **named}, column, time, needs_filter=column if has_gaps else None, decisions=decisions
    )


def choose_cuts(times: pd.Series) -> tuple[list[pd.Timestamp], int]:
    """Return the first days of validation and holdout, and how many days with rows the holdout has.

    Parameters
    ----------
    times
        Rising, without missing values.
    """
    days = times.dt.floor("D")
    distinct = days.drop_duplicates().reset_index(drop=True)
    start = days.iloc[int(len(days) * 0.8)]
    n_judged = int((distinct >= start).sum())
    if n_judged < FEWEST_JUDGED <= len(distinct) // 3:
        start, n_judged = distinct.iloc[-FEWEST_JUDGED], FEWEST_JUDGED
    before = days[days < start]
    return [before.iloc[int(len(before) * 0.75)], start], n_judged


def add_date(split_plan: SplitPlan, survey: Survey, column: str) -> None:
    """Turn a date into features, or hide it where their names are taken."""
    known, zone = survey.sample[column].dropna(), survey.zones.get(column)
    known = known.dt.tz_convert(zone).dt.tz_localize(None) if zone else known
    has_clock = bool((known != known.dt.floor("D")).any())
    is_long = known.max() - known.min() > pd.Timedelta(days=365)
    parts = [*(["hour"] if has_clock else []), "weekday", *(["month"] if is_long else [])]
    if any(f"{column}_{part}" in survey.sample.columns for part in parts):
        split_plan.hidden.append(column)
        return
    split_plan.dates[column] = {**({"zone": zone} if zone else {}), "parts": parts}
    reason = f"from {known.min():%Y-%m-%d} to {known.max():%Y-%m-%d}"
    split_plan.decisions.append(ParamsDecision(f"column {column!r}", f"becomes {', '.join(parts)}", reason))
