"""Feeding back known outcomes to the histories of the champion, without training: an observation.

The rows of a file become outcomes in the way of the pipeline: checked against the contract, joined, cleaned. They are
kept where the service keeps those that it is sent, so service, batch predictions and monitoring count the same; each
counts from the moment at which it became known. An observation is recorded with its outcomes and can be undone.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from labkit import paths
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.features.arrays import number_to_string
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT
from labkit.features.row_computation import OTHER
from labkit.features.table_columns import take_columns
from labkit.model.release.bundle import Release, load_release
from labkit.monitoring.known_rows import KnownRows, load_known_rows
from labkit.params.experiment import Params
from labkit.run.records import provenance
from labkit.run.records.champion_moves import load_champion
from labkit.serving.fed_outcomes import NEVER, FedOutcomes, Known
from labkit.serving.known_outcomes import find_outcomes_path, open_known_outcomes
from labkit.serving.main_rows import list_values
from labkit.serving.outcome_lines import KnownObservation, Observation, Outcome, Undo, load_observations
from labkit.serving.requests import MOST_ROWS, RequestError
from labkit.stages.publish import fetch_release
from labkit.storage.digests import compute_digest, digest
from labkit.storage.locks import hold_lock
from labkit.units import format_count

LOCK = "outcomes.lock"


@dataclass
class Observed:
    """What became of the rows of files.

    Attributes
    ----------
    id
        Of the observation; empty if nothing was new.
    n_new
        Outcomes that count from now on.
    n_known
        Outcomes that counted before.
    n_early
        Rows left out because their outcomes became known no later than the last one of the release. Histories only grow
        at their end, so these cannot be added, whether the release holds them or not.
    release_until
        When the last outcome of the release became known, in UTC; empty without one.
    n_undone
        Rows left out because their observation was undone.
    n_pending
        Rows whose outcome is not known yet.
    n_left_out
        Rows that cleaning drops, such as by a filter.
    n_counted
        All outcomes that count besides those of the release.
    """

    experiment: str
    version: int
    id: str = ""
    n_new: int = 0
    n_known: int = 0
    n_early: int = 0
    release_until: str = ""
    n_undone: int = 0
    n_pending: int = 0
    n_left_out: int = 0
    n_counted: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as lines."""
        parts = [
            (self.n_known, "known before"),
            (self.n_early, f"left out: known no later than the release's last outcome ({self.release_until})"),
            (self.n_undone, "of an observation that was undone"),
            (self.n_pending, "without an outcome yet"),
            (self.n_left_out, "left out by cleaning"),
        ]
        rest = "".join(f"; {n:,} {what}" for n, what in parts if n)
        named = f" (observation {self.id})" if self.id else ""
        counted = format_count(self.n_counted, "outcome")
        return (
            f"{self.experiment} v{self.version}: {format_count(self.n_new, 'new outcome')}{named}{rest}\n"
            f"its histories count {counted} besides those of the release"
        )


@dataclass
class Sorting:
    """The outcomes of files: those that are new, by id, with the place of their rows, and how many are not.

    Attributes
    ----------
    early
        Places of rows that cannot be added, and when their outcomes became known.
    by_row
        Ids of the outcomes that counted before, by the digests of their rows.
    keys
        Those of rows of these files that are ids of outcomes that counted before.
    taken
        Ids of outcomes that counted before and are those of rows with other keys.
    """

    observed: Observed
    new: dict[str, tuple[Outcome, Known, str]] = field(default_factory=dict)
    early: list[tuple[str, str]] = field(default_factory=list)
    by_row: dict[str, list[str]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)


def observe_files(
    params: Params,
    files: Sequence[Path],
    *,
    reason: str,
    now: datetime,
    tables: Mapping[str, Path] | None = None,
    key: str = "",
    is_new_only: bool = False,
    skips_undone: bool = False,
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
    is_new_only, skips_undone
        Whether rows whose outcomes became known no later than the last one of the release are left out instead of
        refused, and the outcomes of observations that were undone.

    Raises
    ------
    ParamsError
        There is no champion, its model has no histories, or a table or column is not known.
    MissingDataError, DataError, ContractError
        A file does not exist or cannot be read, its columns are not as agreed, an outcome is later than `now`, not
        later than its prediction, not later than the last one of the release, or contradicts another one. Nothing has
        changed then.
    """
    with open_champion_outcomes(params) as (release, outcomes, version):
        found = Sorting(Observed(params.experiment, version, release_until=show_known_at(outcomes.held_until)))
        for id, one in outcomes.counts.known.items():
            found.by_row.setdefault(one.row, []).append(id)
        for source in files:
            known = load_known_rows(params, source, now=now, tables=tables, key=key)
            found.observed.n_pending += known.n_pending
            found.observed.n_left_out += known.n_left_out
            sort_outcomes(params, known, release, outcomes, found, skips_undone=skips_undone)
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
            record = make_observation(files, found, reason=reason, now=now)
            try:
                outcomes.add_observation([outcome for outcome, _, _ in found.new.values()], record)
            except RequestError as error:
                raise ParamsError(f"{params.experiment}: {error}") from error
            observed.id = record.id
        observed.n_counted = len(outcomes.counts.known)
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


def sort_outcomes(
    params: Params,
    known: KnownRows,
    release: Release,
    outcomes: FedOutcomes,
    found: Sorting,
    *,
    skips_undone: bool,
) -> None:
    """Add the outcomes of rows to those that are new, unless they are known, too early, or undone.

    Raises
    ------
    DataError
        An outcome is not as the model needs it, or contradicts another one.
    """
    times = known.find_times()
    is_early = times.astype("int64") <= outcomes.held_until
    found.early += [
        (known.name_row(place), show_known_at(times[place].astype("int64")))
        for place in np.flatnonzero(is_early).tolist()
    ]
    known = known.take(~is_early)
    made = list(make_outcomes(params, known, release))
    if known.keys is not None:
        found.keys |= {outcome.id for _, outcome in made} & outcomes.counts.known.keys()
    for start in range(0, len(made), MOST_ROWS):
        part = made[start : start + MOST_ROWS]
        read = read_outcomes_part(known, [outcome for _, outcome in part], [place for place, _ in part], outcomes)
        for (place, outcome), one in zip(part, read, strict=True):
            where, id = known.name_row(place), one.row if known.keys is None else outcome.id
            if is_known_before(where, one, id, outcomes, found):
                found.observed.n_known += 1
            elif skips_undone and one.identity in outcomes.counts.undone:
                found.observed.n_undone += 1
            elif id in found.new:
                remedy = "name the column that identifies rows with --key" if known.keys is None else "give one of them"
                check_same(where, one, [found.new[id][1]], f"that of the same row at {found.new[id][2]}: {remedy}")
                found.observed.n_known += 1
            else:
                found.new[id] = (Outcome(id, outcome.row, outcome.value, outcome.known_at), one, where)


def is_known_before(where: str, one: Known, id: str, outcomes: FedOutcomes, found: Sorting) -> bool:
    """Return whether an outcome counts already, under its id or as that of an equal row.

    Without a key (`id` is the digest of the row) any equal row is the same one. With a key, equal rows of keyed
    observations are others; outcomes that the service was sent and those observed without a key have other ids, and
    each is taken for one row only.

    Raises
    ------
    DataError
        It contradicts the one that counts.
    """
    counted, observed, equal = outcomes.counts.known, outcomes.counts.observed, found.by_row.get(one.row, [])
    if id != one.row and id not in counted:
        equal = [other for other in equal if other not in found.keys and (other == one.row or other not in observed)]
        other = (
            "what was observed without --key, or sent to the service with another id: undo that observation, or send "
            "the outcome again with that id"
        )
        check_same(where, one, [counted[other] for other in equal], other)
        same = [other for other in equal if counted[other].identity == one.identity and other not in found.taken]
        found.taken.update(same[:1])
        return bool(same)
    earlier = [counted[id]] if id in counted else [counted[other] for other in equal]
    check_same(where, one, earlier, "what was observed before: undo that observation first")
    return bool(earlier)


def make_outcomes(params: Params, known: KnownRows, release: Release) -> Iterator[tuple[int, Outcome]]:
    """Yield rows as outcomes, each with its position among them; rows of dropped rare classes are left out."""
    inputs, rare = release.row_features.inputs_, params.data.target.rare
    values = take_columns(known.rows, {**inputs, OUTCOME_KNOWN_AT: "time"})
    columns = [list_values(values[name], kind, name) for name, kind in inputs.items()]
    times = list_values(values[OUTCOME_KNOWN_AT], "time", OUTCOME_KNOWN_AT)
    classes = {str(number_to_string(label)) for label in release.facts.get("classes") or []}
    ids = [""] * len(known.rows) if known.keys is None else known.keys.astype(str).tolist()
    for place, value in enumerate(known.rows[params.data.target.column].tolist()):
        true = str(number_to_string(value)) if classes else float(value)
        if rare is not None and true not in classes:
            if OTHER not in classes:
                continue
            true = OTHER
        row = {name: column[place] for name, column in zip(inputs, columns, strict=True)}
        yield place, Outcome(ids[place], row, true, times[place])


def read_outcomes_part(
    known: KnownRows, outcomes: Sequence[Outcome], places: Sequence[int], counted: FedOutcomes
) -> list[Known]:
    """Return outcomes as the histories count them, in order; a fault names file and row."""
    numbered = [Outcome(str(n), one.row, one.value, one.known_at) for n, one in enumerate(outcomes)]
    try:
        return list(counted.read_outcomes(numbered).values())
    except RequestError as error:
        fault = error.faults[0]
        if fault.row is None:
            raise DataError(f"{paths.make_printable_name(str(known.source))}: {fault.message}") from error
        what = fault.message.partition(": ")[2]
        raise DataError(f"{known.name_row(places[fault.row])}: {what}") from error


def check_same(where: str, one: Known, earlier: Sequence[Known], other: str) -> None:
    """Refuse an outcome of a row whose earlier ones, if there are any, are all different."""
    if earlier and all(one.identity != known.identity for known in earlier):
        shown = [f"{known.value:g}, known at {show_known_at(known.at)}" for known in (one, earlier[0])]
        raise DataError(f"{where}: its outcome ({shown[0]}) contradicts ({shown[1]}) {other}")


def show_known_at(microseconds: int) -> str:
    """Return a time since 1970 in UTC; empty for the one before all times."""
    return "" if microseconds == NEVER else f"{np.datetime64(int(microseconds), 'us').astype('datetime64[s]')}Z"


def make_observation(files: Sequence[Path], found: Sorting, *, reason: str, now: datetime) -> Observation:
    """Return the record of an observation."""
    at, by = now.isoformat(timespec="seconds"), provenance.name_person()
    digests = {paths.show_path(path): compute_digest(path) for path in files}
    id = digest([at, by, *digests, *found.new])[:8]
    return Observation(id, at, by, reason, found.observed.version, digests, len(found.new))


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
        known = {one.record.id: one for one in list_observations(params.experiment)}
        if id not in known:
            hint = name_nearest(id, known) if known else "nothing was observed yet"
            raise ParamsError(f"{params.experiment}: no observation {id!r}: {hint}")
        undo = known[id].undo
        if undo is None:
            undo = Undo(id, now.isoformat(timespec="seconds"), provenance.name_person(), reason)
            outcomes.undo(undo)
        n_held = outcomes.counts.undone_held.get(id, 0)
        return Undone(params.experiment, KnownObservation(known[id].record, undo), version, n_held)


def list_observation_facts(known: KnownObservation) -> tuple[str, ...]:
    """Return the facts on an observation, for a table."""
    record, undo = known.record, known.undo
    undone = "" if undo is None else ", ".join(filter(None, (undo.at, undo.by, undo.reason)))
    return (record.id, record.at, record.by, f"{record.n_outcomes:,}", ", ".join(record.files), record.reason, undone)
