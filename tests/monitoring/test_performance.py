"""How good a model is on rows whose true values are known: joined by id, compared with the holdout."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.labels.judgements import add_judgement, make_judgement
from labkit.data.labels.queue import order_at_random
from labkit.errors import LabkitError
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.expected import Recalibration, estimate_cost, estimate_metric
from labkit.model.evaluation.metrics import compute_metric
from labkit.model.evaluation.predictions import Predictions
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import PERFORMANCE
from labkit.monitoring.current_rows import Current
from labkit.monitoring.outcomes import load_feedback, load_labels, load_outcomes_file
from labkit.monitoring.performance import find_loss, measure_performance
from labkit.monitoring.performance_checks import find_track_record, list_performance_checks
from labkit.monitoring.reference_performance import ReferencePerformance, load_performance
from labkit.monitoring.scored_rows import ScoredRows, score_current, score_frame, score_log
from labkit.params.evaluation import Costs
from labkit.params.tables import Target
from labkit.serving.settings import FEEDBACK
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.monitoring.scored import (
    CLASSES,
    NOW,
    PARAMS,
    find_status,
    make_current,
    make_release,
    make_rows,
    measure,
    write_feedback,
    write_log,
)
from tests.own_store import work_in


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release"))


def test_rows_like_the_holdout_are_as_good(release: Release) -> None:
    found = measure(release, make_rows(3000, seed=2))
    assert set(find_status(found).values()) == {"passed"}, list_performance_checks(found)
    assert (found.n_labelled, found.first, found.last) == (3000, "2026-03-02", "2026-03-21")
    assert found.resampled.startswith("20 days")
    assert found.worse == []
    assert found.value is not None
    assert found.estimated is not None
    assert found.estimated.value == pytest.approx(found.value.value, abs=0.02)
    assert found.cost is not None
    assert found.estimated_cost == pytest.approx(found.cost.value, abs=0.03)


def test_group_whose_outcomes_have_turned_is_found_by_true_values_only(release: Release) -> None:
    found = measure(release, make_rows(3000, seed=3, wrong="b"))
    assert find_status(found) == {
        "LK721": "passed", "LK722": "warning", "LK723": "passed", "LK724": "warning", "LK725": "warning",
        "LK726": "passed",
    }  # fmt: skip
    assert found.worse is not None
    assert found.worse[0].group == "city = b"
    assert found.worse[0].low > 0.5
    assert "city = a" not in [one.group for one in found.worse]
    [evidence] = [one.evidence for one in list_performance_checks(found) if one.code == "LK725"]
    assert evidence.startswith("city = b (mean loss ")


def test_shifted_outcomes_are_a_fault_of_the_calibration(release: Release) -> None:
    rows = make_rows(3000, seed=4)
    rows["y"] = np.where(np.random.default_rng(0).uniform(size=3000) < rows["share"] / 2, "yes", "no")
    assert find_status(measure(release, rows))["LK723"] == "warning"


def test_unsure_predictions_are_found_without_true_values(release: Release) -> None:
    rows = make_rows(3000, seed=5).assign(share=lambda rows: 0.4 + 0.2 * rows["share"]).drop(columns="y")
    found = measure(release, rows)
    status = find_status(found)
    assert (status["LK721"], status["LK722"], status["LK726"]) == ("skipped", "skipped", "warning")
    [expected] = [one for one in list_performance_checks(found) if one.code == "LK726"]
    assert expected.evidence.startswith("roc_auc 0.5")
    assert "if its probabilities are still calibrated" in expected.evidence


@pytest.mark.parametrize("n_rows", [0, 1, 49])
def test_few_true_values_are_not_judged(release: Release, n_rows: int) -> None:
    found = measure(release, make_rows(max(n_rows, 1), seed=6).head(n_rows))
    assert {find_status(found)[code] for code in ("LK722", "LK723", "LK724", "LK725")} == {"skipped"}


def test_true_values_of_one_day_or_one_class_have_no_verdict(release: Release) -> None:
    rows = make_rows(3000, seed=7)
    one_day = measure(release, rows.assign(predict_at=rows["predict_at"].iloc[0]))
    status = find_status(one_day)
    assert {status[code] for code in ("LK722", "LK723", "LK724", "LK725")} == {"skipped"}
    assert find_status(measure(release, rows[rows["y"] == "no"]))["LK722"] == "skipped"


def test_release_without_its_performance_still_reports_the_metric(release: Release) -> None:
    scored = score_frame(PARAMS, make_current(release, make_rows(300, seed=8)), None, NOW)
    found = measure_performance(PARAMS, release, None, scored)
    assert found.value is not None
    assert find_status(found)["LK722"] == "skipped"
    assert load_performance(Path("nowhere")) is None


def test_file_of_true_values_is_joined_by_id(release: Release, tmp_path: Path) -> None:
    rows = make_rows(400, seed=9).assign(patient=[f"p{number}" for number in range(400)])
    rows.loc[399, "patient"], rows.loc[1, "y"] = "p398", "yes"
    later = rows.head(300)[["patient", "y"]].rename(columns={"y": "true"})
    odd = pd.DataFrame(
        [("p0", later["true"].iloc[0]), ("p1", "yes"), ("p1", "no"), ("gone", "no"), ("p2", "perhaps"), ("p398", "no")],
        columns=["patient", "true"],
    )
    pd.concat([later, odd]).to_csv(tmp_path / "late.csv", index=False)
    outcomes = load_outcomes_file(tmp_path / "late.csv", PARAMS.data.target, key="patient")
    found = measure(release, rows.drop(columns="y"), outcomes)
    assert (found.n_rows, found.n_labelled) == (400, 299)
    [labels] = [one for one in list_performance_checks(found) if one.code == "LK721"]
    assert labels.status == "warning"
    assert labels.evidence == (
        "299 of 400 rows (75 %), 2026-03-02 to 2026-03-17; 2 true values changed later: the latest "
        "counts; 1 true value for ids that no row has; 2 rows with an id that others have as well left out; 1 true "
        "value of no class that the model knows left out; 2 true values reported again"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "--outcomes gone.csv: no such file"),
        ("o.txt", "id,y\n", "--outcomes o.txt: .txt: use .csv or .parquet"),
        ("o.csv", "ident,y\n1,no\n", "--outcomes o.csv: no column 'id': known: ident, y"),
        ("o.csv", "id,z\n1,no\n", "--outcomes o.csv: no column 'y'"),
        ("o.parquet", "no", "--outcomes o.parquet: cannot be read"),
    ],
)
def test_unsuitable_file_of_true_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(LabkitError) as raised:
        load_outcomes_file(Path(name), PARAMS.data.target)
    assert str(raised.value).startswith(message)


def test_feedback_to_the_service_is_joined_with_its_log(release: Release, tmp_path: Path) -> None:
    rows = make_rows(1000, seed=10, wrong="b")
    lines = write_log(tmp_path, release, rows)
    others = [{**lines[0], "digest": "other", "id": "o-0"}, {**lines[5], "probabilities": None, "id": "x-1"}]
    (tmp_path / "log" / "2.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in [*others, lines[7]]) + '{"to')
    late = NOW.timestamp() - 60
    values = [
        {"id": line["id"], "true": true, "time": late} for line, true in zip(lines[:900], rows["y"], strict=False)
    ]
    values += [values[3], {**values[4], "true": "yes" if values[4]["true"] == "no" else "no"}]
    values += [{"id": "gone-0", "true": "no", "time": late}, {"id": "o-0", "true": "no", "time": late}]
    values += [{"id": lines[950]["id"], "true": "no", "time": 1e9}, {"id": lines[951]["id"], "true": "no", "time": 9e9}]
    write_feedback(tmp_path, values, b'{"id": "torn\n[1]\n')
    scored = score_log(Current("log", True, release), tmp_path / "log", load_feedback(tmp_path / FEEDBACK, NOW), NOW)
    found = measure_performance(PARAMS, release, load_performance(release.folder), scored)
    assert (found.n_rows, found.n_labelled, found.n_compared) == (1000, 900, 900)
    assert scored.faults == [
        "2 damaged lines skipped", "1 true value changed later: the latest counts",
        "1 true value reported later than now left out", "1 true value for ids that no row has",
        "1 row with an id that others have as well left out", "1 true value reported before the prediction left out",
    ]  # fmt: skip
    assert scored.remarks == ["1 true value reported again", "1 true value for a row of another release"]
    assert found.worse is not None
    assert found.worse[0].group == "city = b"
    untimed = PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"time": None})})
    by_request = measure_performance(untimed, release, load_performance(release.folder), scored)
    assert by_request.resampled == "90 values of request"


def test_log_is_compared_on_its_recent_rows(release: Release, tmp_path: Path) -> None:
    rows = pd.concat([make_rows(200, seed=11, first="2025-03-02"), make_rows(300, seed=12)], ignore_index=True)
    lines = write_log(tmp_path, release, rows)
    write_feedback(tmp_path, [{"id": one["id"], "true": true} for one, true in zip(lines, rows["y"], strict=True)])
    scored = score_log(Current("log", True, release), tmp_path / "log", load_feedback(tmp_path / FEEDBACK, NOW), NOW)
    found = measure_performance(PARAMS, release, load_performance(release.folder), scored)
    assert (found.n_labelled, found.n_compared) == (500, 300)


def test_rows_later_than_now_are_left_out(release: Release) -> None:
    rows = make_rows(100, seed=13)
    found = measure(release, pd.concat([rows, rows.assign(predict_at=pd.Timestamp("2036-01-01", tz="UTC"))]))
    assert (found.n_rows, found.n_labelled) == (100, 100)


@pytest.mark.parametrize(("seen_until", "n_left"), [("2026-03-01T00:00:00", 100), ("2036-01-01T00:00:00", 0)])
def test_rows_that_made_the_model_are_left_out(release: Release, seen_until: str, n_left: int) -> None:
    current = make_current(release, make_rows(100, seed=13))
    scored = score_current(PARAMS, current, None, NOW, seen_until=np.datetime64(seen_until))
    assert len(scored.output) == n_left
    left_out = "100 rows from before the end of the run that made the model left out"
    assert scored.remarks == ([] if n_left else [left_out])


def test_rows_of_a_whole_table_count_from_the_last_that_made_the_model(release: Release) -> None:
    rows = make_rows(100, seed=13)
    last = rows["predict_at"].iloc[59].floor("s").tz_localize(None).isoformat()
    scored = score_current(PARAMS, make_current(release, rows), None, NOW, seen_until=np.datetime64(last))
    assert len(scored.known) == 40


def test_numbers_are_compared_without_probabilities(release: Release) -> None:
    rows = make_rows(400, seed=14)
    numeric = replace(release, facts={"classes": [], "metric": "mae"})
    reference = load_performance(release.folder)
    assert isinstance(reference, ReferencePerformance)
    plain = replace(reference, metric="mae", value=Interval(0.5, 0.4, 0.6), costs=None, cost=None, cuts={}, groups={})
    scored = ScoredRows(rows["share"].to_numpy(), rows["share"].to_numpy() + 1.0, rows["predict_at"].to_numpy())
    found = measure_performance(PARAMS, numeric, plain, scored)
    status = find_status(found)
    assert (status["LK722"], status["LK724"], status["LK726"]) == ("warning", "not applicable", "not applicable")


def test_labels_of_people_count_only_as_far_as_they_are_in_random_order(tmp_path: Path) -> None:
    keys = pd.Series([f"k{number}" for number in range(20)])
    in_order = keys.iloc[order_at_random(keys, PARAMS.seed)].tolist()
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    with work_in(tmp_path):
        for key in [*in_order[:6], in_order[9]]:
            add_judgement("small", make_judgement("new.csv:patient", key, "yes", annotator="ana", drawn="random"))
        found = load_labels(PARAMS, tmp_path / "new.csv", "patient", keys)
    assert (sorted(found.values), found.n_chosen) == (sorted(in_order[:6]), 1)


@pytest.mark.parametrize("most", [0.02, 0.3, 1.0])
@pytest.mark.parametrize(
    ("name", "reference"), [("roc_auc", roc_auc_score), ("average_precision", average_precision_score)]
)
def test_expected_areas_of_few_rows_are_those_of_weighted_rows(
    name: str, reference: Callable[..., float], most: float
) -> None:
    share = np.random.default_rng(1).uniform(0, most, 50).round(2)
    proba = np.column_stack([1 - share, share])
    ours = Predictions.from_proba(np.zeros(50, dtype=int), proba, CLASSES)
    every = np.repeat([0, 1], 50), np.tile(share, 2)
    expected = reference(*every, sample_weight=proba.T.ravel())
    assert estimate_metric(name, ours, proba) == pytest.approx(expected, rel=1e-12)


def test_expected_metrics_equal_those_of_outcomes_drawn_from_the_probabilities() -> None:
    random = np.random.default_rng(0)
    share = random.beta(1, 3, 200_000)
    true = (random.uniform(size=len(share)) < share).astype(int)
    ours = Predictions.from_proba(true, np.column_stack([1 - share, share]), CLASSES)
    for name in ("roc_auc", "average_precision", "log_loss", "accuracy", "balanced_accuracy", "f1"):
        assert estimate_metric(name, ours, ours.y_proba) == pytest.approx(compute_metric(name, ours), abs=0.01), name
    costs = Costs(false_positive=1, false_negative=4)
    acts = share >= 0.2
    true_cost = np.where(acts & (true == 0), 1.0, np.where(~acts & (true == 1), 4.0, 0.0)).mean()
    assert estimate_cost(ours, ours.y_proba, 0.2, costs) == pytest.approx(true_cost, abs=0.01)
    assert estimate_metric("mae", ours, ours.y_proba) is None
    too_high = Predictions.from_proba(true, np.column_stack([1 - share**0.5, share**0.5]), CLASSES)
    corrected = Recalibration.fit(too_high).apply(too_high.y_proba, 1)
    assert corrected[:, 1].mean() == pytest.approx(share.mean(), abs=0.005)
    assert estimate_metric("log_loss", too_high, corrected) == pytest.approx(
        compute_metric("log_loss", too_high), abs=0.01
    )


@pytest.mark.parametrize(("metric", "now"), [("roc_auc", Interval(0.7, 0.5, 0.75)), ("mae", Interval(0.9, 0.85, 1.1))])
def test_loss_against_the_holdout_joins_both_intervals(metric: str, now: Interval) -> None:
    found = find_loss(metric, now, Interval(0.8, 0.7, 0.9))
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - np.hypot(0.1, 0.05))
    assert found.high == pytest.approx(0.1 + np.hypot(0.1, 0.2))


def test_record_of_estimates_counts_the_same_rows_once() -> None:
    def keep(day: str, estimated: float | None, value: float) -> dict[str, Any]:
        return {
            "first_day": day, "last_day": day, "compared_rows": 100, "estimated_of_compared": estimated,
            "value": {"value": value}, "holdout": {"value": 0.8},
        }  # fmt: skip

    record = find_track_record(
        [keep("a", 0.75, 0.7), keep("a", 0.75, 0.7), keep("b", 0.72, 0.71), keep("c", None, 0.7)]
    )
    assert record is not None
    assert (record.n_checks, round(record.error, 4), round(record.holdout_error, 4)) == (2, 0.03, 0.095)
    assert "in 2 checks with true values such estimates were off by 0.03 on average" in str(record)
    assert find_track_record([]) is None


def test_damaged_performance_of_a_release_is_an_error(tmp_path: Path) -> None:
    (tmp_path / PERFORMANCE).write_text('{"version": 1}')
    with pytest.raises(LabkitError, match="not the performance of a model"):
        load_performance(tmp_path)
    (tmp_path / PERFORMANCE).write_text('{"version": 9}')
    with pytest.raises(LabkitError, match="update labkit"):
        load_performance(tmp_path)


def test_target_is_read_by_its_rule(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text('id,y\n1,"1,5 kg"\n2,\n')
    rule = {"type": "number", "decimal": ",", "units": {"kg": 1.0}}
    target = Target.model_validate_json(json.dumps({"column": "y", "task": "regression", "rule": rule}))
    assert load_outcomes_file(tmp_path / "o.csv", target).values == {"1": 1.5}
