"""AMX: products of tiles, sixteen pixels by sixteen output channels at once.

A tile register holds up to 16 rows of 64 bytes. `tdpbf16ps` (bfloat16) and `tdpbusd` (uint8 by
int8) add to a tile of sums, pixels by output channels, the product of a tile of pixels (16
elements each: pairs or quads of channels) and one of filters (16 elements by 16 output channels),
in as many cycles as there are pixels. The tile registers are a thread's own, and so is their
configuration: every job loads it and releases it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Expr
from dlas.kernels.ground.target import CpuTarget

SIDE = 16
"""Rows of a tile, and elements of a row."""
PIXELS, BLOCKS = 2, 2
"""Tiles of pixels and of output channels that are multiplied with each other: four of sums."""
_FLAGS = {
    "bfloat16": {"amx_tile", "amx_bf16", "avx512_bf16"},  # the last one rounds to it
    "int8": {
        "amx_tile",
        "amx_int8",
        "avx512_vnni",
    },  # for what tiles do not suit, on the same images
}
_CHANNELS = {"bfloat16": 32, "int8": 64}
"""Of a row of a tile."""
_PRODUCTS = {"bfloat16": "llvm.x86.tdpbf16ps", "int8": "llvm.x86.tdpbusd"}
_FIRST_PIXELS, _FIRST_FILTERS = PIXELS * BLOCKS, PIXELS * BLOCKS + PIXELS
"""Numbers of the registers: sums come first."""
_REGISTERS = 8
_LINE = 64


def multiplies(target: CpuTarget, dtype: str) -> bool:
    """Whether a CPU has tiles of a type."""
    return dtype in _FLAGS and _FLAGS[dtype] <= {*target.features}


def side_by_side(channels: int, dtype: str, target: CpuTarget) -> int:
    """Return the channels that lie side by side in an image of so many.

    A row of a tile where the CPU has them, else a vector's. Vectors of channels past the last are
    never written: bytes may be anything under filters of zero, if a fifth is added to them at
    most; floats that are no numbers may not.
    """
    if not multiplies(target, dtype) or target.lanes != SIDE:
        return target.lanes
    row = _CHANNELS[dtype]
    vectors, each = -(-channels // SIDE), row // SIDE
    past = -vectors % each
    return row if past == 0 or (dtype == "int8" and 5 * past <= vectors) else target.lanes


def rows_behind(wide: int) -> int:
    """Return the rows behind an image that the last row of a tile may read past its pixel.

    Args:
        wide: elements of a row of the image.
    """
    return -(-SIDE // wide)


@contextmanager
def jobs(count: int, threads: int, rows: int) -> Iterator[Expr]:
    """Open the outermost loop of code that may use tiles, each thread's registers configured.

    Args:
        count: jobs.
        threads: threads that share them.
        rows: pixels of a tile; 0: the code uses none.
    """
    if not rows:
        with emit.outer(count, threads) as job:
            yield job
    elif threads > 1 and count > 1:
        with emit.outer(count, threads) as job, configured(rows):
            yield job
    else:
        with configured(rows), emit.outer(count, threads) as job:
            yield job


@contextmanager
def configured(rows: int = SIDE) -> Iterator[None]:
    """Open a job that uses tiles: filters of 16 rows, pixels and sums of so many, of 64 bytes."""
    config = emit.registers((_LINE,), "uint8")
    for at in range(_LINE):
        emit.store(config, T.uint8(_configuration(at, rows)), at)
    _do("llvm.x86.ldtilecfg", T.address_of(config[0]))
    yield
    _do("llvm.x86.tilerelease")


def _configuration(byte: int, rows: int) -> int:
    """Return a byte of the configuration: palette 1; bytes of a row from 16 on, rows from 48."""
    if byte == 0:
        return 1
    if SIDE <= byte < SIDE + 2 * _REGISTERS:
        return _LINE if byte % 2 == 0 else 0
    tile = byte - 48
    if not 0 <= tile < _REGISTERS:
        return 0
    return SIDE if tile >= _FIRST_FILTERS else rows


def begin(pixels: int, first: list[Expr]) -> None:
    """Emit the load of sums: each tile's rows begin with the same numbers, of a row in memory.

    Args:
        pixels: tiles of pixels.
        first: the first of the numbers, for each tile of output channels.
    """
    for p in range(pixels):
        for o, place in enumerate(first):
            _move("llvm.x86.tileloadd64", _sum(p, o), place, 0)


def clear() -> None:
    """Emit zeros into all tiles of sums."""
    for tile in range(PIXELS * BLOCKS):
        _do("llvm.x86.tilezero", T.int8(tile))


def multiply_add(
    dtype: str,
    pixels: list[tuple[Expr, int]],
    filters: list[tuple[Expr, int]],
) -> None:
    """Emit one step: every tile of sums plus its pixels times its filters.

    Each tile is loaded just before it is first multiplied.

    Args:
        dtype: what is multiplied.
        pixels: tiles of pixels: the first element of each, and bytes from a row to the next.
        filters: tiles of filters.
    """
    for p, pixel in enumerate(pixels):
        _move("llvm.x86.tileloadd64", _FIRST_PIXELS + p, *pixel)
        for o, some in enumerate(filters):
            if p == 0:
                _move("llvm.x86.tileloadd64", _FIRST_FILTERS + o, *some)
            _multiply(dtype, p, o)


def load_factors(pixels: list[tuple[Expr, int]], filters: list[tuple[Expr, int]]) -> None:
    """Emit the load of what is multiplied (see `multiply_add`)."""
    for p, (first, step) in enumerate(pixels):
        _move("llvm.x86.tileloadd64", _FIRST_PIXELS + p, first, step)
    for o, (first, step) in enumerate(filters):
        _move("llvm.x86.tileloadd64", _FIRST_FILTERS + o, first, step)


def multiply(dtype: str, pixels: int, blocks: int) -> None:
    """Emit the products of all tiles of pixels with all of filters that are loaded."""
    for p in range(pixels):
        for o in range(blocks):
            _multiply(dtype, p, o)


def _multiply(dtype: str, pixel: int, block: int) -> None:
    tiles = (_sum(pixel, block), _FIRST_PIXELS + pixel, _FIRST_FILTERS + block)
    _do(_PRODUCTS[dtype], *(T.int8(tile) for tile in tiles))


def store(pixel: int, block: int, first: Expr, step: int) -> None:
    """Emit the copy of a tile of sums to memory: the first, bytes from row to row."""
    _move("llvm.x86.tilestored64", _sum(pixel, block), first, step)


def _sum(pixel: int, block: int) -> int:
    return pixel * BLOCKS + block


def _move(name: str, tile: int, first: Expr, step: int) -> None:
    _do(name, T.int8(tile), T.address_of(first), T.int64(step))


def _do(name: str, *arguments: Expr) -> None:
    T.evaluate(tirx.call_llvm_intrin("void", name, *arguments))
