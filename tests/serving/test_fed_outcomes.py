"""Outcomes that are sent to a running service count in the histories of its model as they do in the pipeline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.joins import join_tables
from labkit.model.release import bundle
from labkit.serving import fed_outcomes
from labkit.serving.engine import Engine, load_engine
from labkit.serving.requests import RequestError

from tests.serving.running import Client, get_port, make_pointer, start, wait_for
from tests.serving.shop_release import TABLES, list_orders, write_shop_release
from tests.timed_shop import DATA, make_tables

LATER = make_tables(n_orders=80, seed=2)["orders"]
LATER["ordered"] += pd.Timedelta(days=75)
"""Orders after all of those that the release was trained on; half of them become known, the others are asked about."""
SENT, ASKED = LATER[:40], LATER[40:].assign(customer=LATER["customer"][:40].to_numpy())
WEATHER = {**TABLES, "rates": TABLES["rates"].assign(at=TABLES["rates"]["at"] + pd.Timedelta(days=75))}
JOINED_SENT, JOINED_ASKED = (join_tables({**WEATHER, "orders": rows}, DATA) for rows in (SENT, ASKED))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


def open_engine(release: Path, folder: Path) -> Engine:
    """Return the model as a worker loads it, with the rates of the later orders."""
    engine = load_engine(release, digest=None, version=None, state_dir=folder)
    assert engine.fed is not None
    if not engine.fed.tables["rates"].rows:
        engine.fed.add("rates", json.dumps({"rows": list_orders(WEATHER["rates"])}).encode())
    return engine


def make_outcomes(joined: pd.DataFrame = JOINED_SENT) -> list[dict[str, Any]]:
    """Return outcomes of orders as a client sends them."""
    rows = list_orders(SENT.drop(columns=["returned"]))
    known_at = joined["outcome_known_at"].astype(str)
    return [
        {"id": f"order {number}", "row": row, "true": int(true), "known_at": at}
        for number, (row, true, at) in enumerate(zip(rows, joined["returned"], known_at, strict=True))
    ]


OUTCOMES = make_outcomes()


def send(engine: Engine, *outcomes: Any) -> dict[str, int]:
    assert engine.outcomes is not None
    return engine.outcomes.add(json.dumps({"outcomes": list(outcomes)}).encode())


def tell(engine: Engine) -> dict[str, Any]:
    assert engine.outcomes is not None
    return engine.outcomes.describe()


def predict(engine: Engine) -> np.ndarray:
    rows = engine.read(json.dumps({"rows": list_orders(ASKED)}).encode())
    return engine.predict(engine.reader.make_columns(rows))


def predict_in_pipeline(release: Path, *observed: pd.DataFrame) -> np.ndarray:
    """Return the predictions of a batch that has observed rows, as a run with these rows does."""
    opened = bundle.load_release(release)
    for rows in observed:
        opened.row_features.observe(rows)
    assert opened.graph is not None
    if opened.graph.compiled is not None:
        opened.graph.compiled.index = opened.row_features.make_history_index()
    return opened.predict(JOINED_ASKED)


def test_service_predicts_as_the_pipeline_that_has_seen_the_outcomes(release: Path, tmp_path: Path) -> None:
    first = open_engine(release, tmp_path)
    second = open_engine(release, tmp_path)
    before, after = predict_in_pipeline(release), predict_in_pipeline(release, JOINED_SENT)
    assert (before != after).any(), "histories decide"
    np.testing.assert_array_equal(predict(first), before)
    assert send(first, *OUTCOMES[:30]) == {"recorded": 30, "outcomes": 30}
    assert send(first, *OUTCOMES[20:]) == {"recorded": 20, "outcomes": 40}, "sent twice, counted once"
    np.testing.assert_array_equal(predict(first), after)
    second.refresh()
    np.testing.assert_array_equal(predict(second), after)
    np.testing.assert_array_equal(predict(open_engine(release, tmp_path)), after)
    assert (tmp_path / "outcomes.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_outcome_does_not_count_before_it_is_known(release: Path, tmp_path: Path) -> None:
    engine, ends = open_engine(release, tmp_path), LATER["ordered"].max()
    late = JOINED_SENT.assign(outcome_known_at=(ends + pd.Timedelta(seconds=1)).tz_localize("UTC"))
    send(engine, *make_outcomes(late))
    np.testing.assert_array_equal(predict(engine), predict_in_pipeline(release))


def test_outcomes_that_the_release_holds_are_not_counted_again(release: Path, tmp_path: Path) -> None:
    engine = open_engine(release, tmp_path)
    assert engine.outcomes is not None
    held_until = np.datetime64(engine.outcomes.held_until, "us")
    old = {**OUTCOMES[0], "id": "old", "known_at": f"{held_until}Z",
           "row": {**OUTCOMES[0]["row"], "ordered": f"{held_until - np.timedelta64(1, 'h')}Z"}}  # fmt: skip
    assert send(engine, old, OUTCOMES[1]) == {"recorded": 2, "outcomes": 1}
    told = tell(engine)
    assert (told["counted"], told["in_release"], told["damaged_lines"]) == (1, 1, 0)
    assert told["latest"] == OUTCOMES[1]["known_at"].replace(" ", "T").replace("+00:00", ".000000Z")
    assert 0 <= told["age_seconds"] < 60


def test_a_later_outcome_of_the_same_row_replaces_the_earlier_one(release: Path, tmp_path: Path) -> None:
    engine = open_engine(release, tmp_path)
    send(engine, *({**one, "true": 1 - one["true"]} for one in OUTCOMES))
    assert (predict(engine) != predict_in_pipeline(release, JOINED_SENT)).any()
    send(engine, *OUTCOMES)
    np.testing.assert_array_equal(predict(engine), predict_in_pipeline(release, JOINED_SENT))


def test_what_is_sent_again_is_not_written_again(release: Path, tmp_path: Path) -> None:
    engine, other = open_engine(release, tmp_path), open_engine(release, tmp_path)
    path = tmp_path / "outcomes.jsonl"
    send(engine, *OUTCOMES)
    n_bytes = path.stat().st_size
    for _ in range(3):
        assert send(other, *OUTCOMES) == {"recorded": 40, "outcomes": 40}
    assert path.stat().st_size < n_bytes + 200
    changed = {**OUTCOMES[0], "true": 1 - OUTCOMES[0]["true"]}
    for one in (changed, OUTCOMES[0]):
        send(other, one)
    assert path.stat().st_size > n_bytes + 200
    send(engine, OUTCOMES[1])
    np.testing.assert_array_equal(predict(engine), predict_in_pipeline(release, JOINED_SENT))
    np.testing.assert_array_equal(predict(open_engine(release, tmp_path)), predict(engine))
    assert tell(open_engine(release, tmp_path))["damaged_lines"] == 0


FORM = f"send {fed_outcomes.FORM}, at most 10,000 outcomes"
REFUSED = [
    ({"outcomes": []}, 422, f"outcomes: expected array of length >= 1: {FORM}"),
    ({"outcomes": [OUTCOMES[1], {**OUTCOMES[0], "id": ""}]}, 422, f"row 1: id: expected str of length >= 1: {FORM}"),
    ({"outcomes": [{**OUTCOMES[0], "true": None}]}, 422, f"row 0: true: expected bool | float | str, got null: {FORM}"),
    ({"outcomes": [{"id": "x"}]}, 422, f"row 0: object missing required field row: {FORM}"),
    ([], 422, f"the body: expected object, got array: {FORM}"),
    ({"outcomes": [OUTCOMES[0], {**OUTCOMES[1], "true": "lost"}]}, 422, "row 1: true: no class of the model: 0; 1"),
    ({"outcomes": [{**OUTCOMES[0], "known_at": "soon"}]}, 422,
     "row 0: known_at: not an ISO 8601 time"),
    ({"outcomes": [OUTCOMES[0], {**OUTCOMES[1], "known_at": OUTCOMES[1]["row"]["ordered"]}]}, 422,
     "row 1: known_at: not after the time of prediction"),
    ({"outcomes": [{**OUTCOMES[0], "known_at": ""}]}, 422, "row 0: known_at: not an ISO 8601 time"),
    ({"outcomes": [{**OUTCOMES[0], "row": {"kind": "shoe"}}]}, 422, "row 0: customer: missing: send null if it is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), REFUSED)
def test_faulty_outcome_is_refused_and_nothing_is_kept(
    release: Path, tmp_path: Path, body: Any, status: int, message: str
) -> None:
    engine = open_engine(release, tmp_path)
    assert engine.outcomes is not None
    with pytest.raises(RequestError) as caught:
        engine.outcomes.add(json.dumps(body).encode())
    assert (caught.value.status, caught.value.faults[0].message) == (status, message)
    assert not (tmp_path / "outcomes.jsonl").exists()


def test_names_that_repeat_and_deep_nesting_are_refused(release: Path, tmp_path: Path) -> None:
    engine, one = open_engine(release, tmp_path), json.dumps(OUTCOMES[0])
    assert engine.outcomes is not None
    twice = one.replace('"price"', '"price": 1, "price"')
    for body in (f'{{"outcomes": [{twice}]}}', '{"outcomes":' + "[" * 5000):
        with pytest.raises(RequestError) as caught:
            engine.outcomes.add(body.encode())
        assert caught.value.status in (400, 422)


def test_outcomes_are_bounded(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(release, tmp_path)
    monkeypatch.setattr(fed_outcomes, "MOST_FED_OUTCOMES", 10)
    with pytest.raises(RequestError, match="there would be 11 outcomes, at most 10 are kept: remove outcomes.jsonl"):
        send(engine, *OUTCOMES[:11])
    monkeypatch.setattr(fed_outcomes, "MOST_FED_BYTES", 100)
    with pytest.raises(RequestError, match="the file of outcomes would have .* bytes, at most 100 are kept") as caught:
        send(engine, OUTCOMES[0])
    assert caught.value.status == 413


def test_damaged_lines_are_counted_and_a_removed_file_is_forgotten(release: Path, tmp_path: Path) -> None:
    send(open_engine(release, tmp_path), *OUTCOMES)
    path = tmp_path / "outcomes.jsonl"
    strange = json.dumps({"time": 1.0, "outcomes": [{**OUTCOMES[0], "id": "x", "true": 7}]})
    path.write_bytes(b"not json\n" + strange.encode() + b"\n" + path.read_bytes() + b'{"torn')
    engine = open_engine(release, tmp_path)
    assert (tell(engine)["damaged_lines"], tell(engine)["refused_outcomes"], tell(engine)["counted"]) == (1, 1, 40)
    np.testing.assert_array_equal(predict(engine), predict_in_pipeline(release, JOINED_SENT))
    path.unlink()
    engine.refresh()
    np.testing.assert_array_equal(predict(engine), predict_in_pipeline(release))


@pytest.mark.slow
@pytest.mark.xdist_group("service")
def test_running_service_counts_what_it_is_sent_in_all_processes(tmp_path: Path, release: Path) -> None:
    with start(tmp_path, release, n_workers=2) as supervisor:
        client = Client(get_port(supervisor))
        assert client.ask("/tables/rates", {"rows": list_orders(WEATHER["rates"])})[0] == 200
        status, content = client.ask("/outcomes", {"outcomes": OUTCOMES})
        assert (status, json.loads(content)) == (200, {"recorded": 40, "outcomes": 40})
        expected = predict_in_pipeline(release, JOINED_SENT)[:, 1].tolist()

        def ask_all() -> bool:
            answers = [Client(get_port(supervisor)).ask("/predict", {"rows": list_orders(ASKED)}) for _ in range(12)]
            found = [json.loads(content).get("probabilities", []) for _, content in answers]
            return all([row["1"] for row in one] == expected for one in found)

        wait_for(ask_all)
        assert json.loads(client.ask("/health")[1])["outcomes"]["counted"] == 40
        assert client.ask("/outcomes", {"outcomes": [{**OUTCOMES[0], "true": "lost"}]})[0] == 422
        assert supervisor.promote(make_pointer(write_shop_release(tmp_path / "other"), 2))
        wait_for(ask_all)
