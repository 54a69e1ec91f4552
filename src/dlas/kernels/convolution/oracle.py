"""The oracle: a plain float64 convolution and the error bound that kernels are held to.

In int8 there is no bound: sums are exact, and the roundings after them are told step by step.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dlas.kernels.ground import half_floats
from dlas.kernels.ground.quantization import Quantization, Scale, sum_factors
from dlas.kernels.ground.shape import Conv2d

Float64 = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
EPSILON = 2.0**-24
"""Unit round-off of float32."""
DIRECT_BOUND = 32 * EPSILON
WINOGRAD_BOUND = 2000 * EPSILON
FLOAT16_ROUNDINGS = 8
"""What sums of float16 may be off, in round-offs; the worst case is the number of products."""
WINOGRAD_ROUNDINGS, OF_FEW = 8, 48
"""What Winograd adds for each round-off of the halves in which transformed filters are stored.
Those of F(4x4), in float16, cancel over input channels: of few they add ``OF_FEW`` over the square
root of their number."""


class Reference(NamedTuple):
    """The exact output and its condition: |x| convolved with |w| (plus |bias| and |residual|)."""

    y: Float64
    magnitude: Float64


def bound(
    primitive: str, dtype: str = "float32", multiplied: str = "float32", channels: int = 64
) -> float:
    """Return the largest error that a primitive may have, in units of `Reference.magnitude`.

    In halves it is that of float32, in which they are summed, for inputs that are rounded as the
    kernel rounds them. Winograd rounds its transformed filters once more; what is multiplied in
    float16 is summed so for some steps: a product and each of the sums after it are rounded, in
    ways that mostly cancel.
    """
    if multiplied == "float16":
        return FLOAT16_ROUNDINGS * half_floats.ROUND_OFF[multiplied]
    if primitive != "winograd":
        return DIRECT_BOUND
    roundings = float(WINOGRAD_ROUNDINGS)
    if dtype == "float16":
        roundings = max(roundings, OF_FEW / channels**0.5)
    return WINOGRAD_BOUND + roundings * half_floats.ROUND_OFF.get(dtype, 0.0)


def of_tiles(magnitude: Float64, side: int = 4) -> Float64:
    """Return the largest magnitude that a pixel may share a tile of Winograd with.

    All outputs of a tile are sums over all of its inputs, of which what does not belong to an
    output cancels: but for roundings, which are those of the largest.
    """
    far = side - 1
    wide = np.pad(magnitude, ((0, 0), (0, 0), (far, far), (far, far)))
    near = np.lib.stride_tricks.sliding_window_view(wide, (2 * far + 1,) * 2, axis=(2, 3))
    largest: Float64 = near.max(axis=(4, 5))
    return largest


def conv2d(
    op: Conv2d,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    activation: str | None = None,
    residual: npt.ArrayLike | None = None,
) -> Reference:
    """Return y = act(conv(x, w) + bias + residual) in float64, NCHW."""
    x64, w64 = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    y, size = _correlate(op, x64, w64), _correlate(op, np.abs(x64), np.abs(w64))
    if bias is not None:
        b64 = np.asarray(bias, np.float64).reshape(1, -1, 1, 1)
        y, size = y + b64, size + np.abs(b64)
    if residual is not None:
        r64 = np.asarray(residual, np.float64)
        y, size = y + r64, size + np.abs(r64)
    return Reference(activate(y, activation), size)


def quantized_conv2d(
    op: Conv2d,
    x: Bytes,
    weight: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32] | None,
    quantization: Quantization,
    residual: Bytes | None = None,
) -> Bytes:
    """Return the uint8 output of an int8 convolution, NCHW, by ONNX Runtime's arithmetic."""
    if (table := quantization.table) is not None:
        before = replace(quantization, table=None)
        rounded = quantized_conv2d(op, x, weight, bias, before, residual)
        return np.frombuffer(table.stored, np.uint8)[rounded]
    # Whole numbers far below 2**53: exact in float64.
    sums = _correlate(op, x.astype(np.float64) - quantization.x.zero, weight.astype(np.float64))
    if bias is not None:
        sums = sums + bias.reshape(1, -1, 1, 1)
    assert np.abs(sums).max(initial=0) < 2**31
    scaled = sums.astype(np.float32) * quantization.factors(op.out_channels).reshape(1, -1, 1, 1)
    y, scales = quantization.y, quantization.sum
    if residual is None or scales is None:
        return _stored(np.rint(scaled) + y.zero, y, quantization.activation)
    between = _stored(np.rint(scaled) + y.zero, y, None)
    first, second = (between, y), (residual, scales.other)
    if scales.first:
        first, second = second, first
    return quantized_sum(first, second, scales.total, quantization.activation)


def quantized_sum(
    a: tuple[Bytes, Scale], b: tuple[Bytes, Scale], total: Scale, activation: str | None = None
) -> Bytes:
    """Return the quantized sum of two quantized tensors: two fused multiply-adds, one rounding."""
    p, q, offset = sum_factors(a[1], b[1], total)
    # A product of 8 and 24 bits, and its sum with a float32, are exact in float64.
    first = (b[0] * np.float64(q) + offset).astype(np.float32)
    both = (a[0] * np.float64(p) + first).astype(np.float32)
    return _stored(np.rint(both), total, activation)


def _stored(value: npt.NDArray[Any], scale: Scale, activation: str | None) -> Bytes:
    low = scale.zero if activation in ("relu", "relu6") else 0
    high = 255.0
    if activation == "relu6":
        high = min(high, float(np.rint(np.float32(6) / np.float32(scale.scale))) + scale.zero)
    return np.clip(value, low, high).astype(np.uint8)


def activate(y: Float64, activation: str | None) -> Float64:
    """Apply the named activation in float64."""
    if activation == "relu":
        return np.maximum(y, 0)
    if activation == "relu6":
        return np.clip(y, 0, 6)
    if activation == "silu":
        return y / (1 + np.exp(-y))
    return y


def _correlate(op: Conv2d, x: Float64, w: Float64) -> Float64:
    top, left, bottom, right = op.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
    y = np.zeros(op.out_shape)
    for kh, kw in np.ndindex(*op.kernel):
        h0, w0 = kh * op.dilation[0], kw * op.dilation[1]
        rows = slice(h0, h0 + op.stride[0] * (op.out_height - 1) + 1, op.stride[0])
        cols = slice(w0, w0 + op.stride[1] * (op.out_width - 1) + 1, op.stride[1])
        window = x[:, :, rows, cols]
        for g in range(op.groups):
            part = window[:, g * per_in : (g + 1) * per_in]
            taps = w[g * per_out : (g + 1) * per_out, :, kh, kw]
            y[:, g * per_out : (g + 1) * per_out] += np.einsum("oi,nihw->nohw", taps, part)
    return y
