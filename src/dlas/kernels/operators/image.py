"""Operators on images in any layout: elementwise, pooling, concatenation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import activate
from dlas.kernels.code.half_images import BITS, WIDE, Images, narrow, wide
from dlas.kernels.ground.layout import Array, Layout, Shape4

At = tuple[Expr, Expr, Expr, Expr, Expr]
"""Image, channel block, row, column, lane; rows and columns count from inside the halo."""


def load(x: Buffer, layout: Layout, at: At) -> Expr:
    """Read one element (in `each_pixel`, one vector)."""
    n, block, row, col, lane = at
    return wide(x[n, block, row + layout.halo[0], col + layout.halo[1], lane])


def each_pixel(
    y: Buffer,
    layout: Layout,
    nchw: Shape4,
    schedule: tuple[int, int],
    value: Callable[[At], Expr],
    fill: Expr = None,
) -> None:
    """Emit y = value(at) for a whole batch, and the halo's zeros; lanes are channels or columns.

    Args:
        y: the output buffer.
        layout: its layout.
        nchw: shape of the batch.
        schedule: threads, and lanes where channels are not blocked.
        value: the expression of one element.
        fill: what the halo holds, where it is not zero.
    """
    n, c, h, w = nchw
    threads, lanes = schedule
    blocks = -(-c // layout.block)
    top, left = layout.halo[:2]
    with emit.outer(n * blocks * h, threads) as job:
        row, block, image = job % h, job // h % blocks, job // (h * blocks)

        def one(col: Expr, lane: Expr) -> None:
            result = narrow(value((image, block, row, col, lane)), y)
            emit.store(y, result, image, block, row + top, col + left, lane)

        if layout.block > 1:
            with T.serial(w) as col:
                emit.each_lane(layout.block, lambda lane: one(col, lane))
        else:
            whole = w // lanes
            if whole:
                with T.serial(whole) as step:
                    emit.each_lane(lanes, lambda lane: one(step * lanes + lane, 0))
            if w % lanes:
                with T.serial(w % lanes) as rest:
                    one(whole * lanes + rest, 0)
        if any(layout.halo):
            emit.zero_halo(y, image, block, row, (h, w), layout, fill)


@dataclass(frozen=True)
class Elementwise:
    """`affine` (x * scale + shift), `unary`, `add` or `multiply`, then an activation.

    The second operand of `add` and `multiply` may be one value a channel ([N, C, 1, 1]).
    """

    kind: str
    nchw: Shape4
    inputs: tuple[Layout, ...]
    out: Layout
    activation: str | None
    schedule: tuple[int, int]
    per_channel: bool = False
    images: Images = WIDE

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, [y or scale, shift], out)."""
        n, c, _, _ = self.nchw
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.inputs[0].shape(self.nchw), self.images.x)
            more = []
            if self.kind == "affine":
                size = -(-c // self.out.block) * self.out.block
                more = [emit.argument("scale", (size,)), emit.argument("shift", (size,))]
            elif len(self.inputs) == 2:
                shape = (n, c, 1, 1) if self.per_channel else self.nchw
                more = [emit.argument("other", self.inputs[1].shape(shape), self.images.other)]
            y = emit.argument("y", self.out.shape(self.nchw), self.images.y)
            each_pixel(y, self.out, self.nchw, self.schedule, lambda at: self._value(x, more, at))
        return function.result

    def _value(self, x: Buffer, more: list[Buffer], at: At) -> Expr:
        value = load(x, self.inputs[0], at)
        if self.kind == "affine":
            channel = at[1] * self.out.block + (at[4] if self.out.block > 1 else 0)
            value = value * more[0][channel] + more[1][channel]
        elif more:
            where = (at[0], at[1], 0, 0, at[4]) if self.per_channel else at
            other = load(more[0], self.inputs[1], where)
            value = value + other if self.kind == "add" else value * other
        return activate(value, self.activation)

    def constants(self, scale: Array, shift: Array) -> tuple[Array, Array]:
        """Return an affine's scale and shift, zeros in padded channels."""
        size = -(-len(scale) // self.out.block) * self.out.block
        padded = np.zeros((2, size), np.float32)
        padded[0, : len(scale)], padded[1, : len(shift)] = scale, shift
        return padded[0], padded[1]


@dataclass(frozen=True)
class WindowPool:
    """Maximum or average over a window; what lies outside the image does not count."""

    kind: str
    nchw: Shape4
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    count_padding: bool
    inp: Layout
    out: Layout
    schedule: tuple[int, int]
    dtype: str = "float32"
    zero: int = 0
    """What the halo of a quantized image holds."""
    read: str = ""
    """In what the input is stored, if not as the output (`dtype`)."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, y)."""
        shape: Shape4 = (*self.nchw[:2], *self.out_size)
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.inp.shape(self.nchw), self.read or self.dtype)
            y = emit.argument("y", self.out.shape(shape), self.dtype)
            fill = emit.constant(self.zero, self.dtype)
            each_pixel(y, self.out, shape, self.schedule, lambda at: self._value(x, at), fill)
        return function.result

    def window(self, tap: Callable[[int, int, Expr], tuple[Expr, Expr]]) -> tuple[Expr, Expr]:
        """Return the sum or maximum over a window, and how many pixels count.

        Args:
            tap: of row and column of the window and the value of what does not count: the value of
                the pixel there, and one if it counts, else zero.
        """
        kind = "float32" if self.dtype == BITS else self.dtype
        none = T.float32(0) if self.kind == "avg" else T.min_value(kind)
        total, count = none, T.float32(0)
        for kh in range(self.kernel[0]):
            for kw in range(self.kernel[1]):
                value, counts = tap(kh, kw, none)
                count = count + counts
                total = total + value if self.kind == "avg" else T.max(total, value)
        return total, count

    def _value(self, x: Buffer, at: At) -> Expr:
        n, block, row, col, lane = at

        def tap(kh: int, kw: int, none: Expr) -> tuple[Expr, Expr]:
            h = row * self.stride[0] + kh * self.dilation[0] - self.padding[0]
            w = col * self.stride[1] + kw * self.dilation[1] - self.padding[1]
            value, inside = load(x, self.inp, (n, block, h, w, lane)), self._inside(h, w, kh, kw)
            if inside is None:
                return value, T.float32(1)
            counts = T.Select(inside, T.float32(1), T.float32(0))
            return T.if_then_else(inside, value, none), counts

        total, count = self.window(tap)
        if self.kind == "max":
            return total
        if self.count_padding or not any(self.padding):
            return total * T.float32(1 / (self.kernel[0] * self.kernel[1]))
        return total / count

    def _inside(self, h: Expr, w: Expr, kh: int, kw: int) -> Expr:
        """Return the condition under which the tap lies in the image; None: it always does."""
        height, width = self.nchw[2:]
        tests = []
        if kh * self.dilation[0] < self.padding[0]:
            tests.append(h >= 0)
        if kw * self.dilation[1] < self.padding[1]:
            tests.append(w >= 0)
        last = (self.out_size[0] - 1) * self.stride[0] + kh * self.dilation[0] - self.padding[0]
        if last >= height:
            tests.append(h < height)
        last = (self.out_size[1] - 1) * self.stride[1] + kw * self.dilation[1] - self.padding[1]
        if last >= width:
            tests.append(w < width)
        if not tests:
            return None
        condition = tests[0]
        for test in tests[1:]:
            condition = T.And(condition, test)
        return condition


@dataclass(frozen=True)
class GlobalPool:
    """Mean over the image: [N, C, H, W] to [N, C, 1, 1]."""

    nchw: Shape4
    inp: Layout
    out: Layout
    threads: int
    images: Images = WIDE

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, y)."""
        n, c, h, w = self.nchw
        blocks, lanes = -(-c // self.inp.block), self.inp.block
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.inp.shape(self.nchw), self.images.x)
            y = emit.argument("y", self.out.shape((n, c, 1, 1)), self.images.y)
            with emit.outer(n * blocks, self.threads) as job:
                image, block = job // blocks, job % blocks
                total = emit.registers((lanes,))
                emit.each_lane(lanes, lambda lane: emit.store(total, T.float32(0), lane))
                with T.serial(h) as row, T.serial(w) as col:
                    emit.each_lane(
                        lanes,
                        lambda lane: emit.store(
                            total,
                            total[lane] + load(x, self.inp, (image, block, row, col, lane)),
                            lane,
                        ),
                    )
                top, left = self.out.halo[:2]
                emit.each_lane(
                    lanes,
                    lambda lane: emit.store(
                        y, narrow(total[lane] * T.float32(1 / (h * w)), y),
                        image, block, top, left, lane,
                    ),
                )  # fmt: skip
                if any(self.out.halo):
                    emit.zero_halo(y, image, block, 0, (1, 1), self.out)
        return function.result


@dataclass(frozen=True)
class Concat:
    """Channels of several images side by side; all but the last hold whole channel blocks."""

    channels: tuple[int, ...]
    nhw: tuple[int, int, int]
    inputs: tuple[Layout, ...]
    out: Layout
    schedule: tuple[int, int]

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x0, x1, ..., y)."""
        n, h, w = self.nhw
        function = emit.Function(name)
        with function.body():
            parts = [
                emit.argument(f"x{i}", layout.shape((n, c, h, w)))
                for i, (c, layout) in enumerate(zip(self.channels, self.inputs, strict=True))
            ]
            y = emit.argument("y", self.out.shape((n, sum(self.channels), h, w)))
            first = 0
            for x, c, layout in zip(parts, self.channels, self.inputs, strict=True):
                self._part(x, y, c, layout, first)
                first += c // self.out.block
        return function.result

    def _part(self, x: Buffer, y: Buffer, c: int, layout: Layout, first: int) -> None:
        n, h, w = self.nhw
        threads, _lanes = self.schedule
        blocks = -(-c // self.out.block)
        top, left = self.out.halo[:2]
        wide = self.out.block if self.out.block > 1 else 1
        with emit.outer(n * blocks * h, threads) as job:
            row, block, image = job % h, job // h % blocks, job // (h * blocks)
            with T.serial(w) as col:
                emit.each_lane(
                    wide,
                    lambda lane: emit.store(
                        y,
                        load(x, layout, (image, block, row, col, lane)),
                        image, first + block, row + top, col + left, lane,
                    ),
                )  # fmt: skip
            if any(self.out.halo):
                emit.zero_halo(y, image, first + block, row, (h, w), self.out)
