"""What metrics measure, in words for readers of a page."""

from labkit.params.own_metrics import OWN_METRICS

MEANINGS = {
    "roc_auc": "share of the pairs of a row of the class and a row of another class in which the row of the class gets "
    "the higher probability; 0.5 is guessing",
    "average_precision": "precision averaged over all levels of recall; 1 is perfect",
    "log_loss": "penalty for confident wrong probabilities; 0 is perfect",
    "accuracy": "share of rows that are assigned their true class",
    "balanced_accuracy": "share of rows that are assigned their true class, averaged over the classes",
    "f1": "harmonic mean of precision and recall; 1 is perfect",
    "r2": "share of the target's variance that is explained, at most 1",
    "mae": "mean absolute error, in the target's unit",
    "rmse": "root mean squared error, in the target's unit; large errors count more",
    "median_absolute_error": "median absolute error, in the target's unit",
}
"""Each of labkit's metrics in words."""


def describe_metric(name: str) -> str:
    """Return what a metric measures in words.

    >>> describe_metric("f1")
    'harmonic mean of precision and recall; 1 is perfect'
    """
    return MEANINGS[name] if name in MEANINGS else OWN_METRICS.find(name).describe()


def name_headline(metric: str) -> dict[str, str]:
    """Return the full name, as in MLflow, of each number in `metrics.json`, by its name there.

    Parameters
    ----------
    metric
        The metric by which candidates are compared: `metric` in that file.

    Examples
    --------
    >>> name_headline("mae")["holdout"], name_headline("mae")["cv"]
    ('holdout_mae', 'cv_mae')
    """
    return {
        "holdout": f"holdout_{metric}",
        "low": f"holdout_{metric}_low",
        "high": f"holdout_{metric}_high",
        "validation": f"validation_{metric}",
        "cv": f"cv_{metric}",
        "gain": "gain_over_dummy",
        "cost": "holdout_cost_per_row",
    }
