"""Every candidate as a graph: proved equal from raw columns, or not used, with the reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from labkit.data.features import take_columns
from labkit.errors import DataError, ModelError
from labkit.model import onnx_graph

from tests.model.tables import CASES, TASKS, make_model, make_new_rows, make_table

CONVERTED = [(name, task) for name, task in CASES if name != "dummy"]
# With one number filled by one median, many rows are equally near, and which of them count is left to chance.
STEADY = [(name, task) for name, task in CONVERTED if name != "nearest_neighbours"]
ONE_COLUMN = [("a b",), ("größe",)]


@pytest.mark.parametrize(("name", "task"), CONVERTED)
def test_graph_equals_pipeline(name: str, task: str) -> None:
    model = make_model(name, task)
    rows = pd.concat([make_table(), make_new_rows().drop(index=[40, 41])])
    content, parity = onnx_graph.make_graph(model, rows, tolerance=1e-5)
    assert parity.reason == ""
    assert parity.is_equal
    assert parity.rows == len(rows)
    assert content is not None


@pytest.mark.parametrize("columns", ONE_COLUMN)
@pytest.mark.parametrize(("name", "task"), STEADY)
def test_graph_of_one_column_equals_pipeline(name: str, task: str, columns: tuple[str, ...]) -> None:
    model = make_model(name, task, columns)
    content, parity = onnx_graph.make_graph(model, make_new_rows(), tolerance=1e-5)
    assert (parity.reason, content is None) == ("", False)


@pytest.mark.parametrize("name", ["hist_gradient_boosting", "lightgbm", "random_forest", "blend"])
def test_trees_stay_equal_far_off_the_scale(name: str) -> None:
    content, parity = onnx_graph.make_graph(make_model(name, "binary"), make_new_rows(), tolerance=1e-5)
    assert (parity.reason, content is None) == ("", False)


@pytest.mark.parametrize("task", TASKS)
def test_what_does_not_convert_has_a_reason_and_no_graph(task: str) -> None:
    content, parity = onnx_graph.make_graph(make_model("dummy", task), make_table(), tolerance=1e-5)
    assert content is None
    assert parity.largest_difference is None
    assert "does not convert: Unable to find a shape calculator" in parity.reason
    assert not parity.is_equal


def test_different_graph_is_caught() -> None:
    model = make_model("lightgbm", "regression")
    other = onnx_graph.Graph(onnx_graph.convert(make_model("linear", "regression")), model[0])
    parity = onnx_graph.prove_parity(model, other, make_table(), tolerance=1e-5)
    assert not parity.is_equal
    assert parity.reason.startswith("differs by ")
    assert parity.reason.endswith(", more than 1e-05")
    assert parity.largest_difference is not None
    assert parity.largest_difference > 1e-5
    wide = onnx_graph.prove_parity(model, other, make_table(), tolerance=10)
    assert wide == replace(parity, tolerance=10, reason="")
    shape = onnx_graph.Graph(onnx_graph.convert(make_model("linear", "multiclass")), model[0])
    assert "another shape" in onnx_graph.prove_parity(model, shape, make_table(), tolerance=1e-5).reason


def test_graph_of_other_features_is_refused() -> None:
    content = onnx_graph.convert(make_model("linear", "regression", ("a b",)))
    with pytest.raises(ModelError, match="the graph takes 1 columns, its features are 5"):
        onnx_graph.Graph(content, make_model("linear", "regression")[0])
    with pytest.raises(ModelError, match="not an ONNX graph that can be run"):
        onnx_graph.Graph(b"nonsense", make_model("linear", "regression")[0])


def test_rows_alone_and_together_give_the_same() -> None:
    model, rows = make_model("lightgbm", "multiclass"), make_new_rows()
    graph = onnx_graph.Graph(onnx_graph.convert(model), model[0])
    columns = take_columns(rows, model[0].inputs_)
    together = graph.predict(columns)
    assert together.shape == (len(rows), 3)
    for row in range(0, len(rows), 10):
        alone = graph.predict({name: values[row : row + 1] for name, values in columns.items()})
        np.testing.assert_array_equal(alone, together[row : row + 1])
    with pytest.raises(DataError, match="columns missing: a b"):
        graph.predict({name: values for name, values in columns.items() if name != "a b"})
