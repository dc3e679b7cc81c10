"""Feeding back known outcomes to the histories of the champion, without training: an observation.

The rows of a file become outcomes in the way of the pipeline: checked against the contract, joined, cleaned. They are
kept where the service keeps those that it is sent, so service, batch predictions and monitoring count the same; each
counts from the moment at which it became known. An observation is recorded with its outcomes and can be undone.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.model.release.bundle import Release, load_release
from labkit.monitoring.known_rows import load_known_rows
from labkit.monitoring.outcome_sorting import Observed, Sorting, show_known_at, sort_outcomes
from labkit.params.experiment import Params
from labkit.run.records import provenance
from labkit.run.records.champion_moves import load_champion
from labkit.serving.batch_files import check_source
from labkit.serving.fed_outcomes import FedOutcomes
from labkit.serving.known_outcomes import find_outcomes_path, open_known_outcomes
from labkit.serving.outcome_lines import KnownObservation, Observation, Undo, load_observations
from labkit.serving.requests import RequestError
from labkit.stages.publish import fetch_release
from labkit.storage.digests import compute_digest, digest
from labkit.storage.locks import hold_lock
from labkit.units import format_count

LOCK = "outcomes.lock"


def observe_files(
    params: Params,
    files: Sequence[Path],
    *,
    reason: str,
    now: datetime,
    tables: Mapping[str, Path] | None = None,
    key: str = "",
    is_new_only: bool = False,
    is_unattended: bool = False,
) -> Observed:
    """Let the histories of the champion count the outcomes of the rows of files.

    Parameters
    ----------
    files
        Rows of the main table with what is needed to compute the target and when it was known.
    reason
        Why; recorded.
    now
        Time in UTC.
    tables
        Files of joined tables by name, instead of those of the last run.
    key
        Column of the main table that identifies rows, by which they are recognised; without it, by their values.
    is_new_only
        Whether rows whose outcomes became known no later than the last one of the release are left out instead of
        refused.
    is_unattended
        Whether outcomes on which a person has to decide are left out: those of observations that were undone, and those
        that contradict others, instead of refusing them.

    Raises
    ------
    ParamsError
        There is no champion, its model has no histories, or a table or column is not known.
    MissingDataError, DataError, ContractError
        A file does not exist or cannot be read, its columns are not as agreed, an outcome is later than `now`, not
        later than its prediction, not later than the last one of the release, or contradicts another one. Nothing has
        changed then.
    """
    for path in (*files, *(tables or {}).values()):
        check_source(path)
    given = Given(digest_files(files), digest_files((tables or {}).values()), key)
    with open_champion_outcomes(params) as (release, outcomes, version):
        found = Sorting(Observed(params.experiment, version, release_until=show_known_at(outcomes.held_until)))
        for id, one in outcomes.counts.known.items():
            found.by_row.setdefault(one.row, []).append(id)
        parts = [load_known_rows(params, source, now=now, tables=tables, key=key) for source in files]
        # Before any row is sorted: whether a row is the one of an outcome depends on the keys of all others.
        found.keys.update(*(known.keys.astype(str) for known in parts if known.keys is not None))
        for known in parts:
            found.observed.n_pending += known.n_pending
            found.observed.n_left_out += known.n_left_out
            sort_outcomes(params, known, release, outcomes, found, is_unattended=is_unattended)
        found.drop_contested()
        observed = found.observed
        if found.early and not is_new_only:
            (where, at), n_rows = found.early[0], format_count(len(found.early), "row")
            raise DataError(
                f"{where}: its outcome became known at {at}, no later than the release's last outcome, at "
                f"{observed.release_until}, so it cannot be added; {n_rows} in all: give later rows only, leave these "
                "out with --new-only, or train again with them"
            )
        observed.n_early, observed.n_new = len(found.early), len(found.new)
        if found.new:
            record = make_observation(given, found, reason=reason, now=now)
            try:
                outcomes.add_observation([outcome for outcome, _, _ in found.new.values()], record)
            except RequestError as error:
                raise ParamsError(f"{params.experiment}: {error}") from error
            observed.id = record.id
        observed.n_counted = len(outcomes.counts.known)
        observed.n_refused, observed.n_damaged = outcomes.counts.n_refused, outcomes.counts.n_damaged
        return observed


@contextmanager
def open_champion_outcomes(params: Params) -> Iterator[tuple[Release, FedOutcomes, int]]:
    """Yield the champion's release, the outcomes that it counts, and its version, to one process at a time."""
    champion = load_champion(params.experiment)
    path = find_outcomes_path(params.experiment)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch, hold_lock(path.with_name(LOCK)):
        release = load_release(fetch_release(champion, Path(scratch)))
        outcomes = open_known_outcomes(release, params.experiment)
        if outcomes is None:
            raise ParamsError(
                f"{params.experiment} v{champion.number} has no histories (features.history), so outcomes change "
                "nothing: `labkit retrain` learns from them"
            )
        yield release, outcomes, champion.number


@dataclass(frozen=True)
class Given:
    """What an observation was made from: digests of files and of joined tables by path, taken before they are read."""

    files: dict[str, str]
    tables: dict[str, str]
    key: str


def digest_files(files: Iterable[Path]) -> dict[str, str]:
    """Return the digests of files by their paths as shown."""
    return {paths.show_path(path): compute_digest(path) for path in files}


def make_observation(given: Given, found: Sorting, *, reason: str, now: datetime) -> Observation:
    """Return the record of an observation."""
    at, by, n_new = now.isoformat(timespec="seconds"), provenance.name_person(), len(found.new)
    id = digest([at, by, *given.files, *found.new])[:8]
    return Observation(
        id, at, by, reason, found.observed.version, given.files, n_new, tables=given.tables, key=given.key
    )


def describe_uncounted(params: Params) -> str:
    """Return how many recorded outcomes the champion cannot count, and why, on one line; empty if there are none."""
    try:
        with open_champion_outcomes(params) as (_, outcomes, version):
            found = Observed(params.experiment, version)
            found.n_refused, found.n_damaged = outcomes.counts.n_refused, outcomes.counts.n_damaged
    except ParamsError as error:
        return str(error)
    return f"{params.experiment}: {lost}" if (lost := found.describe_uncounted()) else ""


def list_observations(experiment: str) -> list[KnownObservation]:
    """Return all observations of an experiment, in the order in which they were made."""
    return load_observations(find_outcomes_path(experiment))


@dataclass(frozen=True)
class Undone:
    """An observation that was undone.

    Attributes
    ----------
    version
        Version of the champion.
    n_held
        Its outcomes that became known no later than the last one of the champion's release. They did not count beside
        the release, and still count in it if the model was trained with them.
    """

    experiment: str
    known: KnownObservation
    version: int
    n_held: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**self.known.to_dict(), "champion": self.version, "n_held": self.n_held}

    def __str__(self) -> str:
        """Return it as lines."""
        undo, n_outcomes = self.known.undo, self.known.record.n_outcomes
        assert undo is not None
        why = f": {undo.reason}" if undo.reason else ""
        line = f"{self.experiment}: observation {undo.id} undone at {undo.at} by {undo.by}{why}; "
        n_free = n_outcomes - self.n_held
        if not self.n_held:
            return f"{line}its {format_count(n_free, 'outcome')} no longer count"
        return (
            f"{line}of its {format_count(n_outcomes, 'outcome')}, {n_free:,} no longer count\n"
            f"{self.n_held:,} of them became known no later than the last outcome of the release of version "
            f"{self.version}: if it was trained with them, they still count there: train again without them"
        )


def undo_observation(params: Params, id: str, *, reason: str, now: datetime) -> Undone:
    """Undo an observation, so that its outcomes no longer count; nothing changes if it was undone before.

    What a later release learned from them stays in it; see `Undone`.

    Raises
    ------
    ParamsError
        There is no such observation.
    """
    with open_champion_outcomes(params) as (_, outcomes, version):
        known = find_observations(params.experiment)
        if id not in known:
            hint = name_nearest(id, known) if known else "nothing was observed yet"
            raise ParamsError(f"{params.experiment}: no observation {id!r}: {hint}")
        if known[id].undo is None:
            outcomes.undo(Undo(id, now.isoformat(timespec="seconds"), provenance.name_person(), reason))
            # A service may have removed some of its outcomes until now; none goes from now on.
            known = find_observations(params.experiment)
        n_held = outcomes.counts.undone_held.get(id, 0) + known[id].record.n_removed
        return Undone(params.experiment, known[id], version, n_held)


def find_observations(experiment: str) -> dict[str, KnownObservation]:
    """Return all observations of an experiment by their ids."""
    return {one.record.id: one for one in list_observations(experiment)}


def list_observation_facts(known: KnownObservation) -> tuple[str, ...]:
    """Return the facts on an observation, for a table."""
    record, undo = known.record, known.undo
    undone = "" if undo is None else ", ".join(filter(None, (undo.at, undo.by, undo.reason)))
    return (record.id, record.at, record.by, f"{record.n_outcomes:,}", ", ".join(record.files), record.reason, undone)
