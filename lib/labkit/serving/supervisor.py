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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from labkit import paths
from labkit.errors import ModelError, ParamsError
from labkit.serving.board import ANNOUNCED, CURRENT, LOADED, PID, REFUSED, SEEN, Board
from labkit.serving.engine import load_engine
from labkit.serving.settings import DRAIN_SECONDS, LOOPBACK, Pointer, Settings

LOAD_SECONDS = 120.0
"""Time for a worker to start, and for all workers to load a release."""
RESTART_SECONDS = 1.0
"""Shortest time between two starts of the same worker, so that one that cannot start does not take all the time."""
POLL_SECONDS = 2.0
"""Time between two looks for a newer release."""
PASSED_SOCKET = 3
"""File descriptor of a socket that systemd holds and passes on: the first one after the standard streams."""


@dataclass(frozen=True)
class Options:
    """What the user chose for a service.

    Attributes
    ----------
    hosts
        Names besides those of this machine under which clients may address the service.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    hosts: tuple[str, ...] = ()
    is_logging: bool = True


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
    is_stopping: bool = False

    @property
    def folder(self) -> Path:
        """Folder of this run of the service."""
        return Path(self.settings.folder)

    def start_worker(self, worker: int) -> subprocess.Popen[bytes]:
        """Start a worker process, which inherits the socket."""
        self.board.slots[worker, [LOADED, REFUSED, SEEN, PID]] = 0
        self.started[worker] = time.monotonic()
        descriptor = self.listener.fileno()
        command = [sys.executable, "-m", "labkit.serving.worker", str(self.folder / "settings.json"), str(worker)]
        return subprocess.Popen([*command, str(descriptor)], pass_fds=[descriptor], start_new_session=True)

    def start(self) -> None:
        """Start all workers and wait until they serve.

        Raises
        ------
        ModelError
            A worker ended, or took too long.
        """
        self.board.words[CURRENT] = self.board.words[ANNOUNCED] = self.generation
        self.processes = [self.start_worker(worker) for worker in range(self.settings.n_workers)]
        end = time.monotonic() + LOAD_SECONDS
        while not self.all_have(SEEN, self.generation):
            if self.is_stopping:
                return
            if time.monotonic() > end or any(process.poll() is not None for process in self.processes):
                raise ModelError("a process of the service did not start: its message stands above")
            time.sleep(0.02)

    def all_have(self, word: int, generation: int) -> bool:
        """Return whether all workers have reached a generation."""
        return bool((self.board.slots[:, word] == generation).all())

    def restart_dead(self) -> None:
        """Start a worker again for each one that ended."""
        for worker, process in enumerate(self.processes):
            is_due = time.monotonic() - self.started[worker] > RESTART_SECONDS
            if process.poll() is not None and is_due and not self.is_stopping:
                self.report(f"worker {worker} ended with code {process.returncode}: started again")
                self.processes[worker] = self.start_worker(worker)

    def promote(self, pointer: Pointer) -> bool:
        """Let all workers load a release, then put it in force; False if one of them refused it or took too long.

        Returns when every worker uses it: it answers all requests sent afterwards.
        """
        pointer.save(self.folder / "next.json")
        self.board.words[ANNOUNCED] = pointer.generation
        if not self.wait(LOADED, pointer.generation):
            return False
        pointer.save(self.folder / "current.json")
        self.board.words[CURRENT] = pointer.generation
        self.generation = pointer.generation
        self.wait(SEEN, pointer.generation)
        return True

    def wait(self, word: int, generation: int) -> bool:
        """Wait until all workers have reached a generation; False if one refuses it, or it takes too long."""
        end = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < end and not self.is_stopping:
            self.restart_dead()
            if bool((self.board.slots[:, REFUSED] == generation).any()):
                return False
            # A worker that started meanwhile has loaded the release in force, and will load this one too.
            if self.all_have(word, generation):
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """Let the workers finish what is on its way, and end them."""
        self.is_stopping = True
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + DRAIN_SECONDS + 5
        for process in self.processes:
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


def serve(experiment: str, source: Source, options: Options, report: Callable[[str], None], *, state_dir: Path) -> None:
    """Serve the releases of a source until SIGTERM or Ctrl-C.

    Parameters
    ----------
    state_dir
        Folder for what the service keeps: its log and the true values that it was sent.
    report
        Shows a line to the user.

    Raises
    ------
    ParamsError
        There is no release, it is of another experiment, or the address cannot be used.
    ModelError
        The release cannot be served.
    """
    listener = bind(options)
    state_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=state_dir))
    try:
        pointer = source.fetch(folder)
        # Here an error has a message; in a worker it would be one of many lines.
        engine = load_engine(Path(pointer.folder), digest=pointer.digest, version=pointer.version)
        check_release_experiment(engine.facts, experiment, Path(pointer.folder))
        pointer.save(folder / "current.json")
        settings = Settings(
            experiment=experiment,
            folder=str(folder),
            log_folder=str(state_dir / "log") if options.is_logging else None,
            feedback_path=str(state_dir / "feedback.jsonl"),
            n_workers=options.workers,
            hosts=(*LOOPBACK, options.host, *options.hosts),
        )
        settings.save()
        board = Board(settings.board_path, n_workers=options.workers)
        supervise(Supervisor(settings, board, listener, report), source)
    finally:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)


def supervise(supervisor: Supervisor, source: Source) -> None:
    """Run the workers until the process is told to stop."""

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.is_stopping = True

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervisor.start()
        host, port = supervisor.listener.getsockname()[:2]
        if not supervisor.is_stopping:
            served = f"{supervisor.settings.experiment} {source.name}"
            supervisor.report(f"{served} serves at http://{host}:{port} (interface: /docs; stop: Ctrl-C)")
        looked = time.monotonic()
        while not supervisor.is_stopping:
            time.sleep(0.1)
            supervisor.restart_dead()
            if time.monotonic() - looked > POLL_SECONDS:
                source.follow(supervisor)
                looked = time.monotonic()
    finally:
        supervisor.stop()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def check_release_experiment(facts: Mapping[str, Any], experiment: str, release: Path) -> None:
    """Refuse the release of another experiment."""
    if facts["experiment"] != experiment:
        raise ParamsError(f"{release}: a release of {facts['experiment']}, not of {experiment}")


def bind(options: Options) -> socket.socket:
    """Return the listening socket: the one that systemd passes on, or else a new one."""
    passed = paths.count_passed_sockets()
    if passed > 1:
        raise ParamsError(f"systemd passes {passed} sockets: declare one, with one ListenStream")
    if passed:
        return socket.socket(fileno=PASSED_SOCKET)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(2048)
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not an address"
        raise ParamsError(f"{options.host}:{options.port}: {reason}: choose another with --host and --port") from error
    listener.set_inheritable(True)
    return listener
