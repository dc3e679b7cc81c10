"""The model card: what a model is for, what it was made of, how good it is and where it is not.

Computed from the run; only purpose and owner are words from the params. After Mitchell et al., Model Cards for Model
Reporting, 2019.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from labkit.params import Params

SMALL_HOLDOUT = 200


def make_card(
    params: Params,
    *,
    estimator: str,
    metrics: Mapping[str, Any],
    split: Mapping[str, Any],
    gate: Mapping[str, Any],
    holdout: pd.DataFrame,
    parity: Mapping[str, Any],
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    estimator
        Class name of the chosen estimator.
    metrics
        As in `evaluation/metrics.json`.
    split
        As in `clean/split.json`.
    gate
        As in `evaluation/gate.json`.
    holdout
        The clean holdout rows.
    parity
        As `labkit.model.onnx_graph.Parity.to_dict` gives it.
    """
    target = params.data.target
    purpose = params.deploy.intended_use or "Not stated: set `deploy.intended_use`."
    lines = [
        f"# Model card: {params.experiment}",
        "",
        f"**Predicts** `{target.column}` ({target.task}"
        + (f", class of interest `{target.positive}`" if target.positive is not None else "")
        + f") with {estimator}.",
        "",
        f"**Intended use.** {purpose}",
        "",
        f"**Owner.** {params.deploy.owner or 'Not stated: set `deploy.owner`.'}",
        "",
        "## Data",
        "",
        "| part | rows | use |",
        "|---|---:|---|",
        *(
            f"| {name} | {split['parts'][name]['rows']:,} | {use} |"
            for name, use in USES.items()
            if name in split["parts"]
        ),
        "",
        f"Split: {split['method']}"
        + (f", classes of `{split['stratified_by']}` in equal shares" if split.get("stratified_by") else "")
        + ".",
        "",
        "## Performance on the holdout",
        "",
        f"| figure | model | {metrics['confidence']:.0%} interval | dummy |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {value['value']:.4g} | {value['low']:.4g} to {value['high']:.4g} "
            f"| {metrics['dummy'][name]:.4g} |"
            for name, value in metrics["holdout"].items()
        ),
        "",
        "## Gate",
        "",
        *(
            f"- {'passed' if check['passed'] else '**failed**'}: {check['name']}. {check['evidence']}."
            for check in gate["checks"]
        ),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in list_limits(params, holdout, parity)),
        "",
    ]
    return "\n".join(lines)


USES = {
    "training": "fitting, and comparing candidates by cross-validation",
    "validation": "a second look at the chosen candidate; then fitted with the training rows",
    "holdout": "the figures below; never seen in training",
}


def list_limits(params: Params, holdout: pd.DataFrame, parity: Mapping[str, Any]) -> list[str]:
    """Return what the data themselves say about where the model is weak."""
    target = params.data.target
    limits = []
    if len(holdout) < SMALL_HOLDOUT:
        limits.append(f"The holdout has only {len(holdout)} rows: the intervals above are wide for that reason.")
    if target.task == "classification":
        counts = holdout[target.column].value_counts()
        rarest = counts.index[-1]
        limits.append(f"Of the rarest class, `{rarest}`, the holdout has {counts.iloc[-1]:,} rows.")
    else:
        low, high = holdout[target.column].quantile([0.01, 0.99])
        limits.append(f"Answers outside of {low:.4g} to {high:.4g} were rare; predictions there are extrapolations.")
    gaps = holdout.drop(columns=target.column).isna().mean()
    if gaps.max() > 0:
        limits.append(f"`{gaps.idxmax()}` is missing in {gaps.max():.0%} of the rows; the model fills gaps.")
    if parity["reason"]:
        limits.append(f"No ONNX graph: {parity['reason']}. The scikit-learn pipeline serves.")
    return limits
