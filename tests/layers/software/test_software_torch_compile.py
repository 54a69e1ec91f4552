"""Compiling takes 10 to 30 s a network, so each is compiled once and looked at from all sides."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import Network
from dlas.layers.software import shared, torch_compile
from fake_programs import (
    CPU,
    SPEC,
    FakeProgram,
    LeftToRuntime,
    Stand,
    forked,
    images,
    infer,
    reference,
    software,
    stack,
)

torch = pytest.importorskip("torch")
RUNTIME = software("torch-compile")
torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
pytestmark = pytest.mark.skipif(
    torch_compile._no_compiler() is not None, reason="there is no C++ compiler here"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Returns a function that compiles a network once and returns its folder."""
    done: dict[tuple[str, str], Path] = {}

    def build(net: str, precision: str = "float32", own: bool = False) -> Path:
        way = f"{precision}{'-own' if own else ''}"
        if (net, way) not in done:
            folder = tmp_path_factory.mktemp(f"{net}-{way}")
            program = LeftToRuntime(net) if own else FakeProgram(net, precision)
            RUNTIME.build(program, CPU, folder)
            done[net, way] = folder
        return done[net, way]

    return build


def children():
    """Process ids of this process's children."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(text.split())


@pytest.mark.parametrize("net", ["residual", "depthwise", "vit"])
def test_it_agrees_with_pytorch(net, built):
    before = children()
    session = RUNTIME.load(built(net), CPU)
    found = infer(session)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)
    assert children() <= before  # no compile workers are left


def test_bfloat16_really_runs(built):
    session, expected = RUNTIME.load(built("depthwise", "bfloat16"), CPU), reference("depthwise")
    error = np.abs(infer(session) - expected).max() / np.abs(expected).max()
    assert 0 < error <= 0.1
    assert session.observe(images()[:1]).precision == "bfloat16"


@torchao
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_int8_really_runs_by_integer_kernels(own, built):
    session, expected = RUNTIME.load(built("residual", "int8", own), CPU), reference("residual")
    error = np.linalg.norm(infer(session) - expected) / np.linalg.norm(expected)
    assert 0 < error <= 0.1
    ran = session.observe(images()[:1])
    assert (ran.precision, ran.fallbacks) == ("int8", ())
    # Six convolutions and a linear layer, and no float one beside them.
    assert sum(map(int, re.findall(r"q(?:conv|conv2d|linear)_pointwise\w* x(\d+)",
                                   ran.kernels["inductor.extern"]))) == 7  # fmt: skip
    assert "mkldnn__convolution" not in ran.kernels["inductor.extern"]


@torchao
@pytest.mark.parametrize(("flags", "reduced"), [(("avx2",), True), (("avx512_vnni",), False)])
def test_activations_keep_to_seven_bits_where_products_saturate(flags, reduced, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "dlas.layers.software.shared.torch_pt2e.own",
        lambda module, x, images, reduce_range: seen.append(reduce_range),
    )
    torch_compile._to_compile(LeftToRuntime("residual"), Stand(describe=lambda: {"flags": flags}))
    assert seen == [reduced]


@torchao
def test_without_torchao_s_passes_int8_would_be_told_as_float(monkeypatch, built):
    """What was not put on integer kernels is read back as float, and so a run fails."""
    calls = {"inductor.extern": "mkldnn__convolution_pointwise x6, addmm_out x1"}
    session = RUNTIME.load(built("residual"), CPU)
    session._narrow, session._kernels = True, calls
    assert session.observe(images()[:1]).precision == "float32"


def test_what_ran_is_read_back_and_the_text_is_not_kept(built):
    folder = built("residual")
    ran = RUNTIME.load(folder, CPU).observe(images()[:1])
    assert ran.precision == "float32" and ran.threads == 1
    assert "convolution_pointwise" in ran.kernels["inductor.extern"]
    assert "cpp_fused" in ran.kernels["inductor.fused"]
    assert not list(folder.rglob("*.cpp")) and list(folder.rglob("*.so"))


def test_one_artefact_serves_forked_children_of_any_thread_count(built, tmp_path):
    folder = built("residual")
    for count, (outputs, facts) in enumerate(forked(RUNTIME, folder, tmp_path), start=1):
        np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
        assert facts["ran"]["threads"] == count and facts["tasks"] >= count


def test_options_are_checked(tmp_path):
    bad = {"freezingg": True, "max_autotune": "yes"}
    with pytest.raises(UserError) as caught:
        software("torch-compile", options=bad).build(FakeProgram("residual"), CPU, tmp_path)
    assert len(caught.value.problems) == 2 and "'freezing'" in str(caught.value)


# ---------------------------------------------------------------- rules, and each switched off


def test_onnx_models_are_unavailable_and_would_fail(tmp_path):
    assert RUNTIME.why_not(stack(RUNTIME, model=Stand(form="onnx"))).status == "unavailable"

    class OnlyOnnx(FakeProgram):
        def network(self):
            return Network(SPEC, None, None)

    with pytest.raises(StepError, match="torch module"):
        RUNTIME.build(OnlyOnnx("residual"), CPU, tmp_path)


def test_without_torchao_int8_is_unavailable_and_would_fail(tmp_path, monkeypatch):
    own = registry.make("optimization", "int8", {"route": "own"})
    monkeypatch.setattr(torch_compile, "find_spec", lambda name: None)
    for asked in ({"precision": "int8"}, {"optimization": (own,)}):
        refused = RUNTIME.why_not(stack(RUNTIME, **asked))
        assert refused.status == "unavailable" and "dlas[torchao]" in refused.reason
    assert RUNTIME.why_not(stack(RUNTIME)) is None
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchao"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.delitem(sys.modules, "dlas.layers.software.shared.torch_pt2e", raising=False)
    monkeypatch.delattr(shared, "torch_pt2e", raising=False)
    for program in (FakeProgram("residual", "int8"), LeftToRuntime("residual")):
        with pytest.raises(ImportError):
            RUNTIME.build(program, CPU, tmp_path)


def test_with_torchao_int8_is_not_refused(monkeypatch):
    own = registry.make("optimization", "int8", {"route": "own"})
    monkeypatch.setattr(torch_compile, "find_spec", lambda name: object())
    onnx = Stand(form="onnx")
    assert RUNTIME.why_not(stack(RUNTIME, optimization=(own,))) is None
    assert RUNTIME.why_not(stack(RUNTIME, precision="int8", model=onnx)) is None
    assert "ONNX" in RUNTIME.why_not(stack(RUNTIME, optimization=(own,), model=onnx)).reason
    assert own.why_not(stack(RUNTIME, optimization=(own,))) is None


def test_a_chosen_algorithm_is_unavailable_and_nothing_would_read_it(tmp_path, monkeypatch):
    refused = RUNTIME.why_not(stack(RUNTIME, algorithm=registry.make("algorithm", "gemm")))
    assert refused is not None and "'gemm'" in refused.reason
    program = FakeProgram("residual", algorithm="gemm")
    del program.algorithm  # a build that asked for it would fail on that
    seen = []
    monkeypatch.setattr(
        "torch._inductor.aoti_compile_and_package", lambda *a, **k: seen.append(a) or "none"
    )
    with pytest.raises(FileNotFoundError):
        RUNTIME.build(program, CPU, tmp_path)
    assert len(seen) == 1


@pytest.mark.skipif(
    registry.make("hardware", "cpu", {"isa": "avx512"}).missing() is not None,
    reason="this CPU has no wider instruction set to be held back from",
)
def test_an_instruction_set_is_unavailable_since_nothing_holds_the_code_to_it(built):
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    refused = RUNTIME.why_not(stack(RUNTIME, hardware=held))
    assert refused is not None and "avx2" in refused.reason
    assert RUNTIME.environment(held) == {}
    assert RUNTIME.load(built("residual"), held).observe(images()[:1]).isa == "avx512"


def test_another_device_is_unavailable_and_the_code_would_run_on_the_cpu(built):
    refused = RUNTIME.why_not(stack(RUNTIME, hardware=Stand(device="cuda")))
    assert refused is not None and "cuda" in refused.reason
    session = RUNTIME.load(built("residual"), registry.make("hardware", "cuda"))
    assert "onednn.convolution" in session.observe(images()[:1]).kernels


def test_without_a_compiler_it_is_unavailable(monkeypatch):
    monkeypatch.setattr(torch_compile.shutil, "which", lambda name: None)
    refused = RUNTIME.why_not(stack(RUNTIME))
    assert refused is not None and "compiler" in refused.reason


def test_plain_stacks_are_not_refused():
    for precision in (None, "float16", "bfloat16"):
        assert RUNTIME.why_not(stack(RUNTIME, precision=precision)) is None
