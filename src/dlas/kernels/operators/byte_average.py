"""Averages over windows of a quantized image: ONNX Runtime's own arithmetic, bit for bit.

It makes real numbers of a window, adds them row by row in float32, divides by their count and then
by the output's scale, adds the zero point and rounds (its `QLinearAveragePool`). A window that is
the whole image it sums in integers, and rounds one product of that sum.
"""

from dataclasses import dataclass

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.ground.layout import AnyArray, Layout, Shape4
from dlas.kernels.ground.quantization import HIGH, LOW, Scale
from dlas.kernels.operators.quantized import (
    FLOATS,
    At,
    LaneTypes,
    inside,
    product,
    stored_shape,
)

BYTES = "uint8"
X_SCALE, X_ZERO, SCALE, ZERO, MOVED = range(5)
"""Places of the numbers: of the input; of the output; by how much both are stored higher than the
model's signed bytes."""
FACTOR, BIAS = X_SCALE, X_ZERO
"""The same where the window is the image: what the sum is multiplied by, and is added to it."""
Span = tuple[Expr, Expr]
"""The first row (or column) of the image in a window, and how many there are."""


@dataclass(frozen=True)
class ByteAverage:
    """The average over a window; what lies outside the image is not added."""

    nchw: Shape4
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    count_padding: bool
    """Whether the sum is divided by all pixels of the window, not by those in the image."""
    inp: Layout
    out: Layout
    threads: int

    @property
    def whole(self) -> bool:
        """Whether the window is the image."""
        return self.kernel == self.nchw[2:] and not any(self.padding)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, numbers, y)."""
        (n, c, _, _), (rows, columns) = self.nchw, self.out_size
        blocks, vector = -(-c // self.out.block), LaneTypes(self.out.block)
        lanes = vector.at(T.int32(0))
        function = emit.Function(name, vectors=True)
        with function.body():
            x = emit.argument("x", stored_shape(self.inp, self.nchw), BYTES)
            numbers = emit.argument("numbers", (5,))
            y = emit.argument("y", stored_shape(self.out, (n, c, rows, columns)), BYTES)
            with emit.outer(n * blocks * rows, self.threads) as job:
                row, block, image = job % rows, job // rows % blocks, job // (rows * blocks)
                with T.serial(columns) as column:
                    spans = self._span(row, 0), self._span(column, 1)
                    total = self._sum(x, numbers, (image, block), spans, vector)
                    value = self._stored(total[lanes], numbers, spans, vector)
                    at = (image, block, row, column, lanes)
                    emit.store(y, vector.cast(BYTES, value), *inside(self.out, at))
                if any(self.out.halo):
                    zero = numbers[ZERO] + numbers[MOVED]
                    fill = T.Cast(BYTES, T.Cast("int32", zero))
                    emit.zero_halo(y, image, block, row, self.out_size, self.out, fill)
        return function.result

    def _span(self, at: Expr, axis: int) -> Span:
        """Return what of the image is in the window of an output's row (axis 1: column)."""
        size, kernel, before = self.nchw[2 + axis], self.kernel[axis], self.padding[axis]
        last = (self.out_size[axis] - 1) * self.stride[axis] - before + kernel
        first = at * self.stride[axis] - before
        if before == 0 and last <= size:
            return first, kernel
        begin = T.max(first, 0)
        return begin, T.min(first + kernel, size) - begin

    def _sum(
        self,
        x: Buffer,
        numbers: Buffer,
        place: tuple[Expr, Expr],
        spans: tuple[Span, Span],
        vector: LaneTypes,
    ) -> Buffer:
        """Emit the sum over a window; return what holds it: floats, or integers of the image."""
        kind, lanes = "int32" if self.whole else FLOATS, vector.at(T.int32(0))
        total = emit.registers((vector.lanes,), kind)
        emit.store(total, vector.all(emit.constant(0, kind)), lanes)
        (top, rows), (left, columns) = spans
        with T.serial(rows) as row, T.serial(columns) as column:
            at: At = (*place, top + row, left + column, lanes)
            term = vector.cast("int32", x[inside(self.inp, at)])
            if not self.whole:
                term = term - vector.all(T.Cast("int32", numbers[X_ZERO]))
                term = product(vector.cast(FLOATS, term), vector.all(numbers[X_SCALE]), vector)
            emit.store(total, total[lanes] + term, lanes)
        return total

    def _stored(
        self, total: Expr, numbers: Buffer, spans: tuple[Span, Span], vector: LaneTypes
    ) -> Expr:
        """Return what is stored for a sum, as int32 from 0 to 255."""
        zero, moved = numbers[ZERO], numbers[MOVED]
        if self.whole:
            biased = total + vector.all(T.Cast("int32", numbers[BIAS]))
            scaled = vector.cast(FLOATS, biased) * vector.all(numbers[FACTOR])
            return vector.stored(scaled, zero + moved)
        count = self.kernel[0] * self.kernel[1]
        if not self.count_padding:
            count = spans[0][1] * spans[1][1]
        mean = total / vector.all(T.Cast(FLOATS, T.int32(0) + count))
        # The zero point is added before it is rounded, unlike everywhere else.
        value = mean / vector.all(numbers[SCALE]) + vector.all(zero)
        low, high = T.float32(LOW) - moved, T.float32(HIGH) - moved
        value = T.nearbyint(T.max(T.min(value, vector.all(high)), vector.all(low)))
        return vector.cast("int32", value) + vector.all(T.Cast("int32", moved))

    def constants(self, x: Scale, y: Scale, moved: int = 0) -> list[AnyArray]:
        """Return what follows the input.

        Args:
            x: scale and zero point of the input.
            y: those of the output.
            moved: how much higher numbers are stored than in the model (128: it has signed ones).
        """
        first, second = np.float32(x.scale), np.float32(x.zero)
        if self.whole:
            size = self.kernel[0] * self.kernel[1]
            first = np.float32(x.scale) / (np.float32(y.scale) * np.float32(size))
            second = np.float32(-x.zero * size)
        return [np.array([first, second, y.scale, y.zero - moved, moved], np.float32)]
