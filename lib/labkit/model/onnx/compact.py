"""Rewriting of graphs to two inputs, all numbers and the codes of all categories, instead of one per feature.

Feeding one array per feature, and comparing strings, takes longer than a small model itself. The predictions stay the
same bit for bit. See `labkit.features.compiled` for the two arrays.
"""

from collections.abc import Sequence
from typing import Any

from labkit.features.compiled import CODES, NUMBERS, list_categories
from labkit.features.row_computation import RowComputation

MOVING = {"ArrayFeatureExtractor", "Flatten", "Gather", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that move the values of their first input without looking at them."""
CATEGORIES = {"OneHotEncoder": "cats", "LabelEncoder": "keys"}
"""Operators that look up categories, and the name of the attribute that lists these."""


def compact(content: bytes, features: RowComputation) -> bytes | None:
    """Rewrite a graph that has one input per feature.

    Parameters
    ----------
    content
        The graph, as `labkit.model.onnx.converters.convert` returns it.
    features
        Its row features.

    Returns
    -------
    bytes or None
        The graph with the inputs `numbers` and `codes`, or one of them if all features are of one kind, and the
        predictions as its only output. None if the graph uses a category in a way that has no form for codes.
    """
    from onnx import TensorProto, compose, helper, load_from_string

    # The prefix keeps the names of features apart from those of the new inputs.
    model = compose.add_prefix(load_from_string(content), "graph/", rename_outputs=False)
    graph, kinds = model.graph, [*features.outputs_.values()]
    nodes, constants, inputs = [*graph.node], [*graph.initializer], []
    for joined, kind in ((NUMBERS, "number"), (CODES, "category")):
        columns = [node for node, found in zip(graph.input, kinds, strict=True) if found == kind]
        if columns:
            nodes, places = join_columns(nodes, [node.name for node in columns], joined)
            constants += places
            type_ = columns[0].type.tensor_type.elem_type if kind == "number" else TensorProto.INT64
            inputs.append(helper.make_tensor_value_info(joined, type_, [None, len(columns)]))
    codes = {name: code for code, name in enumerate(list_categories(features))}
    if not translate_categories(nodes, codes):
        return None
    predicted = graph.output[-1]
    nodes = list_needed_nodes(nodes, predicted.name)
    used = {name for node in nodes for name in node.input}
    constants = [one for one in constants if one.name in used]
    made = helper.make_model(
        helper.make_graph(nodes, graph.name, inputs, [predicted], constants),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    return bytes(made.SerializeToString())


def join_columns(nodes: Sequence[Any], columns: Sequence[str], joined: str) -> tuple[list[Any], list[Any]]:
    """Return the nodes with an array of all columns in place of single ones, and the constants that this needs."""
    from onnx import TensorProto, helper

    made, constants, renamed = [], [], {}
    places = {name: place for place, name in enumerate(columns)}

    def take(names: Sequence[str], output: str) -> None:
        """Let an output be some of the columns."""
        if [*names] == [*columns]:
            renamed[output] = joined
            return
        constants.append(
            helper.make_tensor(f"{output}/places", TensorProto.INT64, [len(names)], [places[name] for name in names])
        )
        made.append(helper.make_node("Gather", [joined, constants[-1].name], [output], axis=1))

    single = {name for node in nodes if not is_joining(node, places) for name in node.input if name in places}
    for name in sorted(single):
        take([name], name)
    for node in nodes:
        if is_joining(node, places):
            take(node.input, node.output[0])
        else:
            made.append(node)
    for node in made:
        for number, name in enumerate(node.input):
            node.input[number] = renamed.get(name, name)
    return made, constants


def is_joining(node: Any, columns: Any) -> bool:
    """Return whether a node puts columns beside one another and does nothing else."""
    return node.op_type == "Concat" and all(name in columns for name in node.input)


def translate_categories(nodes: Sequence[Any], codes: dict[str, int]) -> bool:
    """Replace categories by their codes wherever a graph looks them up; return whether that was possible."""
    coded = {CODES}
    for node in nodes:
        found = [name in coded for name in node.input]
        if not any(found):
            continue
        if node.op_type in CATEGORIES:
            if not translate_node(node, CATEGORIES[node.op_type], codes):
                return False
        elif (node.op_type in MOVING and found[0] and not any(found[1:])) or (node.op_type == "Concat" and all(found)):
            coded |= {*node.output}
        else:
            return False
    return True


def translate_node(node: Any, attribute: str, codes: dict[str, int]) -> bool:
    """Replace the categories that a node lists by their codes; return whether it lists strings."""
    from onnx import helper

    listed = next((one for one in node.attribute if one.name == f"{attribute}_strings"), None)
    if listed is None:
        return False
    # Categories that the features never give need numbers of their own.
    known = [codes.get(name.decode(), -1 - place) for place, name in enumerate(listed.strings)]
    listed.CopyFrom(helper.make_attribute(f"{attribute}_int64s", known))
    return True


def list_needed_nodes(nodes: Sequence[Any], output: str) -> list[Any]:
    """Return the nodes that an output depends on."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed & {*node.output}:
            needed |= {*node.input}
            kept.append(node)
    return kept[::-1]
