"""Elementwise arithmetic in float between quantized tensors: one operator that reads bytes.

What is computed stays in registers. Where the CPU permutes the bytes of two vectors of 64
(AVX-512 VBMI), parts of the expression that depend on one quantized image alone are not computed
but looked up: a table of floats is four tables of bytes. Elsewhere they are computed.
Numbers of a channel (as of a gate in squeeze-and-excite) are computed once for a block's image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import byte_floats, emit
from dlas.kernels.code.contiguous import Runs
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.float_math import cut, formula
from dlas.kernels.code.lookup import looked_up, permutes_bytes
from dlas.kernels.code.requantize import nearest, packed_quarters
from dlas.kernels.ground.expression import INPUT, Expression, of_bytes
from dlas.kernels.ground.layout import AnyArray, Layout, Shape4
from dlas.kernels.ground.quantization import HIGH, ByteTable, Scale
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.operators.quantized import FLOATS, LaneTypes, numbers_of, quotient

BYTES = "uint8"
Place = tuple[Expr, Expr, Expr]
"""Image, block of channels, row."""


def dequantized(value: Expr, numbers: Buffer, at: int) -> Expr:
    """Return an element of tensor `at` in float32 (in `emit.each_lane`, a vector)."""
    if str(value.ty.dtype) != BYTES:
        return value
    whole = T.Cast(FLOATS, T.Cast("int32", value))
    return (whole - numbers[2 * at + 1]) * numbers[2 * at]


@dataclass(frozen=True)
class Pointwise:
    """One expression of images, and of numbers of their channels."""

    nchw: Shape4
    inputs: tuple[Layout, ...]
    kinds: tuple[str, ...]
    """`uint8` or `float32`, of each input and of the output."""
    whole: tuple[bool, ...]
    """Whether an input has a number for each pixel; else it has one for each channel."""
    expression: Expression
    out: Layout
    exact: bool
    """Whether scales are `plain`."""
    target: CpuTarget
    threads: int

    @cached_property
    def runs(self) -> Runs:
        """How elements go by."""
        images = [x for x, whole in zip(self.inputs, self.whole, strict=True) if whole]
        return Runs(self.nchw, (*images, self.out), not all(self.whole))

    @cached_property
    def by_tables(self) -> bool:
        """Whether parts of the expression are looked up."""
        kinds = zip(self.kinds[:-1], self.whole, strict=True)
        bytes_ = all(kind == BYTES for kind, whole in kinds if whole)
        fits = byte_floats.SIZE % self.out.block == 0 and self.runs.length >= byte_floats.SIZE
        return permutes_bytes(self.target) and bytes_ and fits and self.kinds[-1] == BYTES

    @cached_property
    def lanes(self) -> int:
        """Numbers of a vector."""
        lanes = self.target.lanes
        fits = self.runs.length >= math.lcm(self.out.block, lanes)
        return lanes if fits else self.out.block

    @cached_property
    def chunk(self) -> int:
        """Elements of a step."""
        return byte_floats.SIZE if self.by_tables else math.lcm(self.out.block, self.lanes)

    @cached_property
    def _cut(self) -> tuple[Expression, list[Expression]]:
        """The expression of the parts, and the parts: tables, inputs, numbers of channels."""
        found: list[Expression] = []
        return cut(self.expression, self._apart, found), found

    def _apart(self, part: Expression) -> bool:
        read = {*part.inputs()}
        if not any(self.whole[at] for at in read):
            return bool(read)
        return len(read) == 1 if self.by_tables else part.op == INPUT

    def _image(self, part: Expression) -> int | None:
        """Return the image that a part depends on; None: it is one number a channel."""
        return next((at for at in part.inputs() if self.whole[at]), None)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (inputs ..., numbers, [tables], y)."""
        runs, function = self.runs, emit.Function(name, vectors=True)
        n, c, _, _ = self.nchw
        with function.body():
            xs = [
                emit.argument(
                    f"x{at}",
                    (math.prod(layout.shape(self.nchw if whole else (n, c, 1, 1))),),
                    kind,
                )
                for at, (layout, whole, kind) in enumerate(
                    zip(self.inputs, self.whole, self.kinds[:-1], strict=True)
                )
            ]
            numbers = emit.argument("numbers", (2 * len(self.kinds) + 1,))
            tables = None
            if self.by_tables:
                count = sum(self._image(part) is not None for part in self._cut[1])
                tables = emit.argument("tables", (count * byte_floats.WORDS,), "int32")
            y = emit.argument("y", (runs.size(self.out),), self.kinds[-1])
            jobs = runs.count * runs.parts(self.chunk)
            with emit.outer(jobs, self.threads) as job:
                parts = runs.parts(self.chunk)
                place = runs.place(job // parts)
                held = self._held(xs, numbers, place)
                step = _Chunk(self, xs, numbers, tables, y, held, place)
                runs.chunks(self.chunk, job % parts, step.emit)
                fill = emit.constant(0, FLOATS)
                if self.kinds[-1] == BYTES:
                    fill = T.Cast(BYTES, T.Cast("int32", numbers[2 * len(xs) + 1]))
                runs.fill_halo(y, self.out, place, fill, self.target.lanes)
        return function.result

    def order(self, element: int) -> int:
        """Return which element of a chunk comes at a place of its vectors."""
        return byte_floats.order(element) if self.by_tables else element

    def _held(self, xs: list[Buffer], numbers: Buffer, place: Place) -> dict[int, Buffer]:
        """Emit the numbers of channels, repeated for a chunk; return them by their part."""
        block, held = self.out.block, {}
        for at, part in enumerate(self._cut[1]):
            if self._image(part) is not None:
                continue
            each = emit.registers((block,))

            def source(which: int, lane: Expr) -> Expr:
                first = self._channel(self.inputs[which], place)
                return dequantized(xs[which][first + lane], numbers, which)

            emit.each_lane(
                block,
                lambda j, part=part, each=each: emit.store(  # type: ignore[misc]
                    each, formula(part, lambda which: source(which, j)), j
                ),
            )
            held[at] = emit.registers((self.chunk,))
            for first in range(0, self.chunk, self.lanes):
                lanes = LaneTypes(self.lanes)
                value = lanes.all(each[0])
                if block > 1:
                    places = [self.order(first + lane) % block for lane in range(self.lanes)]
                    channels = each[emit.neighbours(0, block)]
                    value = emit.picked([channels], places)
                emit.store(held[at], value, lanes.at(T.int32(first)))
        return held

    def _channel(self, layout: Layout, place: Place) -> Expr:
        """Return where the numbers of a block of channels begin."""
        n, c, _, _ = self.nchw
        return Runs((n, c, 1, 1), (layout,), True).first(layout, (place[0], place[1], 0))

    def constants(self, scales: Sequence[Scale | None], out: Scale | None) -> list[AnyArray]:
        """Return what follows the inputs."""
        told = [numbers_of([*scales, out])]
        if self.by_tables:
            parts = ((self._image(part), part) for part in self._cut[1])
            found = [
                byte_floats.words(of_bytes(part, scales[at]))  # type: ignore[arg-type]
                for at, part in parts
                if at is not None
            ]
            told.append(np.concatenate(found))
        return told


@dataclass(frozen=True)
class _Chunk:
    """What a chunk of elements needs."""

    kernel: Pointwise
    xs: list[Buffer]
    numbers: Buffer
    tables: Buffer | None
    y: Buffer
    held: dict[int, Buffer]
    place: Place

    def emit(self, at: Expr) -> None:
        """Emit the chunk that begins with an element of the run."""
        kernel, read = self.kernel, {}
        value = emit.registers((kernel.chunk,))
        if self.tables is not None:
            read = self._found(at)

        def source(which: int, element: Expr) -> Expr:
            if which in self.held:
                return self.held[which][element]
            if which in read:
                return read[which][element]
            image = kernel._image(parts[which])
            assert image is not None
            loaded = self.xs[image][self._first(kernel.inputs[image], at) + element]
            return dequantized(loaded, self.numbers, image)

        whole, parts = kernel._cut
        for first in range(0, kernel.chunk, kernel.lanes):
            emit.each_lane(
                kernel.lanes,
                lambda j, first=first: emit.store(  # type: ignore[misc]
                    value, formula(whole, lambda which: source(which, first + j)), first + j
                ),
            )
        self._store(value, self._first(kernel.out, at))

    def _first(self, layout: Layout, at: Expr) -> Expr:
        return self.kernel.runs.first(layout, self.place) + at

    def _found(self, at: Expr) -> dict[int, Buffer]:
        """Emit the parts that are looked up; return them by their number."""
        kernel, read = self.kernel, dict[int, Buffer]()
        for which, part in enumerate(kernel._cut[1]):
            image = kernel._image(part)
            if image is None:
                continue
            first = self._first(kernel.inputs[image], at)
            index = self.xs[image][emit.neighbours(first, byte_floats.SIZE)]
            table = len(read) * byte_floats.WORDS
            read[which] = byte_floats.looked_up(index, self.tables, table, kernel.target)
        return read

    def _store(self, value: Buffer, first: Expr) -> None:
        """Emit the store of a chunk."""
        kernel, vector = self.kernel, LaneTypes(self.kernel.lanes)
        starts = range(0, kernel.chunk, kernel.lanes)
        vectors = [value[vector.at(T.int32(start))] for start in starts]
        if kernel.kinds[-1] == FLOATS:
            for start, one in zip(starts, vectors, strict=True):
                emit.store(self.y, one, vector.at(first + start))
            return
        scale, zero, inverse = (self.numbers[2 * len(self.xs) + at] for at in range(3))
        steps = [quotient(one, (scale, inverse), vector, kernel.exact) for one in vectors]
        if kernel.by_tables:
            high = vector.all(T.float32(HIGH) - zero)
            whole = [nearest(T.min(step, high), kernel.target) for step in steps]
            packed = packed_quarters(whole, T.Cast("int32", zero), kernel.target)
            every = emit.neighbours(first, byte_floats.SIZE)
            emit.store(self.y, T.reinterpret(f"{BYTES}x{byte_floats.SIZE}", packed), every)
            return
        for start, step in zip(starts, steps, strict=True):
            stored = vector.cast(BYTES, vector.stored(step, zero))
            emit.store(self.y, stored, vector.at(first + start))


@dataclass(frozen=True)
class Lookup:
    """A function of a quantized tensor by its table."""

    nchw: Shape4
    inp: Layout
    out: Layout
    target: CpuTarget
    threads: int

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, table, y); behind the table's words comes the zero point."""
        runs, size = Runs(self.nchw, (self.inp, self.out), False), 4 * self.target.lanes
        function, short = emit.Function(name, vectors=True), runs.length < size
        with function.body():
            x = emit.argument("x", (runs.size(self.inp),), BYTES)
            table = emit.argument("table", (65,), "int32")
            y = emit.argument("y", (runs.size(self.out),), BYTES)
            parts = 1 if short else runs.parts(size)
            with emit.outer(runs.count * parts, self.threads) as job:
                place, every = runs.place(job // parts), emit.neighbours(0, size)
                start, goal = runs.first(self.inp, place), runs.first(self.out, place)

                def found(index: Expr) -> Expr:
                    index = T.reinterpret(f"int8x{size}", index)
                    result = looked_up(index, table, 0, self.target)
                    return T.reinterpret(f"{BYTES}x{size}", result)

                def chunk(at: Expr) -> None:
                    value = found(x[emit.neighbours(start + at, size)])
                    emit.store(y, value, emit.neighbours(goal + at, size))

                if short:
                    room, count = emit.registers((size,), BYTES), runs.length
                    emit.store(room, T.Broadcast(T.uint8(0), size), every)
                    for at in range(count):
                        emit.store(room, x[start + at], at)
                    emit.store(room, found(room[every]), every)
                    for at in range(count):
                        emit.store(y, room[at], goal + at)
                else:
                    runs.chunks(size, job % parts, chunk)
                fill = T.Cast(BYTES, table[64])
                runs.fill_halo(y, self.out, place, fill, self.target.lanes)
        return function.result

    @staticmethod
    def constants(table: ByteTable) -> list[AnyArray]:
        """Return the argument that follows the input."""
        return [np.append(table.words(), np.int32(table.scale.zero)).astype(np.int32)]
