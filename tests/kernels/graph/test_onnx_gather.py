"""A Gather by one known index is a slice, so that the importer meets tensors alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlas.kernels.graph.importer import import_onnx
from dlas.kernels.graph.onnx_gather import slice_gathers
from dlas.kernels.ground.errors import UnsupportedError

SHAPE = (2, 3, 5)


def gathering(index: Any, axis: int, opset: int = 17, known: str = "initializer") -> Any:
    """Return a model of one Gather, whose index is an initializer, a Constant or an input."""
    array = np.array(index, np.int64)
    nodes = [helper.make_node("Gather", ["x", "at"], ["y"], axis=axis)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    stored = []
    if known == "initializer":
        stored = [numpy_helper.from_array(array, "at")]
    elif known == "constant":
        value = numpy_helper.from_array(array)
        nodes = [helper.make_node("Constant", [], ["at"], value=value), *nodes]
    else:
        inputs = [*inputs, helper.make_tensor_value_info("at", TensorProto.INT64, array.shape)]
    shape = np.take(np.zeros(SHAPE), array, axis).shape
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "one", inputs, [output], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize("known", ["initializer", "constant"])
@pytest.mark.parametrize(("index", "axis"), [(0, 1), (2, 1), (-1, 2), (-2, -1), (1, 0)])
def test_one_known_index_is_a_slice_with_the_same_numbers(
    index: int, axis: int, known: str
) -> None:
    model = gathering(index, axis, known=known)
    sliced = slice_gathers(model)
    assert "Gather" not in {node.op_type for node in sliced.graph.node}
    x = np.random.default_rng().random(SHAPE, np.float32)
    session = onnxruntime.InferenceSession(sliced.SerializeToString())
    assert np.array_equal(session.run(None, {"x": x})[0], np.take(x, index, axis))
    graph = import_onnx(model)
    assert graph.values[graph.outputs[0]].shape == np.take(x, index, axis).shape
    assert {node.attrs["kind"] for node in graph.nodes} == {"strided_slice", "squeeze"}


@pytest.mark.parametrize("model", [gathering([0, 2], 1), gathering(1, 1, opset=11)])
def test_others_stay_and_are_refused_in_words(model: Any) -> None:
    assert slice_gathers(model) is model
    with pytest.raises(UnsupportedError, match="no tensor but a shape"):
        import_onnx(model)
