import tempfile
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import KernelChoice, Software
from dlas.layers.software import ncnn as software_ncnn
from dlas.layers.software.shared import ncnn_files, ncnn_int8, ncnn_kernels, own_threads
from dlas.layers.software.shared.ncnn_blobs import PARAM, SeenBlobs, open_net, write_net
from dlas.layers.software.shared.ncnn_kernels import by_memory
from dlas.run.measure.verdict import asked_and_ran
from dlas.testing.stand_ins import NamedKernels, stack_of
from fake_programs import (
    _FILES,
    CPU,
    NETS,
    FakeProgram,
    LeftToRuntime,
    Stand,
    artefact,
    forked,
    images,
    infer,
    qdq_path,
    reference,
    software,
    stack,
)

ncnn = pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
import torch  # noqa: E402
from torch import nn  # noqa: E402

from dlas.layers.software.shared.ncnn_attention import joined  # noqa: E402

ALGORITHMS = ("winograd", "gemm", "direct")


@pytest.fixture(autouse=True)
def converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlas.layers.software.ncnn.converted", _converted)


@cache
def _converted(module: Any, shape: tuple[int, ...], half: bool) -> tuple[str, bytes]:
    """Ask pnnx once for each network and type."""
    return ncnn_files.converted(module, shape, half)


def folder(*what: str) -> Path:
    return artefact(software("ncnn"), *what)


def session(*what: str, threads: int = 1, **params: Any) -> Any:
    hardware: Any = registry.make("hardware", "cpu", {"threads": threads})
    return software("ncnn", **params).load(folder(*what), hardware)


@pytest.mark.parametrize("net", ["residual", "depthwise"])
def test_it_agrees_with_pytorch(net: str) -> None:
    found = infer(session(net))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)


def test_a_batch_is_its_images_one_after_another() -> None:
    found = session("residual")(images())
    np.testing.assert_allclose(found, reference("residual"), atol=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1)])
@pytest.mark.parametrize("net", ["residual", "depthwise"])
def test_narrow_types_agree_and_what_ran_is_told(
    net: str, precision: str, tolerance: float
) -> None:
    loaded, expected = session(net, precision), reference(net)
    error = np.abs(infer(loaded) - expected).max() / np.abs(expected).max()
    assert 0 < error <= tolerance
    ran = loaded.observe(images()[:1])
    runtime = software("ncnn")
    refused = registry.other_type(replace(stack(runtime, precision=precision), probed=ran))
    allowed = asked_and_ran(
        precision=precision, declared=runtime.executes, threads=1,
        ran={"precision": ran.precision},
    )  # fmt: skip
    assert (refused is None) == (allowed is None)
    if precision == "bfloat16":
        assert ran.precision == "bfloat16"


def test_float16_halves_what_is_stored() -> None:
    sizes = [
        (folder("residual", kind) / "model.ncnn.bin").stat().st_size
        for kind in ("float32", "float16")
    ]
    assert sizes[1] < 0.6 * sizes[0]


def test_float32_is_float32() -> None:
    """ncnn's own default is to store in float16 where it can."""
    assert software("ncnn").settings("float32")["use_fp16_storage"] is False  # type: ignore[attr-defined]
    assert ncnn.Option().use_fp16_storage is True
    assert session("residual").observe(images()[:1]).precision == "float32"


# ---------------------------------------------------------------- what ran


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithm_asked_for_runs_and_what_cannot_is_told(algorithm: str) -> None:
    loaded = session("residual", "float32", algorithm)
    np.testing.assert_allclose(infer(loaded), reference("residual"), atol=1e-3)
    ran = loaded.observe(images()[:1])
    kernels = [kernel for name, kernel in ran.kernels.items() if name.startswith("conv")]
    assert len(kernels) == 6
    assert kernels.count(algorithm) + len(ran.fallbacks) == 6
    assert algorithm in kernels
    for sentence in ran.fallbacks:
        name, _, rest = sentence.partition(": ")
        why = ("ncnn", "a 1x1 convolution is")
        assert rest.startswith(
            tuple(f"{ran.kernels[name]} instead of {algorithm}: {w}" for w in why)
        )


def test_left_to_itself_it_takes_several_and_no_fallback_is_told() -> None:
    ran = session("residual").observe(images()[:1])
    assert {"winograd", "gemm"} <= set(ran.kernels.values())
    assert ran.fallbacks == ()
    assert ran.kernels["InnerProduct"] == "x1"
    deep = session("depthwise").observe(images()[:1])
    assert list(deep.kernels.values()).count("depthwise") == 2


def test_another_algorithm_rounds_otherwise() -> None:
    found = [infer(session("residual", "float32", each)) for each in ("winograd", "gemm")]
    assert not np.array_equal(*found)


def test_the_memory_tells_the_algorithms_apart() -> None:
    """What is read back follows the options that are set, whatever the file asks for."""
    made = folder("residual")
    layers = ncnn_files.read_layers((made / "model.ncnn.param").read_text())
    asked = software("ncnn").settings("float32")  # type: ignore[attr-defined]

    def seen(**off: bool) -> set[str]:
        blobs = SeenBlobs(open_net(made, {**asked, **off}), layers)
        blobs.run(images()[0])
        three = [o for o in blobs.convolutions() if o.number(1, 1) == 3]
        open_it = lambda more: open_net(made, {**asked, **off, **more})  # noqa: E731
        return set(by_memory(open_it, three, blobs.inputs).values())

    assert "winograd" in seen()
    assert "winograd" not in seen(use_winograd_convolution=False)
    assert seen(use_winograd_convolution=False, use_sgemm_convolution=False) == {"direct"}


def test_a_layer_that_cannot_be_run_alone_is_not_said_to_be_direct() -> None:
    made = folder("residual")
    layers = ncnn_files.read_layers((made / "model.ncnn.param").read_text())
    asked = software("ncnn").settings("float32")  # type: ignore[attr-defined]
    blobs = SeenBlobs(open_net(made, asked), layers)
    blobs.run(images()[0])
    lost = replace(blobs.convolutions()[0], tops=("nowhere",))
    with pytest.raises(StepError, match=rf"Convolution {lost.name} cannot be run alone \(-\d+\)"):
        by_memory(lambda more: open_net(made, {**asked, **more}), [lost], blobs.inputs)


def test_what_could_not_be_read_stays_empty_and_is_told() -> None:
    loaded = session("residual")
    with patch.object(ncnn_kernels, "by_memory", side_effect=StepError("ncnn: no")):
        ran = loaded.observe(images()[:1])
    assert (ran.precision, ran.isa, ran.kernels) == (None, None, {})
    assert ran.fallbacks == ("what ran could not be read: ncnn: no",)


def test_eight_lanes_tell_of_avx2_only_where_the_cpu_has_it() -> None:
    with patch("platform.machine", return_value="x86_64"):
        for has, said in ((1, "avx2"), (0, None)):
            with patch.object(ncnn, "cpu_support_x86_avx2", return_value=has):
                assert software_ncnn._isa(8) == said
                assert (software_ncnn._isa(16), software_ncnn._isa(1)) == ("avx512", None)
    with patch("platform.machine", return_value="aarch64"):
        assert software_ncnn._isa(4) is None


def test_forked_children_give_the_same_with_the_threads_asked(tmp_path: Path) -> None:
    made = folder("residual")
    for count, (outputs, facts) in enumerate(forked(software("ncnn"), made, tmp_path), start=1):
        np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
        assert facts["ran"]["threads"] == count
        assert not facts["torch"]


def test_threads_are_counted_by_the_time_they_had() -> None:
    if not own_threads.TASKS.is_dir():
        pytest.skip("this system has no /proc")
    gate = threading.Event()
    waiting = threading.Thread(target=gate.wait)
    waiting.start()
    time.sleep(0.05)  # until it sleeps

    def work() -> None:
        assert sum(range(200_000)) > 0

    try:
        assert own_threads.that_ran(work) == 1  # who waits does not count
        with patch.object(own_threads, "TASKS", Path("/nowhere")):
            assert own_threads.that_ran(work) is None
    finally:
        gate.set()
        waiting.join()


# ---------------------------------------------------------------- the files


def test_layers_are_read_and_written_again() -> None:
    text = (folder("residual") / "model.ncnn.param").read_text()
    again = ncnn_files.with_features_off(text, {})
    assert ncnn_files.read_layers(again) == ncnn_files.read_layers(text)
    first = next(o for o in ncnn_files.read_layers(text) if o.kind == "Convolution")
    off = ncnn_files.with_features_off(text, {first.name: 96})
    changed = {o.name: o for o in ncnn_files.read_layers(off)}
    assert changed[first.name].parameters["31"] == "96"
    assert sum("31" in o.parameters for o in changed.values()) == 1


def test_a_layer_is_the_convolution_that_the_module_has() -> None:
    text = "x\ny\nConvolutionDepthWise c 1 1 a b 0=32 1=5 11=3 2=1 12=2 3=2 13=1 4=2 14=1 7=32\n"
    (layer,) = ncnn_files.read_layers(text)
    found = ncnn_files.operator(layer, 32, 14, 15)
    assert (found.kernel, found.stride, found.dilation) == ((3, 5), (1, 2), (2, 1))
    assert found.padding == (1, 2, 1, 2) and found.groups == 32
    same = replace(layer, parameters={**layer.parameters, "4": "-233", "14": "-233"})
    kept = ncnn_files.operator(same, 32, 14, 15)
    assert (kept.out_height, kept.out_width) == (14, 8)


def test_what_ncnn_has_no_layer_for_is_said() -> None:
    class Apart(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(1, 1, 2, 14, 28).unbind(2)[0].flatten(1)

    with pytest.raises(StepError, match=r"ncnn has no layer for .*torch.unbind"):
        ncnn_files.converted(Apart(), (1, 1, 28, 28), False)


def test_attention_becomes_one_layer_with_the_same_outputs() -> None:
    loaded = session("vit")
    np.testing.assert_allclose(infer(loaded), reference("vit"), atol=1e-3)
    kinds = [o.kind for o in ncnn_files.read_layers((folder("vit") / PARAM).read_text())]
    assert kinds.count("MultiHeadAttention") == 2


def test_attention_with_more_in_it_is_left_alone() -> None:
    attention = pytest.importorskip("timm.layers.attention").Attention
    plain, normed = (
        attention(8, 2, qkv_bias=True),
        attention(8, 2, qk_norm=True, norm_layer=nn.LayerNorm),
    )
    module = nn.ModuleDict({"plain": plain, "normed": normed}).eval()
    x = torch.randn(1, 5, 8)
    expected = plain(x)
    joined(module)
    assert module["normed"] is normed
    torch.testing.assert_close(module["plain"](x), expected)
    with pytest.raises(ValueError, match="mask"):
        module["plain"](x, attn_mask=torch.zeros(5, 5))


def test_options_reach_ncnn_and_are_checked(tmp_path: Path) -> None:
    loaded = session("residual", options={"lightmode": False, "use_packing_layout": False})
    assert loaded.observe(images()[:1]).isa is None, "nothing is packed for vectors"
    np.testing.assert_allclose(infer(loaded), reference("residual"), atol=1e-3)
    bad = {"ligthmode": True, "openmp_blocktime": True, "num_threads": 4, "lightmode": 1}
    runtime: Any = software("ncnn", options=bad)
    with pytest.raises(UserError) as caught:
        runtime.settings("float32")
    assert len(caught.value.problems) == len(bad)
    assert "Did you mean 'lightmode'" in str(caught.value)


# ---------------------------------------------------------------- its own int8


@cache
def own_int8(net: str, algorithm: str = "native") -> Path:
    made = _FILES / f"ncnn-{net}-own-{algorithm}"
    made.mkdir()
    program = LeftToRuntime(net)
    program.algorithm = registry.make("algorithm", algorithm)  # type: ignore[assignment]
    software("ncnn").build(program, CPU, made)
    return made


@pytest.mark.parametrize("net", ["residual", "depthwise"])
def test_its_own_int8_agrees_is_smaller_and_really_runs(net: str) -> None:
    made, expected = own_int8(net), reference(net)
    loaded = software("ncnn").load(made, CPU)
    error = np.linalg.norm(infer(loaded) - expected) / np.linalg.norm(expected)
    assert 0 < error <= 0.15
    ran = loaded.observe(images()[:1])
    assert ran.precision == "int8" and ran.fallbacks == ()
    sizes = [(each / "model.ncnn.bin").stat().st_size for each in (folder(net), made)]
    assert sizes[1] < 0.5 * sizes[0]


def scales_of_few_values(net: str) -> tuple[list[ncnn_files.NcnnLayer], list[float]]:
    """Return a network's layers, and the scales of what those in int8 read of images of 0.5, 3."""
    made = folder(net)
    layers = ncnn_files.read_layers((made / PARAM).read_text())
    few = np.where(images() > 1, np.float32(3), np.float32(0.5))
    chosen = [layer for layer in layers if layer.kind in ncnn_int8.QUANTIZED]
    opened = open_net(made, {"num_threads": 1})
    scales = ncnn_int8._scales(opened, chosen, few, ncnn_int8._of_the_image(layers))
    return layers, [scales[layer.name] for layer in chosen]


def test_an_image_of_few_values_is_not_cut() -> None:
    _, scales = scales_of_few_values("residual")
    assert scales[0] == pytest.approx(127 / 3)


class _Twice(nn.Module):
    """Two first convolutions, of which one has its image padded by a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 16, 1, stride=2), nn.Conv2d(1, 16, 3, stride=2)
        self.pad, self.head = nn.ReplicationPad2d(1), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        both = torch.relu(self.near(x) + self.far(self.pad(x)))
        return self.head(both.mean((2, 3)))


def test_an_image_that_is_read_twice_or_padded_is_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ncnn puts a layer before them that copies the image, as in RepVGG."""
    monkeypatch.setitem(NETS, "twice", lambda _: _Twice())
    layers, scales = scales_of_few_values("twice")
    assert {"Split", "Padding"} <= {layer.kind for layer in layers}
    assert scales[:2] == pytest.approx([127 / 3, 127 / 3])


class _Own(nn.Module):
    """A convolution, and what a test is about behind it."""

    def __init__(self, behind: nn.Module, features: int) -> None:
        super().__init__()
        self.conv, self.behind = nn.Conv2d(1, 16, 3, stride=2), behind
        self.head = nn.Linear(features, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.behind(self.conv(x)).flatten(1))


class _Gram(nn.Module):
    def forward(self, x: Any) -> Any:
        rows = x.flatten(2)
        return torch.matmul(rows, rows.transpose(1, 2)) / 169


def test_a_group_norm_stays_as_it_is_between_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETS, "groups", lambda _: _Own(nn.GroupNorm(4, 16), 16 * 13 * 13))
    loaded, expected = software("ncnn").load(own_int8("groups"), CPU), reference("groups")
    error = np.linalg.norm(infer(loaded) - expected) / np.linalg.norm(expected)
    assert 0 < error <= 0.15
    assert loaded.observe(images()[:1]).precision == "int8"


def test_products_of_two_images_are_not_asked_whether_they_are_in_int8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NETS, "gram", lambda _: _Own(_Gram(), 16 * 16))
    ran = software("ncnn").load(own_int8("gram"), CPU).observe(images()[:1])
    assert ran.precision == "int8"
    (told,) = ran.fallbacks
    assert told.startswith("1 of 3 convolutions and matrix products ran in float32: MatMul")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithm_can_be_chosen_in_int8_too(algorithm: str) -> None:
    loaded = software("ncnn").load(own_int8("residual", algorithm), CPU)
    expected = reference("residual")
    error = np.linalg.norm(infer(loaded) - expected) / np.linalg.norm(expected)
    assert error <= 0.15
    ran = loaded.observe(images()[:1])
    kernels = [kernel for name, kernel in ran.kernels.items() if name.startswith("conv")]
    assert kernels.count(algorithm) + len(ran.fallbacks) == len(kernels)
    assert algorithm in kernels


def test_float_weights_that_ncnn_is_to_quantize_itself_give_the_same() -> None:
    """ncnn rounds weights by the scales in the file; ours are rounded before, equally."""
    options: Any = {**software("ncnn").settings("int8"), "num_threads": 1}  # type: ignore[attr-defined]
    net = open_net(folder("residual"), options)
    text = (folder("residual") / "model.ncnn.param").read_text()
    content = (folder("residual") / "model.ncnn.bin").read_bytes()

    def floats(layer: Any, parts: Any, scales: Any) -> bytes:
        whole = exact(layer, parts, scales)
        size = 4 + (layer.number(2 if layer.kind == "InnerProduct" else 6, 0) + 3) // 4 * 4
        return parts[0].whole + whole[size:]

    exact = ncnn_int8._int8
    outputs = []
    for write in (exact, floats):
        made = Path(tempfile.mkdtemp(dir=_FILES))
        with patch.object(ncnn_int8, "_int8", write):
            write_net(made, *ncnn_int8.quantized(text, content, net, images()))
        (made / "ncnn.json").write_text('{"precision": "int8", "algorithm": {}}')
        outputs.append(infer(software("ncnn").load(made, CPU)))
    np.testing.assert_array_equal(*outputs)


def test_a_threshold_cuts_off_what_is_rare() -> None:
    bell = np.abs(np.random.default_rng(0).standard_normal(100_000))
    with_outlier = np.concatenate([bell, [40.0]])
    for values, low, high in ((bell, 0.5, 1.0), (with_outlier, 0.05, 0.3)):
        counts = np.histogram(values, ncnn_int8.BINS, (0, values.max()))[0]
        threshold = 127 / ncnn_int8._scale(counts, float(values.max()))
        assert low * values.max() <= threshold <= high * values.max()
    assert ncnn_int8._scale(np.zeros(ncnn_int8.BINS, int), 0.0) == 1.0


def test_weights_that_are_laid_out_in_an_unknown_way_are_refused() -> None:
    layers = ncnn_files.read_layers("x\ny\nLSTM lstm 1 1 a b 0=4 1=16\n")
    with pytest.raises(StepError, match="layers: LSTM"):
        ncnn_int8._weights(layers, bytes(64))


# ---------------------------------------------------------------- rules, and each switched off


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_rule_keeps_an_algorithm_from_its_own_int8(algorithm: str) -> None:
    own: Any = registry.make("optimization", "int8", {"route": "own"})
    asked = stack_of(software("ncnn"), own, registry.make("algorithm", algorithm))
    assert registry.refusal(asked) is None


def test_the_shared_int8_model_is_unavailable_since_it_has_zero_points(tmp_path: Path) -> None:
    runtime = software("ncnn")
    refused = runtime.why_not(stack(runtime, precision="int8"))
    assert refused is not None and refused.status == "unavailable"
    assert "zero point" in refused.reason and "route: own" in refused.reason
    own: Any = registry.make("optimization", "int8", {"route": "own"})
    assert runtime.why_not(stack(runtime, optimization=(own,))) is None
    with pytest.raises(StepError):
        runtime.build(FakeProgram("residual", "int8"), CPU, tmp_path)
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(qdq_path("residual")).graph
    held = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    points = [held[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert any(p.any() for p in points), "the shared model's activations have zero points"


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("spatial-pack", {}, "spatial-pack"),
        ("best", {}, "best"),
        ("gemm", {"weights": "csr", "threshold": 0}, "CSR"),
        ("map", {"conv1": "gemm"}, "names"),
    ],
)
def test_what_it_cannot_be_asked_for_is_unavailable(
    name: str, params: dict[str, Any], said: str, tmp_path: Path
) -> None:
    runtime = software("ncnn")
    algorithm: Any = registry.make("algorithm", name, params)
    refused = runtime.why_not(stack(runtime, algorithm=algorithm))
    assert refused is not None and refused.status == "unavailable"
    assert said in refused.reason
    if name != "map":
        program = FakeProgram("residual")
        program.algorithm = algorithm
        with pytest.raises(StepError, match="asked for conv"):
            runtime.build(program, CPU, tmp_path)


def test_an_algorithm_may_leave_operators_to_ncnn(tmp_path: Path) -> None:
    class OnlyLarge(NamedKernels):
        def kernel(self, operator: Any, target: str) -> KernelChoice | None:  # type: ignore[override]
            return KernelChoice("direct") if operator.in_channels > 1 else None

    program = FakeProgram("residual")
    program.algorithm = OnlyLarge()
    said = software("ncnn").build(program, CPU, tmp_path)
    assert len(said["algorithm"]) == 5 and set(said["algorithm"].values()) == {"direct"}


def test_another_device_instruction_set_and_form_are_unavailable() -> None:
    runtime: Software = software("ncnn")
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    for layers, said in (
        ({"hardware": Stand(device="cuda")}, "cuda"),
        ({"hardware": held}, "avx2"),
        ({"model": Stand(form="onnx")}, "ONNX"),
    ):
        refused = runtime.why_not(stack(runtime, **layers))
        assert refused is not None and said in refused.reason
    assert runtime.environment(held) == {}, "nothing would hold it"  # type: ignore[arg-type]


def test_plain_stacks_are_not_refused() -> None:
    runtime = software("ncnn")
    for precision in (None, "float16", "bfloat16"):
        assert runtime.why_not(stack(runtime, precision=precision)) is None
    for name in ALGORITHMS:
        chosen = registry.make("algorithm", name)
        assert runtime.why_not(stack(runtime, algorithm=chosen)) is None
