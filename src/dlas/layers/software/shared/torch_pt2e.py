"""Quantized networks as PyTorch's compiler takes them: floats between quantize and dequantize.

torchao's passes, which are registered when its quantizer for x86 is imported, put oneDNN's
integer kernels in the place of what stands between; without them the compiler would compute
rounded floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers quantized_decomposed
from torch.nn import functional as F
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

from dlas.layers.software.shared.pt2e import calibrated
from dlas.layers.software.shared.qdq_listing import read_listing
from dlas.layers.software.shared.torch_int8 import Int8Network
from dlas.layers.software.shared.torch_moves import Fixed, Maker, Run

if TYPE_CHECKING:
    from dlas.core.protocols import Array

_OF_ACTIVATIONS = (0, 255, torch.uint8)
_OF_WEIGHTS = (-128, 127, torch.int8)
_ops = torch.ops.quantized_decomposed


def own(module: Any, example: Any, images: Array, reduce_range: bool) -> Any:
    """Return a module that torchao has quantized on images, in batches like the example.

    ``reduce_range``: activations keep to seven bits, for kernels whose sums saturate.
    """
    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config(reduce_range=reduce_range))
    return calibrated(module, example, images, lambda graph: quantizer)


def shared(model: Path) -> torch.nn.Module:
    """Return the shared quantized model, an ONNX file, as a module.

    Raises:
        StepError: it holds operators that are not read.
        ValueError: PyTorch cannot compute one.
    """
    import onnx

    return _Shared(onnx.load(model))


class _Shared(torch.nn.Module):
    """A module around the operations of a quantized model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        listing = read_listing(model)
        constants = {n: torch.from_numpy(v.copy()) for n, v in listing.constants.items()}
        operations = [
            {"op": o.op, "inputs": o.inputs, "outputs": o.outputs, "attrs": o.attrs}
            for o in listing.operations
        ]
        self._network = Int8Network(
            operations, constants, (listing.given, listing.made), _DECOMPOSED
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the network."""
        return self._network(x)


# ---------------------------------------------------------------- operations in eight bits


def _narrowed(x: Any, attrs: Mapping[str, Any]) -> Any:
    return _ops.quantize_per_tensor.default(x, attrs["scale"], attrs["zero"], *_OF_ACTIVATIONS)


def _widened(x: Any, attrs: Mapping[str, Any]) -> Any:
    return _ops.dequantize_per_tensor.default(x, attrs["scale"], attrs["zero"], *_OF_ACTIVATIONS)


def _between(given: Fixed, compute: Callable[..., Any]) -> Run:
    """Return what widens its inputs, computes, cuts off what is negative if asked, and narrows."""
    attrs = given.attrs

    def run(*inputs: Any) -> Any:
        wide = [_widened(x, means) for x, means in zip(inputs, attrs["read"], strict=False)]
        y = compute(*wide)
        return _narrowed(torch.relu(y) if attrs["relu"] else y, attrs)

    return run


def _weights(given: Fixed) -> tuple[Callable[[], Any], Any]:
    """Return what widens the weights, and the bias."""
    _, numbers, scales, *bias = given.constants
    wide = scales.to(torch.float32)  # type: ignore[union-attr]
    zeros = torch.zeros(len(wide), dtype=torch.int64)

    def widened() -> Any:
        return _ops.dequantize_per_channel.default(numbers, wide, zeros, 0, *_OF_WEIGHTS)

    return widened, bias[0] if bias else None


def _conv(given: Fixed) -> Run:
    weight, bias = _weights(given)
    pads = given.get("pads") or [0, 0, 0, 0]
    stride, dilation = given.get("strides") or [1, 1], given.get("dilations") or [1, 1]
    groups = given.get("group", 1)
    return _between(
        given, lambda x: F.conv2d(x, weight(), bias, stride, pads[:2], dilation, groups)
    )


def _linear(given: Fixed) -> Run:
    weight, bias = _weights(given)
    return _between(given, lambda x: F.linear(x, weight(), bias))


def _concat(given: Fixed) -> Run:
    axis = given.attrs["axis"]
    return _between(given, lambda *parts: torch.cat(parts, axis))


def _clamp(given: Fixed) -> Run:
    low, high = given.attrs["low"], given.attrs["high"]
    return lambda x: torch.clamp(x, low, high)


_DECOMPOSED: Mapping[str, Maker] = {
    "quantize": lambda given: lambda x: _narrowed(x, given.attrs),
    "dequantize": lambda given: lambda x: _widened(x, given.attrs),
    "int8 constant": lambda given: lambda x: x,
    "int8 Conv": _conv,
    "int8 Linear": _linear,
    "int8 Add": lambda given: _between(given, torch.add),
    "int8 Concat": _concat,
    "int8 Clamp": _clamp,
}
"""By the names of ``qdq_parts``."""
