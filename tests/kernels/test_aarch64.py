"""Kernels cross-compiled for aarch64 and run under qemu's user-mode emulation."""

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel_checks import any_table, bytes_of, filters_of, random, rounded, scales_of

tvm = pytest.importorskip("tvm")
import tvm_ffi  # noqa: E402

from dlas.kernels import Conv2d, Scale  # noqa: E402
from dlas.kernels.code.emit import argument_shapes, argument_types  # noqa: E402
from dlas.kernels.code.epilogue import Epilogue  # noqa: E402
from dlas.kernels.code.machine_code import compile_functions, compiled  # noqa: E402
from dlas.kernels.convolution import oracle, primitives  # noqa: E402
from dlas.kernels.convolution.contract import Kernel, Request  # noqa: E402
from dlas.kernels.ground.arrays import viewed  # noqa: E402
from dlas.kernels.ground.expression import given, operator  # noqa: E402
from dlas.kernels.ground.knobs import FIXED  # noqa: E402
from dlas.kernels.ground.layout import Layout, pack, unpack  # noqa: E402
from dlas.kernels.ground.target import resolve  # noqa: E402
from dlas.kernels.operators.attention import Attention, TokenPlace  # noqa: E402
from dlas.kernels.operators.byte_average import ByteAverage  # noqa: E402
from dlas.kernels.operators.byte_mean import ByteMean  # noqa: E402
from dlas.kernels.operators.pointwise import Lookup, Pointwise  # noqa: E402

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
MISSING = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

DENSE = Conv2d(1, 10, 9, 7, 13, (3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = Conv2d(1, 10, 9, 7, 10, (3, 3), padding=(1, 1, 1, 1), groups=10)
FETCHED = Conv2d(1, 120, 5, 6, 136, (3, 3), padding=(1, 1, 1, 1))  # filters are fetched ahead
CASES = [(*key, DENSE) for key in primitives.PRIMITIVES if key[0] != "native"]
CASES.append(("spatial-pack", "dense", DEPTHWISE))
CASES.append(("gemm", "dense", Conv2d(1, 37, 3, 2, 21, (3, 3), padding=(1, 1, 1, 1))))
CASES += [(name, "dense", FETCHED) for name in ("spatial-pack", "winograd")]


def include_folders() -> list[Path]:
    root = Path(tvm_ffi.__file__).parent
    return [path for path in (root / "include", root / "3rdparty/dlpack/include") if path.exists()]


def build(function: object, folder: Path, target: str = "aarch64") -> Path:
    """Link the kernel, compiled as `build` does, and the C program that calls it."""
    kernel = folder / "kernel.o"
    compiled({"conv": function}, resolve(target)).mod.write_to_file(str(kernel))
    includes = [f"-I{path}" for path in include_folders()]
    main = Path(__file__).parent / "aarch64_main.c"
    program = folder / "program"
    command = [COMPILER, "-O1", "-static", *includes, str(main), str(kernel), "-lm", "-o"]
    subprocess.run([*command, str(program)], check=True, capture_output=True, text=True)
    return program


def lower(primitive: str, weights: str, op: Conv2d) -> tuple[Kernel, Layout, Layout]:
    """Return the kernel with a relu, and the layouts of its input and output."""
    chosen, cpu = primitives.find(primitive, weights), resolve("aarch64")
    inp, out = chosen.needs(op, cpu, FIXED), chosen.writes(op, cpu)
    request = Request(cpu, 1, inp, out, Epilogue("relu", None))
    return chosen.lower(op, request), inp, out


def write(arrays: list[np.ndarray], path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("i", len(arrays)))
        for array in arrays:
            kind = ["float32", "int32", "uint16", "uint8", "float16"].index(str(array.dtype))
            file.write(struct.pack("ii", kind, array.ndim))
            file.write(struct.pack(f"{array.ndim}q", *array.shape))
            file.write(array.tobytes())


@pytest.mark.parametrize(("primitive", "weights", "op"), CASES)
def test_kernel_is_right_on_aarch64(
    primitive: str, weights: str, op: Conv2d, tmp_path: Path
) -> None:
    kernel, inp, out = lower(primitive, weights, op)
    function = kernel.function("conv")
    x, w, b = random(op.in_shape), random(op.weight_shape), random((op.out_channels,))
    if weights == "csr":
        w[np.random.default_rng().random(w.shape) < 0.7] = 0
    y = np.full(out.shape(op.out_shape), np.nan, np.float32)
    arrays = [pack(x, inp), *kernel.constants(w, b), y]
    shaped = [
        array if shape is None else array.reshape(shape)
        for array, shape in zip(arrays, argument_shapes(function), strict=True)
    ]
    write(shaped, tmp_path / "arguments")
    program = build(function, tmp_path)
    command = [EMULATOR, str(program), str(tmp_path / "arguments"), str(tmp_path / "y")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    result = unpack(np.fromfile(tmp_path / "y", np.float32), out, op.out_shape)
    exact = oracle.conv2d(op, x, w, b, "relu")
    bound = oracle.WINOGRAD_BOUND if primitive == "winograd" else oracle.DIRECT_BOUND
    assert (np.abs(result - exact.y) <= bound * exact.magnitude).all()


SMALL_IMAGE = Conv2d(1, 37, 3, 2, 21, (3, 3), padding=(1, 1, 1, 1))  # output channels in lanes
INT8 = [
    ("spatial-pack", DENSE, "aarch64", ""),
    ("spatial-pack", DENSE, "aarch64-dotprod", "table"),
    ("spatial-pack", DENSE, "aarch64-i8mm", "residual"),
    ("spatial-pack", DEPTHWISE, "aarch64-dotprod", ""),
    ("direct", DENSE, "aarch64-dotprod", "residual"),
    ("direct csr", DENSE, "aarch64-i8mm", ""),
    ("gemm", DENSE, "aarch64-dotprod", ""),
    ("gemm", DENSE, "aarch64-i8mm", "table"),  # four channels of a pixel are looked up together
    ("gemm", SMALL_IMAGE, "aarch64-i8mm", ""),
    ("gemm csr", DENSE, "aarch64-dotprod", ""),
]


@pytest.mark.parametrize(("name", "op", "target", "fused"), INT8)
def test_int8_is_exact_on_aarch64(
    name: str, op: Conv2d, target: str, fused: str, tmp_path: Path
) -> None:
    primitive, _, weights = name.partition(" ")
    chosen, cpu = primitives.find(primitive, weights or "dense", "int8"), resolve(target)
    inp, out = chosen.needs(op, cpu, FIXED), chosen.writes(op, cpu)
    epilogue = Epilogue(residual=out if fused == "residual" else None, table=fused == "table")
    kernel = chosen.lower(op, Request(cpu, 1, inp, out, epilogue))
    x, scales = bytes_of(op.in_shape), scales_of(op)
    weight, bias = filters_of(op, 0.9 if weights else 0.0)
    scales = replace(scales, table=any_table() if fused == "table" else None)
    beside = bytes_of(op.out_shape) if fused == "residual" else None
    if beside is None:
        scales = replace(scales, sum=None)
    packed = primitives.constants(kernel, weight, bias, scales)
    more = [] if beside is None else [pack(beside, out)]
    y = np.zeros(out.shape(op.out_shape), np.uint8)
    found = emulated(kernel, [pack(x, inp, scales.x.zero), *packed, *more], y, target, tmp_path)
    exact = oracle.quantized_conv2d(op, x, weight, bias, scales, beside)
    np.testing.assert_array_equal(unpack(found, out, op.out_shape), exact)


def emulated(
    kernel: Any, arrays: list[np.ndarray], output: np.ndarray, target: str, folder: Path
) -> np.ndarray:
    """Return what a kernel writes into an output, run by the emulator."""
    function = kernel.function("conv")
    forms = zip([*arrays, output], argument_shapes(function), argument_types(function),
                strict=True)  # fmt: skip
    write([viewed(*each) for each in forms], folder / "arguments")
    program = build(function, folder, target)
    command = [EMULATOR, "-cpu", "max", str(program), *map(str, ends(folder))]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return np.fromfile(folder / "y", output.dtype)


def test_functions_of_bytes_are_right_on_aarch64(tmp_path: Path) -> None:
    """Looked up, computed with another image, averaged: what stands between products."""
    cpu, nchw = resolve("aarch64"), (1, 20, 7, 9)
    form, given_, made = Layout(4), Scale(0.04, 99), Scale(0.03, 130)
    x, gate, table = bytes_of(nchw), bytes_of((1, 20, 1, 1)), any_table()
    y, pooled = np.zeros(form.shape(nchw), np.uint8), np.zeros(form.shape((1, 20, 1, 1)), np.uint8)

    look = Lookup(nchw, form, form, cpu, 1)
    found = emulated(look, [pack(x, form), *look.constants(table)], y, "aarch64", tmp_path)
    expected = np.frombuffer(table.stored, np.uint8)[x]
    np.testing.assert_array_equal(unpack(found, form, nchw), expected)

    real, gates = ((q.astype(np.float32) - 99) * np.float32(0.04) for q in (x, gate))
    scales = [given_, given_]
    product = operator("multiply", operator("relu", given(0)), given(1))
    kinds, whole = ("uint8",) * 3, (True, False)
    point = Pointwise(nchw, (form, form), kinds, whole, product, form, True, cpu, 1)
    arrays = [pack(x, form), pack(gate, form), *point.constants(scales, made)]
    found = emulated(point, arrays, y, "aarch64", tmp_path)
    exact = np.clip(np.rint(np.maximum(real, 0) * gates / np.float32(0.03)) + 130, 0, 255)
    assert np.abs(unpack(found, form, nchw) - exact).max() <= 1

    mean = ByteMean(nchw, form, form, operator("relu", given(0)), "uint8", cpu, 1)
    found = emulated(mean, [pack(x, form), *mean.constants(given_, made)], pooled, "aarch64",
                     tmp_path)  # fmt: skip
    exact = np.maximum(real, 0).mean((2, 3), keepdims=True) / np.float32(0.03)
    exact = np.clip(np.rint(exact) + 130, 0, 255)
    assert np.abs(unpack(found, form, (1, 20, 1, 1)) - exact).max() <= 1


def test_averages_of_bytes_are_exact_on_aarch64(tmp_path: Path) -> None:
    """Products are rounded before they are added, with or without fused multiply-adds."""
    nchw, form, one = (1, 20, 7, 9), Layout(4), np.float32
    x, scales = bytes_of(nchw), (Scale(0.0437, 99), Scale(0.0213, 130))
    kernel = ByteAverage(nchw, (3, 4), (2, 2), (2, 2), (0, 0, 0, 0), True, form, form, 1)
    y = np.zeros(form.shape((1, 20, 3, 4)), np.uint8)
    arrays = [pack(x, form), *kernel.constants(*scales)]
    found = emulated(kernel, arrays, y, "aarch64", tmp_path)
    real = (x.astype(np.float32) - 99) * one(scales[0].scale)
    total = np.zeros((1, 20, 3, 4), np.float32)
    for row in (0, 1):
        for column in (0, 1):
            total += real[:, :, row:6:2, column:8:2]
    exact = np.clip(np.rint(total / one(4) / one(scales[1].scale) + one(130)), 0, 255)
    np.testing.assert_array_equal(unpack(found, form, (1, 20, 3, 4)), exact)


def test_attention_is_right_on_aarch64(tmp_path: Path) -> None:
    n, tokens, heads, depth = 2, 37, 2, 10
    each = heads * depth
    qkv = random((n, tokens, 3, heads, depth))
    q, k, v = (
        TokenPlace(qkv.size, turn * each, tokens * 3 * each, 3 * each, depth) for turn in range(3)
    )
    kernel = Attention(
        n, tokens, tokens, heads, depth, depth, 0.3, (q, k, v), resolve("aarch64"), 1
    )
    y = np.full(n * tokens * each, np.nan, np.float32)
    write([qkv.reshape(-1)] * 3 + [y], tmp_path / "arguments")
    program = build(kernel.function("conv"), tmp_path)
    command = [EMULATOR, str(program), str(tmp_path / "arguments"), str(tmp_path / "y")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    found = np.fromfile(tmp_path / "y", np.float32).reshape(n, tokens, heads, depth)
    q64, k64, v64 = (qkv[:, :, turn].astype(np.float64) for turn in range(3))
    weights = np.exp(0.3 * np.einsum("nqhd,nkhd->nhqk", q64, k64))
    weights /= weights.sum(-1, keepdims=True)
    exact = np.einsum("nhqk,nkhd->nqhd", weights, v64)
    assert np.abs(found - exact).max() <= 3e-6 * np.abs(v64).max()


@pytest.mark.parametrize(
    ("dtype", "primitive", "target"),
    [
        ("bfloat16", "spatial-pack", "aarch64"),
        ("float16", "gemm", "aarch64"),
        ("bfloat16", "spatial-pack", "aarch64-bf16"),
        ("bfloat16", "direct", "aarch64-bf16"),
        ("bfloat16", "gemm", "aarch64-bf16"),
        ("float16", "spatial-pack", "aarch64-fp16"),
        ("float16", "direct", "aarch64-fp16"),
    ],
)
def test_halves_are_right_on_aarch64(
    dtype: str, primitive: str, target: str, tmp_path: Path
) -> None:
    chosen, cpu = primitives.find(primitive, "dense", dtype), resolve(target)
    inp, out = chosen.needs(DENSE, cpu, FIXED), chosen.writes(DENSE, cpu)
    kernel = chosen.lower(DENSE, Request(cpu, 1, inp, out, Epilogue("relu")))
    function, kinds = kernel.function("conv"), primitives.types_of(kernel)
    assert (kinds.input == dtype) == (target != "aarch64")
    x, w, b = random(DENSE.in_shape), random(DENSE.weight_shape), random((DENSE.out_channels,))
    y = np.full(out.shape(DENSE.out_shape), np.nan, np.float32)
    arrays = [pack(x, inp), *kernel.constants(w, b), y]
    forms = zip(argument_shapes(function), argument_types(function), strict=True)
    given = [viewed(a, *form) for a, form in zip(arrays, forms, strict=True)]
    write(given, tmp_path / "arguments")
    program = build(function, tmp_path, target)
    command = [EMULATOR, "-cpu", "max", str(program), *map(str, ends(tmp_path))]
    subprocess.run(command, check=True, capture_output=True, text=True)
    result = unpack(np.fromfile(tmp_path / "y", np.float32), out, DENSE.out_shape)
    exact = oracle.conv2d(DENSE, rounded(x, kinds.input), rounded(w, dtype), b, "relu")
    allowed = oracle.bound(primitive, dtype, kinds.input) * exact.magnitude
    assert (np.abs(result - exact.y) <= allowed).all()


def ends(folder: Path) -> tuple[Path, Path]:
    """The files of the arguments and of the output."""
    return folder / "arguments", folder / "y"


def test_product_is_a_shared_library_for_aarch64() -> None:
    kernels = [lower(name, "dense", DENSE)[0] for name in ("spatial-pack", "gemm")]
    functions = {f"conv_{at}": kernel.function(f"conv_{at}") for at, kernel in enumerate(kernels)}
    code = compile_functions(functions, resolve("aarch64"))
    kind, machine = struct.unpack_from("<HH", code, 16)  # e_type, e_machine
    assert (code[:4], kind, machine) == (b"\x7fELF", 3, 0xB7)  # a shared object, AArch64
    assert all(name.encode() in code for name in functions)
