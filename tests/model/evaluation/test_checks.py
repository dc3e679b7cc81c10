"""The register of checks, and what the checks of the method find."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.checks import (
    REGISTER,
    CheckResult,
    describe_counts,
    mute,
    sort_by_weight,
)
from labkit.data.stability import LARGE_DRIFT, compute_part_drift, compute_stability
from labkit.errors import DataError
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.model.evaluation import gate, gate_limits
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.fold_checks import list_fold_checks
from labkit.model.evaluation.gate import Check, Decision
from labkit.model.evaluation.method_checks import (
    GATE_CODES,
    check_bias,
    check_class_sizes,
    check_confidence,
    check_confirmed,
    check_known_in_time,
    check_repeated,
    from_gate,
    list_evaluation_checks,
    list_training_checks,
    list_wrangling_checks,
)
from labkit.model.evaluation.plain_check import check_plain
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.refit_stability import check_refit
from labkit.model.evaluation.slice_comparison import compare_slices
from labkit.params.evaluation import Fairness
from labkit.params.experiment import Deploy, Params
from labkit.params.features import Features
from labkit.params.load import load_params
from labkit.params.subject import Subject
from labkit.params.tables import Time
from labkit.params.wrangling import Wrangling

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params("breast_cancer")


def change_data(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"data": params.data.model_copy(update=changes)})


def make_parts(params: Params, n_rows: int = 200) -> dict[str, pd.DataFrame]:
    target = params.data.target
    parts = {
        name: pd.DataFrame({"a": RANDOM.normal(size=n_rows), "b": RANDOM.normal(size=n_rows)})
        for name in ("training", "validation", "holdout")
    }
    return {
        name: part.assign(**{target.column: np.where(np.arange(n_rows) % 2, "malignant", "benign")})
        for name, part in parts.items()
    }


def find_status(results: list[CheckResult], code: str) -> str:
    (status,) = [result.status for result in results if result.code == code]
    return status


def list_wrangling(params: Params, parts: dict[str, pd.DataFrame], **changes: Any) -> list[CheckResult]:
    none = pd.DataFrame({"column": [], "what": []})
    options = {"left_open": none, "embargoed": {}, "is_whole": True, "is_stable": True, **changes}
    return list_wrangling_checks(parts, params, **options)


def test_codes_are_unique_and_begin_with_the_number_of_their_page() -> None:
    assert all(code[:2] == "LK" and code[2] in "12345679" and len(code) == 5 for code in REGISTER)
    titles = [definition.title for definition in REGISTER.values()]
    assert len(set(titles)) == len(titles)


def test_every_check_of_the_gate_has_a_code() -> None:
    blocks, sizes = replace(make_rows(40), unit="day"), {"model.onnx": 10}
    settings = {"confidence": 0.95, "blocks": blocks}
    limits = load_params("diabetes").evaluation.gate
    declared = limits.model_copy(update={"required_value": 1.0, "most_miscalibration": 1.0, "most_milliseconds": 1.0})
    errors, rows = Predictions(np.zeros(40), np.arange(40.0)), pd.DataFrame({"a": np.arange(40.0)})
    checks = [
        *gate.check_days(blocks, limits),
        gate.check_dummy("mae", Interval(1, 0.5, 2), limits, **settings, n_classes=0),  # type: ignore[arg-type]
        gate.check_champion("mae", Interval(1, 0.5, 2), limits, **settings, champion="version 1"),  # type: ignore[arg-type]
        gate.check_too_good("mae", 1.0, 2.0, perfect=0.0, relies_on=[]),
        gate.check_classes({"a"}, {"b"}),
        gate.check_parity({"reason": "off"}),
        gate.check_parity({"reason": "off"}, is_refitted=True),
        check_refit({"unseen": None, "seen": {"difference": 0.0, "scaled": 0.0}}, Deploy()),
        gate.check_release_size(sizes, limits),
        *gate_limits.check_required_value("mae", 1.0, declared),
        *gate_limits.check_calibration(errors, declared),
        *gate_limits.check_speed(1.0, declared),
        gate_limits.check_fitted_rows(0, 40),
        gate_limits.check_fairness([], Fairness(columns=("sex",), most_difference=0.1), confidence=0.95),
        gate_limits.check_slices(
            compare_slices(rows, errors, errors, **settings),  # type: ignore[arg-type]
            *(errors, errors, limits),
            metric="mae",
            champion="version 1",
        ),
        gate_limits.check_contract([], champion="version 1"),
    ]
    assert {check.name for check in checks} == set(GATE_CODES)
    assert set(GATE_CODES.values()) <= set(REGISTER)


def test_a_failed_check_of_the_gate_is_an_issue_and_a_warning_stays_one() -> None:
    name = "plausible result"
    assert [
        from_gate(check).status
        for check in (Check(name, False, "…"), Check(name, True, "…", warning="look"), Check(name, True, "…"))
    ] == ["issue", "warning", "passed"]


def test_unknown_codes_and_statuses_are_refused() -> None:
    with pytest.raises(DataError, match="no check 'LK0201': did you mean 'LK201'"):
        CheckResult("LK0201", "passed", "")
    with pytest.raises(DataError, match="no status 'fine'"):
        CheckResult("LK201", "fine", "")  # type: ignore[arg-type]


def test_results_survive_being_stored() -> None:
    result = CheckResult("LK401", "warning", "roc_auc 0.7 on validation rows")
    assert CheckResult.from_dict(result.to_dict()) == result
    with pytest.raises(DataError, match="no 'evidence'"):
        CheckResult.from_dict({"code": "LK401", "status": "passed"})


def test_only_what_did_not_pass_is_muted_and_the_reason_is_shown() -> None:
    results = [CheckResult("LK205", "warning", "a (PSI 0.30)"), CheckResult("LK401", "passed", "fine")]
    muted = mute(results, {"LK205": "prices rose", "LK401": "never"})
    assert [result.status for result in muted] == ["muted", "passed"]
    assert muted[0].evidence == "a (PSI 0.30); muted: prices rose"


def test_the_most_urgent_come_first() -> None:
    results = [
        CheckResult("LK401", "passed", ""),
        CheckResult("LK508", "warning", ""),
        CheckResult("LK501", "issue", ""),
    ]
    assert [result.code for result in sort_by_weight(results)] == ["LK501", "LK508", "LK401"]
    assert describe_counts(results) == "1 issue, 1 warning, 1 passed"


def test_a_sound_split_passes_every_check_that_applies(params: Params) -> None:
    results = list_wrangling(params, make_parts(params))
    assert {result.status for result in results} == {"passed", "not applicable"}
    assert find_status(results, "LK203") == "not applicable"


def test_a_leak_that_is_left_open_is_an_issue(params: Params) -> None:
    left_open = pd.DataFrame({"column": ["paid", "age", "price"], "what": ["copy of the target", "outliers", "drift"]})
    results = list_wrangling(params, make_parts(params), left_open=left_open)
    assert find_status(results, "LK201") == "issue"
    assert [result.evidence for result in results if result.code in ("LK201", "LK209")] == ["paid", "age"]
    drifting = list_wrangling(params, make_parts(params), left_open=left_open.tail(1))
    (others,) = [result for result in drifting if result.code == "LK209"]
    assert (others.status, others.evidence) == (
        "passed", "no medium or high finding is open besides those that LK201 and LK205 check",
    )  # fmt: skip


def test_repeated_rows_across_the_split_are_counted(params: Params) -> None:
    parts = make_parts(params)
    parts["holdout"] = pd.concat([parts["training"].head(10), parts["holdout"].head(90)])
    found = check_repeated(parts, params)
    assert found.status == "warning"
    assert found.evidence.startswith("10 of 100 holdout rows repeat")
    for name in parts:
        parts[name]["at"] = pd.Timestamp("2026-01-01") + pd.Timedelta(days=len(name))
    apart = check_repeated(parts, params)
    evidence = "no holdout row has a value of at that a training row has, so none can repeat one"
    assert (apart.status, apart.evidence) == ("not applicable", evidence)
    grouped = change_data(params, split=params.data.split.model_copy(update={"group": "at"}))
    assert (check_repeated(parts, grouped).status, check_repeated(parts, grouped).evidence) == ("passed", evidence)


def test_columns_that_drift_are_named(params: Params) -> None:
    parts = make_parts(params)
    parts["holdout"]["a"] += 2
    (drift,) = [result for result in list_wrangling(params, parts) if result.code == "LK205"]
    assert drift.status == "warning"
    assert re.fullmatch(
        r"population stability index of clean holdout against training rows above 0\.25: a \d\.\d\d", drift.evidence
    )
    left_out = params.model_copy(update={"features": Features(drop=("a",))})
    (drift,) = [result for result in list_wrangling(left_out, parts) if result.code == "LK205"]
    assert drift.evidence.endswith(" (no feature by itself: features.drop)")


def test_few_rows_do_not_drift_by_luck(params: Params) -> None:
    parts = [make_parts(params, n_rows=60) for _ in range(20)]
    reported = [find_status(list_wrangling(params, part), "LK205") == "warning" for part in parts]
    above = [compute_stability(part["training"]["a"], part["holdout"]["a"]) > LARGE_DRIFT for part in parts]
    assert sum(reported) < sum(above) / 2


def test_many_categories_do_not_drift_by_luck() -> None:
    random = np.random.default_rng(0)
    names = [f"town {number}" for number in range(60)]
    before, after = (pd.DataFrame({"town": random.choice(names, 300)}) for _ in range(2))
    assert compute_stability(before["town"], after["town"]) > LARGE_DRIFT
    assert compute_part_drift(before, after, ["town"]).empty
    assert not compute_part_drift(before, after.replace(names[:20], names[20]), ["town"]).empty


@pytest.mark.parametrize(
    ("method", "known_at", "delay_days", "status"),
    [
        ("time", "signup", 0, "warning"),
        ("time", "signup + days(30)", 5, "passed"),
        ("time", "signup + days(30)", 60, "issue"),
        ("random", "signup + days(30)", 5, "warning"),
    ],
)
def test_outcomes_must_be_known_before_the_next_part(
    params: Params, method: str, known_at: str, delay_days: int, status: str
) -> None:
    split = params.data.split.model_copy(update={"method": method})
    timed = change_data(params, time=Time(predict_at="signup", outcome_known_at=known_at), split=split)
    starts = pd.to_datetime(["2026-01-01", "2026-02-01", "2026-03-01"], utc=True)
    parts = {
        name: part.assign(**{PREDICT_AT: start, OUTCOME_KNOWN_AT: start + pd.Timedelta(days=delay_days)})
        for (name, part), start in zip(make_parts(params).items(), starts, strict=True)
    }
    assert check_known_in_time(parts, timed, {"training": 3}).status == status


def test_a_group_in_two_parts_is_an_issue(params: Params) -> None:
    parts = {name: part.assign(patient=np.arange(len(part)) % 7) for name, part in make_parts(params).items()}
    grouped = change_data(params, split=params.data.split.model_copy(update={"group": "patient"}))
    assert find_status(list_wrangling(grouped, parts), "LK204") == "issue"
    for number, part in enumerate(parts.values()):
        part["patient"] += 10 * number
    assert find_status(list_wrangling(grouped, parts), "LK204") == "passed"


def test_rules_that_are_not_stable_are_an_issue(params: Params) -> None:
    ruled = params.model_copy(update={"wrangling": Wrangling(rules={"a": {"minimum": 0}})})  # type: ignore[dict-item]
    assert find_status(list_wrangling(ruled, make_parts(params), is_stable=False), "LK207") == "issue"


def check_sizes(holdout: list[str]) -> CheckResult:
    parts = {"training": ["a", "b"], "holdout": holdout}
    return check_class_sizes({name: pd.DataFrame({"kind": part}) for name, part in parts.items()}, "kind")


def test_a_small_class_is_a_warning_also_if_no_holdout_row_has_it() -> None:
    assert check_sizes(["a"] * 100 + ["b"] * 29).status == "warning"
    assert check_sizes(["a"] * 100 + ["b"] * 30).status == "passed"
    absent = check_sizes(["a"] * 100)
    evidence = "the smallest of 2 classes there, b, has 0 holdout rows; 30 are needed"
    assert (absent.status, absent.evidence) == ("warning", evidence)
    parts = {name: pd.DataFrame({"kind": [0, 1, 1]}) for name in ("training", "holdout")}
    labelled = check_class_sizes(parts, "kind", Subject("", labels={"0": "on time"}))
    assert labelled.evidence.startswith("the smallest of 2 classes there, on time, has 1 holdout row")


def spread_folds(means: dict[Any, float]) -> dict[Any, np.ndarray]:
    """Return metrics in five folds that differ much from each other, but little between candidates."""
    shared = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    own = np.array([0.02, -0.02, 0.0, -0.02, 0.02])
    return {name: mean + shared + own * (place % 2) for place, (name, mean) in enumerate(means.items())}


def list_training(params: Params, **changes: Any) -> list[CheckResult]:
    board = pd.DataFrame({"model": ["lightgbm", "linear", "dummy"], "error": "", "roc_auc": [0.8, 0.7, 0.5]})
    options: dict[str, Any] = {
        "chosen": (0.8, 0.02), "fitted": 0.82, "checked": 0.79, "n_training": 400, "dummy": 0.5,
        "by_fold": spread_folds({"lightgbm": 0.8, "linear": 0.7, "dummy": 0.5}), "trials_by_fold": (),
    }  # fmt: skip
    if "trials" in changes:
        options["trials_by_fold"] = [*spread_folds(dict(enumerate(changes["trials"]["roc_auc"]))).values()]
    arguments = {"board": board, "trials": pd.DataFrame({"roc_auc": []}), **options, **changes}
    in_folds = {name: arguments.pop(name) for name in ("by_fold", "trials", "trials_by_fold")}
    results = list_training_checks(params, **arguments)
    return results + list_fold_checks("roc_auc", board, **in_folds)


def make_trials(*values: float, states: tuple[str, ...] = ()) -> pd.DataFrame:
    return pd.DataFrame({"state": [*states, *["complete"] * (len(values) - len(states))], "roc_auc": values})


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({}, "LK401", "passed"),
        ({"checked": 0.75}, "LK401", "warning"),
        ({"fitted": 1.0}, "LK402", "warning"),
        ({}, "LK402", "passed"),
        ({}, "LK403", "passed"),
        ({"by_fold": spread_folds({"lightgbm": 0.8, "linear": 0.799})}, "LK403", "warning"),
        ({"by_fold": {"lightgbm": np.array([0.8]), "linear": np.array([0.7])}}, "LK403", "skipped"),
        ({}, "LK404", "not applicable"),
        ({"trials": make_trials(0.799, 0.8)}, "LK404", "warning"),
        ({"trials": make_trials(0.7, 0.8)}, "LK404", "passed"),
        ({"trials": make_trials(0.8, 0.7)}, "LK404", "passed"),
        ({}, "LK405", "passed"),
        ({"dummy": 0.8}, "LK405", "issue"),
        ({"dummy": None}, "LK405", "not applicable"),
    ],
)
def test_the_choice_of_the_model_is_checked(params: Params, changes: Any, code: str, status: str) -> None:
    assert find_status(list_training(params, **changes), code) == status


def test_a_lead_is_compared_with_the_error_of_the_differences_in_the_same_folds(params: Params) -> None:
    (found,) = [result for result in list_training(params) if result.code == "LK403"]
    assert found.evidence == (
        "untuned, lightgbm leads linear by 0.1; the standard error of this difference over the same 5 folds is 0.0089"
    )


@pytest.mark.parametrize(("n_training", "part"), [(20_000, ""), (20_001, "the last 20,000 of ")])
def test_overfitting_names_the_rows_it_is_measured_on(params: Params, n_training: int, part: str) -> None:
    (found,) = [result for result in list_training(params, n_training=n_training) if result.code == "LK402"]
    assert f"0.820 on {part}the rows that it was fitted on" in found.evidence


def test_only_complete_trials_take_part_in_the_gain_of_tuning(params: Params) -> None:
    # The chosen candidate, of 0.8, is another one than the tuned candidate.
    trials = make_trials(0.7, 0.705, 0.9, np.nan, states=("complete", "complete", "pruned", "failed"))
    (found,) = [result for result in list_training(params, trials=trials) if result.code == "LK404"]
    assert found.status == "warning"
    assert found.evidence.startswith("the best of 2 complete trials (1 pruned, 1 failed) gains 0.005 over the defaults")


def test_an_error_metric_falls_short_when_it_rises() -> None:
    diabetes = load_params("diabetes")
    board = pd.DataFrame({"model": ["linear"], "error": "", diabetes.training.metric: [40.0]})
    trials = pd.DataFrame({diabetes.training.metric: []})
    in_folds = list_fold_checks("mae", board, trials, by_fold={"linear": np.array([40.0])}, trials_by_fold=())
    options: dict[str, Any] = {"chosen": (40.0, 2.0), "fitted": 39.0, "n_training": 9, "dummy": 60.0}
    worse = list_training_checks(diabetes, board, checked=47.0, **options)
    better = list_training_checks(diabetes, board, checked=30.0, **options)
    assert [find_status(results, "LK401") for results in (worse, better)] == ["warning", "passed"]
    assert worse[0].evidence.endswith(" in cross-validation: worse by 3.5 standard deviations of the folds")
    assert better[0].evidence.endswith(" in cross-validation: better by 5 standard deviations of the folds")
    assert better[2].evidence == "mae 40.0 in cross-validation, the dummy has 60.0"
    assert find_status(in_folds, "LK403") == "not applicable"


@pytest.mark.parametrize(
    ("value", "cross_validated", "status"),
    [
        (Interval(0.68, 0.63, 0.73), 0.76, "warning"),
        (Interval(0.68, 0.63, 0.73), 0.70, "passed"),
        (Interval(0.68, 0.63, 0.73), 0.5, "passed"),
        (Interval(0.68, np.nan, np.nan), 0.76, "skipped"),
        (Interval(0.68, 0.63, 0.73), None, "skipped"),
    ],
)
def test_the_holdout_confirms_the_folds(value: Interval, cross_validated: float | None, status: str) -> None:
    assert check_confirmed("roc_auc", value, cross_validated).status == status


def test_predictions_that_are_too_high_on_average_are_a_warning() -> None:
    y_true = RANDOM.normal(size=400)
    assert check_bias(Predictions(y_true, y_true + 0.5), make_rows(400)).status == "warning"
    assert check_bias(Predictions(y_true, y_true + 0.5), make_rows(400)).evidence.endswith(" (95 %)")
    outcomes = y_true - y_true.mean() + 0.15068
    predicted = outcomes + np.where(np.arange(400) % 2, 0.1, -0.1) + 0.01269
    words = check_bias(Predictions(outcomes, predicted), make_rows(400)).evidence.replace(",", "").split()
    assert float(words[2]) - float(words[5]) == pytest.approx(float(words[7]), abs=1e-9), words
    noise = RANDOM.normal(size=400)
    assert check_bias(Predictions(y_true, y_true + noise - noise.mean()), make_rows(400)).status == "passed"


def predict_two(y_proba: np.ndarray, shown: np.ndarray) -> Predictions:
    y_true = (RANDOM.random(len(y_proba)) < y_proba).astype(int)
    return Predictions.from_proba(y_true, np.column_stack([1 - shown, shown]), ("no", "yes"))


def sharpen(y_proba: np.ndarray, slope: float) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-slope * np.log(y_proba / (1 - y_proba)))))


@pytest.mark.parametrize(("slope", "word"), [(2.0, "too extreme"), (0.4, "too cautious")])
def test_probabilities_must_be_as_confident_as_they_are_right(slope: float, word: str) -> None:
    y_proba = RANDOM.beta(2, 2, 2000).clip(0.01, 0.99)
    found = check_confidence(predict_two(y_proba, sharpen(y_proba, slope)), make_rows(2000))
    assert (found.status, found.evidence.endswith(word)) == ("warning", True), found.evidence


def test_true_probabilities_pass_in_nineteen_of_twenty_tables() -> None:
    rows = make_rows(300)
    n_failed = 0
    for _ in range(200):
        y_proba = RANDOM.beta(0.5, 2, 300).clip(1e-4, 1 - 1e-4)
        n_failed += check_confidence(predict_two(y_proba, y_proba), rows).status == "warning"
    assert 1 <= n_failed <= 22


def test_rows_that_depend_on_each_other_widen_the_reach_of_the_confidence() -> None:
    y_proba = np.repeat(RANDOM.beta(2, 2, 50).clip(0.01, 0.99), 20)
    once = predict_two(y_proba[::20], y_proba[::20])
    ours = once.take(np.repeat(np.arange(50), 20))
    dependent = replace(make_rows(1000), codes=np.repeat(np.arange(50), 20), unit="day")
    reach = [
        float(check_confidence(ours, one).evidence.split("± ")[1].split(" (95 %)")[0])
        for one in (make_rows(1000), dependent)
    ]
    assert reach[1] > 3 * reach[0]


def test_the_evaluation_lists_the_gate_and_its_own_checks_by_code(params: Params) -> None:
    y_true = RANDOM.integers(0, 2, 300)
    y_proba = np.column_stack([1 - 0.5 * y_true, 0.5 * y_true])
    ours = Predictions(y_true, y_true, y_proba, ("benign", "malignant"))
    decision = Decision((Check("better than the dummy", True, "gain of 0.3"),))
    results = list_evaluation_checks(
        params,
        decision,
        ours=ours,
        value=Interval(0.9, 0.85, 0.95),
        gain_over_plain=Interval(-0.1, -0.2, -0.05),
        choice={"model": "linear", "scores": {"cv_roc_auc": 0.9}},
        worst_slices=[{"slice": "a below 3", "metric": 0.6, "metric_elsewhere": 0.75}],
        blocks=make_rows(300),
    )
    assert [(result.code, result.status) for result in results] == [
        ("LK501", "passed"),
        ("LK502", "not applicable"),
        ("LK504", "not applicable"),
        ("LK505", "issue"),
        ("LK506", "passed"),
        ("LK507", "warning"),
        ("LK508", "warning"),
        ("LK509", "passed"),
    ]
    (weak,) = [result for result in results if result.code == "LK508"]
    assert weak.consequence.startswith("Their mean loss is higher than that of the other rows")


def test_times_and_target_are_no_inputs_of_the_split_checks(params: Params) -> None:
    now = pd.Timestamp("2026-01-01", tz="UTC")
    parts = {name: part.assign(**{PREDICT_AT: now, OUTCOME_KNOWN_AT: now}) for name, part in make_parts(params).items()}
    assert find_status(list_wrangling(params, parts), "LK205") == "passed"


@pytest.mark.parametrize(
    ("choice", "features", "high", "cost", "remedy"),
    [
        ({"model": "linear"}, {}, 0.1, "Choice of model has not", "Keep it: `linear` is simpler than LightGBM."),
        (
            {"model": "linear"}, {"expressions": {"c": "a / b"}}, 0.1, "New features and choice of model have not",
            "Keep it: `linear` is simpler than LightGBM. Try it without new features.",
        ),
        (
            {"model": "blend", "settings": {"alpha": 1}}, {}, 0.1, "Choice of model and tuning have not",
            "Consider LightGBM alone, `training.models: [lightgbm]`, if it is simpler. Try it without tuning.",
        ),
        ({"model": "lightgbm", "settings": {"n": 1}}, {}, 0.1, "Tuning has not", "Try it without tuning."),
        ({"model": "linear"}, {}, -0.1, "Choice of model has not", "Let `lightgbm` compete in `training.models`."),
    ],
)  # fmt: skip
def test_words_about_plain_lightgbm_follow_from_the_choice(
    params: Params, choice: dict[str, Any], features: dict[str, Any], high: float, cost: str, remedy: str
) -> None:
    declared = params.model_copy(update={"features": Features(**features)})
    found = check_plain(declared, Interval(-0.05, -0.2, high), choice)
    assert found.status == ("issue" if high < 0 else "warning")
    assert found.consequence.startswith(cost)
    assert found.remedy == remedy
    assert CheckResult.from_dict(found.to_dict()) == found, "the words are kept where the result is stored"
