"""Small networks as dlas's own int8 technique quantizes them, and ONNX Runtime's word on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.core.protocols import DataSpec, Network

Array = npt.NDArray[Any]


class Images:
    """Calibration images."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.labels = np.arange(8) % spec.classes

    def images(self, indices: Any) -> Array:
        random = np.random.default_rng(0)
        shape = (len(self.labels), *self.spec.shape[1:])
        return random.standard_normal(shape).astype(np.float32)[list(indices)]


def quantized(network: type[Any], spec: DataSpec, folder: Path) -> Any:
    """The ONNX model that a network becomes, its weights being random but always the same."""
    import onnx
    import torch

    from dlas.layers.optimization.int8 import Int8

    torch.manual_seed(0)
    given: Any = Images(spec)
    done = Int8(images=8).apply(Network(spec, network().eval()), given, folder).network
    return onnx.load(done.onnx)


def session(model: Any, optimized: bool = True) -> Any:
    """ONNX Runtime on a model, with all of its optimizations or none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def inputs(spec: DataSpec, count: int) -> list[Array]:
    """Fresh random inputs."""
    random = np.random.default_rng()
    return [random.standard_normal(spec.shape).astype(np.float32) for _ in range(count)]


def far(found: list[Array], expected: list[Array]) -> float:
    """The relative L2 distance over all images."""
    return float(np.linalg.norm(np.subtract(found, expected)) / np.linalg.norm(expected))


def opened(model: Any) -> Any:
    """The model with every quantized tensor as an output, too."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in shaped.graph.value_info}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            dims = [d.dim_value for d in known[node.output[0]].type.tensor_type.shape.dim]
            told = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UINT8, dims)
            shaped.graph.output.append(told)
    return shaped
