"""Sorting the outcomes of files into those that are new to the histories of a model, and those that are not."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from labkit import paths
from labkit.errors import DataError
from labkit.features.arrays import number_to_string
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT
from labkit.features.row_computation import OTHER
from labkit.features.table_columns import take_columns
from labkit.model.release.bundle import Release
from labkit.monitoring.known_rows import KnownRows
from labkit.params.experiment import Params
from labkit.serving.fed_outcomes import NEVER, FedOutcomes, Known
from labkit.serving.main_rows import list_values
from labkit.serving.outcome_lines import Outcome
from labkit.serving.requests import MOST_ROWS, RequestError
from labkit.units import format_count


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
    n_contradicting, contradiction
        Rows left out because their outcomes contradict others, and what is wrong with the first of them.
    n_pending
        Rows whose outcome is not known yet.
    n_left_out
        Rows that cleaning drops, such as by a filter.
    n_counted
        All outcomes that count besides those of the release.
    n_refused, n_damaged
        Recorded outcomes that the champion's model does not take, such as without one of its columns, and lines of the
        file that cannot be read.
    """

    experiment: str
    version: int
    id: str = ""
    n_new: int = 0
    n_known: int = 0
    n_early: int = 0
    release_until: str = ""
    n_undone: int = 0
    n_contradicting: int = 0
    contradiction: str = ""
    n_pending: int = 0
    n_left_out: int = 0
    n_counted: int = 0
    n_refused: int = 0
    n_damaged: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as lines."""
        parts = [
            (self.n_known, "known before"),
            (self.n_early, f"left out: known no later than the release's last outcome ({self.release_until})"),
            (self.n_undone, "of an observation that was undone"),
            (self.n_contradicting, f"left out, as they contradict others ({self.contradiction})"),
            (self.n_pending, "without an outcome yet"),
            (self.n_left_out, "left out by cleaning"),
        ]
        rest = "".join(f"; {n:,} {what}" for n, what in parts if n)
        named = f" (observation {self.id})" if self.id else ""
        counted = format_count(self.n_counted, "outcome")
        uncounted = f"\n{lost}" if (lost := self.describe_uncounted()) else ""
        return (
            f"{self.experiment} v{self.version}: {format_count(self.n_new, 'new outcome')}{named}{rest}{uncounted}\n"
            f"its histories count {counted} besides those of the release"
        )

    def describe_uncounted(self) -> str:
        """Return how many recorded outcomes do not count, and why, on one line; empty if there are none."""
        refused, damaged = format_count(self.n_refused, "recorded outcome"), format_count(self.n_damaged, "line")
        parts = [
            f"{refused} cannot be counted by version {self.version}, as when its inputs are others: observe the rows "
            "again"
        ] * bool(self.n_refused)
        parts += [f"{damaged} of the file of outcomes cannot be read"] * bool(self.n_damaged)
        return "; ".join(parts)


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
        The keys of all rows of these files.
    taken
        Ids of outcomes that counted before and are those of rows with other keys.
    repeated
        How often the outcomes of `new` came again, by id.
    contested
        Ids of outcomes that contradict others; see `drop_contested`.
    """

    observed: Observed
    new: dict[str, tuple[Outcome, Known, str]] = field(default_factory=dict)
    early: list[tuple[str, str]] = field(default_factory=list)
    by_row: dict[str, list[str]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    repeated: Counter[str] = field(default_factory=Counter)
    contested: set[str] = field(default_factory=set)

    def drop_contested(self) -> None:
        """Leave out the new outcomes that later ones contradict, which must not count just because they came first."""
        for id in self.contested & self.new.keys():
            del self.new[id]
            self.observed.n_known -= self.repeated[id]
            self.observed.n_contradicting += 1 + self.repeated[id]


def sort_outcomes(
    params: Params,
    known: KnownRows,
    release: Release,
    outcomes: FedOutcomes,
    found: Sorting,
    *,
    is_unattended: bool,
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
    for start in range(0, len(made), MOST_ROWS):
        part = made[start : start + MOST_ROWS]
        read = read_outcomes_part(known, [outcome for _, outcome in part], [place for place, _ in part], outcomes)
        for (place, outcome), one in zip(part, read, strict=True):
            where, id = known.name_row(place), one.row if known.keys is None else outcome.id
            try:
                is_known = is_known_before(where, one, id, outcomes, found)
                is_undone = not is_known and is_unattended and one.identity in outcomes.counts.undone
                is_again = not is_known and not is_undone and is_repeated(where, one, id, known, found)
            except DataError as error:
                if not is_unattended:
                    raise
                found.observed.n_contradicting += 1
                found.observed.contradiction = found.observed.contradiction or str(error)
                found.contested.add(id)
                continue
            if is_undone:
                found.observed.n_undone += 1
            elif is_known or is_again:
                found.observed.n_known += 1
                found.repeated[id] += is_again
            else:
                found.new[id] = (Outcome(id, outcome.row, outcome.value, outcome.known_at), one, where)


def is_repeated(where: str, one: Known, id: str, known: KnownRows, found: Sorting) -> bool:
    """Return whether an outcome is among the new ones already; raise a `DataError` if that one is different."""
    if id not in found.new:
        return False
    remedy = "name the column that identifies rows with --key" if known.keys is None else "give one of them"
    check_same(where, one, [found.new[id][1]], f"that of the same row at {found.new[id][2]}: {remedy}")
    return True


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
