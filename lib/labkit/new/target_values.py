"""How the values of a new experiment's target are read: words as numbers, markers as missing, rare classes.

The result is `data.target.rule` and `data.target.rare` of the params. The task and the metric are decided in
`labkit.new.target`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from labkit.data.quality import text_issues
from labkit.data.quality.evidence import floor_percent
from labkit.data.quality.placeholders import describe_placeholder, find_target_placeholders
from labkit.errors import DataError, list_briefly
from labkit.features import parse_text
from labkit.features.row_computation import OTHER
from labkit.features.row_rules import RowRule, apply_rule
from labkit.features.table_columns import to_array
from labkit.new import column_kinds
from labkit.new.inspect import Survey
from labkit.new.options import Choices, ParamsDecision
from labkit.params.tables import FEWEST_OF_CLASS
from labkit.params.wrangling import Rule
from labkit.units import format_count

RULE, RARE = ("data", "target", "rule"), ("data", "target", "rare")
FEW_RARE = 0.05
"""Largest share of rows in rare classes at which they are dropped; above it they are merged into one class."""


@dataclass(frozen=True)
class Labels:
    """The target as its rule reads it.

    Attributes
    ----------
    values
        Target of the sampled rows, shape (n_sample,).
    counts
        Rows by value, of all rows; None if there are too many distinct values.
    n_rows, n_missing
        Number of all rows, and of those without a target.
    rule
        Section `data.target.rule`.
    decisions
        Decisions about it, each with its reason.
    """

    values: pd.Series
    counts: Mapping[Any, int] | None
    n_rows: int
    n_missing: int
    rule: dict[str, Any] = field(default_factory=dict)
    decisions: tuple[ParamsDecision, ...] = ()

    @property
    def is_read_as_number(self) -> bool:
        """Whether words are read as numbers."""
        return self.rule.get("type") == "number"

    def read(self, rule: dict[str, Any]) -> "Labels":
        """Return the target as another rule reads it."""
        checked = Rule.model_validate({**rule, "missing": tuple(rule.get("missing", ()))})
        values = read_values(self.values, checked)
        if self.counts is None:
            n_lost = round((values.isna().sum() - self.values.isna().sum()) * self.n_rows / len(values))
            return replace(self, values=values, n_missing=self.n_missing + n_lost, rule=rule)
        counts: Counter[Any] = Counter()
        read = read_values(pd.Series(list(self.counts), dtype=self.values.dtype), checked)
        for value, times in zip(read.tolist(), self.counts.values(), strict=True):
            counts[None if pd.isna(value) else value] += times
        n_missing = self.n_missing + counts.pop(None, 0)
        return replace(self, values=values, counts=dict(counts), n_missing=n_missing, rule=rule)


def read_values(values: pd.Series, rule: Rule) -> pd.Series:
    """Apply a rule to values."""
    read = pd.Series(apply_rule(to_array(values), RowRule(**rule.model_dump())), index=values.index)
    return read.astype("str") if read.dtype == object else read


def read_labels(survey: Survey, target: str, choices: Choices, *, as_words: bool = False) -> Labels:
    """Return the target with given markers as missing values, and strings of amounts as numbers.

    Parameters
    ----------
    survey
        Findings about the table.
    target
        Column to predict.
    choices
        Options given by the user; they take precedence.
    as_words
        Whether strings stay strings, even if they look like numbers.
    """
    labels = Labels(survey.sample[target], survey.counts, survey.raw.n_rows, survey.n_target_missing)
    if not pd.api.types.is_string_dtype(labels.values):
        return labels
    words = list(map(str, labels.counts if labels.counts is not None else labels.values.dropna().unique()))
    given = [word for word in choices.missing.get(target, ()) if word in words]
    if given:
        labels = labels.read({"missing": given})
        words = [word for word in words if word not in given]
    is_amount = len(words) > text_issues.MANY_AMOUNTS or choices.task == "regression"
    if as_words or choices.task == "classification" or not is_amount:
        return labels
    fewest = column_kinds.MOSTLY_NUMBERS if choices.task == "regression" else parse_text.NEARLY_ALL
    number = text_issues.guess_number(words[: text_issues.MOST_DISTINCT], fewest=fewest)
    if not number:
        return replace(labels, decisions=remark_numbers(labels, target))
    lost = [word for word in words if read_values(pd.Series([word], dtype="str"), Rule(**number)).isna().all()]
    rule = number | ({"missing": [*given, *lost]} if given or lost else {})
    decisions = [
        ParamsDecision(
            f"target {target!r}",
            "read as numbers",
            f"amounts such as {next(word for word in words if word not in lost)!r}",
            RULE,
        )
    ]
    if lost:
        counts = labels.counts or dict(labels.values.value_counts())
        shown = list_briefly(f"{counts[word]:,} × {word!r}" for word in lost)
        reason = "they are not numbers, so their rows are left out; --task classification keeps all words"
        decisions.append(ParamsDecision(f"target {target!r}", f"{shown} become missing", reason, RULE, is_warning=True))
    return replace(labels.read(rule), decisions=tuple(decisions))


def remark_numbers(labels: Labels, target: str) -> tuple[ParamsDecision, ...]:
    """Return the warning that most values of a string target are numbers, with the option that reads them."""
    counts = labels.values.value_counts() if labels.counts is None else pd.Series(dict(labels.counts))
    lost = column_kinds.find_words_among_numbers(counts)
    if not lost:
        return ()
    share = floor_percent(1 - sum(lost.values()) / sum(map(int, counts)))
    shown = list_briefly(f"{times:,} × {word!r}" for word, times in lost.items())
    reason = f"{share} of its values are numbers; --task regression predicts them and leaves out the rows of {shown}"
    return (ParamsDecision(f"target {target!r}", "classes", reason, is_warning=True),)


def leave_out_placeholders(survey: Survey, target: str, labels: Labels) -> Labels:
    """Return a numeric target in which placeholders for a missing value, such as -999, are missing.

    Parameters
    ----------
    survey
        Findings about the table.
    target
        Column to predict.
    labels
        The target as read so far.
    """
    found = find_target_placeholders(survey.sample.assign(**{target: labels.values}), target)
    if not found:
        return labels
    numbers = [placeholder.number for placeholder in found]
    rule = {**labels.rule, "missing": [*labels.rule.get("missing", []), *numbers]}
    shown = " and ".join(map(str, numbers))
    value = f"{shown} {'is' if len(found) == 1 else 'are'} missing"
    decision = ParamsDecision(
        f"target {target!r}", value, "; ".join(map(describe_placeholder, found)), RULE, is_warning=True
    )
    decisions = (*labels.decisions, decision)
    read = replace(labels, rule={}).read({"missing": numbers})
    return replace(read, rule=rule, decisions=decisions)


@dataclass(frozen=True)
class RareLabels:
    """Treatment of rare classes.

    Attributes
    ----------
    tree
        Section `data.target.rare`.
    dropped
        Classes whose rows are left out.
    joined
        Classes that are merged into one.
    decisions
        The decision and its reason, if there are rare classes.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    dropped: list[Any] = field(default_factory=list)
    joined: list[Any] = field(default_factory=list)
    decisions: tuple[ParamsDecision, ...] = ()


def settle_rare(counts: Mapping[Any, int], lead: str) -> tuple[RareLabels, dict[Any, int]]:
    """Decide about classes with too few rows.

    Parameters
    ----------
    counts
        Rows by class.
    lead
        Beginning of error messages: the source and the target.

    Returns
    -------
    tuple
        Treatment of the rare classes, and the rows by remaining class.

    Raises
    ------
    DataError
        Fewer than two classes remain.
    """
    rare = [label for label, n_rows in counts.items() if n_rows < FEWEST_OF_CLASS]
    kept = {label: n_rows for label, n_rows in counts.items() if label not in rare}
    n_rare = sum(counts[label] for label in rare)
    is_word = all(isinstance(label, str) for label in counts)
    is_joined = is_word and len(rare) > 1 and n_rare >= max(FEWEST_OF_CLASS, FEW_RARE * sum(counts.values()))
    if is_joined:
        kept[OTHER] = kept.get(OTHER, 0) + n_rare
    if len(kept) < 2:
        named = list_briefly(f"{label!r} with {counts[label]}" for label in rare)
        raise DataError(
            f"{lead}: classes with fewer than {FEWEST_OF_CLASS} rows cannot be learned and evaluated: {named}: add "
            "rows of them"
        )
    if not rare:
        return RareLabels(), kept
    chosen = {"fewest_rows": FEWEST_OF_CLASS, "action": "other" if is_joined else "drop"}
    value = f"{format_count(len(rare), 'class', 'classes')} {'become `other`' if is_joined else 'left out'}"
    named = list_briefly((f"{label!r} with {counts[label]}" for label in rare), most=5)
    reason = f"fewer than {FEWEST_OF_CLASS} rows each, {format_count(n_rare, 'row')} in all: {named}"
    decision = ParamsDecision("rare classes", value, reason, RARE, is_warning=True)
    return RareLabels(chosen, [] if is_joined else rare, rare if is_joined else [], (decision,)), kept
