"""What can be set: the typed, frozen tree of one experiment's parameters.

Not how the file is read, overridden or shown: that is `labkit.params_file`. Each field carries its meaning and its
range; both appear in `labkit params`, in `params/schema.json` and in the notebooks.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from labkit.params_wrangling import Column, Fraction, Name, Scalar, Style
from labkit.params_wrangling import Fill as Fill
from labkit.params_wrangling import Limits as Limits
from labkit.params_wrangling import Outliers as Outliers
from labkit.params_wrangling import Rule as Rule
from labkit.params_wrangling import Section as Section
from labkit.params_wrangling import Wrangling as Wrangling
from labkit.params_wrangling import check_style as check_style

Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,126}$")]


FEWEST_OF_CLASS = 8
"""Rows that a class needs to stand in every part and fold."""
USUAL_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


class Table(Section):
    """Where one raw table comes from, exactly one of `dataset`, `path` and `paths`, and how its text is read."""

    dataset: str | None = Field(None, description="scikit-learn's bundled table load_<dataset>, e.g. diabetes")
    path: str | None = Field(
        None, description="file of the table, e.g. CSV, Parquet, Excel, relative to the checkout or to `package`"
    )
    paths: tuple[str, ...] = Field((), description="several files of one table, all with the same columns, in order")
    package: str | None = Field(None, description="installed package that ships the file at `path`")
    times: tuple[Column, ...] = Field((), description="columns that hold times: ISO, unless `formats` says otherwise")
    formats: dict[Column, Style] = Field({}, description="time column: how it is written, e.g. %d.%m.%Y")
    encoding: str = Field("utf-8", description="how characters are stored, e.g. cp1252")
    delimiter: str = Field(",", min_length=1, max_length=1, description="character between two cells")
    quote: Literal['"', "'", ""] = Field('"', description="character around cells; empty if there is none")
    escape: Literal["\\", ""] = Field("", description="character before a quote inside of a cell, if not doubled")
    decimal: Literal[".", ","] = Field(".", description="character before the fraction of a number")
    thousands: Literal["", ",", ".", " ", "'", "\u00a0", "\u202f"] = Field(
        "", description="character between groups of three digits"
    )
    header: bool | None = Field(
        None, description="whether the first row holds the names; if not set, names that look like data are refused"
    )
    header_rows: int = Field(
        1, ge=1, le=3, description="rows that hold the names; those of several are joined, as `question: option`"
    )
    skip_lines: int = Field(0, ge=0, le=1000, description="lines before the first row that are not part of the table")
    name_unnamed: bool = Field(False, description="call a column without a name after its place, e.g. column_3")
    sheet: str | None = Field(None, description="sheet of a spreadsheet; may be left out if only one holds cells")
    skip: tuple[Column, ...] = Field((), description="columns that are not read at all")
    texts: tuple[Column, ...] = Field((), description="columns kept as texts though they look like numbers, e.g. codes")
    checkboxes: tuple[Column, ...] = Field(
        (), description="columns with one word where ticked and nothing where not: read as yes and no"
    )
    codes: tuple[Column, ...] = Field(
        (), description="columns of an SPSS or Stata file read as numbers though their codes have labels"
    )
    missing: tuple[str, ...] = Field(USUAL_MISSING, description="texts that stand for a missing value")
    not_missing: dict[str, tuple[str, ...]] = Field(
        {}, description="column: texts that are values there though `missing` names them, e.g. a class called None"
    )
    allow_short_rows: bool = Field(False, description="take rows with too few cells, the rest of them missing")
    allow_infinite: bool = Field(False, description="take infinite numbers as missing instead of refusing them")
    max_rows: int = Field(20_000_000, ge=1, description="most rows that are read")
    max_bytes: int = Field(4_000_000_000, ge=1, description="most bytes that are read, unpacked")
    max_columns: int = Field(10_000, ge=1, description="most columns that are read")

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the table's files, in order; none for a bundled table."""
        return (self.path,) if self.path is not None else self.paths

    @model_validator(mode="after")
    def check_one_origin(self) -> "Table":
        """Refuse a table with no origin or with two."""
        if [self.dataset is not None, self.path is not None, bool(self.paths)].count(True) != 1:
            raise ValueError("name either `dataset` or `path`, or `paths` for several files")
        if self.package and not self.path:
            raise ValueError("`package` needs a `path` inside it")
        return self

    @model_validator(mode="after")
    def check_reading(self) -> "Table":
        """Refuse an encoding that there is not, and characters with two meanings."""
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f"no encoding {self.encoding!r}: use a name such as utf-8 or cp1252") from error
        if self.thousands == self.decimal:
            raise ValueError(f"`thousands` and `decimal` are both {self.decimal!r}")
        if self.header is False and self.header_rows > 1:
            raise ValueError("`header_rows` needs a header: take out `header: false`")
        if self.delimiter in (self.quote, "\n", "\r"):
            raise ValueError(f"`delimiter` cannot be {self.delimiter!r}")
        if strange := [name for name in self.formats if name not in self.times]:
            raise ValueError(f"`formats` names {strange[0]!r}, which is not among `times`")
        return self


class Join(Section):
    """One left join onto the main table."""

    table: str = Field(description="table to join, a key of data.tables")
    keys: dict[Column, Column] = Field(
        min_length=1, description="column of the rows so far: column of the joined table"
    )
    cardinality: Literal["many_to_one", "one_to_one"] = Field(
        "many_to_one", description="how many rows may share one joined row; checked"
    )
    prefix: str = Field("", description="put before the joined columns' names")
    as_of: Column | None = Field(
        None, description="time column of the joined table: the latest row known at `predict_at` is taken"
    )
    within_hours: float | None = Field(None, gt=0, description="oldest joined row that still counts, with `as_of`")
    columns: tuple[Column, ...] = Field((), description="columns to bring; all if empty")


class RareClasses(Section):
    """What becomes of classes with too few rows to be learnt and judged."""

    fewest_rows: int = Field(FEWEST_OF_CLASS, ge=2, description="clean rows that a class needs to be kept")
    action: Literal["drop", "other"] = Field(
        "drop", description="what becomes of rows of rarer classes: left out, or put together as the class `other`"
    )


class Target(Section):
    """What is predicted."""

    column: Column = Field(description="column that holds the answer")
    task: Literal["classification", "regression"] = Field(description="kind of answer")
    positive: Scalar | None = Field(None, description="class of interest of a two-class target")
    expression: str | None = Field(None, description="how the answer follows from raw columns, if it is not one itself")
    rule: Rule | None = Field(
        None, description="how its values are read, e.g. amounts such as $1,200: as wrangling.rules"
    )
    rare: RareClasses | None = Field(None, description="what becomes of rare classes; all are kept if not set")

    @model_validator(mode="after")
    def check_positive(self) -> "Target":
        """Refuse a class of interest where there are no classes."""
        if self.task == "regression" and self.positive is not None:
            raise ValueError("`positive` belongs to classification only")
        if self.task == "regression" and self.rare is not None:
            raise ValueError("`rare` belongs to classification only")
        if self.rule is not None and self.expression is not None:
            raise ValueError("`rule` is for a raw column: put what it does into `expression`")
        return self


class Time(Section):
    """When things are known: nothing later than `predict_at` may enter a prediction."""

    predict_at: str = Field(description="expression: when a prediction is asked for")
    outcome_known_at: str = Field(description="expression: when the answer is known")


class Split(Section):
    """Which rows train, choose and judge."""

    method: Literal["random", "time", "group"] = Field("random", description="how rows are assigned to parts")
    group: Column | None = Field(None, description="column whose equal values stay together, with method group")
    validation_from: date | None = Field(None, description="first day (UTC) of validation, with method time")
    holdout_from: date | None = Field(None, description="first day (UTC) of the holdout, with method time")
    aside_from: date | None = Field(None, description="first day (UTC) of rows kept for after the release")
    validation: Fraction = Field(0.2, description="share of rows for a second look at the chosen candidate")
    holdout: Fraction = Field(0.2, description="share of rows that judge the chosen model; training never sees them")
    stratify: bool = Field(True, description="keep the classes' shares equal in all parts")

    @model_validator(mode="after")
    def check_training_share(self) -> "Split":
        """Refuse shares that leave too little to train on."""
        if self.validation + self.holdout > 0.8:
            raise ValueError("validation + holdout leave less than 20 % of the rows for training")
        days = [self.validation_from, self.holdout_from, self.aside_from]
        named = [day for day in days if day]
        if self.method == "time" and (days[0] is None or days[1] is None):
            raise ValueError("method time needs `validation_from` and `holdout_from`")
        if self.method != "time" and named:
            raise ValueError(
                f"`validation_from`, `holdout_from` and `aside_from` belong to method time, not {self.method}"
            )
        if named != sorted(set(named)):
            raise ValueError("the days must rise: validation_from < holdout_from < aside_from")
        if (self.method == "group") != (self.group is not None):
            raise ValueError("method group needs `group`, and no other method takes it")
        return self


class Data(Section):
    """Raw tables, how they are joined, the target and the split."""

    tables: dict[Name, Table] = Field(min_length=1, description="raw tables; the first one's rows are predicted")
    derived: dict[Name, str] = Field(
        {}, description="column: expression over the first table, before anything is joined"
    )
    time: Time | None = Field(None, description="when things are known, for tables whose rows have a time")
    joins: tuple[Join, ...] = Field((), description="left joins onto the first table, in order")
    target: Target = Field(description="what is predicted")
    split: Split = Field(Split(), description="which rows train, choose and judge")

    @property
    def main_table(self) -> str:
        """Name of the table whose rows are predicted."""
        return next(iter(self.tables))

    @model_validator(mode="after")
    def check_time(self) -> "Data":
        """Refuse what needs a time where none is declared."""
        if self.time is None and self.split.method == "time":
            raise ValueError("split.method time needs data.time")
        if self.time is None and any(join.as_of for join in self.joins):
            raise ValueError("joins with as_of need data.time")
        return self


class Eda(Section):
    """What the exploration shows."""

    most_columns: int = Field(12, ge=1, le=50, description="most columns drawn in one figure")
    correlation_alert: float = Field(0.95, gt=0, le=1, description="absolute correlation that is called suspicious")


class DateParts(Section):
    """Parts of one time column, read off a clock in its zone."""

    zone: str = Field("UTC", description="time zone, e.g. America/New_York")
    parts: tuple[Literal["minute", "hour", "weekday", "day", "month", "day_of_year", "week"], ...] = Field(
        ("hour", "weekday", "month"), min_length=1, description="parts that become features"
    )


class History(Section):
    """How often the answer was yes, or how large it was, lately, per key; from outcomes known at `predict_at`."""

    keys: tuple[Column, ...] = Field((), description="columns whose equal values share a history; empty: all rows")
    days: tuple[int, ...] = Field((7, 28), min_length=1, description="lengths of the trailing windows, in days")


class Text(Section):
    """A column of free text: its words become features, weighed by how rare they are (TF-IDF)."""

    most_words: int = Field(100, ge=1, le=500, description="words that become features, the most frequent ones")
    fewest_rows: int = Field(5, ge=1, description="training rows a word needs to be kept")


class Features(Section):
    """Columns computed from one row alone."""

    expressions: dict[Name, str] = Field({}, description="new column: expression over raw columns")
    dates: dict[Column, DateParts] = Field({}, description="time column: its parts that become features")
    history: dict[Name, History] = Field({}, description="name: rates of known outcomes per key, over trailing windows")
    text: dict[Column, Text] = Field({}, description="column of free text: how many of its words become features")
    interactions: tuple[tuple[Column, Column], ...] = Field(
        (), description="pairs of columns: products of numbers, or both categories as one"
    )
    drop: tuple[Column, ...] = Field((), description="columns the model does not see")
    categories: dict[Column, Annotated[int, Field(ge=2, le=1000)]] = Field(
        {}, description="column: categories kept of it; more than 50 are encoded by their mean target"
    )
    most_categories: int = Field(30, ge=2, le=1000, description="categories kept per column; rarer ones become `other`")
    fewest_rows: int = Field(5, ge=1, description="training rows a category needs to be kept")


USUAL_MODELS = ("dummy", "linear", "random_forest", "extra_trees", "hist_gradient_boosting", "lightgbm", "blend")
CLASSIFIERS = ("naive_bayes",)
MODELS = (*USUAL_MODELS, "decision_tree", "ada_boost", "gradient_boosting", "nearest_neighbours", *CLASSIFIERS)
CLASSIFICATION_METRICS = ("roc_auc", "average_precision", "log_loss", "accuracy", "balanced_accuracy", "f1")
REGRESSION_METRICS = ("r2", "mae", "rmse", "median_absolute_error")


class Training(Section):
    """Candidates and how they are compared."""

    models: tuple[Literal[MODELS], ...] = Field(  # type: ignore[valid-type]
        USUAL_MODELS, min_length=1, description="candidates to cross-validate"
    )
    metric: Literal[CLASSIFICATION_METRICS + REGRESSION_METRICS] = Field(  # type: ignore[valid-type]
        description="figure by which candidates are ranked"
    )
    folds: int = Field(5, ge=2, le=20, description="cross-validation folds over the training rows")
    engine: Literal["sklearn", "pycaret"] = Field("sklearn", description="where candidates come from")
    most_rows: int | None = Field(None, ge=100, description="rows on which candidates are compared; all if not set")
    tuning_trials: int = Field(
        0, ge=0, le=1000, description="Optuna trials on the best candidate, under the same folds"
    )
    repeats: int | None = Field(None, ge=1, le=20, description="times the folds are cut anew; by the rows if not set")
    budget_seconds: float | None = Field(
        None, gt=0, description="time for comparing and tuning; what is found then may differ from run to run"
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="how classes count while fitting; balanced: rare ones as much as frequent ones"
    )
    target_transform: Literal["none", "log", "yeo_johnson"] = Field(
        "none", description="scale on which a skewed number is learnt; predictions are in its own unit"
    )
    most_features: int | None = Field(
        None, ge=1, description="prepared features kept, chosen in each fold by a small forest; all if not set"
    )
    calibrate: bool = Field(False, description="calibrate probabilities on the validation rows, if that helps")


class Gate(Section):
    """When a model may be published."""

    minimum_gain: float = Field(
        0.0, ge=0, description="smallest gain over the dummy that must lie below the interval, in the metric's unit"
    )
    champion_tolerance: float = Field(
        0.0, ge=0, description="how much worse than the champion is still accepted, in the metric's unit"
    )
    fewest_days: int = Field(28, ge=2, description="days the holdout must span to be judged by, where rows have a time")


class Costs(Section):
    """What a wrong yes and a wrong no cost, in any one unit."""

    false_positive: float = Field(gt=0, description="cost of acting where there was no need")
    false_negative: float = Field(gt=0, description="cost of not acting where there was need")


class Evaluation(Section):
    """How the chosen model is judged on the holdout."""

    bootstrap_samples: int = Field(1000, ge=100, le=100_000, description="resamples of the holdout per interval")
    confidence: float = Field(0.95, ge=0.5, le=0.999, description="coverage of the intervals")
    costs: Costs | None = Field(None, description="costs by which the threshold of a two-class model is chosen")
    worst_slices: int = Field(5, ge=0, le=20, description="groups of rows to find on which the model is worst")
    importance_rows: int = Field(5000, ge=100, description="holdout rows on which permutation importance is measured")
    gate: Gate = Field(Gate(), description="when a model may be published")


class Deploy(Section):
    """What the release holds."""

    onnx: bool = Field(True, description="convert to ONNX and prove it equal on the holdout")
    tolerance: float = Field(
        1e-5, gt=0, le=0.01, description="largest accepted difference of ONNX, relative to the prediction's scale"
    )
    owner: str = Field("", description="who answers for the model; stands in the model card")
    intended_use: str = Field("", description="what the model is for; stands in the model card")


class TimeLimits(Section):
    """How long things may take before they are ended; not part of what a stage depends on."""

    cell_seconds: float = Field(3600, gt=0, description="longest run of one cell, in seconds")
    stage_seconds: float = Field(4 * 3600, gt=0, description="longest run of one stage, in seconds")


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
    limits: TimeLimits = Field(TimeLimits(), description="how long a cell and a stage may run")
    secrets: dict[Name, Variable] = Field(
        {}, description="name: environment variable that holds it; a notebook asks by step.secret(name)"
    )

    @model_validator(mode="after")
    def check_metric(self) -> "Params":
        """Refuse a metric of the other task."""
        task = self.data.target.task
        fitting = CLASSIFICATION_METRICS if task == "classification" else REGRESSION_METRICS
        if self.training.metric not in fitting:
            raise ValueError(f"training.metric {self.training.metric!r} is not for {task}: use {', '.join(fitting)}")
        if task == "regression" and (strange := [name for name in self.training.models if name in CLASSIFIERS]):
            raise ValueError(f"training.models: {', '.join(strange)} is for classification only")
        if task == "regression" and self.training.class_weight != "none":
            raise ValueError("training.class_weight: belongs to classification only")
        if task == "classification" and self.training.target_transform != "none":
            raise ValueError("training.target_transform: belongs to regression only")
        return self


SECTIONS = ("data", "eda", "wrangling", "features", "training", "evaluation", "deploy")
