"""No request fails and none is answered by a mixture while models, workers and the service change under load."""

import http.client
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from labkit.errors import ChampionError, ParamsError
from labkit.model.release import bundle
from labkit.params.load import load_params
from labkit.run.records import registry, tracking
from labkit.run.records.champion_moves import move_champion
from labkit.serving import prediction_log
from labkit.serving.board import PID
from labkit.serving.champion import RETRY_SECONDS, Champion
from labkit.serving.listener import bind
from labkit.serving.settings import Options, Pointer
from labkit.serving.supervisor import ReleaseFolder, Supervisor, serve
from labkit.stages import promotion
from labkit.storage.digests import compute_digest

from tests.model.tables import make_table
from tests.own_store import work_in
from tests.run.small import make_small
from tests.serving.running import Client, get_port, make_pointer, make_rows, start, wait_for, write_release

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("service")]
ROWS = make_rows(make_table(3))
BROKEN = (ConnectionError, http.client.HTTPException, TimeoutError)


class Load:
    """Clients that ask without a pause; each keeps its connection."""

    def __init__(self, port: int, *, n_clients: int) -> None:
        self.port, self.is_over = port, threading.Event()
        self.answers: list[tuple[int, str, tuple[float, ...], int]] = []
        self.failures: list[str] = []
        self.promoted = 1
        self.threads = [threading.Thread(target=self.ask) for _ in range(n_clients)]

    def ask(self) -> None:
        client = Client(self.port)
        while not self.is_over.is_set():
            oldest = self.promoted
            try:
                answer = client.predict(ROWS)
            except BROKEN as error:
                self.failures.append(repr(error))
                client = Client(self.port)
                continue
            found = tuple(row["yes"] for row in answer["probabilities"])
            self.answers.append((answer["model"]["version"], answer["id"], found, oldest))

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("releases")
    return [write_release(folder / name, model=name) for name in ("lightgbm", "linear")]


@pytest.fixture
def root(tmp_path: Path, store: Path) -> Iterator[Path]:
    """Return a checkout with an empty store, in which this process works."""
    with work_in(make_small(tmp_path / "checkout", "eda", store=store)) as root:
        yield root


def test_swaps_under_load_lose_and_mix_nothing(tmp_path: Path, releases: list[Path]) -> None:
    expected = [tuple(bundle.load_release(release).predict(make_table(3))[:, 1]) for release in releases]
    tampered = write_release(tmp_path / "tampered")
    content = bytearray((tampered / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tampered / "model.onnx").write_bytes(bytes(content))
    with start(tmp_path, releases[0], n_workers=2) as supervisor, Load(get_port(supervisor), n_clients=8) as load:
        for generation in range(2, 22):
            is_bad = generation % 10 == 0
            release = tampered if is_bad else releases[generation % 2]
            assert supervisor.promote(make_pointer(release, generation)) is not is_bad
            load.promoted = load.promoted if is_bad else generation
    assert load.failures == []
    assert len(load.answers) > 100
    used = {generation: generation % 2 for generation in range(2, 22)} | {1: 0}
    for version, _, found, oldest in load.answers:
        assert version % 10
        np.testing.assert_array_equal(found, expected[used[version]])
        assert version >= oldest  # a request sent after a promotion is answered by it


def test_service_follows_a_promotion_and_a_rollback(tmp_path: Path, releases: list[Path], root: Path) -> None:
    params = load_params("small")
    model_dir = root / "model"
    model_dir.mkdir()
    (model_dir / "MLmodel").write_text("flavors: {}\n")
    versions: list[registry.Version] = []
    for release in releases:
        run_id, digest = tracking.make_run(params, "publish"), compute_digest(release)
        versions.append(registry.register_model("small", run_id, model_dir, release_dir=release, digest=digest))
        before = versions[-2] if len(versions) > 1 else None
        assert move_champion("small", versions[-1], before=before, kind="published", reason="better")
    with start(tmp_path, releases[0]) as supervisor:
        client = Client(get_port(supervisor))
        assert client.predict(ROWS)["model"]["version"] == 1
        champion = Champion("small", versions[0])
        champion.follow(supervisor)
        assert champion.in_force == versions[1]
        assert client.predict(ROWS)["model"]["version"] == 2
        promotion.roll_back(params, None, reason="predictions doubled")
        champion.follow(supervisor)
        assert champion.in_force == versions[0]
        assert client.predict(ROWS)["model"]["version"] == 1


def test_champion_that_could_not_be_fetched_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    supervisor = SimpleNamespace(folder=tmp_path, take_generation=lambda: 2, report=said.append, promote=lambda _: True)
    first, second = registry.Version(1, "a", "1"), registry.Version(2, "b", "2")
    fails = [ChampionError("the store does not answer")]

    def fetch(version: registry.Version, folder: Path) -> Path:
        if fails:
            raise fails.pop()
        return folder

    monkeypatch.setattr("labkit.serving.champion.registry.find_version", lambda *_, **__: second)
    monkeypatch.setattr("labkit.serving.champion.fetch_release", fetch)
    monkeypatch.setattr("labkit.serving.champion.compute_release_digest", lambda _: "2")
    champion = Champion("small", first)
    champion.follow(supervisor)  # type: ignore[arg-type]
    champion.follow(supervisor)  # type: ignore[arg-type]
    assert said == ["version 2 is refused, the model in force goes on: the store does not answer"]
    champion.refused["2"] = 0.0  # a minute later
    champion.follow(supervisor)  # type: ignore[arg-type]
    assert champion.in_force == second


def test_champion_that_took_too_long_to_load_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = SimpleNamespace(
        folder=tmp_path, take_generation=lambda: 2, report=lambda line: None, promote=lambda _: False,
        find_reason=lambda *_: "", has_refused=lambda *_, **__: False,
    )  # fmt: skip
    monkeypatch.setattr(registry, "find_version", lambda *_, **__: registry.Version(2, "b", "2"))
    monkeypatch.setattr("labkit.serving.champion.fetch_pointer", lambda *_, **__: Pointer(2, "", "2", 2))
    champion = Champion("small", registry.Version(1, "a", "1"))
    champion.follow(supervisor)  # type: ignore[arg-type]
    assert 0 < champion.refused["2"] - time.monotonic() <= RETRY_SECONDS
    supervisor.has_refused, champion.refused["2"] = lambda *_, **__: True, 0.0
    champion.follow(supervisor)  # type: ignore[arg-type]
    assert champion.refused["2"] == math.inf


def test_stop_under_load_answers_and_logs_what_it_took(tmp_path: Path, releases: list[Path]) -> None:
    with start(tmp_path, releases[0], n_workers=2) as supervisor:
        with Load(get_port(supervisor), n_clients=8) as load:
            wait_for(lambda: len(load.answers) > 50)
            stop_workers_one_by_one(supervisor)
        assert load.failures == []
        supervisor.stop()
        logged = {str(line["id"]) for line in prediction_log.iterate_lines(tmp_path / "log")}
    assert {f"{id}-{number}" for _, id, _, _ in load.answers for number in range(3)} <= logged


def stop_workers_one_by_one(supervisor: Supervisor) -> None:
    """Replace each worker while the other one serves."""
    for worker, process in enumerate(list(supervisor.processes)):
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        restart(supervisor, worker)
        wait_for(lambda worker=worker: bool(supervisor.board.slots[worker, PID]))


def restart(supervisor: Supervisor, worker: int) -> None:
    """Do what the supervisor does all the time, until a worker that ended runs again."""

    def is_running() -> bool:
        supervisor.restart_dead()
        return supervisor.processes[worker].poll() is None

    wait_for(is_running)


def test_killed_worker_is_replaced_and_its_log_is_kept(tmp_path: Path, releases: list[Path]) -> None:
    with start(tmp_path, releases[0]) as supervisor:
        answers = [Client(get_port(supervisor)).predict(ROWS)["id"] for _ in range(5)]
        folder = tmp_path / "log"
        wait_for(lambda: len(list(prediction_log.iterate_lines(folder))) == 15)
        rows_before = supervisor.board.sum_counts()["rows"]
        os.kill(supervisor.processes[0].pid, signal.SIGKILL)
        supervisor.processes[0].wait()
        (torn,) = folder.glob("*.jsonl")
        torn.write_bytes(torn.read_bytes() + b'{"id": "torn')
        restart(supervisor, 0)
        client = Client(get_port(supervisor))  # waits in the socket until the new worker accepts
        answers.append(client.predict(ROWS)["id"])
        assert supervisor.board.sum_counts()["rows"] == rows_before + 3
        wait_for(lambda: len(list(prediction_log.iterate_lines(folder))) == 18)
    assert {str(line["id"])[:20] for line in prediction_log.iterate_lines(folder)} == {*answers}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid:8000: "),
        ({"host": "203.0.113.1"}, "203.0.113.1:8000: Cannot assign requested address"),
        ({"host": "a" * 70 + ".x"}, ":8000: "),
    ],
)
def test_address_that_cannot_be_used(options: dict[str, str], message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        bind(Options(**options))  # type: ignore[arg-type]


def test_port_in_use_is_named() -> None:
    taken = bind(Options(port=0))
    port = taken.getsockname()[1]
    with pytest.raises(ParamsError, match=f"127.0.0.1:{port}: Address already in use: choose another"):
        bind(Options(port=port))
    taken.close()


def test_release_of_another_experiment_is_refused(tmp_path: Path, releases: list[Path]) -> None:
    with pytest.raises(ParamsError, match="a release of shop, not of diabetes"):
        serve("diabetes", ReleaseFolder(releases[0]), Options(port=0), print, state_dir=tmp_path / "state")
    assert not list((tmp_path / "state").iterdir())


def test_empty_token_is_refused(tmp_path: Path, releases: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SERVE_TOKEN", "")
    with pytest.raises(ParamsError, match="LABKIT_SERVE_TOKEN is empty: set it to the token"):
        serve("shop", ReleaseFolder(releases[0]), Options(port=0), print, state_dir=tmp_path / "state")


def test_stop_does_not_wait_for_a_registry_that_does_not_respond(
    tmp_path: Path, releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labkit.serving.supervisor.POLL_SECONDS", 0.1)
    source, stopped_at = ReleaseFolder(releases[0]), []
    with bind(Options(port=0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://{}:{}".format(*silent.getsockname()))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

        def ask_registry(supervisor: Supervisor) -> None:
            threading.Timer(
                0.5, lambda: stopped_at.append(time.monotonic()) or os.kill(os.getpid(), signal.SIGTERM)
            ).start()
            Champion("shop", registry.Version(1, "a", "1")).follow(supervisor)

        monkeypatch.setattr(source, "follow", ask_registry)
        serve("shop", source, Options(port=0), lambda line: None, state_dir=tmp_path / "state")
    assert time.monotonic() - stopped_at[0] < 30


def test_reason_of_a_refusal_is_reported(
    tmp_path: Path, releases: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, releases[0]) as supervisor:
        assert not supervisor.promote(Pointer(2, str(releases[1]), "0" * 64, 2))
    assert "the new release is refused: " in capfd.readouterr().err
