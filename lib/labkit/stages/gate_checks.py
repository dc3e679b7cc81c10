"""What the gate checks of a release on the holdout rows: by itself, and against the champion on the same rows."""

import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit import paths
from labkit.artifacts import PLACES
from labkit.data.table_files import load_table
from labkit.data.timeline import TIMES
from labkit.errors import ChampionError, DataError, MissingCodeError, ModelError, list_briefly
from labkit.model.evaluation import gate_limits
from labkit.model.evaluation.blocks import find_blocks
from labkit.model.evaluation.bootstrap import compare_paired
from labkit.model.evaluation.fairness import FEWEST_ROWS_OF_GROUP
from labkit.model.evaluation.gate import (
    CHAMPION_CHECK,
    Check,
    Decision,
    check_champion,
    check_parity,
    check_release_size,
)
from labkit.model.evaluation.metrics import compute_losses, compute_metric
from labkit.model.evaluation.predictions import (
    Predictions,
    align_proba,
    compute_predictions,
    extend_classes,
    make_predictions,
)
from labkit.model.evaluation.refit_stability import check_refit
from labkit.model.evaluation.row_hashes import ATTRIBUTE, count_shared, hash_rows
from labkit.model.evaluation.slice_comparison import compare_slices
from labkit.model.release import bundle
from labkit.model.release.contract_changes import list_refusals
from labkit.model.release.runtime import EVALUATED
from labkit.params.experiment import Params
from labkit.params.subject import Subject
from labkit.params.tables import Target
from labkit.units import format_count

MOST_ROWS_OF_PARITY = 1000
"""Holdout rows on which graph and pipeline are compared once more; `deploy` compares them on all."""


def list_checks(params: Params, opened: bundle.Release, gate: Decision) -> list[Check]:
    """Return the gate's checks followed by the checks of the release itself.

    Raises
    ------
    MissingDataError
        There is no holdout.
    DataError
        It cannot be predicted, or a column of `evaluation.gate.fairness` is missing.
    """
    limits, holdout = params.evaluation.gate, load_holdout(params)
    served = [path for path in sorted(opened.folder.iterdir()) if path.name != EVALUATED]
    evaluated, refit = opened.evaluated_pipeline, opened.facts.get("refit")
    with opened.code.active():
        checks = [
            *gate.checks,
            check_graph(params, opened, opened.pipeline, holdout),
            check_release_size({path.name: path.stat().st_size for path in served}, limits),
            check_rows(params, evaluated, holdout, is_refitted=opened.is_refitted),
            *([check_refit(refit, params.deploy)] if refit else []),
        ]
        if limits.most_milliseconds is not None:
            checks += gate_limits.check_speed(measure_milliseconds(opened, holdout), limits)
        if limits.required_value is not None or limits.most_miscalibration is not None or limits.fairness is not None:
            ours = compute_predictions(holdout[params.data.target.column], evaluated, holdout, params.data.target)
            metric = params.training.metric
            checks += gate_limits.check_required_value(metric, compute_metric(metric, ours), limits)
            checks += gate_limits.check_calibration(ours, limits)
            checks += check_fair_groups(params, holdout, ours, opened.facts.get("threshold"))
    return checks


def load_holdout(params: Params) -> pd.DataFrame:
    """Return the clean holdout rows of this checkout."""
    return load_table(paths.find_data_dir(params.experiment) / PLACES["clean_holdout"])


def check_graph(params: Params, opened: bundle.Release, pipeline: Any, holdout: pd.DataFrame) -> Check:
    """Check the recorded proof that the graph predicts as the pipeline, and prove it once more on holdout rows."""
    recorded = check_parity(opened.facts["onnx"], is_refitted=opened.is_refitted)
    if opened.graph is None or not recorded.passed:
        return recorded
    places = np.unique(np.linspace(0, len(holdout) - 1, MOST_ROWS_OF_PARITY).astype(int))
    found = opened.prove_parity(pipeline, holdout.iloc[places], tolerance=params.deploy.tolerance)
    if found.is_equal:
        return recorded
    if found.largest_difference is None:
        return Check(recorded.name, False, f"the ONNX graph: {found.reason}")
    return check_parity({**found.to_dict(), "reason": ""}, is_refitted=opened.is_refitted)


def check_rows(params: Params, evaluated: Any, holdout: pd.DataFrame, *, is_refitted: bool) -> Check:
    """Check by the hashes of its training rows that the evaluated model was fitted on no holdout row."""
    shared = count_fitted(evaluated, holdout, params.data.target)
    return gate_limits.check_fitted_rows(shared, len(holdout), is_refitted=is_refitted)


def count_fitted(pipeline: Any, rows: pd.DataFrame, target: Target) -> int | None:
    """Return how many of some rows a pipeline was fitted on; None if it does not hold the hashes of its rows."""
    fitted = getattr(pipeline, ATTRIBUTE, None)
    return None if fitted is None else count_shared(fitted, hash_rows(rows[target.column], target))


def measure_milliseconds(opened: bundle.Release, holdout: pd.DataFrame) -> float:
    """Return the time in which an opened release predicts one row, the best of several tries."""
    row = holdout.head(1)[list(opened.row_features.inputs_)]
    return 1000 * min(timeit.Timer(lambda: opened.predict(row)).repeat(5, 10)) / 10


def check_fair_groups(params: Params, holdout: pd.DataFrame, ours: Predictions, threshold: float | None) -> list[Check]:
    """Check the differences between the groups of `evaluation.gate.fairness`; no check if none are declared."""
    blocks = find_blocks(holdout, params.data).fit_length(compute_losses(ours))
    found = gate_limits.check_declared_groups(params, holdout, ours, threshold, blocks=blocks)
    return [] if found is None else [found]


def list_comparisons(params: Params, opened: bundle.Release, folder: Path, *, champion: str) -> list[Check]:
    """Return the checks of a release against the champion, on the current holdout rows, with the same resamples.

    Parameters
    ----------
    folder
        The champion's release, fetched and verified.
    champion
        Name of the champion in the evidence.

    Raises
    ------
    ChampionError
        The champion needs a package that is missing here, so whether it can predict is not known.
    """
    target, evaluation, metric = params.data.target, params.evaluation, params.training.metric
    holdout = load_holdout(params)
    y_true = holdout[target.column]
    contract: list[Check] = []
    try:
        theirs = bundle.load_release(folder)
        contract = [gate_limits.check_contract(list_refusals(opened, theirs), champion=champion)]
        if theirs.facts["task"] != opened.facts["task"]:
            raise ModelError(f"it is a model for {theirs.facts['task']}")
        if target.task == "classification":
            check_common_classes(theirs.facts["classes"], y_true)
        predict, named = choose_model_to_compare(opened, theirs, holdout, target, champion=champion)
        if predict is None:
            return [
                Check(CHAMPION_CHECK, False, f"{named}: `labkit promote {params.experiment} --reason …`"),
                *contract,
            ]
        their_output = predict(holdout)
    except MissingCodeError as error:
        raise ChampionError(
            f"{params.experiment}: {champion} cannot be tried here ({error}). Nothing was compared with it and nothing "
            f"is published. Replace it without comparison: `labkit promote {params.experiment} --reason …`"
        ) from error
    except (DataError, ModelError) as error:
        # Its files were fetched and are those that were published, so it was really tried.
        evidence = f"{champion} was tried and cannot predict today's rows ({error}), so it could not serve them either"
        return [Check(CHAMPION_CHECK, True, evidence, warning=f"{champion} could not be compared"), *contract]
    ours, others = align_predictions(
        y_true,
        [(opened.predict_as_evaluated(holdout), opened.facts["classes"]), (their_output, theirs.facts["classes"])],
        target,
    )
    blocks = find_blocks(holdout, params.data).fit_length(compute_losses(ours))
    drawn: dict[str, Any] = {"confidence": evaluation.confidence, "blocks": blocks}
    gain = compare_paired(metric, ours, others, n_samples=evaluation.bootstrap_samples, seed=params.seed, **drawn)
    rows, subject = holdout.drop(columns=[target.column, *TIMES], errors="ignore"), Subject.from_params(params)
    slices = compare_slices(rows, ours, others, fewest=FEWEST_ROWS_OF_GROUP, subject=subject, **drawn)
    return [
        check_champion(
            metric,
            gain,
            evaluation.gate,
            champion=named,
            **drawn,
            value=compute_metric(metric, others),
            is_same=ours.equals(others),
        ),
        gate_limits.check_slices(slices, ours, others, evaluation.gate, metric=metric, champion=named),
        *contract,
    ]


def choose_model_to_compare(
    opened: bundle.Release, theirs: bundle.Release, holdout: pd.DataFrame, target: Target, *, champion: str
) -> tuple[Callable[[pd.DataFrame], np.ndarray] | None, str]:
    """Return how the champion predicts the holdout in a comparison with a release, and its name in the evidence.

    A refitted champion may have learned from the holdout, on which it would be compared with a model that has not. So
    it is compared as it is in service if it has seen none of the rows, or else as the evaluated model if that has not.
    If both have, there is no comparison: None and the reason. If neither side was refitted, the champion is compared
    as it is.
    """
    if not opened.is_refitted and not theirs.is_refitted:
        return theirs.predict, champion
    n_shared = count_fitted(theirs.pipeline, holdout, target)
    if n_shared == 0:
        return theirs.predict, champion
    if theirs.is_refitted and count_fitted(theirs.evaluated_pipeline, holdout, target) == 0:
        return theirs.predict_as_evaluated, f"{champion} before it was refitted"
    seen = "it is not known which rows it was fitted on"
    if n_shared is not None:
        seen = f"it was fitted on {n_shared:,} of {format_count(len(holdout), 'holdout row')}"
    kept = "its evaluated model saw some of them, too" if theirs.is_refitted else "it keeps no evaluated model"
    return None, (
        f"{champion} cannot be compared fairly: {seen}, and {kept}. It stays the champion, unless a person replaces it "
        "without a comparison"
    )


def check_common_classes(known: Sequence[Any], y_true: pd.Series) -> None:
    """Raise ModelError if a champion knows fewer than two classes of the holdout, e.g. because they were renamed.

    With nearly all its probabilities at 0 it would lose to any model, which would show nothing about either.
    """
    present = {*np.asarray(y_true).tolist()}
    if len(present & {*known}) < min(2, len(present)):
        theirs, ours = (list_briefly(map(repr, sorted(labels, key=str))) for labels in (known, present))
        raise ModelError(f"it predicts the classes {theirs}, where the holdout has {ours}")


def align_predictions(
    y_true: pd.Series, outputs: Sequence[tuple[np.ndarray, Sequence[Any]]], target: Target
) -> list[Predictions]:
    """Return the predictions of several releases for the same rows, of the same classes in the same order.

    A class that a release does not know has probability 0, so its rows count as errors, as they would in production.

    Parameters
    ----------
    outputs
        Output and classes of each release; see `labkit.model.release.bundle.Release.predict`.
    """
    if target.task == "regression":
        return [make_predictions(y_true, output, (), target) for output, _ in outputs]
    classes = extend_classes(outputs[0][1], np.asarray(y_true).tolist(), *(known for _, known in outputs[1:]))
    aligned = [align_proba(output, known, classes) for output, known in outputs]
    return [make_predictions(y_true, output, classes, target) for output in aligned]
