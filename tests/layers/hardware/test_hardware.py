import subprocess
import sys
from pathlib import Path

import pytest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.layers.hardware import cpu as cpu_module
from dlas.layers.hardware.cpu import NEEDS, Cpu, cache_sizes
from dlas.layers.hardware.cuda import Cuda
from dlas.study.study import Study

pytestmark = pytest.mark.host


def test_describe_names_the_machine():
    said = Cpu().describe()
    assert said["model"] and said["cores_logical"] >= said["cores_allowed"] >= 1
    assert said["memory_bytes"] > 1 << 28
    assert all(size >= 1024 for size in said["caches"].values())


def test_caches_are_read_in_bytes(tmp_path: Path):
    for i, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("3", "Unified", "260M")]
    ):
        index = tmp_path / f"index{i}"
        index.mkdir()
        (index / "level").write_text(level + "\n")
        (index / "type").write_text(kind + "\n")
        (index / "size").write_text(size + "\n")
    assert cache_sizes(tmp_path) == {"L1d": 49152, "L1i": 32768, "L3": 272629760}


def test_an_instruction_set_that_is_absent_is_missing_with_its_flags(monkeypatch):
    monkeypatch.setattr(cpu_module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu_module.host, "flags", lambda: frozenset(NEEDS["avx2"]))
    assert Cpu(isa="avx2").missing() is None
    reason = Cpu(isa="avx512").missing()
    assert reason is not None and "avx512bw" in reason and "avx2," not in reason


@pytest.mark.parametrize("isa", ["vnni", "amx"])
def test_a_level_of_narrow_types_is_missing_with_its_flags(monkeypatch, isa):
    monkeypatch.setattr(cpu_module.platform, "machine", lambda: "x86_64")
    own = [f for f in NEEDS[isa] if f not in NEEDS["avx512"]]
    for flag in own:
        has = frozenset(NEEDS[isa]) - {flag}
        monkeypatch.setattr(cpu_module.host, "flags", lambda has=has: has)
        reason = Cpu(isa=isa).missing()
        assert reason is not None and f"lacks {flag}, which {isa} needs" in reason
    assert own and Cpu(isa=isa).target()["isa"] == isa


@pytest.mark.parametrize("given", [True, False])
def test_tiles_are_missing_where_the_system_does_not_allow_them(monkeypatch, given):
    monkeypatch.setattr(cpu_module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu_module.host, "flags", lambda: frozenset(NEEDS["amx"]))
    monkeypatch.setattr(cpu_module.tile_permission, "given", lambda: given)
    assert Cpu(isa="vnni").missing() is None
    assert ("permission" in (Cpu(isa="amx").missing() or "")) == (not given)


def test_an_instruction_set_of_x86_is_missing_elsewhere(monkeypatch):
    monkeypatch.setattr(cpu_module.platform, "machine", lambda: "aarch64")
    assert "aarch64" in (Cpu(isa="avx2").missing() or "")
    assert Cpu(isa="native").missing() is None


def test_more_threads_than_processors_are_missing():
    cores = cpu_module.allowed_cores()
    assert Cpu(threads=cores).missing() is None
    assert str(cores + 1) in (Cpu(threads=cores + 1).missing() or "")


def test_the_target_leaves_threads_out_and_resolves_native():
    assert Cpu(threads=1).target() == Cpu(threads=2).target()
    native = Cpu().target()
    assert "native" not in str(native) and native["features"]
    assert Cpu(isa="avx2").target() != native


def test_parameters_are_checked():
    with pytest.raises(UserError, match="threads"):
        registry.make("hardware", "cpu", {"threads": 0})
    with pytest.raises(UserError, match="isa"):
        registry.make("hardware", "cpu", {"isa": "avx3"})


@pytest.mark.skipif(
    any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has an NVIDIA device"
)
def test_cuda_is_missing_with_a_reason_and_without_torch():
    assert "NVIDIA" in (Cuda().missing() or "")
    with pytest.raises(RuntimeError, match="NVIDIA"):
        Cuda().describe()
    assert Cuda().target() is None
    code = (
        "import sys; from dlas.layers.hardware.cuda import Cuda; Cuda().missing();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_label_names_a_machine_and_is_in_no_key_and_in_no_cell_that_does_not_say_it():
    plain, named = Cpu(threads=2), registry.make("hardware", "cpu", {"threads": 2, "on": "big"})
    assert registry.choice(plain).params == {"threads": 2, "isa": "native"}
    assert registry.choice(named).text == "cpu(on=big,threads=2)"
    assert registry.identity(plain) == registry.identity(named)
    assert registry.hardware(registry.choice(named).to_json()) == named


@pytest.mark.parametrize("label", ["", "a b", "$(id)", "a;b", "../up", "-x", "a\nb", "x" * 64, 3])
def test_a_label_is_one_word(label):
    with pytest.raises(UserError, match=r"cpu\.on"):
        registry.make("hardware", "cpu", {"on": label})


def test_hardware_of_another_machine_is_unavailable_here(monkeypatch):
    big = Cpu(on="big")
    monkeypatch.delenv(registry.LABELS, raising=False)
    refusal = registry.elsewhere(big)
    assert refusal is not None and refusal.status == "unavailable"
    assert "dlas workers --labels big" in refusal.reason
    monkeypatch.setenv(registry.LABELS, "small, bigger")
    said = registry.elsewhere(big)
    assert said is not None and "bigger, small" in said.reason
    monkeypatch.setenv(registry.LABELS, "small, big")
    assert registry.elsewhere(big) is None
    assert registry.elsewhere(Cpu()) is None


def test_a_study_file_names_labels_without_quotes(tmp_path: Path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "dlas: 1\nname: n\nlayers:\n  dataset: [digits]\n  model: [resnet-8]\n"
        "  software: [pytorch]\n  hardware: [cpu, {cpu: {on: [big, board]}}]\n"
    )
    study = Study.load(path)
    assert [stack.label for stack in study.stacks] == ["", "big", "board"]
    assert [stack.text("hardware") for stack in study.stacks][1] == "cpu(on=big)"
