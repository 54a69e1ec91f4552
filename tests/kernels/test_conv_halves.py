"""Convolutions whose filters are stored in floats of 16 bits, against float64."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm")

from dlas.kernels import Conv2d, UnsupportedError, build_conv2d
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.winograd import why_not
from dlas.kernels.ground.half_floats import STORED
from dlas.kernels.ground.target import INSTRUCTION_SETS, of_level, resolve, runs_here
from dlas.kernels.ground.types import HALVES
from drawn_shapes import THREADS, operators, sixty
from kernel_checks import check_half, pairwise, random
from kernel_shapes import SHAPES, name

PRIMITIVES = ["direct", "gemm", "spatial-pack", "winograd"]
WAYS = [
    ("bfloat16", "x86-64-v4-bf16"),
    ("float16", "x86-64-v3"),
    ("float16", "x86-64-v4-fp16"),
    ("bfloat16", "x86-64-v3"),
    ("bfloat16", "x86-64-v4-amx"),
    ("float16", "x86-64-v4"),
]
"""Types, and targets with instructions of their own for them or none."""
HERE = [way for way in WAYS if runs_here(resolve(way[1]))]
QUICK = pairwise(SHAPES, 6)
"""Few: it is the convolution of float32 but for the load of filters."""
SMALL = Conv2d(1, 18, 7, 6, 20, (3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = Conv2d(1, 20, 9, 7, 20, (3, 3), padding=(1, 1, 1, 1), groups=20)


@pytest.mark.parametrize("turn", range(len(QUICK)), ids=lambda i: name(QUICK[i]))
def test_halves_are_right_on_few_shapes(turn: int) -> None:
    primitive, (dtype, target) = PRIMITIVES[turn % 3], HERE[turn % len(HERE)]
    check_half(QUICK[turn], primitive, dtype, turn, 1 + turn // 2 % 2, target)


ODD = [
    Conv2d(1, 37, 9, 11, 45, (3, 2), (2, 1), (1, 0, 0, 1), (1, 2)),
    Conv2d(2, 48, 5, 7, 40, (3, 3), padding=(1, 1, 1, 1)),
    Conv2d(1, 3, 8, 9, 18, (3, 3), (2, 2), (1, 1, 1, 1)),
    Conv2d(3, 35, 2, 3, 21, (2, 3)),
    Conv2d(1, 70, 6, 18, 33, (1, 1)),
    Conv2d(2, 5, 9, 8, 35, (4, 4), padding=(1, 2, 2, 1)),
    Conv2d(1, 1, 12, 17, 20, (5, 7), (1, 2), (2, 3, 2, 3)),
]
"""Channels that fill no pair, tile or vector; odd numbers of blocks; strides and batches."""
INSTRUCTIONS = {
    "x86-64-v4-bf16": ("bfloat16", ["direct", "gemm", "spatial-pack"]),
    "x86-64-v4-fp16": ("float16", ["spatial-pack", "direct"]),
    "x86-64-v4-amx": ("bfloat16", ["spatial-pack"]),
}


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_instructions_for_halves_are_right_on_odd_shapes(target: str) -> None:
    if not runs_here(resolve(target)):
        pytest.skip(f"this CPU has not what {target} has")
    dtype, names = INSTRUCTIONS[target]
    used = set()
    for turn, op in enumerate(ODD):
        built = check_half(op, names[turn % len(names)], dtype, turn, 1 + turn % 2, target)
        used.add(built.describe()["types"]["input"])
    assert dtype in used
    if target != "x86-64-v4-amx":  # which has tiles of whole pixels only
        assert used == {dtype}


@pytest.mark.parametrize("dtype", HALVES)
def test_winograd_and_depthwise_in_halves_are_right(dtype: str) -> None:
    check_half(SMALL, "winograd", dtype, turn=1, threads=2)
    check_half(DEPTHWISE, "spatial-pack", dtype, turn=2, threads=1)


@pytest.mark.kernels_full
@pytest.mark.parametrize(("dtype", "target"), HERE)
@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_halves_are_right_on_all_shapes(
    turn: int, primitive: str, dtype: str, target: str
) -> None:
    if primitive == "winograd" and why_not(SHAPES[turn]):
        pytest.skip("no convolution for winograd")
    check_half(SHAPES[turn], primitive, dtype, turn, 1 + turn % 2, target)


@pytest.mark.kernels_full
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("primitive", ["direct", "gemm", "spatial-pack", "native"])
@sixty
@given(op=operators(), turn=st.integers(0, 3), threads=THREADS)
def test_halves_are_right_on_drawn_shapes(
    primitive: str, dtype: str, op: Conv2d, turn: int, threads: int
) -> None:
    check_half(op, primitive, dtype, turn, threads)


@pytest.mark.parametrize(
    ("primitive", "dtype"),
    [(p, HALVES[turn % 2]) for turn, p in enumerate([*PRIMITIVES, "native"])],
)
def test_weights_are_half_as_large_and_the_types_are_told(primitive: str, dtype: str) -> None:
    weight = random(SMALL.weight_shape)
    said = build_conv2d(SMALL, weight, primitive=primitive, dtype=dtype).describe()
    whole = build_conv2d(SMALL, weight, primitive=primitive).describe()
    bias = 4 * 32
    assert said["dtype"] == dtype and said["types"]["weight"] == dtype
    assert said["types"]["accumulate"] == said["types"]["output"] == "float32"
    assert (said["weight_bytes"] - bias) * 2 <= whole["weight_bytes"] - bias


@pytest.mark.parametrize("dtype", HALVES)
def test_filters_are_stored_as_they_are_told_to_be(dtype: str) -> None:
    for primitive in PRIMITIVES:
        built = build_conv2d(SMALL, random(SMALL.weight_shape), primitive=primitive, dtype=dtype,
                             target="x86-64-v3")  # fmt: skip
        assert str(built.kernel.constants(built.weight, None)[0].dtype) == STORED[dtype]
        assert built.describe()["types"]["input"] == "float32"  # multiplied so


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_what_is_no_number_stays_so_when_it_is_rounded(target: str) -> None:
    if not runs_here(resolve(target)):
        pytest.skip(f"this CPU has not what {target} has")
    dtype, names = INSTRUCTIONS[target]
    op = Conv2d(1, 32, 6, 9, 16, (1, 1))
    x = np.zeros(op.in_shape, np.float32)
    x[0, 5, 2, 3] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)  # rounded up it would be -0
    x[0, 8, 4, 4] = np.inf
    for primitive in names:
        built = build_conv2d(op, np.ones(op.weight_shape), primitive=primitive, dtype=dtype,
                             target=target)  # fmt: skip
        y = built(x)
        assert np.isnan(y[:, :, 2, 3]).all() and np.isposinf(y[:, :, 4, 4]).all()
        assert (np.isfinite(y).sum((2, 3)) == 52).all()


TILES = ["ldtilecfg", "tileloadd", "tilestored", "tilerelease"]
DISASSEMBLED = [
    ("bfloat16", "x86-64-v4-bf16", ["vdpbf16ps"]),
    ("float16", "x86-64-v4-fp16", ["vfmadd231ph", "vcvtps2ph"]),
    ("float16", "x86-64-v3", ["vcvtph2ps", "vfmadd231ps"]),
    ("bfloat16", "x86-64-v4-amx", ["tdpbf16ps", *TILES]),
    ("int8", "x86-64-v4-amx", ["tdpbusd", *TILES]),
    ("int8", "x86-64-v3-vnni", ["vpdpbusd"]),
]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.parametrize(("dtype", "target", "wanted"), DISASSEMBLED)
def test_code_for_narrow_types_holds_the_instructions_of_its_target(
    dtype: str, target: str, wanted: list[str], tmp_path: Path
) -> None:
    """Compiled for a CPU that has them, on any."""
    seen = disassembled(dtype, target, tmp_path)
    found = {word: seen.count(word) for word in wanted}
    assert all(found.values()), found
    assert found.get("ldtilecfg") == found.get("tilerelease")  # in every job


def disassembled(dtype: str, target: str, folder: Path) -> str:
    """Return the instructions of a convolution by `spatial-pack`."""
    op, cpu = Conv2d(1, 64, 9, 20, 48, (3, 3), padding=(1, 1, 1, 1)), resolve(target)
    kernel = primitives.plain_kernel(op, "spatial-pack", "dense", cpu, 2, dtype=dtype)
    code = folder / "kernels.so"
    code.write_bytes(compile_functions({"conv": kernel.function("conv")}, cpu))
    command = ["objdump", "-d", "--no-show-raw-insn", str(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


FLOATS_OF_16 = ["vfmadd231ph", "vmulph", "vaddph"]
LEVELS = {
    "avx2": ("vpmaddwd", ["zmm", "%k", "vpdp", "vdpbf16", "tdp", "tile", *FLOATS_OF_16]),
    "avx512": ("vpmaddwd", ["vpdp", "vdpbf16", "tdp", "tile", *FLOATS_OF_16]),
    "vnni": ("vpdpbusd", ["vdpbf16", "tdp", "tile", *FLOATS_OF_16]),
    "amx": ("tdpbusd", FLOATS_OF_16),
}
"""What multiplies bytes at each level of x86-64, and what belongs to higher ones."""


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
def test_dot_products_of_avx_vnni_need_no_avx512(tmp_path: Path) -> None:
    """Client CPUs multiply bytes in vectors of 256 bits, in an encoding of their own."""
    seen = disassembled("int8", "x86-64-v3-vnni", tmp_path)
    assert "{vex} vpdpbusd" in seen
    assert not [sign for sign in ("zmm", "%k", "%ymm16", "%ymm31") if sign in seen]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_code_of_a_level_holds_nothing_of_higher_ones(isa: str, tmp_path: Path) -> None:
    wanted, higher = LEVELS[isa]
    seen = {
        dtype: disassembled(dtype, of_level(isa).name, tmp_path) for dtype in ("int8", *HALVES)
    }
    assert wanted in seen["int8"]
    assert not [sign for text in seen.values() for sign in higher if sign in text]


def test_what_cannot_be_built_in_halves_says_why() -> None:
    with pytest.raises(UnsupportedError, match="CSR weights in bfloat16 are not implemented"):
        build_conv2d(SMALL, random(SMALL.weight_shape), weights="csr", dtype="bfloat16")
    with pytest.raises(UnsupportedError, match="weights up to 70000 do not fit into float16"):
        build_conv2d(SMALL, np.full(SMALL.weight_shape, 7e4), dtype="float16")
    with pytest.raises(UnsupportedError, match=r"one of .*'float61'; did you mean 'float16'"):
        build_conv2d(SMALL, random(SMALL.weight_shape), dtype="float61")
    with pytest.raises(UnsupportedError, match="metaschedule in float16 is not implemented"):
        build_conv2d(SMALL, random(SMALL.weight_shape), primitive="native", dtype="float16",
                     tuning={"scheduler": "metaschedule", "trials": 2})  # fmt: skip


def test_every_dense_primitive_exists_in_halves() -> None:
    dense = {p for p, weights in primitives.PRIMITIVES if weights == "dense"}
    for dtype in HALVES:
        assert {p for p, _ in primitives.of_type(dtype)} == dense
