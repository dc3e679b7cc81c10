"""Alerts: what checks of a champion find, from the first check with a finding to the first without it.

Events of alerts are derived from the history of checks, and each has an identity of its own. A process that is killed
between a check and its alerts therefore loses none, the next one adds what is missing, and nothing is raised twice. A
check that could not be made (`skipped`) leaves an alert open unless the champion has changed since.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from labkit import paths
from labkit.checks import REGISTER
from labkit.monitoring.champion_check import find_history, load_earlier, read_records
from labkit.monitoring.delivery import parse_time
from labkit.monitoring.health_checks import LONG_UNCHECKED
from labkit.monitoring.retraining_records import FAILED, FINISHED, load_records_of_retrainings
from labkit.monitoring.webhook import find_webhook, post_alert
from labkit.storage.append import append_line
from labkit.storage.locks import hold_lock
from labkit.units import format_time_span

ALERTS = "alerts.jsonl"
NEWS = timedelta(days=1)
"""Events older than this are not sent or shown any more, such as after a long failure of the webhook."""
UNMONITORED, FAILING, UNFED = "LK720", "LK727", "LK728"
SENT, NOT_SENT = "sent", "not sent"
Kind = Literal["opened", "changed", "resolved"]


@dataclass(frozen=True)
class Event:
    """The opening, the change of severity, or the end of an alert.

    Attributes
    ----------
    at, opened
        Time of the check that it follows from, and of the one that opened the alert, in UTC.
    code
        Check of the register.
    severity
        What follows from the finding: `watch`, `retrain` or `stop`.
    rows
        Which rows the finding is about: see `labkit.monitoring.champion_check.classify_source`, or `none`.
    """

    at: str
    event: Kind
    experiment: str
    code: str
    severity: str
    evidence: str
    version: int | None
    rows: str
    opened: str

    @property
    def identity(self) -> str:
        """What tells an event from all others of the experiment."""
        return f"{self.at} {self.code} {self.rows} {self.event}"

    @property
    def text(self) -> str:
        """The event on one line."""
        version = f" v{self.version}" if self.version else ""
        ending = f", open since {self.opened}" if self.event != "opened" else ""
        what = f"{self.experiment}{version}: alert {self.event} ({self.severity}){ending}"
        return f"{what}: {REGISTER[self.code].title} [{self.code}]: {self.evidence}"

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain data."""
        return {"id": self.identity, **asdict(self), "title": REGISTER[self.code].title}


def find_events(history: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Return the events of all alerts that follow from checks, in order.

    Parameters
    ----------
    history
        Records of checks; see `labkit.monitoring.champion_check.load_earlier`.
    """
    events: list[Event] = []
    now_open: dict[tuple[str, str], Event] = {}
    for record in history:
        rows, version = record.get("rows_of", "rows"), record.get("version")
        checks = {check["code"]: check for check in record.get("checks", ())}
        found: Mapping[str, str] = record.get("actions", {})
        for key, last in [*now_open.items()]:
            status = checks.get(last.code, {}).get("status")
            if key[1] != rows or last.code in found or (status == "skipped" and last.version == version):
                continue
            evidence = checks.get(last.code, {}).get("evidence") or "no longer checked"
            events.append(replace(last, at=record["at"], event="resolved", evidence=evidence, version=version))
            del now_open[key]
        for code, severity in found.items():
            before = now_open.get((code, rows))
            kind: Kind = "opened" if before is None else "changed"
            evidence = checks.get(code, {}).get("evidence", "")
            opened = record["at"] if before is None else before.opened
            event = Event(
                record["at"], kind, record["experiment"], code, severity, evidence, version, rows, opened
            )  # fmt: skip
            if before is None or before.severity != severity:
                events.append(event)
            now_open[code, rows] = event
    return events


def update_alerts(experiment: str, *, now: datetime, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Record the events that follow from the history of checks, send them, and return the alerts that are open.

    A failure of the webhook is recorded; the events of the last day are sent again at the next check.

    Parameters
    ----------
    report
        Called with one line for each new event, and for a failure of the webhook.
    """
    with hold_lock(find_alerts_lock(experiment)):
        history = load_earlier(experiment)
        lines = load_lines(experiment)
        events = [event.to_dict() | {"text": event.text} for event in find_events(history)]
        ends = {UNMONITORED: find_check(history), FAILING: find_training(experiment)}
        events += [end_alert(one, *end) for one in list_open_alerts(lines) if (end := ends.get(one["code"]))]
        return add_events(experiment, events, lines, now=now, report=report)


def find_check(history: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the time of the latest check, and what ends the alert about a champion that nobody monitored."""
    return (history[-1]["at"], f"checked at {history[-1]['at']}") if history else None


def find_training(experiment: str) -> tuple[str, str] | None:
    """Return when the latest training ended and what ends the alert about those that failed; None if it failed."""
    ended = [one for one in load_records_of_retrainings(experiment) if one["state"] in (FINISHED, FAILED)]
    if not ended or ended[-1]["state"] == FAILED:
        return None
    return ended[-1]["at"], f"trained at {ended[-1]['at']}"


def end_alert(alert: Mapping[str, Any], at: str, evidence: str) -> dict[str, Any]:
    """Return the event that ends an alert."""
    names = Event.__dataclass_fields__
    opened = Event(**{name: value for name, value in alert.items() if name in names})
    event = replace(opened, at=at, event="resolved", evidence=evidence)
    return event.to_dict() | {"text": event.text}


def open_alert(
    experiment: str, code: str, evidence: str, *, version: int | None, now: datetime, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Open an alert that does not follow from a check, unless it is open, and return the alerts that are open."""
    with hold_lock(find_alerts_lock(experiment)):
        lines = load_lines(experiment)
        events = []
        if not any(one["code"] == code for one in list_open_alerts(lines)):
            at = now.isoformat(timespec="seconds")
            event = Event(at, "opened", experiment, code, "watch", evidence, version, "none", at)
            events.append(event.to_dict() | {"text": event.text})
        return add_events(experiment, events, lines, now=now, report=report)


def end_alerts(
    experiment: str, code: str, evidence: str, *, now: datetime, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """End an alert that does not follow from a check, if it is open, and return the alerts that are open."""
    with hold_lock(find_alerts_lock(experiment)):
        lines, at = load_lines(experiment), now.isoformat(timespec="seconds")
        events = [end_alert(one, at, evidence) for one in list_open_alerts(lines) if one["code"] == code]
        return add_events(experiment, events, lines, now=now, report=report)


def raise_unmonitored(
    experiment: str, *, version: int, since: str | None, now: datetime, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Open an alert if nobody has checked the champion for 30 days, and return the alerts that are open.

    Parameters
    ----------
    version
        Number of the champion.
    since
        When it became the champion, in UTC; None if unknown.
    """
    latest = [one["at"] for one in load_earlier(experiment)[-1:]] + ([since] if since else [])
    unchecked = now - max(map(parse_time, latest)) if latest else None
    if unchecked is not None and unchecked <= LONG_UNCHECKED:
        return list_open_alerts(load_lines(experiment))
    evidence = f"no check for {format_time_span(unchecked.total_seconds())}" if unchecked else "no check ever"
    return open_alert(experiment, UNMONITORED, evidence, version=version, now=now, report=report)


def add_events(
    experiment: str,
    events: Sequence[dict[str, Any]],
    lines: list[dict[str, Any]],
    *,
    now: datetime,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Record events that are not recorded yet, send what is due, and return the alerts that are open."""
    known = {line["id"] for line in lines if is_event(line)}
    for event in events:
        if event["id"] not in known:
            lines.append(event)
            append_line(find_alerts(experiment), json.dumps(event, ensure_ascii=False))
            if is_news(event, now):
                report(event["text"])
    send_due(experiment, lines, now=now, report=report)
    return list_open_alerts(lines)


def send_due(
    experiment: str, lines: Sequence[Mapping[str, Any]], *, now: datetime, report: Callable[[str], None]
) -> None:
    """Send the events of the last day that were not sent yet, in order, and record what came of it."""
    address = find_webhook()
    if address is None:
        return
    sent = {line["id"] for line in lines if line["event"] == SENT}
    for line in lines:
        if not is_event(line) or line["id"] in sent or not is_news(line, now):
            continue
        problem = post_alert(address, line)
        outcome = {"id": line["id"], "at": now.isoformat(timespec="seconds"), "event": NOT_SENT if problem else SENT}
        append_line(find_alerts(experiment), json.dumps(outcome | ({"error": problem} if problem else {})))
        if problem:
            report(f"{experiment}: alert not sent to the webhook, the next check tries again: {problem}")
            return


def is_event(line: Mapping[str, Any]) -> bool:
    """Return whether a line is an event of an alert, not a record of sending it."""
    return line["event"] not in (SENT, NOT_SENT)


def is_news(event: Mapping[str, Any], now: datetime) -> bool:
    """Return whether an event is recent enough to be shown and sent."""
    return now - parse_time(event["at"]) <= NEWS


def list_open_alerts(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the latest event of each alert that is open, in the order in which they were opened."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        if is_event(line):
            latest[line["code"], line["rows"]] = dict(line)
    return sorted((one for one in latest.values() if one["event"] != "resolved"), key=lambda one: one["opened"])


def load_lines(experiment: str) -> list[dict[str, Any]]:
    """Return the lines of the file of alerts; those that a crash left torn are skipped."""
    return read_records(find_alerts(experiment), {"id", "at", "event"})


def find_alerts(experiment: str) -> Path:
    """Return the file with the events of all alerts of an experiment, one JSON object per line."""
    return find_history(experiment).with_name(ALERTS)


def find_alerts_lock(experiment: str) -> Path:
    """Return the lock of a process that reads and adds to the alerts of an experiment."""
    return paths.find_root() / ".labkit" / f"alerts-{experiment}.lock"
