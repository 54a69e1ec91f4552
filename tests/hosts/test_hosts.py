"""What must hold on every CPU, run on this one and with features taken away (`masks.py`)."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.protocols import DataSpec, Network, Ran
from dlas.core.records import Status
from dlas.kernels import MissingFeatureError
from dlas.kernels.ground import cpu
from dlas.kernels.ground.target import require, resolve
from dlas.layers.software.shared import isa
from dlas.run.executed import Answers, Probe, ran_of
from dlas.testing.stand_ins import asking, stack_of
from masks import HIDDEN, MASK, cpuinfo, flags

pytestmark = pytest.mark.host
UNDER = os.environ.get(MASK, "")
WIDEST = {"avx2": "avx2", "avx512": "avx512"}.get(UNDER, isa.ORDER[-1])
TRAPPED = "cpuid_fault" in flags()
on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason=f"flags of x86-64; this machine is {platform.machine()}"
)


def become(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv(cpu.CPUINFO, str(path))


# ---------------------------------------------------------------- the code we generate


@on_x86
@pytest.mark.parametrize("mask", list(HIDDEN))
def test_code_for_this_cpu_holds_no_instruction_that_its_flags_hide(
    mask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tvm")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed (Debian: binutils)")
    if not set(cpu.V4) <= cpu.flags() and mask == "avx512":
        pytest.skip("this CPU has no AVX-512")
    become(monkeypatch, tmp_path / "cpuinfo", cpuinfo(HIDDEN[mask]))
    from dlas.kernels import Conv2d, build_conv2d, conv
    from kernel_checks import check_half, check_int8

    codes = []
    real = conv.compile_functions
    monkeypatch.setattr(
        conv, "compile_functions", lambda *given: codes.append(real(*given)) or codes[-1]
    )
    op = Conv2d(1, 32, 14, 14, 64, (3, 3), padding=(1, 1, 1, 1))
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(op.weight_shape, np.float32)
    x = rng.standard_normal(op.in_shape, np.float32)
    for primitive in ("spatial-pack", "winograd", "gemm", "direct"):
        built = build_conv2d(op, weight, primitive=primitive)
        assert not set(built.describe()["instruction_set"]) & set(HIDDEN[mask])
        assert np.isfinite(built(x)).all()
    before = len(codes)
    check_int8(op, "spatial-pack", 0, 1)
    check_half(op, "spatial-pack", "bfloat16", 0, 1)
    check_half(op, "spatial-pack", "float16", 0, 1)
    assert len(codes) > before
    library = tmp_path / "kernels.so"
    seen = ""
    for code in codes:
        library.write_bytes(code)
        seen += subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", str(library)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    assert "ymm" in seen or "zmm" in seen  # vectors there are
    if mask == "avx2":
        wide = [line for line in seen.splitlines() if "zmm" in line or "%k" in line]
        assert not wide, f"{len(wide)} AVX-512 instructions, {wide[0]}"
    signs = ("vpdp", "bf16", "tdp", "vfmadd231ph", "vmulph")
    assert not [line for line in seen.splitlines() if any(sign in line for sign in signs)]


def test_code_that_needs_what_is_hidden_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = resolve("native")
    if "avx512f" not in target.features:
        pytest.skip("this CPU has no AVX-512 to be taken away")
    become(monkeypatch, tmp_path / "cpuinfo", cpuinfo(HIDDEN["avx2"]))
    with pytest.raises(MissingFeatureError, match="avx512f"):
        require(target.machine, target.features)


# ---------------------------------------------------------------- rules, features faked


@on_x86
@pytest.mark.parametrize(
    ("hide", "add", "precision", "expected"),
    [
        # AVX2 alone: narrow types run in float32.
        (HIDDEN["avx2"], (), "bfloat16", "float32"),
        (HIDDEN["avx2"], (), "float16", "float32"),
        # AVX-512 without bfloat16 instructions (Cascade Lake): executed all the same.
        (HIDDEN["avx512"], ("avx512bw",), "bfloat16", "bfloat16"),
        (HIDDEN["avx512"], ("avx512bw",), "float16", "bfloat16"),
        # Faked, for the rule alone: how they execute is not measured here.
        (HIDDEN["avx2"], ("avx512bw", "avx512_bf16"), "float16", "bfloat16"),
        (HIDDEN["avx2"], ("avx512bw", "avx512_fp16"), "float16", "float16"),
        (HIDDEN["avx2"], ("avx512bw", "amx_fp16", "amx_tile"), "float16", "float16"),
        (HIDDEN["avx2"], ("avx_ne_convert",), "bfloat16", "bfloat16"),
    ],
)
def test_what_nobody_has_looked_at_is_expected_of_the_flags(
    hide: tuple[str, ...],
    add: tuple[str, ...],
    precision: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become(monkeypatch, tmp_path / "cpuinfo", cpuinfo(hide, add))
    runtime = registry.make("software", "openvino")
    stack = stack_of(runtime, asking(precision))  # type: ignore[arg-type]
    refused = registry.other_type(stack)
    if expected == precision:
        assert refused is None
    else:
        assert refused is not None and refused.status == "unavailable"
        assert expected in refused.reason and "expected" in refused.reason


def test_the_host_class_follows_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlas.run.measure import host

    before, code = host.this_class(), registry.make("hardware", "cpu").target()  # type: ignore[attr-defined]
    become(monkeypatch, tmp_path / "cpuinfo", cpuinfo(HIDDEN["avx2"], ("avx512_unheard_of",)))
    assert host.this_class() != before
    assert registry.make("hardware", "cpu").target() != code  # type: ignore[attr-defined]
    description = host.describe()
    assert description["described_by"] == str(tmp_path / "cpuinfo")
    assert any(cpu.CPUINFO in concern for concern in host.concerns(description))


# ---------------------------------------------------------------- every runtime, every type


@pytest.mark.slow  # natively `make test` runs each runtime's own tests and contract
@pytest.mark.timeout(300)
def test_every_runtime_runs_every_type_or_a_rule_refuses_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    answers = Answers(tmp_path / "probes")
    notes: list[str] = []
    probes, _ = answers.survey()
    survey = [probe for probe in probes if not _half_masked(probe)]
    seen = list(answers.run(survey, notes.append))
    assert len(seen) == len(survey) > 0 and not notes
    for probe, record in seen:
        techniques = probe.cell.techniques
        assert techniques is not None
        name, asked = techniques.software.name, techniques.precision
        assert record.status is Status.COMPLETE, f"{name} {asked}: {record.reason}\n{record.log}"
        ran = ran_of(record.info)
        print(f"{name} {asked}: ran {ran.precision} by {ran.isa or 'not told'}")
        known = answers.seen(probe.cell.stack, techniques)
        refused = registry.refusal(replace(techniques, probed=known))
        if refused is None:
            declared = techniques.software.executes.get(asked)
            assert ran.precision in (None, asked, declared), f"{name} {asked}: {ran.precision}"
        else:
            assert ran.precision in refused.reason and "seen" in refused.reason
        assert _widest(name, ran) in isa.ORDER[: isa.ORDER.index(WIDEST) + 1], f"{name}: {ran}"


def _half_masked(probe: Probe) -> bool:
    """Whether OpenVINO would choose a type by what the CPU has, and oneDNN refuse the kernels.

    It reads CPUID itself: narrow types under AVX2 are not measured where that cannot be trapped.
    """
    techniques = probe.cell.techniques
    assert techniques is not None
    decided = techniques.precision in techniques.software.cpu_decides
    return UNDER == "avx2" and not TRAPPED and decided


def _widest(name: str, ran: Ran) -> str:
    """Return the widest instruction set that a runtime's masked part used.

    Of OpenVINO without a trap for CPUID only oneDNN's kernels are masked, its own are not; of
    ncnn, which asks CPUID alone, nothing is.
    """
    if not TRAPPED and name == "ncnn":
        return isa.ORDER[0]
    if not TRAPPED and name == "openvino":
        masked = ("Convolution", "FullyConnected", "MatMul")
        return isa.widest(text for kind, text in ran.kernels.items() if kind in masked) or "avx2"
    return ran.isa or "sse42"


@on_x86
@pytest.mark.skipif(
    not UNDER or not TRAPPED, reason="ONNX Runtime sees this CPU's own features (no CPUID trap)"
)
@pytest.mark.parametrize(("bits", "right"), [(8, False), (7, True)])
def test_weights_of_seven_bits_do_not_saturate_without_vnni(
    bits: int, right: bool, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    ort = pytest.importorskip("onnxruntime")
    layer = torch.nn.Conv2d(16, 16, 1)
    torch.nn.init.ones_(layer.weight)
    images = np.ones((8, 16, 4, 4), np.float32)
    data = SimpleNamespace(labels=np.zeros(8, int), images=lambda at: images[list(at)])
    spec = DataSpec(classes=16, channels=16, height=4, width=4)
    network = Network(spec, torch.nn.Sequential(layer, torch.nn.ReLU()).eval())
    technique = registry.make("optimization", "int8", {"images": 8, "weight_bits": bits})
    done = technique.apply(network, data, tmp_path)
    session = ort.InferenceSession(done.network.onnx, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images[:1]})
    with torch.no_grad():
        expected = network.module(torch.from_numpy(images[:1])).numpy()
    assert np.allclose(found, expected, rtol=0.05) is right
