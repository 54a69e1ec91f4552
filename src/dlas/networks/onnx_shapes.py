"""The shapes of the values in an ONNX graph for one inference: inferred, else seen in a run."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from dlas.core.protocols import DataSpec
from dlas.networks.onnx_file import data_inputs

if TYPE_CHECKING:
    from onnx import ModelProto

Shape = tuple[int, ...]
_BY_VALUE = ("NonZero", "Unique", "Compress", "NonMaxSuppression", "If", "Loop", "Scan")
"""Operators whose results have as many elements as values ask for: a run on zeros is no guide."""


class KnownShapes:
    """The shapes of some values of a model, for the problem's batch.

    Where inference leaves one of ``needed`` open (shape arithmetic, operators that only one
    runtime knows), the model runs once on zeros and its values are looked at; what cannot run
    leaves it open.
    """

    def __init__(self, model: ModelProto, spec: DataSpec, needed: Collection[str]) -> None:
        self._known = _inferred(model, spec)
        missing = [name for name in needed if name not in self._known]
        made = {name for node in model.graph.node for name in node.output}
        wanted = [name for name in missing if name in made]
        free = any(node.op_type in _BY_VALUE for node in model.graph.node)
        if wanted and not free:
            # Why a model does not run is told where it is to run, not where it is counted.
            with contextlib.suppress(Exception):
                self._known |= _seen(model, spec, wanted)

    def of(self, name: str) -> Shape | None:
        """Return a value's shape, None: it is not known."""
        return self._known.get(name)


def _fixed(model: ModelProto, spec: DataSpec) -> ModelProto:
    """Return a copy whose input has the problem's shape, and states no other one inside."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]  # of another batch perhaps
    for value in data_inputs(copy.graph):
        shape = value.type.tensor_type.shape
        if len(shape.dim) in (0, len(spec.shape)):
            del shape.dim[:]
            for size in spec.shape:
                shape.dim.add().dim_value = size
    return copy


def _inferred(model: ModelProto, spec: DataSpec) -> dict[str, Shape]:
    import onnx

    copy = _fixed(model, spec)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception:  # a graph that contradicts itself: what it states of its input remains
        graph = copy.graph
    shapes = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return shapes


def _seen(model: ModelProto, spec: DataSpec, names: Collection[str]) -> Mapping[str, Shape]:
    """Run a model once on zeros and return the shapes of some of its values."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    copy = _fixed(model, spec)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
    given = {
        i.name: np.zeros(spec.shape, kinds.get(i.type, np.float32)) for i in session.get_inputs()
    }
    results = session.run(list(names), given)
    return {name: tuple(result.shape) for name, result in zip(names, results, strict=True)}
