"""ExecuTorch: its rules and what its traces tell hold anywhere; it runs where it is installed."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlas.core import registry
from dlas.layers.software.executorch import ExecuTorchSession
from dlas.layers.software.shared.work import settle
from dlas.layers.software.shared.xnnpack_events import kernels, named, portable, works
from dlas.run.measure.verdict import asked_and_ran
from fake_programs import (
    CPU,
    NETS,
    artefact,
    check_narrow_refused,
    check_outputs_are_kept,
    check_own_int8,
    check_refused,
    forked,
    images,
    infer,
    reference,
    software,
    stack,
)

MISSING = registry.missing(registry.find("software", "executorch"))
installed = pytest.mark.skipif(MISSING is not None, reason="ExecuTorch is not installed")


# ---------------------------------------------------------------- where it is installed


def session(net: str, precision: str = "float32") -> Any:
    runtime = software("executorch")
    return runtime.load(artefact(runtime, net, precision), CPU)


@installed
@pytest.mark.parametrize("net", NETS)
def test_it_agrees_with_pytorch(net: str) -> None:
    found = infer(session(net))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)


@installed
def test_float16_runs_or_is_refused() -> None:
    loaded, expected = session("residual", "float16"), reference("residual")
    error = np.abs(infer(loaded) - expected).max() / np.abs(expected).max()
    assert 0 < error <= 0.02
    ran, runtime = loaded.observe(images()[:1]), software("executorch")
    refused = registry.other_type(replace(stack(runtime, precision="float16"), probed=ran))
    allowed = asked_and_ran(
        precision="float16", declared=runtime.executes, threads=1, ran={"precision": ran.precision}
    )
    assert (refused is None) == (allowed is None)


@installed
@pytest.mark.parametrize("net", ["residual", "depthwise", "vit"])
def test_its_own_int8_agrees_is_smaller_and_really_runs(net: str) -> None:
    check_own_int8(software("executorch"), net)


@installed
def test_a_transformer_says_what_its_int8_leaves_in_float32() -> None:
    """Linear layers keep to each row's own range (with one for all rows it is 0.86 off)."""
    runtime = software("executorch")
    ran = runtime.load(artefact(runtime, "vit", "int8"), CPU).observe(images()[:1])
    assert re.fullmatch(r"\w+ \(NC, Q(DU?|P)8, F32, QC8W\) x9", ran.kernels["Fully Connected"])
    assert ran.fallbacks[0].startswith("4 of 14 convolutions and matrix products ran in float32")
    assert "native_layer_norm x5" in ran.fallbacks[1]


@installed
def test_what_ran_is_read_from_its_trace() -> None:
    ran = session("residual").observe(images()[:1])
    assert (ran.precision, ran.threads, ran.fallbacks) == ("float32", 1, ())
    counts = [int(part.rpartition("x")[2]) for part in ran.kernels["Convolution"].split(", ")
              if "x" in part]  # fmt: skip
    assert sum(counts) == 6


@installed
def test_outputs_do_not_share_memory_between_calls() -> None:
    check_outputs_are_kept(session("depthwise"))


@installed
def test_forked_children_give_the_same_with_the_threads_asked(tmp_path: Path) -> None:
    done = forked(software("executorch"), artefact(software("executorch"), "residual"), tmp_path)
    for count, (outputs, facts) in enumerate(done, start=1):
        np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
        assert facts["ran"]["threads"] == count


# ---------------------------------------------------------------- what a trace tells, anywhere


TRACE = [
    "Method::execute",
    "DELEGATE_CALL",
    "Convolution (NHWC, F32) IGEMM #1",
    "Convolution (NHWC, F32) DWConv #2",
    "Convolution (NHWC, QS8, QC8W) IGEMM #1",
    "Convert (NC, F32, QS8) #1",
    "Fully Connected (NC, F16) GEMM #1",
    "Fully Connected (NC, QDU8, F32, QC8W) GEMM #2",
    "OPERATOR_CALL",
    "native_call_bmm.out",
    "native_call_bmm.out",
    "native_call_select_copy.int_out",
]


def test_operators_of_xnnpack_are_read_from_their_names() -> None:
    found = named(TRACE)
    assert [(o.kind, o.kernel, o.precision) for o in found] == [
        ("Convolution", "IGEMM", "float32"), ("Convolution", "DWConv", "float32"),
        ("Convolution", "IGEMM", "int8"), ("Convert", "XNNPACK", "float32"),
        ("Fully Connected", "GEMM", "float16"), ("Fully Connected", "GEMM", "int8"),
    ]  # fmt: skip
    precision, mixed = settle(works(found))
    assert precision == "int8"  # of two types with as many operators each the narrower
    assert [sentence.partition(":")[0] for sentence in mixed] == [
        "1 of 5 convolutions and matrix products ran in float16",
        "2 of 5 convolutions and matrix products ran in float32",
    ]
    told = kernels(found)
    assert told["Fully Connected"] == "GEMM (NC, F16) x1, GEMM (NC, QDU8, F32, QC8W) x1"
    assert "DWConv (NHWC, F32) x1" in told["Convolution"]


def test_what_xnnpack_did_not_take_is_told() -> None:
    assert portable(TRACE) == [
        "3 operators ran by ExecuTorch's portable kernels: bmm x2, select_copy x1"
    ]
    assert portable(TRACE[:8]) == []


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session of which only the trace is there."""
    loaded = ExecuTorchSession.__new__(ExecuTorchSession)
    loaded._pool = SimpleNamespace(_threadpool_get_thread_count=lambda: 2)
    monkeypatch.setattr(ExecuTorchSession, "_trace", lambda self, x: TRACE)
    return loaded


def test_a_trace_becomes_what_ran(traced: Any) -> None:
    ran = traced.observe(images()[:1])
    assert (ran.precision, ran.threads) == ("int8", 2)
    assert [said.partition(" ")[0] for said in ran.fallbacks] == ["1", "2", "3"]


def test_a_trace_that_cannot_be_read_is_told(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, x: Any) -> list[str]:
        raise subprocess.CalledProcessError(1, ["flatc"])

    monkeypatch.setattr(ExecuTorchSession, "_trace", broken)
    ran = traced.observe(images()[:1])
    assert (ran.precision, ran.threads, ran.kernels) == (None, 2, {})
    assert ran.fallbacks[0].startswith("what ran could not be read: ")


# ---------------------------------------------------------------- rules


@pytest.mark.skipif(MISSING is None, reason="it is installed")
def test_where_it_is_not_installed_it_is_unavailable_and_says_how_to_get_it() -> None:
    assert MISSING is not None and MISSING.status == "unavailable"
    assert MISSING.reason.endswith("not installed; pip install 'dlas[executorch]'")


def test_narrow_types_that_it_has_no_way_to_are_unavailable(tmp_path: Path) -> None:
    check_narrow_refused(software("executorch"), tmp_path)


def test_float16_is_expected_where_the_cpu_converts_it() -> None:
    runtime = software("executorch")
    assert runtime.expects("float16", {"f16c"}) == "float16"
    assert runtime.expects("float16", {"sse4_2"}) == "float32"
    assert runtime.expects("int8", ()) == "int8"


def test_what_it_cannot_be_asked_for_is_unavailable() -> None:
    check_refused(software("executorch"))


def test_plain_stacks_are_not_refused() -> None:
    runtime = software("executorch")
    for precision in (None, "float16"):
        assert runtime.why_not(stack(runtime, precision=precision)) is None
