"""Settings of a service, which the supervisor writes for its workers."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.storage.atomic import parse_json, write_json

TOKEN_VARIABLE = "LABKIT_SERVE_TOKEN"
"""Environment variable with the token that clients have to send; without it, the service asks for none."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
LOG, SHADOW = "log", "shadow"
"""Folders of the prediction log, and of the predictions of a challenger for the same rows."""
FEEDBACK = "feedback.jsonl"
MOST_BODY_BYTES = 16 * 1024 * 1024
MOST_CONNECTIONS = 1000
HEADER_SECONDS, BODY_SECONDS, DRAIN_SECONDS = 10.0, 10.0, 10.0
"""Time for a client to send the headers and the body of a request, and for requests in progress when a worker stops."""
KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 seconds for which nginx and the load balancers of AWS keep a connection that they may reuse."""


@dataclass(frozen=True)
class Options:
    """What the user chose for a service.

    Attributes
    ----------
    hosts
        Names besides those of this machine under which clients may address the service.
    has_shadow
        Whether a challenger predicts what the champion predicts; it needs the log.
    canary_percent
        Share of requests, in percent, that a challenger answers.
    canary_key
        Column whose value decides which version answers; None for all columns.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    hosts: tuple[str, ...] = ()
    is_logging: bool = True
    has_shadow: bool = False
    canary_percent: float = 0.0
    canary_key: str | None = None


@dataclass(frozen=True)
class Settings:
    """What all workers of a service share.

    Attributes
    ----------
    folder
        Folder of this run of the service: shared words, and which model is in force.
    log_folder
        Folder of the prediction log; None for no log.
    hosts
        Names under which clients may address the service.
    shadow_folder
        Folder for the predictions of a challenger for the rows that the champion predicts; None for no shadow.
    canary_percent
        Share of requests, in percent, that the challenger answers.
    canary_key
        Column whose value decides which version answers; None for all columns.
    """

    experiment: str
    folder: str
    log_folder: str | None
    feedback_path: str
    n_workers: int
    hosts: tuple[str, ...]
    most_body_bytes: int = MOST_BODY_BYTES
    shadow_folder: str | None = None
    canary_percent: float = 0.0
    canary_key: str | None = None

    @property
    def board_path(self) -> Path:
        """File of the words that the processes share."""
        return Path(self.folder) / "board"

    @property
    def state_dir(self) -> Path:
        """Folder of what clients sent: true values, rows of joined tables, and outcomes."""
        return Path(self.feedback_path).parent

    def save(self) -> Path:
        """Write the settings into their folder and return the file."""
        path = Path(self.folder) / "settings.json"
        write_json(path, asdict(self))
        return path


def load_settings(path: Path) -> Settings:
    """Load what `Settings.save` wrote."""
    content = parse_json(path.read_bytes())
    return Settings(**{**content, "hosts": tuple(content["hosts"])})


@dataclass(frozen=True)
class Pointer:
    """Which release is to serve: `current.json` for the one in force, `next.json` for the one that is to follow.

    `challenger-next.json` is for the challenger.
    """

    generation: int
    folder: str
    digest: str | None
    version: int | None

    def save(self, path: Path) -> None:
        """Write the pointer as a whole."""
        write_json(path, asdict(self))


def load_pointer(path: Path) -> Pointer:
    """Load what `Pointer.save` wrote."""
    content: dict[str, Any] = parse_json(path.read_bytes())
    return Pointer(**content)
