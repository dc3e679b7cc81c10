"""The champion of a registry as what a service serves: fetched, verified, and followed when another one is promoted.

The process of the supervisor is the only one of a service that talks to the registry.
"""

import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import ChampionError, LabkitError
from labkit.model.release.runtime import compute_release_digest
from labkit.run.records import registry
from labkit.run.records.champion_moves import CHAMPION, load_champion
from labkit.serving.board import CHAMPION_SEAT
from labkit.serving.settings import Pointer
from labkit.serving.supervisor import Supervisor
from labkit.stages.publish import fetch_release

RETRY_SECONDS = 60
"""Time after which a version is tried again that could not be fetched, or took too long to load."""
MOST_KEPT = 3
"""Releases of earlier champions that stay on disk."""


@dataclass
class Champion:
    """The champion of an experiment, as the source of a service; see `labkit.serving.supervisor.Source`.

    Attributes
    ----------
    in_force
        The version that is served.
    refused
        By digest of a version that could not be served: the monotonic time at which it is tried again.
    """

    experiment: str
    in_force: registry.Version
    refused: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The version, for messages."""
        return f"version {self.in_force.number}"

    def fetch(self, folder: Path) -> Pointer:
        """Download and verify the champion."""
        return fetch_pointer(self.in_force, folder, generation=1)

    def follow(self, supervisor: Supervisor) -> None:
        """Serve the champion of the registry if it is another one."""
        try:
            champion = registry.find_version(self.experiment, alias=CHAMPION)
        except LabkitError as error:
            supervisor.report(f"the registry cannot be read, the model in force goes on: {error}")
            return
        if champion is None or champion == self.in_force or time.monotonic() < self.refused.get(champion.digest, 0):
            return
        generation = supervisor.take_generation()
        try:
            pointer = fetch_pointer(champion, supervisor.folder, generation=generation)
        except ChampionError as error:
            # A store that cannot be reached now may be in a minute.
            self.refuse(champion, str(error), supervisor, until=time.monotonic() + RETRY_SECONDS)
            return
        except LabkitError as error:
            self.refuse(champion, str(error), supervisor)
            return
        if not supervisor.promote(pointer):
            is_refused = supervisor.has_refused(generation, seat=CHAMPION_SEAT)
            until = math.inf if is_refused else time.monotonic() + RETRY_SECONDS
            self.refuse(champion, supervisor.find_reason(CHAMPION_SEAT, generation), supervisor, until=until)
            return
        supervisor.report(f"version {champion.number} is in force, {self.name} no longer")
        self.in_force = champion
        remove_old_releases(supervisor.folder)

    def refuse(
        self, champion: registry.Version, reason: str, supervisor: Supervisor, *, until: float = math.inf
    ) -> None:
        """Report a champion that cannot serve, and do not try it again before a monotonic time."""
        self.refused[champion.digest] = until
        supervisor.report(f"version {champion.number} is refused, the model in force goes on: {reason}")


def open_champion(experiment: str) -> Champion:
    """Return the champion of an experiment.

    Raises
    ------
    ParamsError
        There is none.
    """
    return Champion(experiment, load_champion(experiment))


def fetch_pointer(champion: registry.Version, folder: Path, *, generation: int) -> Pointer:
    """Download the release of a version, verify it, and return the pointer to it."""
    place = folder / "releases" / f"{generation}"
    place.mkdir(parents=True)
    try:
        release = fetch_release(champion, place)
    except LabkitError:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return Pointer(generation, str(release), compute_release_digest(release), champion.number)


def remove_old_releases(folder: Path) -> None:
    """Remove all but the latest releases."""
    kept = sorted((folder / "releases").iterdir(), key=lambda path: int(path.name))
    for path in kept[:-MOST_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
