"""The section `evaluation`: gate, costs and intervals."""

from typing import Annotated

from pydantic import Field

from labkit.params.section import ImportPath, Section, UsedBy

CheckCode = Annotated[str, Field(pattern="^OWN[0-9]{2}$")]
"""Code of a check of the user's own."""


class Gate(Section):
    """When a model may be published."""

    minimum_gain: float = Field(
        0.0,
        ge=0,
        description="smallest accepted gain over the dummy, for the lower end of the interval, in the metric's unit",
    )
    champion_tolerance: float = Field(
        0.0, ge=0, description="largest accepted loss against the champion, in the metric's unit"
    )
    fewest_days: int = Field(28, ge=2, description="fewest days that the holdout must span, if rows have a time")
    most_bytes: int = Field(100_000_000, gt=0, description="largest release that may be published, all files together")


class Costs(Section):
    """What a false positive and a false negative cost, in the same unit."""

    false_positive: float = Field(gt=0, description="cost of a false positive: acting without need")
    false_negative: float = Field(gt=0, description="cost of a false negative: not acting when needed")
    unit: str = Field("", max_length=30, description="unit of both costs, e.g. EUR; shown with them")


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
    gate: Gate = Field(Gate(), description="when a model may be published")
