"""Bands of `spatial-pack` by AMX: tiles of pixels times 16 output channels.

A row of a tile of pixels is 64 bytes of memory: channels of one pixel, and the next row those of
the next pixel (see `tile_runs`). Where the image lies in such blocks of channels it is read where
it is; else it is copied first.

Where a pixel has few channels (a network's first layer), a row of a tile is a row of the filter's
taps: neighbouring pixels with all their channels, zeros among the filters for what is too many.

Sums begin with the bias and go to memory from the tiles, to a ring that holds those of two pairs
of tiles. They are stored, a few pixels at a time, between the steps by which the next tiles are
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
from dlas.kernels.code.register_tile import Tile
from dlas.kernels.code.walk import Channels
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_store import BlockedStore
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.tile_runs import EVEN, TileRuns, least, longest
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
_WIDE = amx.BLOCKS * amx.SIDE
"""Sums of a pixel in the ring."""
NEAR_BYTES = 1 << 14
"""Filters that are read from the first-level cache for all pixels of a pair of tiles."""
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
    if op.groups > 1 or longest(op) < LEAST_PIXELS:
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


def default_tile(op: Conv2d, group: int) -> Tile:
    """Return the fixed tile: two vectors of outputs, and as few bands as there must be jobs.

    More vectors where their filters fit the first-level cache beside the pixels: these are read
    again for every two of them, and come from there then.

    Args:
        op: the convolution.
        group: input channels of an element.
    """
    each = _BYTES * amx.SIDE * -(-op.in_channels // group) * op.kernel[0] * op.kernel[1]
    most = max(1, NEAR_BYTES // (amx.BLOCKS * each)) * amx.BLOCKS
    blocks = min(most, -(-op.out_channels // amx.SIDE))
    groups = -(-op.out_channels // (blocks * amx.SIDE))
    bands = min(op.out_height, -(-LEAST_JOBS // groups))
    return Tile(blocks, _PAIR, band=-(-op.out_height // bands))


def tiles(op: Conv2d, tile: Tile) -> Space:
    """Return the settings for tuning."""
    fixed = {"blocks": tile.blocks, "band": tile.band}
    values = {
        "blocks": space.up_to(-(-op.out_channels // amx.SIDE), (1, 2, 4, 8)),
        "band": space.up_to(op.out_height, (1, 2, 4, 8, 16)),
    }
    return Space.of(values, fixed, lambda s: True)


@dataclass(frozen=True)
class _TileGroup:
    """Tiles that are multiplied together."""

    count: int
    """Tiles of pixels."""
    first: Expr
    """The first of them, in the band."""
    outputs: tuple[int, int]
    """The first of the output blocks of the group, and how many."""
    slot: Expr = 0
    """Which half of the ring their sums go to."""


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
    runs: TileRuns

    @property
    def _outputs(self) -> list[tuple[int, int]]:
        """Output blocks that are multiplied together: the first of each, and how many."""
        step = amx.BLOCKS
        return [(o, min(step, self.blocks - o)) for o in range(0, self.blocks, step)]

    def emit(self, where: Place, rows: int) -> None:
        """Emit so many rows from `where` on."""
        (self._between if self.runs.even else self._behind)(where, rows)

    def _behind(self, where: Place, rows: int) -> None:
        """Emit a band that is stored when all of it is computed: its rows are one run."""
        lanes, (n, group, row), runs = amx.SIDE, where, self.runs
        count, wide = runs.tiles(rows), self.blocks * lanes
        sums = T.alloc_buffer((runs.length(rows) * wide,), self.numbers.sums)

        def some(tile: Expr, tiles: int) -> None:
            for outputs in self._outputs:
                turn = _TileGroup(tiles, tile, outputs)
                self._multiply(where, rows, turn, None)
                for t in range(tiles):
                    pixel = runs.place(tile + t, rows)[1]
                    self._put(sums, turn, t, pixel * wide + outputs[0] * lanes, wide)

        if count >= amx.PIXELS:
            with emit.repeat(count // amx.PIXELS) as pair:
                some(pair * amx.PIXELS, amx.PIXELS)
        if count % amx.PIXELS:
            some(count - 1, 1)
        self.store.band(
            (rows, runs.width, self.blocks),
            lambda r, c, o, j: sums[(r * runs.pitch + c) * wide + o * lanes + j],
            (n, self.first + group * self.blocks, row, 0),
        )

    def _between(self, where: Place, rows: int) -> None:
        """Emit a band whose tiles are stored between the steps of the next ones."""
        count, outputs = self.runs.tiles(rows), self._outputs
        sums = T.alloc_buffer((2 * amx.PIXELS * self.runs.rows * _WIDE,), self.numbers.sums)
        pairs, rest = divmod(count, amx.PIXELS)

        def turn(pair: Expr, at: int, tiles: int = amx.PIXELS) -> _TileGroup:
            slot = (pair * len(outputs) + at) % 2
            return _TileGroup(tiles, pair * amx.PIXELS, outputs[at], slot)

        def compute(pair: Expr, tiles: int) -> None:
            for at in range(len(outputs)):
                before = turn(pair, at - 1, tiles) if at else turn(pair - 1, len(outputs) - 1)
                now, ready = turn(pair, at, tiles), self._units(before)
                if at == 0 and not isinstance(pair, int):
                    ready = T.Select(pair > 0, T.int32(ready), T.int32(0))
                self._multiply(where, rows, now, self._storing(sums, where, rows, before, ready))
                for t in range(tiles):
                    self._put(sums, now, t, self._held(now, t, 0), _WIDE)

        if pairs:
            with emit.repeat(pairs) as pair:
                compute(pair, amx.PIXELS)
        if rest:
            compute(pairs, rest)
        last = turn(pairs, len(outputs) - 1, rest) if rest else turn(pairs - 1, len(outputs) - 1)
        with emit.repeat(self._units(last)) as unit:
            self._store(sums, where, rows, last, unit)

    def _storing(
        self, sums: Buffer, where: Place, rows: int, before: _TileGroup, ready: Expr
    ) -> Between | None:
        """Return what stores the tiles of the turn before, of which so many units are ready."""
        if isinstance(before.first, int) and before.first < 0:
            return None
        most = self._units(before)

        def between(step: Expr, steps: int) -> None:
            each = -(-most // steps)
            for i in range(each):
                unit = step * each + i
                with emit.condition(unit < ready) as may:
                    if may:
                        self._store(sums, where, rows, before, unit)

        return between

    def _pixels(self, turn: _TileGroup) -> int:
        """Return the pixels of a unit of what is stored at once; of joined rows a divisor."""
        runs, most = self.runs, self.store.together(turn.outputs[1])
        if runs.joined and any(number % most for number in (runs.pitch, runs.width, runs.rows)):
            return EVEN
        return min(most, runs.rows)

    def _units(self, turn: _TileGroup) -> int:
        return turn.count * -(-self.runs.rows // self._pixels(turn))

    def _store(self, sums: Buffer, where: Place, rows: int, turn: _TileGroup, unit: Expr) -> None:
        """Emit the stores of a unit: some neighbouring pixels of a tile.

        The last one of a tile ends with it: what it shares with the one before is stored twice.
        What lies between the rows of a joined run goes nowhere.
        """
        (n, group, row), (first, blocks), runs = where, turn.outputs, self.runs
        pixels = self._pixels(turn)
        each = -(-runs.rows // pixels)
        tile, pixel = unit // each, least(unit % each * pixels, runs.rows - pixels)
        r, c = runs.place(turn.first + tile, rows)
        c, inside = c + pixel, True
        if runs.joined:
            r, c = c // runs.pitch, c % runs.pitch
            inside = runs.pitch == runs.width or c < runs.width
        begin = self._held(turn, tile, pixel)
        with emit.condition(inside):
            self.store.tile(
                (1, pixels, blocks),
                lambda i, k, o, j: sums[begin + k * _WIDE + o * amx.SIDE + j],
                (n, self.first + group * self.blocks + first, row + r, c),
            )

    def _held(self, turn: _TileGroup, tile: Expr, pixel: Expr) -> Expr:
        """Return where the ring holds a pixel's sums of a turn's first output block."""
        return ((turn.slot * amx.PIXELS + tile) * self.runs.rows + pixel) * _WIDE

    def _put(self, sums: Buffer, turn: _TileGroup, tile: int, first: Expr, step: int) -> None:
        """Emit the copy of a tile's sums to memory, `step` of them a pixel."""
        for o in range(turn.outputs[1]):
            amx.store(tile, o, sums[first + o * amx.SIDE], step * _BYTES)

    def _multiply(
        self, where: Place, rows: int, turn: _TileGroup, between: Between | None
    ) -> None:
        """Emit the whole reduction of some tiles, and what is done between its steps."""
        bias, (first, blocks) = self.buffers[2], turn.outputs
        co = self.first + where[1] * self.blocks + first
        amx.begin(turn.count, [bias[(co + o) * amx.SIDE] for o in range(blocks)])
        op, walk, side = self.op, self.walk, amx.SIDE
        kernel_h, kernel_w = op.kernel
        parts = walk.inner // side
        steps = walk.outer * kernel_h * kernel_w * parts
        with (
            emit.repeat(walk.outer) as ci,
            emit.repeat(kernel_h) as kh,
            emit.repeat(kernel_w) as kw,
            emit.repeat(parts) as part,
        ):
            step = ((ci * kernel_h + kh) * kernel_w + kw) * parts + part
            self._step(where, rows, turn, (ci, kh, kw, part), (step, steps))
            if between is not None:
                between(step, steps)

    def _step(
        self,
        where: Place,
        rows: int,
        turn: _TileGroup,
        at: tuple[Expr, Expr, Expr, Expr],
        progress: tuple[Expr, int],
    ) -> None:
        """Emit one step of the reduction.

        `at`: input block, row and column of the filter, part of the block.
        """
        op, inp, walk, side = self.op, self.inp, self.walk, amx.SIDE
        x, w, _ = self.buffers
        (n, group, row), (first_out, blocks), (ci, kh, kw, part) = where, turn.outputs, at
        step, steps = progress
        each = self.blocks * side
        base = self.first * side * steps * side + group * steps * each * side
        block, lane = (0, 0)
        if not self.numbers.taps:
            block, lane = walk.index(op, side, inp.block, 0, ci)
        up, left = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        start = base + step * each * side
        if _BYTES * int(w.shape[0]) >= emit.FETCHED_BYTES:
            self._fetch(base, progress, (row, turn.first), turn.count * blocks)

        def pixel(p: int) -> Expr:
            r, c = self.runs.place(turn.first + p, rows)
            h = up + (row + r) * op.stride[0] + kh * op.dilation[0]
            v = left + c * op.stride[1] + kw * op.dilation[1]
            return x[n, block, h, v, lane + part * side]

        amx.multiply_add(
            self.numbers.name,
            [(pixel(p), op.stride[1] * inp.block * _BYTES) for p in range(turn.count)],
            [(w[start + (first_out + o) * side], each * _BYTES) for o in range(blocks)],
        )

    def _fetch(
        self, base: Expr, at: tuple[Expr, int], where: tuple[Expr, Expr], done: int
    ) -> None:
        """Emit what a step fetches ahead: its share of the next group's filters.

        Args:
            base: where the group's filters begin.
            at: the step of the reduction, and how many there are.
            where: the band's first row, and a tile of the band.
            done: products of tiles that the step does.
        """
        (step, steps), (row, tile) = at, where
        each = self.blocks * amx.SIDE
        every = max(self.runs.tiles(self.share) * self.blocks, done)
        before = (
            row % self.share * self.runs.tiles(self.share) // self.share + tile
        ) * self.blocks
        line = (before * steps + step * done) * each // every
        ahead = steps * each
        if ahead * amx.SIDE * _BYTES > MOST_AHEAD_BYTES:
            line, ahead = step * each, emit.AHEAD_BYTES // (amx.SIDE * _BYTES)
        count = -(-each * done // every)
        emit.prefetch(self.buffers[1], base + (ahead + line) * amx.SIDE, count * amx.SIDE)
