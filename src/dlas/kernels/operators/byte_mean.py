"""The mean of an image of bytes, and of what elementwise arithmetic makes of them."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import byte_floats, emit
from dlas.kernels.code.contiguous import Runs
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.float_math import formula
from dlas.kernels.code.lookup import permutes_bytes
from dlas.kernels.code.register_tile import segments
from dlas.kernels.ground.expression import INPUT, Expression, of_bytes
from dlas.kernels.ground.layout import AnyArray, Layout, Shape4
from dlas.kernels.ground.quantization import Scale
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.operators.ordered_sum import ordered_sum
from dlas.kernels.operators.pointwise import BYTES, dequantized
from dlas.kernels.operators.quantized import FLOATS, LaneTypes, numbers_of, product

_PARTIAL = 1 << 10
"""Pixels whose numbers are added before they are added to the others: sums stay small, and exact
to more digits."""


@dataclass(frozen=True)
class ByteMean:
    """[N, C, H, W] to [N, C, 1, 1]: the mean of an expression of a quantized image."""

    nchw: Shape4
    inp: Layout
    out: Layout
    expression: Expression
    stored: str
    """`uint8` or `float32`."""
    target: CpuTarget
    threads: int

    @cached_property
    def runs(self) -> Runs:
        """How elements go by."""
        return Runs(self.nchw, (self.inp,), True)

    @property
    def ordered(self) -> bool:
        """Whether the image itself is averaged: in ONNX Runtime's order, bit for bit."""
        return self.expression.op == INPUT

    @cached_property
    def by_tables(self) -> bool:
        """Whether the expression is looked up."""
        if self.ordered:
            return False
        fits = byte_floats.SIZE % self.inp.block == 0 and self.runs.length >= byte_floats.SIZE
        return permutes_bytes(self.target) and fits

    @cached_property
    def chunk(self) -> int:
        """Elements of a step."""
        whole = math.lcm(self.inp.block, self.target.lanes)
        if self.by_tables:
            return byte_floats.SIZE
        return whole if self.runs.length >= whole else self.inp.block

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, numbers, [table], y)."""
        (n, c, h, _), runs, block = self.nchw, self.runs, self.inp.block
        function, goal = emit.Function(name, vectors=True), Runs((n, c, 1, 1), (self.out,), True)
        with function.body():
            x = emit.argument("x", (runs.size(self.inp),), BYTES)
            numbers = emit.argument("numbers", (5,))
            table = None
            if self.by_tables:
                table = emit.argument("table", (byte_floats.WORDS,), "int32")
            y = emit.argument("y", (goal.size(self.out),), self.stored)
            with emit.outer(n * runs.blocks, self.threads) as job:
                total = emit.registers((block,))
                image, at = job // runs.blocks, job % runs.blocks
                if self.ordered:
                    self._in_order(x, numbers, (image, at), total)
                else:
                    emit.each_lane(block, lambda j: emit.store(total, T.float32(0), j))
                    with emit.repeat(h if runs.by_row else 1) as row:
                        self._run(x, numbers, table, runs.first(self.inp, (image, at, row)), total)
                self._store(total, numbers, y, goal, (image, at, 0))
        return function.result

    def _in_order(
        self, x: Buffer, numbers: Buffer, place: tuple[Expr, Expr], total: Buffer
    ) -> None:
        """Emit the sums of a block of channels, vector by vector."""
        (_, c, h, w), block, (image, at) = self.nchw, self.inp.block, place
        _, left, _, right = self.inp.halo
        first, across = self.runs.first(self.inp, (image, at, 0)), left + w + right
        lanes = self.target.lanes
        vector = LaneTypes(lanes if block % lanes == 0 else block)
        scale, zero = (vector.all(numbers[place]) for place in (0, 1))
        for start in range(0, block, vector.lanes):

            def term(pixel: Expr, start: int = start) -> Expr:
                if across != w:
                    pixel = pixel // w * across + pixel % w
                index = vector.at(first + pixel * block + start)
                whole = vector.cast(FLOATS, vector.cast("int32", x[index]))
                return product(whole - zero, scale, vector)

            images = vector.at(image * c + at * block + start)
            value = ordered_sum(term, h * w, images, vector)
            emit.store(total, value, vector.at(T.int32(start)))

    def _run(
        self, x: Buffer, numbers: Buffer, table: Buffer | None, first: Expr, total: Buffer
    ) -> None:
        """Emit the sum of a run: a part of its chunks after the other, and what is left."""
        whole, rest = divmod(self.runs.length, self.chunk)
        each = max(1, _PARTIAL * self.inp.block // self.chunk)
        for start, count, steps in segments(whole, each):
            with emit.repeat(count) as turn:
                here = first + (start + turn * steps) * self.chunk
                self._chunks(x, numbers, table, here, steps, total)
        block = self.inp.block
        if rest:
            with emit.repeat(rest // block) as pixel:
                here = first + whole * self.chunk + pixel * block
                emit.each_lane(
                    block,
                    lambda j: emit.store(total, total[j] + self._one(x, numbers, here + j), j),
                )

    def _one(self, x: Buffer, numbers: Buffer, at: Expr) -> Expr:
        """Return what is added for an element."""
        return formula(self.expression, lambda _: dequantized(x[at], numbers, 0))

    def _chunks(
        self,
        x: Buffer,
        numbers: Buffer,
        table: Buffer | None,
        first: Expr,
        count: int,
        total: Buffer,
    ) -> None:
        """Emit the sum of neighbouring chunks."""
        chunk, lanes = self.chunk, min(self.chunk, self.target.lanes)
        some = emit.registers((chunk,))
        starts = range(0, chunk, lanes)
        for start in starts:
            emit.each_lane(
                lanes,
                lambda j, start=start: emit.store(some, T.float32(0), start + j),  # type: ignore[misc]
            )
        with T.serial(count) as step:
            here = first + step * chunk
            found = None
            if table is not None:
                index = x[emit.neighbours(here, chunk)]
                found = byte_floats.looked_up(index, table, 0, self.target)
            for start in starts:

                def more(j: Expr, start: int = start) -> None:
                    at = start + j
                    one = self._one(x, numbers, here + at) if found is None else found[at]
                    emit.store(some, some[at] + one, at)

                emit.each_lane(lanes, more)
        for channel in range(self.inp.block):
            value = total[channel]
            for at in range(chunk):
                element = byte_floats.order(at) if self.by_tables else at
                if element % self.inp.block == channel:
                    value = value + some[at]
            emit.store(total, value, channel)

    def _store(
        self, total: Buffer, numbers: Buffer, y: Buffer, goal: Runs, place: tuple[Expr, Expr, Expr]
    ) -> None:
        """Emit the store of a block of channels."""
        vector = LaneTypes(self.inp.block)
        first = goal.first(self.out, place)
        count = T.float32(self.nchw[2] * self.nchw[3])
        mean = total[vector.at(T.int32(0))] / vector.all(count)
        fill = T.float32(0)
        if self.stored == BYTES:
            scale, zero = numbers[2], numbers[3]
            mean = vector.cast(BYTES, vector.stored(mean / vector.all(scale), zero))
            fill = T.Cast(BYTES, T.Cast("int32", zero))
        emit.store(y, mean, vector.at(first))
        goal.fill_halo(y, self.out, place, fill, self.target.lanes)

    def constants(self, scale: Scale, out: Scale | None) -> list[AnyArray]:
        """Return what follows the input."""
        told: list[AnyArray] = [numbers_of((scale, out))]
        if self.by_tables:
            told.append(byte_floats.words(np.asarray(of_bytes(self.expression, scale))))
        return told
