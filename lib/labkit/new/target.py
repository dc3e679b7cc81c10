"""The target: classes or a number, the class of interest, and the metric that ranks the models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from labkit.errors import DataError, ParamsError, list_briefly, name_nearest
from labkit.features.row_computation import OTHER
from labkit.features.table_columns import find_column_kind
from labkit.new.inspect import Survey
from labkit.new.options import Choices, ParamsDecision
from labkit.new.target_values import Labels, leave_out_placeholders, read_labels, settle_rare
from labkit.params.tables import FEWEST_OF_CLASS
from labkit.params.training import CLASSIFICATION_METRICS, REGRESSION_METRICS
from labkit.units import format_count, format_share
from labkit.vocabulary import OF_INTEREST

MOST_CLASSES = 50
MOSTLY_COMMON = 0.6
"""Least share of rows in common classes for rare classes not to count towards the maximum number of classes."""
FEW_NUMBERS = 10
RARE = 0.05


@dataclass
class TargetPlan:
    """The target as declared in the params.

    Attributes
    ----------
    task
        `classification` or `regression`.
    metric
        Metric that ranks the models.
    fields
        Section `data.target`.
    values
        Target of the sampled rows as its rule reads it, shape (n_sample,).
    n_missing
        Rows without a target, of all rows.
    dropped
        Classes with too few rows, which are left out.
    smallest
        Rows of the smallest remaining class; None for regression.
    decisions
        Decisions about the target, each with its reason.
    """

    task: str
    metric: str
    fields: dict[str, Any]
    values: pd.Series
    n_missing: int
    dropped: list[Any] = field(default_factory=list)
    smallest: int | None = None
    decisions: list[ParamsDecision] = field(default_factory=list)


def plan_target(survey: Survey, target: str, choices: Choices) -> TargetPlan:
    """Decide about the target.

    Parameters
    ----------
    survey
        Findings about the table.
    target
        Column to predict.
    choices
        Options given by the user; they take precedence.

    Raises
    ------
    DataError
        The target is missing in every row, holds times or a single value, has too many classes or only rare ones,
        numbers the rows, or holds strings where numbers are needed.
    ParamsError
        An option does not fit the target.
    """
    lead = f"{survey.raw.where}: target {target!r}"
    if survey.n_target_missing == survey.raw.n_rows:
        raise DataError(f"{lead} is missing in every row: name another column with --target")
    if find_column_kind(survey.sample[target]) == "time":
        raise DataError(f"{lead} holds times: predict a number or a class, e.g. days from one time to another")
    if choices.task not in (None, "classification", "regression"):
        raise ParamsError(f"--task {choices.task}: {name_nearest(str(choices.task), ['classification', 'regression'])}")
    labels = read_labels(survey, target, choices)
    task, reason = (choices.task, "given") if choices.task else find_task(labels)
    if task == "classification" and labels.is_read_as_number:
        labels = read_labels(survey, target, choices, as_words=True)
    decisions = [ParamsDecision("task", task, reason, ("data", "target", "task"))]
    if task == "regression":
        return plan_number(survey, target, labels, lead, choices, decisions)
    return plan_classes(target, labels, lead, choices, decisions)


def find_task(labels: Labels) -> tuple[str, str]:
    """Return the task and the reason: words and few distinct whole numbers are classes, other numbers regression."""
    counts = labels.counts
    n_distinct = "many" if counts is None else f"{len(counts):,}"
    if not holds_numbers(labels.values):
        return "classification", f"the target holds {n_distinct} different words"
    if counts is not None and len(counts) <= FEW_NUMBERS:
        is_whole = all(float(value).is_integer() for value in counts)
        if is_whole and (len(counts) <= 2 or min(counts.values()) >= FEWEST_OF_CLASS):
            return "classification", f"the target holds {len(counts)} different whole numbers"
    return "regression", f"the target holds {n_distinct} different numbers"


def holds_numbers(values: pd.Series) -> bool:
    """Return whether values are numbers, not booleans."""
    return find_column_kind(values) == "number"


def plan_number(
    survey: Survey, target: str, labels: Labels, lead: str, choices: Choices, decisions: list[ParamsDecision]
) -> TargetPlan:
    """Decide about a numeric target."""
    if not holds_numbers(labels.values):
        first = next(iter(labels.counts)) if labels.counts else "strings"
        raise DataError(f"{lead} holds {first!r}, not numbers: use --task classification")
    labels = leave_out_placeholders(survey, target, labels)
    if labels.counts is not None and len(labels.counts) == 1:
        raise DataError(f"{lead} is {next(iter(labels.counts))} in every row: there is nothing to predict")
    known = labels.values.dropna()
    steps = known.diff().dropna()
    counts_up = len(known) >= 20 and steps.nunique() == 1 and steps.iloc[0] != 0 and bool((known % 1 == 0).all())
    if counts_up and choices.task is None:
        raise DataError(
            f"{lead} increases by one per row, so it identifies the rows; add --task regression if that is intended"
        )
    if choices.positive is not None:
        raise ParamsError(f"--positive {choices.positive}: is for classification, and {target!r} is a number")
    metric = choose_metric("mae", REGRESSION_METRICS, choices)
    decisions += labels.decisions
    decisions.append(ParamsDecision("metric", metric, "given" if choices.metric else "in the target's own unit",
                              ("training", "metric")))  # fmt: skip
    fields = {"column": target, "task": "regression", **({"rule": labels.rule} if labels.rule else {})}
    return TargetPlan("regression", metric, fields, labels.values, labels.n_missing, decisions=decisions)


def plan_classes(
    target: str, labels: Labels, lead: str, choices: Choices, decisions: list[ParamsDecision]
) -> TargetPlan:
    """Decide about a target of classes."""
    counts = check_counts(labels, lead, choices)
    rare, kept = settle_rare(counts, lead)
    decisions += [*labels.decisions, *rare.decisions]
    total = sum(kept.values())
    shares = {label: count / total for label, count in kept.items()}
    balance = list_briefly(
        f"{label!r} {format_share(share, 1)}" for label, share in sorted(shares.items(), key=lambda i: -i[1])
    )
    is_skewed = min(shares.values()) < RARE
    decisions.append(ParamsDecision("classes", f"{len(kept)}", balance, is_warning=is_skewed))
    fields: dict[str, Any] = {"column": target, "task": "classification"}
    if len(kept) == 2:
        fields["positive"], reason = choose_positive(kept, lead, choices)
        decisions.append(
            ParamsDecision("class of interest", repr(fields["positive"]), reason, ("data", "target", "positive"))
        )
    elif choices.positive is not None:
        raise ParamsError(f"{lead} has {len(kept)} classes: --positive belongs to two")
    fields |= ({"rule": labels.rule} if labels.rule else {}) | ({"rare": rare.tree} if rare.tree else {})
    usual = "balanced_accuracy" if len(kept) > 2 else "average_precision" if is_skewed else "roc_auc"
    why = {
        "balanced_accuracy": "every class counts the same",
        "average_precision": "the class of interest is rare",
        "roc_auc": "ranks two classes at every threshold",
    }
    metric = choose_metric(usual, CLASSIFICATION_METRICS, choices)
    reason = "given" if choices.metric else why[usual]
    decisions.append(ParamsDecision("metric", metric, reason, ("training", "metric")))
    values = labels.values.mask(labels.values.isin(rare.joined), OTHER) if rare.joined else labels.values
    return TargetPlan(
        "classification", metric, fields, values, labels.n_missing, rare.dropped, min(kept.values()), decisions
    )


def check_counts(labels: Labels, lead: str, choices: Choices) -> Mapping[Any, int]:
    """Return the number of rows by class; refuse a single class and too many classes."""
    counts = labels.counts
    n_known = labels.n_rows - labels.n_missing
    if counts is not None and len(counts) == 1:
        label = next(iter(counts))
        rows = format_count(n_known, "row")
        raise DataError(f"{lead} has 1 class, {label!r}, in {rows}: there is nothing to classify")
    common = {} if counts is None else {label: n for label, n in counts.items() if n >= FEWEST_OF_CLASS}
    is_mostly_common = sum(common.values()) >= MOSTLY_COMMON * n_known
    if counts is None or len(common if is_mostly_common else counts) > MOST_CLASSES:
        found = "more than 5,000" if counts is None else f"{len(counts):,}"
        remedy = "predict a number with --task regression" if choices.task else "name another column with --target"
        raise DataError(
            f"{lead} has {found} classes in {n_known:,} rows, at most {MOST_CLASSES} are supported: is it an "
            f"identifier or free text? Group them in the file, or {remedy}"
        )
    return counts


def choose_positive(counts: Mapping[Any, int], lead: str, choices: Choices) -> tuple[Any, str]:
    """Return the class of interest and the reason."""
    if choices.positive is not None:
        found = next((label for label in counts if str(label) == choices.positive), None)
        if found is None:
            raise ParamsError(
                f"{lead}: --positive: no class {choices.positive!r}: it has {', '.join(map(repr, counts))}"
            )
        return make_label(found), "given"
    named = [label for label in counts if make_word(label) in OF_INTEREST]
    if len(named) == 1:
        return make_label(named[0]), "it means yes"
    rarer = min(counts, key=lambda label: (counts[label], str(label)))
    return make_label(rarer), "the rarer of the two"


def make_word(label: Any) -> str:
    """Return a class label as a lower-case string."""
    return str(make_label(label)).strip().lower()


def make_label(label: Any) -> Any:
    """Return a class label as written in the params: floats without a fraction become integers."""
    return int(label) if isinstance(label, float) and label.is_integer() else label


def choose_metric(usual: str, known: tuple[str, ...], choices: Choices) -> str:
    """Return the metric; refuse one of the other task."""
    if choices.metric is None:
        return usual
    if choices.metric not in known:
        raise ParamsError(f"--metric {choices.metric}: {name_nearest(choices.metric, known)}")
    return choices.metric
