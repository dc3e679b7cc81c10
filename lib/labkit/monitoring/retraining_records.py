"""The records of all retrainings of an experiment: a line when one begins, and one when it ends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.monitoring.champion_check import find_history, read_records
from labkit.monitoring.new_data import NewData
from labkit.storage.append import append_line

RECORDS = "retrainings.jsonl"
FINISHED, REPEATED = "finished", "repeated"
"""States of a record: `repeated` is returned for a finding that has already led to a training on the same rows."""


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
