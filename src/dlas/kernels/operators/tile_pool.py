"""Pooling on tiles: read and written as sparse convolutions carry them."""

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, tile_relayout
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.ground import tiling
from dlas.kernels.ground.layout import Layout, Tiling
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.operators.image import WindowPool


def layouts(window: Conv2d, form: Layout) -> tuple[Layout, Layout] | None:
    """Return what a pool reads and writes of an image in these tiles; None: it cannot.

    Args:
        window: the pool's shape, as that of a convolution.
        form: the tiles in which the image is stored.
    """
    tiled = form.tiling
    if tiled is None or any(t % s for t, s in zip(tiled.tile, window.stride, strict=True)):
        return None
    rows, columns = (t // s for t, s in zip(tiled.tile, window.stride, strict=True))
    out = Layout(tiling=Tiling(tiled.grid, (rows, columns)))
    assert out.tiling is not None
    high, wide = out.tiling.covered
    inp = tiling.read(window, out)
    fits = high >= window.out_height and wide >= window.out_width and inp.form == form
    return (inp, out) if fits else None


@dataclass(frozen=True)
class TilePool:
    """A pool whose input and output are tiles of one grid."""

    pool: WindowPool

    @property
    def _tiling(self) -> Tiling:
        assert self.pool.inp.tiling is not None
        return self.pool.inp.tiling

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, y)."""
        pool, (n, c) = self.pool, self.pool.nchw[:2]
        assert pool.out.tiling is not None
        rows, columns = pool.out.tiling.tile
        top, left = pool.out.halo[:2]
        lanes = self._tiling.lanes
        shape = (n, c, *pool.out_size)
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", pool.inp.shape(pool.nchw))
            y = emit.argument("y", pool.out.shape(shape))
            with emit.outer(n * c, pool.schedule[0]) as job:
                image, channel = job // c, job % c

                def one(u: Expr, v: Expr, edge: bool) -> None:
                    def lane(j: Expr) -> None:
                        value = self._value(x, (image, channel, u, v, j), edge)
                        value = tile_relayout.inside(value, pool.out, pool.out_size, (u, v, j))
                        emit.store(y, value, image, channel, top + u, left + v, j)

                    emit.each_lane(lanes, lane)

                with T.serial(rows) as u, T.serial(columns) as v:
                    if self._tiling.covered != pool.nchw[2:]:
                        one(u, v, edge=True)
                    else:
                        with T.If(self._within(u, v)):
                            with T.Then():
                                one(u, v, edge=False)
                            with T.Else():
                                one(u, v, edge=True)
                tile_relayout.fill_halo(y, pool.out, (image, channel))
        return function.result

    def _within(self, u: Expr, v: Expr) -> Expr:
        """Return whether a window stays in its tile."""
        pool = self.pool
        tests = []
        for at, axis in ((u, 0), (v, 1)):
            first = at * pool.stride[axis] - pool.padding[axis]
            reach = pool.dilation[axis] * (pool.kernel[axis] - 1)
            tests.append(T.And(first >= 0, first + reach < self._tiling.tile[axis]))
        return T.And(*tests)

    def _value(self, x: Buffer, at: tuple[Expr, ...], edge: bool) -> Expr:
        """Return one pixel; at an `edge`, what is outside the image does not count."""
        pool = self.pool
        image, channel, u, v, lane = at

        def tap(kh: int, kw: int, none: Expr) -> tuple[Expr, Expr]:
            row = u * pool.stride[0] + kh * pool.dilation[0] - pool.padding[0]
            column = v * pool.stride[1] + kw * pool.dilation[1] - pool.padding[1]
            value = x[image, channel, row + pool.inp.halo[0], column + pool.inp.halo[1], lane]
            if not edge:
                return value, T.float32(1)
            inside = self._inside(row, column, lane)
            counts = T.Select(inside, T.float32(1), T.float32(0))
            return T.Select(inside, value, none), counts

        total, count = pool.window(tap)
        if pool.kind == "max":
            return total
        size = pool.kernel[0] * pool.kernel[1]
        if pool.count_padding or not any(pool.padding) or not edge:
            return total * T.float32(1 / size)
        # A window past the image, in a tile that overhangs, holds nothing: its zero is not kept.
        return total / T.max(count, T.float32(1))

    def _inside(self, row: Expr, column: Expr, lane: Expr) -> Expr:
        """Return whether a pixel of a lane's tile lies in the image."""
        _, _, high, wide = self.pool.nchw
        across = self._tiling.grid[1]
        h = lane // across * self._tiling.tile[0] + row
        w = lane % across * self._tiling.tile[1] + column
        return T.And(T.And(h >= 0, h < high), T.And(w >= 0, w < wide))
