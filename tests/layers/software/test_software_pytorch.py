import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import Network
from dlas.kernels.ground.target import INSTRUCTION_SETS
from dlas.layers.software.onnxruntime import VNNI
from dlas.layers.software.shared import torch_store
from fake_programs import (
    CPU,
    NETS,
    SPEC,
    FakeProgram,
    LeftToRuntime,
    Stand,
    forked,
    images,
    infer,
    module,
    reference,
    software,
    stack,
)

torch = pytest.importorskip("torch")
nn = torch.nn


def built(tmp_path: Path, net: str, precision: str = "float32", **params):
    runtime = software("pytorch", **params)
    facts = runtime.build(FakeProgram(net, precision), CPU, tmp_path)
    assert facts["stored"] == "module"
    return runtime.load(tmp_path, CPU)


def test_an_enumeration_s_member_is_stored_by_its_value(monkeypatch, tmp_path):
    """Python 3.11.0 to 3.11.3 store it as a call of getattr: here they do, too."""
    by_name = lambda member, protocol: (getattr, (type(member), member.name))  # noqa: E731
    monkeypatch.setattr(pytest.importorskip("timm").layers.Format, "__reduce_ex__", by_name)
    built(tmp_path, "vit")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("net", NETS)
def test_it_gives_the_module_s_outputs(net, layout, tmp_path):
    session = built(tmp_path, net, layout=layout)
    found = infer(session)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, reference(net), atol=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1)])
@pytest.mark.parametrize("net", NETS)
def test_half_precisions_really_run(net, precision, tolerance, tmp_path):
    session = built(tmp_path, net, precision)
    expected = reference(net)
    assert np.abs(infer(session) - expected).max() <= tolerance * np.abs(expected).max()
    assert np.abs(infer(session) - expected).max() > 0
    assert session.observe(images()[:1]).precision == precision


@pytest.fixture
def engine():
    """The engine is of the process: it is put back."""
    before = torch.backends.quantized.engine
    yield before
    torch.backends.quantized.engine = before


def in_int8(tmp_path: Path, net: str, **params):
    runtime = software("pytorch", **params)
    facts = runtime.build(FakeProgram(net, "int8"), CPU, tmp_path)
    assert facts["precision"] == "int8"
    return runtime.load(tmp_path, CPU)


@pytest.mark.parametrize("engine_asked", ["x86", "onednn", "fbgemm"])
@pytest.mark.parametrize("net", NETS)
def test_the_shared_int8_model_runs_on_its_quantized_kernels(net, engine_asked, engine, tmp_path):
    if engine_asked not in torch.backends.quantized.supported_engines:
        pytest.skip(f"PyTorch has no {engine_asked} here")
    session = in_int8(tmp_path, net, options={"quantized.engine": engine_asked})
    runtime, expected = software("onnxruntime"), reference(net)
    other = tmp_path / "onnxruntime"
    other.mkdir()
    runtime.build(FakeProgram(net, "int8"), CPU, other)
    off, allowed = (
        np.linalg.norm(infer(each) - expected) for each in (session, runtime.load(other, CPU))
    )
    assert 0 < off <= 1.25 * allowed
    ran = session.observe(images()[:1])
    assert ran.precision == "int8" and ran.threads == 1
    logged = any(kind.startswith("onednn.") for kind in ran.kernels)
    assert logged or engine_asked != "onednn"
    assert not logged or engine_asked != "fbgemm"
    products = {"residual": 7, "depthwise": 6, "vit": 10}[net]
    count = sum(
        int(n) for n in re.findall(r"(?:conv2d|linear)(?:_relu)? x(\d+)", ran.kernels["int8"])
    )
    assert count == products
    assert bool(ran.fallbacks) == (net == "vit")


def test_what_int8_leaves_in_float_is_told(tmp_path):
    ran = in_int8(tmp_path, "vit").observe(images()[:1])
    assert "layer_norm x5" in ran.kernels["float32"] and "softmax x2" in ran.kernels["float32"]
    (told,) = ran.fallbacks
    assert told == "4 of 14 convolutions and matrix products ran in float32: " + ", ".join(
        ["matmul"] * 4
    )


def test_int8_in_forked_children(tmp_path):
    runtime = software("pytorch")
    runtime.build(FakeProgram("residual", "int8"), CPU, tmp_path)
    here = infer(runtime.load(tmp_path, CPU))
    for count, (outputs, facts) in enumerate(forked(runtime, tmp_path, tmp_path), start=1):
        np.testing.assert_allclose(outputs, here, atol=1e-5)
        assert facts["ran"]["threads"] == count and facts["ran"]["precision"] == "int8"


def test_an_int8_model_that_cannot_be_computed_fails_with_the_operator_s_name(tmp_path):
    import onnx

    class Backwards(FakeProgram):
        def onnx(self):
            model = onnx.load(super().onnx())
            helper, at = onnx.helper, model.graph.output[0].name
            ends = {"start": [-1], "end": [-99], "axis": [1], "step": [-1]}
            model.graph.initializer.extend(
                onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in ends.items()
            )
            model.graph.node.append(helper.make_node("Slice", [at, *ends], ["turned"]))
            model.graph.output[0].name = "turned"
            path = tmp_path / "turned.onnx"
            onnx.save(model, path)
            return path

    with pytest.raises(StepError, match="Slice of 'turned' cannot be computed by PyTorch"):
        software("pytorch").build(Backwards("residual", "int8"), CPU, tmp_path)


def test_without_quantized_tensors_int8_fails_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.delattr(torch, "quint8")
    with pytest.raises(StepError, match="no quantized tensors any more"):
        software("pytorch").build(FakeProgram("residual", "int8"), CPU, tmp_path)


def test_what_ran_is_read_back(tmp_path):
    residual = built(tmp_path, "residual").observe(images()[:1])
    assert residual.precision == "float32" and residual.threads == 1
    assert "conv2d" in residual.kernels and "linear" in residual.kernels
    assert sum(int(part.rpartition("x")[2]) for part in residual.kernels["conv2d"].split(",")) == 6
    assert residual.isa in ("sse42", "avx2", "avx512", None)
    assert residual.fallbacks == ()
    (tmp_path / "vit").mkdir()
    vit = built(tmp_path / "vit", "vit").observe(images()[:1])
    assert "attention" in vit.kernels


def test_forked_children_give_the_same_with_the_threads_asked(tmp_path):
    runtime = software("pytorch")
    runtime.build(FakeProgram("residual"), CPU, tmp_path)
    # The networks' own file sets one thread when it is imported: what is asked prevails.
    for count, (outputs, facts) in enumerate(forked(runtime, tmp_path, tmp_path), start=1):
        np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
        assert facts["ran"]["threads"] == count
        assert facts["tasks"] >= count


@pytest.mark.skipif(
    registry.make("hardware", "cpu", {"isa": "avx512"}).missing() is not None,
    reason="this CPU has no wider instruction set to be held back from",
)
def test_avx2_holds(tmp_path):
    runtime = software("pytorch")
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    runtime.build(FakeProgram("residual"), held, tmp_path)
    (outputs, facts), *_ = forked(runtime, tmp_path, tmp_path, threads=(1,), isa="avx2")
    np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
    assert facts["ran"]["isa"] == "avx2"
    assert "avx512" not in str(facts["ran"]["kernels"])
    assert runtime.load(tmp_path, CPU).observe(images()[:1]).isa == "avx512"


def test_every_level_is_told_to_every_library():
    runtime, told = software("pytorch"), []
    for isa in INSTRUCTION_SETS:
        told.append(runtime.environment(registry.make("hardware", "cpu", {"isa": isa})))
        assert set(told[-1].values()) and set(told[-1]) == set(told[0])
    assert len({each["ONEDNN_MAX_CPU_ISA"] for each in told}) == len(INSTRUCTION_SETS)
    assert runtime.environment(CPU) == {}


def test_options_reach_torch_backends_and_are_checked(tmp_path):
    session = built(tmp_path, "residual", options={"mkldnn.enabled": False})
    try:
        kernels = session.observe(images()[:1]).kernels
    finally:
        torch.backends.mkldnn.enabled = True
    assert "mkldnn" not in kernels["conv2d"] and "onednn.convolution" not in kernels
    bad = {"mkldnn.enable": True, "cudnn.benchmark": 3, "mkldnn": True, "quantized.engine": "x68"}
    with pytest.raises(UserError) as caught:
        software("pytorch", options=bad).build(FakeProgram("residual"), CPU, tmp_path)
    assert len(caught.value.problems) == 4
    assert "Did you mean 'mkldnn.enabled'" in str(caught.value)
    assert "'quantized.engine' is one of" in caught.value.problems[3]


# ---------------------------------------------------------------- how a module is stored


class Given(FakeProgram):
    def __init__(self, made) -> None:
        super().__init__("residual")
        self.made = made.eval()

    def network(self) -> Network:
        return Network(SPEC, self.made)


def test_a_module_that_cannot_be_stored_runs_as_its_graph_and_says_so(tmp_path):
    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last = module("residual"), (lambda y: y * 2)

        def forward(self, x):
            return self.last(self.body(x))

    runtime = software("pytorch")
    facts = runtime.build(Given(Local()), CPU, tmp_path)
    assert facts["stored"].startswith("graph: ")
    session = runtime.load(tmp_path, CPU)
    np.testing.assert_allclose(infer(session), 2 * reference("residual"), atol=1e-3)
    assert "exported graph" in session.observe(images()[:1]).fallbacks[0]


def test_a_user_s_own_code_travels_with_the_module(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "my_parts.py").write_text("SCALE = 3.0\n")
    (home / "my_net.py").write_text(
        "import torch\nfrom my_parts import SCALE\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.body = torch.nn.Linear(784, 10)\n"
        "    def forward(self, x):\n        return SCALE * self.body(x.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(home)
    import my_net

    torch.manual_seed(1)
    net = my_net.Net()
    folder = tmp_path / "built"
    folder.mkdir()
    runtime = software("pytorch")
    assert runtime.build(Given(net), CPU, folder)["stored"] == "module"
    assert sorted(json.loads((folder / "module.json").read_text())["sources"]) == [
        "my_net",
        "my_parts",
    ]
    for file in home.glob("*.py"):
        file.unlink()
    for name in ("my_net", "my_parts"):
        monkeypatch.delitem(sys.modules, name)
    (outputs, _), *_ = forked(runtime, folder, tmp_path, threads=(1,))
    with torch.inference_mode():
        expected = net(torch.from_numpy(images())).numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_packages_of_another_environment_are_not_the_user_s_code(tmp_path, monkeypatch):
    """A virtual environment that sees the system's packages has torch in none of its own."""
    own = SimpleNamespace(get_path=lambda name: str(tmp_path / "environment"))
    monkeypatch.setattr(torch_store, "sysconfig", own)
    torch_store._installed.cache_clear()
    try:
        kept = torch_store._copy_sources(nn.Linear(2, 2), tmp_path / "sources")
    finally:
        torch_store._installed.cache_clear()
    assert kept == {}
    assert not (tmp_path / "sources").exists()


def test_a_stored_network_cannot_name_other_code(tmp_path):
    built(tmp_path, "residual")
    index = json.loads((tmp_path / "module.json").read_text())
    index["globals"].append("os.system")
    (tmp_path / "module.json").write_text(json.dumps(index))
    with pytest.raises(StepError, match=r"os\.system"):
        torch_store.load_module(tmp_path)

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save(Evil(), tmp_path / "module.pt")
    index["globals"] = []
    (tmp_path / "module.json").write_text(json.dumps(index))
    with pytest.raises(StepError, match="refused"):
        torch_store.load_module(tmp_path)


# ---------------------------------------------------------------- rules, and each switched off


def test_its_own_int8_is_unavailable_and_would_fail(tmp_path):
    own = registry.make("optimization", "int8", {"route": "own"})
    runtime = software("pytorch")
    refused = own.why_not(stack(runtime, optimization=(own,)))
    assert refused is not None and refused.status == "unavailable"
    assert "no int8 quantization of its own" in refused.reason
    with pytest.raises(StepError, match="no way to make its own"):
        runtime.build(LeftToRuntime("residual"), CPU, tmp_path)


def test_int8_on_a_gpu_is_unavailable_and_would_run_on_the_cpu(tmp_path):
    runtime, cuda = software("pytorch"), registry.make("hardware", "cuda")
    refused = runtime.why_not(stack(runtime, precision="int8", hardware=Stand(device="cuda")))
    assert refused is not None and "cuda" in refused.reason
    runtime.build(FakeProgram("residual", "int8"), cuda, tmp_path)
    assert "int8" in runtime.load(tmp_path, cuda).observe(images()[:1]).kernels


def test_int8_by_fbgemm_cannot_be_held_to_an_instruction_set():
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    x86, plain = software("pytorch", options={"quantized.engine": "x86"}), software("pytorch")
    refused = x86.why_not(stack(x86, precision="int8", hardware=held))
    assert refused is not None and refused.status == "unavailable" and "fbgemm" in refused.reason
    assert plain.why_not(stack(plain, precision="int8", hardware=held)) is None
    assert x86.why_not(stack(x86, hardware=held)) is None


@pytest.mark.skipif(
    not VNNI & set(CPU.describe()["flags"]), reason="without VNNI everything saturates anyhow"
)
def test_fbgemm_would_not_be_held_and_onednn_is(tmp_path):
    """Held to AVX2, 8-bit products saturate; fbgemm's do not, so it is not held."""
    code = (
        "import torch\n"
        "x = torch.full((1, 64), 255, dtype=torch.uint8)\n"
        "x = torch._make_per_tensor_quantized_tensor(x, 1.0, 0)\n"
        "w = torch.full((64, 64), 127, dtype=torch.int8)\n"
        "for engine in ('fbgemm', 'onednn'):\n"
        "    torch.backends.quantized.engine = engine\n"
        "    one, zero = torch.ones(64, dtype=torch.float64), torch.zeros(64, dtype=torch.int64)\n"
        "    made = torch._make_per_channel_quantized_tensor(w, one, zero, 0)\n"
        "    packed = torch.ops.quantized.linear_prepack(made, None)\n"
        "    y = torch.ops.quantized.linear(x, packed, 255 * 127 * 64 / 200, 0)\n"
        "    print(int(y.int_repr()[0, 0]))\n"
    )
    held = software("pytorch").environment(registry.make("hardware", "cpu", {"isa": "avx2"}))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env={**os.environ, **held},
                          capture_output=True, text=True, check=True)  # fmt: skip
    fbgemm, onednn = map(int, done.stdout.split())
    assert fbgemm == 200 and onednn < 150


@pytest.mark.skipif(
    "avx512_vnni" not in CPU.describe()["flags"], reason="without VNNI everything saturates anyhow"
)
def test_fbgemm_s_depthwise_kernels_saturate_even_so_and_onednn_s_do_not(engine):
    """Why oneDNN's are taken though PyTorch's default is another; half of the range is exact."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (1, 128, 16, 16), generator=random).to(torch.uint8)

    def farthest(asked: str, most: int) -> float:
        torch.backends.quantized.engine = asked
        w = torch.randint(-most, most + 1, (128, 1, 3, 3), generator=random).to(torch.int8)
        exact = nn.functional.conv2d(x.double(), w.double(), padding=1, groups=128)
        step = float(exact.abs().max()) / 127
        one, zero = torch.ones(128, dtype=torch.float64), torch.zeros(128, dtype=torch.int64)
        made = torch._make_per_channel_quantized_tensor(w, one, zero, 0)
        packed = torch.ops.quantized.conv2d_prepack(made, None, [1, 1], [1, 1], [1, 1], 128)
        given = torch._make_per_tensor_quantized_tensor(x, 1.0, 0)
        y = torch.ops.quantized.conv2d.new(given, packed, step, 128).int_repr().double() - 128
        return float((y - exact / step).abs().max())

    assert farthest("fbgemm", 127) > 5
    assert farthest("fbgemm", 63) < 2 and farthest("onednn", 127) < 2


def test_where_products_saturate_wrong_outputs_are_explained():
    runtime, x86 = software("pytorch"), software("pytorch", options={"quantized.engine": "x86"})
    asked = stack(runtime, precision="int8")
    narrow, wide, able = (
        stack(runtime, precision="int8", hardware=registry.make("hardware", "cpu", {"isa": isa}))
        for isa in ("avx2", "avx512", "vnni")
    )
    for said in (
        runtime.suspected(wide, {"avx2", "avx512_vnni"}),  # oneDNN's AVX512_CORE has no VNNI
        runtime.suspected(asked, {"avx2"}),
        runtime.suspected(asked, {"avx2", "avx_vnni"}),  # of processors without AVX-512
        runtime.suspected(narrow, {"avx2", "avx512_vnni"}),
        x86.suspected(asked, {"avx2", "avx512_vnni"}),
    ):
        assert "weight_bits: 7" in said
    assert "depthwise" in x86.suspected(asked, {"avx2", "avx512_vnni"})
    assert runtime.suspected(asked, {"avx2", "avx512_vnni"}) == ""
    assert runtime.suspected(able, {"avx2", "avx512_vnni"}) == ""
    assert runtime.suspected(asked, {"asimd"}) == ""
    assert x86.suspected(stack(x86), {"avx2"}) == ""


def test_a_chosen_algorithm_is_unavailable_and_would_change_nothing(tmp_path):
    runtime = software("pytorch")
    refused = runtime.why_not(stack(runtime, algorithm=registry.make("algorithm", "direct")))
    assert refused is not None and "'direct'" in refused.reason
    native = built(tmp_path, "residual").observe(images()[:1]).kernels
    other = tmp_path / "direct"
    other.mkdir()
    runtime.build(FakeProgram("residual", algorithm="direct"), CPU, other)
    assert runtime.load(other, CPU).observe(images()[:1]).kernels == native


def test_an_onnx_model_is_unavailable_and_would_fail(tmp_path):
    runtime = software("pytorch")
    refused = runtime.why_not(stack(runtime, model=Stand(form="onnx")))
    assert refused is not None and refused.status == "unavailable"

    class OnlyOnnx(FakeProgram):
        def network(self):
            return Network(SPEC, None, None)

    with pytest.raises(StepError, match="torch module"):
        runtime.build(OnlyOnnx("residual"), CPU, tmp_path)


def test_plain_stacks_are_not_refused():
    runtime = software("pytorch")
    for precision in (None, "float16", "bfloat16", "int8"):
        assert runtime.why_not(stack(runtime, precision=precision)) is None
    given = Stand(precision="int8")
    assert runtime.why_not(stack(runtime, optimization=(given,), model=Stand(form="onnx"))) is None
    assert runtime.why_not(stack(runtime, hardware=Stand(device="cuda"))) is None


def test_a_gpu_s_kernels_are_named_and_tf32_is_told_from_float32():
    from types import SimpleNamespace

    from dlas.layers.software.shared import torch_observe

    def ran(*names):
        return [
            SimpleNamespace(name=lambda n=n: n, device_type=lambda: "DeviceType.CUDA")
            for n in names
        ]

    plain = "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchwkcrs_nchw__5x_cudnn"
    tf32 = "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_execute_kernel"
    assert torch_observe._tf32(ran(plain), {"float32"}) == {"float32"}
    assert torch_observe._tf32(ran(plain, tf32), {"float32"}) == {"tf32"}
    assert torch_observe._tf32(ran(tf32), {"float16"}) == {"float16"}
    short = torch_observe._short
    assert short("void implicit_convolve_sgemm<float, 1024, 5>(int, int)") == (
        "implicit_convolve_sgemm"
    )
    assert short("void at::native::(anonymous namespace)::conv_depthwise2d<float>(int)") == (
        "at::native::conv_depthwise2d"
    )
    gemv = "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float>(long)"
    assert short(gemv) == "internal::gemvx::kernel"
