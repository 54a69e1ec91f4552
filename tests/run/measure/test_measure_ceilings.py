from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec
from dlas.kernels.ground import cpu
from dlas.kernels.ground.target import resolve
from dlas.run.measure import ceilings, one_operator

SPEC = DataSpec(classes=10, channels=3, height=8, width=6, batch=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ceilings, "SPAN_S", 0.01)
    monkeypatch.setattr(ceilings, "_SIZE", 64)
    monkeypatch.setattr(ceilings, "_LEAST", 2**20)
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)


def test_the_bandwidth_is_read_for_each_thread_count() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    asked = {str(n): cpus[-n:] for n in (1, len(cpus))}
    said = ceilings.bandwidth({"cpus": asked, "cache_bytes": 2**21})
    assert set(said["values"]) == set(asked)
    assert all(value > 0.01 for value in said["values"].values())
    assert said["array_mb"] > said["cache_mb"] == pytest.approx(2.097152)
    unknown = ceilings.bandwidth({"cpus": {"1": cpus[-1:]}, "cache_bytes": None})
    assert unknown["cache_mb"] is None


def test_every_element_is_added_once_in_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []

    def count(work: Any) -> float:
        work()
        turns.append(1)
        return 1.0

    monkeypatch.setattr(ceilings, "_best", count)
    for threads in (1, 2, 3):
        a, b = np.zeros(1001, np.float32), np.ones(1001, np.float32)
        assert ceilings._add(a, b, threads) == 1.0
        assert (a == 1).all()
    assert len(turns) == 3


def test_arrays_that_do_not_fit_are_not_measured() -> None:
    with pytest.raises(StepError, match="larger than the last cache"):
        ceilings.bandwidth({"cpus": {"1": [0]}, "cache_bytes": 2**50})


def test_without_a_compiled_loop_matrices_give_a_lower_bound() -> None:
    said = ceilings.arithmetic({"threads": 1})
    assert said["value"] > 0.01
    assert "lower bound" in said["method"]


def test_the_loop_of_multiply_adds_is_at_least_as_fast_as_matrices(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    info = ceilings.build_loop({"isa": "native", "threads": 1, "folder": str(tmp_path)})
    said = ceilings.arithmetic({"threads": 1, "loop": str(tmp_path), **info})
    assert said["method"] == ceilings.FMA
    assert info["flops"] == 2 * info["lanes"] * info["sums"] * ceilings._STEPS
    assert said["value"] > 1.0


@pytest.mark.parametrize("isa", ["native", "avx2"])
def test_the_loop_of_bytes_counts_four_a_lane_and_64_in_a_tile(isa: str, tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    if platform.machine() != "x86_64" and isa != "native":
        pytest.skip("a level of x86-64")
    given = {"isa": isa, "threads": 1, "folder": str(tmp_path), "dtype": "int8"}
    info = ceilings.build_loop(given)
    tiled = "tiles" in info
    assert tiled == (isa == "native" and "amx_int8" in resolve("native").features)
    products = 64 if tiled else 4
    assert info["flops"] == 2 * products * info["lanes"] * info["sums"] * ceilings._STEPS
    # Its result is checked when it is loaded: a step that was left out would show.
    said = ceilings.arithmetic({"threads": 1, "loop": str(tmp_path), **info})
    assert said["value"] > 1.0
    assert said["method"] == (ceilings.TILED["int8"] if tiled else ceilings.DOT)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.parametrize(("isa", "word"), [("avx2", "vpmaddwd"), ("avx512", "vpmaddwd"),
                                           ("vnni", "vpdpbusd")])  # fmt: skip
def test_every_step_of_the_loop_multiplies(isa: str, word: str, tmp_path: Path) -> None:
    """What is the same in every step a compiler would compute once, before the loop."""
    pytest.importorskip("tvm")
    if platform.machine() != "x86_64":
        pytest.skip("levels of x86-64")
    given = {"isa": isa, "threads": 1, "folder": str(tmp_path), "dtype": "int8"}
    info = ceilings.build_loop(given)
    command = ["objdump", "-d", "--no-show-raw-insn", str(tmp_path / ceilings.LOOP)]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    each = 2 if word == "vpmaddwd" else 1
    assert code.count(word) >= each * info["sums"] * ceilings._UNROLLED


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_loops_of_halves_are_there_where_the_cpu_multiplies_them(
    dtype: str, tmp_path: Path
) -> None:
    pytest.importorskip("tvm")
    given = {"isa": "native", "threads": 1, "folder": str(tmp_path), "dtype": dtype}
    flag = {"bfloat16": "avx512_bf16", "float16": "avx512_fp16"}[dtype]
    if platform.machine() == "x86_64" and flag not in cpu.flags():
        with pytest.raises(StepError, match=f"no instruction that multiplies {dtype}"):
            ceilings.build_loop(given)
        return
    info = ceilings.build_loop(given)
    # Lanes of float16 are twice as many, pairs and tiles of bfloat16 are 2 and 32 products a lane.
    products = {"float16": 1, "bfloat16": 2 if "tiles" not in info else 32}[dtype]
    assert info["flops"] == 2 * products * info["lanes"] * info["sums"] * ceilings._STEPS
    said = ceilings.arithmetic({"threads": 1, "loop": str(tmp_path), **info})
    assert said["value"] > 1.0 and dtype in said["method"]


@pytest.mark.parametrize(
    ("caches", "size"),
    [
        ({"L1 data": "48K", "L1 instruction": "32K", "L2 unified": "2048K"}, 2 << 20),
        ({"L3 unified": "260M", "L2 unified": "2048K"}, 260 << 20),
        ({"L1 instruction": "32K"}, None),
        ({}, None),
    ],
)
def test_the_last_cache_is_the_one_of_the_highest_level(caches: Any, size: int | None) -> None:
    assert ceilings.last_cache(caches) == size


def test_one_operator_is_the_same_network_in_every_form(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    runtime = pytest.importorskip("onnxruntime")
    algorithm: Any = SimpleNamespace()
    program = one_operator.OneOperator(SPEC, algorithm, tmp_path)
    x = np.random.default_rng(0).standard_normal(SPEC.shape).astype(np.float32)
    exact = x.astype(np.float64).mean(axis=(2, 3))
    session = runtime.InferenceSession(program.onnx(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"x": x})[0], exact, atol=1e-6)
    given = torch.from_numpy(x)
    assert np.allclose(program.network().module(given).numpy(), exact, atol=1e-6)
    assert np.allclose(program.exported().module()(given).numpy(), exact, atol=1e-6)
