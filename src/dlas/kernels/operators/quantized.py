"""Between float32 and uint8, and sums of quantized tensors: ONNX Runtime's arithmetic.

What vectorizes by itself elsewhere is written in explicit vectors here: a fused multiply-add that
LLVM must not take apart is a call, and loops over lanes around calls stay loops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.ground.layout import AnyArray, Layout, Shape4
from dlas.kernels.ground.quantization import HIGH, LOW, Scale, bounds, sum_factors

At = tuple[Expr, Expr, Expr, Expr, Expr]
"""Image, channel block, row, column, lane; of one of the last two a vector."""
QUAD = 4
FLOATS = "float32"
_PLAIN = (2.0**-60, 2.0**60)
"""Scales by which numbers of this size are divided without underflow or overflow."""
Scales = Sequence[Scale | None]


def plain(scales: Scales) -> bool:
    """Whether all tensors are quantized, by scales that are neither tiny nor huge.

    A quotient is then found by multiply-adds, rounded as a division rounds it (`_quotient`).
    """
    return all(s is not None and _PLAIN[0] < s.scale < _PLAIN[1] for s in scales)


def numbers_of(scales: Scales) -> AnyArray:
    """Return scale and zero point of each tensor, and the inverse of the last one's scale."""
    told = [(1.0, 0.0) if s is None else (s.scale, float(s.zero)) for s in scales]
    flat = np.array(told, np.float32).reshape(-1)
    return np.append(flat, np.float32(1) / flat[-2]).astype(np.float32)


@dataclass(frozen=True)
class LaneTypes:
    """The types of a number of lanes; one lane is a scalar."""

    lanes: int

    def of(self, dtype: str) -> str:
        """Return a type of so many lanes."""
        return dtype if self.lanes == 1 else f"{dtype}x{self.lanes}"

    def all(self, value: Expr) -> Expr:
        """Return a scalar in every lane."""
        return value if self.lanes == 1 else T.Broadcast(value, self.lanes)

    def at(self, first: Expr) -> Expr:
        """Return neighbouring indices."""
        return first if self.lanes == 1 else emit.neighbours(first, self.lanes)

    def cast(self, dtype: str, value: Expr) -> Expr:
        """Return a value in another type."""
        return T.Cast(self.of(dtype), value)

    def stored(self, value: Expr, less: Expr) -> Expr:
        """Return floats, rounded and plus a zero point, as int32 from 0 to 255.

        Args:
            value: what is rounded.
            less: the zero point as a float: bounds are shifted by it, and it is added at the end.
        """
        low, high = T.float32(LOW) - less, T.float32(HIGH) - less
        bounded = T.max(T.min(value, self.all(high)), self.all(low))
        return self.cast("int32", T.nearbyint(bounded)) + self.all(T.Cast("int32", less))


def quotient(value: Expr, by: tuple[Expr, Expr], vector: LaneTypes, exact: bool) -> Expr:
    """Return a vector divided by a number, of which the inverse is given, rounded to nearest.

    A division takes as long as a dozen multiply-adds. A product with the rounded inverse is off by
    one unit in the last place at most; what is left of the value, without any rounding, corrects
    it (Markstein, "Computation of elementary functions on the IBM RISC System/6000", 1990).

    Args:
        value: the vector.
        by: the number and its inverse.
        vector: its lanes.
        exact: whether no step can overflow or underflow; else it is divided.
    """
    scale, inverse = (vector.all(each) for each in by)
    if not exact:
        return value / scale
    kind = vector.of(FLOATS)

    def fused(a: Expr, b: Expr, c: Expr) -> Expr:
        return T.call_llvm_pure_intrin(kind, "llvm.fma", a, b, c)

    near = value * inverse
    left = fused(near, vector.all(T.float32(0)) - scale, value)
    return fused(left, inverse, near)


def product(a: Expr, b: Expr, vector: LaneTypes) -> Expr:
    """Return the product of vectors of floats, rounded by itself whatever it is added to.

    LLVM would make one operation of a product and a sum, which rounds once.
    """
    kind, nothing = vector.of(FLOATS), vector.all(T.float32(0))
    return T.call_llvm_pure_intrin(kind, "llvm.fma", a, b, nothing)


def each_vector(
    layout: Layout, nchw: Shape4, schedule: tuple[int, int], body: Callable[[LaneTypes, At], None],
    after: Callable[[Expr, Expr, Expr], None],
) -> None:  # fmt: skip
    """Emit body(vector, at) for a whole batch, and after(image, block, row) behind each row.

    Lanes are channels, or columns where channels are not in blocks; `at` counts from inside the
    halo.
    """
    n, c, h, w = nchw
    threads, lanes = schedule
    blocks = -(-c // layout.block)
    with emit.outer(n * blocks * h, threads) as job:
        row, block, image = job % h, job // h % blocks, job // (h * blocks)
        if layout.block > 1:
            vector = LaneTypes(layout.block)
            with T.serial(w) as col:
                body(vector, (image, block, row, col, vector.at(T.int32(0))))
        else:
            whole, rest = divmod(w, lanes)
            if whole:
                with T.serial(whole) as step:
                    vector = LaneTypes(lanes)
                    body(vector, (image, block, row, vector.at(step * lanes), 0))
            if rest:
                with T.serial(rest) as col:
                    body(LaneTypes(1), (image, block, row, whole * lanes + col, 0))
        after(image, block, row)


def inside(layout: Layout, at: At) -> tuple[Expr, ...]:
    """Return an index of the stored array; only a last one may be a vector."""
    n, block, row, col, lane = at
    where = (n, block, row + layout.halo[0], col + layout.halo[1], lane)
    return where if layout.block > 1 else where[:-1]


def stored_shape(layout: Layout, nchw: Shape4) -> tuple[int, ...]:
    """Return the shape of an array that `inside` indexes."""
    return layout.shape(nchw) if layout.block > 1 else layout.shape(nchw)[:-1]


@dataclass(frozen=True)
class Quantize:
    """float32 to uint8: saturate(rint(x / scale) + zero).

    Input and output are in the same blocks, or the input is NCHW and the output in blocks of four
    channels, which are joined to one int32 a pixel.
    """

    nchw: Shape4
    inp: Layout
    out: Layout
    schedule: tuple[int, int]

    @property
    def joins(self) -> bool:
        """Whether channels are joined."""
        return self.inp.block == 1 and self.out.block == QUAD

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, scale, y); the scale's second number is the zero point."""
        n, c, h, w = self.nchw
        groups = -(-c // QUAD)
        out, shape, stored = self.out, self.nchw, "uint8"
        if self.joins:
            out, shape, stored = Layout(1, self.out.halo), (n, groups, h, w), "int32"
        function = emit.Function(name, vectors=True)
        with function.body():
            x = emit.argument("x", stored_shape(self.inp, self.nchw))
            scale = emit.argument("scale", (2,))
            y = emit.argument("y", stored_shape(out, shape), stored)

            def one(vector: LaneTypes, at: At) -> Expr:
                value = x[inside(self.inp, at)] / vector.all(scale[0])
                return vector.stored(value, scale[1])

            def body(vector: LaneTypes, at: At) -> None:
                value = self._joined(vector, at, one) if self.joins else one(vector, at)
                emit.store(y, vector.cast(stored, value), *inside(out, at))

            def after(image: Expr, block: Expr, row: Expr) -> None:
                zero = T.Cast("int32", scale[1])
                every = zero * T.int32(0x01010101) if self.joins else T.Cast("uint8", zero)
                if any(out.halo):
                    emit.zero_halo(y, image, block, row, (h, w), out, every)

            each_vector(out, shape, self.schedule, body, after)
        return function.result

    def _joined(self, vector: LaneTypes, at: At, one: Callable[[LaneTypes, At], Expr]) -> Expr:
        """Return four channels of each pixel; those past the last are zeros of no meaning."""
        n, block, row, col, lane = at
        channels, value = self.nchw[1], None
        for byte in range(QUAD):
            channel = block * QUAD + byte
            if byte >= channels:
                break
            part = one(vector, (n, T.min(channel, channels - 1), row, col, lane))
            part = part if byte == 0 else T.shift_left(part, vector.all(T.int32(8 * byte)))
            value = part if value is None else T.bitwise_or(value, part)
        return value

    @staticmethod
    def constants(scale: Scale) -> list[AnyArray]:
        """Return the arguments that follow the input."""
        return [np.array([scale.scale, scale.zero], np.float32)]


@dataclass(frozen=True)
class Dequantize:
    """uint8 to float32: (q - zero) * scale, in the same blocks."""

    nchw: Shape4
    inp: Layout
    out: Layout
    schedule: tuple[int, int]

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, scale, y); the scale's second number is the zero point."""
        function = emit.Function(name, vectors=True)
        with function.body():
            x = emit.argument("x", stored_shape(self.inp, self.nchw), "uint8")
            scale = emit.argument("scale", (2,))
            y = emit.argument("y", stored_shape(self.out, self.nchw))

            def body(vector: LaneTypes, at: At) -> None:
                zero = vector.all(T.Cast("int32", scale[1]))
                whole = vector.cast("int32", x[inside(self.inp, at)]) - zero
                value = vector.cast("float32", whole) * vector.all(scale[0])
                emit.store(y, value, *inside(self.out, at))

            def after(image: Expr, block: Expr, row: Expr) -> None:
                if any(self.out.halo):
                    emit.zero_halo(y, image, block, row, self.nchw[2:], self.out)

            each_vector(self.out, self.nchw, self.schedule, body, after)
        return function.result

    @staticmethod
    def constants(scale: Scale) -> list[AnyArray]:
        """Return the arguments that follow the input."""
        return Quantize.constants(scale)


@dataclass(frozen=True)
class QuantizedAdd:
    """The sum of two quantized images, in blocks of their own or of each other's."""

    nchw: Shape4
    inputs: tuple[Layout, Layout]
    out: Layout
    schedule: tuple[int, int]

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (a, b, numbers, y)."""
        function = emit.Function(name, vectors=True)
        with function.body():
            a, b = (
                emit.argument(f"x{i}", stored_shape(layout, self.nchw), "uint8")
                for i, layout in enumerate(self.inputs)
            )
            numbers = emit.argument("numbers", (6,))
            y = emit.argument("y", stored_shape(self.out, self.nchw), "uint8")

            def body(vector: LaneTypes, at: At) -> None:
                def add(buffer: Buffer, layout: Layout, factor: Expr, to: Expr) -> Expr:
                    term = vector.cast("float32", buffer[inside(layout, at)])
                    return T.call_llvm_pure_intrin(
                        vector.of("float32"), "llvm.fma", term, vector.all(factor), to
                    )

                total = add(b, self.inputs[1], numbers[1], vector.all(numbers[2]))
                total = add(a, self.inputs[0], numbers[0], total)
                total = T.max(T.min(total, vector.all(numbers[4])), vector.all(numbers[3]))
                value = vector.cast("uint8", vector.cast("int32", T.nearbyint(total)))
                emit.store(y, value, *inside(self.out, at))

            def after(image: Expr, block: Expr, row: Expr) -> None:
                if any(self.out.halo):
                    fill = T.Cast("uint8", T.Cast("int32", numbers[5]))
                    emit.zero_halo(y, image, block, row, self.nchw[2:], self.out, fill)

            each_vector(self.out, self.nchw, self.schedule, body, after)
        return function.result

    @staticmethod
    def constants(scales: tuple[Scale, Scale, Scale], activation: str | None) -> list[AnyArray]:
        """Return what follows the inputs: factors, offset, least and largest value, zero point."""
        a, b, total = scales
        told = [*sum_factors(a, b, total), *bounds(total, activation), total.zero]
        return [np.array(told, np.float32)]
