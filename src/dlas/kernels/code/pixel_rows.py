"""Output channels in groups of a few rows, lanes over pixels: shared by `direct` and `gemm`."""

from dataclasses import dataclass

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue, activate
from dlas.kernels.ground.knobs import Knobs
from dlas.kernels.ground.layout import Array
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


@dataclass(frozen=True)
class RowTile:
    """The register tile: `rows` output channels times `vectors` vectors of pixels."""

    rows: int
    vectors: int


def default_tile(op: Conv2d, target: CpuTarget) -> RowTile:
    """Return the fixed tile: 24 (12) accumulators, as square as the channels of a group allow."""
    budget = 24 if target.registers >= 32 else 12
    most = 8 if target.registers >= 32 else 4
    rows = min(most, op.out_channels // op.groups)
    return RowTile(rows, max(1, min(8, budget // rows)))


def with_knobs(fixed: RowTile, knobs: Knobs) -> RowTile:
    """Return the tile with what tuning found instead of the fixed values."""
    return RowTile(knobs.get("rows", fixed.rows), knobs.get("vectors", fixed.vectors))


def row_groups(op: Conv2d, tile: RowTile) -> int:
    """Groups of rows within one group of the convolution (the last may be padded)."""
    return -(-(op.out_channels // op.groups) // tile.rows)


def pack_weight(op: Conv2d, weight: Array, tile: RowTile) -> Array:
    """Return the filters as [groups, row groups, I/groups * kh * kw, rows], flat."""
    per_out, count = op.out_channels // op.groups, row_groups(op, tile)
    taps = np.zeros((op.groups, count * tile.rows, weight[0].size), np.float32)
    taps[:, :per_out] = weight.reshape(op.groups, per_out, -1)
    ordered = taps.reshape(op.groups, count, tile.rows, -1).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(ordered.reshape(-1))


def pack_bias(op: Conv2d, bias: Array | None, tile: RowTile) -> Array:
    """Return the bias in the order of the rows, zeros in padded rows."""
    per_out, count = op.out_channels // op.groups, row_groups(op, tile)
    padded = np.zeros((op.groups, count * tile.rows), np.float32)
    if bias is not None:
        padded[:, :per_out] = bias.reshape(op.groups, per_out)
    return padded.reshape(-1)


def multiply_add(
    acc: Buffer,
    tile: RowTile,
    lanes: int,
    weights: tuple[Buffer, Expr],
    pixels: tuple[Buffer, Expr],
) -> None:
    """Emit acc[o, v] += weights[o] * pixels[v] for one step of the reduction."""
    w, first = weights
    x, at = pixels
    with T.unroll(tile.rows) as o, T.unroll(tile.vectors) as v:
        emit.each_lane(
            lanes,
            lambda j: emit.store(
                acc, acc[o, v, j] + w[first + o] * x[at + v * lanes + j], o, v, j
            ),
        )


def clear(acc: Buffer, tile: RowTile, lanes: int, bias: Buffer, first: Expr) -> None:
    """Emit acc[o, v] = bias[o]."""
    with T.unroll(tile.vectors) as v, T.unroll(tile.rows) as o:
        emit.each_lane(lanes, lambda j: emit.store(acc, bias[first + o], o, v, j))


def spill(acc: Buffer, tile: RowTile, lanes: int, run: Buffer, at: Expr, stride: int) -> None:
    """Emit the copy of the accumulators into the run: run[o * stride + at + ...]."""
    with T.unroll(tile.vectors) as v, T.unroll(tile.rows) as o:
        emit.each_lane(
            lanes,
            lambda j: emit.store(run, acc[o, v, j], o * stride + at + v * lanes + j),
        )


def finish(
    run: Buffer,
    start: Expr,
    count: int,
    lanes: int,
    epilogue: Epilogue,
    target: tuple[Buffer, Buffer | None, Expr],
) -> None:
    """Emit `count` finished pixels from the run: y[at + i] = act(run[start + i] + residual)."""
    y, residual, at = target

    def one(i: Expr) -> None:
        value = run[start + i]
        if residual is not None:
            value = value + residual[at + i]
        emit.store(y, activate(value, epilogue.activation), at + i)

    emit.each(count, lanes, one)


def finish_row(
    acc: Buffer,
    row: int,
    count: int,
    lanes: int,
    epilogue: Epilogue,
    target: tuple[Buffer, Buffer | None, Expr],
    tail: tuple[Buffer, Expr],
) -> None:
    """Emit `count` finished pixels of one row of the accumulators.

    A last vector that is not whole goes through `tail`: memory for a vector, and where it begins.
    """
    y, residual, at = target
    places, first = tail

    def one(value: Expr, i: Expr) -> None:
        if residual is not None:
            value = value + residual[at + i]
        emit.store(y, activate(value, epilogue.activation), at + i)

    whole, rest = divmod(count, lanes)
    for v in range(whole):
        emit.each_lane(lanes, lambda j, v=v: one(acc[row, v, j], v * lanes + j))  # type: ignore[misc]
    if rest:
        emit.each_lane(lanes, lambda j: emit.store(places, acc[row, whole, j], first + j))
        with T.serial(rest) as i:
            one(places[first + i], whole * lanes + i)
