"""Products of two computed matrices against float64: odd shapes, in place, one for many."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.convolution.oracle import DIRECT_BOUND
from dlas.kernels.ground import pool
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.target import resolve
from dlas.kernels.operators import matmul
from kernel_checks import random

ITEM = 4
CASES = [
    ((3, 65, 20), (3, 20, 65)),
    ((2, 1, 7, 5), (3, 5, 33)),
    ((1, 1), (1, 1)),
    ((4, 6, 64), (1, 64, 48)),
    ((197, 64), (64, 197)),
    ((5, 3, 2), (5, 2, 3)),
]


def run(a: np.ndarray, b: np.ndarray, target: str, threads: int) -> np.ndarray:
    """Multiply two views of arrays of their own."""
    places, sizes, flat = [], [], []
    for x in (a, b):
        whole = x if x.base is None else x.base
        flat.append(np.ascontiguousarray(whole).reshape(-1))
        first = (x.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // ITEM
        places.append((first, tuple(s // ITEM for s in x.strides)))
        sizes.append(whole.size)
    attrs = {"shapes": [a.shape, b.shape], "places": places}
    kernel = matmul.of(attrs, sizes, resolve(target), threads)
    library = load_library(
        compile_functions({"product": kernel.function("product")}, kernel.target)
    )
    y = aligned(((a @ b).size,))
    y[:] = np.nan
    arguments = [tensor(aligned_copy(x, x.shape)) for x in flat]
    with pool.limited(threads):
        library["product"](*arguments, tensor(y))
    return y.reshape((a @ b).shape)


def check(a: np.ndarray, b: np.ndarray, target: str, threads: int) -> None:
    y, x64, w64 = run(a, b, target, threads), a.astype(np.float64), b.astype(np.float64)
    assert (np.abs(y - x64 @ w64) <= DIRECT_BOUND * (np.abs(x64) @ np.abs(w64))).all()


@pytest.mark.parametrize("turn", range(len(CASES)))
def test_it_is_right(turn: int) -> None:
    left, right = (random(shape) for shape in CASES[turn])
    check(left, right, ("native", "x86-64-v3")[turn // 2 % 2], 1 + turn % 2)


@pytest.mark.parametrize(("depth", "columns"), [(64, 197), (7, 30), (3, 2)])
def test_the_second_is_turned_where_its_columns_are_no_neighbours(
    depth: int, columns: int
) -> None:
    qkv = random((2, columns, 3, 2, depth)).transpose(2, 0, 3, 1, 4)
    check(qkv[0], qkv[1].swapaxes(-1, -2), "native", 2)
    check(random((2, 2, 5, columns)), qkv[2], "native", 1)
    check(random((2, 9, depth)), random((2, columns, depth))[..., ::1].swapaxes(1, 2), "native", 1)
