"""Delivery metrics: how often models go into service, how long a change takes to get there, how often it fails.

The five software delivery metrics of DORA (dora.dev/guides/dora-metrics, as of 2026), for models:

- A *deployment* is a move of the champion to another version, by the gate, by hand or without labkit, but no rollback.
- *Change lead time* is measured per commit that a deployment brought into service, from the author time of the commit.
  A deployment without a new commit has none, and neither has one made without labkit, whose time is unknown. A commit
  that was rolled back counts again when it is back. The lead time of data is a metric of its own.
- A deployment has *failed* if it was rolled back within `FAIL_WINDOW`, as the next move. It is judged when it has
  failed, was replaced by another deployment, or is older than the window; until then it counts in neither direction.
- *Failed deployment recovery time* is the time from a failed deployment to its rollback: nothing records when a fault
  began to show.
- *Rework* is a deployment that is the next move after a rollback.

Read next: `labkit.monitoring.delivery_events`, which collects what is measured here.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from labkit.run.records.champion_moves import Move
from labkit.units import format_count, format_share, format_time_span

FAIL_WINDOW = timedelta(days=7)
"""A rollback later than this is not blamed on the deployment."""
WEEK = timedelta(days=7)
TAIL = 0.9
"""Quantile that is shown beside the median."""


@dataclass(frozen=True)
class Deployment:
    """A version that went into service.

    Attributes
    ----------
    commits
        Author times of the commits that it brought into service; None if they cannot be known.
    data_at
        When its raw data were first read; None if that is not recorded here.
    """

    move: Move
    at: datetime
    commits: tuple[datetime, ...] | None = None
    data_at: datetime | None = None


@dataclass(frozen=True)
class Registered:
    """A registered version; `has_served` says whether the registry remembers it as a champion."""

    number: int
    at: datetime
    has_served: bool


@dataclass(frozen=True)
class Judged:
    """A deployment, and what came of it.

    Attributes
    ----------
    has_failed
        None if it is too early to know.
    recovered_at
        When it was rolled back, if it has failed.
    is_rework
        Whether it is the first deployment after a rollback.
    """

    deployment: Deployment
    has_failed: bool | None
    recovered_at: datetime | None
    is_rework: bool


@dataclass(frozen=True)
class Delivery:
    """The delivery metrics of one experiment in a period; durations in seconds, None where nothing was measured.

    Attributes
    ----------
    since, until
        The period, in UTC.
    commit_seconds, data_seconds, recovery_seconds
        Each measured duration, ascending: lead times of commits and of data, recoveries.
    n_judged
        Deployments of which it is known whether they failed.
    n_registered, n_unserved
        Versions registered in the period, and those of them that have never been the champion.
    champion
        Number of the version in service; None if there is none.
    champion_seconds
        How long it has been in service; None if that is not recorded.
    """

    experiment: str
    since: datetime
    until: datetime
    deployments: tuple[Judged, ...]
    commit_seconds: tuple[float, ...]
    data_seconds: tuple[float, ...]
    recovery_seconds: tuple[float, ...]
    n_failed: int
    n_judged: int
    n_rework: int
    n_registered: int
    n_unserved: int
    champion: int | None
    champion_seconds: float | None

    @property
    def per_week(self) -> float | None:
        """Deployments per week; None for a period shorter than a week, of which it would say too much."""
        weeks = (self.until - self.since) / WEEK
        return len(self.deployments) / weeks if weeks >= 1 else None

    def list_lines(self) -> list[tuple[str, str, str]]:
        """Return each metric with its value in words and what it was measured on."""
        n = len(self.deployments)
        often = "period shorter than a week" if self.per_week is None else f"{self.per_week:.2g} per week"
        made = format_count(n, "deployment")
        return [
            ("deployment frequency", often, f"{made} since {self.since:%Y-%m-%d}"),
            ("change lead time", describe_spans(self.commit_seconds), format_count(len(self.commit_seconds), "commit")),
            ("data lead time", describe_spans(self.data_seconds), format_count(len(self.data_seconds), "deployment")),
            (
                "change fail rate",
                describe_share(self.n_failed, self.n_judged),
                f"{self.n_failed} of {self.n_judged} rolled back within {FAIL_WINDOW.days} days"
                + (f"; too early for {n - self.n_judged}" if n > self.n_judged else ""),
            ),
            (
                "failed deployment recovery time",
                describe_spans(self.recovery_seconds),
                format_count(len(self.recovery_seconds), "rollback"),
            ),
            ("deployment rework rate", describe_share(self.n_rework, n), f"{self.n_rework} of {n} follow a rollback"),
            (
                "versions never promoted",
                describe_share(self.n_unserved, self.n_registered),
                f"{self.n_unserved} of {format_count(self.n_registered, 'version')}",
            ),
            (
                "champion in service for",
                "not measured" if self.champion_seconds is None else format_time_span(self.champion_seconds),
                "no champion" if self.champion is None else f"version {self.champion}",
            ),
        ]

    def list_months(self) -> list[tuple[str, int, float | None, int]]:
        """Return each month of the period: deployments, median lead time of their commits in seconds, failures.

        Months without a deployment are listed.
        """
        months, month = [], self.since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        while month <= self.until:
            months.append(f"{month:%Y-%m}")
            month = (month + timedelta(days=32)).replace(day=1)
        found = []
        for name in months:
            made = [one for one in self.deployments if f"{one.deployment.at:%Y-%m}" == name]
            spans = [span for one in made for span in measure_commits(one.deployment)]
            median = statistics.median(spans) if spans else None
            found.append((name, len(made), median, sum(one.has_failed is True for one in made)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics and each deployment as plain data; durations in seconds."""
        return {
            "experiment": self.experiment,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "deployments": len(self.deployments),
            "deployments_per_week": self.per_week,
            "change_lead_time": make_document(self.commit_seconds),
            "data_lead_time": make_document(self.data_seconds),
            "change_fail_rate": self.n_failed / self.n_judged if self.n_judged else None,
            "failed_deployments": self.n_failed,
            "judged_deployments": self.n_judged,
            "fail_window_days": FAIL_WINDOW.days,
            "failed_deployment_recovery_time": make_document(self.recovery_seconds),
            "deployment_rework_rate": self.n_rework / len(self.deployments) if self.deployments else None,
            "registered_versions": self.n_registered,
            "never_promoted_versions": self.n_unserved,
            "champion": self.champion,
            "champion_age_seconds": self.champion_seconds,
            "events": [
                {
                    **one.deployment.move.to_dict(),
                    "lead_time_seconds": list(measure_commits(one.deployment)),
                    "has_failed": one.has_failed,
                    "recovered_at": one.recovered_at and one.recovered_at.isoformat(),
                    "is_rework": one.is_rework,
                }
                for one in self.deployments
            ],
        }


def compute_delivery(
    experiment: str,
    moves: Sequence[Move],
    deployments: Sequence[Deployment],
    registered: Sequence[Registered],
    *,
    champion: int | None,
    since: datetime,
    until: datetime,
) -> Delivery:
    """Compute the delivery metrics of a period.

    Parameters
    ----------
    moves
        All moves of the champion, the earliest first.
    deployments
        Those of them that put a version into service, with what is known of their changes.
    registered
        Time and number of every registered version.
    registered
        All registered versions.
    champion
        Number of the version in service, if there is one.
    since, until
        The period: events at or after `since` and before `until` count.
    """
    judged = [judge_deployment(one, moves, until=until) for one in deployments if since <= one.at < until]
    failed = [one for one in judged if one.has_failed]
    served = {number for move in moves for number in (move.before, move.after)}
    new = [one for one in registered if since <= one.at < until]
    latest = moves[-1] if moves and moves[-1].after == champion and moves[-1].kind != "found" else None
    return Delivery(
        experiment=experiment,
        since=since,
        until=until,
        deployments=tuple(judged),
        commit_seconds=tuple(sorted(span for one in judged for span in measure_commits(one.deployment))),
        data_seconds=tuple(
            sorted(measure_seconds(one.data_at, one.at) for one in (each.deployment for each in judged) if one.data_at)
        ),
        recovery_seconds=tuple(
            sorted(measure_seconds(one.deployment.at, one.recovered_at) for one in failed if one.recovered_at)
        ),
        n_failed=len(failed),
        n_judged=sum(one.has_failed is not None for one in judged),
        n_rework=sum(one.is_rework for one in judged),
        n_registered=len(new),
        n_unserved=sum(not one.has_served and one.number not in served for one in new),
        champion=champion,
        champion_seconds=measure_seconds(parse_time(latest.at), until) if latest else None,
    )


def is_deployment(move: Move) -> bool:
    """Return whether a move of the champion put another version into service as a change, not as a recovery."""
    return move.kind != "rolled back" and move.after != move.before


def judge_deployment(deployment: Deployment, moves: Sequence[Move], *, until: datetime) -> Judged:
    """Return a deployment with what came of it by the end of the period."""
    place = moves.index(deployment.move)
    later = [move for move in moves[place + 1 :] if parse_time(move.at) < until]
    following = later[0] if later else None
    is_rework = place > 0 and moves[place - 1].kind == "rolled back"
    if following is None:
        return Judged(deployment, False if until - deployment.at >= FAIL_WINDOW else None, None, is_rework)
    ended = parse_time(following.at)
    has_failed = following.kind == "rolled back" and ended - deployment.at <= FAIL_WINDOW
    return Judged(deployment, has_failed, ended if has_failed else None, is_rework)


def measure_commits(deployment: Deployment) -> list[float]:
    """Return the lead time of each commit of a deployment, in seconds."""
    return [measure_seconds(commit, deployment.at) for commit in deployment.commits or ()]


def measure_seconds(begin: datetime, end: datetime) -> float:
    """Return the seconds from one time to another, not less than 0: clocks of two machines differ."""
    return max((end - begin).total_seconds(), 0.0)


def parse_time(timestamp: str) -> datetime:
    """Return an ISO 8601 time in UTC."""
    moment = datetime.fromisoformat(timestamp)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def describe_share(n: int, of: int) -> str:
    """Return a share in words."""
    return format_share(n / of) if of else "not measured"


def describe_spans(spans: Sequence[float]) -> str:
    """Return the median of durations and, from ten on, the 90 % quantile."""
    if not spans:
        return "not measured"
    median = format_time_span(statistics.median(spans))
    if len(spans) < 10:
        return median
    return f"{median}; 90 % within {format_time_span(find_quantile(spans, TAIL))}"


def find_quantile(spans: Sequence[float], level: float) -> float:
    """Return the smallest of sorted durations that at least this share of them do not exceed."""
    return spans[math.ceil(len(spans) * level) - 1]


def make_document(spans: Sequence[float]) -> dict[str, float | int | None]:
    """Return durations as plain data."""
    return {
        "n": len(spans),
        "median_seconds": statistics.median(spans) if spans else None,
        "quantile_90_seconds": find_quantile(spans, TAIL) if spans else None,
    }
