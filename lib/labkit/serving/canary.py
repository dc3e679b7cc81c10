"""The share of requests that a challenger answers: a key chooses, so that the same key always gets the same version."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from labkit.errors import ModelError
from labkit.serving.engine import Engine
from labkit.serving.following import Follower
from labkit.serving.requests import RequestError

KEY_HEADER = b"labkit-key"
"""Header by which a client names the key of a request: a customer, a session."""


@dataclass(frozen=True)
class Canary:
    """Which requests the challenger answers.

    Attributes
    ----------
    percent
        Share of the keys, in percent.
    column
        Column with the key of a request without the header; None for all columns.
    """

    follower: Follower
    percent: float
    column: str | None

    def route(self, champion: Engine, rows: Sequence[Any], key: bytes) -> tuple[Engine, Sequence[Any]] | None:
        """Return the challenger, and the rows as it takes them; None if the champion answers.

        Parameters
        ----------
        rows
            As the champion's reader returns them. They are routed together.
        key
            Key that the client gave; empty if it gave none.

        Raises
        ------
        RequestError
            The challenger does not take the rows.
        """
        challenger = self.follower.follow()
        if challenger is None:
            return None
        key = key or make_request_key(champion, rows, self.column)
        return (challenger, convert_rows(champion, challenger, rows)) if self.takes(key, challenger.digest) else None

    def takes(self, key: bytes, digest: str) -> bool:
        """Return whether the challenger answers a key; another challenger gets other keys."""
        found = hashlib.blake2b(key, digest_size=8, salt=digest[:16].encode()).digest()
        return int.from_bytes(found) < self.percent / 100 * 2**64


def make_request_key(engine: Engine, rows: Sequence[Any], column: str | None) -> bytes:
    """Return the key of rows: their values of a column, if the model takes it, or else of all columns."""
    if column not in engine.reader.places:
        return msgspec.json.encode(list(map(msgspec.structs.astuple, rows)))
    values = dict.fromkeys(getattr(row, engine.reader.places[column]) for row in rows)
    return msgspec.json.encode(list(values))


def convert_rows(champion: Engine, challenger: Engine, rows: Sequence[Any]) -> Sequence[Any]:
    """Return rows, read for the champion, as the challenger takes them.

    Raises
    ------
    RequestError
        It needs a column that the champion does not take, or a value that is missing.
    """
    taken, given = challenger.reader, champion.reader
    if list(taken.kinds.items()) == list(given.kinds.items()) and taken.nullable == given.nullable:
        return rows
    return taken.convert([dict(zip(given.kinds, msgspec.structs.astuple(row), strict=True)) for row in rows])


def check_challenger(champion: Engine, challenger: Engine) -> None:
    """Refuse a challenger that cannot take the rows that the champion takes; its example rows stand for them.

    Raises
    ------
    ModelError
        The challenger needs a column that the champion does not take.
    """
    try:
        challenger.reader.convert(champion.load_example())
    except RequestError as error:
        raise ModelError(f"requests to the champion do not fit the challenger: {error.faults[0].message}") from error
