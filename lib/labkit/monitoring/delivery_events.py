"""The events behind the delivery metrics: moves of the champion, commits, and when data first came in.

Moves and versions come from the registry, which a team shares; commits from the git history of this checkout; the
arrival of raw tables from its ledger. What is not recorded here is left out and counted nowhere.
"""

import re
import subprocess
from collections.abc import Sequence
from datetime import datetime

from labkit import paths
from labkit.monitoring.delivery import Delivery, Deployment, Registered, compute_delivery, is_deployment, parse_time
from labkit.run.records import ledger, mlflow_store, registry
from labkit.run.records.champion_moves import CHAMPION, Move, load_moves
from labkit.run.records.ledger import Entry

CODE = (
    *("lib", "dvc.yaml", "requirements.lock", "params/{experiment}.yaml"),
    # Those of all experiments, and its own.
    *(":(glob)notebooks/*", "notebooks/{experiment}"),
)
"""What a commit must touch to count as a change of the model, below the root of the checkout."""
COMMIT = re.compile(r"[0-9a-f]{7,64}")


def measure_delivery(experiment: str, *, since: datetime | None, until: datetime) -> Delivery | None:
    """Return the delivery metrics of an experiment; None if no version of it has been in service.

    Parameters
    ----------
    since
        Begin of the period in UTC; the first version or move of the champion if None.
    until
        End of the period in UTC.

    Raises
    ------
    TrackingError
        The registry cannot be read.
    """
    moves = load_moves(experiment) if mlflow_store.check_existing_store() else []
    if not moves:
        return None
    versions = registry.list_versions(experiment)
    registered = [Registered(one.version.number, parse_time(one.at), one.has_had(CHAMPION)) for one in versions]
    return compute_delivery(
        experiment,
        moves,
        list_deployments(experiment, moves),
        registered,
        champion=next((one.version.number for one in versions if CHAMPION in one.aliases), None),
        since=since or min(parse_time(moves[0].at), *(one.at for one in registered)),
        until=until,
    )


def list_deployments(experiment: str, moves: Sequence[Move]) -> list[Deployment]:
    """Return the moves that put a version into service, with the commits and the data that came with it."""
    entries = [one for one in ledger.load_entries() if one.experiment == experiment]
    before, found = "", []
    for move in moves:
        if is_deployment(move):
            # When a found move was made is unknown: its time is when it was found.
            is_timed = move.kind != "found"
            commits = find_commit_times(experiment, before, move.commit) if is_timed else None
            data_at = find_data_arrival(entries, move.run) if is_timed else None
            found.append(Deployment(move, parse_time(move.at), commits, data_at))
        before = move.commit or before
    return found


def find_commit_times(experiment: str, before: str, commit: str) -> tuple[datetime, ...] | None:
    """Return the author times of the commits after one commit up to another that touch the experiment's code.

    Parameters
    ----------
    before
        Commit in service until then; empty if there was none: then the latest commit that touches the code counts.
    commit
        Commit that went into service; empty if it is not recorded.

    Returns
    -------
    tuple of datetime or None
        None if one of the commits is not in this checkout.
    """
    # They come from a registry, which others write to: nothing in them may be read as an option.
    if not COMMIT.fullmatch(commit) or (before and not COMMIT.fullmatch(before)):
        return None
    reach = [f"{before}..{commit}"] if before else ["--max-count=1", commit]
    places = [place.format(experiment=experiment) for place in CODE]
    command = ["git", "-C", str(paths.find_root()), "log", "--format=%aI", *reach, "--", *places]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(parse_time(line) for line in done.stdout.split())


def find_data_arrival(entries: Sequence[Entry], run: str) -> datetime | None:
    """Return when a run of this checkout first read the raw tables that a pipeline run used, or None.

    Parameters
    ----------
    entries
        Runs of the experiment, in the order in which they started.
    run
        MLflow id of the run that made the version, that of a stage.
    """
    used = next((one for one in entries if run and one.tracked == run), None)
    if used is None:
        return None
    # The source of the run itself, or else of the latest run before it, because its tables were up to date.
    sources = [one for one in entries if one.stage == "source" and one.outcome == "finished" and one.outputs]
    before = [one for one in sources if one.parent == used.parent or one.at <= used.at]
    if not before:
        return None
    digests = list_output_digests(before[-1])
    return min(parse_time(one.at) for one in sources if list_output_digests(one) == digests)


def list_output_digests(entry: Entry) -> list[tuple[str, str]]:
    """Return path and digest of each output of a stage."""
    return sorted((output["path"], output["sha256"]) for output in entry.outputs)
