"""The section `training`: candidates, folds, metric and tuning."""

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from labkit.names import METRIC_NAME
from labkit.params.section import ImportPath, Section, UsedBy

DUMMY = "dummy"
"""The model that always predicts the constant that is best for the metric."""
USUAL_MODELS = (DUMMY, "linear", "random_forest", "extra_trees", "hist_gradient_boosting", "lightgbm", "blend")


CLASSIFIERS = ("naive_bayes",)


MODELS = (*USUAL_MODELS, "decision_tree", "ada_boost", "gradient_boosting", "nearest_neighbours", *CLASSIFIERS)


CLASSIFICATION_METRICS = ("roc_auc", "average_precision", "log_loss", "accuracy", "balanced_accuracy", "f1")


REGRESSION_METRICS = ("r2", "mae", "rmse", "median_absolute_error")


BUILTIN_METRICS = CLASSIFICATION_METRICS + REGRESSION_METRICS


def find_kind_of_model(model: object) -> str:
    """Return the tag of a model's type: one of labkit's, or an import path."""
    return "function-import" if isinstance(model, str) and ":" in model else "literal-name"


Model = Annotated[
    Annotated[Literal[MODELS], Tag("literal-name")] | Annotated[ImportPath, Tag("function-import")],  # type: ignore[valid-type]
    Discriminator(find_kind_of_model),
]
"""One of labkit's models, or a function of the user's own that returns a candidate."""


def find_kind_of_metric(metric: object) -> str:
    """Return the tag of a metric's type: one of labkit's, or a name of the user's own."""
    is_own = isinstance(metric, str) and metric not in BUILTIN_METRICS and re.fullmatch(METRIC_NAME, metric)
    return "function-name" if is_own else "literal-name"


def allow_both(schema: dict[str, Any]) -> None:
    """Let a value match both alternatives of a schema: labkit's names fit the pattern of the user's own too."""
    schema["anyOf"] = schema.pop("oneOf")


Metric = Annotated[
    Annotated[Literal[BUILTIN_METRICS], Tag("literal-name")]  # type: ignore[valid-type]
    | Annotated[str, Field(pattern=f"^{METRIC_NAME}$"), Tag("function-name")],
    Discriminator(find_kind_of_metric),
]
"""One of labkit's metrics, or the name of one of `evaluation.metrics`; `Params` checks the latter."""


class Training(Section):
    """Candidates and how they are compared."""

    models: Annotated[tuple[Model, ...], UsedBy(("training",))] = Field(
        USUAL_MODELS,
        min_length=1,
        description="candidates to cross-validate; your own as module:function, e.g. churn.models:make_stack",
    )
    trusted_types: Annotated[tuple[ImportPath, ...], UsedBy(("training", "evaluation", "deploy"))] = Field(
        (), description="classes that a model may hold besides scikit-learn's and LightGBM's, as module:class"
    )
    metric: Metric = Field(
        description="metric by which candidates are ranked; one of evaluation.metrics too",
        json_schema_extra=allow_both,
    )
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds over the training rows")
    engine: Literal["sklearn", "pycaret"] = Field("sklearn", description="source of the candidates")
    most_rows: int | None = Field(None, ge=100, description="rows on which candidates are compared; all if not set")
    tuning_trials: int = Field(0, ge=0, le=1000, description="Optuna trials on the best candidate, in the same folds")
    repeats: int | None = Field(
        None, ge=1, le=20, description="how many times the folds are drawn; by the number of rows if not set"
    )
    budget_seconds: float | None = Field(
        None, gt=0, description="time limit of comparison and tuning; the result may then differ from run to run"
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="weights of the classes in fitting; balanced: rare ones count as much as frequent ones"
    )
    target_transform: Literal["none", "log", "yeo_johnson"] = Field(
        "none", description="scale on which a skewed target is learned; predictions are in its own unit"
    )
    most_features: int | None = Field(
        None, ge=1, description="prepared features kept, selected in each fold by a small forest; all if not set"
    )
    calibrate: bool = Field(False, description="calibrate probabilities on the validation rows, if that helps")
