"""Bands of `spatial-pack` by AMX: tiles of 16 pixels of a row times 16 output channels.

Sums wait in memory, where they begin with the bias; a row of them is as long as whole tiles, so
that what a row's last tile computes past its end goes nowhere. (It reads what lies behind the row,
and behind the last one some rows that are there for this alone: see `amx.rows_behind`.)
"""

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import amx, emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.register_tile import SUMS_BYTES, Tile, segments
from dlas.kernels.code.walk import Channels
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_store import BlockedStore
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

Place = tuple[Expr, Expr, Expr]
"""Image, group of output blocks, and a first row."""
LEAST_PIXELS = 5
"""Rows of the output as long as this fill a tile well enough: it does sixteen times the work."""
_BYTES = 4
"""Of an element, and of a sum."""


def default_tile(op: Conv2d, target: CpuTarget) -> Tile:
    """Return the fixed tile: two vectors of outputs, rows whose sums fit a first-level cache."""
    blocks = min(amx.BLOCKS, -(-op.out_channels // target.lanes))
    pitch = -(-op.out_width // amx.SIDE) * amx.SIDE
    band = max(1, min(op.out_height, SUMS_BYTES // (pitch * blocks * target.lanes * _BYTES)))
    return Tile(blocks, amx.PIXELS * amx.SIDE, band=band)


def suits(op: Conv2d, layout: Layout, group: int) -> bool:
    """Whether tiles of pixels can be filled from an image in this layout, and mostly are.

    Args:
        op: the convolution.
        layout: that of the input.
        group: channels of an element.
    """
    row = amx.SIDE * group
    whole = layout.block == amx.SIDE or layout.block % row == 0
    filled = 2 * op.in_channels > row and op.out_width >= LEAST_PIXELS
    return whole and filled and op.groups == 1


def tiles(op: Conv2d, tile: Tile) -> Space:
    """Return the settings for tuning."""
    fixed = {"blocks": tile.blocks, "band": tile.band}
    values = {
        "blocks": space.up_to(-(-op.out_channels // amx.SIDE), (1, 2, 4, 8)),
        "band": space.up_to(op.out_height, (1, 2, 4, 8, 16)),
    }
    return Space.of(values, fixed, lambda s: True)


@dataclass(frozen=True)
class TiledBand:
    """What computes whole rows of one group of output blocks."""

    op: Conv2d
    """The convolution over elements."""
    inp: Layout
    """Layout of the input's elements: 16 of them a pixel, or whole tiles."""
    walk: Channels
    dtype: str
    sums: str
    buffers: tuple[Buffer, Buffer, Buffer]
    """Elements of the image, filters, bias."""
    first: int
    """The first output block of the part that the groups belong to."""
    blocks: int
    """Output blocks of a group."""
    store: BlockedStore

    @property
    def pitch(self) -> int:
        """Sums of a row: whole tiles."""
        return -(-self.op.out_width // amx.SIDE) * amx.SIDE

    def emit(self, where: Place, rows: int) -> None:
        """Emit so many rows from `where` on."""
        lanes, (n, group, row) = amx.SIDE, where
        co = self.first + group * self.blocks
        sums = T.alloc_buffer((rows * self.pitch * self.blocks * lanes,), self.sums)

        def at(pixel: Expr, o: Expr) -> Expr:
            return (pixel * self.blocks + o) * lanes

        bias = self.buffers[2]
        with T.serial(rows * self.pitch) as p, T.unroll(self.blocks) as o:
            emit.each_lane(
                lanes, lambda j: emit.store(sums, bias[(co + o) * lanes + j], at(p, o) + j)
            )
        with amx.configured(), T.serial(rows) as r:
            for start, count, wide in segments(self.pitch, amx.PIXELS * amx.SIDE):
                with T.serial(count) as turn:
                    column = start + turn * wide
                    for o in range(0, self.blocks, amx.BLOCKS):
                        count_out = min(amx.BLOCKS, self.blocks - o)
                        here = at(r * self.pitch + column, o)
                        self._tiles(sums, here, (n, group, row + r, column), (o, count_out), wide)
        with T.serial(rows) as r, T.serial(self.op.out_width) as c, T.unroll(self.blocks) as o:
            self.store.vector(
                lambda j: sums[at(r * self.pitch + c, o) + j], (n, co + o, row + r, c)
            )

    def _tiles(
        self,
        sums: Buffer,
        here: Expr,
        at: tuple[Expr, Expr, Expr, Expr],
        some: tuple[int, int],
        wide: int,
    ) -> None:
        """Emit the whole reduction of some tiles of pixels and some of output channels."""
        pixels, (first_out, blocks) = wide // amx.SIDE, some
        step = self.blocks * amx.SIDE * _BYTES

        def each(move: bool) -> None:
            for p in range(pixels):
                for o in range(blocks):
                    place = here + (p * amx.SIDE * self.blocks + o) * amx.SIDE
                    (amx.load if move else amx.store)(p, o, sums[place], step)

        each(True)
        self._reduce(at, first_out, blocks, pixels)
        each(False)

    def _reduce(
        self, at: tuple[Expr, Expr, Expr, Expr], first_out: int, blocks: int, pixels: int
    ) -> None:
        op, inp, walk, side = self.op, self.inp, self.walk, amx.SIDE
        x, w, _ = self.buffers
        n, group, row, column = at
        up, left = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        kernel_h, kernel_w = op.kernel
        base = self.first * walk.outer * kernel_h * kernel_w * walk.inner * side
        parts = walk.inner // side
        with (
            T.serial(walk.outer) as ci,
            T.serial(kernel_h) as kh,
            T.serial(kernel_w) as kw,
            T.serial(parts) as part,
        ):
            block, lane = walk.index(op, side, inp.block, 0, ci)
            h = up + row * op.stride[0] + kh * op.dilation[0]
            step = ((group * walk.outer + ci) * kernel_h + kh) * kernel_w + kw
            start = base + (step * walk.inner + part * side) * self.blocks * side

            def pixel(p: int) -> Expr:
                v = left + (column + p * side) * op.stride[1] + kw * op.dilation[1]
                return x[n, block, h, v, lane + part * side]

            amx.multiply_add(
                self.dtype,
                [(pixel(p), op.stride[1] * inp.block * _BYTES) for p in range(pixels)],
                [
                    (w[start + (first_out + o) * side], self.blocks * side * _BYTES)
                    for o in range(blocks)
                ],
            )
