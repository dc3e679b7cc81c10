"""A challenger beside the champion: it answers a stable share of the requests, or predicts them in the shadow."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from labkit.errors import ChampionError, ModelError, ParamsError
from labkit.model.release import bundle
from labkit.run.records import registry
from labkit.serving import prediction_log
from labkit.serving.board import CHALLENGER_SEAT, PID, Board
from labkit.serving.canary import Canary, check_challenger, convert_rows
from labkit.serving.challenger import Challenger, open_challenger
from labkit.serving.engine import Engine, load_engine
from labkit.serving.settings import Pointer
from labkit.serving.shadow import LogTail
from labkit.serving.supervisor import Supervisor
from prometheus_client.parser import text_string_to_metric_families

from tests.model.tables import make_table
from tests.serving.running import Client, get_port, make_pointer, make_rows, start, wait_for, write_release

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("service")]
FRAME = make_table(40)
ROWS = make_rows(FRAME)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("releases")
    return [write_release(folder / name, model=name) for name in ("lightgbm", "linear")]


@pytest.fixture(scope="module")
def engines(releases: list[Path]) -> list[Engine]:
    return [load_engine(release, digest=None, version=number + 1) for number, release in enumerate(releases)]


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, releases: list[Path], said: list[str]) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("service")
    running = start(folder, releases[0], n_workers=2, has_shadow=True, canary_percent=30, report=said.append)
    with running as supervisor:
        assert supervisor.challenge(make_pointer(releases[1], 2))
        yield supervisor


def ask_each(port: int, key: str | None = None) -> list[dict[str, Any]]:
    """Return the answers for each row alone."""
    client, headers = Client(port), {} if key is None else {"labkit-key": key}
    return [json.loads(client.ask("/predict", {"rows": [row]}, headers=headers)[1]) for row in ROWS]


def read_shadow(supervisor: Supervisor) -> dict[str, dict[str, Any]]:
    folder = Path(str(supervisor.settings.shadow_folder))
    return {str(line["id"]): line for line in prediction_log.iterate_lines(folder)} if folder.is_dir() else {}


def test_same_row_and_same_key_get_the_same_version_from_every_worker(
    service: Supervisor, engines: list[Engine]
) -> None:
    rounds = [[answer["model"]["version"] for answer in ask_each(get_port(service))] for _ in range(4)]
    assert rounds[1:] == rounds[:-1]  # each round has a connection of its own, so that both workers answer
    assert set(rounds[0]) == {1, 2}
    by_key = {key: {a["model"]["version"] for a in ask_each(get_port(service), key)} for key in ("anna", "bo", "cy")}
    assert all(len(versions) == 1 for versions in by_key.values())
    canary = Canary(SimpleNamespace(), 30, None)  # type: ignore[arg-type]
    assert by_key == {key: {1 + canary.takes(key.encode(), digest_of(engines[1]))} for key in by_key}
    status, content = Client(get_port(service)).ask(
        "/invocations", {"dataframe_records": ROWS[:1]}, headers={"labkit-key": "anna"}
    )
    assert status == 200
    assert {json.loads(content)["model"]["version"]} == by_key["anna"]


def digest_of(engine: Engine) -> str:
    return engine.digest


def test_answers_are_those_of_the_version_that_they_name_and_so_are_log_and_shadow(
    service: Supervisor, releases: list[Path]
) -> None:
    expected = [bundle.load_release(release).predict(FRAME)[:, 1] for release in releases]
    answers = ask_each(get_port(service))
    wanted = {f"{one['id']}-0": one for one in answers if one["model"]["version"] == 1}
    wait_for(lambda: wanted.keys() <= read_shadow(service).keys())
    shadow = read_shadow(service)
    folder = Path(str(service.settings.log_folder))
    logged = {str(line["id"]): line for line in prediction_log.iterate_lines(folder)}
    for place, answer in enumerate(answers):
        version, id = answer["model"]["version"], f"{answer['id']}-0"
        assert answer["probabilities"][0]["yes"] == expected[version - 1][place]
        assert (logged[id]["version"], logged[id].get("role")) == (version, "canary" if version == 2 else None)
        assert logged[id]["inputs"] == ROWS[place]
        if version == 1:
            assert shadow[id]["version"] == 2
            assert shadow[id]["probabilities"]["yes"] == expected[1][place]
            assert shadow[id]["time"] == logged[id]["time"]
        else:
            assert id not in shadow


def test_health_and_metrics_name_both_versions(service: Supervisor, releases: list[Path]) -> None:
    client = Client(get_port(service))
    found = {
        (sample.name, sample.labels.get("role") or sample.labels.get("result")): sample.value
        for family in text_string_to_metric_families(client.ask("/metrics")[1].decode())
        for sample in family.samples
    }
    assert found["labkit_model", "champion"] == 1
    counts = service.board.sum_counts()
    assert found["labkit_canary_rows_total", "answered"] == counts["canary_rows"] > 0
    assert found["labkit_shadow_rows_total", "predicted"] == counts["shadow_rows"] > 0
    assert found["labkit_shadow_rows_total", "dropped"] == 0


def test_failing_shadow_is_started_again_and_no_answer_fails(service: Supervisor, said: list[str]) -> None:
    service.processes[2].kill()
    service.processes[2].wait()
    assert len(ask_each(get_port(service))) == len(ROWS)
    wait_for(lambda: service.restart_dead() or bool(service.board.slots[2, PID]))
    assert said[-1] == "the shadow ended with code -9: started again"
    wait_for(lambda: service.board.slots[2, CHALLENGER_SEAT.seen] == 2)
    before = len(read_shadow(service))
    ask_each(get_port(service))
    wait_for(lambda: len(read_shadow(service)) > before)


def test_end_of_the_challenge_and_a_refused_challenger_leave_all_to_the_champion(
    service: Supervisor, releases: list[Path]
) -> None:
    service.end_challenge()
    assert {answer["model"]["version"] for answer in ask_each(get_port(service))} == {1}
    assert not service.challenge(Pointer(3, str(releases[1]), "0" * 64, 3))
    reason = service.find_reason(CHALLENGER_SEAT, 3)
    assert reason.startswith("release")
    assert str(releases[1].parent) not in reason
    assert {answer["model"]["version"] for answer in ask_each(get_port(service))} == {1}
    assert service.challenge(make_pointer(releases[1], 4))
    versions = Counter(answer["model"]["version"] for answer in ask_each(get_port(service)))
    assert set(versions) == {1, 4}
    assert service.promote(make_pointer(releases[1], 5))
    assert set(answer["model"]["version"] for answer in ask_each(get_port(service))) == {4, 5}
