"""The parent process of a service: it holds the socket, starts workers and puts releases in force.

Workers load a new release beside the one in force; when all have loaded it, one shared word changes, and no request
fails or is answered by a mixture of both. Needs neither MLflow nor pandas: see `labkit.serving.champion` for the
service that follows the registry.
"""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from labkit import paths
from labkit.errors import ModelError, ParamsError, list_briefly, name_nearest
from labkit.model.release.release_code import list_wheels
from labkit.serving.board import ANNOUNCED, CHALLENGER_SEAT, CHAMPION_SEAT, CURRENT, FIRST_COUNT, SEEN, Board, Seat
from labkit.serving.engine import Engine, load_engine
from labkit.serving.listener import bind
from labkit.serving.settings import (
    DRAIN_SECONDS,
    FEEDBACK,
    LOG,
    LOOPBACK,
    SHADOW,
    TOKEN_VARIABLE,
    Options,
    Pointer,
    Settings,
)
from labkit.storage.atomic import parse_json

LOAD_SECONDS = 120.0
"""Time for a worker to start, and for all workers to load a release."""
RESTART_SECONDS = 1.0
"""Shortest time between two starts of the same worker, so that one that cannot start does not take all the time."""
CHALLENGER_SECONDS = 30.0
"""Time for all processes that use a challenger to load it."""
SHADOW_SECONDS = 5.0
"""Time for the shadow to end when the service stops."""
POLL_SECONDS = 2.0
"""Time between two looks for a newer release."""


class StopRequest(BaseException):
    """The service is told to stop while it waits for a registry."""


@dataclass
class Supervisor:
    """A running service."""

    settings: Settings
    board: Board
    listener: socket.socket
    report: Callable[[str], None]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: dict[int, float] = field(default_factory=dict)
    generation: int = 1
    latest_challenger: int = 0
    is_stopping: bool = False
    is_following: bool = False

    @property
    def folder(self) -> Path:
        """Folder of this run of the service."""
        return Path(self.settings.folder)

    @property
    def n_workers(self) -> int:
        """Number of processes that answer requests; that of the shadow comes after them."""
        return self.settings.n_workers

    def start_process(self, number: int) -> subprocess.Popen[bytes]:
        """Start a process: a worker, which inherits the socket, or the shadow."""
        self.board.slots[number, :FIRST_COUNT] = 0
        self.started[number] = time.monotonic()
        settings_path = str(self.folder / "settings.json")
        if number == self.n_workers:
            return subprocess.Popen(
                [sys.executable, "-m", "labkit.serving.shadow", settings_path], start_new_session=True
            )
        descriptor = self.listener.fileno()
        command = [sys.executable, "-m", "labkit.serving.worker", settings_path, str(number)]
        return subprocess.Popen([*command, str(descriptor)], pass_fds=[descriptor], start_new_session=True)

    def start(self) -> None:
        """Start all workers and wait until they serve.

        Raises
        ------
        ModelError
            A worker ended, or took too long.
        """
        self.board.words[CURRENT] = self.board.words[ANNOUNCED] = self.generation
        n_processes = self.n_workers + (self.settings.shadow_folder is not None)
        self.processes = [self.start_process(number) for number in range(n_processes)]
        end = time.monotonic() + LOAD_SECONDS
        while not self.all_have(SEEN, self.generation, seat=CHAMPION_SEAT):
            if self.is_stopping:
                return
            workers = self.processes[: self.n_workers]
            if time.monotonic() > end or any(process.poll() is not None for process in workers):
                raise ModelError("a process of the service did not start: its message stands above")
            time.sleep(0.02)

    def list_members(self, seat: Seat) -> list[int]:
        """Return the numbers of the processes that use the release of a seat."""
        if seat is CHAMPION_SEAT:
            return list(range(self.n_workers))
        workers = range(self.n_workers) if self.settings.canary_percent else ()
        return [*workers, *([self.n_workers] if self.settings.shadow_folder is not None else [])]

    def all_have(self, word: int, generation: int, *, seat: Seat) -> bool:
        """Return whether all processes of a seat have reached a generation."""
        return bool((self.board.slots[self.list_members(seat), word] == generation).all())

    def has_refused(self, generation: int, *, seat: Seat) -> bool:
        """Return whether a process of a seat refuses a generation."""
        return bool((self.board.slots[self.list_members(seat), seat.refused] == generation).any())

    def take_generation(self) -> int:
        """Return the number of the next release, of either seat."""
        return max(self.generation, int(self.board.words[ANNOUNCED]), self.latest_challenger) + 1

    def restart_dead(self) -> None:
        """Start a worker again for each one that ended."""
        for number, process in enumerate(self.processes):
            is_due = time.monotonic() - self.started[number] > RESTART_SECONDS
            if process.poll() is not None and is_due and not self.is_stopping:
                name = "the shadow" if number == self.n_workers else f"worker {number}"
                self.report(f"{name} ended with code {process.returncode}: started again")
                self.processes[number] = self.start_process(number)

    def promote(self, pointer: Pointer) -> bool:
        """Let all workers load a champion, then put it in force; False if one of them refused it or took too long.

        Returns when every worker uses it: it answers all requests sent afterwards.
        """
        if not self.announce(pointer, CHAMPION_SEAT, seconds=LOAD_SECONDS):
            return False
        pointer.save(self.folder / "current.json")
        self.board.words[CURRENT] = pointer.generation
        self.generation = pointer.generation
        self.wait(SEEN, pointer.generation, seat=CHAMPION_SEAT, seconds=LOAD_SECONDS)
        return True

    def challenge(self, pointer: Pointer) -> bool:
        """Let the processes that use a challenger load it, then put it in force; False if one of them refused it."""
        self.latest_challenger = pointer.generation
        if not self.announce(pointer, CHALLENGER_SEAT, seconds=CHALLENGER_SECONDS):
            self.end_challenge()
            return False
        self.set_challenger(pointer.generation)
        return True

    def end_challenge(self) -> None:
        """Go on without a challenger, and wait until no process uses it, `CHALLENGER_SECONDS` at most."""
        # Not to be loaded by a process that starts later.
        self.board.words[CHALLENGER_SEAT.announced] = 0
        self.set_challenger(0)

    def set_challenger(self, generation: int) -> None:
        """Put a loaded challenger in force, or none with 0, and wait until all processes have noticed."""
        self.board.words[CHALLENGER_SEAT.current] = generation
        self.wait(CHALLENGER_SEAT.seen, generation, seat=CHALLENGER_SEAT, seconds=CHALLENGER_SECONDS)

    def announce(self, pointer: Pointer, seat: Seat, *, seconds: float) -> bool:
        """Let the processes of a seat load a release beside the one in force; False if one refuses it."""
        pointer.save(self.folder / f"{seat.prefix}next.json")
        self.board.words[seat.announced] = pointer.generation
        return self.wait(seat.loaded, pointer.generation, seat=seat, seconds=seconds)

    def wait(self, word: int, generation: int, *, seat: Seat, seconds: float) -> bool:
        """Wait until all processes of a seat have reached a generation; False if one refuses it, or takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.is_stopping:
            self.restart_dead()
            if generation and self.has_refused(generation, seat=seat):
                return False
            # A worker that started meanwhile has loaded the release in force, and will load this one too.
            if self.all_have(word, generation, seat=seat):
                return True
            time.sleep(0.01)
        return False

    def find_reason(self, seat: Seat, generation: int) -> str:
        """Return why a process of a seat refused a release; it names no folder."""
        path = self.folder / f"{seat.prefix}refused.json"
        found = parse_json(path.read_bytes()) if path.is_file() else {}
        return str(found["reason"]) if found.get("generation") == generation else "it took too long to load"

    def stop(self) -> None:
        """Let the workers finish what is on its way, and end them; then the shadow, which reads what they write."""
        self.is_stopping = True
        self.end_processes(self.processes[: self.n_workers], seconds=DRAIN_SECONDS + 5)
        self.end_processes(self.processes[self.n_workers :], seconds=SHADOW_SECONDS)

    def end_processes(self, processes: Sequence[subprocess.Popen[bytes]], *, seconds: float) -> None:
        """End processes, by force after some seconds."""
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + seconds
        for process in processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Source(Protocol):
    """Where the releases of a service come from."""

    @property
    def name(self) -> str:
        """What messages call the release in force."""

    def fetch(self, folder: Path) -> Pointer:
        """Return the release to start with; `folder` is for files of this run of the service."""

    def follow(self, supervisor: Supervisor) -> None:
        """Put a newer release in force if there is one; called every few seconds."""


class Followed(Protocol):
    """What else is followed while a service runs: a challenger in the registry, files of tables."""

    def follow(self, supervisor: Supervisor) -> None:
        """Use what is new; called every few seconds."""


@dataclass
class ReleaseFolder:
    """One release in a folder, which a service serves for as long as it runs."""

    release: Path
    name: str = "the release"

    def fetch(self, folder: Path) -> Pointer:
        """Return the release."""
        return Pointer(1, str(self.release.resolve()), None, None)

    def follow(self, supervisor: Supervisor) -> None:
        """Do nothing: there is no newer one."""


def check_code_trusted(folder: Path) -> None:
    """Raise ParamsError if a folder, of which no digest is known, carries packages that would be run.

    Its manifest only shows that its files belong together: someone who changed a wheel could have changed it as well.
    """
    if wheels := list_wheels(folder):
        names = list_briefly(wheel.name for wheel in wheels)
        raise ParamsError(
            f"{folder}: carries code, which would be run: {names}: add --trust-code if you know who made this release"
        )


def serve(
    experiment: str, source: Source, options: Options, report: Callable[[str], None], *, state_dir: Path,
    followers: Sequence[Followed] = (),
) -> None:  # fmt: skip
    """Serve the releases of a source until SIGTERM or Ctrl-C.

    Parameters
    ----------
    state_dir
        Folder for what the service keeps: its log and the true values that it was sent.
    followers
        What is followed besides the champion.
    report
        Shows a line to the user.

    Raises
    ------
    ParamsError
        The token is empty, there is no release, it is of another experiment, or the address cannot be used.
    ModelError
        The release cannot be served.
    """
    if paths.is_empty_variable(TOKEN_VARIABLE):
        raise ParamsError(f"{TOKEN_VARIABLE} is empty: set it to the token that clients are to send, or unset it")
    listener = bind(options)
    state_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=state_dir))
    try:
        pointer = source.fetch(folder)
        # Here an error has a message; in a worker it would be one of many lines.
        engine = load_engine(Path(pointer.folder), digest=pointer.digest, version=pointer.version)
        check_release_experiment(engine.facts, experiment, Path(pointer.folder))
        check_canary_key(engine, options.canary_key)
        pointer.save(folder / "current.json")
        settings = Settings(
            experiment=experiment,
            folder=str(folder),
            log_folder=str(state_dir / LOG) if options.is_logging else None,
            feedback_path=str(state_dir / FEEDBACK),
            n_workers=options.workers,
            hosts=(*LOOPBACK, options.host, *options.hosts),
            shadow_folder=str(state_dir / SHADOW) if options.has_shadow else None,
            canary_percent=options.canary_percent,
            canary_key=options.canary_key,
        )
        settings.save()
        board = Board(settings.board_path, n_workers=options.workers)
        supervise(Supervisor(settings, board, listener, report), source, followers)
    finally:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)


def supervise(supervisor: Supervisor, source: Source, followers: Sequence[Followed] = ()) -> None:
    """Run the workers until the process is told to stop."""

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.is_stopping = True
        if supervisor.is_following:
            supervisor.is_following = False
            raise StopRequest

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervisor.start()
        host, port = supervisor.listener.getsockname()[:2]
        if not supervisor.is_stopping:
            served = f"{supervisor.settings.experiment} {source.name}"
            supervisor.report(f"{served} serves at http://{host}:{port} (interface: /docs; stop: Ctrl-C)")
        looked = -POLL_SECONDS if followers else time.monotonic()
        while not supervisor.is_stopping:
            time.sleep(0.1)
            supervisor.restart_dead()
            if time.monotonic() - looked > POLL_SECONDS:
                with suppress(StopRequest):
                    follow_sources(supervisor, source, followers)
                looked = time.monotonic()
    finally:
        supervisor.stop()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def follow_sources(supervisor: Supervisor, source: Source, followers: Sequence[Followed]) -> None:
    """Use what is new; a request to stop ends it at once, also while a registry does not respond.

    Raises
    ------
    StopRequest
        The service is told to stop.
    """
    supervisor.is_following = True
    try:
        source.follow(supervisor)
        for follower in followers:
            follower.follow(supervisor)
    finally:
        supervisor.is_following = False


def check_canary_key(engine: Engine, column: str | None) -> None:
    """Refuse a column as key of the canary that the model does not take."""
    if column is not None and column not in engine.reader.kinds:
        raise ParamsError(f"--canary-key {column}: {name_nearest(column, engine.reader.kinds)}")


def check_release_experiment(facts: Mapping[str, Any], experiment: str, release: Path) -> None:
    """Refuse the release of another experiment."""
    if facts["experiment"] != experiment:
        raise ParamsError(f"{release}: a release of {facts['experiment']}, not of {experiment}")
