"""The plain forward pass that decides what is right: PyTorch in float32, one batch at a time.

An int8 network (and an ONNX-only one) is *emulated*: ONNX Runtime with every graph optimization
switched off computes each QuantizeLinear and DequantizeLinear by itself and the operators between
them in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlas.core.protocols import Network

if TYPE_CHECKING:
    from torch import nn

    from dlas.core.protocols import Array


def forward(network: Network) -> Callable[[Array], Array]:
    """Return a function from one batch of images to outputs, both float32."""
    if network.onnx is not None and (network.precision == "int8" or network.module is None):
        return _onnx(network.onnx)
    return _torch(network.module)


def _torch(module: nn.Module) -> Callable[[Array], Array]:
    import torch

    module = module.eval().float()

    def run(x: Array) -> Array:
        with torch.inference_mode():
            y: Array = module(torch.from_numpy(np.array(x, dtype=np.float32))).numpy()
        return y

    return run


def _onnx(path: Path) -> Callable[[Array], Array]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Array) -> Array:
        y: Array = session.run(None, {name: x})[0]
        return y

    return run


def in_batches(run: Callable[[Array], Array], images: Array, batch: int) -> Array:
    """Run whole batches over images; the last batch is filled up with its first image."""
    outputs = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        filled = part
        if len(part) < batch:
            filled = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])
        outputs.append(np.array(run(np.ascontiguousarray(filled)))[: len(part)])
    return np.concatenate(outputs).astype(np.float32)
