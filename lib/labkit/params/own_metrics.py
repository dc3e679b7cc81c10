"""Metrics of the user's own: plain functions of arrays, named in `evaluation.metrics`, used wherever labkit's are.

A function takes by name, in any order, what it needs of `y_true`, `y_pred`, `y_proba` and `classes`, and returns one
number. Which direction is better is declared with `metric`, or follows from the name as in scikit-learn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from labkit.errors import ModelError, ParamsError, get_first_line
from labkit.params.import_path import (
    choose_arguments,
    locate_code,
    parse_import_path,
    resolve_callable,
)
from labkit.params.own_calls import find_raising_line, own_code
from labkit.units import format_count

Direction = Literal["greater", "smaller"]
OFFERED = ("y_true", "y_pred", "y_proba", "classes")
PLACE = "evaluation.metrics"
ENDINGS: dict[str, Direction] = {"_score": "greater", "_loss": "smaller", "_error": "smaller", "_deviance": "smaller"}
"""Direction by the end of a name: the convention of `sklearn.metrics`."""
DECLARE = "declare it: @metric(better='greater') or 'smaller', from labkit.params.own_metrics"

MetricFunction = TypeVar("MetricFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """What a metric's numbers mean.

    Attributes
    ----------
    better
        Whether greater or smaller values are better.
    unit
        Unit of its values, e.g. `EUR per customer`; may be empty.
    meaning
        What it measures, in words for the pages; may be empty. Not read from the docstring, whose edits run no stage
        again.
    """

    better: Direction
    unit: str = ""
    meaning: str = ""


def metric(*, better: Direction, unit: str = "", meaning: str = "") -> Callable[[MetricFunction], MetricFunction]:
    """Declare the direction, the unit and the meaning of a metric; the function remains as it is.

    Parameters
    ----------
    better, unit, meaning
        See `Declaration`.

    Examples
    --------
    >>> @metric(better="greater", unit="EUR per row")
    ... def profit(y_true, y_pred):
    ...     return float(np.mean(y_pred * (100 * y_true - 20)))
    >>> profit(np.array([1, 0]), np.array([1, 1]))
    30.0
    """

    def declare(function: MetricFunction) -> MetricFunction:
        function.labkit_metric = Declaration(better, unit, meaning)  # type: ignore[attr-defined]
        return function

    return declare


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own.

    Attributes
    ----------
    path
        Its import path.
    """

    path: str
    function: Callable[..., Any]
    declared: Declaration

    @property
    def is_of_classes(self) -> bool:
        """Whether it takes predicted classes, which depend on the threshold if there are two."""
        return "y_pred" in choose_arguments(self.function, dict.fromkeys(OFFERED), where=self.path)

    def describe(self) -> str:
        """Return what it measures in words, with its unit and direction."""
        unit = f"in {self.declared.unit}" if self.declared.unit else ""
        words = [self.declared.meaning.rstrip("."), unit, f"{self.declared.better} is better"]
        return "; ".join(filter(None, words))

    def compute(
        self,
        y_true: np.ndarray,
        y_pred: np.ndarray,
        y_proba: np.ndarray | None = None,
        classes: Sequence[Any] = (),
        positive: int = 1,
    ) -> float:
        """Compute the metric.

        Parameters
        ----------
        y_true, y_pred, y_proba, classes, positive
            As in `labkit.model.evaluation.predictions.Predictions`.

        Raises
        ------
        ModelError
            The function fails, changes its input, or returns something else than one finite number.
        """
        n_rows = format_count(len(y_true), "row")
        arrays = dict(zip(OFFERED, offer_arrays(y_true, y_pred, y_proba, classes, positive), strict=True))
        given = choose_arguments(self.function, arrays, where=self.path)
        try:
            with own_code():
                found = self.function(**{name: protect(values) for name, values in given.items()})
        except Exception as error:  # whatever the user's code raises
            at = find_raising_line(error)
            if isinstance(error, ValueError) and "read-only" in str(error):
                raise ModelError(f"{self.lead()}: changes its input, at {at}: work on a copy") from error
            fault = f"{type(error).__name__}: {get_first_line(error)}, at {at}"
            raise ModelError(f"{self.lead()}: fails for {n_rows}: {fault}") from error
        if isinstance(found, bool) or not isinstance(found, int | float | np.integer | np.floating):
            shape = f" of shape {found.shape}" if isinstance(found, np.ndarray) else ""
            raise ModelError(
                f"{self.lead()}: returns {type(found).__name__}{shape}: return one number, e.g. by float()"
            )
        if not np.isfinite(found):
            raise ModelError(
                f"{self.lead()}: returns {found} for {n_rows}: return a finite number for all predictions, "
                "constant ones too"
            )
        return float(found)

    def lead(self) -> str:
        """Return the place in the params and in the code, for messages."""
        return f"{PLACE}: {self.path}: {locate_code(self.function)}"


def offer_arrays(
    y_true: np.ndarray, y_pred: np.ndarray, y_proba: np.ndarray | None, classes: Sequence[Any], positive: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Return what a function is offered: numbers; of two classes 1 for the class of interest, else 0; else labels."""
    labels = np.asarray(classes)
    if y_proba is None or len(labels) < 2:
        return y_true, y_pred, None, labels
    if len(labels) == 2:
        return (y_true == positive).astype(int), (y_pred == positive).astype(int), y_proba[:, positive], labels
    return labels[y_true], labels[y_pred], y_proba, labels


def protect(values: Any) -> Any:
    """Return a view of an array that cannot be written to; anything else as it is."""
    if not isinstance(values, np.ndarray):
        return values
    view = values.view()
    view.flags.writeable = False
    return view


def load_own_metric(path: str, *, where: str = PLACE) -> OwnMetric:
    """Import a metric and check its arguments and what it declares.

    Parameters
    ----------
    where
        Place in the params, for messages.

    Raises
    ------
    ParamsError
        It cannot be imported, takes other arguments, or does not declare whether greater or smaller is better.
    """
    function = resolve_callable(path, where=where)
    lead = f"{where}: {path}: {locate_code(function)}"
    taken = choose_arguments(function, dict.fromkeys(OFFERED), where=f"{where}: {path}")
    if "y_true" not in taken or not {"y_pred", "y_proba"} & {*taken}:
        raise ParamsError(f"{lead}: a metric takes y_true, and y_pred or y_proba or both, by these names")
    declared = getattr(function, "labkit_metric", None) or find_convention(path)
    if declared is None:
        raise ParamsError(f"{lead}: does not declare whether greater or smaller is better: {DECLARE}")
    if declared.better not in get_args(Direction):
        raise ParamsError(f"{lead}: better is {declared.better!r}: {DECLARE}")
    return OwnMetric(path, function, declared)


def find_convention(path: str) -> Declaration | None:
    """Return the direction that a name implies in scikit-learn, None if it implies none.

    >>> find_convention("sklearn.metrics:mean_pinball_loss"), find_convention("churn.metrics:profit")
    (Declaration(better='smaller', unit='', meaning=''), None)
    """
    return next((Declaration(better) for ending, better in ENDINGS.items() if path.endswith(ending)), None)


class Declared:
    """The metrics that the params of the current experiment name.

    Attributes
    ----------
    paths
        Import path by name.
    """

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self.find = lru_cache(maxsize=None)(self.load)

    def use(self, paths: Sequence[str]) -> None:
        """Take the metrics of an experiment in place of those before; they are imported when they are first needed."""
        self.paths = {parse_import_path(path)[1]: path for path in paths}
        self.find.cache_clear()

    def find_all(self) -> list[OwnMetric]:
        """Return all of them; raise ParamsError if one cannot be imported or used."""
        return [self.find(name) for name in self.paths]

    def load(self, name: str) -> OwnMetric:
        """Return the metric of a name; raise ParamsError if `evaluation.metrics` has none of it."""
        if name not in self.paths:
            raise ParamsError(f"there is no metric {name!r}: name its function in {PLACE}, e.g. churn.metrics:{name}")
        return load_own_metric(self.paths[name])


OWN_METRICS = Declared()
"""Those in use in this process."""
