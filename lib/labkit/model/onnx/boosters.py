"""Converters of XGBoost and CatBoost, registered with skl2onnx only if the library has been imported."""

import copy
import sys
from functools import cache
from typing import Any

from labkit.errors import ModelError

LIBRARIES = ("xgboost", "catboost")
"""Libraries whose trees compare in single precision, as scikit-learn's do."""


def is_booster(estimator: Any) -> bool:
    """Return whether an estimator is one of XGBoost or CatBoost, or derived from one."""
    return any(kind.__module__.partition(".")[0] in LIBRARIES for kind in type(estimator).__mro__)


def register_boosters() -> None:
    """Register the converters of the libraries that have been imported."""
    for name, register in (("xgboost", register_xgboost), ("catboost", register_catboost)):
        if name in sys.modules:
            register()


@cache
def register_xgboost() -> None:
    """Register the converters of XGBoost's estimators."""
    from xgboost import XGBClassifier, XGBRegressor

    register_pair(XGBClassifier, XGBRegressor, convert_xgboost)


@cache
def register_catboost() -> None:
    """Register the converters of CatBoost's estimators."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    register_pair(CatBoostClassifier, CatBoostRegressor, convert_catboost, parse_classifier)


def register_pair(classifier: type, regressor: type, convert: Any, parse: Any = None) -> None:
    """Register a converter of a classifier and a regressor, and what declares the outputs of the classifier."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as classes,
    )
    from skl2onnx.common.shape_calculator import (
        calculate_linear_regressor_output_shapes as numbers,
    )

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        classifier, f"Labkit{classifier.__name__}", classes, convert, parser=parse, options=options
    )
    update_registered_converter(regressor, f"Labkit{regressor.__name__}", numbers, convert)


def parse_classifier(scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None) -> list[Any]:
    """Declare label and probabilities, because skl2onnx does so for scikit-learn's classifiers only."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    operator = scope.declare_local_operator(sklearn_operator_name_map[type(model)], model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    operator.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    return list(operator.outputs)


def convert_xgboost(scope: Any, operator: Any, container: Any) -> None:
    """Add the trees of XGBoost with the converter of onnxmltools, which needs features without names."""
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as convert

    model = operator.raw_operator
    unnamed = copy.copy(model)
    unnamed._Booster = model.get_booster().copy()
    unnamed._Booster.feature_names = unnamed._Booster.feature_types = None
    operator.raw_operator = unnamed
    try:
        convert(scope, operator, container)
    finally:
        operator.raw_operator = model


def convert_catboost(scope: Any, operator: Any, container: Any) -> None:
    """Add the trees of CatBoost as CatBoost writes them, without its own form of the probabilities."""
    from catboost.utils import convert_to_onnx_object
    from onnx.helper import get_attribute_value

    nodes = convert_to_onnx_object(operator.raw_operator).graph.node
    trees = [node for node in nodes if node.op_type.startswith("TreeEnsemble")]
    if len(trees) != 1 or {node.op_type for node in nodes} - {trees[0].op_type, "ZipMap"}:
        raise ModelError(f"CatBoost writes {', '.join(node.op_type for node in nodes)}, not one set of trees")
    attributes = {one.name: get_attribute_value(one) for one in trees[0].attribute if one.name != "name"}
    container.add_node(
        trees[0].op_type,
        [variable.full_name for variable in operator.inputs],
        [variable.full_name for variable in operator.outputs],
        op_domain="ai.onnx.ml",
        name=scope.get_unique_operator_name(trees[0].op_type),
        **attributes,
    )
