"""Models as ONNX graphs: converted, proved equal on real rows, and run without scikit-learn.

Sole owner of onnx, skl2onnx, onnxmltools and onnxruntime. A graph covers preparation and estimator; the row features
before it are numpy in either case. Conversion is not trusted: without proof on real rows there is no graph.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd

from labkit.data.features import RowFeatures, take_columns
from labkit.errors import DataError, ModelError
from labkit.model.calibration import SMALLEST, Calibrated
from labkit.model.target_scale import SMALLEST as SMALLEST_POWER
from labkit.model.target_scale import OnScale

OPSET = {"": 17, "ai.onnx.ml": 3}
NEVER_SEEN = "a category never seen"
SPOILT = 0.1
"""Share of a column's values that `make_hard_rows` takes away, and of those it replaces."""


@dataclass(frozen=True)
class Parity:
    """How far the graph's predictions are from the pipeline's, on the same raw rows.

    Attributes
    ----------
    largest_difference
        Of probabilities, or of predictions divided by the largest absolute prediction.
    reason
        Why there is no graph; empty if there is one and it is equal.
    """

    rows: int
    largest_difference: float | None
    tolerance: float
    reason: str

    @property
    def is_equal(self) -> bool:
        """Whether the graph may stand in for the pipeline."""
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


class Graph:
    """An ONNX graph behind its row features: raw columns in, predictions out, numpy only."""

    def __init__(self, content: bytes, row_features: RowFeatures) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises plain exceptions of its C++ side
            raise ModelError(f"not an ONNX graph that can be run: {get_first_line(error)}") from error
        self.row_features = row_features
        self.inputs = [node.name for node in self.session.get_inputs()]
        if len(self.inputs) != len(row_features.outputs_):
            raise ModelError(
                f"the graph takes {len(self.inputs)} columns, its features are {len(row_features.outputs_)}"
            )

    def predict(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predict rows given as raw columns of shape (n_rows,).

        Returns
        -------
        numpy.ndarray
            Classification: probabilities, shape (n_rows, n_classes). Regression: shape (n_rows,).

        Raises
        ------
        DataError
            A column is missing or not of its kind.
        """
        features = self.row_features.transform_columns(columns)
        feeds = {}
        for node, (name, kind) in zip(self.inputs, self.row_features.outputs_.items(), strict=True):
            values = features[name].astype("float32") if kind == "number" else features[name]
            feeds[node] = values.reshape(-1, 1)
        outputs = self.session.run(None, feeds)
        predicted: np.ndarray = np.asarray(outputs[-1])
        return predicted if predicted.shape[1:] != (1,) else predicted.ravel()


def get_first_line(error: Exception) -> str:
    """Return the first line of what an error says; some say nothing."""
    return str(error).partition("\n")[0]


@cache
def register_converters() -> None:
    """Tell skl2onnx how LightGBM is converted, and mend how histogram gradient boosting is."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common._registration import get_converter, register_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    update_registered_converter(
        LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(
        LGBMRegressor, "LightGbmLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm
    )
    for alias in ("SklearnHistGradientBoostingClassifier", "SklearnHistGradientBoostingRegressor"):
        options = {"zipmap": [True, False, "columns"], "raw_scores": [True, False], "nocl": [True, False]}
        register_converter(alias, use_whole_numbers(get_converter(alias)), overwrite=True, options=options)
    update_registered_converter(
        Calibrated,
        "LabkitCalibrated",
        calculate_linear_classifier_output_shapes,
        convert_calibrated,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(OnScale, "LabkitOnScale", calculate_linear_regressor_output_shapes, convert_on_scale)


def convert_on_scale(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a regressor on another scale: its own, then the way back to the target's unit."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import FloatTensorType

    model = operator.raw_operator
    inner = scope.declare_local_operator(sklearn_operator_name_map[type(model.estimator)], model.estimator)
    inner.inputs = operator.inputs
    inner.outputs.append(scope.declare_local_variable("on_scale", FloatTensorType()))
    add, constant = make_adders(scope, container)

    def raise_to(power: float, base: str) -> str:
        if abs(power) < SMALLEST_POWER:
            return add("Sub", add("Exp", base), one)
        grown = add("Max", add("Add", add("Mul", base, constant([power])), one), constant([SMALLEST_POWER]))
        return add("Sub", add("Pow", grown, constant([1 / power])), one)

    one, zero = constant([1.0]), constant([0.0])
    scaled = add("Add", add("Mul", inner.outputs[0].full_name, constant([model.spread_])), constant([model.center_]))
    scaled = add("Clip", scaled, constant([model.low_], shape=[]), constant([model.high_], shape=[]))
    output = operator.outputs[0].full_name
    if model.kind == "log":
        add("Sub", add("Exp", scaled), one, output=output)
        return
    above = raise_to(model.power_, add("Max", scaled, zero))
    below = add("Neg", raise_to(2 - model.power_, add("Max", add("Neg", scaled), zero)))
    add("Where", add("GreaterOrEqual", scaled, zero), above, below, output=output)


def make_adders(scope: Any, container: Any) -> tuple[Callable[..., str], Callable[..., str]]:
    """Return what adds a node, and what adds a constant, to a graph; both return the name of the result."""
    from onnx import TensorProto

    def add(kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or scope.get_unique_variable_name(kind.lower())
        version = {"Add": 14, "Sub": 14, "Mul": 14, "Div": 14, "Pow": 15, "GreaterOrEqual": 16, "Where": 16}
        container.add_node(kind, list(inputs), output, op_version=version.get(kind, 13), **attributes)
        return output

    def constant(values: list[Any], kind: int = TensorProto.FLOAT, shape: list[int] | None = None) -> str:
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, [len(values)] if shape is None else shape, values)
        return name

    return add, constant


def convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a calibrated estimator: the estimator's own, then its log odds stretched and shifted."""
    from onnx import TensorProto
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import FloatTensorType

    model = operator.raw_operator
    inner = scope.declare_local_operator(sklearn_operator_name_map[type(model.estimator)], model.estimator)
    inner.inputs = operator.inputs
    inner.outputs.append(scope.declare_local_variable("label", operator.outputs[0].type.__class__()))
    inner.outputs.append(scope.declare_local_variable("uncalibrated", FloatTensorType()))

    add, constant = make_adders(scope, container)
    yes = add("Gather", inner.outputs[1].full_name, constant([1], TensorProto.INT64), axis=1)
    kept = add("Clip", yes, constant([SMALLEST], shape=[]), constant([1 - SMALLEST], shape=[]))
    odds = add("Log", add("Div", kept, add("Sub", constant([1.0]), kept)))
    moved = add("Add", add("Mul", odds, constant([model.slope])), constant([model.intercept]))
    chance = add("Sigmoid", moved)
    both = add("Concat", add("Sub", constant([1.0]), chance), chance, output=operator.outputs[1].full_name, axis=1)
    place = add("ArgMax", both, axis=1, keepdims=0)
    labels = model.classes_.tolist()
    kind = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    classes = [label.encode() if isinstance(label, str) else int(label) for label in labels]
    add("Gather", constant(classes, kind), place, output=operator.outputs[0].full_name, axis=0)


def use_whole_numbers(convert_trees: Callable[..., None]) -> Callable[..., None]:
    """Return skl2onnx's converter of trees with one attribute mended: it gives booleans where onnx takes 0 and 1."""
    mended = "nodes_missing_value_tracks_true"

    def convert_mended(scope: Any, operator: Any, container: Any) -> None:
        def add_node(*arguments: Any, **attributes: Any) -> None:
            if mended in attributes:
                attributes[mended] = [int(value) for value in attributes[mended]]
            type(container).add_node(container, *arguments, **attributes)

        container.add_node = add_node
        try:
            convert_trees(scope, operator, container)
        finally:
            del container.add_node

    return convert_mended


def convert(model: Any) -> bytes:
    """Convert a fitted pipeline, without its row features, to ONNX.

    Raises
    ------
    ModelError
        The converter does not know a part of it, or fails on it.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    register_converters()
    pipeline, outputs = model[1:], model[0].outputs_
    types = [
        (name, FloatTensorType([None, 1]) if kind == "number" else StringTensorType([None, 1]))
        for name, kind in outputs.items()
    ]
    options = {id(pipeline[-1]): {"zipmap": False}} if hasattr(pipeline[-1], "classes_") else None
    try:
        graph = to_onnx(pipeline, initial_types=types, options=options, target_opset=OPSET, name="labkit")
    except Exception as error:  # a converter may fail with anything; the release then says so
        raise ModelError(f"{type(pipeline[-1]).__name__} does not convert: {get_first_line(error)}") from error
    return bytes(graph.SerializeToString())


def prove_parity(model: Any, graph: Graph, frame: pd.DataFrame, *, tolerance: float) -> Parity:
    """Hold the graph's predictions against the pipeline's, from raw columns.

    Parameters
    ----------
    frame
        Raw rows, shape (n_rows, n_columns).
    tolerance
        Largest accepted difference, see `Parity`.
    """
    columns = take_columns(frame, model[0].inputs_)
    is_classifier = hasattr(model[-1], "classes_")
    expected = np.asarray(model.predict_proba(frame) if is_classifier else model.predict(frame))
    try:
        found = graph.predict(columns)
    except (DataError, ModelError, RuntimeError, ValueError) as error:
        return Parity(len(frame), None, tolerance, f"the graph fails on real rows: {get_first_line(error)}")
    if found.shape != expected.shape or not np.isfinite(found).all():
        return Parity(len(frame), None, tolerance, "the graph's predictions have another shape, or are not finite")
    scale = 1.0 if is_classifier else max(float(np.abs(expected).max()), 1e-12)
    difference = float(np.abs(found - expected).max()) / scale
    reason = "" if difference <= tolerance else f"differs by {difference:.2g}, more than {tolerance:.2g}"
    return Parity(len(frame), float(f"{difference:.3g}"), tolerance, reason)


def make_hard_rows(frame: pd.DataFrame, kinds: Mapping[str, str], *, n_rows: int, seed: int) -> pd.DataFrame:
    """Return raw rows such as may come one day: drawn from real ones, with gaps and categories never seen.

    Parameters
    ----------
    frame
        Raw rows.
    kinds
        Kind of each raw column, as `RowFeatures.inputs_` has them; times stay as they are.
    n_rows
        Rows to return; drawn again and again if there are fewer, and spoilt anew each time.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(len(frame), n_rows, replace=len(frame) < n_rows)
    hard = frame.iloc[np.sort(drawn)].reset_index(drop=True)
    for name, kind in kinds.items():
        if kind == "time":
            continue
        lot, values = random.random(n_rows), hard[name]
        if kind == "category":
            texts = values.astype(object).where(values.notna(), None)
            hard[name] = texts.mask(lot < SPOILT, None).mask(lot > 1 - SPOILT, NEVER_SEEN)
        else:
            hard[name] = pd.to_numeric(values).astype("float64").mask(lot < SPOILT)
    return hard


def make_graph(model: Any, frame: pd.DataFrame, *, tolerance: float) -> tuple[bytes | None, Parity]:
    """Convert a model and prove the graph equal; without proof there is no graph, and the reason says why."""
    try:
        content = convert(model)
        graph = Graph(content, model[0])
    except ModelError as error:
        return None, Parity(len(frame), None, tolerance, str(error))
    parity = prove_parity(model, graph, frame, tolerance=tolerance)
    return (content if parity.is_equal else None), parity
