"""Tiles as lanes: what the layout holds, changes to and from it, and the halo of a kernel."""

import numpy as np
import pytest

from kernel_checks import random
from kernel_shapes import SHAPES, name

pytest.importorskip("tvm")

from dlas.kernels import Conv2d
from dlas.kernels.code.emit import argument_shapes
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.convolution import oracle, primitives
from dlas.kernels.convolution.contract import Request
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor
from dlas.kernels.ground.layout import NCHW, Array, Layout, Shape4, Tiling, pack, unpack
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.target import resolve
from dlas.kernels.operators.relayout import Relayout

LANES = resolve("native").lanes


def tiled(grid_down: int, tile: tuple[int, int], halo: tuple[int, int, int, int]) -> Layout:
    return Layout(1, halo, Tiling((grid_down, LANES // grid_down), tile))


def test_a_lane_holds_a_tile_and_its_neighbours_pixels() -> None:
    x = np.arange(1, 36, dtype=np.float32).reshape(1, 1, 5, 7)
    packed = pack(x, Layout(1, (1, 0, 1, 2), Tiling((2, 2), (3, 4))))
    assert packed.shape == (1, 1, 5, 6, 4)
    np.testing.assert_array_equal(
        packed[0, 0, :, :, 2],  # the tile below: rows 3 to 5, of which 5 is outside
        [
            [15, 16, 17, 18, 19, 20],
            [22, 23, 24, 25, 26, 27],
            [29, 30, 31, 32, 33, 34],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
    )
    np.testing.assert_array_equal(packed[0, 0, 1, :, 1], [5, 6, 7, 0, 0, 0])


def run(function: object, arrays: list[Array]) -> None:
    library = load_library(compile_functions({"f": function}, resolve("native")))
    shaped = zip(arrays, argument_shapes(function), strict=True)
    library["f"](*(tensor(a if s is None else a.reshape(s)) for a, s in shaped))


def change(nchw: Shape4, source: Layout, goal: Layout, threads: int) -> None:
    x = random(nchw)
    given = pack(x, source)
    result = aligned(goal.shape(nchw))
    result[...] = np.nan
    kernel = Relayout(nchw, source, goal, threads).function("f")
    run(kernel, [aligned_copy(given, given.shape), result])
    np.testing.assert_array_equal(result, pack(x, goal))
    np.testing.assert_array_equal(unpack(result, goal, nchw), x)


WIDE = tiled(4, (7, 16 * 4 // LANES), (1, 1, 0, 2))


@pytest.mark.parametrize(
    ("nchw", "source", "goal"),
    [
        ((2, 5, 27, 15), NCHW, WIDE),
        ((2, 5, 27, 15), WIDE, NCHW),
        ((2, 5, 27, 15), WIDE, tiled(2, (14, 9), (0, 2, 1, 1))),
        ((1, 19, 27, 15), WIDE, Layout(LANES, (1, 2, 0, 1))),
        ((1, 19, 27, 15), Layout(LANES, (1, 2, 0, 1)), WIDE),
        ((1, 3, 27, 15), Layout(1, (2, 1, 1, 2)), WIDE),
        ((1, 3, 27, 15), WIDE, Layout(1, (2, 1, 1, 2))),
        ((1, 3, 4, 3), NCHW, tiled(4, (1, 1), (2, 3, 3, 2))),
        ((1, 3, 4, 3), tiled(4, (1, 1), (2, 3, 3, 2)), tiled(1, (4, 2), (0, 0, 0, 0))),
        ((3, 2, 1, 1), tiled(2, (3, 2), (0, 0, 0, 0)), NCHW),
    ],
)
def test_changes_to_and_from_tiles(nchw: Shape4, source: Layout, goal: Layout) -> None:
    change(nchw, source, goal, threads=1)
    change(nchw, source, goal, threads=2)


@pytest.mark.parametrize(
    ("channels", "source", "goal"),
    [
        (4 * LANES, Layout(LANES, (1, 2, 0, 1)), Layout(4 * LANES, (2, 1, 1, 0))),
        (5 * LANES + 3, Layout(LANES), Layout(4 * LANES, (1, 1, 1, 1))),  # the last lacks blocks
        (LANES - 1, Layout(LANES), Layout(2 * LANES)),
        (6, Layout(4), Layout(LANES)),
        (3 * LANES, Layout(4 * LANES), Layout(LANES, (1, 0, 0, 1))),
    ],
)
def test_changes_of_blocks(channels: int, source: Layout, goal: Layout) -> None:
    change((2, channels, 5, 7), source, goal, threads=1)
    change((1, channels, 3, 4), source, goal, threads=2)


HALOS = [(1, 1, 1, 1), (2, 0, 0, 3), (3, 3, 3, 3)]
PICKED = [op for op in SHAPES if op.out_height > 1][::6]


@pytest.mark.parametrize("turn", range(len(PICKED)), ids=lambda i: name(PICKED[i]))
def test_a_kernel_fills_the_halo_that_its_reader_needs(turn: int) -> None:
    check_halo(PICKED[turn], HALOS[turn % 3], knobs_turn=turn)


@pytest.mark.parametrize("size", [(9, 50), (50, 9), (40, 40)])
def test_a_tile_of_several_blocks_has_its_halo(size: tuple[int, int]) -> None:
    op = Conv2d(2, 5, *size, 6, (3, 3), padding=(1, 1, 1, 1))
    for halo in HALOS:
        check_halo(op, halo, knobs_turn=1)


def check_halo(op: Conv2d, halo: tuple[int, int, int, int], knobs_turn: int) -> None:
    cpu, primitive = resolve("native"), primitives.find("spatial-pack", "csr")
    out = primitive.writes(op, cpu).with_halo(halo)
    residual = primitive.writes(op, cpu).with_halo((0, 1, 2, 0)) if knobs_turn % 2 else None
    need = primitive.needs(op, cpu, primitives.FIXED)
    top, left, bottom, right = need.halo
    inp = need.with_halo((top + knobs_turn % 2, left + 1, bottom, right))
    activation = "relu" if knobs_turn % 3 else None
    request = Request(cpu, 1 + knobs_turn % 2, inp, out, Epilogue(activation, residual))
    kernel = primitive.lower(op, request)
    x, weight, bias = random(op.in_shape), random(op.weight_shape), random((op.out_channels,))
    weight[np.random.default_rng().random(weight.shape) < 0.7] = 0
    r = random(op.out_shape)
    extra = [] if residual is None else [pack(r, residual)]
    y = aligned(out.shape(op.out_shape))
    y[...] = np.nan
    given = [pack(x, inp), *kernel.constants(weight, bias), *extra]
    run(kernel.function("f"), [*(aligned_copy(a, a.shape) for a in given), y])
    result = unpack(y, out, op.out_shape)
    exact = oracle.conv2d(op, x, weight, bias, activation, r if extra else None)
    assert (np.abs(result - exact.y) <= oracle.DIRECT_BOUND * exact.magnitude).all()
    np.testing.assert_array_equal(y, pack(result, out))
