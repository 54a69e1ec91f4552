"""Types of numbers: what one step of a reduction multiplies, and how.

A kernel sees activations and filters as elements of one machine word each. In float32 an element
is one number. In int8 it is a *quad*: four neighbouring input channels, uint8 of the image or int8
of a filter, in one int32; a step multiplies the four pairs and adds the products to an int32 sum.
So a kernel in int8 is the kernel of a convolution with a quarter of the input channels.

Halves (bfloat16, float16) are how filters are *stored*: a kernel widens each vector of them when
it loads it and multiplies in float32. Where the CPU has dot products of bfloat16 an element is a
*pair* of channels instead, and the kernel rounds its input first (see `bfloat16_pairs`). Images
stay float32 between operators.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import amx, bfloat16_pairs, emit
from dlas.kernels.code.dot import dot
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.ground import half_floats
from dlas.kernels.ground.half_floats import STORED
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.ground.types import BYTES, FLOATS, HALVES, MULTIPLYING, KernelTypes


@dataclass(frozen=True)
class Numbers:
    """One type of numbers."""

    name: str
    element: str
    """Type in which a kernel reads activations."""
    filters: str
    """Type in which it reads filters."""
    sums: str
    stored: str
    """Type in which activations are stored."""
    group: int
    """Input channels of an element."""
    types: KernelTypes
    tiled: bool = False
    """Whether tiles of them are multiplied (see `amx`)."""
    taps: int = 0
    """Elements of a pixel, where a row of a tile holds a row of the filter's taps (images of few
    channels); 0: it holds channels of one pixel."""

    @property
    def quantized(self) -> bool:
        """Whether sums are requantized when they are stored."""
        return self.stored == "uint8"

    @property
    def halves(self) -> bool:
        """Whether filters are stored as floats of 16 bits."""
        return self.name in HALVES

    @property
    def widening(self) -> bool:
        """Whether filters are widened when they are loaded."""
        return self.halves and self.filters != self.element

    @property
    def paired(self) -> bool:
        """Whether two channels are multiplied in one step, as bfloat16."""
        return self.group == bfloat16_pairs.PAIR

    @property
    def passing(self) -> bool:
        """Whether sums of a pass over some channels are in float16 (see `half_sums`)."""
        return self.element == "float16"

    @property
    def written(self) -> str:
        """Type in which a kernel on plain elements writes."""
        return self.element if self.quantized else self.stored

    @property
    def outside(self) -> Expr:
        """What is around a staged image where there are no zero points; None: 0 in float32."""
        if self.passing:
            return T.float16(0)
        return T.int32(0) if self.paired else None

    @property
    def block(self) -> int:
        """Channels that lie side by side in an image of plain elements."""
        return self.group if self.quantized else 1

    def layout(self, layout: Layout) -> Layout:
        """Return a layout of blocks of channels as one of blocks of elements."""
        if self.taps:
            return replace(layout, block=self.taps)
        block = -(-layout.block // self.group)
        return replace(layout, block=max(block, amx.SIDE) if self.tiled else block)

    def reduced(self, op: Conv2d) -> Conv2d:
        """Return the convolution over elements: groups are merged until each has whole ones."""
        if self.group == 1:
            return op
        if op.groups == 1:
            return replace(op, in_channels=-(-op.in_channels // self.group))
        merged = self.merged(op)
        if op.groups // merged == 1:
            return replace(op, in_channels=-(-op.in_channels // self.group), groups=1)
        return replace(op, in_channels=op.in_channels // self.group, groups=op.groups // merged)

    def merged(self, op: Conv2d) -> int:
        """Return how many neighbouring groups become one, filters of the others zero there."""
        sides = (op.in_channels // op.groups, op.out_channels // op.groups)
        count = max(self.group // math.gcd(self.group, side) for side in sides)
        return count if op.groups % count == 0 else op.groups

    def argument(self, op: Conv2d, layout: Layout, stored: str = "float32") -> Buffer:
        """Declare the image, stored in a type (bytes where these are multiplied), as an argument.

        Bytes are read by fours, bfloat16 by twos where pairs are multiplied.
        """
        if self.quantized or (self.paired and stored != "float32"):
            given = replace(self, tiled=False, taps=0)
            return emit.argument("x", given._shape(op, layout), self.element)
        return emit.argument("x", layout.shape(op.in_shape), stored)

    def _shape(self, op: Conv2d, layout: Layout) -> tuple[int, ...]:
        n, blocks, high, wide, block = self.layout(layout).shape(self.reduced(op).in_shape)
        behind = amx.rows_behind(wide * block) if self.taps else 0
        return n, blocks, high + behind, wide, block

    def why_not(self, target: CpuTarget) -> str | None:
        """Return why a CPU cannot multiply them, None if it can."""
        can = True
        if self.tiled:
            can = amx.multiplies(target, self.name)
        elif self.paired:
            can = bfloat16_pairs.instruction(target) is not None
        elif self.passing:
            can = not MULTIPLYING["float16"].isdisjoint(target.features)
        return None if can else f"{target.name} has no instruction that multiplies {self.name}"

    def instructions(self, target: CpuTarget) -> AbstractContextManager[None]:
        """Open the part of a function, behind its arguments, that multiplies."""
        return bfloat16_pairs.words(target) if self.paired else nullcontext()

    @contextmanager
    def image(
        self, x: Buffer, op: Conv2d, layout: Layout, target: CpuTarget, threads: int
    ) -> Iterator[Buffer]:
        """Open the part of a function, behind its arguments, that reads an image's elements."""
        if not (self.paired or self.passing or self.tiled):
            yield x
            return
        with self.instructions(target):
            rows = not self.tiled or layout.block % (amx.SIDE * self.group) == 0
            if rows and not self.taps and str(x.dtype) == self.element:
                yield x
                return
            made = T.alloc_buffer(self._shape(op, layout), self.element)
            if self.paired and str(x.dtype) != self.element:
                bfloat16_pairs.fill(x, layout, made, op.in_shape, (threads, target.lanes))
                if self.taps:  # nothing times zero must be a number
                    _clear_behind(made, layout.shape(op.in_shape)[2])
            else:
                _convert(x, made, (threads, target.lanes))
            yield made

    def elements(self, op: Conv2d, weight: AnyArray) -> AnyArray:
        """Return filters OIHW as those of `reduced(op)`: in int8 an int32 for four channels."""
        weight = self.stored_filters(weight)
        if self.group == 1:
            return weight
        merged = 1 if op.groups == 1 else self.merged(op)
        per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
        count = -(-merged * per_in // self.group) * self.group
        wide = np.zeros((op.out_channels, count, *op.kernel), weight.dtype)
        for turn in range(merged):
            rows = np.arange(op.out_channels) // per_out % merged == turn
            wide[rows, turn * per_in : (turn + 1) * per_in] = weight[rows]
        apart = wide.reshape(op.out_channels, -1, self.group, *op.kernel)
        last = np.ascontiguousarray(apart.transpose(0, 1, 3, 4, 2))
        return last.view(self.filters)[..., 0]

    def stored_filters(self, weight: AnyArray) -> AnyArray:
        """Return filters rounded to what is stored."""
        return half_floats.narrowed(weight, self.name) if self.halves else weight

    def rounded(self, weight: AnyArray) -> AnyArray:
        """Return filters with the values that are stored, in float32."""
        return (
            half_floats.widened(self.stored_filters(weight), self.name) if self.halves else weight
        )

    def wide(self, filters: Expr) -> Expr:
        """Return filters, as they were loaded, in the type in which they are multiplied."""
        if self.filters == STORED["float16"]:
            return T.Cast("float32", filters)
        if self.filters == STORED["bfloat16"]:  # the upper half of a float32
            return T.reinterpret("float32", T.shift_left(T.Cast("uint32", filters), T.uint32(16)))
        return filters

    def multiply_add(
        self,
        acc: Buffer,
        at: tuple[Expr, ...],
        target: CpuTarget,
        factors: tuple[Callable[[Expr], Expr], Callable[[Expr], Expr]],
        filters_first: bool = False,
    ) -> None:
        """Emit acc[at] += x * w for all lanes; one of the two may be the same in every lane.

        Args:
            acc: the sums, lanes last.
            at: which vector of them.
            target: the CPU.
            factors: activations and filters by lane.
            filters_first: in which order floats are multiplied.
        """
        x, w = factors
        lanes = target.lanes
        if self.group == 1:

            def filters(j: Expr) -> Expr:
                return self.wide(w(j))

            a, b = (filters, x) if filters_first else (x, filters)
            emit.each_lane(lanes, lambda j: emit.store(acc, acc[(*at, j)] + a(j) * b(j), *at, j))
            return
        j = T.Ramp(T.int32(0), 1, lanes)
        step: Callable[[CpuTarget, Expr, Expr, Expr], Expr] = (
            bfloat16_pairs.dot if self.paired else dot
        )
        emit.store(acc, step(target, acc[(*at, j)], x(j), w(j)), *at, j)


FLOAT32 = Numbers("float32", "float32", "float32", "float32", "float32", 1, FLOATS)
INT8 = Numbers("int8", "int32", "int32", "int32", "uint8", 4, BYTES)
WIDENED = {
    name: replace(FLOAT32, name=name, filters=STORED[name], types=FLOATS._replace(weight=name))
    for name in HALVES
}
"""Halves that are widened when they are loaded."""


PAIRS = replace(
    WIDENED["bfloat16"],
    element="int32",
    filters="int32",
    group=bfloat16_pairs.PAIR,
    types=KernelTypes("bfloat16", "bfloat16", "float32", "float32"),
)


TILES = replace(PAIRS, tiled=True)
INT8_TILES = replace(INT8, tiled=True)
FLOAT16 = replace(
    WIDENED["float16"],
    element="float16",
    types=KernelTypes("float16", "float16", "float32", "float32"),
)


MULTIPLIED = {numbers.types.multiplied: numbers for numbers in (FLOAT32, PAIRS, FLOAT16, INT8)}
"""The numbers in which each type is multiplied itself, on CPUs that can."""


def numbers_of(dtype: str, op: Conv2d, target: CpuTarget, passes: bool = False) -> Numbers:
    """Return the numbers in which a CPU multiplies what is stored in a type.

    Args:
        dtype: the type.
        op: the convolution. Groups are not cut into pairs: their channels may be odd.
        target: the CPU.
        passes: whether the kernel can sum in float16 for a while.
    """
    # Where there are tiles, dot products are slower than products of widened filters (a quarter of
    # float32's rate was measured): for what tiles do not suit, halves are storage.
    dots = PAIRS.why_not(target) is None and TILES.why_not(target) is not None
    if op.groups == 1 and dtype == "bfloat16" and dots:
        return PAIRS
    if op.groups == 1 and dtype == "float16" and passes and FLOAT16.why_not(target) is None:
        return FLOAT16
    return {"float32": FLOAT32, "int8": INT8, **WIDENED}[dtype]


def _clear_behind(made: Buffer, high: int) -> None:
    """Emit zeros into the rows behind images so many rows high."""
    outside, blocks, rows, wide, block = (int(extent) for extent in made.shape)
    behind = outside * blocks * (rows - high)
    with T.serial(behind) as at, T.serial(wide) as col, T.serial(block) as lane:
        image, row = at // (rows - high), at % (rows - high)
        where = (image // blocks, image % blocks, high + row)
        emit.store(made, T.int32(0), *where, col, lane)


def _convert(x: Buffer, made: Buffer, schedule: tuple[int, int]) -> None:
    """Emit the copy of an image in another type, or in blocks that hold several of its blocks."""
    outside, blocks, high, wide, block = (int(extent) for extent in x.shape)
    goals, (threads, lanes), each = int(made.shape[1]), schedule, int(made.shape[4]) // block
    kind, jobs = str(made.dtype), outside * goals * high
    alone = jobs == blocks == 1

    def pixel(n: Expr, b: Expr, row: Expr, col: Expr, lane: Expr, part: int = 0) -> None:
        value = x[n, b * each + part, row, col, lane]
        value = value if kind == str(x.dtype) else T.Cast(kind, value)
        emit.store(made, value, n, b, row, col, part * block + lane)

    def whole(at: tuple[Expr, Expr, Expr, Expr], part: int) -> None:
        emit.each(block, min(lanes, block), lambda lane: pixel(*at, lane, part))

    def none(at: tuple[Expr, Expr, Expr, Expr], part: int) -> None:
        zero = emit.constant(0, kind)
        emit.each(
            block,
            min(lanes, block),
            lambda lane: emit.store(made, zero, *at, part * block + lane),
        )

    with emit.outer(wide if alone else jobs, threads) as job:
        n, b, row = job // (high * goals), job // high % goals, job % high
        if alone:
            emit.each(block, lanes, lambda lane: pixel(0, 0, 0, job, lane))
        elif block == 1:
            emit.each(wide, lanes, lambda col: pixel(n, b, row, col, 0))
        else:
            with T.serial(wide) as col:
                for part in range(each):
                    if blocks % each and part >= blocks % each:  # the last goal is not full
                        with T.If(b < goals - 1):
                            with T.Then():
                                whole((n, b, row, col), part)
                            with T.Else():  # nothing times zero must be a number
                                none((n, b, row, col), part)
                    else:
                        whole((n, b, row, col), part)


def block_of(dtype: str) -> int:
    """Return the channels that lie side by side in an image of plain elements of a type."""
    return INT8.block if dtype == INT8.name else 1


def left_out(op: Conv2d, weight: AnyArray, dtype: str) -> float:
    """Return the share of a convolution's filters (OIHW) that CSR weights leave out: the zeros.

    In int8 those are fours of input channels that hold no number but zero. Fours between groups,
    which hold no filter, are none.
    """
    if dtype != INT8.name:
        return float(1 - np.count_nonzero(weight) / weight.size)
    there = np.count_nonzero(INT8.elements(op, np.ones_like(weight)))
    return float(1 - np.count_nonzero(INT8.elements(op, weight)) / there)
