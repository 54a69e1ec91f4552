"""Attention against float64: odd shapes, operands in place in a product of all three, peaks."""

import math
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("tvm")

from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.ground import pool
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.target import CpuTarget, resolve
from dlas.kernels.operators.attention import Attention, TokenPlace
from kernel_checks import random

BOUND = 3e-6
"""Largest error, relative to the largest value: scores round by 64 products, then e^x."""


class Shape(NamedTuple):
    batch: int
    queries: int
    keys: int
    heads: int
    depth: int
    value_depth: int


SHAPES = [
    Shape(1, 197, 197, 3, 64, 64),
    Shape(2, 65, 65, 2, 20, 20),
    Shape(1, 5, 5, 1, 7, 3),
    Shape(1, 33, 130, 2, 16, 40),
    Shape(1, 1, 1, 1, 1, 1),
    Shape(1, 3, 61, 5, 32, 17),
]
MORE = [
    Shape(2, 197, 197, 12, 64, 64),
    Shape(1, 64, 64, 4, 96, 96),
    Shape(3, 17, 200, 2, 3, 128),
    Shape(1, 1025, 1025, 1, 80, 80),
    Shape(1, 250, 63, 3, 33, 31),
]


def exact(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    q64, k64, v64 = (x.astype(np.float64) for x in (q, k, v))
    scores = np.einsum("nqhd,nkhd->nhqk", q64, k64) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("nhqk,nkhd->nqhd", weights, v64)


def own(array: np.ndarray) -> TokenPlace:
    """A tensor [batch, tokens, heads, depth] of its own."""
    _, tokens, heads, depth = array.shape
    return TokenPlace(array.size, 0, tokens * heads * depth, heads * depth, depth)


def kernel_of(
    s: Shape, operands: tuple[TokenPlace, ...], scale: float, target: CpuTarget, threads: int
) -> Attention:
    q, k, v = operands
    return Attention(
        s.batch, s.queries, s.keys, s.heads, s.depth, s.value_depth, scale, (q, k, v), target,
        threads,
    )  # fmt: skip


def run(kernel: Attention, arrays: list[np.ndarray]) -> np.ndarray:
    function = kernel.function("attention")
    library = load_library(compile_functions({"attention": function}, kernel.target))
    y = aligned((kernel.batch * kernel.queries * kernel.heads * kernel.value_depth,))
    y[:] = np.nan
    tensors = [tensor(aligned_copy(a.reshape(-1), (a.size,))) for a in arrays]
    with pool.limited(kernel.threads):
        library["attention"](*tensors, tensor(y))
    return y.reshape(kernel.batch, kernel.queries, kernel.heads, kernel.value_depth)


def check(s: Shape, target: str, threads: int, sharp: float = 1.0) -> None:
    q = random((s.batch, s.queries, s.heads, s.depth)) * np.float32(sharp)
    k = random((s.batch, s.keys, s.heads, s.depth))
    v = random((s.batch, s.keys, s.heads, s.value_depth))
    scale = s.depth**-0.5
    kernel = kernel_of(s, (own(q), own(k), own(v)), scale, resolve(target), threads)
    y = run(kernel, [q, k, v])
    assert np.abs(y - exact(q, k, v, scale)).max() <= BOUND * max(1, sharp) * np.abs(v).max()


@pytest.mark.parametrize("turn", range(len(SHAPES)))
def test_it_is_right(turn: int) -> None:
    check(SHAPES[turn], ("native", "x86-64-v3")[turn // 2 % 2], threads=1 + turn % 2)


@pytest.mark.kernels_full
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("shape", [*SHAPES, *MORE])
def test_it_is_right_on_more_shapes(shape: Shape, target: str, threads: int) -> None:
    check(shape, target, threads)


def test_scores_far_apart_leave_the_largest() -> None:
    check(Shape(1, 20, 150, 2, 16, 16), "native", 1, sharp=40.0)


def test_a_later_chunk_may_have_all_the_weight_or_none() -> None:
    s = Shape(1, 6, 150, 1, 8, 8)
    q, v = np.ones((1, 6, 1, 8), np.float32), random((1, 150, 1, 8))
    for rising in (True, False):
        steps = np.arange(150, dtype=np.float32)[None, :, None, None] * np.float32(4)
        k = np.broadcast_to(steps if rising else -steps, (1, 150, 1, 8)).astype(np.float32)
        kernel = kernel_of(s, (own(q), own(k), own(v)), 1.0, resolve("native"), 1)
        y = run(kernel, [q, k, v])
        np.testing.assert_allclose(y, exact(q, k, v, 1.0), atol=1e-6)


def test_operands_are_read_in_place() -> None:
    n, tokens, heads, depth = 2, 21, 3, 24
    qkv = random((n, tokens, 3, heads, depth))
    each = heads * depth
    places = [
        TokenPlace(qkv.size, turn * each, tokens * 3 * each, 3 * each, depth) for turn in range(3)
    ]
    s = Shape(n, tokens, tokens, heads, depth, depth)
    kernel = kernel_of(s, tuple(places), 0.3, resolve("native"), 2)
    y = run(kernel, [qkv, qkv, qkv])
    expected = exact(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], 0.3)
    assert np.abs(y - expected).max() <= BOUND * np.abs(qkv).max()


def test_what_is_no_number_stays_in_its_row() -> None:
    s = Shape(1, 18, 9, 1, 8, 8)
    q, k, v = (random((1, t, 1, 8)) for t in (18, 9, 9))
    q[0, 4, 0, 2] = np.nan
    y = run(kernel_of(s, (own(q), own(k), own(v)), 1.0, resolve("native"), 1), [q, k, v])
    assert np.isnan(y[0, 4]).all()
    assert np.isfinite(np.delete(y[0], 4, axis=0)).all()


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "aarch64"])
@pytest.mark.parametrize("queries", [1, 16, 50, 197, 577])
def test_blocks_hold_every_query_once(queries: int, target: str) -> None:
    cpu = resolve(target)
    s = Shape(1, queries, 4, 1, 8, 8)
    plain = (TokenPlace(1, 0, 0, 0, 0),) * 3
    blocks = kernel_of(s, plain, 1.0, cpu, 1).blocks()
    seen: list[int] = []
    for block in blocks:
        assert block.first == sum(b.times for b in blocks[: blocks.index(block)])
        for turn in range(block.times):
            start = block.start + turn * block.vectors * cpu.lanes
            seen += range(start, start + block.queries)
    assert seen == list(range(queries))
    widths = [math.ceil(b.queries / cpu.lanes) for b in blocks for _ in range(b.times)]
    assert max(widths) - min(widths) <= 1
