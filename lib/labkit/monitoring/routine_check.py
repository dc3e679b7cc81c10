"""A routine check of a champion: judge its rows, write the page and the metrics, and raise alerts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit.monitoring.alerts import update_alerts
from labkit.monitoring.champion_check import Checked, check_health
from labkit.monitoring.check_metrics import write_check_metrics
from labkit.monitoring.health_page import write_health
from labkit.monitoring.outcomes import ID
from labkit.monitoring.webhook import find_webhook
from labkit.params.experiment import Params


@dataclass(frozen=True)
class RoutineCheck:
    """A check of the champion, the page with its result, and the alerts that are open after it."""

    checked: Checked
    page: Path
    alerts: list[dict[str, Any]]


def check_routinely(
    params: Params,
    source: Path | None,
    *,
    now: datetime,
    report: Callable[[str], None],
    most_windows: int | None = None,
    outcomes: Path | None = None,
    key: str = ID,
) -> RoutineCheck:
    """Check the champion; see `labkit.monitoring.champion_check.check_health`.

    Parameters
    ----------
    report
        Called with one line for each alert that is opened, changed or resolved.

    Raises
    ------
    ParamsError
        There is no champion or no log, or the address of the webhook is not one.
    MissingDataError, DataError
        See `check_health`.
    """
    find_webhook()
    checked = check_health(params, source, now=now, most_windows=most_windows, outcomes=outcomes, key=key)
    page = write_health(checked)
    alerts = update_alerts(params.experiment, now=now, report=report)
    write_check_metrics(checked.record, alerts, data_end=checked.profile.end)
    return RoutineCheck(checked, page, alerts)
