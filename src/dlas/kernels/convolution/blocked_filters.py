"""Filters and bias in the order in which kernels on blocked channels read them."""

import numpy as np

from dlas.kernels.code.register_tile import Tile, segments
from dlas.kernels.code.walk import channels
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


def pack_weight(
    op: Conv2d, weight: AnyArray, in_block: int, tile: Tile, target: CpuTarget
) -> AnyArray:
    """Return the filters in the order in which the kernel reads them, one flat array."""
    lanes = target.lanes
    walk = channels(op, in_block, lanes)
    total = -(-op.out_channels // lanes)
    per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
    taps = np.zeros((total * lanes, walk.outer * walk.inner, *op.kernel), weight.dtype)
    if op.groups == 1 or walk.blocked:
        taps[: op.out_channels, :per_in] = weight
    else:
        for o in range(op.out_channels):
            first = o // lanes * lanes // per_out
            start = (o // per_out - first) * per_in
            taps[o, start : start + per_in] = weight[o]
    shape = (total, lanes, walk.outer, walk.inner, *op.kernel)
    ordered = taps.reshape(shape).transpose(0, 2, 4, 5, 3, 1)
    parts = []
    for first, count, blocks in segments(total, tile.blocks):
        part = ordered[first : first + count * blocks]
        part = part.reshape(count, blocks, *part.shape[1:]).transpose(0, 2, 3, 4, 5, 1, 6)
        parts.append(part.reshape(-1))
    return np.ascontiguousarray(np.concatenate(parts))


def pack_bias(
    op: Conv2d, bias: AnyArray | None, target: CpuTarget, dtype: str = "float32"
) -> AnyArray:
    """Return the bias padded with zeros to whole vectors."""
    padded = np.zeros(-(-op.out_channels // target.lanes) * target.lanes, dtype)
    if bias is not None:
        padded[: op.out_channels] = bias
    return padded
