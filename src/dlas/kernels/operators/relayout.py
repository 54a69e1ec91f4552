"""Changing the layout of an activation: packing, unpacking, widening or dropping the halo.

What has tiles on one side goes through `tiles.TileRelayout`.
"""

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.code.tile_relayout import TileRelayout
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.layout import Layout, Shape4


@dataclass(frozen=True)
class Relayout:
    """One change of layout of a batch [N, C, H, W]."""

    nchw: Shape4
    source: Layout
    goal: Layout
    threads: int
    dtype: str = "float32"
    fill: int = 0
    """What is around the image: the zero point of a quantized one."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel (x, y); every element of y is written, zeros around the image.

        Raises:
            UnsupportedError: tiles of anything but float32.
        """
        if self.source.tiling is not None or self.goal.tiling is not None:
            if self.dtype != "float32":
                raise UnsupportedError(f"there are no tiles of {self.dtype}")
            through = TileRelayout(self.nchw, self.source, self.goal, self.threads)
            return through.function(name)
        n, c, h, w = self.nchw
        blocks, lanes = -(-c // self.goal.block), self.goal.block
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.source.shape(self.nchw), self.dtype)
            y = emit.argument("y", self.goal.shape(self.nchw), self.dtype)
            with emit.outer(n * blocks * h, self.threads) as job:
                row, block, image = job % h, job // h % blocks, job // (h * blocks)
                with T.serial(w) as col:
                    place = (image, block, row, col)
                    if self._in_pieces:
                        self._copy_pieces(x, y, place)
                    else:
                        emit.each_lane(lanes, lambda j: self._copy(x, y, place, j))
                if any(self.goal.halo):
                    emit.zero_halo(y, image, block, row, (h, w), self.goal, self._none)
        return function.result

    @property
    def _none(self) -> emit.Expr:
        return emit.constant(self.fill, self.dtype)

    @property
    def _in_pieces(self) -> bool:
        """Whether a block is several whole ones of the source: each is loaded at once."""
        return self.source.block > 1 and self.goal.block % self.source.block == 0

    def _copy_pieces(self, x: emit.Buffer, y: emit.Buffer, at: tuple[emit.Expr, ...]) -> None:
        """Emit the copy of a pixel's block, a block of the source after the other."""
        image, block, row, col = at
        each, stored = self.source.block, -(-self.nchw[1] // self.source.block)
        (top, left), (high, far) = self.source.halo[:2], self.goal.halo[:2]
        pieces = self.goal.block // each

        def copy(piece: int, lane: emit.Expr) -> None:
            source = block * pieces + piece
            known = T.min(source, stored - 1) if stored % pieces else source
            value = x[image, known, row + top, col + left, lane]
            if stored % pieces:
                value = T.if_then_else(source < stored, value, self._none)
            emit.store(y, value, image, block, row + high, col + far, piece * each + lane)

        for piece in range(pieces):
            emit.each_lane(each, lambda j, piece=piece: copy(piece, j))  # type: ignore[misc]

    def _copy(
        self,
        x: emit.Buffer,
        y: emit.Buffer,
        at: tuple[emit.Expr, emit.Expr, emit.Expr, emit.Expr],
        lane: emit.Expr,
    ) -> None:
        image, block, row, col = at
        channels, old = self.nchw[1], self.source.block
        channel = block * self.goal.block + lane
        top, left = self.source.halo[:2]
        stored = -(-channels // old) * old
        value = x[image, channel // old, row + top, col + left, channel % old]
        if stored < -(-channels // self.goal.block) * self.goal.block:
            value = T.if_then_else(channel < stored, value, self._none)
        top, left = self.goal.halo[:2]
        emit.store(y, value, image, block, row + top, col + left, lane)
