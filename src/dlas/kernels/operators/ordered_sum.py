"""Sums of floats in the order in which ONNX Runtime's ReduceMean adds them.

Floats that are added in another order give another last digit, and a mean in the middle between
two steps is then rounded to the other one. ONNX Runtime leaves the sum of an image to Eigen: from
the first number whose address is a multiple of 16 bytes on it adds vectors of four, two of them in
turns, then those two, then their four numbers, then what lies before and behind. Tensors begin at
multiples of 64 bytes, so that the place of an image in its batch says where that number is.
"""

from collections.abc import Callable

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Expr
from dlas.kernels.operators.quantized import LaneTypes

_FOUR, _EIGHT = 4, 8


def ordered_sum(term: Callable[[Expr], Expr], count: int, images: Expr, vector: LaneTypes) -> Expr:
    """Emit the sums of images of so many numbers, one image a lane; return them.

    Args:
        term: the numbers of all lanes at a place.
        count: how many there are.
        images: which of a batch each lane's image is (channels counted through all of it).
        vector: the lanes.
    """
    begins = sorted({-image * count % _FOUR for image in range(_FOUR)})
    found = [(begin, _from(term, count, min(begin, count), vector)) for begin in begins]
    three = vector.all(T.int32(_FOUR - 1))
    begin = T.bitwise_and(vector.all(T.int32(0)) - images * vector.all(T.int32(count)), three)
    total = found[0][1]
    for number, other in found[1:]:
        total = T.Select(T.EQ(begin, vector.all(T.int32(number))), other, total)
    return total


def _from(term: Callable[[Expr], Expr], count: int, begin: int, vector: LaneTypes) -> Expr:
    """Emit the sums if that number is the one at `begin`."""
    fours, eights = ((count - begin) // size * size for size in (_FOUR, _EIGHT))
    sums = emit.registers((_EIGHT * vector.lanes,))

    def add(to: int, value: Expr) -> None:
        emit.store(sums, read(to) + value, place(to))

    def place(which: int) -> Expr:
        return vector.at(T.int32(which * vector.lanes))

    def read(which: int) -> Expr:
        return sums[place(which)]

    for each in range(_EIGHT):
        emit.store(sums, vector.all(T.float32(0)), place(each))
    if eights:
        with emit.repeat(eights // _EIGHT) as turn:
            for each in range(_EIGHT):
                add(each, term(begin + turn * _EIGHT + each))
    for each in range(_FOUR):
        add(each, read(each + _FOUR))
        if fours > eights:
            add(each, term(begin + eights + each))
    add(0, read(2))
    add(1, read(3))
    add(0, read(1))
    for at in (*range(begin), *range(begin + fours, count)):
        add(0, term(at))
    return read(0)
