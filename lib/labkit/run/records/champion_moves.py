"""Moves of the champion: which version replaced which, when, by whom and why.

The alias `champion` of a registered model names the version in service. It is moved here only, and each move is kept
for good as a tag of its own of the registered model, so everyone who uses the registry sees the same history.
"""

import json
import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from labkit import paths
from labkit.errors import LostStoreError, ParamsError, TrackingError
from labkit.run.records import ledger, mlflow_store, provenance, registry
from labkit.run.records.mlflow_limits import fit_value
from labkit.storage.atomic import parse_json, write_json
from labkit.storage.locks import hold_lock

CHAMPION = "champion"
PREFIX = "labkit.move."
LONGEST_MOVE_REASON = 1500
Kind = Literal["published", "promoted", "rolled back", "found"]
"""By the gate, by hand, back to an earlier champion; `found`: not recorded, such as a move made in MLflow's UI."""


@dataclass(frozen=True)
class Move:
    """One move of the champion.

    Attributes
    ----------
    at
        Time in UTC, ISO 8601; of a found move, when it was found.
    before, after
        Versions; `before` is None if there was no champion.
    by
        User and machine; empty for a found move.
    run, commit
        MLflow run that made the version `after`, and the git commit of that run; empty if unknown.
    """

    at: str
    before: int | None
    after: int
    kind: Kind
    reason: str
    by: str
    run: str
    commit: str

    def to_dict(self) -> dict[str, Any]:
        """Return the move as plain data."""
        return asdict(self)


def move_champion(
    name: str, version: registry.Version, *, before: registry.Version | None, kind: Kind, reason: str
) -> bool:
    """Make a version the champion if the champion is still the expected one, and record the move.

    Parameters
    ----------
    before
        The champion that the decision was made against; None if there was none.

    Returns
    -------
    bool
        False if someone else moved the champion in the meantime: then nothing was moved here, or it was moved again.

    Raises
    ------
    LostStoreError
        The registry does not respond.
    """
    # A registry cannot be locked: the lock is for processes of this checkout, the second look for other machines.
    with hold_lock(find_champion_lock(name)):
        finish_move(name)
        if registry.find_version(name, alias=CHAMPION) != before:
            return False
        record_found(name, before)
        number = None if before is None else before.number
        move = make_move(version, before=number, kind=kind, reason=reason)
        # After a kill, the next look at the moves records it if the alias was moved by then.
        write_json(find_intention(name), move.to_dict())
        try:
            registry.set_alias(name, CHAMPION, version)
        except LostStoreError:
            drop_unmade(name, move)
            raise
        record(name, move)
        find_intention(name).unlink()
    return registry.find_version(name, alias=CHAMPION) == version


def load_champion(name: str) -> registry.Version:
    """Return the champion of an experiment.

    Raises
    ------
    ParamsError
        There is none.
    LostStoreError
        The registry does not respond.
    """
    mlflow_store.check_store(paths.get_tracking_uri())
    champion = registry.find_version(name, alias=CHAMPION)
    if champion is None:
        raise ParamsError(f"{name} has no champion yet: run `labkit run {name}`")
    return champion


def load_history(name: str) -> tuple[registry.Version | None, list[Move]]:
    """Return the champion, None if there is none, and its recorded moves, after any move that this checkout is making.

    Raises
    ------
    TrackingError
        A record cannot be read.
    LostStoreError
        The registry does not respond.
    """
    with hold_lock(find_champion_lock(name)):
        finish_move(name)
        return registry.find_version(name, alias=CHAMPION), read_moves(name)


def find_champion_lock(name: str) -> Path:
    """Return the path of the lock that a process of this checkout holds while it moves the champion."""
    return ledger.find_ledger_path().with_name(f"champion-{name}.lock")


def find_intention(name: str) -> Path:
    """Return the path of the move that a process of this checkout is making, or was making when it was killed."""
    return ledger.find_ledger_path().with_name(f"champion-{name}.json")


def finish_move(name: str) -> None:
    """Record the move of a killed process, if it got as far as the alias; the lock must be held.

    A move to the same version that is recorded since then is that one, or explains the alias in its place. A file that
    holds no move is removed with a warning; if its move was made, the next one records it as found.
    """
    path = find_intention(name)
    if not path.exists():
        return
    try:
        move = parse_move(path.read_bytes())
    except ValueError as error:
        warn = logging.getLogger("labkit").warning
        warn(
            "%s is no record of a move (%s), and was removed: check `labkit models %s`",
            paths.show_path(path),
            error,
            name,
        )
    else:
        champion, moves = registry.find_version(name, alias=CHAMPION), read_moves(name)
        # The latest one counts even if the clock of another machine is slow.
        recorded = {one.after for one in moves if one.at >= move.at} | {one.after for one in moves[-1:]}
        if champion is not None and champion.number == move.after and move.after not in recorded:
            record(name, move)
    path.unlink()


def drop_unmade(name: str, move: Move) -> None:
    """Forget a move that failed, unless the alias cannot be read or was moved all the same."""
    with suppress(TrackingError):
        champion = registry.find_version(name, alias=CHAMPION)
        if champion is None or champion.number != move.after:
            find_intention(name).unlink()


def record_found(name: str, champion: registry.Version | None) -> None:
    """Record that the champion is not the version of the latest recorded move, if so."""
    moves = read_moves(name)
    latest = moves[-1].after if moves else None
    if champion is not None and champion.number != latest:
        record(name, make_move(champion, before=latest, kind="found", reason="moved without labkit, or not recorded"))


def make_move(version: registry.Version, *, before: int | None, kind: Kind, reason: str) -> Move:
    """Return the move to a version, made now."""
    return Move(
        at=datetime.now(UTC).isoformat(timespec="microseconds"),
        before=before,
        after=version.number,
        kind=kind,
        reason=fit_value(reason, LONGEST_MOVE_REASON),
        by="" if kind == "found" else provenance.name_person(),
        run=version.run_id,
        commit=registry.find_version_commit(version),
    )


def record(name: str, move: Move) -> None:
    """Append a move to the history of a registered model."""
    key = f"{PREFIX}{time.time_ns()}.{secrets.token_hex(4)}"
    registry.tag_model(name, key, json.dumps(move.to_dict(), ensure_ascii=False))


def load_moves(name: str) -> list[Move]:
    """Return all recorded moves of the champion of a registered model, the earliest first.

    Raises
    ------
    TrackingError
        A record cannot be read.
    LostStoreError
        The registry does not respond.
    """
    if find_intention(name).exists():
        with hold_lock(find_champion_lock(name)):
            finish_move(name)
    return read_moves(name)


def read_moves(name: str) -> list[Move]:
    """Return the recorded moves, as `load_moves` does, without that of a killed process."""
    tags = registry.load_model_tags(name)
    try:
        moves = [parse_move(value.encode()) for key, value in tags.items() if key.startswith(PREFIX)]
    except ValueError as error:
        raise TrackingError(f"model {name}: a tag {PREFIX}… of it is no record of a move ({error})") from error
    return sorted(moves, key=lambda move: move.at)


def parse_move(content: bytes) -> Move:
    """Return a move from its JSON; a `ValueError` if it holds none."""
    try:
        move = Move(**parse_json(content))
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not isinstance(move.at, str) or not isinstance(move.after, int):
        raise ValueError(f"`at` is {move.at!r}, and `after` is {move.after!r}")
    return move


def find_earlier_champion(moves: Sequence[Move], current: int) -> int | None:
    """Return the version that the current champion replaced when it came into service, or None.

    A rollback is not such a replacement: after a rollback from 3 to 2, the next one leads to the version before 2. A
    champion that is not that of the latest move was set without labkit, and replaced the one that is.

    Parameters
    ----------
    moves
        As returned by `load_moves`.
    current
        Number of the champion.
    """
    if moves and moves[-1].after != current:
        return moves[-1].after
    replaced = [move.before for move in moves if move.after == current and move.kind != "rolled back"]
    return replaced[-1] if replaced else None
