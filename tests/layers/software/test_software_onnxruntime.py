import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.layers.software.onnxruntime import _entries
from dlas.layers.software.shared.work import Work, settle
from fake_programs import (
    CPU,
    NETS,
    FakeProgram,
    Stand,
    forked,
    images,
    infer,
    reference,
    software,
    stack,
)

ort = pytest.importorskip("onnxruntime")


def built(tmp_path, net, precision="float32", **params):
    runtime = software("onnxruntime", **params)
    runtime.build(FakeProgram(net, precision), CPU, tmp_path)
    return runtime.load(tmp_path, CPU)


@pytest.mark.parametrize("net", NETS)
def test_it_agrees_with_pytorch(net, tmp_path):
    found = infer(built(tmp_path, net))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("int8", 0.1)])
@pytest.mark.parametrize("net", NETS)
def test_lower_precisions_agree_within_their_tolerance(net, precision, tolerance, tmp_path):
    found, expected = infer(built(tmp_path, net, precision)), reference(net)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error <= tolerance


def test_what_ran_is_read_from_its_profile(tmp_path):
    ran = built(tmp_path, "residual").observe(images()[:1])
    assert ran.precision == "float32" and ran.threads == 1 and ran.isa is None
    assert "float32" in ran.kernels["Conv"] and "CPUExecutionProvider" in ran.kernels["Conv"]
    assert ran.fallbacks == ()
    for precision, executed in (("float16", "float32"), ("int8", "int8")):
        folder = tmp_path / precision
        folder.mkdir()
        ran = built(folder, "depthwise", precision).observe(images()[:1])
        assert ran.precision == executed
    assert "int8" in ran.kernels["QLinearConv"] and "int8" in ran.kernels["QGemm"]


def test_the_type_is_that_of_most_operators_and_the_others_are_named():
    works = [Work("a", "int8"), Work("b", "float32"), Work("c", "int8")]
    said = "1 of 3 convolutions and matrix products ran in float32: b"
    assert settle(works) == ("int8", (said,))
    assert settle(works[:2])[0] == "int8"
    assert settle([]) == (None, ())


def test_forked_children_give_the_same_with_the_threads_asked(tmp_path):
    runtime = software("onnxruntime")
    runtime.build(FakeProgram("vit"), CPU, tmp_path)
    for count, (outputs, facts) in enumerate(forked(runtime, tmp_path, tmp_path), start=1):
        np.testing.assert_allclose(outputs, reference("vit"), atol=1e-3)
        assert facts["ran"]["threads"] == count
        assert facts["tasks"] >= facts["ran"]["threads"]
        assert not facts["torch"]


def test_options_change_the_session_and_are_checked(tmp_path):
    level = {"graph_optimization_level": "ORT_DISABLE_ALL"}
    kernels = built(tmp_path, "residual", options=level).observe(images()[:1]).kernels
    assert "BatchNormalization" in kernels or "Relu" in kernels
    assert "session.intra_op.allow_spinning" in _entries()
    built(tmp_path, "residual", options={"session.intra_op.allow_spinning": "0"})
    bad = {
        "graph_optimization_level": "ORT_ENABLE_ALLL",
        "graph_optimisation_level": "ORT_ENABLE_ALL",
        "session.intra_op.allow_spining": "0",
        "intra_op_num_threads": 4,
        "enable_mem_pattern": 3,
    }
    with pytest.raises(UserError) as caught:
        built(tmp_path, "residual", options=bad)
    assert len(caught.value.problems) == len(bad)
    assert "Did you mean 'ORT_ENABLE_ALL'" in str(caught.value)
    assert "'session.intra_op.allow_spinning'" in str(caught.value)


# ---------------------------------------------------------------- rules, and each switched off


def test_bfloat16_is_unavailable_since_no_session_can_be_made(tmp_path):
    runtime = software("onnxruntime")
    refused = runtime.why_not(stack(runtime, precision="bfloat16"))
    assert refused is not None and refused.status == "unavailable"
    with pytest.raises(StepError):
        runtime.build(FakeProgram("residual", "bfloat16"), CPU, tmp_path)
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [1, 1, 3, 3], [0.5] * 9)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [value("x", TensorProto.BFLOAT16, [1, 1, 8, 8])],
        [value("y", TensorProto.BFLOAT16, [1, 1, 6, 6])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_chosen_algorithm_is_unavailable_and_would_change_nothing(tmp_path):
    runtime = software("onnxruntime")
    refused = runtime.why_not(stack(runtime, algorithm=registry.make("algorithm", "gemm")))
    assert refused is not None and "'gemm'" in refused.reason
    native = built(tmp_path, "residual").observe(images()[:1])
    runtime.build(FakeProgram("residual", algorithm="gemm"), CPU, tmp_path)
    assert runtime.load(tmp_path, CPU).observe(images()[:1]).kernels == native.kernels


def test_an_instruction_set_is_unavailable_and_nothing_would_set_it():
    runtime = software("onnxruntime")
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    refused = runtime.why_not(stack(runtime, hardware=held))
    assert refused is not None and "avx2" in refused.reason
    assert runtime.environment(held) == {}  # type: ignore[arg-type]
    assert not any("isa" in name.split(".") for name in _entries())


def test_another_device_is_unavailable_and_its_sessions_would_run_on_the_cpu(tmp_path):
    runtime = software("onnxruntime")
    refused = runtime.why_not(stack(runtime, hardware=Stand(device="cuda")))
    assert refused is not None and "cuda" in refused.reason
    runtime.build(FakeProgram("residual"), CPU, tmp_path)
    session = runtime.load(tmp_path, registry.make("hardware", "cuda"))  # type: ignore[arg-type]
    assert all("CPU" in kernel for kernel in session.observe(images()[:1]).kernels.values())


def test_plain_stacks_are_not_refused():
    runtime = software("onnxruntime")
    for precision in (None, "float16", "int8"):
        assert runtime.why_not(stack(runtime, precision=precision)) is None
    assert runtime.why_not(stack(runtime, model=Stand(form="onnx"))) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("avx2",), True), (("avx2", "avx512f"), True), (("avx2", "avx512_vnni"), False),
        (("avx2", "avx_vnni"), False), (("asimddp",), False),
    ],
)  # fmt: skip
def test_wrong_int8_is_put_down_to_the_cpu_that_lacks_its_products(flags, said):
    int8 = stack(software("onnxruntime"), precision="int8")
    assert ("weight_bits: 7" in software("onnxruntime").suspected(int8, flags)) is said
    plain = stack(software("onnxruntime"))
    assert not software("onnxruntime").suspected(plain, flags)
