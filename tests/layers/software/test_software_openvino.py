import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.run.measure.verdict import asked_and_ran
from fake_programs import (
    CPU,
    NETS,
    FakeProgram,
    LeftToRuntime,
    Stand,
    check_outputs_are_kept,
    forked,
    images,
    infer,
    reference,
    software,
    stack,
)

pytest.importorskip("openvino")


def built(tmp_path, net, precision="float32", **params):
    runtime = software("openvino", **params)
    runtime.build(FakeProgram(net, precision), CPU, tmp_path)
    return runtime.load(tmp_path, CPU)


def refused_here(precision, built):
    """Return why a run would refuse a type here: what was built is looked at, as a probe does."""
    runtime = software("openvino")
    ran = built.observe(images()[:1])
    return registry.other_type(replace(stack(runtime, precision=precision), probed=ran))


@pytest.mark.parametrize("net", NETS)
def test_it_agrees_with_pytorch(net, tmp_path):
    found = infer(built(tmp_path, net))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1), ("int8", 0.1)]
)
@pytest.mark.parametrize("net", NETS)
def test_lower_precisions_agree_and_really_run(net, precision, tolerance, tmp_path):
    session, expected = built(tmp_path, net, precision), reference(net)
    if refused := refused_here(precision, session):
        pytest.skip(refused.reason)
    error = np.abs(infer(session) - expected).max() / np.abs(expected).max()
    assert 0 < error <= tolerance
    assert session.observe(images()[:1]).precision == precision


def test_what_ran_is_read_from_the_executed_graph(tmp_path):
    ran = built(tmp_path, "residual").observe(images()[:1])
    assert ran.precision == "float32" and ran.threads == 1
    assert ran.fallbacks == ()
    kernels = ran.kernels["Convolution"]
    assert sum(int(part.rpartition("x")[2]) for part in kernels.split(",")) == 6
    assert ran.isa is not None and ran.isa in kernels


def test_outputs_do_not_share_memory_between_calls(tmp_path):
    check_outputs_are_kept(built(tmp_path, "depthwise"))


def test_forked_children_give_the_same_with_the_threads_asked(tmp_path):
    runtime = software("openvino")
    runtime.build(FakeProgram("vit"), CPU, tmp_path)
    for count, (outputs, facts) in enumerate(forked(runtime, tmp_path, tmp_path), start=1):
        np.testing.assert_allclose(outputs, reference("vit"), atol=1e-3)
        assert facts["ran"]["threads"] == count
        assert not facts["torch"]


def test_options_reach_the_plug_in_and_are_checked(tmp_path):
    built(tmp_path, "residual", options={"EXECUTION_MODE_HINT": "ACCURACY", "PERF_COUNT": True})
    bad = {"PERF_COUNTT": True, "ENABLE_CPU_PINNING": "maybe", "NUM_STREAMS": 4}
    with pytest.raises(UserError) as caught:
        built(tmp_path, "residual", options=bad)
    assert len(caught.value.problems) == 3
    assert "Did you mean 'PERF_COUNT'" in str(caught.value)
    assert "Expected only true/false" in str(caught.value)


# ---------------------------------------------------------------- its own int8


@pytest.mark.parametrize("net", NETS)
def test_its_own_int8_is_nncfs_and_really_runs(net, tmp_path):
    pytest.importorskip("nncf")
    runtime = software("openvino")
    runtime.build(LeftToRuntime(net), CPU, tmp_path)
    session, expected = runtime.load(tmp_path, CPU), reference(net)
    error = np.abs(infer(session) - expected).max() / np.abs(expected).max()
    assert 0 < error <= 0.1
    assert session.observe(images()[:1]).precision == "int8"


def test_without_nncf_its_own_int8_is_unavailable(tmp_path):
    own = registry.make("optimization", "int8", {"route": "own"})
    runtime = software("openvino")
    with patch("dlas.layers.software.openvino.find_spec", return_value=None):
        refused = runtime.why_not(stack(runtime, optimization=(own,)))
        assert refused.status == "unavailable" and "dlas[nncf]" in refused.reason
        assert runtime.why_not(stack(runtime, precision="int8")) is None
    with patch("dlas.layers.software.openvino.find_spec", return_value=object()):
        assert runtime.why_not(stack(runtime, optimization=(own,))) is None
    with patch.dict(sys.modules, {"nncf": None}), pytest.raises(ImportError):
        runtime.build(LeftToRuntime("residual"), CPU, tmp_path)


# ---------------------------------------------------------------- rules, and each switched off


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_type_that_runs_as_another_is_unavailable_and_would_fail(precision, tmp_path):
    """Whatever this CPU executes of the type is what is read back; another type is refused."""
    session = built(tmp_path, "residual", precision)
    ran = session.observe(images()[:1]).precision
    assert ran in ("float32", "float16", "bfloat16")
    refused = refused_here(precision, session)
    assert (refused is None) == (ran == precision)
    if refused is not None:
        assert refused.status == "unavailable" and ran in refused.reason
        off = asked_and_ran(
            precision=precision, declared=software("openvino").executes, threads=1,
            ran={"precision": ran},
        )  # fmt: skip
        assert off is not None


@pytest.mark.skipif(
    registry.make("hardware", "cpu", {"isa": "avx512"}).missing() is not None,
    reason="this CPU has no wider instruction set to be held back from",
)
def test_an_instruction_set_is_unavailable_since_nothing_here_sets_it(tmp_path):
    runtime = software("openvino")
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    refused = runtime.why_not(stack(runtime, hardware=held))
    assert refused is not None and "avx2" in refused.reason
    runtime.build(FakeProgram("residual"), held, tmp_path)
    assert runtime.load(tmp_path, held).observe(images()[:1]).isa == "avx512"


def test_a_chosen_algorithm_is_unavailable_and_would_change_nothing(tmp_path):
    runtime = software("openvino")
    refused = runtime.why_not(stack(runtime, algorithm=registry.make("algorithm", "gemm")))
    assert refused is not None and "'gemm'" in refused.reason
    native = built(tmp_path, "residual").observe(images()[:1])
    runtime.build(FakeProgram("residual", algorithm="gemm"), CPU, tmp_path)
    assert runtime.load(tmp_path, CPU).observe(images()[:1]).kernels == native.kernels


def test_another_device_is_unavailable_and_would_be_ignored(tmp_path):
    runtime = software("openvino")
    refused = runtime.why_not(stack(runtime, hardware=Stand(device="cuda")))
    assert refused is not None and "cuda" in refused.reason
    cuda = registry.make("hardware", "cuda")
    runtime.build(FakeProgram("residual"), cuda, tmp_path)
    session = runtime.load(tmp_path, cuda)
    assert session._compiled.get_property("EXECUTION_DEVICES") == ["CPU"]


def test_plain_stacks_are_not_refused():
    runtime = software("openvino")
    for precision in (None, "int8"):
        assert runtime.why_not(stack(runtime, precision=precision)) is None
