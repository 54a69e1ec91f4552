"""The last store in int8: from int32 sums to uint8, as ONNX Runtime rounds them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.lookup import looked_up
from dlas.kernels.ground import quantization as places
from dlas.kernels.ground.target import CpuTarget


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


def _packed(values: Sequence[Expr], zero: Expr, low: Expr, target: CpuTarget) -> Expr:
    """Return four vectors of int32 behind each other, plus a number, as uint8 above a bound.

    What is outside of uint8 saturates (see `packed_quarters`).
    """
    call, lanes = T.call_llvm_pure_intrin, target.lanes
    kind, parts = f"int32x{lanes}", lanes // 4
    joined = T.reinterpret(kind, packed_quarters(values, zero, target))
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
    table: bool = False
    """Whether a table follows the parameters, in which what is stored is looked up."""

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
        value = self._rounded(total, channel, other, other_first, target)
        if not self.table:
            return value
        found = self._looked_up(T.reinterpret(f"int8x{4 * target.lanes}", value), target)
        # Three of four bytes were no numbers of their own.
        low = T.Broadcast(T.int32(places.HIGH), target.lanes)
        return T.bitwise_and(T.reinterpret(f"int32x{target.lanes}", found), low)

    def _rounded(
        self, total: Expr, channel: Expr, other: Expr, other_first: bool, target: CpuTarget
    ) -> Expr:
        """Return what is stored where there is no table (see `store`)."""
        factor, lanes = self.factors[channel], target.lanes
        if factor.ty.dtype.lanes == 1:
            factor = T.Broadcast(factor, lanes)
        value = quantized(total, factor, self.parameters, target)
        if other is None:
            return value
        added = T.Cast(f"int32x{lanes}", other)
        first, second = (added, value) if other_first else (value, added)
        return summed(first, second, self.parameters, target)

    def _looked_up(self, index: Expr, target: CpuTarget) -> Expr:
        """Return what the table holds for each byte."""
        return looked_up(index, self.parameters, places.TABLE, target)

    def four(
        self,
        totals: Sequence[Expr],
        channel: Expr,
        others: Sequence[Expr],
        other_first: bool,
        target: CpuTarget,
    ) -> Expr:
        """Return what is stored for four vectors of sums of the same channels, as uint8.

        The upper bound is one of floats, so that all fit into an int32; the lower one is one of
        bytes, and between both numbers saturate.

        Args:
            totals: the sums.
            channel: their output channels.
            others: vectors of uint8 that are added to the quantized outputs, or none.
            other_first: whether these are the first operands of the sums.
            target: the CPU.
        """
        factor, lanes, parameters = self.factors[channel], target.lanes, self.parameters
        if not others:
            high = T.Broadcast(number(parameters, places.BOUND_HIGH), lanes)
            scaled = (T.Cast(f"float32x{lanes}", total) * factor for total in totals)
            rounded = [nearest(T.min(value, high), target) for value in scaled]
            zero = parameters[places.ZERO]
            low = T.Cast("int32", number(parameters, places.BOUND_LOW)) + zero
            return self._four(_packed(rounded, zero, low, target), target)
        high = T.Broadcast(number(parameters, places.SUM_HIGH), lanes)
        rounded = []
        for total, other in zip(totals, others, strict=True):
            value = quantized(total, factor, parameters, target)
            terms = (T.Cast(f"int32x{lanes}", other), value)
            both = added(*(terms if other_first else terms[::-1]), parameters, lanes)
            rounded.append(nearest(T.min(both, high), target))
        low = T.Cast("int32", number(parameters, places.SUM_LOW))
        return self._four(_packed(rounded, None, low, target), target)

    def _four(self, packed: Expr, target: CpuTarget) -> Expr:
        """Return what is stored for bytes that are packed."""
        if not self.table:
            return packed
        kind = f"x{4 * target.lanes}"
        found = self._looked_up(T.reinterpret(f"int8{kind}", packed), target)
        return T.reinterpret(f"uint8{kind}", found)

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
        for byte, total in enumerate(totals):
            by = T.Broadcast(T.int32(8 * byte), lanes)
            added = None
            if other is not None:
                added = T.bitwise_and(T.shift_right(other, by), T.Broadcast(T.int32(255), lanes))
            one = self._rounded(total, channel + byte, added, other_first, target)
            one = one if byte == 0 else T.shift_left(one, by)
            value = one if value is None else T.bitwise_or(value, one)
        if not self.table:
            return value
        found = self._looked_up(T.reinterpret(f"int8x{4 * lanes}", value), target)
        return T.reinterpret(f"int32x{lanes}", found)

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
    return StoreScales(
        emit.argument("factors", (channels,)),
        emit.argument("parameters", (size,), "int32"),
        epilogue.table,
    )


def fill(scales: StoreScales | None) -> Expr:
    """Return what the halo of an output holds: its zero point; None without scales."""
    return None if scales is None else T.Cast("uint8", scales.parameters[places.FILL])


def room_for(count: int, lanes: int, dtype: str = "uint8") -> Buffer:
    """Reserve what `get` and `put` need for a vector that is not whole; None: nothing.

    Where they are inside of a condition this stands before it: reserved inside, it makes a pass of
    TVM 0.27 end the process (`hint_map`).
    """
    return None if count == lanes else emit.registers((lanes,), dtype)


def get(load: Callable[[Expr], Expr], count: int, lanes: int, room: Buffer) -> Expr:
    """Return a vector of which only the first `count` may be read."""
    if count == lanes:
        return load(T.Ramp(T.int32(0), 1, lanes))
    for lane in range(count):
        emit.store(room, load(lane), lane)
    return room[T.Ramp(T.int32(0), 1, lanes)]


def put(
    store: Callable[[Expr, Expr], None],
    value: Expr,
    count: int,
    lanes: int,
    room: Buffer,
    dtype: str = "uint8",
) -> None:
    """Emit the store of the first `count` of a vector of int32 as `dtype`, by value and lane."""
    every = T.Ramp(T.int32(0), 1, lanes)
    narrow = value if dtype == "int32" else T.Cast(f"{dtype}x{lanes}", value)
    if count == lanes:
        store(narrow, every)
        return
    emit.store(room, narrow, every)
    for lane in range(count):
        store(room[lane], lane)
