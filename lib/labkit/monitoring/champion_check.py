"""Check of the champion: fetch its release, judge the rows, keep the result in the history, and write the page."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.model.release.bundle import load_release
from labkit.monitoring.current_rows import open_current
from labkit.monitoring.delivery import parse_time
from labkit.monitoring.health import Health, add_checks, describe_health, judge
from labkit.monitoring.holdout_comparison import compare_groups_with_holdout
from labkit.monitoring.outcomes import ID, list_label_keys, load_outcomes_file
from labkit.monitoring.performance import Performance, measure_performance
from labkit.monitoring.performance_checks import find_track_record, list_performance_checks
from labkit.monitoring.profile_files import load_profile
from labkit.monitoring.reference_losses import load_losses
from labkit.monitoring.reference_performance import load_performance
from labkit.monitoring.reference_profile import Profile
from labkit.monitoring.scored_rows import score_current
from labkit.monitoring.window_counts import Windows
from labkit.params.experiment import Params
from labkit.params.subject import Subject
from labkit.run.records.champion_moves import load_champion
from labkit.serving.known_outcomes import count_known_outcomes
from labkit.serving.settings import LOG
from labkit.stages.publish import fetch_release
from labkit.storage.append import append_line

HISTORY = "history.jsonl"


@dataclass(frozen=True)
class Checked:
    """A check of the champion.

    Attributes
    ----------
    record
        What is kept of it in the history, as plain data.
    performance
        How good it is where true values are known.
    history
        The records of earlier checks, the earliest first.
    holdout_comparison
        Errors of groups of rows against those on the holdout, not kept in the history; see
        `labkit.monitoring.holdout_comparison.compare_groups_with_holdout`.
    """

    health: Health
    performance: Performance
    profile: Profile
    record: dict[str, Any]
    history: list[dict[str, Any]]
    holdout_comparison: dict[str, Any]


def check_health(
    params: Params,
    source: Path | None,
    *,
    now: datetime,
    most_windows: int | None = None,
    outcomes: Path | None = None,
    key: str = ID,
) -> Checked:
    """Judge rows by the champion's reference profile, and add the result to the history of the experiment.

    Parameters
    ----------
    source
        A file or a log, see `labkit.monitoring.current_rows.open_current`.
    now
        Time of the check, in UTC.
    most_windows
        See `labkit.monitoring.health.judge`.
    outcomes, key
        A file with true values, and the column of ids in it and in the rows; see `labkit.monitoring.outcomes`.

    Raises
    ------
    ParamsError
        There is no champion, or no log, or a column of ids is missing.
    MissingDataError
        The champion has no reference profile, or a file does not exist.
    DataError
        A file cannot be opened.
    """
    if source is not None and not source.exists():
        from labkit.serving.batch_files import check_source

        check_source(source)
    given = None if outcomes is None else load_outcomes_file(outcomes, params.data.target, key=key)
    champion = load_champion(params.experiment)
    history = load_earlier(params.experiment)
    earlier = history[-1] if history else {}
    rows = classify_source(params, source)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        release = load_release(fetch_release(champion, Path(scratch)))
        count_known_outcomes(release, params.experiment)
        profile = load_profile(release.folder)
        keys = [key] if outcomes else list_label_keys(params.experiment, source) if source else []
        required = key if outcomes else ""
        current = open_current(params, release, source, keys=keys, required=required)
        before = [one["performance"] for one in history if one["digest"] == champion.digest and one.get("performance")]
        rules: dict[str, Any] = {
            "policy": params.monitoring,
            "earlier": list_earlier_findings(history, digest=champion.digest, rows=rows),
        }
        pending = find_pending(history, profile.inputs.windows, digest=champion.digest, source=current.name)
        with release.code.active():
            scored = score_current(params, current, given, now, seen_until=profile.seen_until)
            reference, losses = load_performance(release.folder), load_losses(release.folder)
            performance = measure_performance(params, release, reference, scored, losses=losses)
            track_record = find_track_record([*before, performance.to_dict()])
            health = judge(
                current,
                profile,
                now=now,
                most_windows=most_windows,
                pending=pending,
                last_check=parse_time(earlier["at"]) if earlier else None,
                **rules,
            )
        health = add_checks(health, list_performance_checks(performance, track_record), **rules)
    record = {
        "experiment": params.experiment,
        "at": now.isoformat(timespec="seconds"),
        "version": champion.number,
        "digest": champion.digest,
        "source": current.name,
        "rows_of": rows,
        **describe_health(health),
        "performance": performance.to_dict() | {"track_record": asdict(track_record) if track_record else None},
        "pending": list_all_pending(health, profile),
    }
    append_line(find_history(params.experiment), json.dumps(record, ensure_ascii=False))
    sure, subject = params.evaluation.confidence, Subject.from_params(params)
    compared = compare_groups_with_holdout(performance, confidence=sure, subject=subject)
    return Checked(health, performance, profile, record, history, compared)


def classify_source(params: Params, source: Path | None) -> str:
    """Return whether rows are from the `log` of the service, the `incoming` file of the params, or other `rows`."""
    log, incoming = paths.find_serving_dir(params.experiment) / LOG, find_incoming(params)
    if source is None or source.resolve() == log.resolve():
        return "log"
    return "incoming" if incoming is not None and source.resolve() == incoming.resolve() else "rows"


def find_incoming(params: Params) -> Path | None:
    """Return the file in which the main table up to now arrives; None if the params name none."""
    return None if params.monitoring.incoming is None else paths.find_root() / params.monitoring.incoming


def list_earlier_findings(history: Sequence[Mapping[str, Any]], *, digest: str, rows: str) -> list[Mapping[str, Any]]:
    """Return what earlier checks of a release on such rows found, by code, the latest last; see `classify_source`."""
    return [one.get("actions", {}) for one in history if (one["digest"], one.get("rows_of")) == (digest, rows)]


def list_all_pending(health: Health, profile: Profile) -> dict[str, dict[str, list[int]]]:
    """Return the windows that alarm if the next one does the same, of inputs and predictions."""
    pending = {} if health.drift is None else {"inputs": health.drift.list_pending()}
    return pending if health.predictions is None else {**pending, "predictions": health.predictions.list_pending()}


def find_pending(
    history: Sequence[Mapping[str, Any]], windows: Windows, *, digest: str, source: str
) -> Mapping[str, Any] | None:
    """Return the pending windows of the latest check of the same source by the same release; None without one.

    Windows by rows have none: their numbers begin again in each file.
    """
    same = [one for one in history if (one["digest"], one.get("source")) == (digest, source)]
    return same[-1].get("pending") if same and windows.days is not None else None


def find_history(experiment: str) -> Path:
    """Return the file with the records of all checks of an experiment, one JSON object per line."""
    return paths.find_data_dir(experiment) / "monitoring" / HISTORY


def load_earlier(experiment: str) -> list[dict[str, Any]]:
    """Return the records of all checks, the earliest first; lines that a crash left torn are skipped."""
    return read_records(find_history(experiment), {"at", "verdict", "digest"})


def read_records(path: Path, keys: set[str]) -> list[dict[str, Any]]:
    """Return the JSON objects in the lines of a file that have some keys; none if there is no file."""
    records = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and keys <= set(record):
            records.append(record)
    return records
