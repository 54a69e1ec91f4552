"""`spatial-pack` with CSR weights: the lanes are tiles of the image, stored with their halo.

The output is cut into `lanes` equal tiles (4x4 of them with 16 lanes), and so is the input: its
tiles are the output's times the stride. Every tap of every pixel is then one aligned vector, for
any stride and dilation, and no pixel is computed twice. The layout is carried between layers: each
kernel fills the halo of what it writes.

A job sums one block of the tiles' pixels for some output channels. It sweeps over the input
channels, as many at a time as the block reads from the first-level cache; its sums wait in the
output between sweeps. Each sweep takes the output channels in the order of their non-zeros, so
that the length of the inner loop is known from the one before.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, sparse, tile_relayout
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import activate
from dlas.kernels.code.register_tile import segments
from dlas.kernels.convolution import space
from dlas.kernels.convolution.contract import Kernel, Primitive, Request
from dlas.kernels.convolution.direct_csr import zeros_or
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.spatial_csr_blocks import Segment, SpatialCsrBlocks, block_of
from dlas.kernels.ground import tiling
from dlas.kernels.ground.layout import Array, Layout, Shape4
from dlas.kernels.ground.shape import Conv2d

Total = Callable[[int, Expr], Expr]
"""The sum of a pixel of a block, in a lane."""


@dataclass(frozen=True)
class SpatialCsr(SpatialCsrBlocks):
    """One sparse convolution, tiles to tiles."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, order, bias, [residual], y)."""
        op, added = self.op, self.epilogue.residual
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (_floats(self.inp, op.in_shape),))
            matrix = sparse.arguments(self.sweeps * op.out_channels, self._offsets)
            order = emit.argument("order", (self.sweeps * op.out_channels,), "int32")
            bias = emit.argument("bias", (op.out_channels,))
            r = emit.argument("residual", (_floats(added, op.out_shape),)) if added else None
            y = emit.argument("y", (_floats(self.out, op.out_shape),))
            parts = -(-op.out_channels // self.part)
            with (
                T.serial(op.batch) as n,
                emit.outer(parts * self.chunks, self.threads) as job,
            ):
                part, chunk = job // self.chunks * self.part, job % self.chunks
                for segment in self.rows:
                    self._rows(
                        (matrix, order, bias), (x, r, y), (n, part), self._share(segment, chunk)
                    )
        return function.result

    def _share(self, segment: Segment, chunk: Expr) -> tuple[Expr, int, int]:
        """Return first row, number and height of the blocks of a chunk."""
        first, count, high = segment
        own = count // self.chunks
        return (first + chunk * own * high if self.chunks > 1 else first), own, high

    def _rows(
        self,
        filters: tuple[sparse.Csr, Buffer, Buffer],
        images: tuple[Buffer, Buffer | None, Buffer],
        at: tuple[Expr, Expr],
        blocks: tuple[Expr, int, int],
    ) -> None:
        """Emit the blocks of some rows of the tile, the output channels of one part."""
        first, count, high = blocks
        band = self._band(count)

        def sweep(number: Expr, top: Expr) -> None:
            for left, across, wide in segments(self.tile[1], self.block[1]):
                with emit.repeat(band) as i, emit.repeat(across) as j:
                    corner = (top + i * high, left + j * wide)
                    self._block(filters, images, at, (number, corner, (high, wide)))

        with emit.repeat(count // band) as turn:
            top = first + turn * band * high
            sweep(0, top)
            if self.sweeps > 1:
                # A constant lower bound of a loop is lost in TVM 0.27 (it runs from 0).
                with T.serial(self.sweeps - 1) as rest:
                    sweep(rest + 1, top)

    def _block(
        self,
        filters: tuple[sparse.Csr, Buffer, Buffer],
        images: tuple[Buffer, Buffer | None, Buffer],
        at: tuple[Expr, Expr],
        what: tuple[Expr, tuple[Expr, Expr], tuple[int, int]],
    ) -> None:
        """Emit one sweep of one block: a row of the matrix an output channel."""
        op, lanes = self.op, self.target.lanes
        (matrix, order, bias), (x, residual, y), (n, part) = filters, images, at
        number, (u, v), size = what
        pixels = [(i, j) for i in range(size[0]) for j in range(size[1])]
        pitches = (self.inp.shape(op.in_shape)[3], self.out.shape(op.out_shape)[3])
        step = (op.stride[0] * pitches[0], op.stride[1])
        block = sparse.Vectors(
            lanes,
            tuple((i * step[0] + j * step[1]) * lanes for i, j in pixels),
            tuple((i * pitches[1] + j) * lanes for i, j in pixels),
            1 if len(pixels) > 6 else -(-8 // len(pixels)),
            lanes,
        )
        spare = (self.inp.halo[0] - op.padding[0], self.inp.halo[1] - op.padding[1])
        corner = spare[0] * pitches[0] + spare[1] + u * step[0] + v * step[1]
        per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
        with T.serial(self.part) as turn, self._present(part + turn):
            row = number * op.out_channels + part + turn
            o = order[row]
            channel = n * op.in_channels + number * self.channels
            if op.groups > 1:
                channel = channel + o // per_out * per_in
            source = (x, (channel * self._plane + corner) * lanes)
            here = (n, o, u, v)
            goal = (y, self._place(self.out, *here))
            begin = None if isinstance(number, int) else lambda i: y[i]
            last = number == self.sweeps - 1

            def put(total: Total) -> None:
                self._put(total, (size, here, last), (residual, y))

            sparse.product(self.target, matrix, (bias, o), row, block, source, goal, begin, put)

    def _present(self, channel: Expr) -> Any:
        """Open a condition where the last part has fewer output channels."""
        whole = self.op.out_channels % self.part == 0
        return emit.condition(True if whole else channel < self.op.out_channels)

    def _place(self, layout: Layout, n: Expr, channel: Expr, u: Expr, v: Expr) -> Expr:
        """Return where a pixel of the output's tiles begins in a buffer of this layout."""
        _, count, high, wide, lanes = layout.shape(self.op.out_shape)
        row = (n * count + channel) * high + layout.halo[0] + u
        return (row * wide + layout.halo[1] + v) * lanes

    def _put(
        self,
        total: Total,
        what: tuple[tuple[int, int], tuple[Expr, Expr, Expr, Expr], Expr],
        images: tuple[Buffer | None, Buffer],
    ) -> None:
        """Emit the stores of one block; after the last sweep the epilogue and the halo, too."""
        size, (n, o, u, v), last = what
        residual, y = images
        added, size_of_image = self.epilogue.residual, self.op.out_shape[2:]

        def plain(value: Expr, i: Expr, j: Expr, lane: Expr) -> Expr:
            return value

        def finished(value: Expr, i: Expr, j: Expr, lane: Expr) -> Expr:
            if added is not None and residual is not None:
                value = value + residual[self._place(added, n, o, u + i, v + j) + lane]
            value = activate(value, self.epilogue.activation)
            return tile_relayout.inside(value, self.out, size_of_image, (u + i, v + j, lane))

        # What takes many instructions is written once, not for every pixel.
        heavy = self.epilogue.activation not in (None, "relu", "relu6")

        def store(change: Callable[[Expr, Expr, Expr, Expr], Expr]) -> None:
            for p in range(size[0] * size[1]):
                i, j = divmod(p, size[1])
                place = self._place(self.out, n, o, u + i, v + j)
                emit.each_lane(
                    self.target.lanes,
                    lambda lane, p=p, i=i, j=j, place=place: emit.store(  # type: ignore[misc]
                        y, change(total(p, lane), i, j, lane), place + lane
                    ),
                )

        def finish() -> None:
            store(plain if heavy else finished)
            if heavy:
                with T.serial(size[0]) as i, T.serial(size[1]) as j:
                    place = self._place(self.out, n, o, u + i, v + j)
                    emit.each_lane(
                        self.target.lanes,
                        lambda lane: emit.store(
                            y, finished(y[place + lane], i, j, lane), place + lane
                        ),
                    )
            for border in tile_relayout.borders(self.out):
                self._border(border, size, (n, o, u, v), y)

        if isinstance(last, bool):
            finish() if last else store(plain)
            return
        with T.If(last):
            with T.Then():
                finish()
            with T.Else():
                store(plain)

    def _border(
        self,
        border: tile_relayout.Border,
        size: tuple[int, int],
        at: tuple[Expr, Expr, Expr, Expr],
        y: Buffer,
    ) -> None:
        """Emit the pixels of a border that lie in this block."""
        n, o, u, v = at
        lanes = self.target.lanes
        far = [a * b for a, b in zip(border.step, self.tile, strict=True)]

        def one(i: Expr, j: Expr) -> None:
            pixel = y[T.ramp(self._place(self.out, n, o, u + i, v + j), 1, lanes)]
            goal = self._place(self.out, n, o, u + i + far[0], v + j + far[1])
            value = tile_relayout.moved(self._tiling, border.step, pixel)
            emit.store(y, value, T.ramp(goal, 1, lanes))

        def row(i: Expr) -> None:
            _each_within(v, size[1], border.columns, self.tile[1], lambda j: one(i, j))

        _each_within(u, size[0], border.rows, self.tile[0], row)

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, order, bias)."""
        op, pitch = self.op, self.inp.shape(self.op.in_shape)[3]
        channel = np.arange(op.in_channels // op.groups).reshape(-1, 1, 1) % self.channels
        row = np.arange(op.kernel[0]).reshape(1, -1, 1) * op.dilation[0]
        column = np.arange(op.kernel[1]) * op.dilation[1]
        taps = channel * self._plane + row * pitch + column
        stored = taps.astype(self._offsets)
        packed = sparse.pack_sweeps(op, weight, stored, self.channels, self.part)
        return (*packed, zeros_or(bias, op))

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "spatial-pack csr",
            "grid": list(self.grid),
            "tile": list(self.tile),
            "block": list(self.block),
            "channels": self.channels,
            "parts": self.parts,
            "chunks": self.chunks,
        }

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        op, cpu = self.op, self.target
        values = {
            "down": tuple(1 << i for i in range(cpu.lanes.bit_length())),
            "most": tuple(
                m for m in range(2, space.room(cpu) - 1, 2) if space.holds(m, self.most, cpu)
            ),
            "channels": space.up_to(op.in_channels // op.groups, space.CHANNELS),
            "parts": space.up_to(op.out_channels, (1, 2, 4, 8, 16, 32)),
        }
        fixed = {
            "down": self.grid[0],
            "most": self.most,
            "channels": self.channels,
            "parts": self.parts,
        }
        least = self.tile[0] * self.tile[1]

        def fits(s: Mapping[str, int]) -> bool:
            tile = tiling.tile_of(op, (s["down"], cpu.lanes // s["down"]))
            # A grid that covers twice the pixels of the best one cannot win, and of the settings
            # that lead to the same block one is enough.
            less = s["most"] - 2
            same = less in values["most"] and block_of(tile, less) == block_of(tile, s["most"])
            return tile[0] * tile[1] < 2 * least and not same

        return Space.of(values, fixed, fits)


def _floats(layout: Layout, nchw: Shape4) -> int:
    return math.prod(layout.shape(nchw))


def _each_within(
    first: Expr, count: int, bounds: tuple[int, int], size: int, body: Callable[[Expr], None]
) -> None:
    """Emit body(i) for those i < count with `first` + i within the bounds.

    Args:
        first: a number, or an expression where one code serves several blocks.
        count: rows or columns of the block.
        bounds: first and end.
        size: rows or columns of the tile: where the bounds are all of it nothing is tested.
        body: emits one row or pixel.
    """
    if isinstance(first, int):
        for i in range(count):
            if bounds[0] <= first + i < bounds[1]:
                body(i)
        return
    with T.serial(count) as i:
        if bounds == (0, size):
            body(i)
        else:
            with T.If(T.And(first + i >= bounds[0], first + i < bounds[1])), T.Then():
                body(i)


def _lower(op: Conv2d, r: Request) -> Kernel:
    out = r.out
    if out.tiling is None:  # it was asked for by its block of channels alone
        out = tiling.written(op, r.target, r.knobs)
    return SpatialCsr(op, r.target, r.threads, r.inp, out, r.epilogue, r.knobs)


PRIMITIVE = Primitive(
    "spatial-pack",
    "csr",
    lambda op, target, knobs: tiling.read(op, tiling.written(op, target, knobs)),
    lambda op, target: 1,
    _lower,
    form=tiling.written,
)
