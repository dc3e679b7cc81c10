"""The section `evaluation`: gate, costs and intervals."""

from typing import Annotated, Literal

from pydantic import Field

from labkit.names import OWN_CHECK_CODE
from labkit.params.section import Column, Fraction, ImportPath, Section, UsedBy

Rate = Literal["selection", "true_positive", "false_positive"]


class Fairness(Section):
    """How alike a model has to treat the groups of people, or of other subjects, that columns name."""

    columns: tuple[Column, ...] = Field(min_length=1, description="columns whose values are the groups")
    most_difference: float = Field(
        gt=0,
        description="largest accepted difference between two groups: of rates, or of mean errors in the target's unit",
    )
    rates: tuple[Rate, ...] = Field(
        ("selection", "true_positive", "false_positive"),
        min_length=1,
        description="rates of the class of interest that are compared if there are two classes",
    )


CheckCode = Annotated[str, Field(pattern=f"^{OWN_CHECK_CODE}$")]
"""Code of a check of the user's own."""


class Gate(Section):
    """When a model may be published."""

    mode: Literal["enforce", "dry_run"] = Field(
        "enforce", description="`dry_run` decides and records, but makes no version the champion"
    )
    minimum_gain: float = Field(
        0.0,
        ge=0,
        description="smallest accepted gain over the dummy, for the lower end of the interval, in the metric's unit",
    )
    champion_tolerance: float = Field(
        0.0, ge=0, description="largest accepted loss against the champion, in the metric's unit"
    )
    champion_tolerance_share: float = Field(
        0.0, ge=0, lt=1, description="the same as a share of the champion's value; the larger of the two is accepted"
    )
    slice_tolerance: Fraction = Field(
        0.05,
        description="largest accepted loss against the champion on any group of rows: in points of a built-in metric "
        "that is 1 at best, as a share of the champion's value for errors and metrics of your own",
    )
    required_value: float | None = Field(
        None, description="value that the metric must reach on the holdout, whatever the champion is"
    )
    most_miscalibration: float | None = Field(
        None, gt=0, description="largest accepted calibration error on the holdout: probability, or the target's unit"
    )
    most_milliseconds: float | None = Field(
        None, gt=0, description="longest accepted time to predict one row, on the machine that publishes"
    )
    fairness: Fairness | None = Field(None, description="groups of rows that have to be treated alike")
    fewest_days: int = Field(28, ge=2, description="fewest days that the holdout must span, if rows have a time")
    most_bytes: int = Field(100_000_000, gt=0, description="largest release that may be published, all files together")
    reason: str = Field("", max_length=400, description="why these limits and not others; shown with the decision")


class Costs(Section):
    """What a false positive and a false negative cost, in the same unit."""

    false_positive: float = Field(gt=0, description="cost of a false positive: acting without need")
    false_negative: float = Field(gt=0, description="cost of a false negative: not acting when needed")
    unit: str = Field("", max_length=30, description="unit of both costs, e.g. EUR; shown with them")
    reason: str = Field("", max_length=400, description="where the costs come from; shown with them")


class Evaluation(Section):
    """How the chosen model is evaluated on the holdout."""

    bootstrap_samples: int = Field(1000, ge=100, le=100_000, description="resamples of the holdout per interval")
    confidence: float = Field(0.95, ge=0.5, le=0.999, description="coverage of the intervals")
    costs: Costs | None = Field(None, description="costs by which the threshold of a two-class model is chosen")
    worst_slices: int = Field(5, ge=0, le=20, description="groups of rows to find on which the model is worst")
    importance_rows: int = Field(5000, ge=100, description="holdout rows on which permutation importance is measured")
    metrics: Annotated[tuple[ImportPath, ...], UsedBy(("training", "evaluation", "deploy"))] = Field(
        (), description="metrics of your own, as module:function, e.g. churn.metrics:profit"
    )
    checks: Annotated[dict[CheckCode, ImportPath], UsedBy(("evaluation",))] = Field(
        {}, description="code: check of your own, as module:function, e.g. OWN01: churn.checks:regions"
    )
    plots: Annotated[tuple[ImportPath, ...], UsedBy(("evaluation",))] = Field(
        (), description="plots of your own on the page, as module:function, e.g. churn.plots:profit_curve"
    )
    gate: Gate = Field(Gate(), description="when a model may be published")
