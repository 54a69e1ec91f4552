"""Bands of `spatial-pack` by AMX: tiles of 16 pixels times 16 output channels.

A row of a tile of pixels is 64 bytes of memory: channels of one pixel, and the next row those of
the next pixel. With stride 1 that pixel may begin the next row of the image, so that a band is one
run of pixels, those between its rows (the halo, and what the filter overhangs) computed for
nothing; with larger strides each row of the output is a run of its own. What a run's last tile
computes past its end goes nowhere. (It reads what lies behind the band, and behind an image some
rows that are there for this alone: see `amx.rows_behind`.)

Where a pixel has few channels (a network's first layer), a row of a tile is a row of the filter's
taps: neighbouring pixels with all their channels, zeros among the filters for what is too many.

Sums begin with the bias and go to memory from the tiles, to a ring that holds those of two pairs
of tiles. They are stored, four pixels at a time, between the steps by which the next tiles are
multiplied: tiles and vectors are multiplied by different parts of a CPU, which would wait for
each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import amx, emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.numbers import Numbers
from dlas.kernels.code.register_tile import Tile, segments
from dlas.kernels.code.walk import Channels
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_store import FOUR, BlockedStore
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.shape import Conv2d

Place = tuple[Expr, Expr, Expr]
"""Image, group of output blocks, and a first row."""
LEAST_PIXELS = 5
"""A run of the output as long as this fills a tile well enough: it does sixteen times the work."""
MOST_FEW = {"int8": 16, "bfloat16": 8}
"""Input channels up to which tiles, of which they fill a part of each row, are slower than what
there is without them: dot products of bytes, multiply-adds of float32."""
LEAST_TAPS = 3
"""Elements of a row of a filter for which a row of a tile, which costs the same, is worth it."""
MOST_AHEAD_BYTES = 1 << 19
"""Filters fetched further ahead would leave the second-level cache before they are used."""
_BYTES = 4
"""Of an element, and of a sum."""
_PAIR = amx.PIXELS * amx.SIDE
_RING = 2 * _PAIR
"""Pixels whose sums wait: those of the tiles before, and of the ones that are multiplied."""
LEAST_JOBS = 4
"""Of groups of outputs and bands: threads share them."""
Between = Callable[[Expr, int], None]
"""Emits what is done in a step of so many."""


def fitting(numbers: Numbers, op: Conv2d, layout: Layout) -> Numbers | None:
    """Return how tiles are filled from an image in this layout; None: they are not, or hardly.

    Args:
        numbers: what is multiplied by tiles.
        op: the convolution.
        layout: that of the input.
    """
    if op.groups > 1 or _run(op) < LEAST_PIXELS:
        return None
    row = amx.SIDE * numbers.group
    whole = layout.block == amx.SIDE or layout.block % row == 0
    if whole and op.in_channels > MOST_FEW[numbers.name]:
        return numbers
    pixel = -(-op.in_channels // numbers.group)
    taps = op.kernel[1] * pixel
    few = layout.block < amx.SIDE and layout.block in (1, pixel * numbers.group)
    beside = op.dilation[1] == 1 and 1 < op.kernel[1] <= op.width
    if few and beside and LEAST_TAPS <= taps <= amx.SIDE:
        return replace(numbers, taps=pixel)
    return None


def multiplied(numbers: Numbers, op: Conv2d) -> Conv2d:
    """Return the convolution whose reduction is written: over elements, or over rows of taps."""
    reduced = numbers.reduced(op)
    if not numbers.taps:
        return reduced
    high, wide = op.kernel
    return replace(
        reduced, in_channels=amx.SIDE, width=op.width - (wide - 1), kernel=(high, 1),
        dilation=(op.dilation[0], 1),
    )  # fmt: skip


def in_rows(numbers: Numbers, filters: AnyArray) -> AnyArray:
    """Return filters [O, elements, kh, kw], for rows of taps as [O, 16, kh, 1]."""
    if not numbers.taps:
        return filters
    outputs, each, high, wide = filters.shape
    rows = np.zeros((outputs, amx.SIDE, high, 1), filters.dtype)
    beside = filters.transpose(0, 3, 1, 2).reshape(outputs, wide * each, high)
    rows[:, : wide * each, :, 0] = beside
    return rows


def default_tile(op: Conv2d) -> Tile:
    """Return the fixed tile: two vectors of outputs, and as few bands as there must be jobs."""
    blocks = min(amx.BLOCKS, -(-op.out_channels // amx.SIDE))
    groups = -(-op.out_channels // (blocks * amx.SIDE))
    bands = min(op.out_height, -(-LEAST_JOBS // groups))
    return Tile(blocks, _PAIR, band=-(-op.out_height // bands))


def joined(op: Conv2d) -> bool:
    """Whether the rows of a band are one run of pixels."""
    return op.stride == (1, 1)


def pitch(op: Conv2d, wide: int) -> int:
    """Return the sums from a row of the output to the next, for an image stored so wide."""
    return wide if joined(op) else -(-op.out_width // amx.SIDE) * amx.SIDE


def _run(op: Conv2d) -> int:
    """Return the pixels of the longest run, in an image no wider than is needed."""
    wide = op.width + op.padding[1] + op.padding[3]
    return (op.out_height - 1) * wide + op.out_width if joined(op) else op.out_width


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
    """The convolution that is written (see `multiplied`)."""
    inp: Layout
    """Layout of the input's elements."""
    walk: Channels
    numbers: Numbers
    buffers: tuple[Buffer, Buffer, Buffer]
    """Elements of the image, filters, bias."""
    first: int
    """The first output block of the part that the groups belong to."""
    blocks: int
    """Output blocks of a group."""
    store: BlockedStore
    share: int
    """Rows of the output that are computed in turn, before the next group."""

    @property
    def pitch(self) -> int:
        """Sums from a row to the next."""
        return pitch(self.op, int(self.buffers[0].shape[3]))

    def emit(self, where: Place, rows: int) -> None:
        """Emit so many rows from `where` on."""
        lanes, (n, group, row), width = amx.SIDE, where, self.op.out_width
        co = self.first + group * self.blocks
        count = rows * self.pitch
        if joined(self.op):
            count = -(-((rows - 1) * self.pitch + width) // lanes) * lanes
        held = _RING if self.fours else count
        sums = T.alloc_buffer((held * self.blocks * lanes,), self.numbers.sums)
        if joined(self.op):
            self._run(sums, 0, (n, group, row, 0), count)
        else:
            with T.serial(rows) as r:
                self._run(sums, r * self.pitch, (n, group, row, r), self.pitch)

        if not self.fours:
            self.store.band(
                (rows, width, self.blocks),
                lambda r, c, o, j: sums[((r * self.pitch + c) * self.blocks + o) * lanes + j],
                (n, co, row, 0),
            )
            return
        last = segments(count if joined(self.op) else self.pitch, _PAIR)[-1][2]
        stored = self._complete(count - last)
        with T.serial(rows * self.fours - stored) as q:
            self._store(sums, where, stored + q)

    @property
    def fours(self) -> int:
        """Fours of a row's pixels that are stored between steps; 0: all are stored at the end.

        The last one of a row begins where it ends with the row: what it shares with the one before
        is stored twice.
        """
        width = self.op.out_width
        return -(-width // FOUR) if self.blocks <= amx.BLOCKS and width >= FOUR else 0

    @property
    def most(self) -> int:
        """Fours that two tiles of pixels may complete."""
        ends = range(amx.SIDE, 2 * _PAIR * self.pitch, amx.SIDE)
        return max(self._complete(end) - self._complete(max(end - _PAIR, 0)) for end in ends)

    def _complete(self, pixels: Expr) -> Expr:
        """Return how many fours are complete once so many pixels of the band are computed."""
        row, width, whole = pixels % self.pitch, self.op.out_width, pixels // self.pitch
        if isinstance(pixels, int):
            return whole * self.fours + (self.fours if row >= width else row // FOUR)
        part = T.Select(row >= width, T.int32(self.fours), row // FOUR)
        return whole * self.fours + part

    def _store(self, sums: Buffer, where: Place, four: Expr) -> None:
        """Emit the stores of a four of pixels of a band."""
        n, group, row = where
        r, c = four // self.fours, T.min(four % self.fours * FOUR, self.op.out_width - FOUR)
        first = r * self.pitch + c
        self.store.tile(
            (1, FOUR, self.blocks),
            lambda i, k, o, j: sums[((first + k) % _RING * self.blocks + o) * amx.SIDE + j],
            (n, self.first + group * self.blocks, row + r, c),
        )

    def _run(
        self, sums: Buffer, first: Expr, where: tuple[Expr, Expr, Expr, Expr], count: int
    ) -> None:
        """Emit a run of pixels; its sums begin at `first`.

        `where`: image, group, the band's first row, and rows from there to that of the run.
        """
        n, group, row, r = where
        runs, most = segments(count, _PAIR), self.most if self.fours else 0
        before = runs[-1][2]  # pixels of the tiles that came before these
        for start, turns, wide in runs:
            with T.serial(turns) as turn:
                column = start + turn * wide
                earlier = T.Select(turn > 0, T.int32(wide), T.int32(before))
                pixels = first + column
                ready = (self._complete(T.max(pixels - earlier, 0)), self._complete(pixels))

                def between(step: Expr, steps: int, ready: tuple[Expr, Expr] = ready) -> None:
                    each = -(-most // steps)
                    for i in range(each):
                        four = ready[0] + step * each + i
                        with T.If(four < ready[1]), T.Then():
                            self._store(sums, (n, group, row), four)

                for o in range(0, self.blocks, amx.BLOCKS):
                    some = (o, min(amx.BLOCKS, self.blocks - o))
                    at = (n, group, row + r, column)
                    done = between if self.fours else None
                    self._tiles(sums, pixels, at, some, wide // amx.SIDE, done)
            before = wide

    def _tiles(
        self,
        sums: Buffer,
        here: Expr,
        at: tuple[Expr, Expr, Expr, Expr],
        some: tuple[int, int],
        pixels: int,
        between: Between | None,
    ) -> None:
        """Emit the whole reduction of some tiles of pixels and some of output channels.

        Args:
            sums: where their sums go.
            here: the band's pixel with which the tiles begin.
            at: image, group, row and column.
            some: the first of the output blocks, and how many.
            pixels: tiles of pixels.
            between: emits what is done in each step.
        """
        first, blocks = some
        bias, co = self.buffers[2], self.first + at[1] * self.blocks + first
        amx.begin(pixels, [bias[(co + o) * amx.SIDE] for o in range(blocks)])
        self._reduce(at, some, pixels, between)
        step = self.blocks * amx.SIDE
        for p in range(pixels):
            pixel = here + p * amx.SIDE
            place = (pixel % _RING if self.fours else pixel) * step
            for o in range(blocks):
                amx.store(p, o, sums[place + (first + o) * amx.SIDE], step * _BYTES)

    def _reduce(
        self,
        at: tuple[Expr, Expr, Expr, Expr],
        some: tuple[int, int],
        pixels: int,
        between: Between | None,
    ) -> None:
        op, inp, walk, side = self.op, self.inp, self.walk, amx.SIDE
        x, w, _ = self.buffers
        (n, group, row, column), (first_out, blocks) = at, some
        up, left = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        kernel_h, kernel_w = op.kernel
        parts = walk.inner // side
        steps = walk.outer * kernel_h * kernel_w * parts
        each = self.blocks * side
        base = self.first * side * steps * side + group * steps * each * side
        with (
            emit.repeat(walk.outer) as ci,
            emit.repeat(kernel_h) as kh,
            emit.repeat(kernel_w) as kw,
            emit.repeat(parts) as part,
        ):
            block, lane = (0, 0)
            if not self.numbers.taps:
                block, lane = walk.index(op, side, inp.block, 0, ci)
            h = up + row * op.stride[0] + kh * op.dilation[0]
            step = ((ci * kernel_h + kh) * kernel_w + kw) * parts + part
            start = base + step * each * side
            if _BYTES * int(w.shape[0]) >= emit.FETCHED_BYTES:
                self._fetch(base, (step, steps), (row, column), pixels * blocks)

            def pixel(p: int) -> Expr:
                v = left + (column + p * side) * op.stride[1] + kw * op.dilation[1]
                return x[n, block, h, v, lane + part * side]

            amx.multiply_add(
                self.numbers.name,
                [(pixel(p), op.stride[1] * inp.block * _BYTES) for p in range(pixels)],
                [(w[start + (first_out + o) * side], each * _BYTES) for o in range(blocks)],
            )
            if between is not None:
                between(step, steps)

    def _fetch(
        self, base: Expr, at: tuple[Expr, int], pixel: tuple[Expr, Expr], done: int
    ) -> None:
        """Emit what a step fetches ahead: its share of the next group's filters.

        Args:
            base: where the group's filters begin.
            at: the step of the reduction, and how many there are.
            pixel: row and column.
            done: products of tiles that the step does.
        """
        (step, steps), (row, column) = at, pixel
        each = self.blocks * amx.SIDE
        every = max(self.share * self.pitch * self.blocks // amx.SIDE, done)
        before = (row % self.share * self.pitch + column) * self.blocks // amx.SIDE
        line = (before * steps + step * done) * each // every
        ahead = steps * each
        if ahead * amx.SIDE * _BYTES > MOST_AHEAD_BYTES:
            line, ahead = step * each, emit.AHEAD_BYTES // (amx.SIDE * _BYTES)
        count = -(-each * done // every)
        emit.prefetch(self.buffers[1], base + (ahead + line) * amx.SIDE, count * amx.SIDE)
