"""ONNX's GlobalAveragePool between quantized tensors, as the AveragePool that it is.

TVM's importer makes the same mean of it as of a ReduceMean. ONNX Runtime does not: it averages
bytes in integers, where a mean is one of floats.
"""

from collections import Counter
from typing import Any


def window_pools(model: Any) -> Any:
    """Return an ONNX model in which such a pool has a window as large as its image.

    Args:
        model: an `onnx.ModelProto`; it is left as it is.
    """
    import onnx
    from onnx import helper, shape_inference

    asked = _between(model.graph)
    if not asked:
        return model
    told = shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*told.value_info, *told.input)
    }
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for node in made.graph.node:
        image = shapes.get(node.input[0], [])[2:] if asked.intersection(node.output) else []
        if len(image) == 2 and all(image):
            node.op_type = "AveragePool"
            node.attribute.append(helper.make_attribute("kernel_shape", image))
    return made


def _between(graph: Any) -> set[str]:
    """Return the outputs of global pools that read a dequantized tensor and are quantized."""
    makers = {name: node.op_type for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    quantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {
        node.output[0]
        for node in graph.node
        if node.op_type == "GlobalAveragePool"
        and makers.get(node.input[0]) == "DequantizeLinear"
        and node.output[0] in quantized
        and readers[node.output[0]] == 1
    }
