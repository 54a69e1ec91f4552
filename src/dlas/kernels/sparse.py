"""CSR weights: for each output channel the non-zero taps, each as one offset and one value.

The pixels that a tap multiplies lie at a fixed distance from one another, so a non-zero becomes
the offset of its first pixel. A block of pixels of one output channel stays in registers while the
loop runs over the channel's non-zeros: one broadcast and a few multiply-adds with a memory operand
each. Only the loops' bounds depend on the data, so one function serves any number of non-zeros.
The scheme is that of XNNPACK's sparse 1x1 kernels (Elsen et al., "Fast Sparse ConvNets", CVPR
2020), extended to any filter by the offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit
from dlas.kernels.emit import Buffer, Expr
from dlas.kernels.layout import Array
from dlas.kernels.shape import Conv2d
from dlas.kernels.target import CpuTarget

Integers = npt.NDArray[np.int32]


class Csr(NamedTuple):
    """The three arrays of a sparse matrix, in TIR: row starts, offsets, values."""

    starts: Buffer
    offsets: Buffer
    values: Buffer


def arguments(rows: int) -> Csr:
    """Declare the next three arguments: the matrix, its number of non-zeros symbolic."""
    count = T.int32()
    return Csr(
        emit.argument("starts", (rows + 1,), "int32"),
        emit.argument("offsets", (count,), "int32"),
        emit.argument("values", (count,)),
    )


def pack(op: Conv2d, weight: Array, taps: Integers) -> tuple[Any, Any, Any]:
    """Return (starts, offsets, values) of the filters; at least one (zero) entry is stored.

    Args:
        op: the convolution.
        weight: filters, OIHW.
        taps: offset of each tap, [groups, I / groups, kh, kw].
    """
    per_out = op.out_channels // op.groups
    starts = np.zeros(op.out_channels + 1, np.int32)
    starts[1:] = np.cumsum((weight != 0).reshape(op.out_channels, -1).sum(1))
    group, inside = np.divmod(np.arange(op.out_channels), per_out)
    del inside
    everywhere = np.broadcast_to(taps[group], weight.shape)
    present = weight != 0
    offsets, values = everywhere[present].astype(np.int32), weight[present].astype(np.float32)
    if not len(values):
        offsets, values = np.zeros(1, np.int32), np.zeros(1, np.float32)
    return starts, offsets, values


@dataclass(frozen=True)
class Block:
    """Vectors that are summed together: their distances from the first, read and written."""

    lanes: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]


def flat_block(target: CpuTarget, vectors: int) -> Block:
    """Return a block of consecutive vectors."""
    steps = tuple(range(0, vectors * target.lanes, target.lanes))
    return Block(target.lanes, steps, steps)


def block_vectors(length: int, target: CpuTarget) -> int:
    """Return how many vectors a block of a run of `length` pixels should hold.

    As many as registers allow, in blocks of equal size, so that little overhangs the run.
    """
    most = 24 if target.registers >= 32 else 12
    vectors = -(-length // target.lanes)
    return -(-vectors // -(-vectors // most))


def product(
    matrix: Csr,
    bias: Buffer,
    row: Expr,
    block: Block,
    source: tuple[Buffer, Expr],
    goal: tuple[Buffer, Expr],
) -> None:
    """Emit goal[at + writes] = bias[row] + sum of values * source[from + offset + reads]."""
    x, start = source
    y, at = goal
    count, lanes = len(block.reads), block.lanes
    acc = emit.registers((count, lanes))

    def each(body: Callable[[int, Expr], None]) -> None:
        for v in range(count):
            emit.each_lane(lanes, lambda lane, v=v: body(v, lane))  # type: ignore[misc]

    each(lambda v, lane: emit.store(acc, bias[row], v, lane))
    first, last = matrix.starts[row], matrix.starts[row + 1]
    with T.serial(first, last) as k:
        base = start + matrix.offsets[k]
        value = matrix.values[k]
        each(
            lambda v, lane: emit.store(
                acc, acc[v, lane] + value * x[base + block.reads[v] + lane], v, lane
            )
        )
    each(lambda v, lane: emit.store(y, acc[v, lane], at + block.writes[v] + lane))
