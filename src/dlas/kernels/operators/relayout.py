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
                    emit.each_lane(lanes, lambda j: self._copy(x, y, (image, block, row, col), j))
                if any(self.goal.halo):
                    emit.zero_halo(y, image, block, row, (h, w), self.goal, self._none)
        return function.result

    @property
    def _none(self) -> emit.Expr:
        return emit.constant(self.fill, self.dtype)

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
