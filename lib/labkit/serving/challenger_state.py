"""What became of the challenger of a service: the supervisor writes it, `/health` and `/metrics` show it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from labkit.serving.settings import Settings
from labkit.storage.atomic import parse_json, write_json

FILE = "challenger.json"


@dataclass(frozen=True)
class ChallengerState:
    """What became of the challenger.

    Attributes
    ----------
    state
        Whether there is one in force.
    version, digest
        Version in the registry, and digest of its release; None for no challenger.
    reason
        Why it is refused, or why there is none; without names of folders. Empty if it is in force.
    """

    state: Literal["in force", "refused", "none"]
    version: int | None = None
    digest: str | None = None
    reason: str = ""

    def save(self, folder: Path) -> None:
        """Write the state into the folder of the service."""
        write_json(folder / FILE, asdict(self))


def load_state(settings: Settings) -> ChallengerState | None:
    """Return the state of the challenger; None before the supervisor has looked for one, or if none is asked for."""
    path = Path(settings.folder) / FILE
    return ChallengerState(**parse_json(path.read_bytes())) if path.is_file() else None


def describe_state(settings: Settings, counts: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the state of the challenger as `/health` shows it, with rows by what became of them."""
    state = load_state(settings)
    if state is None:
        return None
    names = ("rows", "refused", "dropped", "failures")
    shadow = {name: counts[f"shadow_{name}"] for name in names} if settings.shadow_folder is not None else None
    canary = {
        "percent": settings.canary_percent, "rows": counts["canary_rows"], "refused": counts["canary_refused"]
    }  # fmt: skip
    return {**asdict(state), "shadow": shadow, "canary": canary if settings.canary_percent else None}
