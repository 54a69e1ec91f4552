from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlas.run.measure import energy
from dlas.run.measure.energy import Counter, Reading


def zone(powercap: Path, name: str, label: str, joules: float, limit: float = 1000.0) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{int(limit * 1e6)}\n")
    return folder


@pytest.fixture
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.mark.usefixtures("no_nvml")
def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    zone(tmp_path, "intel-rapl:1", "package-1", 20)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)
    zone(tmp_path, "intel-rapl:2", "psys", 500)
    before = energy.read(powercap=tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 11)
    zone(tmp_path, "intel-rapl:1", "package-1", 22.5)
    spent = energy.read(powercap=tmp_path).since(before)
    assert spent.joules == pytest.approx(3.5)
    assert spent.source == "rapl:package-0+rapl:package-1"
    assert spent.reason == ""


@pytest.mark.usefixtures("no_nvml")
def test_a_counter_that_wrapped(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 998)
    before = energy.read(powercap=tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 3)
    assert energy.read(powercap=tmp_path).since(before).joules == pytest.approx(5)


@pytest.mark.usefixtures("no_nvml")
def test_no_counter_is_a_reason(tmp_path: Path) -> None:
    read = energy.read(0, tmp_path / "none")
    spent = read.since(read)
    assert spent.joules is None
    assert f"{tmp_path}/none does not exist" in spent.reason
    assert "nvidia-ml-py is not installed" in spent.reason
    assert "holds no intel-rapl package" in energy.read(powercap=tmp_path).reason


@pytest.mark.usefixtures("no_nvml")
def test_a_counter_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (folder / "energy_uj").unlink()
    (folder / "energy_uj").mkdir()  # unreadable for root too
    reason = energy.read(powercap=tmp_path).reason
    assert f"{folder}/energy_uj cannot be read" in reason
    assert "chmod" in reason


def test_nvidia_devices_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    millijoules = iter([5000, 7500])

    def consumption(handle: int) -> int:
        if handle == 1:
            raise NVMLError("Not Supported")
        return next(millijoules)

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=consumption,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    before = energy.read(0, tmp_path)
    spent = energy.read(0, tmp_path).since(before)
    assert (spent.joules, spent.source) == (pytest.approx(2.5), "nvml:0")
    assert "device 1: Not Supported" in energy.read(1, tmp_path).reason


def test_the_counter_of_a_gpu_that_idles_is_no_reading_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace())  # any call would raise
    read = energy.read(None, tmp_path)
    assert not read.counters
    assert "RAPL" in read.reason and "NVML" not in read.reason


def test_a_device_counter_that_went_backwards_is_no_reading() -> None:
    spent = Reading({"nvml:0": Counter(1.0)}).since(Reading({"nvml:0": Counter(2.0)}))
    assert spent.joules is None
    assert "went backwards" in spent.reason


def test_only_counters_of_both_readings_count() -> None:
    before = Reading({"a": Counter(1.0), "b": Counter(1.0)})
    assert Reading({"b": Counter(4.0)}).since(before) == energy.Spent(3.0, "b")
