"""Promotions and rollbacks by hand: what is refused, what is recorded, and what is listed."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from labkit import paths
from labkit.artifacts import PLACES
from labkit.cli.main import cli
from labkit.errors import LabkitError, LostStoreError, ParamsError, PromotionError, TrackingError
from labkit.monitoring.delivery_events import measure_delivery
from labkit.params.experiment import Params
from labkit.run.records import ledger, registry, tracking_client
from labkit.run.records.champion_moves import (
    CHAMPION,
    Move,
    find_earlier_champion,
    find_intention,
    load_history,
    load_moves,
)
from labkit.stages import model_versions, promotion, publish
from labkit.storage.locks import hold_lock

from tests.run.small import wait_until
from tests.services import fork
from tests.stages.releases import find_champion, find_release, put_release

pytestmark = pytest.mark.slow


def publish_three(root: Path, params: Params) -> None:
    """Publish three releases, each better than the one before."""
    for columns in ("c", "b", "ab"):
        put_release(root, params, columns)
        publish.publish(params)
    assert find_champion(params) == 3


def list_moves(params: Params) -> list[tuple[str, int | None, int]]:
    return [(move.kind, move.before, move.after) for move in load_moves(params.experiment)]


def make_move(kind: Any, before: int | None, after: int) -> Move:
    return Move("", before, after, kind, "", "", "", "")


@pytest.mark.parametrize(
    ("moves", "current", "earlier"),
    [
        ([], 1, None),
        ([("published", None, 1)], 1, None),
        ([("published", None, 1), ("promoted", 1, 2)], 2, 1),
        ([("published", None, 1), ("published", 1, 2), ("published", 2, 3), ("rolled back", 3, 2)], 2, 1),
        ([("published", 1, 2), ("published", 2, 3), ("rolled back", 3, 2), ("published", 2, 4)], 4, 2),
        ([("found", None, 7), ("published", 7, 8)], 8, 7),
        # The last move was made without labkit.
        ([("published", 3, 4)], 5, 4),
        ([("published", None, 1), ("published", 1, 2), ("published", 2, 3)], 1, 3),
    ],
)
def test_champion_before_is_the_one_that_was_replaced(
    moves: list[tuple[str, int | None, int]], current: int, earlier: int | None
) -> None:
    assert find_earlier_champion([make_move(*move) for move in moves], current) == earlier


def test_rollbacks_lead_back_one_champion_at_a_time_and_every_move_is_recorded(root: Path, params: Params) -> None:
    publish_three(root, params)
    (find_release(root, params) / "MODEL_CARD.md").write_text("changed")  # why one may have to roll back
    message = promotion.roll_back(params, None, reason=" predictions doubled ")
    assert message == f"{params.experiment} version 2 is the champion again, rolled back from version 3"
    promotion.roll_back(params, None, reason="still wrong")
    assert find_champion(params) == 1
    with pytest.raises(PromotionError, match="no champion before version 1 is recorded, and it stays the champion"):
        promotion.roll_back(params, None, reason="wrong")
    promotion.roll_back(params, 2, reason="repaired")
    assert "version 2 is already the champion" in promotion.roll_back(params, 2, reason="again")
    moves = load_moves(params.experiment)
    assert list_moves(params) == [
        ("published", None, 1),
        ("published", 1, 2),
        ("published", 2, 3),
        ("rolled back", 3, 2),
        ("rolled back", 2, 1),
        ("rolled back", 1, 2),
    ]
    assert moves[3].reason == "predictions doubled"
    assert "over version 1; the lower end is within" in moves[1].reason
    assert [move.at for move in moves] == sorted(move.at for move in moves)
    assert moves[3].by
    # 1, 2 and 3 went into service; 3 was rolled back at once, and 2 only after 3 had replaced it.
    delivery = measure_delivery(params.experiment, since=None, until=datetime.now(UTC))
    assert delivery is not None
    assert [one.deployment.move.after for one in delivery.deployments] == [1, 2, 3]
    assert [one.has_failed for one in delivery.deployments] == [False, False, True]
    assert (delivery.n_registered, delivery.n_unserved) == (3, 0)
    assert delivery.per_week is None, "measured over a few seconds"
    assert moves[3].run == registry.get_version(params.experiment, 2).run_id


def tamper(folder: Path) -> None:
    path = folder / "model.skops"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(("damage", "found"), [(shutil.rmtree, "cannot be fetched"), (tamper, "are not those that")])
@pytest.mark.parametrize("move", [promotion.promote, promotion.roll_back])
def test_version_whose_files_are_lost_or_changed_does_not_become_champion(
    root: Path, params: Params, damage: Callable[[Path], None], found: str, move: Callable[..., str]
) -> None:
    put_release(root, params, "b")
    publish.publish(params)
    place = find_release(root, params)
    put_release(root, params, "ab")
    publish.publish(params)
    damage(place)
    with pytest.raises(PromotionError, match=f"version 1: .*{found}.*: nothing was moved") as caught:
        move(params, 1, reason="it was better")
    assert caught.value.exit_code == 2
    assert find_champion(params) == 2
    assert len(load_moves(params.experiment)) == 2


def test_what_cannot_be_promoted_or_rolled_back_is_one_error_and_moves_nothing(root: Path, params: Params) -> None:
    with pytest.raises(PromotionError, match="has no champion yet"):
        promotion.roll_back(params, None, reason="wrong")
    put_release(root, params, "ab")
    publish.publish(params)
    put_release(root, params, "b")
    publish.publish(params)
    refused: list[tuple[type[LabkitError], str, int | None, str]] = [
        (TrackingError, f"there is no version 9: `labkit models {params.experiment}` lists them", 9, "why"),
        (PromotionError, "version 2 was never the champion, and version 1 stays it", 2, "why"),
        (PromotionError, "no champion before version 1", None, "why"),
        (ParamsError, "--reason is empty", None, " "),
    ]
    for kind, message, number, reason in refused:
        with pytest.raises(kind, match=message) as caught:
            promotion.roll_back(params, number, reason=reason)
        assert caught.value.exit_code == 2
    assert list_moves(params) == [("published", None, 1)]


@pytest.mark.parametrize(("move", "kind"), [(promotion.promote, "promoted"), (promotion.roll_back, "rolled back")])
def test_of_two_moves_at_once_one_is_refused(root: Path, params: Params, move: Callable[..., str], kind: str) -> None:
    publish_three(root, params)
    lock = ledger.find_ledger_path().with_name(f"champion-{params.experiment}.lock")
    with ThreadPoolExecutor() as pool:
        with hold_lock(lock):
            moves = {number: pool.submit(move, params, number, reason="ours") for number in (1, 2)}
            # Both have seen version 3 as the champion, and wait.
            wait_until(lambda: [file.path for file in psutil.Process().open_files()].count(str(lock)) == 3)
        [(number, error)] = [(number, one.exception()) for number, one in moves.items() if one.exception()]
    champion = find_champion(params)
    assert {number, champion} == {1, 2}
    assert isinstance(error, PromotionError)
    state = f"so version {number} is not the champion, but version {champion}: look at"
    assert f"someone else moved the champion at the same time, {state}" in str(error)
    assert list_moves(params)[3:] == [(kind, 3, champion)]


def test_move_made_without_labkit_is_found(root: Path, params: Params) -> None:
    publish_three(root, params)
    registry.set_alias(params.experiment, CHAMPION, registry.get_version(params.experiment, 1))
    promotion.roll_back(params, 2, reason="wrong")
    assert list_moves(params)[-2:] == [("found", 3, 1), ("rolled back", 1, 2)]
    assert load_moves(params.experiment)[-2].by == ""


def test_rollback_without_a_version_undoes_a_move_made_without_labkit(root: Path, params: Params) -> None:
    publish_three(root, params)
    put_release(root, params, "a")
    publish.publish(params)
    client = tracking_client.get_client()
    for moved in (4, 1):
        client.set_registered_model_alias(params.experiment, CHAMPION, str(moved))
        message = promotion.roll_back(params, None, reason="wrong")
        assert message == f"{params.experiment} version 3 is the champion again, rolled back from version {moved}"
        assert list_moves(params)[-2:] == [("found", 3, moved), ("rolled back", moved, 3)]
    promotion.roll_back(params, None, reason="wrong too")
    assert find_champion(params) == 2


def test_models_are_listed_on_80_columns_and_as_json(root: Path, params: Params) -> None:
    path = root / "params" / f"{params.experiment}.yaml"
    path.write_text(params.model_dump_json(exclude_defaults=True))
    try:
        assert "no version is registered yet" in CliRunner().invoke(cli, ["models", params.experiment]).output
        measured = {"value": 44.0123, "low": 38.2, "high": 50.9}
        evaluation = root / "data" / params.experiment / PLACES["evaluation"]
        evaluation.write_text(json.dumps({"metric": "mae", "holdout": {"mae": measured}}))
        put_release(root, params, "b", metrics={"holdout_mae": 44.0123})
        publish.publish(params)
        put_release(root, params, "ab", metrics={"holdout_mae": 0.2})
        publish.publish(params)
        promotion.roll_back(params, 1, reason="predictions doubled since Monday, \x1b[31m said operations")
        shown = CliRunner(env={"COLUMNS": "80"}).invoke(cli, ["models", params.experiment]).output
        assert max(map(len, shown.splitlines())) <= 80
        assert "\x1b" not in shown
        words = " ".join(shown.split())
        assert "44.0 [38.2, 50.9]" in words
        assert "(champion)" in words
        found = json.loads(CliRunner().invoke(cli, ["models", params.experiment, "--json"]).output)
        newest, oldest = found["versions"]
        assert (newest["version"], newest["aliases"], newest["value"], newest["low"]) == (2, [], 0.2, None)
        assert (oldest["aliases"], oldest["low"], oldest["metric"]) == (["champion"], 38.2, "mae")
        assert [move["kind"] for move in oldest["moves"]] == ["published", "rolled back"]
        assert oldest["n_bytes"] > 1000
        every = json.loads(CliRunner().invoke(cli, ["models", "--json"]).output)["experiments"]
        assert {"small": None, params.experiment: 1} == {
            one["experiment"]: one["champion"] and one["champion"]["version"] for one in every
        }
        assert "1 version registered" not in CliRunner().invoke(cli, ["models"]).output
    finally:
        path.unlink()


def test_metric_of_another_evaluation_has_no_interval(root: Path, params: Params) -> None:
    evaluation = root / "data" / params.experiment / PLACES["evaluation"]
    evaluation.write_text(json.dumps({"metric": "mae", "holdout": {"mae": {"value": 1.0, "low": 0.9, "high": 1.1}}}))
    put_release(root, params, "b", metrics={"holdout_mae": 2.0})
    publish.publish(params)
    [version] = model_versions.list_versions(params.experiment)
    assert (version.value, version.low, version.quality) == (2.0, None, "2")


def wait_until_killed(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.fault
@pytest.mark.parametrize("killed_at", ["set_alias", "tag_model"])
def test_move_of_a_killed_process_is_recorded_if_it_was_made(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    publish_three(root, params)
    before = list_moves(params)

    def promote() -> None:
        monkeypatch.setattr(registry, killed_at, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        promotion.promote(params, 1, reason="simpler")

    wait_until_killed(fork(promote))
    is_made = killed_at == "tag_model"
    made = [("promoted", 3, 1)] if is_made else []
    assert find_champion(params) == (1 if is_made else 3)
    assert list_moves(params) == before + made
    assert list_moves(params) == before + made, "once"
    assert ("simpler" in {move.reason for move in load_moves(params.experiment)}) is is_made
    promotion.promote(params, 2, reason="better")
    assert list_moves(params) == [*before, *made, ("promoted", 1 if is_made else 3, 2)]


@pytest.mark.fault
def test_move_of_a_colleague_is_not_taken_for_that_of_a_killed_process(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_three(root, params)
    before, intention = list_moves(params), find_intention(params.experiment)

    def promote() -> None:
        monkeypatch.setattr(registry, "set_alias", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        promotion.promote(params, 1, reason="ours")

    wait_until_killed(fork(promote))
    elsewhere = intention.rename(intention.with_suffix(".ours"))  # a colleague's clone does not have it
    promotion.promote(params, 1, reason="theirs")
    elsewhere.rename(intention)
    assert list_moves(params) == [*before, ("promoted", 3, 1)]
    assert load_moves(params.experiment)[-1].reason == "theirs"
    assert not intention.exists()


@pytest.mark.fault
@pytest.mark.parametrize(("refused", "is_made"), [("registered_model_aliases", False), ("model_version_tags", True)])
def test_move_that_the_store_refused_is_recorded_only_if_it_was_made(
    root: Path, params: Params, refused: str, is_made: bool
) -> None:
    publish_three(root, params)
    put_release(root, params, "a")
    publish.publish(params)
    before = list_moves(params)
    with refuse_writes(refused), pytest.raises(LostStoreError, match="it is full"):
        promotion.promote(params, 4, reason="simpler")
    assert find_intention(params.experiment).exists() is is_made
    assert find_champion(params) == (4 if is_made else 3)
    assert list_moves(params) == before + [("promoted", 3, 4)] * is_made


@contextmanager
def refuse_writes(table: str) -> Iterator[None]:
    """Let the database of the store refuse to write into a table."""
    events = ("insert", "update")
    with closing(sqlite3.connect(paths.get_tracking_uri().removeprefix("sqlite:///"))) as database:
        for event in events:
            database.execute(
                f"create trigger refuse_{event} before {event} on {table} begin select raise(abort, 'it is full'); end"
            )
        try:
            yield
        finally:
            for event in events:
                database.execute(f"drop trigger refuse_{event}")


@pytest.mark.fault
@pytest.mark.parametrize("content", ["", "{", "[]", '{"at": 1}', '{"when": 1}', '{**move, "at": 1}'])
def test_damaged_file_of_a_move_is_removed_with_a_warning(
    root: Path, params: Params, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    put_release(root, params, "b")
    publish.publish(params)
    [move] = load_moves(params.experiment)
    intention = find_intention(params.experiment)
    intention.write_text(content.replace("**move", json.dumps(move.to_dict())[1:-1]))
    assert load_moves(params.experiment) == [move]
    assert not intention.exists()
    assert f"{paths.show_path(intention)} is no record of a move (" in caplog.text
    assert load_history(params.experiment)[1] == [move]
