"""ONNX's Gather with one index that is known, as the slice that it is.

TVM's importer makes an index that may be negative positive at run time, with operators on the
shape of what is gathered from; our graphs hold tensors alone.
"""

from typing import Any

import numpy as np


def slice_gathers(model: Any) -> Any:
    """Return an ONNX model in which a Gather by one constant index is a Slice and a Squeeze.

    Args:
        model: an `onnx.ModelProto`; it is left as it is. Opset 13 or later: before it the axes
            of Squeeze are no input, and the model is returned unchanged.
    """
    import onnx
    from onnx import helper, numpy_helper

    opset = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)
    known = {
        t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.ByteSize() < 99
    }
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    if opset < 13 or not any(_fixed(node, known) for node in model.graph.node):
        return model
    sliced = onnx.ModelProto()
    sliced.CopyFrom(model)
    del sliced.graph.node[:]
    for node in model.graph.node:
        if not _fixed(node, known):
            sliced.graph.node.append(node)
            continue
        at, name = int(known[node.input[1]]), node.output[0]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        # The one before the last ends at -1, the last at the end.
        end = at + 1 if at != -1 else np.iinfo(np.int64).max
        parts = {"starts": at, "ends": end, "axes": axis}
        for part, number in parts.items():
            value = np.array([number], np.int64)
            sliced.graph.initializer.append(numpy_helper.from_array(value, f"{name}.{part}"))
        inputs = [node.input[0], *(f"{name}.{part}" for part in parts)]
        sliced.graph.node.append(helper.make_node("Slice", inputs, [f"{name}.slice"], node.name))
        squeezed = helper.make_node("Squeeze", [f"{name}.slice", f"{name}.axes"], [name])
        sliced.graph.node.append(squeezed)
    return sliced


def _fixed(node: Any, known: dict[str, Any]) -> bool:
    """Return whether a node takes one entry of an axis, at an index that is known."""
    return node.op_type == "Gather" and node.input[1] in known and known[node.input[1]].ndim == 0
