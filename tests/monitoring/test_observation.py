"""Outcomes that are fed back count in service and batch as in the pipeline, once, from when they were known, until undone."""

import json
import os
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit import paths
from labkit.errors import ContractError, DataError, LabkitError, MissingDataError, ParamsError
from labkit.model.release import bundle
from labkit.monitoring import observation
from labkit.monitoring.alerts import find_alerts, load_lines
from labkit.monitoring.observation import Observed, list_observations, observe_files, undo_observation
from labkit.monitoring.watch import Work, look
from labkit.monitoring.watch_state import State
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.records import registry
from labkit.run.records.champion_moves import CHAMPION, load_champion
from labkit.serving.batch import predict_file
from labkit.serving.engine import load_engine
from labkit.serving.fed_outcomes import FedOutcomes
from labkit.serving.outcome_lines import Undo
from labkit.serving.outcome_pruning import KEPT_DAYS, prune_outcomes
from labkit.storage.digests import compute_digest

from tests.conftest import call_in_process
from tests.documents import find_commands
from tests.monitoring.observed_shop import (
    ALL,
    ASKED,
    JOINED_ASKED,
    JOINED_SENT,
    NAME,
    RATES,
    SENT,
    promote,
    save,
    work_in_shop,
)
from tests.serving.shop_release import NEEDED, list_orders, write_shop_release

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEYED = SENT.assign(minute=range(len(SENT)))
"""Orders that their minute identifies."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Path]:
    with work_in_shop(tmp_path_factory.mktemp("shop") / "checkout", store) as root:
        yield root


@pytest.fixture
def shop(checkout: Path) -> Iterator[Path]:
    """Return the checkout, with nothing observed."""
    yield checkout
    observation.find_outcomes_path(NAME).unlink(missing_ok=True)


def observe(*files: Path, **options: Any) -> Observed:
    return observe_files(load_params(NAME), files, reason="complete", now=options.pop("now", NOW), **options)


def predict_in_batch(root: Path) -> np.ndarray:
    out = root / "out.csv"
    predict_file(NAME, root / "asked.csv", out, overwrite=True)
    return pd.read_csv(out)["probability_1"].to_numpy()


def open_service(root: Path) -> Any:
    """Return the model as a worker of the service loads it, with the rates of the later orders."""
    folder = paths.find_serving_dir(NAME)
    engine = load_engine(root / "data" / NAME / "release", digest=None, version=None, state_dir=folder)
    assert engine.fed is not None
    if not engine.fed.tables["rates"].rows:
        engine.fed.add("rates", json.dumps({"rows": list_orders(RATES)}).encode())
    return engine


def predict_in_service(engine: Any) -> np.ndarray:
    engine.refresh()
    rows = engine.read(json.dumps({"rows": list_orders(ASKED)}).encode())
    return np.asarray(engine.predict(engine.reader.make_columns(rows))[:, 1])


def predict_in_pipeline(root: Path, *observed: pd.DataFrame) -> np.ndarray:
    opened = bundle.load_release(root / "data" / NAME / "release")
    for rows in observed:
        opened.row_features.observe(rows)
    opened.replace_outcomes(opened.row_features.state_)
    return opened.predict(JOINED_ASKED)[:, 1]


def test_service_and_batch_predict_as_the_pipeline_that_has_seen_the_outcomes(shop: Path) -> None:
    before, after = predict_in_pipeline(shop), predict_in_pipeline(shop, JOINED_SENT)
    assert (before != after).any(), "histories decide"
    service = open_service(shop)
    np.testing.assert_allclose(predict_in_batch(shop), before, rtol=1e-12)
    np.testing.assert_array_equal(predict_in_service(service), before)
    observed = observe(shop / "sent.csv")
    assert (observed.n_new, observed.n_counted) == (40, 40)
    np.testing.assert_allclose(predict_in_batch(shop), after, rtol=1e-12)
    np.testing.assert_array_equal(predict_in_service(service), after)
    np.testing.assert_array_equal(predict_in_service(open_service(shop)), after)
    summary = predict_file(NAME, shop / "asked.csv", shop / "out.csv", overwrite=True)
    assert "40 outcomes since the release counted in the histories" in str(summary)


def test_no_row_sees_an_outcome_before_it_was_known(shop: Path) -> None:
    last = max(ASKED["ordered"].max(), SENT["ordered"].max())
    days = (last - SENT["ordered"]).dt.days + 1
    observe(save(shop / "late.csv", SENT.assign(days_until_known=days)))
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop), rtol=1e-12)
    np.testing.assert_array_equal(predict_in_service(open_service(shop)), predict_in_pipeline(shop))


def test_same_rows_again_change_nothing(shop: Path) -> None:
    observe(save(shop / "first.csv", SENT[:25]))
    again = observe(shop / "sent.csv", shop / "first.csv")
    assert (again.n_new, again.n_known, again.n_counted) == (15, 50, 40)
    content = observation.find_outcomes_path(NAME).read_bytes()
    same = observe(shop / "sent.csv")
    assert (same.id, same.n_new, same.n_known) == ("", 0, 40)
    assert observation.find_outcomes_path(NAME).read_bytes() == content
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop, JOINED_SENT), rtol=1e-12)


def test_observation_is_recorded_and_undone(shop: Path) -> None:
    first, second = observe(save(shop / "first.csv", SENT[:25])), observe(save(shop / "second.csv", SENT[25:]))
    service = open_service(shop)
    undone = undo_observation(load_params(NAME), first.id, reason="wrong file", now=NOW)
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop, JOINED_SENT[25:]), rtol=1e-12)
    np.testing.assert_array_equal(predict_in_service(service), predict_in_pipeline(shop, JOINED_SENT[25:]))
    assert undo_observation(load_params(NAME), first.id, reason="again", now=NOW) == undone, "changes nothing"
    found = [one.to_dict() for one in list_observations(NAME)]
    assert [(one["id"], one["n_outcomes"], one["reason"], [*one["files"]]) for one in found] == [
        (first.id, 25, "complete", ["first.csv"]),
        (second.id, 15, "complete", ["second.csv"]),
    ]
    assert (found[0]["undone"]["reason"], found[1]["undone"]) == ("wrong file", None)
    assert "@" in found[0]["by"]
    assert observe(shop / "sent.csv", is_unattended=True).n_undone == 25
    assert observe(shop / "sent.csv").n_new == 25, "by hand, they may be observed again"
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop, JOINED_SENT), rtol=1e-12)
    with pytest.raises(ParamsError, match="no observation 'x'"):
        undo_observation(load_params(NAME), "x", reason="r", now=NOW)


def test_killed_observation_counts_nothing(shop: Path) -> None:
    observe(shop / "sent.csv")
    path = observation.find_outcomes_path(NAME)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop), rtol=1e-12)
    assert observe(shop / "sent.csv").n_new == 40
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop, JOINED_SENT), rtol=1e-12)


REFUSED = [
    (SENT.assign(returned=1 - SENT["returned"]), DataError, r"bad.csv: row 1: its outcome \(.*\) contradicts .* undo that observation first"),
    (SENT.assign(ordered=SENT["ordered"] + pd.Timedelta(days=9999)), DataError,
     "bad.csv: row 1: its outcome becomes known at 2051-.*Z, later than now, as it does of 40 rows in all"),
    (SENT.assign(ordered=SENT["ordered"] - pd.Timedelta(days=75)), DataError,
     "bad.csv: row 1: its outcome became known at 2024-02-26T06:00:00Z, no later than the release's last outcome, at "
     "2024-03-13T08:00:00Z, so it cannot be added; 40 rows in all: give later rows only"),
    (SENT.assign(days_until_known=0), DataError, "bad.csv: row 1: known_at: not after the time of prediction"),
    (SENT.drop(columns="returned"), DataError, "bad.csv: no column 'returned'"),
    (SENT.drop(columns="gift"), ContractError, "bad.csv violates its contract: column 'gift' is missing"),
    (SENT.assign(colour="red"), ContractError, "column 'colour' is new"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "kind", "message"), REFUSED)
def test_faulty_rows_are_refused_and_nothing_changes(
    shop: Path, rows: pd.DataFrame, kind: type[LabkitError], message: str
) -> None:
    observe(save(shop / "first.csv", SENT[:5]))
    content = observation.find_outcomes_path(NAME).read_bytes()
    with pytest.raises(kind, match=message) as caught:
        observe(save(shop / "second.csv", SENT[5:9]), save(shop / "bad.csv", rows))
    assert caught.value.exit_code == 2
    assert observation.find_outcomes_path(NAME).read_bytes() == content


def test_outcomes_too_early_to_be_added_are_left_out_on_request(shop: Path) -> None:
    old = SENT[:10].assign(ordered=SENT["ordered"] - pd.Timedelta(days=75))
    observed = observe(save(shop / "all.csv", pd.concat([old, SENT[10:]])), is_new_only=True)
    assert (observed.n_new, observed.n_early) == (30, 10)
    assert "; 10 left out: known no later than the release's last outcome (2024-03-13T08:00:00Z)\n" in str(observed)


def test_equal_rows_with_other_outcomes_need_a_key(shop: Path) -> None:
    twice = pd.concat([SENT[:3], SENT[:1].assign(returned=1 - SENT["returned"][0])])
    with pytest.raises(DataError, match="row 4: .* that of the same row at .*row 1: name the column .* with --key"):
        observe(save(shop / "twice.csv", twice))
    keyed = twice.assign(minute=[1, 2, 3, 4])
    rates = shop / "data" / "rates.csv"
    assert observe(save(shop / "keyed.csv", keyed), key="minute", tables={"rates": rates}).n_new == 4
    record = list_observations(NAME)[-1].record
    assert (record.key, record.tables) == ("minute", {"data/rates.csv": compute_digest(rates)})
    assert observe(shop / "keyed.csv", key="minute").n_known == 4
    with pytest.raises(ParamsError, match="--key minutes: .* did you mean 'minute'"):
        observe(shop / "keyed.csv", key="minutes")


def test_rows_are_the_same_with_and_without_a_key(shop: Path) -> None:
    keyed = save(shop / "keyed.csv", KEYED)
    observe(keyed)
    with_key = observe(keyed, key="minute")
    assert (with_key.n_new, with_key.n_known, with_key.n_counted) == (0, 40, 40)
    observation.find_outcomes_path(NAME).unlink()
    observe(keyed, key="minute")
    without = observe(keyed)
    assert (without.n_new, without.n_known, without.n_counted) == (0, 40, 40)
    with pytest.raises(DataError, match="row 1: .* contradicts .* what was observed before"):
        observe(save(shop / "revised.csv", KEYED.assign(returned=1 - KEYED["returned"])))


def test_keyed_rows_that_contradict_what_has_no_key_are_refused(shop: Path) -> None:
    observe(save(shop / "keyed.csv", KEYED))
    revised = save(shop / "revised.csv", KEYED.assign(returned=1 - KEYED["returned"]))
    with pytest.raises(DataError, match="row 1: .* contradicts .* without --key, or sent to the service with another"):
        observe(revised, key="minute")


def test_equal_rows_with_keys_each_count(shop: Path) -> None:
    twice = save(shop / "twice.csv", pd.concat([KEYED[:3], KEYED[:1]]).assign(minute=[1, 2, 3, 4]))
    observe(save(shop / "without.csv", KEYED[:5].assign(minute=1)))
    for n_new in (1, 0):
        found = observe(twice, key="minute")
        assert (found.n_new, found.n_known, found.n_counted) == (n_new, 4 - n_new, 6)


def send_to_service(root: Path, ids: list[str]) -> None:
    at = JOINED_SENT["outcome_known_at"].astype(str)
    rows = zip(ids, list_orders(KEYED.drop(columns="returned")), KEYED["returned"], at, strict=False)
    sent = [{"id": id, "row": row, "true": int(true), "known_at": at} for id, row, true, at in rows]
    open_service(root).outcomes.add(json.dumps({"outcomes": sent}).encode())


@pytest.mark.parametrize("step", [1, -1])
def test_order_of_files_does_not_matter(shop: Path, step: int) -> None:
    send_to_service(shop, ["50"])
    files = [save(shop / f"{minute}.csv", KEYED[:3].assign(minute=[minute, 2, 3])) for minute in (1, 50)]
    observed = observe(*files[::step], key="minute")
    assert (observed.n_new, observed.n_known, observed.n_counted) == (3, 3, 4)


@pytest.mark.parametrize("key", ["", "minute"])
def test_outcomes_that_the_service_was_sent_are_known(shop: Path, key: str) -> None:
    send_to_service(shop, [f"n{n}" for n in range(30)])
    observed = observe(save(shop / "keyed.csv", KEYED), key=key)
    assert (observed.n_new, observed.n_known, observed.n_counted) == (10, 30, 40)
    np.testing.assert_allclose(predict_in_batch(shop), predict_in_pipeline(shop, JOINED_SENT), rtol=1e-12)


def test_undo_names_the_outcomes_that_a_later_release_may_hold(shop: Path) -> None:
    first, champion = observe(save(shop / "first.csv", SENT[:25])), load_champion(NAME)
    orders = pd.concat([ALL["orders"], SENT[:25]], ignore_index=True)
    try:
        promote(write_shop_release(shop / "later", tables={**ALL, "orders": orders.sort_values("ordered")}))
        said = [str(undo_observation(load_params(NAME), first.id, reason="wrong", now=NOW)) for _ in range(2)]
    finally:
        registry.set_alias(NAME, CHAMPION, champion)
    assert said[0].splitlines() == said[1].splitlines()
    assert "; of its 25 outcomes, 0 no longer count\n25 of them became known no later than the last" in said[0]
    assert "release of version 2: if it was trained with them, they still count there: train again" in said[0]


def make_older(path: Path) -> None:
    """Let the lines of a file of outcomes have been written before they may be removed."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    older = [{**line, "time": line["time"] - (KEPT_DAYS + 1) * 86_400} for line in lines]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in older))


@pytest.mark.parametrize("is_pruned_meanwhile", [False, True])
def test_undo_names_them_also_when_they_may_be_removed(
    shop: Path, monkeypatch: pytest.MonkeyPatch, is_pruned_meanwhile: bool
) -> None:
    first, champion = observe(save(shop / "first.csv", SENT[:25])), load_champion(NAME)
    path = observation.find_outcomes_path(NAME)
    orders = pd.concat([ALL["orders"], SENT[:25]], ignore_index=True)
    record_undo = FedOutcomes.undo

    def undo(outcomes: FedOutcomes, line: Undo) -> None:
        if is_pruned_meanwhile:  # as by a service
            assert prune_outcomes(path, held_until=outcomes.held_until, now=time.time()) == 25
        record_undo(outcomes, line)

    monkeypatch.setattr(FedOutcomes, "undo", undo)
    try:
        promote(write_shop_release(shop / "later", tables={**ALL, "orders": orders.sort_values("ordered")}))
        make_older(path)
        said = str(undo_observation(load_params(NAME), first.id, reason="wrong", now=NOW))
    finally:
        registry.set_alias(NAME, CHAMPION, champion)
    assert "; of its 25 outcomes, 0 no longer count\n25 of them became known no later than the last" in said
    assert [one.record.n_removed for one in list_observations(NAME)] == [25 if is_pruned_meanwhile else 0]


def test_outcomes_that_a_later_release_holds_are_removed_in_time(shop: Path) -> None:
    first, champion = observe(save(shop / "first.csv", SENT[:25])), load_champion(NAME)
    path = observation.find_outcomes_path(NAME)
    orders = pd.concat([ALL["orders"], SENT[:25]], ignore_index=True)
    later, asked = (rows.assign(ordered=rows["ordered"] + pd.Timedelta(days=400)) for rows in (SENT[25:], ASKED))
    save(shop / "later.csv", asked)

    def predict() -> np.ndarray:
        predict_file(NAME, shop / "later.csv", shop / "out.csv", overwrite=True)
        return pd.read_csv(shop / "out.csv")["probability_1"].to_numpy()

    try:
        promote(write_shop_release(shop / "later", tables={**ALL, "orders": orders.sort_values("ordered")}))
        before = predict()
        observe(save(shop / "second.csv", later[:8]))
        make_older(path)
        whole = path.read_bytes()
        third = observe(save(shop / "third.csv", later[8:]))
        assert [one.record.n_removed for one in list_observations(NAME)] == [25, 0, 0]
        assert (third.n_new, third.n_counted) == (7, 15)
        pruned, predicted = path.read_bytes(), predict()
        assert (predicted != before).any()
        whole += b"".join(pruned.splitlines(keepends=True)[-2:])
        path.write_bytes(whole)
        np.testing.assert_array_equal(predict(), predicted)
        path.write_bytes(pruned)
        assert len(pruned) < len(whole) - 25 * 100
        undone = str(undo_observation(load_params(NAME), first.id, reason="wrong", now=NOW))
        assert "; of its 25 outcomes, 0 no longer count\n25 of them became known no later than the last" in undone
        np.testing.assert_array_equal(predict(), predicted)
    finally:
        registry.set_alias(NAME, CHAMPION, champion)


def test_outcomes_that_the_champion_cannot_count_are_named(shop: Path) -> None:
    observe(save(shop / "first.csv", SENT[:25]))
    champion = load_champion(NAME)
    try:
        promote(write_shop_release(shop / "narrow", columns=[name for name in NEEDED if name != "gift"]))
        found = observe(save(shop / "second.csv", SENT[25:]))
        listed = call_in_process(shop, "observe", NAME).stdout
    finally:
        registry.set_alias(NAME, CHAMPION, champion)
    version = load_champion(NAME).number + 1
    assert (found.n_new, found.n_refused, found.n_counted) == (15, 25, 15)
    for said in (str(found), listed):
        assert f"25 recorded outcomes cannot be counted by version {found.version}, as when its inputs" in said
    assert found.version >= version


def test_of_contradicting_outcomes_none_counts_unattended(shop: Path) -> None:
    other = SENT[:3].assign(returned=[1 - SENT["returned"][0], *SENT["returned"][1:3]])
    files = [save(shop / "first.csv", pd.concat([SENT[:3], SENT[:1]])), save(shop / "other.csv", other)]
    found = observe(*files, is_unattended=True)
    assert (found.n_new, found.n_known, found.n_contradicting, found.n_counted) == (2, 2, 3, 2)
    assert "other.csv: row 1: its outcome (" in found.contradiction
    corrected = observe(files[1], is_unattended=True)
    assert (corrected.n_new, corrected.n_known, corrected.n_contradicting) == (1, 2, 0)
    undo_observation(load_params(NAME), corrected.id, reason="wrong after all", now=NOW)
    found = observe(*files, is_unattended=True)
    assert (found.n_new, found.n_known, found.n_undone) == (1, 5, 1), "what was undone contradicts nothing"


def test_watch_feeds_the_rest_of_a_file_with_a_revised_outcome(shop: Path) -> None:
    apply_overrides(NAME, ["monitoring.incoming=arrived.csv", "monitoring.observe=true"])
    lines: list[str] = []
    work = Work(timedelta(hours=1), None, lines.append)

    def arrive(rows: pd.DataFrame) -> list[tuple[str, str]]:
        os.utime(save(shop / "arrived.csv", rows), (0, 0))
        lines.clear()
        look(State(NAME), work, now=datetime.now(UTC), is_forced=True)
        return [(one["event"], one["evidence"]) for one in load_lines(NAME) if one["code"] == "LK728"]

    find_alerts(NAME).unlink(missing_ok=True)
    arrive(SENT[:25])
    revised = SENT.assign(returned=SENT["returned"].where(SENT.index >= 1, 1 - SENT["returned"]))
    assert arrive(revised) == []
    assert "15 new outcomes" in "\n".join(lines)
    assert "24 known before; 1 left out, as they contradict others (" in "\n".join(lines)
    assert "arrived.csv: row 1: its outcome (" in "\n".join(lines)
    ((event, evidence),) = arrive(SENT.assign(days_until_known=0))
    assert (event, "known_at: not after the time of prediction" in evidence) == ("opened", True)
    assert [event for event, _ in arrive(SENT)] == ["opened", "resolved"]


def test_watch_tries_again_after_a_failure_of_the_disk(shop: Path) -> None:
    apply_overrides(NAME, ["monitoring.incoming=arrived.csv", "monitoring.observe=true"])
    os.utime(save(shop / "arrived.csv", SENT), (0, 0))
    path, state, lines = observation.find_outcomes_path(NAME), State(NAME), list[str]()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(shop / "unmounted" / "outcomes.jsonl")
    try:
        look(state, Work(timedelta(hours=1), None, lines.append), now=datetime.now(UTC), is_forced=True)
    finally:
        path.unlink()
    (line,) = [line for line in lines if "outcomes.jsonl: cannot be written" in line]
    assert f"{NAME}: failed: " in line


def test_watch_feeds_back_what_arrives_but_nothing_that_was_undone(shop: Path) -> None:
    apply_overrides(NAME, ["monitoring.incoming=arrived.csv", "monitoring.observe=true"])
    lines: list[str] = []
    work = Work(timedelta(hours=1), None, lines.append)
    for n_rows, message in ((25, "25 new outcomes"), (40, "15 new outcomes (observation {id}); 25 known before")):
        os.utime(save(shop / "arrived.csv", SENT[:n_rows]), (0, 0))
        lines.clear()
        look(State(NAME), work, now=datetime.now(UTC), is_forced=True)
        made = list_observations(NAME)
        assert f"{NAME} v1: {message.format(id=made[-1].record.id)}" in "\n".join(lines)
    undo_observation(load_params(NAME), made[0].record.id, reason="wrong", now=NOW)
    lines.clear()
    look(State(NAME), work, now=datetime.now(UTC), is_forced=True)
    assert "0 new outcomes; 15 known before; 25 of an observation that was undone" in "\n".join(lines)
    corrected = SENT.assign(returned=SENT["returned"].where(SENT.index >= 5, 1 - SENT["returned"]))
    os.utime(save(shop / "arrived.csv", corrected), (0, 0))
    lines.clear()
    look(State(NAME), work, now=datetime.now(UTC), is_forced=True)
    id = list_observations(NAME)[-1].record.id
    assert f"5 new outcomes (observation {id}); 15 known before; 20 of an" in "\n".join(lines)
    observe(save(shop / "by_hand.csv", SENT[5:15]))
    lines.clear()
    look(State(NAME), work, now=datetime.now(UTC), is_forced=True)
    assert "0 new outcomes; 30 known before; 10 of an observation that was undone" in "\n".join(lines)
    save(shop / "arrived.csv", SENT.drop(columns="gift"))
    os.utime(shop / "arrived.csv", (0, 0))
    look(State(NAME), work, now=datetime.now(UTC), is_forced=True)
    assert "arrived.csv violates its contract: column 'gift' is missing" in "\n".join(lines)


def test_command_observes_lists_and_undoes(shop: Path) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        done = call_in_process(shop, "observe", *arguments)
        return done.returncode, done.stdout + done.stderr

    assert call(NAME) == (0, f"{NAME}: nothing was observed yet: name files with rows whose outcomes became known\n")
    code, said = call(NAME, "sent.csv", "--reason", "month is complete")
    assert (code, said.splitlines()[-1]) == (0, "its histories count 40 outcomes besides those of the release")
    (found,) = json.loads(call(NAME, "--json")[1])
    assert (found["reason"], found["n_outcomes"], found["undone"]) == ("month is complete", 40, None)
    assert call(NAME, "--undo", found["id"])[0] == 2, "without a reason"
    code, said = call(NAME, "--undo", found["id"], "--reason", "wrong file")
    assert (code, "its 40 outcomes no longer count" in said) == (0, True)
    assert "wrong file" in call(NAME)[1]
    assert call(NAME, "sent.csv", "--table", "rate=x.csv")[0] == 2
    assert "need a FILE with outcomes: name one" in call(NAME, "--new-only", "--key", "x")[1]
    assert call(NAME, "--new-only")[0] == 2


def test_documented_commands_work(shop: Path) -> None:
    save(shop / "november.csv", SENT)
    for command in find_commands("docs/observing.md"):
        latest = list_observations(NAME)[-1].record.id if list_observations(NAME) else ""
        words = [{"flights": NAME, "3f9a01c2": latest}.get(word, word) for word in shlex.split(command)[1:]]
        assert call_in_process(shop, *words).returncode == 0, words
    assert list_observations(NAME)[-1].undo is not None


def test_file_that_does_not_exist_is_named(shop: Path) -> None:
    with pytest.raises(MissingDataError, match="sen.csv: no such file: did you mean 'sent.csv'"):
        observe(shop / "sen.csv")
