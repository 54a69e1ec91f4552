"""The last store in int8: from int32 sums to uint8, as ONNX Runtime rounds them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.lookup import looked_up
from dlas.kernels.ground import quantization as places
from dlas.kernels.ground.target import CpuTarget

SIXTEEN = 16
"""Numbers of 32 bits in a vector of AVX-512."""
_QUARTERS = 4
"""Parts of a vector in which instructions pack and unpack."""
_TRANSPOSED = [
    16 * q + 4 * row + i for q in range(_QUARTERS) for i in range(4) for row in range(4)
]
"""Four times four bytes of each quarter, transposed."""


def number(parameters: Buffer, place: int) -> Expr:
    """Return one of `Quantization.parameters` that is a float."""
    return T.reinterpret("float32", parameters[place])


def nearest(value: Expr, target: CpuTarget) -> Expr:
    """Return float32 vectors rounded to the nearest int32, halves to even."""
    lanes = target.lanes
    if target.machine != "x86_64":
        return T.Cast(f"int32x{lanes}", T.nearbyint(value))
    if lanes == 16:
        zero = T.Broadcast(T.int32(0), lanes)
        # 4: round as the control register says, which is to the nearest.
        rest = (value, zero, T.int16(-1), T.int32(4))
        return T.call_llvm_pure_intrin(
            f"int32x{lanes}", "llvm.x86.avx512.mask.cvtps2dq.512", *rest
        )
    return T.call_llvm_pure_intrin(f"int32x{lanes}", "llvm.x86.avx.cvt.ps2dq.256", value)


def bounded(value: Expr, low: Expr, high: Expr, lanes: int) -> Expr:
    """Return a vector held between two numbers."""
    return T.max(T.min(value, T.Broadcast(high, lanes)), T.Broadcast(low, lanes))


def multiply_add(a: Expr, b: Expr, c: Expr, lanes: int) -> Expr:
    """Return a * b + c of float32 vectors, rounded once."""
    return T.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.fma", a, b, c)


def quantized(total: Expr, factor: Expr, parameters: Buffer, target: CpuTarget) -> Expr:
    """Return int32 sums as numbers from 0 to 255 in int32.

    Args:
        total: the sums.
        factor: what they are multiplied by, in float32.
        parameters: `Quantization.parameters`.
        target: the CPU.
    """
    lanes = target.lanes
    scaled = T.Cast(f"float32x{lanes}", total) * factor
    bounds = (number(parameters, places.BOUND_LOW), number(parameters, places.BOUND_HIGH))
    rounded = nearest(bounded(scaled, *bounds, lanes), target)
    # Added as an int32: a float would be rounded together with the product.
    return rounded + T.Broadcast(parameters[places.ZERO], lanes)


def added(a: Expr, b: Expr, parameters: Buffer, lanes: int) -> Expr:
    """Return the unrounded sum of two quantized tensors, both from 0 to 255 in int32."""
    p, q, offset = (
        T.Broadcast(number(parameters, place), lanes)
        for place in (places.FIRST, places.SECOND, places.OFFSET)
    )
    a, b = (T.Cast(f"float32x{lanes}", term) for term in (a, b))
    return multiply_add(a, p, multiply_add(b, q, offset, lanes), lanes)


def summed(a: Expr, b: Expr, parameters: Buffer, target: CpuTarget) -> Expr:
    """Return the sum of two quantized tensors, both and the result from 0 to 255 in int32."""
    lanes = target.lanes
    total = added(a, b, parameters, lanes)
    bounds = (number(parameters, places.SUM_LOW), number(parameters, places.SUM_HIGH))
    return nearest(bounded(total, *bounds, lanes), target)


def packs(target: CpuTarget) -> bool:
    """Whether a CPU packs four vectors of sums into one of bytes (`StoreScales.four`)."""
    return target.machine == "x86_64"


def spreads(target: CpuTarget) -> bool:
    """Whether a CPU's vectors hold what `spread` gives: four quarters of sixteen bytes."""
    return packs(target) and target.lanes == SIXTEEN


def picked(vectors: Sequence[Expr], places: Sequence[int]) -> Expr:
    """Return elements of vectors, counted through all of them, as one vector."""
    return tirx.Shuffle([*vectors], [T.int32(place) for place in places])


def part(value: Expr, first: int, count: int) -> Expr:
    """Return some neighbouring elements of a vector."""
    return picked([value], range(first, first + count))


def unpacked(a: Expr, b: Expr, high: bool) -> Expr:
    """Return the lower or upper halves of each quarter of two vectors, elements in turn."""
    count = a.ty.dtype.lanes
    half = count // _QUARTERS // 2
    first = [2 * quarter * half + high * half for quarter in range(_QUARTERS)]
    return picked((a, b), [at + i + v for at in first for i in range(half) for v in (0, count)])


def spread(value: Expr) -> list[Expr]:
    """Return 64 bytes as four vectors of int32: of each quarter's the first four, the next, ..."""
    zero = T.Broadcast(T.uint8(0), 4 * SIXTEEN)
    found = []
    for upper in (False, True):
        words = T.reinterpret("int16x32", unpacked(value, zero, upper))
        for high in (False, True):
            four = unpacked(words, T.Broadcast(T.int16(0), 2 * SIXTEEN), high)
            found.append(T.reinterpret("int32x16", four))
    return found


def packed_quarters(values: Sequence[Expr], zero: Expr, target: CpuTarget) -> Expr:
    """Return four vectors of int32, plus a number (int32; None: nothing), saturated to bytes.

    Each 16 bytes of the result hold four numbers of the first vector, then four of the second,
    ...: those which that part of a vector holds. Above 32767 and below -32768 numbers saturate
    before the sum.
    """
    call, lanes = T.call_llvm_pure_intrin, target.lanes
    kind, (pairs, bytes_) = f"int16x{2 * lanes}", _PACK[lanes]
    words = []
    for pair in (values[:2], values[2:]):
        word = call(kind, pairs, *pair)
        if zero is not None:
            every = T.Broadcast(T.Cast("int16", zero), 2 * lanes)
            word = call(kind, "llvm.sadd.sat", word, every)
        words.append(word)
    return call(f"int8x{4 * lanes}", bytes_, *words)


_PACK = {
    16: ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"),
    8: ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb"),
}
"""By lanes: what packs vectors of int32 to int16, and those to bytes."""
_MOVE = {16: "llvm.x86.avx512.permvar.si.512", 8: "llvm.x86.avx2.permd"}
"""By lanes: what brings words of 32 bits into another order."""


def _packed(
    values: Sequence[Expr], zero: Expr, low: Expr, spread: bool, target: CpuTarget
) -> Expr:
    """Return four vectors of int32, plus a number, as uint8 above a bound.

    They come behind each other; or a quarter of each, then the next quarters, if they are `spread`
    as that function does it. What is outside of uint8 saturates (see `packed_quarters`).
    """
    call, lanes = T.call_llvm_pure_intrin, target.lanes
    kind, parts = f"int32x{lanes}", lanes // 4
    joined = packed_quarters(values, zero, target)
    if spread:
        joined = T.reinterpret(f"uint8x{4 * lanes}", joined)
        return T.max(joined, T.Broadcast(T.Cast("uint8", low), 4 * lanes))
    joined = T.reinterpret(kind, joined)
    every = T.Ramp(T.int32(0), 1, lanes)
    inside, shift = (T.Broadcast(T.int32(n), lanes) for n in (parts - 1, parts.bit_length() - 1))
    order = T.bitwise_or(
        T.shift_left(T.bitwise_and(every, inside), T.Broadcast(T.int32(2), lanes)),
        T.shift_right(every, shift),
    )
    moved = T.reinterpret(f"uint8x{4 * lanes}", call(kind, _MOVE[lanes], joined, order))
    return T.max(moved, T.Broadcast(T.Cast("uint8", low), 4 * lanes))


class StoreScales(NamedTuple):
    """The arguments of an int8 kernel's last store, in TIR."""

    factors: Buffer
    """What each output channel's sum is multiplied by."""
    parameters: Buffer
    table: Buffer | None = None
    """The parameters with a table behind them, in which what is stored is looked up."""

    def held(self) -> "StoreScales":
        """Emit a copy of the parameters; return what reads it.

        What is stored might change the parameters themselves, for all that LLVM knows, so that
        they were read again for each store.
        """
        copy = emit.registers((places.PARAMETERS,), "int32")
        for place in range(places.PARAMETERS):
            emit.store(copy, self.parameters[place], place)
        return self._replace(parameters=copy)

    def store(
        self, total: Expr, channel: Expr, other: Expr, other_first: bool, target: CpuTarget
    ) -> Expr:
        """Return what is stored for a vector of sums, from 0 to 255 in int32.

        Args:
            total: the sums.
            channel: their output channels, or the one of all lanes.
            other: a vector of uint8 that is added to the quantized output; None: nothing is.
            other_first: whether that is the first operand of the sum.
            target: the CPU.
        """
        lanes = target.lanes
        value = self._rounded(total, channel, other, other_first, target)
        if self.table is None:
            return value
        found = self._looked_up(value, target)
        # Three of four bytes were no numbers of their own.
        low = T.Broadcast(T.int32(places.HIGH), lanes)
        return T.bitwise_and(T.reinterpret(f"int32x{lanes}", found), low)

    def _rounded(
        self, total: Expr, channel: Expr, other: Expr, other_first: bool, target: CpuTarget
    ) -> Expr:
        """Return what is stored where there is no table (see `store`)."""
        lanes = target.lanes
        value = quantized(total, self._factor(channel, lanes), self.parameters, target)
        if other is None:
            return value
        added = T.Cast(f"int32x{lanes}", other)
        first, second = (added, value) if other_first else (value, added)
        return summed(first, second, self.parameters, target)

    def _factor(self, channel: Expr, lanes: int) -> Expr:
        """Return what a vector of sums is multiplied by."""
        factor = self.factors[channel]
        return T.Broadcast(factor, lanes) if factor.ty.dtype.lanes == 1 else factor

    def _looked_up(self, stored: Expr, target: CpuTarget) -> Expr:
        """Return what the table holds for each byte of a vector, of whatever elements."""
        index = T.reinterpret(f"int8x{4 * target.lanes}", stored)
        return looked_up(index, self.table, places.TABLE, target)

    def four(
        self,
        totals: Sequence[Expr],
        channels: Sequence[Expr],
        others: Sequence[Expr],
        other_first: bool,
        target: CpuTarget,
        spread: bool = False,
    ) -> Expr:
        """Return what is stored for four vectors of sums, as uint8.

        The upper bound is one of floats, so that all fit into an int32; the lower one is one of
        bytes, and between both numbers saturate.

        Args:
            totals: the sums.
            channels: the output channels of each, or the one of all its lanes.
            others: vectors of uint8 that are added to the quantized outputs, or none.
            other_first: whether these are the first operands of the sums.
            target: the CPU.
            spread: whether the sums are those of channels that were `spread`.
        """
        lanes, parameters = target.lanes, self.parameters
        factors = [self._factor(channel, lanes) for channel in channels]
        if not others:
            high = T.Broadcast(number(parameters, places.BOUND_HIGH), lanes)
            both = zip(totals, factors, strict=True)
            scaled = (T.Cast(f"float32x{lanes}", total) * factor for total, factor in both)
            rounded = [nearest(T.min(value, high), target) for value in scaled]
            zero = parameters[places.ZERO]
            low = T.Cast("int32", number(parameters, places.BOUND_LOW)) + zero
            return self._four(_packed(rounded, zero, low, spread, target), target)
        high = T.Broadcast(number(parameters, places.SUM_HIGH), lanes)
        rounded = []
        for total, factor, other in zip(totals, factors, others, strict=True):
            value = quantized(total, factor, parameters, target)
            terms = (other if spread else T.Cast(f"int32x{lanes}", other), value)
            total = added(*(terms if other_first else terms[::-1]), parameters, lanes)
            rounded.append(nearest(T.min(total, high), target))
        low = T.Cast("int32", number(parameters, places.SUM_LOW))
        return self._four(_packed(rounded, None, low, spread, target), target)

    def _four(self, packed: Expr, target: CpuTarget) -> Expr:
        """Return what is stored for bytes that are packed."""
        if self.table is None:
            return packed
        return T.reinterpret(f"uint8x{4 * target.lanes}", self._looked_up(packed, target))

    def joined(
        self,
        totals: Sequence[Expr],
        channel: Expr,
        other: Expr,
        other_first: bool,
        target: CpuTarget,
    ) -> Expr:
        """Return four neighbouring channels of a vector of pixels, joined: an int32 a pixel.

        Args:
            totals: the sums of each.
            channel: the first of them.
            other: what is added, joined in the same way; None: nothing is.
            other_first: whether that is the first operand of the sum.
            target: the CPU.
        """
        lanes, value = target.lanes, None
        if other is None and spreads(target):
            channels = [channel + byte for byte in range(len(totals))]
            found = self.four(totals, channels, [], other_first, target, spread=True)
            return T.reinterpret(f"int32x{lanes}", picked([found], _TRANSPOSED))
        for byte, total in enumerate(totals):
            by = T.Broadcast(T.int32(8 * byte), lanes)
            added = None
            if other is not None:
                added = T.bitwise_and(T.shift_right(other, by), T.Broadcast(T.int32(255), lanes))
            one = self._rounded(total, channel + byte, added, other_first, target)
            one = one if byte == 0 else T.shift_left(one, by)
            value = one if value is None else T.bitwise_or(value, one)
        if self.table is None:
            return value
        return T.reinterpret(f"int32x{lanes}", self._looked_up(value, target))

    @property
    def outside(self) -> Expr:
        """Four channels of a pixel that lies outside the input."""
        return self.parameters[places.OUTSIDE]


def arguments(channels: int, epilogue: Epilogue, quantized: bool) -> StoreScales | None:
    """Declare the next two arguments of an int8 kernel: factors of the channels, and parameters.

    Args:
        channels: how many factors there are.
        epilogue: whether a table follows the parameters.
        quantized: whether sums are requantized; else there are no such arguments.
    """
    if not quantized:
        return None
    table = places.TABLE + places.TABLE_BYTES // 4
    size = table if epilogue.table else places.PARAMETERS
    factors = emit.argument("factors", (channels,))
    parameters = emit.argument("parameters", (size,), "int32")
    return StoreScales(factors, parameters, parameters if epilogue.table else None)


def fill(scales: StoreScales | None) -> Expr:
    """Return what the halo of an output holds: its zero point; None without scales."""
    return None if scales is None else T.Cast("uint8", scales.parameters[places.FILL])


def room_for(count: int, lanes: int, dtype: str = "uint8") -> Buffer:
    """Reserve what `get` needs for a vector that is not whole; None: nothing.

    Where they are inside of a condition this stands before it: reserved inside, it makes a pass of
    TVM 0.27 end the process (`hint_map`).
    """
    return None if count == lanes else emit.registers((lanes,), dtype)


def get(load: Callable[[Expr], Expr], count: int, lanes: int, room: Buffer) -> Expr:
    """Return a vector of which only the first `count` may be read."""
    if count == lanes:
        return load(T.Ramp(T.int32(0), 1, lanes))
    for first, size in _pieces(count):
        lane = first if size == 1 else T.Ramp(T.int32(first), 1, size)
        emit.store(room, load(lane), lane)
    return room[T.Ramp(T.int32(0), 1, lanes)]


def _pieces(count: int) -> list[tuple[int, int]]:
    """Return what a vector's first elements consist of: powers of two, first and size of each."""
    sizes = [1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]
    return [(sum(sizes[:at]), size) for at, size in enumerate(sizes)]


def put(
    store: Callable[[Expr, Expr], None],
    value: Expr,
    count: int,
    lanes: int,
    dtype: str = "uint8",
) -> None:
    """Emit the store of the first `count` of a vector of int32 as `dtype`, by value and lane."""
    narrow = value if dtype == "int32" else T.Cast(f"{dtype}x{lanes}", value)
    if count == lanes:
        store(narrow, T.Ramp(T.int32(0), 1, lanes))
        return
    for first, size in _pieces(count):
        store(part(narrow, first, size), first if size == 1 else T.Ramp(T.int32(first), 1, size))
