"""The records of all retrainings of an experiment: a line when one begins, and one when it ends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import DiskError, TrackingError
from labkit.monitoring.champion_check import find_history, read_records
from labkit.monitoring.new_data import NewData
from labkit.storage.append import append_line
from labkit.storage.disk import is_full

RECORDS = "retrainings.jsonl"
FINISHED, FAILED, REPEATED, HELD_BACK = "finished", "failed", "repeated", "held back"
"""States of a record. `repeated` is returned for a finding that has already led to a training on the same rows, and
`held back` if trainings on the same data, code and parameters have failed `MOST_FAILURES` times in a row.
"""
MOST_FAILURES = 3


def find_records(experiment: str) -> Path:
    """Return the file with the records of all retrainings of an experiment, one JSON object per line."""
    return find_history(experiment).with_name(RECORDS)


def load_records_of_retrainings(experiment: str) -> list[dict[str, Any]]:
    """Return the records of all retrainings, in the order in which they began or ended."""
    return read_records(find_records(experiment), {"at", "state", "reason"})


def append_record(record: Mapping[str, Any]) -> None:
    """Add a line to the records of retrainings."""
    append_line(find_records(record["experiment"]), json.dumps(record, ensure_ascii=False))


def find_same(experiment: str, champion: int, data: NewData) -> dict[str, Any] | None:
    """Return the finished retraining beside the same champion on the same rows; None if there is none.

    A finding lasts until a new champion is published: without this, one that the gate refused would be trained again
    at every check.
    """
    for one in reversed(load_records_of_retrainings(experiment)):
        if one["state"] == FINISHED and one["champion"] == champion:
            known = one["data"]
            if (known["digest"], known["rows_after"]) == (data.digest, data.rows_after):
                return one
    return None


def find_repeated_failure(experiment: str, recipe: str, data: NewData) -> dict[str, Any] | None:
    """Return the latest failed retraining if enough in a row failed on the same data, code and parameters, else None.

    Failures that have nothing to do with these do not count: an interruption, a server that cannot be reached, a full
    disk.

    Parameters
    ----------
    recipe
        See `labkit.stages.recipe.compute_recipe_digest`.
    """
    ended = [one for one in load_records_of_retrainings(experiment) if one["state"] in (FINISHED, FAILED)]
    latest = [one for one in ended if not one.get("is_transient")][-MOST_FAILURES:]
    asked = (FAILED, recipe, data.digest, data.rows_after)
    found = [
        (one["state"], one.get("recipe"), one["data"]["digest"], one["data"]["rows_after"]) == asked for one in latest
    ]
    return latest[-1] if len(latest) == MOST_FAILURES and all(found) else None


def describe_repeated_failure(failed: Mapping[str, Any]) -> str:
    """Return why no training is tried, given the latest one that failed."""
    first_line = failed["error"].partition("\n")[0]
    return (
        f"the training failed {MOST_FAILURES} times in a row on the same data, code and parameters, and waits for a "
        f"change of one of them; last at {failed['at']}: {first_line}"
    )


def is_transient(error: BaseException) -> bool:
    """Return whether what failed may succeed without a change of data, code or parameters.

    A stage that failed is judged by its causes, but not by any system error: a file that its code misses stays missing.
    """
    if isinstance(error, OSError) or not isinstance(error, Exception) or is_full(error):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TrackingError | DiskError):
            return True
        cause = cause.__cause__
    return False
