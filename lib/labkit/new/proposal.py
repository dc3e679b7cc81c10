"""Params of a new experiment, decided from the survey of its table, each decision with its reason.

This module is pure: it neither reads nor writes files. Users are expected to edit the proposal in the params file.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.quality.blank_rows import find_blank_rows
from labkit.data.quality.evidence import floor_percent
from labkit.data.quality.formula import find_formula
from labkit.data.quality.identifiers import MANY_NAMES, MOST_ROWS_EACH, names_thing, names_whom
from labkit.data.quality.leakage import find_leaks
from labkit.data.quality.placeholders import Placeholder, describe_placeholder, find_placeholders
from labkit.data.split import FEWEST_ROWS_TO_SPLIT
from labkit.errors import DataError, list_briefly
from labkit.features.expressions import LONGEST_EXPRESSION, write_name
from labkit.features.table_columns import is_numeric
from labkit.new.column_kinds import ColumnKind
from labkit.new.inspect import Survey
from labkit.new.options import Choices, ParamsDecision
from labkit.new.split_plan import SplitPlan, plan_split
from labkit.new.target import TargetPlan, plan_target
from labkit.new.words import propose_words
from labkit.params.tables import Table
from labkit.params.training import USUAL_MODELS
from labkit.params.yaml_lines import quote, write_line
from labkit.units import format_count, shorten_value
from labkit.vocabulary import names_time

DEFAULT_SEED = 42
MANY_ROWS, MANY_COLUMNS = 20_000, 200
LABELS = ("identifier", "constant", "empty")
FEW_ROWS = 5_000
MOST_OFFERS = 3
QUICK_MODELS = ("dummy", "linear", "lightgbm")


@dataclass
class Proposal:
    """Params as plain data, and the decisions behind them.

    Attributes
    ----------
    moment
        What it means for the other columns that a date is the time of prediction, in one sentence; else empty.
    """

    tree: dict[str, Any]
    decisions: list[ParamsDecision] = field(default_factory=list)
    moment: str = ""

    @property
    def comments(self) -> dict[tuple[str, ...], str]:
        """Reasons, by the path of the field they are about."""
        found: dict[tuple[str, ...], list[str]] = {}
        for decision in self.decisions:
            if decision.place:
                found.setdefault(decision.place, []).append(f"{decision.subject}: {decision.reason}")
        return {place: list_briefly(reasons, most=6) for place, reasons in found.items()}


def make_proposal(name: str, survey: Survey, target: str, choices: Choices) -> Proposal:
    """Decide about all params of an experiment.

    Parameters
    ----------
    name
        Name of the experiment.
    survey
        Findings about its table.
    target
        Column to predict.
    choices
        Options given by the user; they take precedence.

    Raises
    ------
    DataError
        The table cannot be learned from: too few rows, one class, or no column to predict from.
    ParamsError
        An option does not fit the target.
    """
    n_rows = survey.raw.n_rows
    if n_rows < FEWEST_ROWS_TO_SPLIT:
        rows = format_count(n_rows, "row") + (": cannot be split" if n_rows == 1 else "")
        raise DataError(
            f"{survey.raw.where}: {rows}: at least {FEWEST_ROWS_TO_SPLIT} are needed for training, "
            "validation and holdout"
        )
    target_plan = plan_target(survey, target, choices)
    survey = replace(
        survey, sample=survey.sample.assign(**{target: target_plan.values}), n_target_missing=target_plan.n_missing
    )
    place = ("data", "tables", name)
    decisions = [ParamsDecision(d.subject, d.value, d.reason, place + d.place if d.place else (), d.is_warning)
                 for d in survey.decisions]  # fmt: skip
    decisions += target_plan.decisions
    placeholders = find_placeholders(survey.sample.drop(columns=target))
    drop = find_drops(survey, target_plan, placeholders, target, choices, decisions)
    split_plan = plan_split(survey, target_plan, target, drop, choices)
    decisions += split_plan.decisions
    left = [column for column in survey.kinds if column not in drop and column not in split_plan.hidden]
    if not left:
        raise DataError(
            f"{survey.raw.where}: no column is left to predict {target!r} from: {describe_drops(drop)}: keep some "
            "with --keep"
        )
    words, about_words = propose_words(survey.raw.where, target, target_plan)
    decisions += about_words
    tree = {
        "experiment": name,
        **words,
        "seed": DEFAULT_SEED,
        "data": {
            "tables": {name: describe_table(survey.raw.table)},
            **split_plan.time,
            "target": target_plan.fields,
            "split": split_plan.split,
        },
        "eda": {"most_columns": 12},
        "wrangling": make_wrangling(survey, target_plan, split_plan, drop, placeholders, target, choices, decisions),
        "features": make_features(survey, split_plan, drop, decisions),
        "training": make_training(n_rows, len(left), target_plan, decisions),
        "evaluation": make_evaluation(n_rows, len(left), survey.sample[target], target_plan, decisions),
        "deploy": {"onnx": True, "intended_use": f"Not stated yet: made from a table by labkit new {name}."},
    }
    decisions += find_remarks(survey, drop, choices)
    return Proposal(tree, decisions, split_plan.moment)


def describe_table(table: Table) -> dict[str, Any]:
    """Return the declaration of the table without fields at their defaults."""
    found = table.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in found.items() if value not in ([], {}, None)}


def describe_drops(drop: Mapping[str, str]) -> str:
    """Describe why columns were left out."""
    return list_briefly(f"{column!r} ({reason})" for column, reason in drop.items()) or "there is no other"


def find_drops(
    survey: Survey,
    target_plan: TargetPlan,
    placeholders: Mapping[str, list[Placeholder]],
    target: str,
    choices: Choices,
    decisions: list[ParamsDecision],
) -> dict[str, str]:
    """Return the columns to leave out, each with the reason; warn about others that may leak the target."""
    drop = dict.fromkeys(choices.drop, "left out as requested")
    for column, found in survey.kinds.items():
        if column in drop or (column in choices.keep and found.kind == "identifier"):
            continue
        if found.kind in LABELS and column not in (choices.group, choices.time):
            drop[column] = f"{found.kind}: {found.reason}"
    inputs = [column for column in survey.kinds if column not in drop and column not in choices.keep]
    sample, n_rows = survey.sample, survey.raw.n_rows
    leaks = find_leaks(
        sample, inputs, target, target_plan.task, seed=DEFAULT_SEED, n_rows=n_rows, placeholders=placeholders
    )
    kept = (choices.group, choices.time)
    drop |= {name: leak.reason for name, leak in leaks.items() if leak.is_sure and name not in kept}
    decisions += [ParamsDecision(f"column {column!r}", "left out", reason) for column, reason in drop.items()]
    for name, leak in leaks.items():
        if name not in drop:
            reason = f"{leak.reason}; if it is known only later, --drop {shlex.quote(name)}"
            decisions.append(ParamsDecision(f"column {name!r}", "may leak the target", reason, is_warning=True))
    others = [name for name in inputs if name not in drop]
    if target_plan.task == "regression" and (formula := find_formula(sample, others, target)):
        reason = f"explains {floor_percent(formula.explained)} of it: are all of these columns known before it?"
        decisions.append(ParamsDecision(f"target {target!r}", f"= {formula.expression}", reason, is_warning=True))
    return drop


def make_wrangling(
    survey: Survey,
    target_plan: TargetPlan,
    split_plan: SplitPlan,
    drop: Mapping[str, str],
    placeholders: Mapping[str, list[Placeholder]],
    target: str,
    choices: Choices,
    decisions: list[ParamsDecision],
) -> dict[str, Any]:
    """Return the section `wrangling`."""
    filters = []
    if survey.n_target_missing:  # including blank rows
        filters.append(f"not missing({write_name(target)})")
        reason = f"{survey.n_target_missing:,} of {format_count(survey.raw.n_rows, 'row')} without a target"
        decisions.append(ParamsDecision("filter", filters[-1], reason, ("wrangling", "filters"), is_warning=True))
    if split_plan.needs_filter:
        filters.append(f"not missing({write_name(split_plan.needs_filter)})")
        reason = "rows without a time are in no part"
        decisions.append(ParamsDecision("filter", filters[-1], reason, ("wrangling", "filters"), is_warning=True))
    if long := [one for one in filters if len(one) > LONGEST_EXPRESSION]:
        raise DataError(f"{survey.raw.where}: the filter {long[0][:60]!r} … is too long: shorten the name in the file")
    found: dict[str, Any] = {"filters": filters} if filters else {}
    rules = make_rules(survey, drop, placeholders, choices, decisions)
    return found | ({"rules": rules} if rules else {}) | ({"drop": dict(drop)} if drop else {})


def make_rules(
    survey: Survey,
    drop: Mapping[str, str],
    placeholders: Mapping[str, list[Placeholder]],
    choices: Choices,
    decisions: list[ParamsDecision],
) -> dict[str, dict[str, Any]]:
    """Return the rules by column: placeholders for missing values, strings that are numbers."""
    rules: dict[str, dict[str, Any]] = {}
    for column, found in survey.kinds.items():
        if column in drop:
            continue
        is_number = is_numeric(survey.sample[column])
        given = [read_marker(word, is_number) for word in choices.missing.get(column, ())]
        markers = [marker for marker in given if marker is not None]
        place = ("wrangling", "rules", column)
        if found.kind == "number" and is_number and not markers:
            found_here = placeholders.get(column, [])
            markers = [placeholder.number for placeholder in found_here]
            if markers:
                value = f"{' and '.join(map(str, markers))} {'are' if len(markers) > 1 else 'is'} missing"
                reason = "; ".join(map(describe_placeholder, found_here))
                decisions.append(ParamsDecision(f"column {column!r}", value, reason, place, is_warning=True))
        if found.rule:
            decisions.append(ParamsDecision(f"column {column!r}", "read as numbers", found.reason, place))
        words = set(found.lost) - set(choices.missing.get(column, ()))
        if found.rule and words:
            decisions.append(warn_of_lost_words(survey, column, found))
        elif words:
            decisions.append(warn_of_mostly_numbers(column, found, int(survey.sample[column].count())))
        if rule := {**(found.rule or {}), **({"missing": markers} if markers else {})}:
            rules[column] = rule
    return rules


def warn_of_lost_words(survey: Survey, column: str, found: ColumnKind) -> ParamsDecision:
    """Return the warning that words in a numeric column become missing, and how to give them a value."""
    word = next(iter(found.lost))
    shown = list_briefly(f"{times:,} × {word!r}" for word, times in found.lost.items())
    of = "" if survey.is_whole else f" of {len(survey.sample):,} rows examined"
    line = write_line("wrangling.rules", column, f'{{map: {{{quote(word)}: "0"}}, …}}')
    reason = f"not numbers: give them a value with {line}, or keep all words with --kind {shlex.quote(column)}=category"
    return ParamsDecision(f"column {column!r}", f"{shown}{of} become missing", reason, is_warning=True)


def warn_of_mostly_numbers(column: str, found: ColumnKind, n_known: int) -> ParamsDecision:
    """Return the warning that a category holds mostly numbers, and how to read it as numbers."""
    share = floor_percent(1 - sum(found.lost.values()) / n_known)
    shown = list_briefly(f"{times:,} × {word!r}" for word, times in found.lost.items())
    reason = (
        f"{share} of its values are numbers; --kind {shlex.quote(column)}=number reads them, {shown} become missing"
    )
    return ParamsDecision(f"column {column!r}", "a category", reason, is_warning=True)


def read_marker(word: str, is_number: bool) -> Any:
    """Return a missing marker as a value of the column, or None if reading already treats it as missing."""
    if not is_number:
        return word
    try:
        number = float(word)
    except ValueError:
        return None
    return int(number) if number.is_integer() else number


def make_features(
    survey: Survey, split_plan: SplitPlan, drop: Mapping[str, str], decisions: list[ParamsDecision]
) -> dict[str, Any]:
    """Return the section `features`: durations, date parts, and words of free text."""
    found: dict[str, Any] = {}
    if split_plan.lengths:
        found["expressions"] = dict(split_plan.lengths)
    if split_plan.dates:
        found["dates"] = split_plan.dates
    text_columns = [column for column, kind in survey.kinds.items() if kind.kind == "text" and column not in drop]
    if text_columns:
        found["text"] = {column: {} for column in text_columns}
        for column in text_columns:
            reason = survey.kinds[column].reason
            decisions.append(ParamsDecision(f"column {column!r}", "free text", reason, ("features", "text")))
    if split_plan.hidden:
        found["drop"] = list(split_plan.hidden)
    return found


def choose_models(n_rows: int, n_columns: int) -> tuple[str, ...]:
    """Return the candidates: fast models for many columns; for few rows also those that compare with every row."""
    if n_columns > MANY_COLUMNS:
        return QUICK_MODELS
    return (*USUAL_MODELS, "nearest_neighbours") if n_rows <= FEW_ROWS else USUAL_MODELS


def make_training(
    n_rows: int, n_columns: int, target_plan: TargetPlan, decisions: list[ParamsDecision]
) -> dict[str, Any]:
    """Return the section `training`, bounded so that a run takes minutes."""
    is_large = n_rows > MANY_ROWS or n_columns > MANY_COLUMNS
    models = choose_models(n_rows, n_columns)
    folds = 5 if n_rows <= FEW_ROWS and n_columns <= MANY_COLUMNS else 3
    if target_plan.smallest is not None:
        # Each fold of the training rows, three fifths of all, has to hold every class.
        folds = int(np.clip(target_plan.smallest * 0.55, 2, folds))
    found: dict[str, Any] = {"models": list(models), "metric": target_plan.metric, "folds": folds}
    size = f"{format_count(n_rows, 'row')}, {format_count(n_columns, 'column')}"
    decisions.append(ParamsDecision("models", f"{len(models)} of them, {folds} folds", size, ("training", "models")))
    most = int(np.clip(3_000_000 // n_columns, 2_000, MANY_ROWS))
    if is_large and n_rows * 0.6 > most:
        found["most_rows"] = most
        reason = "candidates are compared on these, so that a run takes minutes"
        decisions.append(ParamsDecision("rows to compare on", f"{most:,}", reason, ("training", "most_rows")))
    return found


def make_evaluation(
    n_rows: int, n_columns: int, y_true: pd.Series, target_plan: TargetPlan, decisions: list[ParamsDecision]
) -> dict[str, Any]:
    """Return the section `evaluation` with a gate in the metric's unit."""
    tolerance, size = 0.01, "a loss of 0.01"
    if target_plan.task == "regression" and target_plan.metric != "r2":
        tolerance = float(f"{0.02 * float(y_true.std()):.1g}") or 0.0
        size = "a loss of about 2 % of the target's standard deviation"
    why = f"Proposed by labkit new, not chosen for this data: any gain over the dummy counts, and {size} does not."
    gate = {"minimum_gain": 0, "champion_tolerance": tolerance, "reason": why}
    reason = "better than a constant prediction; about as good as the previous model"
    decisions.append(ParamsDecision("gate", f"gain > 0, within {tolerance:g}", reason, ("evaluation", "gate")))
    found: dict[str, Any] = {"bootstrap_samples": 1000 if n_rows < 100_000 else 200, "gate": gate}
    if n_columns > MANY_COLUMNS:
        found["importance_rows"] = int(np.clip(200_000 // n_columns, 100, 5_000))
    return found


def find_remarks(survey: Survey, drop: Mapping[str, str], choices: Choices) -> list[ParamsDecision]:
    """Return what is worth knowing and changes nothing: blank and duplicated rows, groups, what reading noticed."""
    remarks = []
    sample = survey.sample
    of = "" if survey.is_whole else f", of {len(sample):,} rows examined"
    keys = [column for column, found in survey.kinds.items() if found.kind in (*LABELS, "date")]
    if blank := find_blank_rows(sample, keys):
        remarks.append(
            ParamsDecision("blank rows", f"{blank.n_rows:,} left out{of}", blank.describe(), is_warning=True)
        )
    n_twins = int(sample.duplicated().sum())
    if n_twins:
        reason = "a copy of a training row in the holdout inflates the metrics"
        remarks.append(
            ParamsDecision("duplicated rows", f"{format_count(n_twins, 'row')}{of}", reason, is_warning=True)
        )
    remarks += offer_groups(survey, drop, choices)
    for note in survey.raw.notes:
        subject = f"column {note.column!r}" if note.column else "file"
        remarks.append(ParamsDecision(subject, note.finding, note.evidence, is_warning=True))
    return remarks


def offer_groups(survey: Survey, drop: Mapping[str, str], choices: Choices) -> list[ParamsDecision]:
    """Return the columns that --group could keep together, the best first: identifiers that several rows share."""
    offers: list[tuple[bool, str]] = []
    for column, found in survey.kinds.items():
        values = survey.sample[column].dropna()
        n_distinct = values.nunique()
        if choices.group is not None or not n_distinct or n_distinct == len(values) or names_time(column):
            continue
        is_many = n_distinct > MANY_NAMES and 2 <= len(values) / n_distinct <= MOST_ROWS_EACH
        if found.kind == "identifier" and names_whom(column):
            offers.append((True, column))
        elif column not in drop and is_many and found.kind in ("category", "number") and names_thing(column):
            offers.append((False, column))
    remarks = []
    for is_shared, column in sorted(offers, key=lambda offer: not offer[0])[:MOST_OFFERS]:
        each = survey.sample[column].count() / survey.sample[column].nunique()
        value = f"--group {shlex.quote(column)}" if is_shared else shorten_value(column)
        reason = f"each value in {each:.1f} rows on average: --group keeps them in one part of the split"
        remarks.append(ParamsDecision("group?", value, reason, is_warning=is_shared))
    return remarks


def list_kinds(kinds: Mapping[str, ColumnKind]) -> dict[str, list[str]]:
    """Return the columns of each kind, most frequent kind first.

    Parameters
    ----------
    kinds
        Kind by column.
    """
    found: dict[str, list[str]] = {}
    for column, kind in kinds.items():
        found.setdefault(kind.kind, []).append(column)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))
