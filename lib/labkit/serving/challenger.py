"""The challenger of a champion in service, from the registry: fetched, verified, replaced when another one is named.

A version that is or was the champion while the service runs is no challenger: its promotion ends the challenge, and a
rollback does not begin it again.
"""

import math
import time
from dataclasses import dataclass, field

from labkit.errors import ChampionError, LabkitError, ParamsError
from labkit.run.records import registry
from labkit.serving.board import CHALLENGER_SEAT
from labkit.serving.challenger_state import ChallengerState
from labkit.serving.champion import RETRY_SECONDS, Champion, fetch_pointer, remove_old_releases
from labkit.serving.supervisor import Supervisor
from labkit.stages.publish import CHALLENGER

LATEST, ALIAS = "latest", f"@{CHALLENGER}"
"""What names a challenger besides the number of a version: the newest one, or the one with the alias."""
FOLDER = "challengers"


@dataclass
class Challenger:
    """The challenger of an experiment; see `labkit.serving.supervisor.Followed`.

    Attributes
    ----------
    which
        A number, `LATEST` or `ALIAS`.
    champion
        The champion as it is followed.
    in_force
        The version that is the challenger now.
    refused
        By digest of a version that could not be used beside this champion: the monotonic time of the next attempt.
    compared_with
        The champion that the challenger was last compared with.
    former
        Versions that were the champion while the service ran.
    """

    experiment: str
    which: str
    champion: Champion
    in_force: registry.Version | None = None
    state: ChallengerState | None = None
    refused: dict[str, float] = field(default_factory=dict)
    former: set[int] = field(default_factory=set)
    compared_with: registry.Version | None = None

    def find(self) -> registry.Version | None:
        """Return the version that is to be the challenger; None if the registry has none."""
        if self.which == LATEST:
            records = registry.list_versions(self.experiment)
            return records[-1].version if records else None
        if self.which == ALIAS:
            return registry.find_version(self.experiment, alias=CHALLENGER)
        return registry.get_version(self.experiment, int(self.which))

    def follow(self, supervisor: Supervisor) -> None:
        """Let the version that is named be the challenger, unless it is or was the champion."""
        self.former.add(self.champion.in_force.number)
        if self.compared_with != self.champion.in_force:
            # What the former champion took is no reason any more, neither to refuse a version nor to keep one.
            self.compared_with, self.in_force = self.champion.in_force, None
            self.refused.clear()
        try:
            version = self.find()
        except LabkitError as error:
            supervisor.report(f"the registry cannot be read, the challenger stays as it is: {error}")
            return
        if version is None or version.number in self.former:
            self.end(supervisor, version)
        elif version != self.in_force and time.monotonic() >= self.refused.get(version.digest, 0):
            self.begin(supervisor, version)
        elif version == self.in_force and supervisor.has_refused(supervisor.latest_challenger, seat=CHALLENGER_SEAT):
            # A process that was started again could not load what the others have.
            self.refuse(supervisor, version, supervisor.find_reason(CHALLENGER_SEAT, supervisor.latest_challenger))

    def begin(self, supervisor: Supervisor, version: registry.Version) -> None:
        """Put a version in force as the challenger."""
        generation = supervisor.take_generation()
        folder = supervisor.folder / FOLDER
        try:
            pointer = fetch_pointer(version, folder, generation=generation)
        except LabkitError as error:
            # A store that cannot be reached now may be in a minute.
            until = time.monotonic() + RETRY_SECONDS if isinstance(error, ChampionError) else math.inf
            hidden = "its files cannot be fetched, or are not those that were published"
            self.refuse(supervisor, version, str(error), shown=hidden, until=until)
            return
        if not supervisor.challenge(pointer):
            is_refused = supervisor.has_refused(generation, seat=CHALLENGER_SEAT)
            until = math.inf if is_refused else time.monotonic() + RETRY_SECONDS
            self.refuse(supervisor, version, supervisor.find_reason(CHALLENGER_SEAT, generation), until=until)
            return
        self.in_force = version
        remove_old_releases(folder)
        self.set_state(supervisor, ChallengerState("in force", version.number, pointer.digest))
        supervisor.report(f"version {version.number} is the challenger: {describe_use(supervisor)}")

    def end(self, supervisor: Supervisor, version: registry.Version | None) -> None:
        """Go on without a challenger."""
        what = "no version" if version is None else f"version {version.number}"
        is_champion = version is not None and version.number == self.champion.in_force.number
        reason = f"{what} is the champion" if is_champion else f"{what} was the champion before"
        reason = f"the registry has none for {self.which}" if version is None else reason
        if self.state == ChallengerState("none", reason=reason):
            return
        supervisor.end_challenge()
        self.in_force = None
        self.set_state(supervisor, ChallengerState("none", reason=reason))
        supervisor.report(f"no challenger: {reason}")

    def refuse(
        self, supervisor: Supervisor, version: registry.Version, reason: str, *, shown: str = "",
        until: float = math.inf,
    ) -> None:  # fmt: skip
        """Go on without a challenger because it cannot be used, and do not try it again before a monotonic time.

        Parameters
        ----------
        reason
            Shown on the terminal.
        shown
            Shown in `/health`; empty for the reason.
        """
        self.refused[version.digest] = until
        supervisor.end_challenge()
        self.in_force = None
        self.set_state(supervisor, ChallengerState("refused", version.number, reason=shown or reason))
        supervisor.report(f"version {version.number} is refused as challenger, the champion answers all: {reason}")

    def set_state(self, supervisor: Supervisor, state: ChallengerState) -> None:
        """Keep a state, and let the workers show it."""
        self.state = state
        state.save(supervisor.folder)


def describe_use(supervisor: Supervisor) -> str:
    """Return what a challenger is used for."""
    settings = supervisor.settings
    shadow = ["it predicts what the champion predicts, beside the answers"] if settings.shadow_folder else []
    canary = [f"it answers {settings.canary_percent:g} % of the requests"] if settings.canary_percent else []
    return " and ".join([*canary, *shadow])


def open_challenger(champion: Champion, which: str) -> Challenger:
    """Return the challenger of a champion.

    Parameters
    ----------
    which
        A number of a version, `LATEST` or `ALIAS`.

    Raises
    ------
    ParamsError
        It names no version, or the champion itself.
    TrackingError
        There is no version with that number.
    """
    if which not in (LATEST, ALIAS) and not which.isdecimal():
        raise ParamsError(f"{which}: not a challenger: name the number of a version, {ALIAS} or {LATEST}")
    challenger = Challenger(champion.experiment, which, champion)
    if which.isdecimal() and challenger.find() == champion.in_force:
        raise ParamsError(f"version {which} is the champion: name another: `labkit models {champion.experiment}`")
    return challenger
