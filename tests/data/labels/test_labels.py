"""Labels: the queue, what is stored, agreement, exchange with other tools, and labels in bulk."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.cli.main import call, cli
from labkit.data.joins import join_tables
from labkit.data.labels import agreement, bulk, exchange, judgements
from labkit.data.labels.judgements import UNDONE, Judgement, add_judgement, make_judgement, read_judgements
from labkit.data.labels.queue import make_queue
from labkit.errors import DataError, LabkitError, ParamsError
from labkit.params.tables import Data

AT = "2026-01-01T00:00:00.000+00:00"
KEYS = pd.Series([f"k{number}" for number in range(100)], name="id")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    return tmp_path


def judge(key: str, label: str | None, annotator: str = "ana", **details: object) -> Judgement:
    return replace(make_judgement(key, label, annotator, **details), at=AT)


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
        judge("1", "yes"), judge("1", "no"), judge("2", "yes"), judge("2", None, status=UNDONE), judge("3", None),
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
    table = agreement.make_label_table([*given, judge("0", None, "c"), judge("99", "1", judgements.MODEL)])
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
        judge("3", "no", judgements.MODEL), judge("4", "yes"), judge("4", "no", judgements.MODEL), judge("5", None),
    ]  # fmt: skip
    labels, conflicts = agreement.resolve_labels(given)
    assert labels.set_index("key")["label"].to_dict() == {"1": "yes", "3": "no", "4": "yes"}
    assert conflicts.to_dict("records") == [{"key": "2", "said": "ana: yes; ben: no"}]
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
    assert exchange.import_labels("e", root / "tasks.json") == 2
    first, second = read_judgements("e").list_current()
    assert (first.key, first.label, first.annotator, first.seconds) == ("12", "yes", "4", 3.5)
    assert (second.label, second.status) == (None, "skipped")
    result["value"]["choices"].append("no")  # type: ignore[index]
    for content, words in (
        (tasks, "task 1: 2 choices in one annotation"), ({}, "not a list of tasks"), ([{"data": {}}], "task 1: not a task"),
    ):  # fmt: skip
        (root / "tasks.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            exchange.import_labels("e2", root / "tasks.json")
    assert read_judgements("e2").judgements == ()


def make_measured(n_wrong: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 200 labels and predictions; only half of the rows were drawn at random, some of these wrongly predicted."""
    keys = [f"k{number}" for number in range(200)]
    drawn = ["random"] * 100 + ["uncertainty"] * 100
    said = ["no"] * n_wrong + ["yes"] * (100 - n_wrong) + ["no"] * 100
    labels = pd.DataFrame({"key": keys, "label": said, "drawn": drawn})
    more = [*keys, "new", "unsure"]
    probabilities = [0.95] * 201 + [0.6]
    return labels, pd.DataFrame({"key": more, "prediction": "yes", "probability": probabilities})


def test_labels_are_accepted_in_bulk_only_where_rows_drawn_at_random_show_few_errors(root: Path) -> None:
    labels, predictions = make_measured(0)
    options = {"least": 0.9, "most_errors": 0.05, "model_version": 2, "done": set(labels["key"])}
    accepted, measured = bulk.accept_in_bulk("e", labels, predictions, **options)  # type: ignore[arg-type]
    assert (measured.n_rows, measured.n_wrong) == (100, 0)
    assert measured.high == pytest.approx(0.037, abs=1e-3)
    assert [(one.key, one.annotator, one.drawn, one.model_version) for one in accepted] == [("new", "model", "bulk", 2)]
    assert read_judgements("e").list_current() == accepted
    labels, predictions = make_measured(8)
    with pytest.raises(
        DataError, match=r"8 of 100 rows drawn at random wrong: 8.0% .* the upper end may be at most 5.0%"
    ):
        bulk.accept_in_bulk("e", labels, predictions, **options)  # type: ignore[arg-type]
    assert str(bulk.measure_error(labels.head(0), predictions)).startswith("not measured")


def test_command_shows_writes_and_refuses(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = params_root
    assert call(cli, ["labels", "diabetes"]) == 0
    assert "no labels yet" in capsys.readouterr().out
    for one in (judge("1", "yes"), judge("1", "no", "ben"), judge("2", "yes"), judge("2", "yes", "ben")):
        add_judgement("diabetes", one)
    assert call(cli, ["labels", "diabetes"]) == 0
    printed = capsys.readouterr().out
    assert "labels of rows: yes 1" in printed
    assert "50.0% of pairs of labels equal, on 2 rows labelled by several" in printed
    assert "1 row without a majority" in printed
    out = root / "labels.csv"
    assert call(cli, ["labels", "diabetes", "--resolved", str(out), "--referee", "ben", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == {"no": 1, "yes": 1}
    assert out.read_text() == "key,label,annotators,drawn\n1,no,2,\n2,yes,2,\n"
    for arguments, words in (
        (["--referee", "eve"], "referee 'eve' has given no label; annotators are ana, ben"),
        (["--export", str(root / "x.txt")], "use a name that ends in .json or .csv"),
        (["--import", str(root / "none.csv")], "not found"),
        (["--resolved", str(root / "x.json")], "use a name that ends in .csv"),
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
