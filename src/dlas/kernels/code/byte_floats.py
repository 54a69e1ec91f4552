"""Tables of floats looked up for a vector of 64 bytes: four tables of bytes, put together.

For CPUs with AVX-512 VBMI. Bytes are put together within quarters of vectors, where that is one
instruction: the four vectors of floats hold, each in its quarters, four neighbouring elements of
the quarters of the bytes. Packed to bytes again they come in order.
"""

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, lookup
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.ground.target import CpuTarget

SIZE = 64
"""Bytes of a vector, and the floats that they stand for."""
WORDS = 4 * 64
"""Words (int32) of a table."""
_LANES, _QUARTER = 16, 4


def order(at: int) -> int:
    """Return which element's float comes at a place of the four vectors."""
    vector, lane = divmod(at, _LANES)
    return _LANES * (lane // _QUARTER) + _QUARTER * vector + lane % _QUARTER


def words(table: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Return a table of 256 floats as words: the lowest bytes of all, the next ones, ..."""
    bits = table.astype(np.float32).view(np.uint32)
    planes = [(bits >> 8 * at & 255).astype(np.uint8) for at in range(4)]
    return np.concatenate(planes).view(np.int32)


def looked_up(index: Expr, tables: Buffer, first: int, target: CpuTarget) -> Buffer:
    """Emit the look-up of 64 bytes; return the floats, in their `order`.

    Args:
        index: the bytes.
        tables: words.
        first: which of them is the table's first.
        target: the CPU.
    """
    planes = emit.registers((4 * SIZE,), "int8")
    index = T.reinterpret(f"int8x{SIZE}", index)
    for plane in range(4):
        found = lookup.looked_up(index, tables, first + plane * WORDS // 4, target)
        emit.store(planes, found, emit.neighbours(plane * SIZE, SIZE))
    halves = emit.registers((4 * SIZE // 2,), "int16")
    for pair in range(2):
        low, high = (planes[emit.neighbours((2 * pair + at) * SIZE, SIZE)] for at in range(2))
        for part in range(2):
            both = T.reinterpret(f"int16x{SIZE // 2}", _interleaved(low, high, SIZE, part))
            emit.store(halves, both, emit.neighbours((2 * pair + part) * SIZE // 2, SIZE // 2))
    floats, half = emit.registers((SIZE,)), SIZE // 2
    for part in range(2):
        low, high = (halves[emit.neighbours((2 * at + part) * half, half)] for at in range(2))
        for inner in range(2):
            both = T.reinterpret(f"float32x{_LANES}", _interleaved(low, high, half, inner))
            emit.store(floats, both, emit.neighbours((2 * part + inner) * _LANES, _LANES))
    return floats


def _interleaved(low: Expr, high: Expr, count: int, part: int) -> Expr:
    """Return two vectors' numbers in turn, of one half of each quarter."""
    places: list[int] = []
    each = count // 4
    for quarter in range(4):
        first = quarter * each + part * each // 2
        places += [first + at // 2 + count * (at % 2) for at in range(each)]
    return emit.picked([low, high], places)
