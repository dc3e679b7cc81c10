"""Tables of scikit-learn for training."""

import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.params.tables import Target
from labkit.stages.source import load_bundled

CANCER = Target(column="target", task="classification", positive="malignant")


DIABETES = Target(column="target", task="regression")
FLOWERS = Target(column="target", task="classification")


def load(name: str) -> tuple[pd.DataFrame, pd.Series, RowFeatures]:
    """Return a bundled table's features, its true values and the fitted row features."""
    frame = load_bundled("t", name)
    raw, y_true = frame.drop(columns="target"), frame["target"]
    row_features = RowFeatures().fit(raw)
    return row_features.transform(raw), y_true, row_features
