import json

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
NAMING = [
    name
    for name in registry.names("algorithm")
    if registry.find("algorithm", name).chooses and name not in ("best", "map")
]  # type: ignore[attr-defined]
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


# ---------------------------------------------------------------- best, map

MAP = {"*": "spatial-pack", "layer1.0.conv1": {"primitive": "gemm", "weights": "csr"}}


def _study(tmp_path, written):
    file = tmp_path / "kernels.yaml"
    file.write_text(
        "dlas: 1\nname: kernels\nlayers:\n  dataset: [digits]\n  model: [resnet-8]\n"
        f"  software: [tvm]\n  algorithm: {written}\n  hardware: [cpu: {{threads: [1, 2]}}]\n"
    )
    return file


def _stacks(tmp_path, written):
    return Study.load(_study(tmp_path, written)).stacks


def test_best_asks_for_what_is_measured_and_for_its_threads():
    best = algorithm("best", weights="csr", threshold=0.3)
    assert best.kernel(CONV, "native") == KernelChoice("best", "csr", 0.3)
    assert best.measures
    assert not algorithm("gemm").measures


def test_a_map_in_a_study_is_named_by_hash_and_kept_whole(tmp_path):
    written = '[map: {"*": spatial-pack, layer1.0.conv1: {primitive: gemm, weights: csr}}]'
    found, _ = _stacks(tmp_path, written)
    made = algorithm("map", **MAP)
    assert found.text("algorithm") == f"map(hash={made.hash})"
    assert len(made.hash) == 8
    whole = {"primitive": "gemm", "weights": "csr", "threshold": 0.4}
    assert found.factors()["algorithm.operators"]["layer1.0.conv1"] == whole
    assert registry.algorithm(found.algorithm[0]) == made
    assert registry.algorithm(found.algorithm[0].to_json()) == made
    other = algorithm("map", **{**MAP, "layer1.0.conv1": "gemm"})
    assert other.hash != made.hash
    assert (
        algorithm("map", **{"*": {"primitive": "spatial-pack"}}).hash
        == algorithm("map", **{"*": "spatial-pack"}).hash
    )
    assert len(_stacks(tmp_path, '[map: {"*": [gemm, direct]}, best, direct]')) == 8


def test_a_map_gives_each_operator_its_kernel():
    made = algorithm("map", **MAP)
    assert made.named("layer1.0.conv1", CONV, "native") == KernelChoice("gemm", "csr", 0.4)
    assert made.named("other", CONV, "native") == KernelChoice("spatial-pack", "dense", 0.4)
    assert made.names == ("layer1.0.conv1",)
    assert not made.measures
    open_ = algorithm("map", stem="gemm")
    assert open_.measures
    assert open_.named("other", CONV, "native").primitive == "best"


def test_what_is_wrong_with_a_map_is_told_at_once():
    wrong = {"*": "winogrd", "a": {"primitve": "gemm"}, "b": 3, "c": {"weights": "coo"},
             "d": {"threshold": 40}}  # fmt: skip
    with pytest.raises(UserError) as error:
        algorithm("map", **wrong)
    assert len(error.value.problems) == 5
    for part in ("'winograd'", "'primitive'", "got 3", "'coo'", "got 40"):
        assert part in str(error.value)
    with pytest.raises(UserError, match="at least one operator"):
        algorithm("map")


def test_a_map_refuses_csr_where_there_are_no_zeros():
    made, tvm = algorithm("map", **MAP), software("tvm")
    assert made.why_not(stack(tvm, algorithm=made)).status == "impossible"
    pruned = (Stand(sparse=True),)
    assert made.why_not(stack(tvm, algorithm=made, optimization=pruned)) is None
    mixed = algorithm("map", **{"*": {"primitive": "winograd", "weights": "csr"}})
    assert "transform" in mixed.why_not(stack(tvm, algorithm=mixed, optimization=pruned)).reason


def test_a_map_runs_as_it_says_and_unknown_names_are_told(tmp_path):
    pytest.importorskip("tvm_ffi")
    program, tvm = FakeProgram("depthwise"), software("tvm")
    program.algorithm = algorithm("map", **{"*": "direct", "nowhere.conv": "gemm"})
    with pytest.raises(StepError, match=r"is called nowhere\.conv") as error:
        tvm.build(program, CPU, tmp_path)
    name = str(error.value).rpartition(": ")[2].split(", ")[0]
    program.algorithm = algorithm("map", **{"*": "direct", name: "gemm"})
    tvm.build(program, CPU, tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    ran = {s["record"]["operator"]: s["record"].get("primitive") for s in plan["steps"]}
    assert ran[name] == "gemm"
    others = {p for o, p in ran.items() if p is not None and o != name} - {"linear"}
    assert others == {"direct"}


def test_what_measures_is_built_alone_for_each_number_of_threads(tmp_path):
    from dlas.run.plan import plan as planning

    def builds(written):
        steps = planning.make(Study.load(_study(tmp_path, written))).steps.values()
        return [step.alone for step in steps if step.stage == "build"]

    assert builds("[best]") == [True, True]
    assert builds("[direct]") == [False]
