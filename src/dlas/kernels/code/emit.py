"""The few words in which the kernels are written: functions, buffers, loops over vector lanes.

TVM's IR builder is used directly, not its script parser: the parser reads source files for each
function, which takes seconds a kernel once torch is loaded.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from dlas.kernels.ground.layout import Layout

Expr = Any
"""A TIR expression; TVM's Python classes carry no types."""
Buffer = Any
PrimFunc = Any

FETCHED_BYTES = 1 << 19
"""Constants this large are fetched ahead: in a network they come from beyond the caches."""
AHEAD_BYTES = 1 << 14
"""How far ahead constants are fetched that are read once, from first to last."""
_VECTORS = "explicit_vectors"
_READ, _SECOND_LEVEL, _DATA = 0, 2, 1
_LINE = 64
"""Bytes of a cache line."""


class Function:
    """A PrimFunc under construction; `result` holds it once the `with` block is left.

    Args:
        name: its name.
        vectors: whether its code indexes by explicit vectors (see `has_vectors`).
    """

    def __init__(self, name: str, vectors: bool = False) -> None:
        self.name, self.vectors = name, vectors
        self.result: PrimFunc = None

    @contextmanager
    def body(self) -> Iterator[None]:
        """Open the function: arguments and statements are made inside.

        `tirx.noalias` promises that arguments do not overlap; without it accumulators go through
        memory at every step.
        """
        with IRBuilder() as builder:
            with T.prim_func(s_tir=True):
                T.func_name(self.name)
                T.func_attr({"tirx.noalias": True, "global_symbol": self.name})
                if self.vectors:
                    T.func_attr({_VECTORS: True})
                yield
            self.result = builder.get()


def has_vectors(function: PrimFunc) -> bool:
    """Whether a function indexes by explicit vectors.

    TVM 0.27's `CompactBufferAllocation` cannot tell what they touch: it throws, and where its own
    code expects no exception that ends the process.
    """
    return bool(function.attrs is not None and _VECTORS in function.attrs)


def argument(name: str, shape: tuple[Expr, ...], dtype: str = "float32") -> Buffer:
    """Declare the next argument of the function; it may begin at any element.

    TVM would take it for aligned to 64 bytes, and LLVM use moves that fault where it is not: parts
    of a concatenation are written and read where they lie in the whole.
    """
    return T.arg(name, T.buffer(shape, dtype, align=np.dtype(dtype).itemsize))


def begins_anywhere(function: PrimFunc) -> PrimFunc:
    """Return a function of TVM's own making whose arguments may begin at any float32.

    See `argument`. TVM 0.27 has no other way to change a buffer of a function.
    """
    told = json.loads(tvm.ir.save_json(function))
    nodes = told["nodes"]
    parameters = nodes[told["root_index"]]["data"]["params"]
    for parameter in nodes[parameters]["data"]:
        nodes[nodes[parameter]["data"]["ty"]]["data"]["data_alignment"] = 4
    return tvm.ir.load_json(json.dumps(told))


def constant(value: float, dtype: str) -> Expr:
    """Return a number of this type."""
    return getattr(T, dtype)(value)


def registers(shape: tuple[int, ...], dtype: str = "float32") -> Buffer:
    """Reserve a small local buffer; indexed by constants only, LLVM keeps it in registers.

    The annotation keeps it on the stack, whatever its size. From the heap, where TVM 0.27 puts all
    above 1 kB, LLVM would hold the accumulators of every tile of a function to its end.
    """
    return T.alloc_buffer(shape, dtype, scope="local", annotations={"disable_lower_builtin": True})


def outer(extent: int, threads: int) -> Any:
    """Open the outermost loop: spread over the thread pool unless one thread was asked."""
    return T.parallel(extent) if threads > 1 and extent > 1 else T.serial(extent)


def each_lane(lanes: int, body: Callable[[Expr], None]) -> None:
    """Run `body(lane)` for all lanes at once."""
    if lanes == 1:
        body(0)
        return
    with T.vectorized(lanes) as lane:
        body(lane)


def each(count: int, lanes: int, body: Callable[[Expr], None]) -> None:
    """Run `body(i)` for i < count, whole vectors first."""
    whole, rest = divmod(count, lanes)
    if whole:
        with T.serial(whole) as step:
            each_lane(lanes, lambda j: body(step * lanes + j))
    if rest:
        with T.serial(rest) as i:
            body(whole * lanes + i)


@contextmanager
def condition(test: Expr) -> Iterator[bool]:
    """Open `if test:`; no code where it is known. Yields whether it may be true.

    What is known to be false must still be left out by the caller.
    """
    if isinstance(test, bool):
        yield test
    else:
        with T.If(test), T.Then():
            yield True


@contextmanager
def repeat(count: int) -> Iterator[Expr]:
    """Open a loop, or none where it would run once: its index is a number then."""
    if count == 1:
        yield 0
    else:
        with T.serial(count) as index:
            yield index


def neighbours(first: Expr, count: int) -> Expr:
    """Return the indices of so many elements from one on."""
    return T.Ramp(T.int32(0) + first, 1, count)


def picked(vectors: list[Expr], places: list[int]) -> Expr:
    """Return a vector of elements of vectors, which are counted through all of them.

    TVM 0.27 makes none that is longer than those together: they are given again, then.
    """
    together = sum(vector.ty.dtype.lanes for vector in vectors)
    more = -(-len(places) // together)
    return T.Shuffle(vectors * more, [T.int32(place) for place in places])


def store(buffer: Buffer, value: Expr, *index: Expr) -> None:
    """Write one element (inside `each_lane`, one vector)."""
    T.buffer_store(buffer, value, list(index))


def itemsize(buffer: Buffer) -> int:
    """Return the bytes of an element."""
    return np.dtype(str(buffer.dtype)).itemsize


def prefetch(buffer: Buffer, first: Expr, count: int) -> None:
    """Fetch the cache lines of `count` elements into the second-level cache.

    Past the end it is harmless.

    Hardware fetches ahead on its own, but stops at the end of each page and is too late where a
    step computes little for what it reads.
    """
    hints = [T.int32(hint) for hint in (_READ, _SECOND_LEVEL, _DATA)]
    each = _LINE // itemsize(buffer)
    with T.unroll(-(-count // each)) as line:
        address = T.address_of(buffer[first + line * each])
        T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, *hints))


def zero_halo(
    y: Buffer,
    n: Expr,
    block: Expr,
    row: Expr,
    size: tuple[int, int],
    layout: Layout,
    fill: Expr = None,
) -> None:
    """Write the zeros (`fill`, where a type has a zero point) around row `row` of a channel block.

    Each row clears its own left and right edge; the first and last also clear the rows above and
    below, so that a kernel that computes every row once leaves a complete halo.
    """
    height, width = size
    top, left, bottom, right = layout.halo
    lanes = layout.block
    full = left + width + right

    def clear(first_row: Expr, rows: int, first: int, count: int) -> None:
        if rows == 0 or count == 0:
            return
        with T.serial(rows) as r, T.serial(count) as c:
            each_lane(
                lanes,
                lambda j: store(
                    y,
                    constant(0, str(y.dtype)) if fill is None else fill,
                    *(n, block, first_row + r, first + c, j)[: len(y.shape)],
                ),
            )

    clear(row + top, 1, 0, left)
    clear(row + top, 1, left + width, right)
    if top:
        with T.If(row == 0), T.Then():
            clear(0, top, 0, full)
    if bottom:
        with T.If(row == height - 1), T.Then():
            clear(top + height, bottom, 0, full)


def argument_types(function: PrimFunc) -> list[str]:
    """Return the types of the elements of a function's arguments, in order."""
    return [str(p.dtype) for p in function.params]


def argument_shapes(function: PrimFunc) -> list[tuple[int, ...] | None]:
    """Return the buffer shapes of a function's arguments, in order; None: it varies."""

    def shape(extents: list[Expr]) -> tuple[int, ...] | None:
        try:
            return tuple(int(extent) for extent in extents)
        except TypeError:
            return None

    return [shape(p.shape) for p in function.params]
