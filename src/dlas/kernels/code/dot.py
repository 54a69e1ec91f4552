"""Four products of uint8 and int8 added to an int32, in each lane, by what the CPU has for it.

VNNI and aarch64's i8mm have an instruction for it. Dot products of signed bytes (aarch64's
dotprod) take activations less 128, for which the caller corrects the sums (`taken`). Elsewhere
bytes are widened to 16 bits and multiplied in pairs: `pmaddubsw`, which multiplies bytes,
saturates its sums of two.
"""

from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code.emit import Expr
from dlas.kernels.ground.target import CpuTarget

BYTES = 4
KNOWN = ("pmaddwd", "mul")
"""Of what multiplies (`instruction`), what consists of operations that LLVM takes apart."""
_LOW_BYTES = 0x00FF00FF
_SIGNS = -0x7F7F7F80
"""The highest bit of each byte, 0x80808080, as an int32."""


def instruction(target: CpuTarget) -> str:
    """Return what multiplies: `vnni`, `i8mm`, `dotprod`, `pmaddwd`, or `mul` (one by one)."""
    features = target.features
    if target.machine == "x86_64":
        wide = target.lanes == 16
        has = "avx512_vnni" in features or (not wide and "avx_vnni" in features)
        return "vnni" if has else "pmaddwd"
    known = (("i8mm", "i8mm"), ("asimddp", "dotprod"))
    return next((name for flag, name in known if flag in features), "mul")


def taken(target: CpuTarget) -> int:
    """Return what `dot` takes from each activation before it multiplies."""
    return 128 if instruction(target) == "dotprod" else 0


def dot(target: CpuTarget, acc: Expr, x: Expr, w: Expr) -> Expr:
    """Return acc + the sum of four products, in each lane.

    Args:
        target: the CPU.
        acc: int32 in every lane.
        x: an int32 of four uint8, or one in every lane.
        w: the same of int8.
    """
    lanes = target.lanes
    x, w = (_broadcast(value, lanes) for value in (x, w))
    kind = instruction(target)
    if kind == "mul":
        return _one_by_one(acc, x, w, lanes)
    if kind == "pmaddwd":
        return _widened(acc, x, w, lanes)
    if kind == "vnni":
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        return _call(f"int32x{lanes}", name, acc, _bytes(x, lanes), _bytes(w, lanes))
    if kind == "i8mm":
        name = "llvm.aarch64.neon.usdot"
        return _call(f"int32x{lanes}", name, acc, _bytes(x, lanes), _bytes(w, lanes))
    signed = T.bitwise_xor(x, T.Broadcast(T.int32(_SIGNS), lanes))
    name = "llvm.aarch64.neon.sdot"
    return _call(f"int32x{lanes}", name, acc, _bytes(signed, lanes), _bytes(w, lanes))


def _call(dtype: str, name: str, *arguments: Any) -> Expr:
    return T.call_llvm_pure_intrin(dtype, name, *arguments)


def _broadcast(value: Expr, lanes: int) -> Expr:
    return value if value.ty.dtype.lanes == lanes else T.Broadcast(value, lanes)


def _bytes(value: Expr, lanes: int) -> Expr:
    return T.reinterpret(f"int8x{BYTES * lanes}", value)


def _widened(acc: Expr, x: Expr, w: Expr, lanes: int) -> Expr:
    """Multiply even and odd bytes apart, as 16-bit numbers: no sum of two can overflow."""
    half = f"int16x{2 * lanes}"
    name = "llvm.x86.avx512.pmaddw.d.512" if lanes == 16 else "llvm.x86.avx2.pmadd.wd"
    mask, eight = T.Broadcast(T.int32(_LOW_BYTES), lanes), T.Broadcast(T.int32(8), lanes)
    eight16 = T.Broadcast(T.int16(8), 2 * lanes)
    shorts = T.reinterpret(half, w)
    pairs = (
        (T.bitwise_and(x, mask), T.shift_right(T.shift_left(shorts, eight16), eight16)),
        (T.bitwise_and(T.shift_right(x, eight), mask), T.shift_right(shorts, eight16)),
    )
    for part, filters in pairs:
        acc = acc + _call(f"int32x{lanes}", name, T.reinterpret(half, part), filters)
    return acc


def _one_by_one(acc: Expr, x: Expr, w: Expr, lanes: int) -> Expr:
    def shifted(value: Expr, by: int, left: bool) -> Expr:
        if by == 0:
            return value
        return (T.shift_left if left else T.shift_right)(value, T.Broadcast(T.int32(by), lanes))

    for byte in range(BYTES):
        u = T.bitwise_and(shifted(x, 8 * byte, left=False), T.Broadcast(T.int32(255), lanes))
        s = shifted(shifted(w, 24 - 8 * byte, left=True), 24, left=False)
        acc = acc + u * s
    return acc
