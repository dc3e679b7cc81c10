"""Labels: the queue, what is stored, agreement, exchange with other tools, and labels in bulk."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.cli.main import call, cli
from labkit.data.joins import join_tables
from labkit.data.labels import agreement, bulk, exchange
from labkit.data.labels.judgements import (
    MODEL,
    Judgement,
    add_judgement,
    check_judgement,
    make_judgement,
    read_judgements,
    take_back,
)
from labkit.data.labels.queue import make_queue, order_at_random
from labkit.data.labels.summary import summarize_labels
from labkit.errors import DataError, LabkitError, ParamsError
from labkit.params.tables import Data
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

SOURCE = "new.csv:id"
AT = "2026-01-01T00:00:00.000+00:00"
KEYS = pd.Series([f"k{number}" for number in range(100)], name="id")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    return tmp_path


def judge(key: str, label: str | None, annotator: str = "ana", **details: object) -> Judgement:
    return replace(make_judgement(SOURCE, key, label, annotator=annotator, **details), at=AT)


def test_queue_holds_the_least_certain_rows_and_a_share_drawn_at_random() -> None:
    certain = np.linspace(0.5, 1.0, 100)
    proba = np.column_stack([certain, 1 - certain])
    queue = make_queue(KEYS, n_rows=20, seed=0, proba=proba, random_share=0.25)
    assert Counter(queue["drawn"]) == {"random": 5, "uncertainty": 15}
    drawn = set(queue.loc[queue["drawn"] == "random", "key"])
    least_certain = [key for key in KEYS if key not in drawn][:15]
    assert {*queue.loc[queue["drawn"] == "uncertainty", "key"]} == {*least_certain}
    assert (queue["key"] == KEYS[queue.index]).all()
    assert queue["drawn"].tolist() != sorted(queue["drawn"])
    pd.testing.assert_frame_equal(queue, make_queue(KEYS, n_rows=20, seed=0, proba=proba, random_share=0.25))
    again = make_queue(KEYS, n_rows=100, seed=0, proba=proba, done=queue["key"])
    assert len(again) == 80
    assert not {*again["key"]} & {*queue["key"]}


def test_queue_by_disagreement_holds_the_rows_on_which_two_models_differ() -> None:
    first, second = np.tile([0.9, 0.1], (100, 1)), np.tile([0.9, 0.1], (100, 1))
    second[:10] = [0.1, 0.9]
    queue = make_queue(KEYS, n_rows=10, seed=0, proba=first, other_proba=second)
    chosen = queue[queue["drawn"] == "disagreement"]
    assert {*chosen["key"]} <= {*KEYS[:10]}
    assert len(chosen) == 8
    assert {*make_queue(KEYS, n_rows=10, seed=0)["drawn"]} == {"random"}


@pytest.mark.parametrize(
    ("keys", "options", "words"),
    [
        (pd.Series(["a", "a"], name="id"), {}, "not unique: a: a label would belong to several rows"),
        (pd.Series(["a", None], name="id"), {}, "1 rows have none"),
        (KEYS, {"random_share": 0.1}, "without rows drawn at random, quality could not be measured"),
        (KEYS, {"n_rows": 0}, "0 is not a length"),
        (KEYS, {"proba": np.ones((3, 2))}, "do not belong to 100 rows"),
    ],
)
def test_unsuitable_keys_and_shares_are_refused(keys: pd.Series, options: dict[str, object], words: str) -> None:
    with pytest.raises(LabkitError, match=words):
        make_queue(keys, **{"n_rows": 10, "seed": 0, **options})  # type: ignore[arg-type]


def test_newest_judgement_of_an_annotator_counts_and_one_taken_back_does_not(root: Path) -> None:
    for one in (
        judge("1", "yes"), judge("1", "no"), judge("2", "yes"), take_back(judge("2", "yes")), judge("3", None),
        judge("1", "yes", "ben"),
    ):  # fmt: skip
        add_judgement("e", one)
    found = read_judgements("e")
    assert [(one.key, one.label, one.annotator) for one in found.list_current()] == [
        ("1", "no", "ana"), ("3", None, "ana"), ("1", "yes", "ben"),
    ]  # fmt: skip
    assert found.faults == ()


def test_line_that_cannot_be_read_is_reported_and_the_others_count(root: Path) -> None:
    add_judgement("e", judge("1", "yes"))
    path = root / "data/labels/e/ana.jsonl"
    good = path.read_text()
    other = json.loads(good) | {"annotator": "ben"}
    path.write_text(good + good[:20] + "\n" + json.dumps(other) + "\n" + '{"key": 1}\n' + good[:-5])
    add_judgement("e", judge("2", "no"))
    found = read_judgements("e")
    assert [one.key for one in found.list_current()] == ["1", "2"]
    assert [fault.partition(": ")[0] for fault in found.faults] == [
        f"data/labels/e/ana.jsonl, line {number}" for number in (2, 3, 4, 5)
    ]
    for name in ("", "../ben", "Ben", "a" * 65):
        with pytest.raises(ParamsError, match="annotator"):
            add_judgement("e", replace(judge("1", "yes"), annotator=name))


RATINGS = {
    "a": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "b": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "c": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "d": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
"""The example in Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: nominal alpha is 0.743."""


def test_alpha_equals_the_published_example_and_kappa_takes_rows_that_all_labelled() -> None:
    given = [
        judge(str(number), str(value), name)
        for name, values in RATINGS.items()
        for number, value in enumerate(values)
        if value is not None
    ]
    table = agreement.make_label_table([*given, judge("0", None, "c"), judge("99", "1", MODEL)])
    found = agreement.measure_agreement(table)
    assert found.alpha == pytest.approx(0.743, abs=5e-4)
    assert found.n_shared == 11
    assert found.n_of_all == 8
    pairs = agreement.compare_pairs(table)
    assert len(pairs) == 6
    assert pairs.iloc[0].tolist() == ["a", "b", 9, pytest.approx(8 / 9), pytest.approx(49 / 58)]


def test_agreement_where_one_class_is_rare_is_shown_to_be_chance() -> None:
    given = [judge(str(number), "yes" if number == 0 else "no", "ana") for number in range(40)]
    given += [judge(str(number), "yes" if number == 1 else "no", "ben") for number in range(40)]
    found = agreement.measure_agreement(agreement.make_label_table(given))
    assert found.raw == 0.95
    assert found.fleiss is not None
    assert found.fleiss < 0
    alone = agreement.measure_agreement(agreement.make_label_table(given[:40]))
    assert str(alone) == "agreement: not measured, as no row was labelled by two annotators"


def test_majority_and_referee_resolve_and_the_rest_are_conflicts() -> None:
    given = [
        judge("1", "yes"), judge("1", "yes", "ben"), judge("1", "no", "eve"),
        judge("2", "yes"), judge("2", "no", "ben"),
        judge("3", "no", MODEL), judge("4", "yes"), judge("4", "no", MODEL), judge("5", None),
    ]  # fmt: skip
    labels, conflicts = agreement.resolve_labels(given)
    assert labels.set_index("key")["label"].to_dict() == {"1": "yes", "3": "no", "4": "yes"}
    assert conflicts.to_dict("records") == [{"key": "2", "labels": "ana: yes; ben: no"}]
    labels, conflicts = agreement.resolve_labels(given, referee="ben")
    assert labels.set_index("key")["label"].to_dict()["2"] == "no"
    assert conflicts.empty


@pytest.mark.parametrize("name", ["labels.json", "labels.csv"])
def test_export_that_is_imported_gives_the_same_judgements_once(root: Path, name: str) -> None:
    given = [
        judge("001", "ja, „gut“", seconds=1.25, drawn="random", model_version=3), judge("2", None),
        judge("001", "no", "ben@example.org", drawn="uncertainty"),
    ]  # fmt: skip
    for one in given:
        add_judgement("e", one)
    assert exchange.export_labels("e", root / name) == 3
    assert exchange.import_labels("e", root / name) == 0
    assert exchange.import_labels("other", root / name) == 3
    assert read_judgements("other") == read_judgements("e")
    before = (root / name).read_bytes()
    exchange.export_labels("other", root / name)
    assert (root / name).read_bytes() == before


def test_tasks_of_label_studio_are_read(root: Path) -> None:
    result = {"from_name": "x", "to_name": "y", "type": "choices", "value": {"choices": ["yes"]}, "id": "q"}
    annotation = {
        "id": 7,
        "completed_by": 4,
        "created_at": "2026-01-01T10:00:00.5Z",
        "lead_time": 3.5,
        "result": [result],
    }
    tasks = [
        {"id": 1, "data": {"key": 12, "text": "…"}, "annotations": [annotation], "predictions": []},
        {"id": 2, "data": {"key": 13}, "annotations": [{**annotation, "was_cancelled": True, "result": []}]},
    ]
    (root / "tasks.json").write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="task 1: names no table and key column: name them with `--source`"):
        exchange.import_labels("e", root / "tasks.json")
    assert exchange.import_labels("e", root / "tasks.json", SOURCE) == 2
    first, second = read_judgements("e").list_current()
    assert (first.key, first.label, first.annotator, first.seconds) == ("12", "yes", "4", 3.5)
    assert (second.label, second.status) == (None, "skipped")
    result["value"]["choices"].append("no")  # type: ignore[index]
    for content, words in (
        (tasks, "task 1: 2 choices in one annotation"), ({}, "not a list of tasks"), ([{"data": {}}], "task 1: not a task"),
    ):  # fmt: skip
        (root / "tasks.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            exchange.import_labels("e2", root / "tasks.json", SOURCE)
    assert read_judgements("e2").judgements == ()


def make_measured(n_wrong: int, n_skipped: int = 0) -> tuple[list[Judgement], pd.DataFrame]:
    """Return predictions of 300 rows, and labels of the first 100 in random order and of others the model is wrong on."""
    keys = pd.Series([f"k{number}" for number in range(300)])
    in_order = keys[order_at_random(keys, 0)].tolist()
    labels = ["no"] * n_wrong + [None] * n_skipped + ["yes"] * (100 - n_wrong - n_skipped)
    given = [judge(key, label, drawn="random") for key, label in zip(in_order, labels, strict=False)]
    given += [judge(key, "no", drawn="uncertainty") for key in in_order[101:298]]
    probability = np.where(keys == in_order[299], 0.6, 0.95)
    return given, pd.DataFrame({"key": keys, "prediction": "yes", "probability": probability})


OPTIONS: dict[str, Any] = {
    "source": SOURCE, "seed": 0, "min_probability": 0.9, "max_error_rate": 0.05, "model_version": 2
}  # fmt: skip


def test_labels_are_accepted_in_bulk_only_where_the_random_order_shows_few_errors(root: Path) -> None:
    given, predictions = make_measured(0)
    accepted, measured = bulk.accept_in_bulk("e", given, predictions, **OPTIONS)
    assert (measured.n_rows, measured.n_wrong) == (100, 0)
    assert measured.high == pytest.approx(0.037, abs=1e-3)
    assert len(accepted) == 2
    assert {(one.annotator, one.drawn, one.model_version) for one in accepted} == {("model", "bulk", 2)}
    assert read_judgements("e").list_current() == accepted
    given, predictions = make_measured(8)
    with pytest.raises(
        DataError, match=r"8 of 100 rows in random order wrong: 8.0% .* the upper end may be at most 5.0%"
    ):
        bulk.accept_in_bulk("e", given, predictions, **OPTIONS)
    assert str(bulk.measure_error([], predictions, seed=0)).startswith("not measured")


def test_rows_without_a_label_are_reported_and_too_many_prevent_labels_in_bulk(root: Path) -> None:
    given, predictions = make_measured(0, n_skipped=6)
    assert str(bulk.measure_error(given, predictions, seed=0)).endswith("; 6 rows skipped or in conflict")
    with pytest.raises(DataError, match="6 rows skipped or in conflict, more than 5%: have them labelled by one more"):
        bulk.accept_in_bulk("e", given, predictions, **OPTIONS)
    for name, value in (("min_probability", float("nan")), ("max_error_rate", float("nan")), ("max_error_rate", 2)):
        with pytest.raises(ParamsError, match=f"{name}: {value:g} is not between 0 and 1"):
            bulk.accept_in_bulk("e", *make_measured(0), **OPTIONS | {name: value})


def test_error_rate_is_unbiased_after_several_queues_by_uncertainty() -> None:
    measured, true = [], []
    for repeat in range(20):
        random = np.random.default_rng(repeat)
        probability = random.uniform(0.5, 1, 500)
        wrong = random.random(500) < 1 - probability
        keys = pd.Series([f"k{number}" for number in range(500)], name="id")
        predictions = pd.DataFrame({"key": keys, "prediction": "yes", "probability": probability})
        proba, given = np.column_stack([probability, 1 - probability]), list[Judgement]()
        for _ in range(8):
            queue = make_queue(keys, n_rows=30, seed=repeat, proba=proba, done={one.key for one in given})
            given += [judge(key, "no" if wrong[place] else "yes") for place, key in queue["key"].items()]
        found = bulk.measure_error(given, predictions, seed=repeat)
        measured.append(found.n_wrong / found.n_rows)
        true.append(wrong.mean())
    assert np.mean(measured) == pytest.approx(np.mean(true), abs=0.02)


def test_rows_drawn_at_random_are_the_next_in_one_order_of_all_rows() -> None:
    in_order = KEYS[order_at_random(KEYS, 3)].tolist()
    first = make_queue(KEYS, n_rows=10, seed=3)["key"].tolist()
    assert first == in_order[:10]
    assert make_queue(KEYS, n_rows=10, seed=3, done=[*first, in_order[12]])["key"].tolist() == [
        *in_order[10:12], *in_order[13:21]
    ]  # fmt: skip
    more = pd.concat([pd.Series(["new"]), KEYS])
    assert [key for key in more.iloc[order_at_random(more, 3)] if key != "new"] == in_order


def test_newest_is_chosen_by_time_and_rows_of_another_table_are_other_rows(root: Path) -> None:
    for one in (
        replace(judge("1", "yes"), at="2026-01-01T12:00:00+02:00"),
        replace(judge("1", "no"), at="2026-01-01T11:00:00+00:00"),
        replace(judge("1", "other"), source="holdout:row"),
    ):
        add_judgement("e", one)
    log = read_judgements("e")
    assert [(one.key, one.label) for one in log.list_current(SOURCE)] == [("1", "no")]
    assert len(log.list_current()) == 2
    assert [one.source for one in summarize_labels("e")[0]] == ["holdout:row", SOURCE]


def test_judgement_taken_back_leaves_an_earlier_one(root: Path) -> None:
    first, second = judge("1", "yes"), replace(judge("1", "no"), at="2026-01-02T00:00:00Z")
    for one in (first, second, take_back(second)):
        add_judgement("e", one)
    assert read_judgements("e").list_current() == [first]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": ""}, {"key": " "}, {"key": "\ud800"}, {"label": ""}, {"seconds": "x"}, {"seconds": float("nan")},
        {"drawn": ["x"]}, {"drawn": "Random"}, {"model_version": 1.5}, {"model_version": True}, {"annotator": MODEL},
        {"annotator": 1}, {"undoes": AT}, {"at": "2026-01-01"},
    ],
)  # fmt: skip
def test_judgement_with_an_invalid_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        check_judgement(replace(judge("1", "yes"), **changes), "")


def test_import_adds_no_copy_of_a_judgement_and_takes_the_last_change(root: Path) -> None:
    add_judgement("e", judge("1", "yes", drawn="random", seconds=1.0))
    (root / "a.csv").write_text(f"source,key,label,annotator,at\n{SOURCE},1,yes,ana,2026-01-01T01:00:00+01:00\n")
    assert exchange.import_labels("e", root / "a.csv") == 0
    (root / "a.csv").write_text("key,label,annotator,at\n1,yes\n")
    with pytest.raises(LabkitError, match="annotator"):
        exchange.import_labels("e", root / "a.csv", SOURCE)
    (root / "a.csv").write_text("key,label,annotator,at\n1,yes,ana,2026-01-01T00:00:00Z,5\n")
    with pytest.raises(DataError, match=r"a\.csv: not CSV"):
        exchange.import_labels("e", root / "a.csv", SOURCE)
    exchange.export_labels("e", root / "a.json")
    [task] = json.loads((root / "a.json").read_text())
    task["annotations"][0]["updated_at"] = "2026-01-03T00:00:00Z"
    task["annotations"][0]["result"][0]["value"]["choices"] = ["no"]
    (root / "a.json").write_text(json.dumps([task]))
    assert [exchange.import_labels("e", root / "a.json") for _ in range(2)] == [1, 0]
    assert [(one.label, one.at) for one in read_judgements("e").list_current()] == [("no", "2026-01-03T00:00:00Z")]
    (root / "a.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not JSON"):
        exchange.import_labels("e", root / "a.json")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"probability_y": [1.0, 1.0]}, "no probabilities of two classes or more"),
        ({"probability_n": [0.1, 0.2], "probability_y": ["high", 0.8]}, "not finite numbers in probability_y"),
        ({"probability_n": [0.1, 0.2], "probability_y": [0.9, float("inf")]}, "not finite numbers in probability_y"),
        ({"id": ["a", None], "probability_n": [0.1, 0.2], "probability_y": [0.9, 0.8]}, "1 rows have none"),
    ],
)
def test_unsuitable_predictions_are_refused(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        bulk.extract_predictions(pd.DataFrame({"id": ["a", "b"]} | columns), "id")


def test_command_shows_writes_and_refuses(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = params_root
    assert call(cli, ["labels", "diabetes"]) == 0
    assert "no labels yet" in capsys.readouterr().out
    assert call(cli, ["labels", "diabetes", "--resolved", str(root / "labels.csv")]) != 0
    assert "no row has a label to write" in capsys.readouterr().err
    assert not (root / "labels.csv").exists()
    add_judgement("diabetes", judge("1", "no", MODEL, drawn="bulk"))
    assert call(cli, ["labels", "diabetes"]) == 0
    printed = capsys.readouterr().out
    assert "new.csv:id: no labels of people\nlabels of rows: no 1\naccepted in bulk: 1 label\n" in printed
    for one in (judge("1", "yes"), judge("1", "no", "ben"), judge("2", "yes"), judge("2", "yes", "ben")):
        add_judgement("diabetes", one)
    assert call(cli, ["labels", "diabetes", "--source", SOURCE]) == 0
    printed = capsys.readouterr().out
    assert "labels of rows: yes 1" in printed
    assert "50.0% of pairs of labels equal, on 2 rows labelled by several" in printed
    assert "1 row without a majority" in printed
    out = root / "labels.csv"
    assert call(cli, ["labels", "diabetes", "--resolved", str(out), "--referee", "ben", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"][SOURCE]["labels"] == {"no": 1, "yes": 1}
    assert out.read_text() == "key,label,annotators,drawn\n1,no,2,\n2,yes,2,\n"
    for arguments, words in (
        (["--referee", "eve"], "referee 'eve' has given no label; annotators are ana, ben"),
        (["--export", str(root / "x.txt")], "use a name that ends in .json or .csv"),
        (["--import", str(root / "none.csv")], "not found"),
        (["--resolved", str(root / "x.json")], "use a name that ends in .csv"),
        (["--source", "new.csv:key"], "no labels of 'new.csv:key': did you mean 'new.csv:id'?"),
    ):
        assert call(cli, ["labels", "diabetes", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_resolved_labels_become_the_target_of_the_rows_that_have_one(tmp_path: Path) -> None:
    exchange.write_resolved(
        tmp_path / "labels.csv", agreement.resolve_labels([judge("k1", "yes"), judge("k3", "no")])[0]
    )
    joined = {"table": "labels", "keys": {"id": "key"}, "columns": ["label"]}
    tables = {"reviews": {"path": "reviews.csv"}, "labels": {"path": "labels.csv"}}
    target = {"column": "label", "task": "classification"}
    data = Data.model_validate_json(json.dumps({"tables": tables, "joins": [joined], "target": target}))
    reviews = pd.DataFrame({"id": ["k1", "k2", "k3"], "stars": [1.0, 2.0, 3.0]})
    found = join_tables({"reviews": reviews, "labels": pd.read_csv(tmp_path / "labels.csv")}, data)
    assert found["label"].fillna("none").tolist() == ["yes", "none", "no"]


def test_kappa_of_several_annotators_is_that_of_statsmodels() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(["a", "b", "c"], size=(50, 4), p=[0.6, 0.3, 0.1])
    labels[:30, 1:] = labels[:30, :1]
    counts, _ = aggregate_raters(labels)
    assert agreement.compute_fleiss(labels) == pytest.approx(fleiss_kappa(counts))
    assert agreement.compute_fleiss(np.full((3, 2), "a")) is None
