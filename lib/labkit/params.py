"""What can be set: the typed, frozen tree of one experiment's parameters.

Not how the file is read, overridden or shown: that is `labkit.params_file`. Each field carries its meaning and its
range; both appear in `labkit params`, in `params/schema.json` and in the notebooks.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Scalar = bool | int | float | str


class Section(BaseModel):
    """Base of all parts of the tree: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Table(Section):
    """Where one raw table comes from: exactly one of `dataset` and `path`."""

    dataset: str | None = Field(None, description="scikit-learn's bundled table load_<dataset>, e.g. diabetes")
    path: str | None = Field(None, description="CSV or Parquet file, relative to the checkout or to `package`")
    package: str | None = Field(None, description="installed package that ships the file at `path`")
    times: tuple[str, ...] = Field((), description="columns that hold ISO times")

    @model_validator(mode="after")
    def check_one_origin(self) -> "Table":
        """Refuse a table with no origin or with two."""
        if (self.dataset is None) == (self.path is None):
            raise ValueError("name either `dataset` or `path`")
        if self.package and not self.path:
            raise ValueError("`package` needs a `path` inside it")
        return self


class Join(Section):
    """One left join onto the main table."""

    table: str = Field(description="table to join, a key of data.tables")
    keys: dict[str, str] = Field(min_length=1, description="column of the rows so far: column of the joined table")
    cardinality: Literal["many_to_one", "one_to_one"] = Field(
        "many_to_one", description="how many rows may share one joined row; checked"
    )
    prefix: str = Field("", description="put before the joined columns' names")


class Target(Section):
    """What is predicted."""

    column: str = Field(description="column that holds the answer")
    task: Literal["classification", "regression"] = Field(description="kind of answer")
    positive: Scalar | None = Field(None, description="class of interest of a two-class target")

    @model_validator(mode="after")
    def check_positive(self) -> "Target":
        """Refuse a class of interest where there are no classes."""
        if self.task == "regression" and self.positive is not None:
            raise ValueError("`positive` belongs to classification only")
        return self


class Split(Section):
    """Which rows train, choose and judge."""

    validation: Fraction = Field(0.2, description="share of rows for a second look at the chosen candidate")
    holdout: Fraction = Field(0.2, description="share of rows that judge the chosen model; training never sees them")
    stratify: bool = Field(True, description="keep the classes' shares equal in all parts")

    @model_validator(mode="after")
    def check_training_share(self) -> "Split":
        """Refuse shares that leave too little to train on."""
        if self.validation + self.holdout > 0.8:
            raise ValueError("validation + holdout leave less than 20 % of the rows for training")
        return self


class Data(Section):
    """Raw tables, how they are joined, the target and the split."""

    tables: dict[Name, Table] = Field(min_length=1, description="raw tables; the first one's rows are predicted")
    joins: tuple[Join, ...] = Field((), description="left joins onto the first table, in order")
    target: Target = Field(description="what is predicted")
    split: Split = Field(Split(), description="which rows train, choose and judge")

    @property
    def main_table(self) -> str:
        """Name of the table whose rows are predicted."""
        return next(iter(self.tables))


class Eda(Section):
    """What the exploration shows."""

    most_columns: int = Field(12, ge=1, le=50, description="most columns drawn in one figure")
    correlation_alert: float = Field(0.95, gt=0, le=1, description="absolute correlation that is called suspicious")


class Rule(Section):
    """A stateless rule for one column, applied to training rows and to live requests alike."""

    trim: bool = Field(False, description="cut blanks at both ends of texts")
    missing: tuple[Scalar, ...] = Field((), description="values that stand for a missing one, e.g. -999 or '?'")
    minimum: float | None = Field(None, description="smallest possible value, in the column's unit")
    maximum: float | None = Field(None, description="largest possible value, in the column's unit")
    outside: Literal["missing", "clip"] = Field("missing", description="what becomes of values out of range")

    @model_validator(mode="after")
    def check_range(self) -> "Rule":
        """Refuse an empty range."""
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum} is not below maximum {self.maximum}")
        return self


class Wrangling(Section):
    """Which columns and rows stay, and the rules that clean them."""

    drop: dict[str, str] = Field({}, description="columns left out: the reason for each")
    filters: tuple[str, ...] = Field((), description="expressions; rows for which one is false are left out")
    rules: dict[str, Rule] = Field({}, description="stateless rules by column")


class Features(Section):
    """Columns computed from one row alone."""

    expressions: dict[Name, str] = Field({}, description="new column: expression over raw columns")
    drop: tuple[str, ...] = Field((), description="columns the model does not see")
    most_categories: int = Field(30, ge=2, le=1000, description="categories kept per column; rarer ones become `other`")
    fewest_rows: int = Field(5, ge=1, description="training rows a category needs to be kept")


MODELS = ("dummy", "linear", "random_forest", "extra_trees", "hist_gradient_boosting", "lightgbm")
CLASSIFICATION_METRICS = ("roc_auc", "average_precision", "log_loss", "accuracy", "balanced_accuracy", "f1")
REGRESSION_METRICS = ("r2", "mae", "rmse", "median_absolute_error")


class Training(Section):
    """Candidates and how they are compared."""

    models: tuple[Literal[MODELS], ...] = Field(  # type: ignore[valid-type]
        MODELS, min_length=1, description="candidates to cross-validate"
    )
    metric: Literal[CLASSIFICATION_METRICS + REGRESSION_METRICS] = Field(  # type: ignore[valid-type]
        description="figure by which candidates are ranked"
    )
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds over the training rows")


class Gate(Section):
    """When a model may be published."""

    minimum_gain: float = Field(
        0.0, ge=0, description="smallest gain over the dummy that must lie below the interval, in the metric's unit"
    )
    champion_tolerance: float = Field(
        0.0, ge=0, description="how much worse than the champion is still accepted, in the metric's unit"
    )


class Evaluation(Section):
    """How the chosen model is judged on the holdout."""

    bootstrap_samples: int = Field(1000, ge=100, le=100_000, description="resamples of the holdout per interval")
    confidence: float = Field(0.95, ge=0.5, le=0.999, description="coverage of the intervals")
    gate: Gate = Field(Gate(), description="when a model may be published")


class Deploy(Section):
    """What the release holds."""

    onnx: bool = Field(True, description="convert to ONNX and prove it equal on the holdout")
    tolerance: float = Field(
        1e-5, gt=0, le=0.01, description="largest accepted difference of ONNX, relative to the prediction's scale"
    )
    owner: str = Field("", description="who answers for the model; stands in the model card")
    intended_use: str = Field("", description="what the model is for; stands in the model card")


class Params(Section):
    """One experiment: the whole of `params/<experiment>.yaml`."""

    experiment: Name = Field(description="name of the experiment, the same as the file's")
    seed: int = Field(ge=0, lt=2**32, description="seed of everything random")
    data: Data
    eda: Eda
    wrangling: Wrangling
    features: Features
    training: Training
    evaluation: Evaluation
    deploy: Deploy

    @model_validator(mode="after")
    def check_metric(self) -> "Params":
        """Refuse a metric of the other task."""
        task = self.data.target.task
        fitting = CLASSIFICATION_METRICS if task == "classification" else REGRESSION_METRICS
        if self.training.metric not in fitting:
            raise ValueError(f"training.metric {self.training.metric!r} is not for {task}: use {', '.join(fitting)}")
        return self


SECTIONS = ("data", "eda", "wrangling", "features", "training", "evaluation", "deploy")
