from dataclasses import asdict

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError
from dlas.core.protocols import Algorithm, Network
from dlas.run.measure import one_operator
from dlas.run.measure.verdict import asked_and_ran
from dlas.run.plan import plan
from dlas.run.steps.convert import to_exported
from dlas.study.study import Study
from fake_programs import (
    CPU,
    NETS,
    SPEC,
    FakeProgram,
    Pruned,
    Stand,
    check_outputs_are_kept,
    forked,
    halved,
    images,
    infer,
    reference,
    software,
    stack,
    torch,
)
from masks import HIDDEN, cpuinfo

pytest.importorskip("tvm_ffi")


def built(tmp_path, net, hardware=CPU, **program):
    runtime = software("tvm")
    runtime.build(FakeProgram(net, **program), hardware, tmp_path)
    return runtime.load(tmp_path, hardware)


@pytest.mark.parametrize("algorithm", ["native", "direct", "gemm", "spatial-pack"])
@pytest.mark.parametrize("net", NETS)
def test_it_agrees_with_pytorch_by_each_algorithm(net, algorithm, tmp_path):
    session = built(tmp_path, net, algorithm=algorithm)
    found = infer(session)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)
    ran = session.observe(images()[:1])
    convolutions = {"residual": 6, "depthwise": 5, "vit": 1}[net]
    assert list(ran.kernels.values()).count(algorithm) == convolutions
    assert ran.precision == "float32" and ran.threads == 1 and ran.fallbacks == ()
    assert ran.isa in ("avx2", "avx512", None)
    assert ran.sparsity == 0


def test_winograd_runs_where_it_can_and_tells_where_not(tmp_path):
    session = built(tmp_path, "residual", algorithm="winograd")
    np.testing.assert_allclose(infer(session), reference("residual"), atol=1e-3)
    ran = session.observe(images()[:1])
    kernels = list(ran.kernels.values())
    assert kernels.count("winograd") == 4 and kernels.count("spatial-pack") == 2
    assert len(ran.fallbacks) == 2
    assert all("spatial-pack instead of winograd: winograd needs" in f for f in ran.fallbacks)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("algorithm", ["direct", "gemm", "spatial-pack"])
def test_sparse_weights_are_right_and_what_was_skipped_is_told(algorithm, net, tmp_path):
    pruned = halved(net)
    program = Pruned(net)
    program.algorithm = registry.make("algorithm", algorithm, {"weights": "csr"})
    runtime = software("tvm")
    runtime.build(program, CPU, tmp_path)
    session = runtime.load(tmp_path, CPU)
    with torch.no_grad():
        expected = pruned(torch.from_numpy(images())).numpy()
    np.testing.assert_allclose(infer(session), expected, atol=1e-3)
    ran = session.observe(images()[:1])
    convolutions = {"residual": 6, "depthwise": 5, "vit": 1}[net]
    assert list(ran.kernels.values()).count(f"{algorithm} csr") == convolutions
    assert "linear csr" in ran.kernels and "linear" not in ran.kernels
    assert ran.sparsity == pytest.approx(0.9, abs=0.02) and ran.precision == "float32"
    assert ran.fallbacks == ()


def test_layers_below_the_threshold_stay_dense_and_are_told(tmp_path):
    program = Pruned("residual")
    rest = halved("residual")
    with torch.no_grad():
        rest[1].a.weight += 1
    program.exported = lambda: torch.export.export(rest, (torch.zeros(SPEC.shape),))
    program.algorithm = registry.make("algorithm", "direct", {"weights": "csr"})
    runtime = software("tvm")
    runtime.build(program, CPU, tmp_path)
    ran = runtime.load(tmp_path, CPU).observe(images()[:1])
    assert ran.kernels["1.a"] == "direct"
    (told,) = ran.fallbacks
    assert told.startswith("1.a: dense weights instead of csr weights: 0% zeros")
    assert 0.5 < ran.sparsity < 0.9


def test_an_algorithm_decides_for_each_operator(tmp_path):
    class ThreeByThree(Algorithm):
        name = "three"

        def kernel(self, operator, target):
            return "gemm" if operator.kernel == (3, 3) else None

    program = FakeProgram("residual")
    program.algorithm = ThreeByThree()
    runtime = software("tvm")
    runtime.build(program, CPU, tmp_path)
    session = runtime.load(tmp_path, CPU)
    np.testing.assert_allclose(infer(session), reference("residual"), atol=1e-3)
    kernels = list(session.observe(images()[:1]).kernels.values())
    assert kernels.count("gemm") == 5 and kernels.count("native") == 1


def test_forked_children_need_no_torch_and_keep_to_the_threads_asked(tmp_path):
    runtime = software("tvm")
    runtime.build(FakeProgram("residual", algorithm="direct"), CPU, tmp_path)
    for count, (outputs, facts) in enumerate(forked(runtime, tmp_path, tmp_path), start=1):
        np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
        assert facts["ran"]["threads"] == count
        assert facts["tasks"] >= count
        assert not facts["torch"]


@pytest.mark.skipif(
    registry.make("hardware", "cpu", {"isa": "avx2"}).missing() is not None,
    reason="this CPU has no avx2",
)
def test_avx2_holds(tmp_path):
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    session = built(tmp_path, "depthwise", held, algorithm="direct")
    np.testing.assert_allclose(infer(session), reference("depthwise"), atol=1e-3)
    assert session.observe(images()[:1]).isa == "avx2"


def test_levels_of_narrow_types_hold_and_are_read_back(tmp_path):
    native = built(tmp_path / "native", "residual", precision="int8", algorithm="spatial-pack")
    levels = [registry.make("hardware", "cpu", {"isa": isa}) for isa in ("vnni", "amx")]
    here = [level for level in levels if level.missing() is None]
    if not here:
        pytest.skip(levels[0].missing())
    for level in here:
        folder = tmp_path / level.isa
        session = built(folder, "residual", level, precision="int8", algorithm="spatial-pack")
        assert session.observe(images()[:1]).isa == level.isa
        np.testing.assert_array_equal(infer(session), infer(native))
    floats = built(tmp_path / "floats", "residual", here[-1], algorithm="spatial-pack")
    assert floats.observe(images()[:1]).isa == "avx512"  # what is there for others did not run


def test_dot_products_of_bytes_without_avx512_are_read_back():
    """What processors without AVX-512 have of VNNI, and only where bytes were multiplied."""
    from dlas.kernels.ground.cpu import V3, V4
    from dlas.layers.software import tvm
    from dlas.layers.software.shared import isa

    def ran(dtype, *features):
        operators = [{"operator": "a", "kind": "conv2d", "dtype": dtype}]
        return isa.widest(tvm._instructions(features, operators))

    assert ran("int8", *V3, "avx_vnni") == "vnni"
    assert ran("float32", *V3, "avx_vnni") == ran("int8", *V3) == "avx2"
    assert ran("float32", *V4, "avx_vnni", "avx512_vnni") == "avx512"
    assert isa.family("brgconv_avx2_vnni_2") == "vnni" and isa.family("brgconv_avx2") == "avx2"


def test_outputs_do_not_share_memory_between_calls(tmp_path):
    check_outputs_are_kept(built(tmp_path, "depthwise", algorithm="direct"))


def tuned(tmp_path, **params):
    return software("tvm", tuning="template", records=str(tmp_path / "records"), **params)


def test_tuned_code_is_right_and_the_build_tells_what_was_tried(tmp_path):
    runtime = tuned(tmp_path, trials=2)
    program = FakeProgram("residual", algorithm="winograd")
    facts = runtime.build(program, CPU, tmp_path / "artefact")
    said = facts["tuning"]
    assert said["records"] >= 4 and said["lost"] == 0 and said["reused"] == 0
    assert said["trials"] == 2 * said["records"] and said["seconds"] > 0
    session = runtime.load(tmp_path / "artefact", CPU)
    np.testing.assert_allclose(infer(session), reference("residual"), atol=1e-3)
    again = runtime.build(program, CPU, tmp_path / "again")["tuning"]
    assert again["reused"] == said["records"] and again["seconds"] == 0


def test_a_network_of_one_operator_is_built_without_tuning(tmp_path):
    runtime = tuned(tmp_path)
    args = {"spec": asdict(SPEC), "folder": str(tmp_path / "one")}
    args |= {
        "algorithm": registry.choice(registry.make("algorithm", "direct")).to_json(),
        "hardware": registry.choice(CPU).to_json(),
    }
    with pytest.raises(StepError, match="nothing to tune"):
        one_operator.build(args | {"software": registry.choice(runtime).to_json()})
    one_operator.build(args | {"software": registry.choice(runtime.untuned()).to_json()})
    means = infer(runtime.load(tmp_path / "one", CPU))
    np.testing.assert_allclose(means, images().mean(axis=(2, 3)), atol=1e-5)


def test_tuned_code_belongs_to_a_thread_count_and_is_built_alone(tmp_path):
    plain = software("tvm")
    assert not plain.bakes_threads and not plain.build_measures
    assert tuned(tmp_path).bakes_threads and tuned(tmp_path).build_measures
    layers = {"dataset": ["digits"], "model": ["resnet-8"], "algorithm": ["direct"],
              "software": [{"tvm": {"tuning": ["none", "template"], "trials": 8}}],
              "hardware": [{"cpu": {"threads": [1, 2]}}]}  # fmt: skip
    study = Study.from_dict({"dlas": 1, "name": "keys", "layers": layers})
    cells = plan.make(study).runnable
    steps = plan.make(study).steps
    builds = {(c.stack.text("software"), c.techniques.hardware.threads): c.build for c in cells}
    if len(cells) == 4:  # a machine with one processor has no cells of two threads
        assert builds["tvm", 1] == builds["tvm", 2]
        named = "tvm(trials=8,tuning=template)"
        assert builds[named, 1] != builds[named, 2]
    for (text, _), key in builds.items():
        assert steps[key].alone == ("template" in text)


def test_without_tuning_the_number_of_trials_is_no_choice():
    assert registry.choice(software("tvm", trials=8)) == registry.choice(software("tvm"))
    moved = registry.identity(software("tvm", records="/elsewhere"))
    assert moved == registry.identity(software("tvm"))


# ---------------------------------------------------------------- rules, and each switched off


@pytest.mark.parametrize(
    ("net", "algorithm"),
    [("residual", "direct"), ("residual", "gemm"), ("depthwise", "spatial-pack")],
)
def test_int8_runs_by_each_algorithm(net, algorithm, tmp_path):
    session = built(tmp_path, net, precision="int8", algorithm=algorithm)
    found, expected = infer(session), reference(net)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error <= 0.1
    ran = session.observe(images()[:1])
    assert ran.precision == "int8" and ran.threads == 1
    assert list(ran.kernels.values()).count(algorithm) == {"residual": 6, "depthwise": 5}[net]


def test_int8_needs_an_algorithm_that_has_kernels_in_it():
    runtime = software("tvm")

    def refused(name, **params):
        algorithm = registry.make("algorithm", name, params)
        asked = stack(runtime, precision="int8", algorithm=algorithm, model=Stand(form="onnx"))
        return runtime.why_not(asked) or algorithm.why_not(asked)

    assert refused("spatial-pack") is None and refused("gemm") is None
    for name in ("gemm", "best"):
        assert refused(name, weights="csr", threshold=0.0) is None
    for name, params, said in (
        ("native", {}, "name an algorithm that chooses kernels"),
        ("winograd", {}, "winograd in int8 is not implemented: its transforms"),
        ("map", {"*": "winograd"}, "winograd in int8 is not implemented: its transforms"),
        ("spatial-pack", {"weights": "csr"}, "CSR weights in int8 are implemented for conv"),
    ):
        reason = refused(name, **params)
        assert reason.status == "unavailable" and said in reason.reason


@pytest.mark.parametrize(
    ("net", "algorithm", "precision"),
    [
        ("residual", "native", "bfloat16"),
        ("depthwise", "direct", "float16"),
        ("residual", "winograd", "float16"),
        ("vit", "spatial-pack", "bfloat16"),
        ("depthwise", "gemm", "bfloat16"),
    ],
)
def test_halves_run_by_each_algorithm_and_what_ran_is_read_back(
    net, algorithm, precision, tmp_path
):
    session = built(tmp_path, net, precision=precision, algorithm=algorithm)
    found, expected = infer(session), reference(net)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < error <= {"float16": 0.005, "bfloat16": 0.04}[precision]
    ran = session.observe(images()[:1])
    assert ran.precision in (precision, "float32") and ran.threads == 1
    if algorithm == "native":
        assert ran.precision == "float32"


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_without_instructions_for_halves_they_are_storage(precision, tmp_path, monkeypatch):
    described = tmp_path / "cpuinfo"
    described.write_text(cpuinfo(HIDDEN["avx512"]))
    monkeypatch.setenv("DLAS_CPUINFO", str(described))
    session = built(tmp_path, "residual", precision=precision, algorithm="spatial-pack")
    ran = session.observe(images()[:1])
    declared = software("tvm").executes
    assert ran.precision == declared[precision] == "float32"
    problem = asked_and_ran(
        precision=precision, declared=declared, threads=1, ran={"precision": "float32"}
    )
    assert problem is None


def test_weights_in_halves_are_half_as_large(tmp_path):
    sizes = {}
    for precision in ("float32", "bfloat16", "float16"):
        folder = tmp_path / precision
        built(folder, "residual", precision=precision, algorithm="direct")
        sizes[precision] = (folder / "weights.bin").stat().st_size
    # a CPU with dot products of bfloat16 has channels in pairs, and fills up odd ones
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["bfloat16"] < 0.6 * sizes["float32"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_what_is_not_there_in_halves_is_unavailable(precision):
    asked = {"precision": precision}
    gemm = registry.make("algorithm", "gemm", {"weights": "csr"})
    refused = gemm.why_not(stack(software("tvm"), algorithm=gemm, **asked))
    mapped = registry.make("algorithm", "map", {"operators": {"*": {"weights": "csr"}}})
    also = mapped.why_not(stack(software("tvm"), algorithm=mapped, **asked))
    runtime = software("tvm", tuning="metaschedule", trials=2)
    searched = runtime.why_not(stack(runtime, **asked))
    for reason, said in (
        (refused, f"CSR weights in {precision} are not implemented"),
        (also, f"CSR weights in {precision} are not implemented"),
        (searched, f"metaschedule in {precision} is not implemented"),
    ):
        assert reason.status == "unavailable" and said in reason.reason
    for algorithm in ("native", "direct", "gemm", "spatial-pack", "winograd", "best"):
        made, runtime = registry.make("algorithm", algorithm), software("tvm")
        plain = stack(runtime, algorithm=made, **asked)
        assert runtime.why_not(plain) is None and made.why_not(plain) is None


def test_an_onnx_model_is_unavailable_and_would_fail(tmp_path):
    runtime = software("tvm")
    refused = runtime.why_not(stack(runtime, model=Stand(form="onnx")))
    assert refused is not None and refused.status == "unavailable"

    file = FakeProgram("residual").onnx()

    class OnlyOnnx(FakeProgram):
        """What the step before a build makes of an ONNX file: nothing that could be exported."""

        def exported(self):
            to_exported(Network(SPEC, onnx=file), tmp_path / "network.pt2")

    with pytest.raises(StepError, match="a torch module is needed"):
        runtime.build(OnlyOnnx("residual"), CPU, tmp_path)


def test_another_device_is_unavailable_and_the_code_would_be_the_cpu_s(tmp_path):
    runtime = software("tvm")
    refused = runtime.why_not(stack(runtime, hardware=Stand(device="cuda")))
    assert refused is not None and "cuda" in refused.reason
    program, cuda = FakeProgram("vit", algorithm="direct"), registry.make("hardware", "cuda")
    assert "lanes" in runtime.build(program, cuda, tmp_path)["target"]


def test_what_cannot_be_imported_is_told_as_the_build_s_failure(tmp_path):
    class Sorts(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x.flatten(2))[:, 0]

    class Odd(FakeProgram):
        def exported(self):
            return torch.export.export(Sorts(), (torch.zeros(SPEC.shape),))

    with pytest.raises(StepError, match="tvm"):
        software("tvm").build(Odd("residual"), CPU, tmp_path)


def test_tuning_without_a_template_is_impossible_and_would_find_nothing(tmp_path):
    runtime = tuned(tmp_path)
    refused = runtime.why_not(stack(runtime))
    assert refused is not None and refused.status == "impossible" and "'native'" in refused.reason
    direct = registry.make("algorithm", "direct")
    assert runtime.why_not(stack(runtime, algorithm=direct)) is None
    with pytest.raises(StepError, match="nothing to tune"):
        runtime.build(FakeProgram("residual"), CPU, tmp_path)


def test_metaschedule_with_a_named_kernel_is_unavailable_and_would_fail(tmp_path):
    runtime = software("tvm", tuning="metaschedule", trials=2, records=str(tmp_path))
    direct = registry.make("algorithm", "direct")
    refused = runtime.why_not(stack(runtime, algorithm=direct))
    assert refused is not None and refused.status == "unavailable" and "'direct'" in refused.reason
    assert runtime.why_not(stack(runtime)) is None
    with pytest.raises(StepError, match="TVM's own definition"):
        runtime.build(FakeProgram("residual", algorithm="direct"), CPU, tmp_path / "artefact")


def test_plain_stacks_are_not_refused():
    runtime = software("tvm")
    for algorithm in ("native", "direct", "gemm", "spatial-pack", "winograd"):
        chosen = registry.make("algorithm", algorithm)
        assert runtime.why_not(stack(runtime, algorithm=chosen)) is None
