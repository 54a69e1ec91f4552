"""Energy from counters: RAPL of the processor packages, NVML of NVIDIA devices.

A counter counts all that its package or device does, not this process alone: the source says
which it is. Where no counter can be read there is no energy, and a reason; never an estimate.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter at one moment."""

    joules: float
    wraps_at: float | None = None
    """Joules at which it starts again from zero; None: never."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Energy between two readings, or why there is none."""

    joules: float | None
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment, by name; ``reason`` where there is none."""

    counters: Mapping[str, Counter] = field(default_factory=dict)
    reason: str = ""

    def since(self, before: Reading) -> Spent:
        """Return the energy spent since an earlier reading, over the counters of both.

        A counter that went backwards wrapped once, as its range says.
        """
        names = sorted(self.counters.keys() & before.counters.keys())
        if not names:
            return Spent(None, reason=self.reason or before.reason)
        total = 0.0
        for name in names:
            now, then = self.counters[name], before.counters[name]
            spent = now.joules - then.joules
            if spent < 0:
                if now.wraps_at is None:
                    return Spent(None, reason=f"the counter {name} went backwards")
                spent += now.wraps_at
            total += spent
        return Spent(total, source="+".join(names))


def unread(reason: str) -> Reading:
    """Return a reading without counters."""
    return Reading({}, reason)


def read(gpu: int | None = None, powercap: Path = POWERCAP) -> Reading:
    """Read the counters of what computes: RAPL of the packages, with ``gpu`` NVML of that device.

    A GPU that has no part in it only idles, so its counter is no reading of a CPU's work.
    """
    rapl, why_no_rapl = _rapl(powercap)
    if gpu is None:
        return Reading(rapl, "" if rapl else why_no_rapl)
    nvml, why_no_nvml = _nvml(gpu)
    counters = {**rapl, **nvml}
    return Reading(counters, "" if counters else f"{why_no_rapl}; {why_no_nvml}")


def _rapl(powercap: Path) -> tuple[dict[str, Counter], str]:
    if not powercap.is_dir():
        return {}, f"no RAPL: {powercap} does not exist (a virtual machine, or no such processor)"
    found: dict[str, Counter] = {}
    reason = f"no RAPL: {powercap} holds no intel-rapl package"
    # Zones like intel-rapl:0 are packages; intel-rapl:0:0 is a part of one and would count twice.
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue
        try:
            name = (zone / "name").read_text().strip()
            joules = int((zone / "energy_uj").read_text()) / 1e6
            limit = int((zone / "max_energy_range_uj").read_text()) / 1e6
        except OSError as error:
            reason = (
                f"no RAPL: {error.filename} cannot be read ({error.strerror}); "
                f"root may allow it: chmod a+r {zone}/energy_uj"
            )
            continue
        if name.startswith("package"):  # psys would count the packages again
            found[f"rapl:{name}"] = Counter(joules, limit)
    return found, reason


def _nvml(gpu: int) -> tuple[dict[str, Counter], str]:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return {}, "no NVML: nvidia-ml-py is not installed (pip install 'dlas[energy]')"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return {}, f"no NVML: {error}"
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
        joules = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except nvml.NVMLError as error:
        return {}, f"no NVML: device {gpu}: {error}"
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    return {f"nvml:{gpu}": Counter(joules)}, ""
