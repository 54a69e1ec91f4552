"""Round the weights of a network to a narrower floating-point type, kept in float32."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlas.core.errors import StepError
from dlas.core.protocols import Network, Optimized, Precision
from dlas.layers.optimization.shared import onnx_source
from dlas.networks.export import ONNX_FILE, write_onnx
from dlas.networks.onnx_operators import BLOCKED


def rounded(network: Network, precision: Precision, folder: Path) -> Optimized:
    """Return a network whose weights are numbers of ``precision``, stored as float32.

    Parameters and floating-point buffers are rounded to nearest even; for an ONNX file its
    float32 initializers, apart from scalars (constants of operators, not weights). Achieved:
    ``values`` rounded, how many became zero (``flushed``), and ``max_relative_change`` among
    those that did not.

    Raises:
        StepError: the network is not float32, or a weight is too large for the type.
    """
    if network.precision != "float32":
        raise StepError(f"{precision} needs a float32 network, and got a {network.precision} one")
    tally = {"values": 0, "flushed": 0, "max_relative_change": 0.0}
    if network.module is None:
        path = folder / ONNX_FILE
        _round_onnx(network, precision, path, tally)
        return Optimized(Network(network.spec, None, path, precision), tally)
    module = copy.deepcopy(network.module)
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in named.items():
        if tensor.is_floating_point():
            tensor.data.copy_(_round(name, tensor.detach(), precision, tally))
    return Optimized(Network(network.spec, module, None, precision), tally)


def _round(name: str, tensor: Any, precision: Precision, tally: dict[str, Any]) -> Any:
    import torch

    narrow = tensor.to(getattr(torch, precision)).to(tensor.dtype)
    if not torch.equal(torch.isfinite(narrow), torch.isfinite(tensor)):
        raise StepError(
            f"{name} holds a value of size {tensor.abs().max().item():g}, which {precision} "
            f"cannot hold (at most {torch.finfo(getattr(torch, precision)).max:g})"
        )
    kept = narrow != 0
    change = ((narrow - tensor).abs() / tensor.abs())[kept]
    tally["values"] += tensor.numel()
    tally["flushed"] += int(((narrow == 0) & (tensor != 0)).sum())
    if change.numel():
        largest = float(change.max())
        tally["max_relative_change"] = max(tally["max_relative_change"], largest)
    return narrow


def _round_onnx(
    network: Network, precision: Precision, target: Path, tally: dict[str, Any]
) -> None:
    import onnx
    import torch
    from onnx import numpy_helper

    if network.onnx is None:
        raise StepError(f"{precision} needs a torch module or an ONNX file, and got neither")
    model = onnx_source.ready(network.onnx, network.spec)
    if any(node.domain == BLOCKED for node in model.graph.node):
        # Their kernels are float32, for the CPU that the file was saved on.
        onnx_source.refuse_foreign(model, precision)
    for tensor in _tensors(model.graph):
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims:
            continue
        values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        narrow = _round(tensor.name, values, precision, tally).numpy()
        tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
    write_onnx(model, target)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors that a graph stores, those of Constant operators included."""
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (a.t for a in node.attribute if a.name == "value")
