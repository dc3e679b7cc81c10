"""Scikit-learn pipelines as models of MLflow: skops instead of pickle, probabilities, a signature for own tables."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def save_mlflow_model(
    folder: Path,
    model: Any,
    example: pd.DataFrame,
    *,
    kinds: Mapping[str, str],
    requirements: list[str],
    trusted_types: list[str],
    packages: Sequence[Path] = (),
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a scikit-learn pipeline as an MLflow model: skops, signature, input example, explicit requirements.

    The signature is made from the kinds of the columns, not from the example: five rows show neither which columns
    may have missing values nor which whole numbers are real ones elsewhere. A classifier returns probabilities, shape
    (n_rows, n_classes).

    Parameters
    ----------
    kinds
        Kind of each input column, `number`, `boolean`, `time` or `category`. MLflow's numeric types refuse whole
        numbers where real ones were declared, and its times refuse time zones, so only categories get one of its types;
        the model itself checks the others.
    packages
        Folders and files of the user's own packages, which MLflow copies and imports when the model is loaded.
    metadata
        Further facts for who loads the model, such as the classes in the order of the probabilities; plain data.
    """
    import mlflow.sklearn
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    types = {name: DataType.string if kind == "category" else AnyType() for name, kind in kinds.items()}
    inputs = Schema([ColSpec(kind, name) for name, kind in types.items()])
    predict = "predict_proba" if hasattr(model[-1], "predict_proba") else "predict"
    outputs = infer_signature(None, getattr(model, predict)(example)).outputs
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=ModelSignature(inputs, outputs),
        input_example=example,
        pip_requirements=requirements,
        serialization_format="skops",
        skops_trusted_types=trusted_types,
        code_paths=list(map(str, packages)) or None,
        pyfunc_predict_fn=predict,
        metadata=dict(metadata or {}) or None,
    )


def load_mlflow_predict(folder: Path) -> Callable[[pd.DataFrame], np.ndarray]:
    """Load an MLflow model as any program of MLflow does, and return how it predicts."""
    import mlflow.pyfunc

    predict: Callable[[pd.DataFrame], np.ndarray] = mlflow.pyfunc.load_model(str(folder)).predict
    return predict
