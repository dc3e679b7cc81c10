"""Checks of the method: whether the split is sound, the choice stable, and the holdout confirms it.

Each function makes results of `labkit.checks` from what a notebook has computed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from labkit.checks import REGISTER, CheckResult, Status, make_check
from labkit.data.quality.copies import COPY, EXPLAINS, FINER, NEAR_COPY, RANGES
from labkit.data.quality.missingness import FILLED_AFTER, FILLED_WITH
from labkit.data.split import PARTS
from labkit.data.stability import LARGE_DRIFT, compute_part_drift
from labkit.data.timeline import TIMES
from labkit.errors import list_briefly
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.fold_checks import check_against_dummy, count_deviations_worse, describe_deviations
from labkit.model.evaluation.gate import Check, Decision
from labkit.model.evaluation.gate_limits import GROUPS_DIFFER
from labkit.model.evaluation.metrics import SMALLEST_PROBABILITY, compute_losses, is_greater_better
from labkit.model.evaluation.plain_check import check_plain
from labkit.model.evaluation.predictions import Predictions
from labkit.params.experiment import Params
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_alike, format_column, format_count, format_deviation, format_with_difference

ALL_CHECKED = "no medium or high finding is open besides those that LK201 and LK205 check"
LEAKS = {COPY, NEAR_COPY, FINER, RANGES, EXPLAINS, FILLED_WITH, FILLED_AFTER, "formula of other columns"}
MOST_REPEATED = 0.01
"""Fraction of holdout rows that may repeat a training row: in tables with few distinct values some always do."""
FEWEST_OF_HOLDOUT = 30
"""Rows of a class below which the 95 % interval of its recall may span more than ±0.18 (normal approximation)."""
MOST_FITTED = 20_000
"""Training rows, the latest ones, on which the metric of the fitted candidate is computed."""
NOTABLE_GAP = 0.1
"""Relative difference between the metric on training rows and on new ones that counts as overfitting: a convention."""
MOST_DEVIATIONS = 2.0
NORMAL_95 = 1.96
GATE_CODES = {
    "better than the dummy": "LK501",
    "enough days to evaluate": "LK502",
    "plausible result": "LK503",
    "same classes in training and holdout": "LK504",
    "serves the predictions that were evaluated": "LK601",
    "small enough to be served": "LK602",
    "not worse than the champion": "LK603",
    "no group of rows much worse than before": "LK604",
    "accepts what the champion accepts": "LK605",
    "trained without holdout rows": "LK606",
    "predicts fast enough": "LK607",
    "treats groups alike": "LK608",
    "reaches the required value": "LK609",
    "calibrated well enough": "LK610",
    "serves the predictions of the refitted model": "LK601",
    "refitted model predicts like the evaluated one": "LK611",
}
"""Code of each check of the gate, by its name."""
OF_GROUPS = {"LK511", "LK608"}
"""Checks of the differences between declared groups."""
NOT_APPLICABLE = {"LK502": "rows have no time", "LK504": "the target is a number"}
"""Why a check is absent from the decision of the gate, by its code."""


def list_wrangling_checks(
    parts: Mapping[str, pd.DataFrame],
    params: Params,
    *,
    left_open: pd.DataFrame,
    embargoed: Mapping[str, int],
    is_whole: bool,
    is_stable: bool,
) -> list[CheckResult]:
    """Check the split and the cleaned rows.

    Parameters
    ----------
    parts
        Clean rows by part.
    left_open
        Findings for which nothing is declared, as `labkit.data.quality.issues.list_open` returns them.
    embargoed
        Rows by part that were dropped because their outcome was known too late.
    is_whole, is_stable
        Whether every row is in exactly one part, and whether cleaning a clean row changes nothing.
    """
    target = params.data.target
    leaking = left_open.loc[left_open["what"].isin(LEAKS), "column"].tolist()
    others = left_open.loc[~left_open["what"].isin({*LEAKS, "drift"}), "column"].unique().tolist()
    drifted = compute_part_drift(parts["training"], parts["holdout"], list_inputs(parts["training"], params))
    subject = Subject.from_params(params)
    results = [
        make_check("LK201", not leaking, list_or(leaking, "no column leaks the target"), failed="issue"),
        check_repeated(parts, params),
        check_known_in_time(parts, params, embargoed),
        check_groups(parts, params),
        make_check("LK205", drifted.empty, describe_drift(drifted, params.features.drop)),
        make_check("LK206", is_whole, "counted by index" if is_whole else "rows are lost or repeated", failed="issue"),
        make_check(
            "LK207", is_stable if params.wrangling.rules else None,
            format_count(len(params.wrangling.rules), "rule") + " applied twice", failed="issue",
        ),
        check_class_sizes(parts, target.column, subject) if target.task == "classification" else None,
        make_check("LK209", not others, list_or(others, ALL_CHECKED)),
    ]  # fmt: skip
    return [result for result in results if result is not None]


def check_repeated(parts: Mapping[str, pd.DataFrame], params: Params) -> CheckResult:
    """Check whether holdout rows repeat a training row in all inputs and in the target."""
    columns = [*list_inputs(parts["training"], params), params.data.target.column]
    known = set(pd.util.hash_pandas_object(parts["training"][columns].astype(str), index=False))
    repeated = pd.util.hash_pandas_object(parts["holdout"][columns].astype(str), index=False).isin(known)
    share, n_rows = float(repeated.mean()), int(repeated.sum())
    evidence = f"{n_rows:,} of {format_count(len(repeated), 'holdout row')} repeat a training row in every column"
    if not n_rows and (apart := find_apart(parts, columns)):
        evidence = f"no holdout row has a value of {apart} that a training row has, so none can repeat one"
        # Of a declared group the split saw to that, for this reason; an identifier or a time would be unique anyhow.
        return make_check("LK202", True if apart == params.data.split.group else None, evidence)
    return make_check("LK202", share <= MOST_REPEATED, evidence)


def find_apart(parts: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> str | None:
    """Return the first column with no value that is in both training and holdout, such as a time or an identifier."""
    pairs = ((name, parts["training"][name].astype(str), parts["holdout"][name].astype(str)) for name in columns)
    return next((name for name, training, holdout in pairs if not holdout.isin(training).any()), None)


def check_known_in_time(parts: Mapping[str, pd.DataFrame], params: Params, embargoed: Mapping[str, int]) -> CheckResult:
    """Check that outcomes become known after the prediction, and before the first row of the next part."""
    time = params.data.time
    if time is None:
        return make_check("LK203", None, "rows have no time")
    if params.data.split.method != "time":
        return make_check("LK203", False, f"rows have a time, but the split is by {params.data.split.method}")
    if time.predict_at.strip() == time.outcome_known_at.strip():
        evidence = f"the outcome is taken as known at `{time.predict_at}`, the moment of the prediction itself"
        return make_check("LK203", False, evidence)
    n_late = sum(
        int((parts[name][OUTCOME_KNOWN_AT] > parts[following][PREDICT_AT].min()).sum())
        for name, following in pairwise(PARTS)
    )
    n_dropped = format_count(sum(embargoed.values()), "row")
    evidence = f"{format_count(n_late, 'outcome')} known only in the next part, after {n_dropped} were dropped for it"
    return make_check("LK203", n_late == 0, evidence, failed="issue")


def check_groups(parts: Mapping[str, pd.DataFrame], params: Params) -> CheckResult:
    """Check that no group is in two parts, where a group is declared."""
    group = params.data.split.group
    if group is None:
        return make_check("LK204", None, "no group is declared")
    sets = [set(part[group].dropna()) for name, part in parts.items() if name in PARTS and group in part]
    shared = sum(map(len, sets)) - len(set().union(*sets))
    return make_check("LK204", shared == 0, f"{format_count(shared, 'value')} of {group} in two parts", failed="issue")


def check_class_sizes(parts: Mapping[str, pd.DataFrame], target: str, subject: Subject = GENERIC) -> CheckResult:
    """Check whether each class of any part has enough rows in the holdout."""
    classes = pd.unique(pd.concat([part[target] for part in parts.values()]).dropna())
    counts = parts["holdout"][target].value_counts().reindex(classes, fill_value=0).sort_values(kind="stable")
    rarest, fewest = subject.name_class(counts.index[0]), int(counts.iloc[0])
    evidence = f"the smallest of {len(counts)} classes there, {rarest}, has {format_count(fewest, 'holdout row')}; "
    return make_check("LK208", fewest >= FEWEST_OF_HOLDOUT, f"{evidence}{FEWEST_OF_HOLDOUT} are needed")


def list_training_checks(
    params: Params,
    board: pd.DataFrame,
    *,
    chosen: tuple[float, float],
    fitted: float,
    n_training: int,
    checked: float,
    dummy: float | None,
) -> list[CheckResult]:
    """Check the choice of the model; see also `labkit.model.evaluation.fold_checks`.

    Parameters
    ----------
    board
        Leaderboard, as `labkit.model.training` returns it.
    chosen
        Mean and standard deviation of the chosen candidate's metric over the folds.
    fitted, checked
        Its metric on the last `MOST_FITTED` rows that it was fitted on and on the validation rows.
    n_training
        Number of rows that it was fitted on.
    dummy
        The dummy's mean over the folds; None if it was not a candidate or failed.
    """
    metric, (mean, deviation) = params.training.metric, chosen
    sign = 1 if is_greater_better(metric) else -1
    worse = count_deviations_worse(metric, chosen, checked)
    gap = sign * (fitted - checked) / max(abs(checked), 1e-12)
    failed = board.loc[board["error"] != "", "model"].tolist()
    part = f"the last {MOST_FITTED:,} of " if n_training > MOST_FITTED else ""
    _, shown, shown_fitted = format_alike(mean, checked, fitted, uncertainty=deviation)
    apart = f": {describe_deviations(worse)} of the folds" if worse else ""
    return [
        make_check(
            "LK401", worse <= MOST_DEVIATIONS,
            f"{metric} {shown} on validation rows, {format_deviation(mean, deviation)} in cross-validation{apart}",
        ),
        make_check(
            "LK402", gap <= NOTABLE_GAP,
            f"{metric} {shown_fitted} on {part}the rows that it was fitted on, {shown} on validation rows",
        ),
        check_against_dummy(metric, chosen, dummy),
        make_check("LK406", not failed, list_or(failed, format_count(len(board), "candidate") + " fitted")),
    ]  # fmt: skip


def list_evaluation_checks(
    params: Params,
    decision: Decision,
    *,
    ours: Predictions,
    value: Interval,
    gain_over_plain: Interval | None,
    choice: Mapping[str, Any],
    worst_slices: Sequence[Mapping[str, Any]],
    blocks: Blocks,
) -> list[CheckResult]:
    """Check the model on the holdout: the gate's checks and those that only warn.

    Parameters
    ----------
    value, gain_over_plain
        The metric with its interval, and the paired gain over plain LightGBM; None without that baseline.
    choice
        The chosen candidate with its metric in cross-validation; see
        `labkit.model.training.selection.Choice.to_dict`.
    worst_slices
        Groups of rows that stand out as worse, as lines of `labkit.model.evaluation.slices.find_worst_slices`.
    blocks
        Blocks of the holdout rows that are resampled together.
    """
    metric = params.training.metric
    results = [from_gate(check) for check in decision.checks]
    made = {result.code for result in results}
    results += [make_check(code, None, why) for code, why in NOT_APPLICABLE.items() if code not in made]
    results.append(check_plain(params, gain_over_plain, choice))
    results.append(check_confirmed(metric, value, choice["scores"].get(f"cv_{metric}")))
    results += [check_bias(ours, blocks), check_confidence(ours, blocks)]
    named = list_briefly(describe_groups(worst_slices, metric), most=3) or "none of the groups that were tried"
    results.append(make_check("LK508", not len(worst_slices), named))
    return sorted(results, key=lambda result: result.code)


def describe_groups(groups: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """Return each group of rows with its metric beside that of the other rows, or that it cannot be computed there.

    >>> describe_groups([{"slice": "age < 30", "metric": 0.6123, "metric_elsewhere": 0.7}, {"slice": "age = 4"}], "f1")
    ['age < 30 (f1 0.612, elsewhere 0.700)', 'age = 4']
    >>> describe_groups([{"slice": "age = 4", "metric": float("nan"), "metric_elsewhere": 0.7}], "f1")
    ['age = 4 (f1 not computable, elsewhere 0.700)']
    """
    named = []
    for one in groups:
        values = [one[name] for name in ("metric", "metric_elsewhere") if name in one]
        shown = [
            "not computable" if np.isnan(value) else text
            for value, text in zip(values, format_column(values), strict=True)
        ]
        named.append(f"{one['slice']} ({metric} {', elsewhere '.join(shown)})" if shown else str(one["slice"]))
    return named


def list_group_checks(check: Check | None) -> list[CheckResult]:
    """Return what the evaluation shows of the declared groups; see `gate_limits.check_declared_groups`."""
    return [] if check is None else [from_gate(check, code="LK511")]


def from_gate(check: Check, *, code: str = "") -> CheckResult:
    """Return the result of a check of the gate: an issue if it failed, a warning if it passed with one.

    Parameters
    ----------
    code
        Its code where the evaluation shows the check already.
    """
    status: Status = "issue" if not check.passed else "warning" if check.warning else "passed"
    code = code or GATE_CODES[check.name]
    consequence = describe_unsure_groups(check) if code in OF_GROUPS and status == "warning" else ""
    own = replace(REGISTER[code], consequence=consequence) if consequence else None
    return CheckResult(code, status, check.evidence, own)


def describe_unsure_groups(check: Check) -> str:
    """Return what follows if groups may differ by too much, or cannot be compared: the gate refuses neither."""
    if GROUPS_DIFFER in check.warning:
        return (
            "On these rows groups differ by more than is accepted, but the interval of the difference includes the "
            "limit: it may be chance, and it does not block the release."
        )
    return "How the model treats groups with few rows is not known; it does not block the release."


def check_confirmed(metric: str, value: Interval, cross_validated: float | None) -> CheckResult:
    """Check whether the cross-validated metric lies in the holdout's interval, or is worse than it."""
    if cross_validated is None or np.isnan([value.low, value.high]).any():
        return CheckResult("LK506", "skipped", "no cross-validated metric, or no interval")
    is_greater = is_greater_better(metric)
    passed = cross_validated <= value.high if is_greater else cross_validated >= value.low
    half = (value.high - value.low) / 2
    shown, low, high, before = format_alike(value.value, value.low, value.high, cross_validated, uncertainty=half)
    evidence = f"{metric} {shown} [{low}, {high}], cross-validated {before}"
    return make_check("LK506", passed, evidence)


def check_bias(ours: Predictions, blocks: Blocks) -> CheckResult:
    """Check whether the mean prediction equals the mean outcome within its 95 % interval ("calibration in the large").

    Source: Van Calster et al., "Calibration: the Achilles heel of predictive analytics", BMC Medicine 17 (2019).
    """
    if len(ours.classes) > 2:
        return make_check("LK507", None, "more than two classes")
    predicted = ours.y_proba[:, ours.positive] if ours.classes else ours.y_pred
    actual = (ours.y_true == ours.positive) if ours.classes else ours.y_true
    difference = np.asarray(predicted, dtype="float64") - np.asarray(actual, dtype="float64")
    reach = NORMAL_95 * blocks.compute_error(difference)
    means = float(np.mean(predicted)), float(np.mean(actual))
    mean, outcome, apart = format_with_difference(*means, error=reach)
    evidence = f"mean prediction {mean}, mean outcome {outcome}, difference {apart} ± {reach:.2g} (95 %)"
    if np.isnan(reach):
        return CheckResult("LK507", "skipped", "too few independent rows for an interval")
    return make_check("LK507", bool(abs(difference.mean()) <= reach), evidence)


def check_confidence(ours: Predictions, blocks: Blocks) -> CheckResult:
    """Check whether log loss is what it would be if the probabilities were true, within its 95 % interval.

    If outcomes are drawn with the predicted probabilities p, the expected log loss of a row is -Σ p log p and its
    variance Σ p (log p)² - (Σ p log p)². The excess over it, divided by its standard error, is the z statistic of
    Spiegelhalter, "Probabilistic prediction in patient management and clinical trials", Statistics in Medicine 5
    (1986), for log loss in place of the Brier score. Positive: too extreme; negative: too cautious. Where rows depend
    on each other, the standard error is larger by as much as that of the mean excess.
    """
    if not ours.classes:
        return make_check("LK509", None, "the target is a number")
    proba = np.clip(ours.y_proba, SMALLEST_PROBABILITY, 1.0)
    logs = np.log(proba)
    expected = -(proba * logs).sum(axis=1)
    excess = compute_losses(ours) - expected
    variance = (proba * logs**2).sum(axis=1) - expected**2
    errors = blocks.compute_error(excess), make_rows(len(excess)).compute_error(excess)
    if np.isnan(errors).any():
        return CheckResult("LK509", "skipped", "too few independent rows for an interval")
    inflation = max(1.0, errors[0] / errors[1]) if errors[1] > 0 else 1.0
    reach = NORMAL_95 * inflation * float(np.sqrt(np.clip(variance, 0, None).sum())) / len(excess)
    mean, passed = float(excess.mean()), bool(abs(excess.mean()) <= reach)
    losses = mean + float(expected.mean()), float(expected.mean())
    loss, least, apart = format_with_difference(*losses, error=reach)
    evidence = (
        f"log loss {loss}, expected {least} if the probabilities were true, difference {apart} ± {reach:.2g} (95 %)"
    )
    return make_check("LK509", passed, evidence + ("" if passed else f": too {'extreme' if mean > 0 else 'cautious'}"))


def list_inputs(frame: pd.DataFrame, params: Params) -> list[str]:
    """Return the columns of clean rows besides the target and the times."""
    return [str(name) for name in frame if name not in (params.data.target.column, *TIMES)]


def describe_drift(drifted: pd.DataFrame, left_out: Collection[str] = ()) -> str:
    """Return the columns that drifted, with their population stability index; those of `left_out` are named last."""
    if drifted.empty:
        return f"no column's population stability index exceeds {LARGE_DRIFT:g} by more than luck explains"
    is_out = drifted["column"].isin(left_out)
    inputs, others = (
        list_briefly([f"{line.column} {line.drift:.2f}" for line in part.itertuples()])
        for part in (drifted[~is_out], drifted[is_out])
    )
    named = [inputs] * bool(inputs) + [f"{others} (no feature by itself: features.drop)"] * bool(others)
    compared = "population stability index of clean holdout against training rows"
    return f"{compared} above {LARGE_DRIFT:g}: {'; '.join(named)}"


def list_or(names: Sequence[str], otherwise: str) -> str:
    """Return names as a short list, or the other string for an empty list."""
    return list_briefly(names) if len(names) else otherwise
