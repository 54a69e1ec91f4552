"""The ceilings of a machine, measured in the study: arithmetic, and memory bandwidth.

Each function is a job for a process of its own, on the processors that cells of as many threads
run on, while nothing else runs. The third ceiling, the time of an inference that does next to
nothing, is taken of a network of one operator (:mod:`dlas.run.measure.one_operator`) by
:mod:`dlas.run.measure.latency` itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from dlas.core.errors import StepError
from dlas.core.keys import Json
from dlas.run.measure.args import JobArgs, read_args

if TYPE_CHECKING:
    from dlas.core.protocols import Array
    from dlas.kernels.code.numbers import Numbers
    from dlas.kernels.ground.target import CpuTarget

SPAN_S = 0.2
"""Seconds of repetitions that a ceiling is the best of."""
LOOP = "loop.so"
FMA = "multiply-adds in registers, float32"
DOT = "dot products in registers, uint8 by int8"
TILED: Mapping[str, str] = {
    "bfloat16": "products of tiles in registers, bfloat16",
    "int8": "products of tiles in registers, uint8 by int8",
}
METHODS: Mapping[str, str] = {
    "float32": FMA,
    "float16": "multiply-adds in registers, float16",
    "bfloat16": "dot products in registers, bfloat16",
    "int8": DOT,
}
MATMUL = "matrix products by numpy, float32: a lower bound"
ADD = "a = a + b over arrays larger than the last cache, by numpy; three words an element"
_FUNCTION = "ceiling"
_STEPS = 20_000
_TILE_PRODUCTS: Mapping[str, int] = {"bfloat16": 32, "int8": 64}
"""Products that a step adds to each sum of a tile."""
_UNROLLED = 4
_ROWS = 8
"""Of the numbers, those that steps take in turns where they must not take the same."""
_ONES: Mapping[str, float] = {
    "float32": 0.5, "float16": 0.5, "bfloat16": 0x3F803F80, "int8": 0x01010101,
}  # fmt: skip
"""What is multiplied: two numbers of bfloat16 and four bytes are each a one."""
_SIZE = 768
_LARGER = 1.05
"""Each of the two arrays is so many times the last cache."""
_LEAST = 64 * 10**6
"""Bytes of an array where the cache is small, or its size is not told."""


@dataclass(frozen=True)
class BuildLoopArgs:
    """What :func:`build_loop` is asked for."""

    isa: str
    threads: int
    """The parallel copies."""
    folder: Path
    dtype: str = "float32"
    """What is multiplied: a step of a lane is four products in ``int8``, two in ``bfloat16``."""


@dataclass(frozen=True)
class Loop:
    """A loop that :func:`build_loop` compiled."""

    threads: int
    loop: Path
    """Its folder."""
    flops: int
    """Of one call."""
    lanes: int
    sums: int
    dtype: str = "float32"
    tiles: bool = False
    """Whether tiles are multiplied: a lane is one of the sums of a tile."""


@dataclass(frozen=True)
class MatmulArgs:
    """What :func:`arithmetic` is asked for where there is no compiled loop."""

    threads: int


class Arithmetic(TypedDict):
    """GFLOP/s, and by what."""

    value: float
    method: str


@dataclass(frozen=True)
class BandwidthArgs:
    """What :func:`bandwidth` is asked for."""

    cpus: Mapping[str, Sequence[int]]
    """For each thread count, as text, the processors."""
    cache_bytes: int | None = None


class Bandwidth(TypedDict):
    """GB/s for each thread count, and by what."""

    values: dict[str, float]
    method: str
    array_mb: float
    """The size of an array."""
    cache_mb: float | None
    """That of the last cache; None: the system does not tell it."""


def build_loop(args: JobArgs) -> dict[str, Json]:
    """Compile the loop of multiply-adds for an instruction set into ``folder``; needs TVM.

    Returns ``flops``, ``lanes`` and ``sums`` of the :class:`Loop`.
    """
    given = read_args(BuildLoopArgs, args)
    from dlas.kernels.code import amx
    from dlas.kernels.code.machine_code import compile_functions
    from dlas.kernels.code.numbers import MULTIPLIED
    from dlas.kernels.ground.target import of_level

    target, numbers = of_level(given.isa), MULTIPLIED[given.dtype]
    why = numbers.why_not(target)
    if why is not None:
        raise StepError(why)
    if amx.multiplies(target, given.dtype):
        return _build_tiles(given)
    sums, lanes = target.accumulators - 2, target.lanes * (2 if numbers.passing else 1)
    function = _written(numbers, target, given.threads, (sums, lanes))
    code = compile_functions({_FUNCTION: function}, target)
    (given.folder / LOOP).write_bytes(code)
    flops = 2 * numbers.group * lanes * sums * _STEPS * given.threads
    narrow: dict[str, Json] = {} if given.dtype == "float32" else {"dtype": given.dtype}
    return {"flops": flops, "lanes": lanes, "sums": sums, **narrow}


def _written(numbers: Numbers, target: CpuTarget, threads: int, size: tuple[int, int]) -> Any:
    """Return the loop's function: steps on so many sums of so many lanes, in each thread."""
    from tvm.tirx.script.builder import ir as T

    from dlas.kernels.code import dot, emit

    # What LLVM knows how to multiply it would multiply once, before the loop: there factors
    # differ from sum to sum and from step to step.
    known = not numbers.paired and dot.instruction(target) in dot.KNOWN
    sums, lanes = size
    kind = numbers.element if numbers.passing else numbers.sums
    function = emit.Function(_FUNCTION, numbers.group > 1)
    with function.body():
        x = emit.argument("x", (sums + 2, lanes), numbers.element)
        y = emit.argument("y", (threads, sums, lanes), kind)
        with numbers.instructions(target), emit.outer(threads, threads) as t:
            acc = emit.registers((sums, lanes), kind)
            with T.unroll(sums) as i:
                first = emit.constant(1, kind) if numbers.paired else None
                emit.each_lane(
                    lanes, lambda j: emit.store(acc, x[i, j] if first is None else first, i, j)
                )
            # Several steps are written out: the loop's own counting costs 7 % of a single one.
            turns = T.serial(_STEPS // _UNROLLED)
            with turns as turn, T.unroll(_UNROLLED) as step, T.unroll(sums) as i:
                if numbers.group > 1:
                    at = (turn * _UNROLLED + step) % _ROWS if known else sums + 1
                    factors = _factors(x, i if known else sums, at)
                    numbers.multiply_add(acc, (i,), target, factors)
                else:
                    emit.each_lane(
                        lanes,
                        lambda j: emit.store(acc, acc[i, j] * x[sums, j] + x[sums + 1, j], i, j),
                    )
            with T.unroll(sums) as i:
                emit.each_lane(lanes, lambda j: emit.store(y, acc[i, j], t, i, j))
    return function.result


def _factors(x: Any, a: Any, b: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return what is multiplied, by lane: two rows of the numbers."""
    return (lambda j: x[a, j]), (lambda j: x[b, j])


def _build_tiles(given: BuildLoopArgs) -> dict[str, Json]:
    """Compile the loop that multiplies tiles: four of sums, as the kernels hold."""
    from tvm.tirx.script.builder import ir as T

    from dlas.kernels.code import amx, emit
    from dlas.kernels.code.machine_code import compile_functions
    from dlas.kernels.ground.target import of_level

    sums, lanes, row = amx.PIXELS * amx.BLOCKS, amx.SIDE**2, 4 * amx.SIDE
    function = emit.Function(_FUNCTION, vectors=True)
    with function.body():
        x = emit.argument("x", (sums + 2, lanes), "int32")
        kind = "int32" if given.dtype == "int8" else "float32"
        y = emit.argument("y", (given.threads, sums, lanes), kind)
        with emit.outer(given.threads, given.threads) as t, amx.configured():
            amx.clear()
            pixels = [(x[p, 0], row) for p in range(amx.PIXELS)]
            filters = [(x[amx.PIXELS + o, 0], row) for o in range(amx.BLOCKS)]
            amx.load_factors(pixels, filters)
            with T.serial(_STEPS // _UNROLLED), T.unroll(_UNROLLED):
                amx.multiply(given.dtype, amx.PIXELS, amx.BLOCKS)
            for p in range(amx.PIXELS):
                for o in range(amx.BLOCKS):
                    amx.store(p, o, y[t, p * amx.BLOCKS + o, 0], row)
    code = compile_functions({_FUNCTION: function.result}, of_level(given.isa))
    (given.folder / LOOP).write_bytes(code)
    flops = 2 * _TILE_PRODUCTS[given.dtype] * lanes * sums * _STEPS * given.threads
    told: dict[str, Json] = {"dtype": given.dtype, "tiles": True}
    return {"flops": flops, "lanes": lanes, "sums": sums, **told}


def arithmetic(args: JobArgs) -> Arithmetic:
    """Return ``value``: GFLOP/s of float32, a multiply-add counted as two, and the ``method``.

    ``args`` are those of a :class:`Loop`; or ``threads`` alone: then numpy multiplies matrices, in
    as many threads.
    """
    if args.get("loop"):
        given = read_args(Loop, args)
        return {
            "value": given.flops / _best(loop(given)) / 1e9,
            "method": TILED[given.dtype] if given.tiles else METHODS[given.dtype],
        }
    return {"value": _matmul(read_args(MatmulArgs, args).threads), "method": MATMUL}


def bandwidth(args: JobArgs) -> Bandwidth:
    """Return ``values``: for each thread count the GB/s of adding one array to another.

    Counted as STREAM counts (McCalpin 1995): two words read and one written an element; since the
    sum replaces an operand there is no further line to fetch. Each thread adds its part. Each
    array is larger than the last cache.

    Raises:
        StepError: the arrays that this cache asks for do not fit into the memory that is free.
    """
    given = read_args(BandwidthArgs, args)
    cache = given.cache_bytes
    size = max(int(_LARGER * (cache or 0)), _LEAST)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 2 * size > free // 2:
        raise StepError(
            f"two arrays of {size / 1e6:.0f} MB are needed, each larger than the last cache, and "
            f"{free / 1e6:.0f} MB are free"
        )
    a, b = (np.full(size // 4, value, np.float32) for value in (0.0, 1.0))
    values = {}
    for threads, cpus in given.cpus.items():
        os.sched_setaffinity(0, cpus)  # threads that are started from here on take it over
        values[threads] = 12 * len(a) / _add(a, b, int(threads)) / 1e9
    return {
        "values": values,
        "method": ADD,
        "array_mb": size / 1e6,
        "cache_mb": cache / 1e6 if cache else None,
    }


def _add(a: Array, b: Array, threads: int) -> float:
    """Return the least seconds of adding one array to another in so many threads."""
    n = len(a)
    parts = [slice(i * n // threads, (i + 1) * n // threads) for i in range(threads)]

    def add(part: slice) -> None:
        np.add(a[part], b[part], out=a[part])  # lets other threads of Python run

    if threads == 1:
        return _best(lambda: add(parts[0]))
    with ThreadPoolExecutor(threads) as workers:
        return _best(lambda: list(workers.map(add, parts)))


def loop(built: Loop) -> Callable[[], object]:
    """Return one call of a loop, its result checked once."""
    threads = built.threads
    from dlas.kernels.ground import pool
    from dlas.kernels.ground.arrays import aligned, tensor
    from dlas.kernels.ground.program import load_library

    needed = ("amx_tile",) if built.tiles else ()
    function = load_library((built.loop / LOOP).read_bytes(), needed)[_FUNCTION]
    kinds = {"float32": "float32", "float16": "float16"}
    kind = kinds.get(built.dtype, "int32")
    values = aligned((built.sums + 2, built.lanes), kind)
    sums = "float32" if built.dtype == "bfloat16" else kind
    result = aligned((threads, built.sums, built.lanes), sums)
    values[:] = _ONES[built.dtype]
    # Products of one and one a step; or the fixed point of x / 2 + 1 / 2.
    expected = {"int8": _ONES["int8"] + 4 * _STEPS, "bfloat16": 1 + 2 * _STEPS}.get(
        built.dtype, 1.0
    )
    if built.tiles:
        expected = _TILE_PRODUCTS[built.dtype] * _STEPS
    given = tensor(values), tensor(result)

    def run() -> None:
        with pool.limited(threads):
            function(*given)

    run()
    exact = built.dtype in ("int8", "bfloat16")
    if not np.allclose(result, expected, rtol=0 if exact else 1e-5):
        raise StepError("the loop of multiply-adds computed something else")
    return run


def _matmul(threads: int) -> float:
    generator = np.random.default_rng(0)
    pairs = [generator.random((2, _SIZE, _SIZE), dtype=np.float32) for _ in range(threads)]
    out = np.empty((threads, _SIZE, _SIZE), np.float32)

    def multiply(i: int) -> None:
        np.matmul(pairs[i][0], pairs[i][1], out=out[i])

    with ThreadPoolExecutor(threads) as workers:
        seconds = _best(lambda: list(workers.map(multiply, range(threads))))
    return 2 * _SIZE**3 * threads / seconds / 1e9


def _best(work: Callable[[], object], least: int = 3) -> float:
    """Return the least seconds of repetitions that fill the span: what was reached at best."""
    work()
    times: list[float] = []
    until = time.perf_counter() + SPAN_S
    while len(times) < least or time.perf_counter() < until:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def last_cache(caches: Mapping[str, str]) -> int | None:
    """Return the bytes of the last cache, of ``{"L3 unified": "33280K"}``; None: not told."""
    sizes = {name: _bytes(size) for name, size in caches.items() if "instruction" not in name}
    return sizes[max(sizes)] if sizes else None


def _bytes(size: str) -> int:
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1:], 1)
    return int(size.rstrip("KMG")) * unit
