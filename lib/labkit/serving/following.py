"""How a process of the service follows the release of a seat: loads it when announced, uses it when it is in force."""

import logging
from collections.abc import Callable
from pathlib import Path

from labkit.errors import LabkitError
from labkit.serving.board import Board, Seat
from labkit.serving.engine import Engine, load_engine
from labkit.serving.settings import Pointer, load_pointer
from labkit.storage.atomic import write_json


def load_pointed(pointer: Pointer, state_dir: Path | None = None) -> Engine:
    """Load the release of a pointer; `state_dir` is the folder of what was sent to the service, if it counts."""
    return load_engine(
        Path(pointer.folder),
        digest=pointer.digest,
        version=pointer.version,
        generation=pointer.generation,
        state_dir=state_dir,
    )


class Follower:
    """The release of one seat, as one process uses it.

    Parameters
    ----------
    board, slot
        The words that the processes share, and the number of the slot of this one.
    folder
        Folder of this run of the service, with the pointers to releases.
    engine
        The release in force when the process starts; None if there is none.
    load
        Loads the release of a pointer.
    """

    def __init__(
        self, seat: Seat, board: Board, slot: int, folder: Path, *, engine: Engine | None = None,
        load: Callable[[Pointer], Engine] = load_pointed,
    ) -> None:  # fmt: skip
        self.seat, self.board, self.slot, self.folder, self.load = seat, board, board.slots[slot], folder, load
        self.engine = engine
        self.tried = 0 if engine is None else engine.generation
        self.prepared: dict[int, Engine] = {} if engine is None else {engine.generation: engine}

    def follow(self) -> Engine | None:
        """Return the engine in force, which changes when the supervisor says so; None if there is none."""
        generation = int(self.board.words[self.seat.current])
        held = 0 if self.engine is None else self.engine.generation
        if generation != held and (generation in self.prepared or not generation):
            self.engine = self.prepared.get(generation)
            self.prepared = {} if self.engine is None else {generation: self.engine}
            self.slot[self.seat.seen] = generation
        return self.engine

    def is_behind(self) -> bool:
        """Return whether a release was announced that this process has not tried to load."""
        return int(self.board.words[self.seat.announced]) > self.tried

    def prepare(self) -> None:
        """Load the announced release beside the one in force; whatever is wrong with it, the latter goes on."""
        self.tried = int(self.board.words[self.seat.announced])
        # One that was loaded and never put in force is not kept.
        kept = {int(self.board.words[self.seat.current]), 0 if self.engine is None else self.engine.generation}
        self.prepared = {number: engine for number, engine in self.prepared.items() if number in kept}
        pointer = load_pointer(self.folder / f"{self.seat.prefix}next.json")
        try:
            self.prepared[self.tried] = self.load(pointer)
            self.slot[self.seat.loaded] = self.tried
        except Exception as error:
            logging.getLogger(__name__).warning("the new release is refused: %s", error)
            # What /health shows must not name folders of this machine.
            known = str(error).replace(pointer.folder, "release") if isinstance(error, LabkitError) else ""
            reason = known or f"it cannot be loaded ({type(error).__name__})"
            write_json(self.folder / f"{self.seat.prefix}refused.json", {"generation": self.tried, "reason": reason})
            self.slot[self.seat.refused] = self.tried
