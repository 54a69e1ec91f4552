"""Sums in float16 within a pass over some input channels, added to float32 sums between passes.

A register holds twice as many float16 as float32, and CPUs with float16 arithmetic multiply and
add all of them in one step. But a sum of hundreds has lost its digits: so it is of `STEPS`
products at most, and then widened.
"""

from collections.abc import Callable
from dataclasses import replace

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.register_tile import SUMS_BYTES, Tile, default_tile
from dlas.kernels.code.walk import Channels, channels
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

STEPS = 160
"""Products that are summed in float16: a block of 16 channels under a 3x3 filter has 144."""
SAID = f"float16 for up to {STEPS} products, then float32"
WIDE = 2
"""Vectors of float32 that a register of float16 stands for."""


def tile_of(op: Conv2d, target: CpuTarget, block: int) -> Tile | None:
    """Return the fixed tile; None: a pass over one block of inputs is too long.

    Args:
        op: the convolution.
        target: the CPU.
        block: channels of a block of the input.
    """
    walk, lanes = channels(op, block, target.lanes), target.lanes
    most = most_depth(op, walk)
    if most == 0:
        return None
    total = -(-op.out_channels // lanes)
    registers = replace(op, out_channels=-(-total // WIDE) * lanes)
    half = default_tile(registers, target, block, widest=2)
    blocks = min(total, WIDE * half.blocks)
    row = half.rows * op.out_width * blocks * lanes * 4
    depth = next(d for d in range(most, 0, -1) if walk.outer % d == 0)
    band = max(1, min(-(-op.out_height // half.rows), SUMS_BYTES // row))
    return replace(half, blocks=blocks, depth=depth, band=band)


def most_depth(op: Conv2d, walk: Channels) -> int:
    """Return the most input blocks of a pass."""
    return STEPS // (walk.inner * op.kernel[0] * op.kernel[1])


def registers(pixels: int, blocks: int, lanes: int) -> Buffer:
    """Reserve the sums of a tile and clear them."""
    acc = emit.registers((pixels, blocks * lanes), "float16")
    with T.unroll(pixels) as p:
        _each_lane(blocks * lanes, lanes, lambda j: emit.store(acc, T.float16(0), p, j))
    return acc


def multiply_add(
    acc: Buffer, lanes: int, x: Callable[[Expr], Expr], w: Callable[[Expr], Expr]
) -> None:
    """Emit one step: acc[p, j] += x(p) * w(j)."""
    pixels, every = (int(extent) for extent in acc.shape)
    with T.unroll(pixels) as p:
        _each_lane(every, lanes, lambda j: emit.store(acc, acc[p, j] + x(p) * w(j), p, j))


def add(acc: Buffer, pixel: Expr, lanes: int, sums: Buffer, at: Expr) -> None:
    """Emit sums[at + j] += acc[pixel, j]."""

    def one(j: Expr) -> None:
        emit.store(sums, sums[at + j] + T.Cast("float32", acc[pixel, j]), at + j)

    _each_lane(int(acc.shape[1]), lanes, one)


def _each_lane(count: int, lanes: int, body: Callable[[Expr], None]) -> None:
    """Run `body(j)` for j < count, a register at a time."""
    for first in range(0, count, WIDE * lanes):
        _register(first, min(WIDE * lanes, count - first), body)


def _register(first: int, lanes: int, body: Callable[[Expr], None]) -> None:
    emit.each_lane(lanes, lambda j: body(first + j))
