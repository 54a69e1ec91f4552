"""A user's ONNX file made ready for what changes its tensors: in order, shaped, new enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec
from dlas.networks.onnx_file import (
    QUANTIZES,
    data_inputs,
    in_order,
    opset,
    raised,
    with_stated_ends,
)

SOURCE = __name__
FILE = "the model's file"
"""What a file is called in messages: where it comes from is not known any more."""
ONNX_DOMAINS = ("", "ai.onnx")
_CLOSE = 1e-4


def ready(path: Path, spec: DataSpec, version: int = 0) -> Any:
    """Return the model of a file in the form that ONNX's own checker and tools ask for.

    ``version``: the operator set that is needed; an older file is raised by ONNX's converter,
    and must then give the same outputs. The file is not changed.

    Raises:
        StepError: it is quantized, cannot be raised, or gives other outputs then.
    """
    import onnx

    model = with_stated_ends(in_order(onnx.load(path)), spec)
    if any(node.op_type in QUANTIZES for node in model.graph.node):
        raise StepError(
            f"{FILE} is quantized already, in part or in a type that is computed in floats: take "
            "optimization `none`, which measures it as it is, or give its float32 file"
        )
    newer = raised(model, version, FILE)
    if newer is not model and not _same(model, newer, spec):
        raise StepError(
            f"{FILE} is written in opset {opset(model)}, and opset {version} is needed: raised by "
            "ONNX's version converter it gives other outputs. Export it anew with opset "
            f"{version} or later"
        )
    return newer


def refuse_foreign(model: Any, asked: str) -> None:
    """Raise for operators that belong to one runtime: the result is for all of them.

    Raises:
        StepError: there are some, by name.
    """
    foreign = {(n.domain, n.op_type) for n in model.graph.node if n.domain not in ONNX_DOMAINS}
    if foreign:
        names = ", ".join(sorted(f"{domain}.{operator}" for domain, operator in foreign))
        raise StepError(
            f"{asked} takes ONNX's own operators, and {FILE} holds {names}, which one runtime "
            "alone knows. Was it saved by a runtime after optimizing? Give the file from before"
        )


def _same(one: Any, two: Any, spec: DataSpec) -> bool:
    """Whether two models give the same outputs on the same images."""
    images = np.random.default_rng(0).standard_normal(spec.shape, np.float32)
    first, second = (_run(model, images) for model in (one, two))
    if first.shape != second.shape:
        return False
    scale = max(1.0, float(np.abs(first).max()))
    return bool(np.allclose(first, second, rtol=_CLOSE, atol=_CLOSE * scale, equal_nan=True))


def _run(model: Any, images: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = data_inputs(model.graph)
    return session.run(None, {given.name: images})[0]
