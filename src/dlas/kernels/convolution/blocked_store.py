"""The last store of `spatial-pack`: a vector of output channels, residual and activation fused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, half_images, requantize
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue, activate
from dlas.kernels.code.half_images import Images
from dlas.kernels.code.register_tile import segments
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

FOUR = 4
"""Vectors of sums whose bytes fill a vector."""
Total = Callable[[Expr, Expr, Expr, Expr], Expr]
Place = tuple[Expr, Expr, Expr, Expr]


def _moved(total: Total, r: Expr, c: Expr, i: Expr, k: Expr, o: Expr, j: Expr) -> Expr:
    """Return the sums of a pixel that is counted from another one."""
    return total(r + i, c + k, o, j)


def declared(
    op: Conv2d, out: Layout, epilogue: Epilogue, images: Images
) -> tuple[Buffer | None, Buffer]:
    """Declare the last arguments of a kernel: the residual, if there is one, and the output."""
    r = None
    if epilogue.residual:
        r = emit.argument("residual", epilogue.residual.shape(op.out_shape), images.other)
    return r, emit.argument("y", out.shape(op.out_shape), images.y)


@dataclass(frozen=True)
class BlockedStore:
    """Where the sums of a kernel on blocked channels go."""

    target: CpuTarget
    channels_out: int
    out: Layout
    epilogue: Epilogue
    residual: Buffer | None
    y: Buffer
    scales: requantize.StoreScales | None
    even: bool = False
    """Whether the first of several output blocks always has an even number."""

    @property
    def fours(self) -> bool:
        """Whether four vectors of sums become bytes at once."""
        wide, added = self.out.block, self.epilogue.residual
        packs = self.scales is not None and requantize.packs(self.target)
        same = added is None or added.block == wide
        return packs and same and wide % self.target.lanes == 0

    def together(self, blocks: int) -> int:
        """Return how many neighbouring pixels of so many blocks are best stored together."""
        return FOUR // self._beside(blocks)

    def _beside(self, blocks: int) -> int:
        """Return how many of so many blocks lie side by side in memory, up to two."""
        pairs = self.out.block % (2 * self.target.lanes) == 0
        return 2 if self.fours and self.even and pairs and blocks % 2 == 0 else 1

    def band(self, size: tuple[int, int, int], total: Total, at: Place) -> None:
        """Emit the stores of whole rows: loops over rows and columns.

        Args:
            size: rows, columns and output blocks.
            total: the sums of a lane of a row, column and block.
            at: where the first vector goes: image, block, row, column.
        """
        rows, width, blocks = size
        n, block, row, col = at
        if not self.fours:
            with T.serial(rows) as r, T.serial(width) as c, T.unroll(blocks) as o:
                self.vector(lambda j: total(r, c, o, j), (n, block + o, row + r, col + c))
            return
        with T.serial(rows) as r:
            for first, count, wide in segments(width, FOUR):
                with T.serial(count) as turn:
                    c = first + turn * wide
                    here = (n, block, row + r, col + c)
                    self._part((1, wide, blocks), partial(_moved, total, r, c), here)

    def tile(self, size: tuple[int, int, int], total: Total, at: Place) -> None:
        """Emit the stores of a tile that is held in registers: no loop (see `band`)."""
        rows, columns, blocks = size
        n, block, row, col = at
        if self.fours:
            self._part(size, total, at)
            return
        with T.unroll(rows) as i, T.unroll(columns) as c, T.unroll(blocks) as o:
            self.vector(lambda j: total(i, c, o, j), (n, block + o, row + i, col + c))

    def _part(self, size: tuple[int, int, int], total: Total, at: Place) -> None:
        """Emit the stores of some pixels, four vectors at once where there are as many."""
        rows, columns, blocks = size
        n, block, row, col = at
        beside = self._beside(blocks)
        pixels = FOUR // beside
        for i, o in product(range(rows), range(0, blocks, beside)):
            whole = columns // pixels * pixels
            for c in range(0, whole, pixels):
                four = list(product(range(c, c + pixels), range(o, o + beside)))
                totals = [partial(total, i, c, o) for c, o in four]
                places = [(n, block + o, row + i, col + c) for c, o in four]
                self._four(totals, places, beside)
            for c, b in product(range(whole, columns), range(o, o + beside)):
                self.vector(partial(total, i, c, b), (n, block + b, row + i, col + c))

    def _four(
        self, totals: Sequence[Callable[[Expr], Expr]], places: Sequence[Place], beside: int
    ) -> None:
        """Emit the store of four vectors of sums, so many of which lie side by side."""
        assert self.scales is not None
        lanes, added = self.target.lanes, self.epilogue.residual
        j, others = T.Ramp(T.int32(0), 1, lanes), []
        if self.residual is not None and added is not None:
            others = [self.residual[self._where(added, (*place, j))] for place in places]
        value = self.scales.four(
            [total(j) for total in totals], [place[1] * lanes + j for place in places], others,
            self.epilogue.other_first, self.target,
        )  # fmt: skip
        # In blocks of one vector neighbouring pixels are neighbours in memory, too.
        pieces = 1 if self.out.block == lanes else FOUR // beside
        wide = FOUR * lanes // pieces
        every = T.Ramp(T.int32(0), 1, wide)
        for piece in range(pieces):
            part = value if pieces == 1 else requantize.part(value, piece * wide, wide)
            place = places[piece * FOUR // pieces]
            emit.store(self.y, part, *self._where(self.out, (*place, every)))

    def vector(self, total: Callable[[Expr], Expr], at: tuple[Expr, Expr, Expr, Expr]) -> None:
        """Emit the stores of one vector; of a channels-last row's last, only what exists."""
        lanes, channels_out = self.target.lanes, self.channels_out

        def one(j: Expr) -> None:
            value = half_images.narrow(self._finished(total(j), (*at, j)), self.y)
            emit.store(self.y, value, *self._where(self.out, (*at, j)))

        def whole() -> None:
            if self.scales is None:
                half_images.put(
                    self.y, lanes, lambda j: self._finished(total(j), (*at, j)),
                    lambda j: self._where(self.out, (*at, j)),
                )  # fmt: skip
            else:
                self._quantized(total, at, lanes)

        rest = channels_out % lanes
        if self.out.block % lanes == 0:
            whole()
            return
        room = None if self.scales is None else requantize.room_for(rest, lanes)
        with T.If(at[1] == channels_out // lanes):
            with T.Then():
                if self.scales is not None:
                    self._quantized(total, at, rest, room)
                else:
                    with T.unroll(rest) as j:
                        one(j)
            with T.Else():
                whole()

    def _quantized(
        self,
        total: Callable[[Expr], Expr],
        at: tuple[Expr, Expr, Expr, Expr],
        count: int,
        room: Buffer = None,
    ) -> None:
        """Emit the store of the first `count` of a vector of int32 sums."""
        assert self.scales is not None
        lanes, epilogue, residual = self.target.lanes, self.epilogue, self.residual
        added = epilogue.residual
        other = None
        if residual is not None and added is not None:
            other = requantize.get(
                lambda lane: residual[self._where(added, (*at, lane))], count, lanes, room
            )
        j = T.Ramp(T.int32(0), 1, lanes)
        value = self.scales.store(
            total(j), at[1] * lanes + j, other, epilogue.other_first, self.target
        )
        requantize.put(
            lambda value, lane: emit.store(self.y, value, *self._where(self.out, (*at, lane))),
            value,
            count,
            lanes,
        )

    def _where(
        self, layout: Layout, at: tuple[Expr, Expr, Expr, Expr, Expr]
    ) -> tuple[Expr, Expr, Expr, Expr, Expr]:
        """Return the index of a lane of a vector of outputs in a layout."""
        n, block, row, col, lane = at
        channel, wide, (top, left) = block * self.target.lanes, layout.block, layout.halo[:2]
        return (n, channel // wide, row + top, col + left, channel % wide + lane)

    def _finished(self, value: Expr, at: tuple[Expr, Expr, Expr, Expr, Expr]) -> Expr:
        residual, epilogue = self.residual, self.epilogue
        if residual is not None and epilogue.residual is not None:
            value = value + half_images.wide(residual[self._where(epilogue.residual, at)])
        return activate(value, epilogue.activation)
