"""Output channels in groups of a few rows, lanes over pixels: shared by `direct` and `gemm`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue, activate
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.code.requantize import StoreScales, get, put
from dlas.kernels.ground.knobs import Knobs
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


@dataclass(frozen=True)
class RowTile:
    """The register tile: `rows` output channels times `vectors` vectors of pixels."""

    rows: int
    vectors: int


def default_tile(op: Conv2d, target: CpuTarget, group: int = 1) -> RowTile:
    """Return the fixed tile: 24 (12) accumulators, as square as the channels of a group allow.

    Rows are a multiple of `group`, the channels that are stored together.
    """
    budget = 24 if target.registers >= 32 else 12
    most = 8 if target.registers >= 32 else 4
    rows = whole_rows(min(most, op.out_channels // op.groups), group)
    return RowTile(rows, max(1, min(8, budget // rows)))


def with_knobs(fixed: RowTile, knobs: Knobs) -> RowTile:
    """Return the tile with what tuning found instead of the fixed values."""
    return RowTile(knobs.get("rows", fixed.rows), knobs.get("vectors", fixed.vectors))


def whole_rows(rows: int, group: int) -> int:
    """Return at most so many rows, in whole groups of channels; at least one group."""
    return max(1, rows // group) * group


def row_groups(op: Conv2d, tile: RowTile) -> int:
    """Groups of rows within one group of the convolution (the last may be padded)."""
    return -(-(op.out_channels // op.groups) // tile.rows)


def pack_weight(op: Conv2d, weight: AnyArray, tile: RowTile) -> AnyArray:
    """Return the filters as [groups, row groups, I/groups * kh * kw, rows], flat."""
    per_out, count = op.out_channels // op.groups, row_groups(op, tile)
    taps = np.zeros((op.groups, count * tile.rows, weight[0].size), weight.dtype)
    taps[:, :per_out] = weight.reshape(op.groups, per_out, -1)
    ordered = taps.reshape(op.groups, count, tile.rows, -1).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(ordered.reshape(-1))


def pack_bias(
    op: Conv2d, bias: AnyArray | None, tile: RowTile, dtype: str = "float32"
) -> AnyArray:
    """Return the bias in the order of the rows, zeros in padded rows."""
    per_out, count = op.out_channels // op.groups, row_groups(op, tile)
    padded = np.zeros((op.groups, count * tile.rows), dtype)
    if bias is not None:
        padded[:, :per_out] = bias.reshape(op.groups, per_out)
    return padded.reshape(-1)


def widen(
    numbers: Numbers, filters: tuple[Buffer, Expr], count: int, lanes: int, goal: Buffer
) -> None:
    """Emit the copy of so many filters in the type in which they are multiplied.

    They are read one by one for every block of pixels; widening a single one takes as long as
    widening a vector of them.
    """
    w, first = filters
    emit.each(count, lanes, lambda j: emit.store(goal, numbers.wide(w[first + j]), j))


def multiply_add(
    acc: Buffer,
    tile: RowTile,
    target: CpuTarget,
    weights: tuple[Buffer, Expr],
    pixels: tuple[Buffer, Expr],
    numbers: Numbers = FLOAT32,
) -> None:
    """Emit acc[o, v] += weights[o] * pixels[v] for one step of the reduction."""
    (w, first), (x, at), lanes = weights, pixels, target.lanes
    with T.unroll(tile.rows) as o, T.unroll(tile.vectors) as v:
        factors = (lambda j: x[at + v * lanes + j], lambda _: w[first + o])
        numbers.multiply_add(acc, (o, v), target, factors, filters_first=True)


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


def finish_acc_quads(
    acc: Buffer,
    row: int,
    count: int,
    target: CpuTarget,
    scales: tuple[StoreScales, Expr],
    goal: tuple[Buffer, Buffer | None, Expr],
    other_first: bool,
    room: Buffer,
) -> None:
    """Emit `count` finished pixels of four rows of the accumulators; see `finish_quads`."""
    lane = T.Ramp(T.int32(0), 1, target.lanes)

    def totals(channel: int, pixel: int) -> Expr:
        return acc[row + channel, pixel // target.lanes, lane]

    finish_quads(totals, count, target, scales, goal, other_first, room, unrolled=True)


def finish_quads(
    totals: Callable[[int, Any], Expr],
    count: int,
    target: CpuTarget,
    scales: tuple[StoreScales, Expr],
    goal: tuple[Buffer, Buffer | None, Expr],
    other_first: bool,
    room: Buffer,
    unrolled: bool = False,
) -> None:
    """Emit `count` finished pixels of four output channels, joined to an int32 each.

    Args:
        totals: the sums of a channel (0 to 3) from a pixel on, whole vectors of them; what is past
            the last pixel may be anything.
        count: pixels.
        target: the CPU.
        scales: the last store's numbers, and the place of the first channel among them.
        goal: output, residual (or None), and where the first pixel lies in both.
        other_first: whether the residual is the first operand of the sum.
        room: what `requantize.room_for` reserved for a last vector that is not whole.
        unrolled: whether pixels must be plain numbers.
    """
    (stored, first), (y, residual, at), lanes = scales, goal, target.lanes

    def one(start: Expr, present: int) -> None:
        other = None
        if residual is not None:
            other = get(lambda lane: residual[at + start + lane], present, lanes, room)
        sums = [totals(channel, start) for channel in range(4)]
        value = stored.joined(sums, first, other, other_first, target)
        put(
            lambda v, lane: emit.store(y, v, at + start + lane),
            value,
            present,
            lanes,
            "int32",
        )

    whole, rest = divmod(count, lanes)
    if unrolled:
        for step in range(whole):
            one(step * lanes, lanes)
    elif whole:
        with T.serial(whole) as step:
            one(step * lanes, lanes)
    if rest:
        one(whole * lanes, rest)
