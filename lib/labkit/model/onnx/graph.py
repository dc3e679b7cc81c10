"""Conversion of models to ONNX graphs, verified to make the same predictions on real rows.

A graph covers preprocessing and estimator; the row features before it are computed with numpy in either case.
Conversion is not trusted: a graph is kept only if it was verified on real rows. See `labkit.model.onnx.converters` for
how a model is converted, `labkit.model.onnx.hard_rows` for test rows with values that no table contains yet, and
`labkit.model.onnx.session` for how a graph is run.
"""

from typing import Any

import pandas as pd

from labkit.errors import ModelError
from labkit.model.onnx.compact import compact
from labkit.model.onnx.converters import convert as convert
from labkit.model.onnx.parity import Parity as Parity
from labkit.model.onnx.parity import prove_parity as prove_parity
from labkit.model.onnx.session import Graph


def make_graph(
    model: Any, frame: pd.DataFrame, *, tolerance: float, hard: pd.DataFrame | None = None
) -> tuple[bytes | None, Parity]:
    """Convert a model and verify the graph; if it fails, return no graph, and a `Parity` with the reason.

    Parameters
    ----------
    frame, tolerance, hard
        See `labkit.model.onnx.parity.prove_parity`.
    """
    n_rows = len(frame) + (0 if hard is None else len(hard))
    try:
        content = convert(model)
        content = compact(content, model[0]) or content
        graph = Graph(content, model[0])
    except ModelError as error:
        return None, Parity(n_rows, None, tolerance, str(error))
    parity = prove_parity(model, graph, frame, tolerance=tolerance, hard=hard)
    return (content if parity.is_equal else None), parity
