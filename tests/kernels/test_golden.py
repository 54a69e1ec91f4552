"""The generated TVMScript of each primitive for two targets: a change of code shows as a diff.

`DLAS_UPDATE_GOLDEN=1 pytest tests/kernels/test_golden.py` writes the files anew.
"""

import os
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from dlas.kernels import Conv2d
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.contract import Request
from dlas.kernels.ground.knobs import FIXED
from dlas.kernels.ground.target import resolve

GOLDEN = Path(__file__).parent / "golden"
DENSE = Conv2d(1, 32, 8, 8, 64, (3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = Conv2d(1, 32, 8, 8, 32, (3, 3), padding=(1, 1, 1, 1), groups=32)
CASES = [
    *((name, weights, DENSE) for name, weights in primitives.PRIMITIVES if name != "native"),
    ("spatial-pack", "dense", DEPTHWISE),
]


def script(primitive: str, weights: str, op: Conv2d, target: str, dtype: str = "float32") -> str:
    chosen, cpu = primitives.find(primitive, weights, dtype), resolve(target)
    out = chosen.writes(op, cpu)
    epilogue = Epilogue("relu" if dtype == "float32" else None, None)
    request = Request(cpu, 1, chosen.needs(op, cpu, FIXED), out, epilogue)
    return str(chosen.lower(op, request).function("conv").script()).rstrip() + "\n"


@pytest.mark.parametrize("target", ["x86-64-v4", "aarch64"])
@pytest.mark.parametrize(("primitive", "weights", "op"), CASES)
def test_generated_code_is_the_golden_one(
    primitive: str, weights: str, op: Conv2d, target: str
) -> None:
    kind = "-depthwise" if op.depthwise else ""
    path = GOLDEN / f"{primitive}{kind}-{weights}-{target}.txt"
    compare(path, script(primitive, weights, op, target))


def test_generated_code_for_avx2_is_the_golden_one() -> None:
    text = script("spatial-pack", "dense", DENSE, "x86-64-v3")
    compare(GOLDEN / "spatial-pack-dense-x86-64-v3.txt", text)


INT8_TARGETS = [
    *("x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-amx"),
    *("aarch64", "aarch64-dotprod", "aarch64-i8mm"),
]


@pytest.mark.parametrize("target", INT8_TARGETS)
def test_generated_code_in_int8_is_the_golden_one(target: str) -> None:
    text = script("spatial-pack", "dense", DENSE, target, "int8")
    compare(GOLDEN / f"spatial-pack-dense-int8-{target}.txt", text)


@pytest.mark.parametrize("primitive", ["direct", "gemm"])
def test_generated_code_of_sparse_int8_is_the_golden_one(primitive: str) -> None:
    text = script(primitive, "csr", DENSE, "x86-64-v4-vnni", "int8")
    compare(GOLDEN / f"{primitive}-csr-int8-x86-64-v4-vnni.txt", text)


@pytest.mark.parametrize("primitive", ["direct", "gemm", "spatial-pack-depthwise"])
def test_generated_code_of_each_primitive_in_int8_is_the_golden_one(primitive: str) -> None:
    op = DEPTHWISE if primitive.endswith("-depthwise") else DENSE
    text = script(primitive.removesuffix("-depthwise"), "dense", op, "x86-64-v4-vnni", "int8")
    compare(GOLDEN / f"{primitive}-dense-int8-x86-64-v4-vnni.txt", text)


HALVES = [
    ("bfloat16", "x86-64-v3"),
    ("bfloat16", "x86-64-v4"),
    ("bfloat16", "x86-64-v4-bf16"),
    ("bfloat16", "x86-64-v4-amx"),
    ("bfloat16", "aarch64"),
    ("bfloat16", "aarch64-bf16"),
    ("float16", "x86-64-v3"),
    ("float16", "x86-64-v4"),
    ("float16", "x86-64-v4-fp16"),
    ("float16", "aarch64"),
    ("float16", "aarch64-fp16"),
]


@pytest.mark.parametrize(("dtype", "target"), HALVES)
def test_generated_code_in_halves_is_the_golden_one(dtype: str, target: str) -> None:
    text = script("spatial-pack", "dense", DENSE, target, dtype)
    compare(GOLDEN / f"spatial-pack-dense-{dtype}-{target}.txt", text)


def compare(path: Path, text: str) -> None:
    if os.environ.get("DLAS_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; see this file's first lines"
