"""Conversion of fitted pipelines to ONNX, with converters that skl2onnx lacks or that lose precision there.

A graph covers preprocessing and estimator; the row features before it are computed with numpy in either case. See
`labkit.model.onnx.graph` for the verification that a graph makes the same predictions as the pipeline.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from labkit.errors import ModelError, get_first_line, list_briefly
from labkit.model.estimators.calibrated import SMALLEST_DISTANCE, Calibrated
from labkit.model.estimators.class_codes import ClassCodes
from labkit.model.estimators.target_transform import SMALLEST_POWER, OnScale
from labkit.model.estimators.transformers import Float32TargetEncoder, RangeClipper, round_to_float32
from labkit.model.onnx.boosters import is_booster, register_boosters
from labkit.model.onnx.neighbours import choose_neighbours
from labkit.model.onnx.nodes import add_labels, is_double, make_adders
from labkit.model.onnx.tree_thresholds import OPSET, list_thresholds, set_thresholds

TREES = (
    AdaBoostClassifier,
    AdaBoostRegressor,
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
CLASSIFIER_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


def is_single(estimator: Any) -> bool:
    """Return whether scikit-learn itself computes in single precision, as in its own decision trees.

    In the graph, such an estimator gets float32 and any other estimator float64: one that adds, multiplies, measures
    distances or compares with thresholds in double precision must see the same numbers there.
    """
    inner = estimator
    while isinstance(inner, Pipeline | Calibrated | ClassCodes | OnScale):
        inner = inner[-1] if isinstance(inner, Pipeline) else inner.estimator
    return isinstance(inner, TREES) or is_booster(inner)


def convert(model: Any) -> bytes:
    """Convert a fitted pipeline, without its row features, to ONNX.

    Parameters
    ----------
    model
        Pipeline of row features, preprocessing and estimator.

    Returns
    -------
    bytes
        Serialised graph with one input of shape (n_rows, 1) per feature; numbers are float32 or float64, see
        `is_single`.

    Raises
    ------
    ModelError
        A part of the pipeline is not supported by the converters, or its conversion fails.
    """
    from skl2onnx import to_onnx
    from skl2onnx._supported_operators import sklearn_operator_name_map as known
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    register_converters()
    register_boosters()
    pipeline, outputs = replace_passthrough(model[1:]), model[0].outputs_
    parts = {type(part) for part in find_parts(pipeline) if isinstance(part, BaseEstimator)}
    if unknown := sorted(part.__name__ for part in parts - {*known}):
        raise ModelError(f"{list_briefly(unknown)} does not convert: skl2onnx has no converter for it")
    # The first input determines the types of a graph: without numbers, all is float32, as encoded categories are.
    in_double = not is_single(pipeline[-1]) and "number" in outputs.values()
    number = DoubleTensorType if in_double else FloatTensorType
    types = [(name, (number if kind == "number" else StringTensorType)([None, 1])) for name, kind in outputs.items()]
    options: dict[int, dict[str, Any]] = {
        id(part): {"double": in_double} for part in find_parts(pipeline) if isinstance(part, Float32TargetEncoder)
    }
    if hasattr(pipeline[-1], "predict_proba"):
        options[id(pipeline[-1])] = {"zipmap": False}
    try:
        graph = to_onnx(pipeline, initial_types=types, options=options or None, target_opset=OPSET, name="labkit")
    except Exception as error:  # converters raise errors of any type; the release reports it
        raise ModelError(f"{type(pipeline[-1]).__name__} does not convert: {get_first_line(error)}") from error
    return bytes(graph.SerializeToString())


def replace_passthrough(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline without a first step that passes the features on, which skl2onnx does not know."""
    # A column transformer selects inputs by name; anything else takes them as one array.
    if pipeline[0] != "passthrough":
        return pipeline
    first = pipeline[1]
    while isinstance(first, Pipeline):
        first = first[0]
    joined = [] if isinstance(first, ColumnTransformer) else [("join", FunctionTransformer())]
    return Pipeline([*joined, *pipeline.steps[1:]])


def find_parts(model: Any) -> Iterator[BaseEstimator]:
    """Yield the steps of a fitted pipeline, including those of nested pipelines and column transformers."""
    if isinstance(model, Pipeline | ColumnTransformer):
        steps = model.steps if isinstance(model, Pipeline) else model.transformers_
        for step in steps:
            yield from find_parts(step[1])
    else:
        yield model


@cache
def register_converters() -> None:
    """Register converters of LightGBM and of labkit's estimators with skl2onnx, and replace inadequate converters."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common._registration import get_converter, register_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as classes
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as numbers

    update = update_registered_converter
    trees = change_trees(convert_lightgbm, lambda model, attributes: attributes["nodes_values"])
    update(LGBMClassifier, "LightGbmLGBMClassifier", in_single(classes), trees, options=CLASSIFIER_OPTIONS)
    update(LGBMRegressor, "LightGbmLGBMRegressor", in_single(numbers), trees)
    for model, calculate, options in (
        (HistGradientBoostingClassifier, classes, {**CLASSIFIER_OPTIONS, "raw_scores": [True, False]}),
        (HistGradientBoostingRegressor, numbers, None),
    ):
        alias = f"Sklearn{model.__name__}"
        trees = change_trees(get_converter(alias), list_thresholds)
        update(model, alias, in_single(calculate), trees, options=options)
    imputer = choose_imputer(get_converter("SklearnSimpleImputer"))
    register_converter("SklearnSimpleImputer", imputer, overwrite=True)
    for alias in ("SklearnKNeighborsClassifier", "SklearnKNeighborsRegressor"):
        others = get_converter(alias)
        register_converter(alias, choose_neighbours(others), overwrite=True, options=others.get_allowed_options())
    update(RangeClipper, "LabkitRangeClipper", calculate_same_shape, convert_clipper)
    update(
        Float32TargetEncoder,
        "LabkitTargetEncoder",
        calculate_encoded_shape,
        convert_target_encoder,
        options={"double": [True, False]},
    )
    update(VotingClassifier, "LabkitVotingClassifier", classes, convert_voting, options=CLASSIFIER_OPTIONS)
    update(VotingRegressor, "LabkitVotingRegressor", numbers, convert_voting)
    update(Calibrated, "LabkitCalibrated", classes, convert_calibrated, options=CLASSIFIER_OPTIONS)
    update(ClassCodes, "LabkitClassCodes", classes, convert_class_codes, options=CLASSIFIER_OPTIONS)
    update(OnScale, "LabkitOnScale", numbers, convert_on_scale)


def in_single(calculate: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a shape calculator for estimators whose operator returns float32 whatever its input type."""

    def calculate_single(operator: Any) -> None:
        from skl2onnx.common.data_types import FloatTensorType

        calculate(operator)
        operator.outputs[-1].type = FloatTensorType(operator.outputs[-1].type.shape)

    return calculate_single


def change_trees(
    convert_trees: Callable[..., None], find_thresholds: Callable[[Any, dict[str, Any]], list[float]]
) -> Callable[..., None]:
    """Return a tree converter that preserves the thresholds of trees that compare in double precision."""
    # `find_thresholds` returns all thresholds, in order, from the estimator and the attributes of a tree-ensemble node.

    def convert_changed(scope: Any, operator: Any, container: Any) -> None:
        def add_node(*arguments: Any, **attributes: Any) -> None:
            if "nodes_values" in attributes:
                thresholds = find_thresholds(operator.raw_operator, attributes)
                attributes = set_thresholds(attributes, thresholds, in_double=is_double(operator.inputs[0]))
            type(container).add_node(container, *arguments, **attributes)

        container.add_node = add_node
        try:
            convert_trees(scope, operator, container)
        finally:
            del container.add_node

    return convert_changed


def choose_imputer(convert_single: Callable[..., None]) -> Callable[..., None]:
    """Return an imputer converter that also supports float64, which onnxruntime's own operator does not."""

    def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
        if not is_double(operator.inputs[0]):
            convert_single(scope, operator, container)
            return
        add, constant = make_adders(scope, container, in_double=True)
        names = [variable.full_name for variable in operator.inputs]
        joined = names[0] if len(names) == 1 else add("Concat", *names, axis=1)
        fill = constant(operator.raw_operator.statistics_.astype("float64").tolist())
        add("Where", add("IsNaN", joined), fill, joined, output=operator.outputs[0].full_name)

    return convert_imputer


def calculate_same_shape(operator: Any) -> None:
    """Set the type and shape of a transformer's output to those of its input."""
    operator.outputs[0].type = type(operator.inputs[0].type)(operator.inputs[0].type.shape)


def convert_clipper(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a range clipper."""
    add, constant = make_adders(scope, container, in_double=is_double(operator.inputs[0]))
    clipper = operator.raw_operator
    raised = add("Max", operator.inputs[0].full_name, constant(clipper.low_.tolist()))
    add("Min", raised, constant(clipper.high_.tolist()), output=operator.outputs[0].full_name)


def calculate_encoded_shape(operator: Any) -> None:
    """Set the type and shape of a target encoder's output: one column per input column, and per class if several."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    options = operator.scope_inst.get_options(operator.raw_operator, {"double": False})
    number = DoubleTensorType if options["double"] else FloatTensorType
    first = operator.inputs[0]
    operator.outputs[0].type = number([first.get_first_dimension(), len(operator.raw_operator.encodings_)])


def convert_target_encoder(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a target encoder: the index of each category, then the value stored at that index, per class."""
    # Unseen categories have an index of their own, at which the means of all rows are stored.
    from onnx import TensorProto

    encoder, output = operator.raw_operator, operator.outputs[0]
    add, constant = make_adders(scope, container, in_double=is_double(output))
    names = [variable.full_name for variable in operator.inputs]
    strings = names[0] if len(names) == 1 else add("Concat", *names, axis=1)
    n_each = len(encoder.encodings_) // len(encoder.categories_)
    means, encoded = np.atleast_1d(encoder.target_mean_), []
    for number, categories in enumerate(encoder.categories_):
        column = strings
        if len(encoder.categories_) > 1:
            column = add("Gather", strings, constant([number], TensorProto.INT64), axis=1)
        place = scope.get_unique_variable_name("place")
        container.add_node(
            "LabelEncoder",
            column,
            place,
            op_domain="ai.onnx.ml",
            op_version=2,
            name=scope.get_unique_operator_name("LabelEncoder"),
            keys_strings=[str(category).encode() for category in categories],
            values_int64s=list(range(len(categories))),
            default_int64=len(categories),
        )
        kept = np.array(encoder.encodings_[n_each * number : n_each * (number + 1)]).T
        table = round_to_float32(np.vstack([kept, means]))
        rows = add("Gather", constant(table.ravel().tolist(), shape=list(table.shape)), place, axis=0)
        encoded.append(add("Reshape", rows, constant([-1, n_each], TensorProto.INT64)))
    if len(encoded) == 1:
        add("Identity", *encoded, output=output.full_name)
    else:
        add("Concat", *encoded, output=output.full_name, axis=1)


def add_estimator(scope: Any, operator: Any, estimator: Any, add: Callable[..., str]) -> str:
    """Add an estimator nested in another and return the name of its predictions, cast to the outer estimator's type."""
    # An estimator that computes in single precision gets float32 inputs.
    from onnx import TensorProto
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    inner = scope.declare_local_operator(sklearn_operator_name_map[type(estimator)], estimator)
    taken = operator.inputs[0]
    if is_single(estimator) and is_double(taken):
        taken = scope.declare_local_variable("single", FloatTensorType([None, None]))
        add("Cast", operator.inputs[0].full_name, to=TensorProto.FLOAT, output=taken.full_name)
    inner.inputs = [taken]
    if hasattr(estimator, "predict_proba"):
        inner.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    inner.outputs.append(scope.declare_local_variable("predicted", type(taken.type)()))
    kind = TensorProto.DOUBLE if is_double(operator.outputs[-1]) else TensorProto.FLOAT
    return add("Cast", inner.outputs[-1].full_name, to=kind)


def convert_voting(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a blend: those of its members, then their mean."""
    model, output = operator.raw_operator, operator.outputs[-1]
    add, constant = make_adders(scope, container, in_double=is_double(output))
    found = [add_estimator(scope, operator, member, add) for member in model.estimators_]
    mean = add("Div", add("Sum", *found), constant([float(len(found))]), output=output.full_name)
    if hasattr(model, "predict_proba"):
        add_labels(add, constant, mean, model.classes_, output=operator.outputs[0].full_name)


def convert_on_scale(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a regressor with a transformed target: its own, then the inverse transform."""
    model = operator.raw_operator
    add, constant = make_adders(scope, container, in_double=is_double(operator.outputs[0]))
    on_scale = add_estimator(scope, operator, model.estimator, add)

    def raise_to(power: float, base: str) -> str:
        if abs(power) < SMALLEST_POWER:
            return add("Sub", add("Exp", base), one)
        grown = add("Max", add("Add", add("Mul", base, constant([power])), one), constant([SMALLEST_POWER]))
        return add("Sub", add("Pow", grown, constant([1 / power])), one)

    one, zero = constant([1.0]), constant([0.0])
    scaled = add("Add", add("Mul", on_scale, constant([model.spread_])), constant([model.center_]))
    scaled = add("Clip", scaled, constant([model.low_], shape=[]), constant([model.high_], shape=[]))
    output = operator.outputs[0].full_name
    if model.kind == "log":
        add("Sub", add("Exp", scaled), one, output=output)
        return
    above = raise_to(model.power_, add("Max", scaled, zero))
    below = add("Neg", raise_to(2 - model.power_, add("Max", add("Neg", scaled), zero)))
    add("Where", add("GreaterOrEqual", scaled, zero), above, below, output=output)


def convert_class_codes(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a classifier of numbered classes: its own, then the label of the most probable class."""
    output = operator.outputs[1]
    add, constant = make_adders(scope, container, in_double=is_double(output))
    inner = add_estimator(scope, operator, operator.raw_operator.estimator, add)
    add("Identity", inner, output=output.full_name)
    add_labels(add, constant, inner, operator.raw_operator.classes_, output=operator.outputs[0].full_name)


def convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a calibrated estimator: the estimator's own, then the scaling and shift of its log odds."""
    from onnx import TensorProto

    model = operator.raw_operator
    add, constant = make_adders(scope, container, in_double=is_double(operator.outputs[1]))
    uncalibrated = add_estimator(scope, operator, model.estimator, add)
    yes = add("Gather", uncalibrated, constant([1], TensorProto.INT64), axis=1)
    kept = add("Clip", yes, constant([SMALLEST_DISTANCE], shape=[]), constant([1 - SMALLEST_DISTANCE], shape=[]))
    odds = add("Log", add("Div", kept, add("Sub", constant([1.0]), kept)))
    moved = add("Add", add("Mul", odds, constant([model.slope])), constant([model.intercept]))
    probability = add("Sigmoid", moved)
    other, output = add("Sub", constant([1.0]), probability), operator.outputs[1].full_name
    both = add("Concat", other, probability, output=output, axis=1)
    add_labels(add, constant, both, model.classes_, output=operator.outputs[0].full_name)
