"""Fitting the recipe of a model again on other rows: its features, preparation and estimator with their settings."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.pipeline import Pipeline

from labkit.errors import LabkitError, ModelError, list_briefly
from labkit.model.estimators.calibrated import Calibrated
from labkit.model.estimators.target_transform import OnScale
from labkit.model.evaluation.blocks import find_blocks
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.model.evaluation.refit_stability import describe_refit, list_halves
from labkit.model.training.comparison import adapt_preparation, fit_model
from labkit.model.training.cross_validation import describe_error
from labkit.params.experiment import Params
from labkit.params.own_calls import own_code
from labkit.params.tables import Target

REMEDY = "correct it, or set deploy.refit: false to publish the evaluated model itself"


def refit_model(model: Pipeline, rows: pd.DataFrame, *, target: Target, seed: int) -> Pipeline:
    """Return the recipe of a model fitted on rows; the model is not changed.

    Parameters
    ----------
    model
        A fitted pipeline as `labkit.model.training.comparison.fit_model` returns it.
    rows
        Clean rows with the target, shape (n_rows, n_columns); their outcomes count in the histories.

    Returns
    -------
    Pipeline
        With the hashes of these rows; see `labkit.model.evaluation.row_hashes`.
    """
    return fit_recipe(model, clone(model[1:]), rows, target=target, seed=seed)


def fit_recipe(model: Pipeline, recipe: Pipeline, rows: pd.DataFrame, *, target: Target, seed: int) -> Pipeline:
    """Return the features of a model and an unfitted preparation and estimator, fitted on rows."""
    outcome = rows[target.column]
    features = clone(model[0]).fit(rows.drop(columns=target.column), outcome)
    made = features.transform(rows)
    (_, preparation), *others = recipe.steps
    candidate = Pipeline([("preparation", adapt_preparation(preparation, features.outputs_)), *others])
    return fit_model(candidate, features, [(made, outcome)], target=target, seed=seed)


def refit_on_all_rows(evaluated: Pipeline, parts: Sequence[pd.DataFrame], *, target: Target, seed: int) -> Pipeline:
    """Return the recipe of an evaluated model fitted on the rows of all parts; the model is not changed.

    Calibration and target transform keep their kind and, of a calibration, its slope and intercept, which were learned
    on rows that the calibrated model had not seen. Estimators that stopped early keep their number of iterations.

    Parameters
    ----------
    evaluated
        A fitted pipeline as `labkit.model.training.comparison.fit_model` returns it.
    parts
        Clean rows with the target, e.g. of training, validation and holdout.

    Raises
    ------
    ModelError
        The recipe cannot be fitted on these rows, or gives a model with other inputs or classes, of which the metrics
        would say nothing.
    """
    rows = pd.concat(parts)
    if hasattr(evaluated, "classes_"):
        check_no_new_classes(evaluated.classes_.tolist(), rows[target.column])
    try:
        with own_code():
            recipe = clone(evaluated[1:]).set_params(**dict(list_iterations(evaluated[-1], evaluated.steps[-1][0])))
            refitted = fit_recipe(evaluated, recipe, rows, target=target, seed=seed)
    except LabkitError as error:
        raise ModelError(f"the model cannot be refitted on all rows (deploy.refit): {error}; {REMEDY}") from error
    except Exception as error:  # whatever the user's code or a library raises
        raise ModelError(
            f"{type(evaluated[-1]).__name__} cannot be refitted on all rows (deploy.refit): {describe_error(error)}; "
            f"{REMEDY}"
        ) from error
    check_same_inputs(evaluated[0].inputs_, refitted[0].inputs_)
    return refitted


def refit_for_release(
    params: Params, evaluated: Pipeline, parts: Sequence[pd.DataFrame], *, threshold: float | None
) -> tuple[Pipeline, dict[str, Any]]:
    """Return the model to publish, and the record of its refit, which is empty if it is the evaluated one.

    Parameters
    ----------
    evaluated
        The evaluated model, whose histories have observed the holdout.
    parts
        Clean rows of training, validation and holdout, with the target; none if the model is not to be refitted.
    threshold
        The threshold in force, if there is one: that of the evaluated model.

    Raises
    ------
    ModelError
        See `refit_on_all_rows`.
    """
    if not parts:
        return evaluated, {}
    target, (*others, holdout) = params.data.target, parts

    def refit(rows: pd.DataFrame) -> Pipeline:
        return refit_on_all_rows(evaluated, [*others, rows], target=target, seed=params.seed)

    def predict(model: Pipeline, rows: pd.DataFrame) -> Predictions:
        return compute_predictions(rows[target.column], model, rows, target)

    def predict_other(half: pd.DataFrame, other: pd.DataFrame) -> Predictions:
        model = refit(half)
        model[0].observe(other)  # as the evaluated model has: the histories are no part of the difference
        return predict(model, other)

    refitted = refit(holdout)
    before, blocks = predict(evaluated, holdout), find_blocks(holdout, params.data)
    unseen = [
        (before.take(other), predict_other(holdout.iloc[half], holdout.iloc[other]))
        for half, other in list_halves(blocks, seed=params.seed)
    ]
    n_evaluated, seen = sum(map(len, others)), (before, predict(refitted, holdout))
    return refitted, describe_refit(
        n_evaluated, n_evaluated + len(holdout), unseen=unseen, seen=seen, threshold=threshold
    )


def list_iterations(estimator: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the parameters, by name within a pipeline, that make an estimator stop where it stopped early.

    Parameters
    ----------
    estimator
        A fitted estimator.
    place
        Name of the step, and of estimators around it.
    """
    if isinstance(estimator, Calibrated | OnScale):
        yield from list_iterations(estimator.estimator, f"{place}__estimator")
    elif isinstance(estimator, VotingClassifier | VotingRegressor):
        for (name, _), member in zip(estimator.estimators, estimator.estimators_, strict=True):
            yield from list_iterations(member, f"{place}__{name}")
    elif isinstance(estimator, Pipeline):
        yield from list_iterations(estimator[-1], f"{place}__{estimator.steps[-1][0]}")
    else:
        settings = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
        # With "auto", scikit-learn decides by the number of rows, and there are more of them now.
        if settings.get("early_stopping") in (True, "auto") and "max_iter" in settings:
            yield from ((f"{place}__early_stopping", False), (f"{place}__max_iter", int(estimator.n_iter_)))
        if settings.get("n_iter_no_change") and "n_estimators" in settings:
            yield from ((f"{place}__n_iter_no_change", None), (f"{place}__n_estimators", int(estimator.n_estimators_)))


def check_no_new_classes(known: Sequence[Any], outcome: pd.Series) -> None:
    """Raise ModelError if rows have classes that the evaluated model does not predict."""
    if new := sorted({*outcome.tolist()} - {*known}, key=str):
        raise ModelError(
            f"the model cannot be refitted on all rows (deploy.refit): the holdout has classes that training lacks: "
            f"{list_briefly(map(repr, new))}; choose the days of data.split so that each part has every class, or set "
            "deploy.refit: false"
        )


def check_same_inputs(evaluated: dict[str, str], refitted: dict[str, str]) -> None:
    """Raise ModelError if a refitted model takes other columns than the evaluated one, or of other kinds."""
    changed = [
        f"{name} ({evaluated.get(name, 'no input')} before, {refitted.get(name, 'no input')} now)"
        for name in {**evaluated, **refitted}
        if evaluated.get(name) != refitted.get(name)
    ]
    if changed:
        raise ModelError(
            f"refitted on all rows (deploy.refit), the model would take other inputs: {list_briefly(changed)}; declare "
            "their types in wrangling.rules, or set deploy.refit: false"
        )
