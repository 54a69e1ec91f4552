"""CSR weights: for each output channel the non-zero taps, each as one offset and one value.

The pixels that a tap multiplies lie at a fixed distance from one another, so a non-zero becomes
the offset of its first pixel. A block of pixels of one output channel stays in registers while the
loop runs over the channel's non-zeros: one broadcast and a few multiply-adds with a memory operand
each. Only the loops' bounds depend on the data, so one function serves any number of non-zeros.
In int8 a non-zero is an element of four input channels, of which one at least is not zero.
The scheme is that of XNNPACK's sparse 1x1 kernels (Elsen et al., "Fast Sparse ConvNets", CVPR
2020), extended to any filter by the offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.ground.layout import AnyArray, Array
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

Integers = npt.NDArray[np.int32]


class Csr(NamedTuple):
    """The three arrays of a sparse matrix, in TIR: row starts, offsets, values."""

    starts: Buffer
    offsets: Buffer
    values: Buffer


def arguments(rows: int, offsets: str = "int32", values: str = "float32") -> Csr:
    """Declare the next three arguments: the matrix, its number of non-zeros symbolic."""
    count = T.int32()
    return Csr(
        emit.argument("starts", (rows + 1,), "int32"),
        emit.argument("offsets", (count,), offsets),
        emit.argument("values", (count,), values),
    )


def pack(op: Conv2d, weight: AnyArray, taps: Integers, multiple: int = 1) -> tuple[Any, Any, Any]:
    """Return (starts, offsets, values) of the filters; at least one (zero) entry is stored.

    Args:
        op: the convolution, over elements.
        weight: its filters, OIHW.
        taps: offset of each tap, [groups, I / groups, kh, kw].
        multiple: empty rows follow until there are a multiple of it.
    """
    per_out = op.out_channels // op.groups
    rows = -(-op.out_channels // multiple) * multiple
    starts = np.zeros(rows + 1, np.int32)
    present = weight != 0
    starts[1 : op.out_channels + 1] = np.cumsum(present.reshape(op.out_channels, -1).sum(1))
    starts[op.out_channels :] = starts[op.out_channels]
    everywhere = np.broadcast_to(taps[np.arange(op.out_channels) // per_out], weight.shape)
    return starts, *_some(everywhere[present].astype(np.int32), weight[present])


def _some(offsets: Any, values: Any) -> tuple[Any, Any]:
    """Return both arrays, or one zero entry where they are empty: no argument may be."""
    if len(values):
        return offsets, values
    return np.zeros(1, offsets.dtype), np.zeros(1, values.dtype)


def pack_sweeps(
    op: Conv2d, weight: Array, taps: Any, channels: int, part: int
) -> tuple[Any, Any, Any, Any]:
    """Return (starts, offsets, values, order): the matrix cut into sweeps over input channels.

    Args:
        op: the convolution.
        weight: filters, OIHW.
        taps: offset of each tap, [I / groups, kh, kw], in the type in which it is stored.
        channels: input channels of a sweep.
        part: output channels of a part.

    A sweep holds `channels` input channels of each group. Each run of `part` rows belongs to
    neighbouring output channels, in every sweep the same ones, and is sorted by non-zeros; `order`
    tells which output channel each row of each sweep is. (Neighbouring: threads whose channels
    take turns fetch each other's sums ahead: two were 1.3 times as fast as one instead of 1.9.)
    """
    per_in, everywhere = weight.shape[1], np.broadcast_to(taps, weight.shape)
    parts = np.arange(op.out_channels) // part
    counts, offsets, values, order = [], [], [], []
    for first in range(0, per_in, channels):
        filters, where = (a[:, first : first + channels] for a in (weight, everywhere))
        filled = np.count_nonzero(filters.reshape(op.out_channels, -1), axis=1)
        rows = np.lexsort((filled, parts)).astype(np.int32)
        present = filters[rows] != 0
        counts.append(filled[rows])
        offsets.append(where[rows][present])
        values.append(filters[rows][present])
        order.append(rows)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
    entries = _some(np.concatenate(offsets), np.concatenate(values))
    return starts, *entries, np.concatenate(order)


@dataclass(frozen=True)
class Vectors:
    """Vectors that are summed together: their distances from the first, read and written."""

    lanes: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    turns: int = 1
    """Sets of sums that take turns: a multiply-add must not wait for the one before it."""
    unit: int = 1
    """Floats that an offset counts."""


def flat_block(target: CpuTarget, vectors: int) -> Vectors:
    """Return a block of consecutive vectors."""
    steps = tuple(range(0, vectors * target.lanes, target.lanes))
    return Vectors(target.lanes, steps, steps)


def block_vectors(length: int, target: CpuTarget) -> int:
    """Return how many vectors a block of a run of `length` pixels should hold.

    As many as registers allow, in blocks of equal size, so that little overhangs the run.
    """
    most = 24 if target.registers >= 32 else 12
    vectors = -(-length // target.lanes)
    return -(-vectors // -(-vectors // most))


def _floats(offset: Expr, unit: int) -> Expr:
    """Return an offset in floats."""
    return offset if unit == 1 else T.Cast("int32", offset) * unit


def _each_entry(bounds: tuple[Expr, Expr], turns: int, add: Callable[[Expr, int], None]) -> None:
    """Run add(entry, set of sums) for the entries of a row, the sets of sums in turn."""
    first, last = bounds
    if turns == 1:
        with T.serial(first, last) as k:
            add(k, 0)
        return
    steps = (last - first) // turns
    with T.serial(steps) as step:
        for turn in range(turns):
            add(first + step * turns + turn, turn)
    with T.serial(first + steps * turns, last) as k:
        add(k, 0)


def _lane(x: Buffer, start: Expr, lane: Expr) -> Expr:
    return x[start + lane]


def product(
    target: CpuTarget,
    matrix: Csr,
    bias: tuple[Buffer, Expr],
    row: Expr,
    block: Vectors,
    source: tuple[Buffer, Expr],
    goal: tuple[Buffer, Expr],
    begin: Callable[[Expr], Expr] | None = None,
    put: Callable[[Callable[[int, Expr], Expr]], None] | None = None,
    numbers: Numbers = FLOAT32,
) -> None:
    """Emit goal[at + writes] = bias[o] + sum of values * source[from + offset + reads].

    Args:
        target: the CPU.
        matrix: the sparse matrix.
        bias: one value an output channel, and the channel.
        row: the row.
        block: the vectors that are summed together.
        source: what is read, and from where on.
        goal: what is written, and from where on.
        begin: start of the sums, by place in `goal`; None: the bias.
        put: emits the stores, given the sums by vector and lane; None: as they are.
        numbers: what is multiplied.
    """
    x, start = source
    y, at = goal
    count, lanes = len(block.reads), block.lanes
    turns, none = block.turns, emit.constant(0, numbers.sums)
    acc = emit.registers((turns * count, lanes), numbers.sums)

    def each(body: Callable[[int, Expr], None]) -> None:
        for v in range(count):
            emit.each_lane(lanes, lambda lane, v=v: body(v, lane))  # type: ignore[misc]

    def first_value(v: int, lane: Expr) -> Expr:
        return bias[0][bias[1]] if begin is None else begin(at + block.writes[v] + lane)

    def add(k: Expr, turn: int) -> None:
        base = start + _floats(matrix.offsets[k], block.unit)
        value = matrix.values[k]
        for v in range(count):
            pixels = partial(_lane, x, base + block.reads[v])
            numbers.multiply_add(
                acc, (turn * count + v,), target, (pixels, lambda _: value), filters_first=True
            )

    each(lambda v, lane: emit.store(acc, first_value(v, lane), v, lane))
    for turn in range(1, turns):
        each(lambda v, lane, t=turn: emit.store(acc, none, t * count + v, lane))  # type: ignore[misc]
    _each_entry((matrix.starts[row], matrix.starts[row + 1]), turns, add)

    def total(v: int, lane: Expr) -> Expr:
        return sum((acc[turn * count + v, lane] for turn in range(1, turns)), acc[v, lane])

    def store(total: Callable[[int, Expr], Expr]) -> None:
        each(lambda v, lane: emit.store(y, total(v, lane), at + block.writes[v] + lane))

    (put or store)(total)
