"""Images stored in bfloat16: its bits, 16 of them, which are widened when read.

On CPUs that round to bfloat16 in one instruction (see `bfloat16_pairs`). Everywhere else images
are float32, whatever filters are stored in.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import bfloat16_pairs, emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import let
from dlas.kernels.ground.half_floats import STORED
from dlas.kernels.ground.target import CpuTarget

BITS = STORED["bfloat16"]
"""The type of the elements of such an image."""
_LANES = 16


class Images(NamedTuple):
    """In what the images of a kernel are stored."""

    x: str = "float32"
    y: str = "float32"
    other: str = "float32"
    """What is added before the activation."""

    @property
    def narrow(self) -> bool:
        """Whether any is stored in bfloat16."""
        return BITS in self

    def or_bytes(self, quantized: bool) -> "Images":
        """Return these, or those of a kernel in int8."""
        return Images(*["uint8"] * 3) if quantized else self


WIDE = Images()


def possible(target: CpuTarget) -> bool:
    """Whether images are stored so on a CPU."""
    return target.lanes == _LANES and bfloat16_pairs.instruction(target) is not None


def wide(value: Expr) -> Expr:
    """Return an element of an image as float32."""
    if str(value.ty.dtype) != BITS:
        return value
    return T.reinterpret("float32", T.shift_left(T.Cast("uint32", value), T.uint32(16)))


def narrow(value: Expr, buffer: Buffer) -> Expr:
    """Return a float32 as what an image holds, by integers: for what is stored once in a while."""
    if str(buffer.dtype) != BITS:
        return value

    def upper(number: Expr) -> Expr:
        bits = T.shift_right(bfloat16_pairs.rounded(number), T.int32(16))
        return T.Cast(BITS, bits)

    return let(value, upper)


@contextmanager
def rounding(target: CpuTarget, images: Images) -> Iterator[None]:
    """Open the part of a function, behind its arguments, that may call `put`."""
    if not images.narrow:
        yield
        return
    with bfloat16_pairs.words(target):
        yield


def put(
    y: Buffer, lanes: int, value: Callable[[Expr], Expr], at: Callable[[Expr], tuple[Expr, ...]]
) -> None:
    """Emit the store of a vector: of `value(lane)` at `at(lane)`, neighbours in memory."""
    if str(y.dtype) != BITS:
        emit.each_lane(lanes, lambda j: emit.store(y, value(j), *at(j)))
        return
    vector = emit.registers((lanes,))
    emit.each_lane(lanes, lambda j: emit.store(vector, value(j), j))
    every = T.Ramp(T.int32(0), 1, lanes)
    emit.store(
        y, T.reinterpret(f"{BITS}x{lanes}", bfloat16_pairs.halves(vector[every])), *at(every)
    )
