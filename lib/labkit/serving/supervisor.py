"""The parent process of a service: it holds the socket, starts workers and follows the champion.

This is the only process of a service that talks to the registry. Workers load a new release beside the one in force;
when all have loaded it, one shared word changes, and no request fails or is answered by a mixture of both.
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
from typing import Any

from labkit import paths
from labkit.errors import LabkitError, ModelError, ParamsError
from labkit.model.release import runtime
from labkit.params.experiment import Params
from labkit.run.records import mlflow_store, registry
from labkit.run.records.champion_moves import CHAMPION
from labkit.serving.board import ANNOUNCED, CURRENT, LOADED, PID, REFUSED, SEEN, Board
from labkit.serving.embedded import write_model_wheel
from labkit.serving.engine import load_engine
from labkit.serving.settings import DRAIN_SECONDS, LOOPBACK, Pointer, Settings
from labkit.stages.publish import fetch_release

LOAD_SECONDS = 120.0
"""Time for a worker to start, and for all workers to load a release."""
RESTART_SECONDS = 1.0
"""Shortest time between two starts of the same worker, so that one that cannot start does not take all the time."""
POLL_SECONDS = 2.0
"""Time between two looks at the registry."""
MOST_KEPT = 3
"""Releases of earlier champions that stay on disk."""


@dataclass(frozen=True)
class Options:
    """What the user chose for a service.

    Attributes
    ----------
    release
        Folder of a release to serve instead of the champion.
    hosts
        Names besides those of this machine under which clients may address the service.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    release: Path | None = None
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
    refused: set[str] = field(default_factory=set)

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

    def follow(self, experiment: str, in_force: registry.Version | None) -> registry.Version | None:
        """Serve the champion of the registry if it is another one; return the version in force."""
        try:
            champion = registry.find_version(experiment, alias=CHAMPION)
        except LabkitError as error:
            self.report(f"the registry cannot be read, the model in force goes on: {error}")
            return in_force
        if champion is None or in_force is None or champion == in_force or champion.digest in self.refused:
            return in_force
        generation = max(self.generation, int(self.board.words[ANNOUNCED])) + 1
        try:
            pointer = fetch_pointer(experiment, champion, self.folder, generation=generation)
        except LabkitError as error:
            self.refuse(champion, str(error))
            return in_force
        if not self.promote(pointer):
            self.refuse(champion, "a process of the service could not load it")
            return in_force
        self.report(f"version {champion.number} is in force, version {in_force.number} no longer")
        remove_old_releases(self.folder)
        return champion

    def refuse(self, champion: registry.Version, reason: str) -> None:
        """Report a champion that cannot serve, and do not try it again."""
        self.refused.add(champion.digest)
        self.report(f"version {champion.number} is refused, the model in force goes on: {reason}")

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


def serve(params: Params, options: Options, report: Callable[[str], None]) -> None:
    """Serve the champion of an experiment until SIGTERM or Ctrl-C.

    Parameters
    ----------
    report
        Shows a line to the user.

    Raises
    ------
    ParamsError
        There is no champion, or the address cannot be used.
    ModelError
        The release cannot be served.
    """
    experiment = params.experiment
    listener = bind(options)
    place = paths.find_work_dir().parent / "serving" / experiment
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=place))
    try:
        champion = None if options.release else find_champion(experiment)
        pointer = (
            fetch_pointer(experiment, champion, folder, generation=1)
            if champion is not None
            else Pointer(1, str(Path(str(options.release)).resolve()), None, None)
        )
        # Here an error has a message; in a worker it would be one of many lines.
        engine = load_engine(Path(pointer.folder), digest=pointer.digest, version=pointer.version)
        check_release_experiment(engine.facts, experiment, Path(pointer.folder))
        pointer.save(folder / "current.json")
        settings = Settings(
            experiment=experiment,
            folder=str(folder),
            log_folder=str(place / "log") if options.is_logging else None,
            feedback_path=str(place / "feedback.jsonl"),
            n_workers=options.workers,
            hosts=(*LOOPBACK, options.host, *options.hosts),
        )
        settings.save()
        board = Board(settings.board_path, n_workers=options.workers)
        supervise(Supervisor(settings, board, listener, report), experiment, champion)
    finally:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)


def supervise(supervisor: Supervisor, experiment: str, champion: registry.Version | None) -> None:
    """Run the workers until the process is told to stop."""

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.is_stopping = True

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervisor.start()
        host, port = supervisor.listener.getsockname()[:2]
        named = f"version {champion.number}" if champion else "the release"
        if not supervisor.is_stopping:
            supervisor.report(f"{experiment} {named} serves at http://{host}:{port} (interface: /docs; stop: Ctrl-C)")
        looked = time.monotonic()
        while not supervisor.is_stopping:
            time.sleep(0.1)
            supervisor.restart_dead()
            if time.monotonic() - looked > POLL_SECONDS:
                champion, looked = supervisor.follow(experiment, champion), time.monotonic()
    finally:
        supervisor.stop()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def package(params: Params, folder: Path, *, release: Path | None = None) -> Path:
    """Write the champion of an experiment, or a release, as a wheel, and return its path.

    Raises
    ------
    ParamsError
        There is no champion, or the release is of another experiment.
    ModelError
        The release is not as it was published, or has no ONNX graph.
    """
    with tempfile.TemporaryDirectory(prefix=".labkit-") as scratch:
        found = release or fetch_release(find_champion(params.experiment), Path(scratch))
        check_release_experiment(runtime.load_runtime(found).facts, params.experiment, found)
        folder.mkdir(parents=True, exist_ok=True)
        return write_model_wheel(found, folder)


def check_release_experiment(facts: Mapping[str, Any], experiment: str, release: Path) -> None:
    """Refuse the release of another experiment."""
    if facts["experiment"] != experiment:
        raise ParamsError(f"{release}: a release of {facts['experiment']}, not of {experiment}")


def find_champion(experiment: str) -> registry.Version:
    """Return the version to serve."""
    mlflow_store.check_store(paths.get_tracking_uri())
    champion = registry.find_version(experiment, alias=CHAMPION)
    if champion is None:
        raise ParamsError(f"{experiment} has no champion yet: run `labkit run {experiment}`")
    return champion


def fetch_pointer(experiment: str, champion: registry.Version, folder: Path, *, generation: int) -> Pointer:
    """Download the release of a version, verify it, and return the pointer to it."""
    place = folder / "releases" / f"{generation}"
    place.mkdir(parents=True)
    release = fetch_release(champion, place)
    return Pointer(generation, str(release), runtime.compute_release_digest(release), champion.number)


def remove_old_releases(folder: Path) -> None:
    """Remove all but the latest releases."""
    kept = sorted((folder / "releases").iterdir(), key=lambda path: int(path.name))
    for path in kept[:-MOST_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def bind(options: Options) -> socket.socket:
    """Return the listening socket."""
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
