"""Every candidate as a graph: proved equal from raw columns, or not used, with the reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError, ModelError
from labkit.features.table_columns import take_columns
from labkit.model.onnx import converters, graph
from labkit.model.onnx.compact import compact
from labkit.model.onnx.hard_rows import make_hard_rows

from tests.model.tables import (
    CASES,
    TASKS,
    fit_small_model,
    make_model,
    make_new_rows,
    make_small_model,
    make_table,
    make_target,
)

CONVERTED = [(name, task) for name, task in CASES if name != "dummy"]
# With one number filled by one median, many rows are equally near, and which of them count is arbitrary.
STEADY = [(name, task) for name, task in CONVERTED if name != "nearest_neighbours"]
ONE_COLUMN = [("a b",), ("größe",)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), CONVERTED)
def test_graph_equals_pipeline(name: str, task: str) -> None:
    model = make_model(name, task)
    rows = pd.concat([make_table(), make_new_rows().drop(index=[40, 41])])
    content, parity = graph.make_graph(model, rows, tolerance=1e-5)
    assert parity.reason == ""
    assert parity.is_equal
    assert parity.rows == len(rows)
    assert content is not None
    assert graph.Graph(content, model[0]).compiled is not None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), CONVERTED)
def test_graph_equals_pipeline_on_rows_that_may_come(name: str, task: str) -> None:
    model, frame = make_model(name, task), make_table()
    hard = make_hard_rows(frame, model[0].inputs_, n_rows=200, seed=0)
    content, parity = graph.make_graph(model, frame, tolerance=1e-5, hard=hard)
    assert (parity.reason, parity.rows, content is None) == ("", len(frame) + len(hard), False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task"), CONVERTED)
def test_large_whole_numbers_keep_their_differences(name: str, task: str) -> None:
    # Seconds of one day since 1970, which float32 rounds to 128, and numbers beyond what float64 counts one by one.
    random, n_rows = np.random.default_rng(0), 600
    frame = pd.DataFrame(
        {
            "seconds": 1_700_000_000 + random.integers(0, 86_400, n_rows),
            "number": 2**53 + 2 * random.integers(0, 2**32, n_rows),
            "size": random.normal(size=n_rows),
        }
    )
    score = np.sin((frame["seconds"] - 1_700_000_000) / 7000) + frame["size"] + (frame["number"] - 2**53) / 2**33
    targets = {
        "binary": pd.Series(np.where(score > 0.5, "yes", "no")),
        "multiclass": pd.Series(np.digitize(score, [0, 1])),
        "regression": score,
    }
    model = fit_small_model(name, frame, targets[task], make_target(task))
    _, parity = graph.make_graph(model, frame, tolerance=1e-5)
    assert parity.reason == ""


@pytest.mark.parametrize("columns", [(), ("a b",), ("größe",), ("größe", "flag", 'text, "x"')])
@pytest.mark.parametrize("name", ["linear", "lightgbm"])
def test_two_inputs_predict_what_one_per_feature_predicts(name: str, columns: tuple[str, ...]) -> None:
    model, frame = make_small_model(name, "binary", columns), make_table()[[*columns] or slice(None)]
    content = converters.convert(model)
    plain, small = graph.Graph(content, model[0]), graph.Graph(compact(content, model[0]) or b"", model[0])
    assert {*small.inputs} <= {"numbers", "codes"}
    assert small.compiled is not None
    rows = pd.concat([frame, make_hard_rows(frame, model[0].inputs_, n_rows=50, seed=0)], ignore_index=True)
    arrays = take_columns(rows, model[0].inputs_)
    np.testing.assert_array_equal(small.predict(arrays), plain.predict(arrays))


def test_columns_called_like_the_inputs_are_no_inputs() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"codes": random.normal(size=60), "numbers": random.choice(["a", "b"], 60)})
    model = fit_small_model("linear", frame, pd.Series(random.normal(size=60)), make_target("regression"))
    content = converters.convert(model)
    plain, small = graph.Graph(content, model[0]), graph.Graph(compact(content, model[0]) or b"", model[0])
    assert (plain.compiled is None, small.compiled is None) == (True, False)
    arrays = take_columns(frame, model[0].inputs_)
    np.testing.assert_array_equal(small.predict(arrays), plain.predict(arrays))


def test_a_category_used_in_another_way_keeps_its_input() -> None:
    content = converters.convert(make_small_model("linear", "regression"))
    assert (
        compact(content.replace(b"OneHotEncoder", b"OneHotDecoder"), make_small_model("linear", "regression")[0])
        is None
    )


@pytest.mark.slow
def test_neighbours_of_an_absurd_number_are_the_same_alone_and_together() -> None:
    model = make_model("nearest_neighbours", "binary")
    rows = make_table(40).assign(a_b=9007199254740993)
    together = model.predict_proba(rows)
    opened = graph.Graph(converters.convert(model), model[0])
    np.testing.assert_allclose(opened.predict(take_columns(rows, model[0].inputs_)), together, atol=1e-12)
    alone = np.concatenate([model.predict_proba(rows.iloc[[row]]) for row in range(len(rows))])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["linear", "lightgbm", "naive_bayes", "blend"])
def test_categories_alone_convert(name: str, task: str) -> None:
    if (name, task) not in CONVERTED:
        return
    model = make_small_model(name, task, ("größe", 'text, "x"'))
    _, parity = graph.make_graph(model, make_new_rows(), tolerance=1e-5)
    assert parity.reason == ""


def test_one_large_prediction_hides_no_small_one() -> None:
    model = make_model("linear", "regression")
    frame = make_table()
    other = make_model("linear", "regression", ("a b", "a_b"))
    opened = graph.Graph(converters.convert(other), other[0])
    hard = frame.head(1).assign(a_b=1e30)
    alone = graph.prove_parity(model, opened, frame, tolerance=1e-5)
    both = graph.prove_parity(model, opened, frame, tolerance=1e-5, hard=hard)
    assert alone.largest_difference is not None
    assert both.largest_difference is not None
    assert both.largest_difference >= alone.largest_difference > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("columns", ONE_COLUMN)
@pytest.mark.parametrize(("name", "task"), STEADY)
def test_graph_of_one_column_equals_pipeline(name: str, task: str, columns: tuple[str, ...]) -> None:
    model = make_small_model(name, task, columns)
    content, parity = graph.make_graph(model, make_new_rows(), tolerance=1e-5)
    assert (parity.reason, content is None) == ("", False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hist_gradient_boosting", "lightgbm", "random_forest", "blend"])
def test_trees_stay_equal_far_off_the_scale(name: str) -> None:
    content, parity = graph.make_graph(make_model(name, "binary"), make_new_rows(), tolerance=1e-5)
    assert (parity.reason, content is None) == ("", False)


@pytest.mark.parametrize("task", TASKS)
def test_what_does_not_convert_has_a_reason_and_no_graph(task: str) -> None:
    content, parity = graph.make_graph(make_model("dummy", task), make_table(), tolerance=1e-5)
    assert content is None
    assert parity.largest_difference is None
    assert "does not convert: skl2onnx has no converter for it" in parity.reason
    assert not parity.is_equal


def test_different_graph_is_caught() -> None:
    model = make_model("lightgbm", "regression")
    other = graph.Graph(converters.convert(make_model("linear", "regression")), model[0])
    parity = graph.prove_parity(model, other, make_table(), tolerance=1e-5)
    assert not parity.is_equal
    assert parity.reason.startswith("differs by ")
    assert parity.reason.endswith(", more than 1e-05")
    assert parity.largest_difference is not None
    assert parity.largest_difference > 1e-5
    wide = graph.prove_parity(model, other, make_table(), tolerance=10)
    assert wide == replace(parity, tolerance=10, reason="")
    shape = graph.Graph(converters.convert(make_model("linear", "multiclass")), model[0])
    assert "another shape" in graph.prove_parity(model, shape, make_table(), tolerance=1e-5).reason


def test_graph_of_other_features_is_refused() -> None:
    content = converters.convert(make_model("linear", "regression", ("a b",)))
    with pytest.raises(ModelError, match="the graph takes 1 columns, its features are 5"):
        graph.Graph(content, make_model("linear", "regression")[0])
    with pytest.raises(ModelError, match="not an ONNX graph that can be run"):
        graph.Graph(b"nonsense", make_model("linear", "regression")[0])


@pytest.mark.slow
def test_rows_alone_and_together_give_the_same() -> None:
    model, rows = make_model("lightgbm", "multiclass"), make_new_rows()
    opened = graph.Graph(converters.convert(model), model[0])
    columns = take_columns(rows, model[0].inputs_)
    together = opened.predict(columns)
    assert together.shape == (len(rows), 3)
    for row in range(0, len(rows), 10):
        alone = opened.predict({name: values[row : row + 1] for name, values in columns.items()})
        np.testing.assert_array_equal(alone, together[row : row + 1])
    with pytest.raises(DataError, match="columns missing: a b"):
        opened.predict({name: values for name, values in columns.items() if name != "a b"})
