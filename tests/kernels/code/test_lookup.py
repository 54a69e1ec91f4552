"""Functions of a byte by their tables: every byte in every place, by each instruction there is."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from dlas.kernels.code.lookup import permutes_bytes
from dlas.kernels.ground.layout import NCHW, Layout, Shape4, pack, unpack
from dlas.kernels.ground.target import CpuTarget, resolve, runs_here
from dlas.kernels.operators.pointwise import Lookup
from kernel_checks import any_table, bytes_of, called

TARGETS = [t for t in ("native", "x86-64-v3", "x86-64-v4") if runs_here(resolve(t))]
CASES: list[tuple[Shape4, int, tuple[int, int, int, int]]] = [
    ((1, 256, 3, 7), 0, (0, 0, 0, 0)),
    ((2, 48, 5, 5), 0, (1, 2, 0, 1)),
    ((1, 3, 4, 5), 1, (0, 0, 0, 0)),
    ((1, 10, 1, 1), 4, (0, 0, 0, 0)),
    ((1, 16, 130, 97), 0, (0, 0, 0, 0)),
]
"""Shapes, channels of a block (0: those of a vector), halos of the output: less than a vector,
whole ones, rests, jobs of several threads."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("nchw", "block", "halo"), CASES)
def test_results_are_those_of_the_table(
    nchw: Shape4, block: int, halo: tuple[int, int, int, int], target: str
) -> None:
    cpu, table = resolve(target), any_table()
    form = Layout(block or cpu.lanes)
    out, x = form.with_halo(halo), bytes_of(nchw)
    kernel, y = Lookup(nchw, form, out, cpu, 2), np.zeros(out.shape(nchw), np.uint8)
    found = called(kernel, [pack(x, form), *kernel.constants(table)], y)
    expected = np.frombuffer(table.stored, np.uint8)[x]
    np.testing.assert_array_equal(unpack(found, out, nchw), expected)
    if nchw[1] % form.block == 0:  # no channels that there are not
        np.testing.assert_array_equal(found, pack(expected, out, table.scale.zero))


def test_every_byte_is_found_in_every_place() -> None:
    for target in TARGETS:
        cpu, table = resolve(target), any_table()
        size = 4 * cpu.lanes
        x = np.stack([np.roll(np.arange(256, dtype=np.uint8), at) for at in range(size)])
        nchw = (1, 1, size, 256)
        kernel, y = Lookup(nchw, NCHW, NCHW, cpu, 1), np.zeros_like(x)
        y = called(kernel, [x, *kernel.constants(table)], y)
        expected = np.frombuffer(table.stored, np.uint8)[x]
        np.testing.assert_array_equal(y.reshape(x.shape), expected)


def without(target: CpuTarget, *flags: str) -> CpuTarget:
    """A CPU that has all but some features."""
    kept = tuple(f for f in target.features if f not in flags)
    return replace(target, features=kept)


def test_instructions_follow_the_features() -> None:
    v4 = resolve("x86-64-v4")
    assert not permutes_bytes(v4) and not permutes_bytes(resolve("x86-64-v3"))
    vbmi = replace(
        v4, features=(*v4.features, "avx512vbmi"), attributes=(*v4.attributes, "avx512vbmi")
    )
    assert permutes_bytes(vbmi) and not permutes_bytes(without(vbmi, "avx512vbmi"))
    used = {"vpermi2var": vbmi, "pshuf.b.512": v4, "avx2.pshuf.b": resolve("x86-64-v3")}
    used["tbx4"] = resolve("aarch64")
    for word, target in used.items():
        form = Layout(target.lanes)
        code = Lookup((1, 32, 9, 9), form, form, target, 1).function("look_up").script()
        assert word in code
        assert not any(other in code for other in used if other != word)
