"""The product of filters and patches, one block of pixels at a time: what `gemm` is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.code.pixel_rows import RowTile
from dlas.kernels.code.requantize import StoreScales, room_for
from dlas.kernels.code.staging import Staging
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

Buffers = tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer]


class Place(NamedTuple):
    """What a job computes."""

    n: Expr
    group: Expr
    part: Expr
    row: Expr
    rows: int


class Pass(NamedTuple):
    """Some of the input channels, for all pixels and filters of a job."""

    first: Expr
    """First channel within the group."""
    channels: int


class Stretch(NamedTuple):
    """Equal blocks of pixels, one after the other."""

    first: int
    """First vector."""
    times: int
    vectors: int
    pixels: int
    """Pixels of a block that exist."""


class Slabs(NamedTuple):
    """What a job needs for itself."""

    staged: Buffer
    """The channels of a pass, with their padding; None where the image is the matrix."""
    slab: Buffer
    """What a block of pixels sees of them."""
    sums: Buffer
    """Sums between passes; None if one pass does it."""
    tails: Buffer
    """A vector for each row: last vectors that are not whole."""
    filters: Buffer = None
    """Filters of a group of rows for a pass, where they are widened; else None."""


@dataclass(frozen=True)
class Product:
    """The steps of a pass: stage its channels, then gather and multiply each block of pixels."""

    op: Conv2d
    """The convolution over elements."""
    target: CpuTarget
    tile: RowTile
    per_part: int
    """Row groups of a part of the output channels."""
    epilogue: Epilogue
    buffers: Buffers
    place: Place
    memory: Slabs
    numbers: Numbers = FLOAT32
    scales: StoreScales | None = None

    @property
    def lanes(self) -> int:
        """Pixels of a vector."""
        return self.target.lanes

    @property
    def staging(self) -> Staging:
        """Geometry of the staged channels."""
        outside = self.numbers.outside if self.scales is None else self.scales.outside
        return Staging(self.op, self.place.rows, outside)

    def stage(self, some: Pass) -> None:
        """Emit the copy of the channels of a pass, where the image is not the matrix."""
        op, (n, group, _, row, _) = self.op, self.place
        if in_place(op):
            return
        first = group * (op.in_channels // op.groups) + some.first
        with T.serial(some.channels) as c:
            self.staging.channel(
                self.buffers[0], (n, first + c, row), self.memory.staged, c, self.lanes
            )

    def fill(self, run: Stretch, some: Pass, start: Expr) -> None:
        """Emit the copy of a block of pixels for some channels, its rows one behind the other."""
        width = run.vectors * self.lanes
        taps = self.op.kernel[0] * self.op.kernel[1]
        if in_place(self.op):
            self._take(run, some, start)
        else:
            self._gather(run, some, start)
        if run.pixels < width:
            # Last, for pieces overhang: denormals by chance would cost several times the product.
            with T.serial(some.channels * taps) as k, T.serial(width - run.pixels) as j:
                none = emit.constant(0, self.numbers.element)
                emit.store(self.memory.slab, none, k * width + run.pixels + j)

    def _take(self, run: Stretch, some: Pass, start: Expr) -> None:
        """Emit the copy of a block of the image itself: past its end there is nothing to read."""
        op, lanes, x = self.op, self.lanes, self.buffers[0]
        pitch, width = op.height * op.width, run.vectors * lanes
        channel = self.place.n * op.in_channels + self.place.group * depth(op) + some.first
        first = channel * pitch + self.place.row * op.width + start

        def pixel(k: Expr, j: Expr) -> Expr:
            if self.numbers.paired:  # one group, and rows one behind the other
                return x[self.place.n, some.first + k, 0, self.place.row * op.width + start + j, 0]
            return x[first + k * pitch + j]

        with T.serial(some.channels) as k:
            emit.each(
                run.pixels,
                lanes,
                lambda j: emit.store(self.memory.slab, pixel(k, j), k * width + j),
            )

    def _gather(self, run: Stretch, some: Pass, start: Expr) -> None:
        """Emit the copy of what a block of pixels sees through each tap.

        A block is a few pieces of neighbouring rows, copied in whole vectors in ascending order:
        what a piece has in excess is overwritten by the next one.
        """
        op, lanes, staging = self.op, self.lanes, self.staging
        width, across = run.vectors * lanes, op.out_width
        row, column = start // across, start % across
        with (
            T.serial(some.channels) as c,
            T.serial(op.kernel[0]) as kh,
            T.serial(op.kernel[1]) as kw,
        ):
            k = (c * op.kernel[0] + kh) * op.kernel[1] + kw
            tap = staging.offset(c, kh, kw) + row * staging.pitch
            for piece in pieces(run, across, lanes):
                begin = piece.vector * lanes
                at = tap + piece.row * staging.pitch + begin
                if piece.row == 0:
                    at, left = at + column, across - column
                else:
                    left = run.pixels - piece.row * across + column
                    begin = begin + piece.row * across - column
                to = k * width + begin
                copy = partial(self._vector, at, to)
                _either(piece.always, piece.vector * lanes < left, copy)

    def _vector(self, at: Expr, to: Expr) -> None:
        x = self.memory.staged
        emit.each_lane(self.lanes, lambda j: emit.store(self.memory.slab, x[at + j], to + j))

    def multiply(self, run: Stretch, some: Pass, start: Expr, turn: tuple[Expr, int]) -> None:
        """Emit the products of the slab with all filters of the job's part for some channels."""
        op, lanes = self.op, self.lanes
        tile, width = RowTile(self.tile.rows, run.vectors), run.vectors * lanes
        taps = op.kernel[0] * op.kernel[1]
        _, w, bias, _, _ = self.buffers
        groups = pixel_rows.row_groups(op, tile)
        with (
            T.serial(self.per_part) as step,
            T.If(self.place.part * self.per_part + step < groups),
            T.Then(),
        ):
            g = self.place.part * self.per_part + step
            job = self.place.group * groups + g
            acc = emit.registers((tile.rows, tile.vectors, lanes), self.numbers.sums)
            band = -(-self.place.rows * op.out_width // lanes) * lanes
            waiting = step * band * tile.rows + start * tile.rows
            once = turn[1] == 1
            _either(
                once,
                turn[0] == 0,
                lambda: pixel_rows.clear(acc, tile, lanes, bias, job * tile.rows),
                lambda: self._wait(acc, tile, waiting, back=True),
            )
            at = self.place.group * groups * depth(op) + groups * some.first * taps
            at, numbers, steps = at + g * some.channels * taps, self.numbers, some.channels * taps
            if numbers.widening:
                whole, w = (w, at * tile.rows), self.memory.filters
                pixel_rows.widen(numbers, whole, steps * tile.rows, lanes, w)
                at, numbers = 0, FLOAT32
            with T.serial(steps) as k:
                weights, pixels = (w, (at + k) * tile.rows), (self.memory.slab, k * width)
                pixel_rows.multiply_add(acc, tile, self.target, weights, pixels, numbers)
            _either(
                once,
                turn[0] == turn[1] - 1,
                lambda: self._finish(acc, run, start, (g, step)),
                lambda: self._wait(acc, tile, waiting, back=False),
            )

    def _wait(self, acc: Buffer, tile: RowTile, first: Expr, back: bool) -> None:
        """Emit the move of the accumulators to where sums wait, or back."""
        lanes, sums = self.lanes, self.memory.sums
        with T.unroll(tile.rows) as o, T.unroll(tile.vectors) as v:
            at = first + (o * tile.vectors + v) * lanes
            if back:
                emit.each_lane(lanes, lambda j: emit.store(acc, sums[at + j], o, v, j))
            else:
                emit.each_lane(lanes, lambda j: emit.store(sums, acc[o, v, j], at + j))

    def _finish(self, acc: Buffer, run: Stretch, start: Expr, place: tuple[Expr, Expr]) -> None:
        """Emit the last store of a group of rows: its number, and its place in the job."""
        if self.scales is not None:
            self._finish_quads(acc, run, start, place[0])
            return
        op, lanes, height = self.op, self.lanes, self.tile.rows
        per_out, (g, step) = op.out_channels // op.groups, place
        _, _, _, residual, y = self.buffers
        first = self.place.n * op.out_channels + self.place.group * per_out + g * height
        ragged = per_out % height > 0
        for o in range(height):
            to = ((first + o) * op.out_height + self.place.row) * op.out_width + start
            # A place of its own for each group: LLVM would keep a single one in registers.
            tail = (self.memory.tails, (step * height + o) * lanes)
            store = partial(
                pixel_rows.finish_row,
                acc, o, run.pixels, lanes, self.epilogue, (y, residual, to), tail,
            )  # fmt: skip
            # The last group may have rows in excess.
            _either(not ragged or o < per_out % height, g * height + o < per_out, store)

    def _finish_quads(self, acc: Buffer, run: Stretch, start: Expr, g: Expr) -> None:
        """Emit the last store of a group of rows in int8: four rows at a time."""
        op, height, each = self.op, self.tile.rows // self.numbers.group, self.numbers.group
        per_out, every = -(-op.out_channels // op.groups // each), -(-op.out_channels // each)
        _, _, _, residual, y = self.buffers
        assert self.scales is not None
        groups, ragged = pixel_rows.row_groups(op, self.tile), per_out % height > 0
        first = self.place.n * every + self.place.group * per_out + g * height
        channel = (self.place.group * groups + g) * self.tile.rows
        room = room_for(self.lanes - run.pixels % self.lanes, self.lanes, "int32")
        for o in range(height):
            to = ((first + o) * op.out_height + self.place.row) * op.out_width + start
            store = partial(
                pixel_rows.finish_acc_quads,
                acc, o * each, run.pixels, self.target, (self.scales, channel + o * each),
                (y, residual, to), self.epilogue.other_first, room,
            )  # fmt: skip
            _either(not ragged or o < per_out % height, g * height + o < per_out, store)


def _either(
    always: bool,
    condition: Expr,
    body: Callable[[], None],
    other: Callable[[], None] | None = None,
) -> None:
    """Emit `body` where the condition (or `always`) holds, else `other`."""
    if always:
        body()
        return
    with T.If(condition):
        with T.Then():
            body()
        if other is not None:
            with T.Else():
                other()


class Piece(NamedTuple):
    """A vector of one row of the image that some block of a run holds."""

    row: int
    """Rows below the one in which the block begins."""
    vector: int
    """Vectors after the first of that row that the block holds."""
    always: bool
    """Whether every block of the run has it."""


def pieces(run: Stretch, across: int, lanes: int) -> list[Piece]:
    """Return what blocks of a run are made of, in ascending order, for rows `across` wide."""
    starts = {(run.first + q * run.vectors) * lanes % across for q in range(run.times)}
    found = []
    for row in range(1 + (run.pixels + across - 2) // across):
        for vector in range(min(run.vectors, -(-across // lanes))):
            lefts = [
                across - column if row == 0 else run.pixels - row * across + column
                for column in starts
            ]
            here = [vector * lanes < left for left in lefts]
            if any(here):
                found.append(Piece(row, vector, all(here)))
    return found


def in_place(op: Conv2d) -> bool:
    """Whether the image is the matrix of patches."""
    return op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.padding)


def depth(op: Conv2d) -> int:
    """Return the length K of the reduction."""
    return op.in_channels // op.groups * op.kernel[0] * op.kernel[1]


def blocks(pixels: int, lanes: int, vectors: int) -> list[Stretch]:
    """Cut pixels into blocks of so many vectors; the last holds no vector without a pixel."""
    whole, rest = divmod(pixels, vectors * lanes)
    runs = [Stretch(0, whole, vectors, vectors * lanes)] if whole else []
    return [*runs, Stretch(whole * vectors, 1, -(-rest // lanes), rest)] if rest else runs
