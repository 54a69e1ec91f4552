"""Functions of a byte as tables of 256 results, looked up for a whole vector of bytes at once.

Memory would be asked for each byte by itself. Here the table lies in registers, or is loaded by
whole vectors, and instructions that permute bytes find the results: of 128 bytes (`vpermi2b` of
AVX-512 VBMI), 64 (`tbl` of aarch64) or 16 (`vpshufb`); the higher bits of an index then choose
between what was found in the parts.
"""

from collections.abc import Callable, Sequence

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import let
from dlas.kernels.ground.target import CpuTarget

_ROW = 4
"""Words of 16 bytes, which instructions on each quarter of a vector permute."""
_SIXTEEN = 16


def permutes_bytes(target: CpuTarget) -> bool:
    """Whether a CPU permutes the bytes of two vectors of 64 in one instruction."""
    return target.lanes == _SIXTEEN and "avx512vbmi" in target.features


def looked_up(index: Expr, table: Buffer, first: Expr, target: CpuTarget) -> Expr:
    """Return the results for a vector of bytes, as int8.

    Args:
        index: the bytes, as int8, as many as a register of the CPU holds.
        table: words (int32) among which the table's 64 are.
        first: which of them is the table's first.
        target: the CPU.
    """
    find = _by_rows
    if permutes_bytes(target):
        find = _by_halves
    elif target.machine != "x86_64":
        find = _by_quarters
    return let(index, lambda once: find(once, table, first, target))


def _call(dtype: str, name: str, *arguments: Expr) -> Expr:
    return T.call_llvm_pure_intrin(dtype, name, *arguments)


def _vectors(table: Buffer, first: Expr, target: CpuTarget) -> list[Expr]:
    """Return the table as vectors of bytes."""
    lanes = target.lanes
    kind = f"int8x{4 * lanes}"
    words = range(0, 64, lanes)
    return [T.reinterpret(kind, table[emit.neighbours(first + at, lanes)]) for at in words]


def _by_halves(index: Expr, table: Buffer, first: Expr, target: CpuTarget) -> Expr:
    """Look up by `vpermi2b`: the lower seven bits in each half, the highest one chooses."""
    name, kind = "llvm.x86.avx512.vpermi2var.qi.512", "int8x64"
    a, b, c, d = _vectors(table, first, target)
    low, high = _call(kind, name, a, index, b), _call(kind, name, c, index, d)
    return T.Select(index < T.Broadcast(T.int8(0), 64), high, low)


def _by_quarters(index: Expr, table: Buffer, first: Expr, target: CpuTarget) -> Expr:
    """Look up by `tbl`, then by `tbx`, which leaves what an index outside of its 64 has found."""
    found, parts = None, _vectors(table, first, target)
    for quarter in range(4):
        held = parts[4 * quarter : 4 * quarter + 4]
        if found is None:
            found = _call("int8x16", "llvm.aarch64.neon.tbl4.v16i8", *held, index)
            continue
        less = index - T.Broadcast(T.int8(64 * quarter - 256 * (quarter > 1)), 16)
        found = _call("int8x16", "llvm.aarch64.neon.tbx4.v16i8", found, *held, less)
    return found


def _by_rows(index: Expr, table: Buffer, first: Expr, target: CpuTarget) -> Expr:
    """Look up by `vpshufb`: the lower four bits in each row of 16, the others choose."""
    count = 4 * target.lanes
    wide = "llvm.x86.avx512.pshuf.b.512" if target.lanes == _SIXTEEN else "llvm.x86.avx2.pshuf.b"
    kind, places = f"int8x{count}", [at % _ROW for at in range(target.lanes)]
    low = T.bitwise_and(index, T.Broadcast(T.int8(15), count))

    def row(number: int) -> Expr:
        words = table[emit.neighbours(first + _ROW * number, _ROW)]
        every = T.reinterpret(kind, emit.picked([words], places))
        return _call(kind, wide, every, low)

    return _chosen([row(number) for number in range(_SIXTEEN)], _bits(index, count))


def _bits(index: Expr, count: int) -> Sequence[Callable[[], Expr]]:
    """Return what asks for the fifth bit of each byte, the sixth, ..."""

    def asked(bit: int) -> Callable[[], Expr]:
        mask = T.Broadcast(T.int8(bit if bit < 128 else bit - 256), count)
        return lambda: T.NE(T.bitwise_and(index, mask), T.Broadcast(T.int8(0), count))

    return [asked(1 << bit) for bit in range(4, 8)]


def _chosen(found: list[Expr], bits: Sequence[Callable[[], Expr]]) -> Expr:
    """Return, of results in the order of their bits, those of which these are set."""
    for bit in bits:
        found = [T.Select(bit(), found[at + 1], found[at]) for at in range(0, len(found), 2)]
    (only,) = found
    return only
