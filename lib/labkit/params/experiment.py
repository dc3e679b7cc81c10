"""All params of an experiment: `params/<experiment>.yaml` as one frozen, typed object."""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from labkit.check_register import REGISTER
from labkit.errors import name_nearest
from labkit.names import METRIC_NAME, OWN_CHECK_CODE
from labkit.params.evaluation import Evaluation
from labkit.params.features import Features
from labkit.params.import_path import parse_import_path
from labkit.params.monitoring import Monitoring
from labkit.params.section import Name, Scalar, Section, Wording
from labkit.params.tables import Data, Variable
from labkit.params.training import BUILTIN_METRICS, CLASSIFICATION_METRICS, CLASSIFIERS, REGRESSION_METRICS, Training
from labkit.params.wrangling import Wrangling

RESERVED_ENDINGS = ("_std", "_low", "_high")
"""Endings of the names of standard deviations and of limits of intervals."""
TAKEN = {
    *BUILTIN_METRICS, "rank", "model", "source", "error", "seconds", "trial", "state", "folds", "best", "metric",
    "value", "period", "rows", "true", "prediction", "low", "high", "dummy", "cost_per_row",
}  # fmt: skip
"""Names that stand beside metrics in tables and records."""


def check_question(question: str) -> str:
    """Return a question if it is one line."""
    if len(question.splitlines()) > 1:
        raise ValueError("it has several lines: write one")
    return question


def check_noun(noun: str) -> str:
    """Return a noun, or a noun and its plural, if nothing is around them."""
    parts = noun.split("/")
    if len(parts) > 2 or not all(part.isprintable() and part.strip() == part != "" for part in parts):
        raise ValueError(
            f"{noun!r} is no noun: write e.g. flight, or category/categories if the plural needs more than s"
        )
    return noun


def check_metric_names(metrics: Sequence[str]) -> list[str]:
    """Return the names of the user's own metrics if they can be told from all others that stand beside them."""
    names = [parse_import_path(path)[1] for path in metrics]
    for place, name in enumerate(names):
        reason = ""
        if name in TAKEN or name in names[:place]:
            reason = "the name is taken"
        elif name.endswith(RESERVED_ENDINGS):
            reason = "names in _std, _low and _high are reserved"
        elif not re.fullmatch(METRIC_NAME, name):
            reason = "small letters, digits and _ are allowed, a letter first"
        if reason:
            message = f"a metric cannot be named {name!r}: {reason}: rename the function, e.g. profit"
            raise make_fault(make_value_error(message), ("evaluation", "metrics", place), metrics[place])
    return names


def make_value_error(message: str) -> PydanticCustomError:
    """Return the type of an error that is described by a message of its own."""
    return PydanticCustomError("value_error", "{error}", {"error": message})


def check_muted(muted: Iterable[str], own: Iterable[str]) -> None:
    """Refuse codes of checks that are neither in the register nor among the user's own."""
    known = [*REGISTER, *own]
    for code in muted:
        if code not in known:
            message = f"there is no check {code}: {name_nearest(code, known)}"
            raise make_fault(make_value_error(message), ("checks", "mute", code), code)


def make_fault(
    kind: str | PydanticCustomError, place: tuple[str | int, ...], value: object, known: Sequence[str] = ()
) -> ValidationError:
    """Return the error of one value of several that were checked together, at its own place."""
    context = {"expected": ", ".join(map(repr, known))}
    fault = InitErrorDetails(type=kind, loc=place, input=value, ctx=context)
    return ValidationError.from_exception_data("Params", [fault])


class Eda(Section):
    """What the exploratory data analysis shows."""

    most_columns: int = Field(12, ge=1, le=50, description="most columns drawn in one plot")
    correlation_alert: float = Field(
        0.95, gt=0, le=1, description="absolute correlation from which a pair of columns is reported"
    )


class Deploy(Section):
    """What the release contains."""

    onnx: bool = Field(True, description="convert to ONNX and verify equal predictions on the holdout")
    tolerance: float = Field(
        1e-5, gt=0, le=0.01, description="largest accepted difference of ONNX, relative to the prediction's scale"
    )
    joined_tables: bool = Field(
        True,
        description="carry the rows of tables joined without a time, with the columns that the model needs, so that "
        "rows of the main table can be predicted anywhere",
    )
    background_rows: int = Field(
        20,
        ge=0,
        le=200,
        description="training rows in the release that explanations of predictions compare with; 0 releases none, and "
        "predictions are not explained",
    )
    reference_rows: int = Field(
        10_000,
        ge=0,
        le=100_000,
        description="training rows in the release, evenly over its windows, that `labkit monitor` tells the rows in "
        "service from as a whole; 0 releases none, and rows are only compared column by column",
    )
    loss_rows: int = Field(
        10_000,
        ge=0,
        le=100_000,
        description="holdout rows, drawn at random, whose losses are in the release, with the range of each column, "
        "so that `07_monitoring` compares groups of rows with them; 0 releases none",
    )
    refit: bool = Field(
        False,
        description="publish the evaluated model's recipe fitted on all rows, with the validation and holdout rows; "
        "recommended for splits by time, whose latest rows are in the holdout",
    )
    refit_difference: float = Field(
        0.1,
        ge=0,
        le=1,
        description="largest mean change of predictions for holdout rows, by fitting on the other half of the holdout "
        "too, without a warning: of probabilities, or in standard deviations of the true values",
    )
    refit_changes: float = Field(
        0.1,
        ge=0,
        le=1,
        description="largest share of holdout rows whose predicted class, at the threshold in force, may change in "
        "this way without a warning",
    )
    owner: str = Field("", description="who is responsible for the model; shown in the model card")
    intended_use: str = Field("", description="what the model is for; shown in the model card")
    out_of_scope: str = Field("", description="what the model must not be used for; shown in the model card")
    ethical_considerations: str = Field(
        "", description="who may be harmed and how, and sensitive data; shown in the model card"
    )


class ExplanationPage(Section):
    """What the page about explanation shows."""

    rows: int = Field(200, ge=10, le=5000, description="holdout rows whose predictions are explained, drawn at random")
    columns: int = Field(
        6, ge=1, le=20, description="columns, the most important first, for which the change of predictions is drawn"
    )


AnyCheckCode = Annotated[str, Field(pattern=f"^(LK[0-9]{{3}}|{OWN_CHECK_CODE})$")]
"""Code of a check of labkit's or of the user's own."""


class Checks(Section):
    """Which results of checks are known and accepted."""

    mute: dict[AnyCheckCode, Annotated[str, Field(min_length=1)]] = Field(
        {},
        description="code of a check: why its issue or warning is accepted; shown on pages, index and model card",
    )


class TimeLimits(Section):
    """Time limits of cells and stages; no stage depends on them."""

    cell_seconds: float = Field(3600, gt=0, description="longest run of one cell, in seconds")
    stage_seconds: float = Field(4 * 3600, gt=0, description="longest run of one stage, in seconds")
    checkpoint_seconds: float | None = Field(
        10,
        ge=0,
        description="seconds that cells run before the kernel's state is kept for `labkit run --resume`; null: never",
    )


class Params(Section):
    """One experiment: the whole of `params/<experiment>.yaml`."""

    experiment: Name = Field(description="name of the experiment, the same as the file's")
    question: Annotated[str, Wording(), AfterValidator(check_question)] = Field(
        "",
        max_length=300,
        description="what is predicted, as one question; shown on pages, in the model card and in MLflow",
    )
    row: Annotated[str, Wording(), AfterValidator(check_noun)] = Field(
        "row",
        max_length=80,
        description="what one row is, e.g. flight; if the plural is not formed by adding s: category/categories",
    )
    seed: int = Field(ge=0, lt=2**32, description="random seed")
    data: Data
    eda: Eda
    wrangling: Wrangling
    features: Features
    training: Training
    evaluation: Evaluation
    deploy: Deploy
    explanation: ExplanationPage = Field(ExplanationPage(), description="what the page about explanation shows")
    checks: Checks = Field(Checks(), description="which results of checks are known and accepted")
    monitoring: Monitoring = Field(
        Monitoring(), description="what follows from findings about the rows in service, and where new ones arrive"
    )
    limits: TimeLimits = Field(TimeLimits(), description="time limits of cells and stages")
    stages: dict[Name, dict[Name, Scalar | tuple[Scalar, ...] | None]] = Field(
        {}, description="stage of your own: values of the parameters that its notebook declares"
    )
    secrets: dict[Name, Variable] = Field(
        {}, description="name: environment variable that holds it; a notebook reads it with step.secret(name)"
    )

    @model_validator(mode="after")
    def check_metric(self) -> "Params":
        """Refuse metrics, models and options of the other task, and codes of checks that do not exist."""
        task = self.data.target.task
        check_muted(self.checks.mute, self.evaluation.checks)
        own = check_metric_names(self.evaluation.metrics)
        fitting = (*(CLASSIFICATION_METRICS if task == "classification" else REGRESSION_METRICS), *own)
        if self.training.metric not in (*BUILTIN_METRICS, *own):
            raise make_fault("literal_error", ("training", "metric"), self.training.metric, known=fitting)
        if self.training.metric not in fitting:
            raise ValueError(f"training.metric {self.training.metric!r} is not for {task}: use {', '.join(fitting)}")
        if task == "regression" and (strange := [name for name in self.training.models if name in CLASSIFIERS]):
            raise ValueError(f"training.models: {', '.join(strange)} is for classification only")
        if task == "regression" and self.training.class_weight != "none":
            raise ValueError("training.class_weight: for classification only")
        if task == "classification" and self.training.target_transform != "none":
            raise ValueError("training.target_transform: for regression only")
        return self


SECTIONS = ("data", "eda", "wrangling", "features", "training", "evaluation", "deploy", "explanation")
