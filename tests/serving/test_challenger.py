"""A challenger beside the champion: it answers a stable share of the requests, or predicts them in the shadow."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from labkit.cli.main import cli
from labkit.errors import ChampionError, ModelError, ParamsError
from labkit.model.release import bundle
from labkit.run.records import registry
from labkit.serving import prediction_log
from labkit.serving.board import CHALLENGER_SEAT, PID
from labkit.serving.canary import Canary, check_challenger, convert_rows
from labkit.serving.challenger import open_challenger
from labkit.serving.champion import RETRY_SECONDS
from labkit.serving.engine import Engine, load_engine
from labkit.serving.settings import Pointer
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
    assert by_key == {key: {1 + canary.takes(key.encode(), engines[1].digest)} for key in by_key}
    status, content = Client(get_port(service)).ask(
        "/invocations", {"dataframe_records": ROWS[:1]}, headers={"labkit-key": "anna"}
    )
    assert status == 200
    assert {json.loads(content)["model"]["version"]} == by_key["anna"]


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


def test_counts_are_right_over_workers_and_versions(service: Supervisor) -> None:
    port, before = get_port(service), service.board.sum_counts()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: ask_each(port), range(6)))
        list(pool.map(lambda _: Client(port).predict(ROWS * 3), range(4)))
    n_rounds = 6 + 4 * 3
    wanted = {
        "rows": len(FRAME) * n_rounds,
        "values": FRAME.size * n_rounds,
        "numbers": 2 * len(FRAME) * n_rounds,
        "missing_values": int(FRAME.isna().to_numpy().sum()) * n_rounds,
        "requests_200": 6 * len(FRAME) + 4,
    }
    # A request is counted once its response is on its way, so the client may be faster.
    wait_for(lambda: service.board.sum_counts()["requests_200"] - before["requests_200"] >= wanted["requests_200"])
    after = service.board.sum_counts()
    assert {name: after[name] - before[name] for name in wanted} == wanted


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
    assert {answer["model"]["version"] for answer in ask_each(get_port(service))} == {4, 5}


@pytest.mark.parametrize("percent", [1, 10, 50, 100])
def test_share_of_keys_is_that_asked_for_and_grows_with_it(percent: float, engines: list[Engine]) -> None:
    keys = [f"customer {number}".encode() for number in range(4000)]

    def choose(share: float, digest: str) -> set[bytes]:
        canary = Canary(SimpleNamespace(), share, None)  # type: ignore[arg-type]
        return {key for key in keys if canary.takes(key, digest)}

    taken = choose(percent, engines[1].digest)
    assert abs(len(taken) - 40 * percent) < 4 * (4000 * percent / 100 * (1 - percent / 100)) ** 0.5 + 1
    assert taken >= choose(percent / 2, engines[1].digest)
    assert percent == 100 or taken != choose(percent, engines[0].digest)


def test_column_is_the_key_of_rows_that_agree_in_it(engines: list[Engine]) -> None:
    # The digest decides which keys the challenger gets: few values may all be those of the champion.
    champion, challenger = engines[0], replace(engines[1], digest="0" * 64)
    canary = Canary(SimpleNamespace(follow=lambda: challenger), 50, "größe")  # type: ignore[arg-type]
    rows = champion.reader.convert(ROWS)
    routed = {row["größe"]: set() for row in ROWS}
    for given, row in zip(ROWS, rows, strict=True):
        routed[given["größe"]].add(canary.route(champion, [row], b"") is None)
    assert all(len(found) == 1 for found in routed.values())
    assert {True, False} == set().union(*routed.values())


def test_challenger_with_fewer_columns_takes_the_rows_and_one_with_more_is_refused(
    engines: list[Engine], tmp_path: Path
) -> None:
    fewer = load_engine(write_release(tmp_path / "fewer", columns=("a b", "a_b")), digest=None, version=3)
    rows = engines[0].reader.convert(ROWS[:2])
    check_challenger(engines[0], fewer)
    assert convert_rows(engines[0], fewer, rows) == fewer.reader.convert(
        [{name: row[name] for name in ("a b", "a_b")} for row in ROWS[:2]]
    )
    with pytest.raises(ModelError, match="requests to the champion do not fit the challenger: row 0: größe: missing"):
        check_challenger(fewer, engines[0])


class Registry:
    """What a challenger asks the registry, and the supervisor to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.settings = folder, SimpleNamespace(shadow_folder="shadow", canary_percent=10)
        self.versions = {number: registry.Version(number, f"run {number}", f"digest {number}") for number in (1, 2, 3)}
        self.alias: int | None = 2
        self.said: list[str] = []
        self.in_force, self.latest_challenger, self.fault = "", 0, ""
        self.is_slow, self.reason = False, ""
        monkeypatch.setattr(registry, "list_versions", lambda _: list(map(self.record, self.versions.values())))
        monkeypatch.setattr(registry, "find_version", lambda *_, **__: self.versions.get(self.alias or 0))
        monkeypatch.setattr(registry, "get_version", lambda _, number: self.versions[number])
        monkeypatch.setattr("labkit.serving.challenger.fetch_pointer", self.fetch)

    def record(self, version: registry.Version) -> registry.VersionRecord:
        return registry.VersionRecord(version, "", (), {})

    def fetch(self, version: registry.Version, folder: Path, *, generation: int) -> Pointer:
        if self.fault:
            raise ChampionError(self.fault)
        (folder / "releases" / str(generation)).mkdir(parents=True, exist_ok=True)
        return Pointer(generation, str(folder), version.digest, version.number)

    def take_generation(self) -> int:
        self.latest_challenger += 1
        return self.latest_challenger

    def challenge(self, pointer: Pointer) -> bool:
        self.in_force = str(pointer.version)
        return True

    def end_challenge(self) -> None:
        self.in_force = ""

    def has_refused(self, generation: int, *, seat: object) -> bool:
        return False

    def find_reason(self, seat: object, generation: int) -> str:
        return self.reason or "it took too long to load"

    def report(self, line: str) -> None:
        self.said.append(line)


def test_promotion_of_the_challenger_ends_the_challenge_and_a_rollback_does_not_begin_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Registry(monkeypatch, tmp_path)
    champion: Any = SimpleNamespace(experiment="shop", in_force=known.versions[1])
    challenger = open_challenger(champion, "@challenger")

    def follow() -> str:
        challenger.follow(known)  # type: ignore[arg-type]
        return known.in_force

    assert follow() == "2"
    assert known.said.pop() == (
        "version 2 is the challenger: it answers 10 % of the requests and it predicts what the champion predicts, "
        "beside the answers"
    )
    champion.in_force = known.versions[2]
    assert follow() == follow() == ""
    assert known.said == ["no challenger: version 2 is the champion"]
    champion.in_force = known.versions[1]
    assert follow() == ""
    assert known.said[1:] == ["no challenger: version 2 was the champion before"]
    known.alias = 3
    assert follow() == "3"
    known.alias = None
    assert follow() == ""
    assert known.said[-1] == "no challenger: the registry has none for @challenger"
    challenger.which = "latest"
    known.fault = "/home/ann/store: gone"
    assert follow() == ""
    assert known.said[-1] == ("version 3 is refused as challenger, the champion answers all: /home/ann/store: gone")
    state = json.loads((tmp_path / "challenger.json").read_text())
    assert (state["state"], state["version"]) == ("refused", 3)
    assert state["reason"] == "its files cannot be fetched, or are not those that were published"
    known.fault = ""
    assert follow() == ""  # not before a minute has passed
    challenger.refused["digest 3"] = 0.0
    assert follow() == "3"


def test_refusal_ends_when_the_champion_changes_or_after_a_minute_if_loading_took_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Registry(monkeypatch, tmp_path)
    champion: Any = SimpleNamespace(experiment="shop", in_force=known.versions[1])
    challenger, offered = open_challenger(champion, "@challenger"), []

    def challenge(pointer: Pointer) -> bool:
        offered.append(pointer.version)
        known.in_force = "" if known.reason or known.is_slow else str(pointer.version)
        return bool(known.in_force)

    monkeypatch.setattr(known, "challenge", challenge)
    monkeypatch.setattr(known, "has_refused", lambda generation, *, seat: bool(known.reason))

    def follow() -> str:
        challenger.follow(known)  # type: ignore[arg-type]
        return known.in_force

    known.is_slow = True
    assert follow() == follow() == ""
    assert 0 < challenger.refused["digest 2"] - time.monotonic() <= RETRY_SECONDS
    known.is_slow, challenger.refused["digest 2"] = False, time.monotonic()
    assert (follow(), offered) == ("2", [2, 2])
    champion.in_force, known.reason = known.versions[3], "it does not take what the new champion takes"
    assert follow() == follow() == ""
    assert offered == [2, 2, 2]
    assert challenger.refused["digest 2"] == math.inf
    champion.in_force, known.reason = known.versions[1], ""
    assert (follow(), follow(), offered) == ("2", "2", [2, 2, 2, 2])


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("best", "best: not a challenger: name the number of a version, @challenger or latest"),
        ("1", "version 1 is the champion: name another: `labkit models shop`"),
    ],
)
def test_challenger_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, message: str
) -> None:
    known = Registry(monkeypatch, tmp_path)
    champion: Any = SimpleNamespace(experiment="shop", in_force=known.versions[1])
    with pytest.raises(ParamsError) as caught:
        open_challenger(champion, which)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--challenger", "2"], "--challenger and --canary-key are for --canary PERCENT: add it, or leave them out"),
        (
            ["--shadow", "2", "--release", "."],
            "--release: --shadow and --canary take their challenger from the registry",
        ),
        (["--shadow", "2", "--canary", "5", "--challenger", "3"], "--shadow 2 and --challenger 3: there is one"),
        (["--shadow", "2", "--no-log"], "--no-log: --shadow predicts the rows of the log: leave one out"),
        (["--canary", "0"], "0.0 is not in the range 0<x<=100"),
    ],
)
def test_options_that_contradict_each_other(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["serve", "diabetes", *arguments])
    assert message in str(done.exception) + done.output
