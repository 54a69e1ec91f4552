import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import Algorithm, KernelChoice
from dlas.kernels.convolution.primitives import find
from dlas.kernels.ground.shape import Conv2d
from dlas.study.study import Study
from fake_programs import CPU, FakeProgram, Pruned, Stand, software, stack

CONV = Conv2d(1, 8, 14, 14, 16, (3, 3), padding=(1, 1, 1, 1))
NAMING = [name for name in registry.names("algorithm") if registry.find("algorithm", name).chooses]  # type: ignore[attr-defined]
SPARSE = ["direct", "gemm", "spatial-pack"]


def algorithm(name: str, **params) -> Algorithm:
    return registry.make("algorithm", name, params)  # type: ignore[return-value]


def test_all_are_found():
    assert set(registry.names("algorithm")) >= {"native", "direct", "gemm", "spatial-pack"}
    assert "winograd" in NAMING


def test_native_leaves_every_operator_to_the_runtime():
    native = algorithm("native")
    assert native.kernel(CONV, "native") is None
    assert not native.chooses


@pytest.mark.parametrize("name", NAMING)
def test_it_names_a_primitive_that_exists(name):
    pytest.importorskip("tvm_ffi")
    chosen = algorithm(name).kernel(CONV, "native")
    assert chosen == KernelChoice(name, "dense", chosen.threshold)
    assert find(chosen.primitive, chosen.weights).why_not(CONV) is None


@pytest.mark.parametrize("name", SPARSE)
def test_csr_weights_and_their_threshold_reach_the_kernel(name):
    chosen = algorithm(name, weights="csr", threshold=0.25)
    assert chosen.kernel(CONV, "native") == KernelChoice(name, "csr", 0.25)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("wrong", [{"weights": "coo"}, {"threshold": 1.5}, {"sparsity": 0.5}])
def test_wrong_parameters_are_refused(name, wrong):
    with pytest.raises(UserError, match=f"{name}.*{next(iter(wrong))}"):
        algorithm(name, **wrong)


def test_a_list_of_weights_expands_in_a_study(tmp_path):
    file = tmp_path / "formats.yaml"
    file.write_text(
        "dlas: 1\nname: formats\nlayers:\n"
        "  dataset: [digits]\n  model: [resnet-8]\n  software: [tvm]\n"
        "  algorithm: [winograd, gemm: {weights: [dense, csr]}]\n"
    )
    texts = [stack.text("algorithm") for stack in Study.load(file).stacks]
    assert texts == ["winograd", "gemm", "gemm(weights=csr)"]


# ---------------------------------------------------------------- rules, and each switched off


@pytest.mark.parametrize("name", SPARSE)
def test_csr_without_zeros_is_impossible_and_would_store_no_layer_so(name, tmp_path):
    pytest.importorskip("tvm_ffi")
    asked, tvm = algorithm(name, weights="csr"), software("tvm")
    refused = asked.why_not(stack(tvm, algorithm=asked))
    assert refused is not None and refused.status == "impossible" and "40%" in refused.reason
    program = FakeProgram("residual")
    program.algorithm = asked
    with pytest.raises(StepError, match="no layer has 40% zeros"):
        tvm.build(program, CPU, tmp_path)


@pytest.mark.parametrize("name", SPARSE)
def test_csr_is_not_refused_where_there_can_be_zeros(name):
    tvm, csr = software("tvm"), algorithm(name, weights="csr")
    pruned = (Stand(sparse=True),)
    assert csr.why_not(stack(tvm, algorithm=csr, optimization=pruned)) is None
    brought = Stand(places=("weights_file",), weights_file="pruned.safetensors")
    assert csr.why_not(stack(tvm, algorithm=csr, model=brought)) is None
    every = algorithm(name, weights="csr", threshold=0)
    assert every.why_not(stack(tvm, algorithm=every)) is None
    dense = algorithm(name)
    assert dense.why_not(stack(tvm, algorithm=dense)) is None


def test_winograd_in_csr_is_impossible_and_would_fail(tmp_path):
    pytest.importorskip("tvm_ffi")
    asked, tvm = algorithm("winograd", weights="csr"), software("tvm")
    pruned = (Stand(sparse=True),)
    refused = asked.why_not(stack(tvm, algorithm=asked, optimization=pruned))
    assert refused is not None and refused.status == "impossible"
    assert "transformed filters" in refused.reason
    dense = algorithm("winograd")
    assert dense.why_not(stack(tvm, algorithm=dense, optimization=pruned)) is None
    program = Pruned("residual")
    program.algorithm = asked
    with pytest.raises(StepError, match="CSR weights: 'winograd'"):
        tvm.build(program, CPU, tmp_path)


def test_the_reason_is_true_transformed_filters_have_no_zeros_to_leave_out():
    pytest.importorskip("tvm_ffi")
    from dlas.kernels.convolution.winograd import TRANSFORMS

    taps = np.random.default_rng(0).standard_normal((256, 3, 3))
    taps[np.random.default_rng(1).random(taps.shape) < 0.5] = 0
    for m in TRANSFORMS:
        g = np.array(TRANSFORMS[m][1])
        transformed = np.einsum("ia,oab,jb->oij", g, taps, g)
        assert (transformed == 0).mean() < (taps == 0).mean() / 2
