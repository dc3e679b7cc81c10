"""The section `monitoring`: what follows from the findings of `labkit monitor`, and where new rows arrive.

By default only growth asks for a training. On a year of flights, training again once a quarter as many rows had been
added was as good as every month, at half the trainings; rules on drift, or on a metric that fell, were worse.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from labkit.params.section import Section

ReferenceChoice = Literal["training", "last_4_weeks", "same_month"]
"""Which windows of the training rows others are compared with."""
Action = Literal["watch", "retrain", "stop"]
MonitoringCode = Annotated[str, Field(pattern=r"^LK7(0[1-9]|1[0-3]|2[1-6])$")]
"""Code of a check of the rows in service."""
WATCHED_ONLY = {
    "LK704": "changed distributions",
    "LK705": "unseen values",
    "LK706": "missing values",
    "LK707": "changed relations",
    "LK708": "the number of rows",
    "LK709": "changed predictions",
    "LK713": "rows that can be told from the reference",
    "LK726": "expected metrics",
}
"""Checks of changes, which do not show that the model got worse: never more than *watch*."""
GROWTH, USUAL_GROWTH = "LK712", 0.25


class Rule(Section):
    """What follows from one finding."""

    action: Action = Field(description="what follows: the verdict of `labkit monitor`")
    at_least: float | None = Field(
        None,
        gt=0,
        le=100,
        description="for LK712: rows since the training, as a share of those of the training, from which it is found",
    )
    in_a_row: int = Field(
        1, ge=1, le=100, description="how many checks in a row must have the finding; until then it is only watched"
    )


DEFAULT_RULES = {
    "LK701": Rule(action="stop"),
    "LK702": Rule(action="stop"),
    "LK703": Rule(action="stop"),
    GROWTH: Rule(action="retrain", at_least=USUAL_GROWTH),
}
"""What follows from findings that `monitoring.rules` does not name; others are watched."""


def check_rules(rules: dict[str, Rule]) -> dict[str, Rule]:
    """Refuse rules by which a change of the rows alone would do more than be watched, and thresholds that do not exist.

    Raises
    ------
    ValueError
        A rule is not possible.
    """
    for code, rule in rules.items():
        if code in WATCHED_ONLY and rule.action != "watch":
            raise ValueError(
                f"{code}: {WATCHED_ONLY[code]} alone do not show that the model got worse: only `action: watch` is "
                f"possible; `{GROWTH}`, growth of the table, can ask to retrain"
            )
        if rule.at_least is not None and code != GROWTH:
            raise ValueError(f"{code}: `at_least` is for {GROWTH}: other findings have thresholds of their own")
    return rules


def check_holidays(holidays: dict[str, str]) -> dict[str, str]:
    """Refuse days that do not exist.

    Raises
    ------
    ValueError
        A day is not of the form YYYY-MM-DD or MM-DD, or there is no such day.
    """
    for day in holidays:
        try:
            date.fromisoformat(day if len(day) > len("MM-DD") else f"2000-{day}")
        except ValueError as error:
            raise ValueError(f"{day}: not a day: write YYYY-MM-DD, or MM-DD for every year, in quotes") from error
    return holidays


class Monitoring(Section):
    """What follows from the findings about rows in service."""

    rules: Annotated[dict[MonitoringCode, Rule], AfterValidator(check_rules)] = Field(
        {},
        description="code of a check (LK701 to LK713, LK721 to LK726): what follows from its finding; by default "
        "LK701 to LK703 stop, LK712 retrains from a quarter of growth on, and others are watched",
    )

    reference: ReferenceChoice = Field(
        "training",
        description="windows of the training rows that the rows in service are compared with: `training`, all; "
        "`last_4_weeks`, the last ones; `same_month`, those of the same months of the year",
    )

    holidays: Annotated[dict[str, Annotated[str, Field(min_length=1)]], AfterValidator(check_holidays)] = Field(
        {},
        description="days that are expected to differ, which are not judged for drift: YYYY-MM-DD, or MM-DD for every "
        "year, and what they are",
    )

    incoming: str | None = Field(
        None,
        min_length=1,
        description="file, relative to the checkout, in which the whole main table up to now arrives: `labkit watch` "
        "checks it, and trains on it",
    )

    observe: bool = Field(
        False,
        description="whether `labkit watch` feeds the outcomes of the rows in `incoming` back to the histories of the "
        "champion (`features.history`), as `labkit observe` does",
    )

    def find_rule(self, code: str) -> Rule:
        """Return what follows from a check that needs attention."""
        return self.rules.get(code) or DEFAULT_RULES.get(code) or Rule(action="watch")

    @property
    def growth(self) -> float:
        """Rows since the training, as a share of those of the training, from which `GROWTH` needs attention."""
        return self.find_rule(GROWTH).at_least or USUAL_GROWTH
