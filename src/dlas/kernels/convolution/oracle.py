"""The oracle: a plain float64 convolution and the error bound that kernels are held to."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dlas.kernels.ground.shape import Conv2d

Float64 = npt.NDArray[np.float64]
EPSILON = 2.0**-24
"""Unit round-off of float32."""
DIRECT_BOUND = 32 * EPSILON
WINOGRAD_BOUND = 2000 * EPSILON


class Reference(NamedTuple):
    """The exact output and its condition: |x| convolved with |w| (plus |bias| and |residual|)."""

    y: Float64
    magnitude: Float64


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
