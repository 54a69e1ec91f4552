"""Pairs of bfloat16: two products added to a float32 in each lane, and images made of pairs.

A pair is two neighbouring input channels in an int32. Instructions multiply both and add the
products to a float32 sum: `vdpbf16ps` on x86-64, `bfdot` on aarch64. TVM 0.27 takes bfloat16 apart
wherever it meets it, so that the instruction is told in LLVM's own words, as a function that is
inlined. (So are conversions of whole vectors; single numbers, and vectors of neighbouring pixels,
are rounded by integer arithmetic.)

Images are float32 between operators: a kernel begins by rounding its input, once for all filters.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.ground.layout import Layout, Shape4
from dlas.kernels.ground.target import CpuTarget

PAIR = 2
_NAME, _ROUND = "dlas_pair_dot", "dlas_pair_round"
_DOT = """
declare <{lanes} x float> @{name}(<{lanes} x float>, <{both} x bfloat>, <{both} x bfloat>)
define <{lanes} x float> @{own}(<{lanes} x float> %sum, <{lanes} x i32> %x, <{lanes} x i32> %w) {{
  %a = bitcast <{lanes} x i32> %x to <{both} x bfloat>
  %b = bitcast <{lanes} x i32> %w to <{both} x bfloat>
  %y = call <{lanes} x float> @{name}(<{lanes} x float> %sum, <{both} x bfloat> %a, <{both} x bfloat> %b)
  ret <{lanes} x float> %y
}}
"""  # noqa: E501
_ROUNDED = """
define <{lanes} x i16> @{own}(<{lanes} x float> %x) {{
  %half = fptrunc <{lanes} x float> %x to <{lanes} x bfloat>
  %y = bitcast <{lanes} x bfloat> %half to <{lanes} x i16>
  ret <{lanes} x i16> %y
}}
"""
_HALF, _QUIET, _UPPER = 0x7FFF, 1 << 22, -65536
"""What rounds up from above the middle, the bit of a NaN that is kept, the upper half's bits."""
_SIZE, _INFINITE = 0x7FFFFFFF, 0x7F800000
"""The bits without the sign, and those of infinity: above are those that are no numbers."""


def instruction(target: CpuTarget) -> str | None:
    """Return LLVM's name of the dot product; None: the CPU has none."""
    if target.machine == "x86_64":
        has = target.lanes == 16 and "avx512_bf16" in target.features
        return "llvm.x86.avx512bf16.dpbf16ps.512" if has else None
    return "llvm.aarch64.neon.bfdot.v4f32.v8bf16" if "bf16" in target.features else None


@contextmanager
def words(target: CpuTarget) -> Iterator[None]:
    """Open the part of a function, behind its arguments, that may call `dot` and `fill`.

    For a CPU with dot products alone: without instructions that round, LLVM would call a function
    of the compiler's own library.
    """
    lanes, name = target.lanes, instruction(target)
    text = _DOT.format(lanes=lanes, both=PAIR * lanes, name=name, own=_NAME)
    text += _ROUNDED.format(lanes=lanes, own=_ROUND)
    with T.attr(T.int32(0), "pragma_import_llvm", text):
        yield


def dot(target: CpuTarget, acc: Expr, x: Expr, w: Expr) -> Expr:
    """Return acc + the sum of two products, in each lane.

    Args:
        target: the CPU.
        acc: float32 in every lane.
        x: an int32 of two bfloat16, or one in every lane.
        w: the same.
    """
    lanes = target.lanes
    x, w = (v if v.ty.dtype.lanes == lanes else T.Broadcast(v, lanes) for v in (x, w))
    return T.call_extern(f"float32x{lanes}", _NAME, acc, x, w)


def rounded(value: Expr) -> Expr:
    """Return the bits of a float32, its upper half rounded to bfloat16, ties to even."""
    bits = T.reinterpret("int32", value)
    odd = T.bitwise_and(T.shift_right(bits, T.int32(16)), T.int32(1))
    none = T.bitwise_and(bits, T.int32(_SIZE)) > T.int32(_INFINITE)
    quiet = T.bitwise_or(bits, T.int32(_QUIET))
    return T.Select(none, quiet, bits + (odd + T.int32(_HALF)))


def _pair(first: Expr, second: Expr) -> Expr:
    """Return two numbers as a pair."""
    low = T.bitwise_and(T.shift_right(rounded(first), T.int32(16)), T.int32(0xFFFF))
    return T.bitwise_or(low, T.bitwise_and(rounded(second), T.int32(_UPPER)))


def _pairs(values: Expr) -> Expr:
    """Return a vector of numbers as one of pairs of neighbours."""
    lanes = values.ty.dtype.lanes
    return T.reinterpret(f"int32x{lanes // PAIR}", halves(values))


def halves(values: Expr) -> Expr:
    """Return a vector of numbers rounded to bfloat16, its bits as int16."""
    return T.call_extern(f"int16x{values.ty.dtype.lanes}", _ROUND, values)


def fill(x: Buffer, layout: Layout, goal: Buffer, nchw: Shape4, schedule: tuple[int, int]) -> None:
    """Emit an image's pairs.

    Args:
        x: the image in float32.
        layout: its layout; the pairs' block holds the channels of one of its blocks or of
            several (of single channels: of two, or of all).
        goal: the pairs.
        nchw: shape of the image.
        schedule: threads, and lanes of a vector.
    """
    n, c, _, _ = nchw
    threads, lanes = schedule
    _, blocks, high, wide, _ = layout.shape(nchw)
    if layout.block == 1:
        pairs = -(-c // PAIR)
        with emit.outer(n * pairs * high, threads) as job:
            row, p, image = job % high, job // high % pairs, job // (high * pairs)
            last = T.min(PAIR * p + 1, c - 1)

            def one(q: Expr) -> None:
                second = x[image, last, row, q, 0]
                if c % PAIR:
                    second = T.Select(PAIR * p + 1 < c, second, T.float32(0))
                value = _pair(x[image, PAIR * p, row, q, 0], second)
                to = (p, row, q, 0) if int(goal.shape[4]) == 1 else (0, row, q, p)
                emit.store(goal, value, image, *to)

            emit.each(wide, lanes, one)
        return
    goals, each = int(goal.shape[1]), int(goal.shape[4]) * PAIR // layout.block
    rows, half = n * goals * high, layout.block // PAIR
    alone = rows == blocks == 1
    with emit.outer(wide if alone else rows, threads) as job:
        if alone:
            _pixel(x, goal, (0, 0, 0, job), (0, 0), (layout.block, lanes))
            return
        row, to, image = job % high, job // high % goals, job // (high * goals)
        with T.serial(wide) as col:
            for part in range(each):
                at, place = (image, to * each + part, row, col), (to, part * half)
                if not (blocks % each and part >= blocks % each):
                    _pixel(x, goal, at, place, (layout.block, lanes))
                    continue
                with T.If(to < goals - 1):
                    with T.Then():
                        _pixel(x, goal, at, place, (layout.block, lanes))
                    with T.Else():
                        every = T.Ramp(T.int32(part * half), 1, half)
                        emit.store(goal, T.Broadcast(T.int32(0), half), image, to, row, col, every)


def _pixel(
    x: Buffer,
    goal: Buffer,
    at: tuple[Expr, Expr, Expr, Expr],
    to: tuple[Expr, Expr],
    size: tuple[int, int],
) -> None:
    """Emit the pairs of a pixel's block of channels.

    Args:
        x: the image.
        goal: the pairs.
        at: the pixel.
        to: block of the pairs, and the first of them in it.
        size: channels of the block, and lanes of a vector.
    """
    (n, _, row, col), (block, lanes) = at, size
    whole, half, there = block // lanes, lanes // PAIR, (n, to[0], row, col)
    if whole:
        with emit.repeat(whole) as step:
            values = x[(*at, T.Ramp(T.int32(0) + step * lanes, 1, lanes))]
            emit.store(goal, _pairs(values), *there, T.Ramp(to[1] + step * half, 1, half))
    for first in range(whole * lanes, block, PAIR):
        second = x[(*at, first + 1)] if first + 1 < block else T.float32(0)
        emit.store(goal, _pair(x[(*at, first)], second), *there, to[1] + first // PAIR)
