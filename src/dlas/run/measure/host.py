"""The machine: what it is, what makes its timings untrustworthy, where children are placed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NotRequired, TypedDict

from dlas import __version__
from dlas.core.errors import UserError
from dlas.core.keys import key
from dlas.core.protocols import LABEL
from dlas.kernels.ground import cpu

RUNTIMES = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "ncnn",
    "pnnx",
    "nncf",
    "ai-edge-litert",
    "executorch",
    "apache-tvm",
    "apache-tvm-ffi",
    "timm",
    "torch-pruning",
)
AVAILABLE = tuple(sorted(os.sched_getaffinity(0)))
"""Processors this process could use when it started: later it may pin itself to some."""
MACHINE = "DLAS_MACHINE"
"""The environment's name for what this machine is called, where others are of the same kind."""
_CPU = Path("/sys/devices/system/cpu")
_MACHINE_ID = Path("/etc/machine-id")


# ---------------------------------------------------------------- this process


def cpus_allowed(status: Path = Path("/proc/self/status")) -> tuple[int, ...]:
    """Return the processors this process may run on, read back from the kernel."""
    for line in status.read_text().splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return parse_cpus(line.partition(":")[2])
    return ()


def parse_cpus(text: str) -> tuple[int, ...]:
    """Return the processors of a kernel list like ``0-2,5``."""
    found: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def threads_alive() -> int:
    """Return the number of operating-system threads of this process."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 (names are all that is wanted)


def resident_kb(field: str = "VmRSS", status: Path = Path("/proc/self/status")) -> int:
    """Return a memory field of this process in KiB: ``VmRSS`` now, ``VmHWM`` at its peak."""
    for line in status.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"{status} has no {field}")


# ---------------------------------------------------------------- placement


def placement(
    threads: int, available: Iterable[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the processors for a measured child with ``threads`` threads, and for its parent.

    The child gets the last ones, the parent what is left; where the child needs all of them,
    the parent, which sleeps meanwhile, is given the first.
    """
    cpus = sorted(AVAILABLE if available is None else available)
    child = tuple(cpus[-threads:])
    parent = tuple(cpus[: -len(child)]) or (cpus[0],)
    return child, parent


# ---------------------------------------------------------------- stolen time


@dataclass(frozen=True, slots=True)
class Ticks:
    """Time of some processors since boot, in ticks (1/100 s): in all, and stolen."""

    total: int
    stolen: int

    def steal_share_since(self, before: Ticks) -> float | None:
        """Return the share of stolen time since an earlier reading; None: not a tick passed."""
        passed = self.total - before.total
        return (self.stolen - before.stolen) / passed if passed > 0 else None

    def stolen_above(self, limit: float, before: Ticks) -> bool:
        """Return whether more than a share was stolen since an earlier reading.

        The kernel counts in whole ticks, so one tick within a short region cannot be told from
        the rounding of a much smaller share: it takes two.
        """
        share = self.steal_share_since(before)
        return share is not None and share > limit and self.stolen - before.stolen > 1


def cpu_ticks(cpus: Sequence[int], stat: Path = Path("/proc/stat")) -> Ticks:
    """Read the ticks of processors: time that the hypervisor gave to others is stolen."""
    wanted = {f"cpu{cpu}" for cpu in cpus}
    total = stolen = 0
    for line in stat.read_text().splitlines():
        name, *numbers = line.split()
        if name in wanted:
            # user nice system idle iowait irq softirq steal; guest time is part of user
            ticks = [int(number) for number in numbers[:8]]
            total += sum(ticks)
            stolen += ticks[7]
    return Ticks(total, stolen)


# ---------------------------------------------------------------- description


class Processor(TypedDict):
    """What the machine is, whatever it is doing: what its class is made of."""

    cpu: str
    machine: str
    flags: list[str]
    described_by: str | None
    cores: int | None
    memory_gib: float
    called: NotRequired[str]
    """What the environment calls it: a host of its own, then."""


class HostFacts(Processor):
    """What the machine is and how it stands; None: could not be read."""

    name: str
    os: str
    distribution: str | None
    virtualization: str | None
    cores_allowed: int
    caches: dict[str, str]
    smt: bool
    governor: str | None
    turbo: bool | None
    clocks_mhz: list[int]
    temperatures_c: dict[str, float]
    load: list[float]
    python: str
    libraries: dict[str, str | None]
    dlas: str
    commit: str | None


def describe() -> HostFacts:
    """Return what the machine is and how it stands now, as JSON; None: could not be read."""
    return {
        "name": platform.node(),
        "os": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "virtualization": _virtualization(),
        **_processor(),
        "cores_allowed": len(AVAILABLE),
        "caches": _caches(),
        "smt": _read(_CPU / "smt/active") == "1",
        "governor": _read(_CPU / "cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "clocks_mhz": _clocks(),
        "temperatures_c": _temperatures(),
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in RUNTIMES},
        "dlas": __version__,
        "commit": _commit(),
    }


def host_class(description: Processor) -> str:
    """Return the hash of what can change a result: processor, features, cores, memory (12 digits).

    Memory counts in steps of a GiB: what a kernel keeps for itself differs from boot to boot. Of
    machines of one kind a name (:data:`MACHINE`) makes several hosts.
    """
    return key(
        "host",
        description["cpu"],
        sorted(description["flags"]),
        description["cores"],
        round(description["memory_gib"]),
        *([description["called"]] if description.get("called") else []),
    )[:12]


def this_class() -> str:
    """Return the class of this host, without looking at anything else of it."""
    return host_class(_processor())


def machine_id(file: Path = _MACHINE_ID) -> str:
    """Return what tells this machine from others of its kind, as a hash; empty: nothing does."""
    said = _read(file)
    return key("machine", said)[:12] if said and said != "uninitialized" else ""


def _called() -> str:
    """Return what the environment calls this machine.

    Raises:
        UserError: it is no name.
    """
    said = os.environ.get(MACHINE, "")
    if said and not re.fullmatch(LABEL, said):
        raise UserError(
            f"{MACHINE}={said!r}: must be one word of letters, digits, '.', '_' and '-'"
        )
    return said


def concerns(description: HostFacts) -> list[str]:
    """Return what makes timings of this machine untrustworthy, each with what to do about it."""
    said: list[str] = []
    if description.get("described_by"):
        said.append(
            f"the processor is described by {description['described_by']} and not by the machine: "
            f"unset {cpu.CPUINFO} unless that is meant"
        )
    cores = description["cores_allowed"] or 1
    load = description["load"][0]
    if load > 0.5:
        said.append(
            f"other work is running (load {load:.1f} on {cores} cores): stop it before measuring"
        )
    if description["governor"] not in (None, "performance"):
        said.append(
            f"the clock follows the load (governor {description['governor']}): "
            "sudo cpupower frequency-set -g performance"
        )
    if description["turbo"]:
        said.append(
            "turbo is on, so the clock depends on temperature and on other cores: "
            "switch it off in the firmware, or via /sys/devices/system/cpu/cpufreq/boost"
        )
    if description["smt"]:
        said.append(
            "two hardware threads share a core, so two threads need not be two cores: "
            "echo off | sudo tee /sys/devices/system/cpu/smt/control"
        )
    if description["virtualization"]:
        said.append(
            f"this is a virtual machine ({description['virtualization']}): neighbours can steal "
            "time; trust ratios within a run, use a dedicated machine for absolute times"
        )
    if cores < 2:
        said.append(
            "there is one core: what measures shares it with what is measured; use two or more"
        )
    hot = {name: value for name, value in description["temperatures_c"].items() if value >= 85}
    if hot:
        said.append(f"it is hot ({hot}), so the clock may be held down: let it cool")
    return said


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _processor() -> Processor:
    named: Processor = {
        "cpu": cpu.model(),
        "machine": platform.machine(),
        "flags": sorted(cpu.flags()),
        "described_by": cpu.described_by(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_kb() / 2**20, 1),
    }
    if called := _called():
        named["called"] = called
    return named


def _memory_kb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024


def _caches() -> dict[str, str]:
    found = {}
    for folder in sorted((_CPU / "cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if level and kind and size:
            found[f"L{level} {kind.lower()}"] = size
    return found


def _turbo() -> bool | None:
    boost = _read(_CPU / "cpufreq/boost")
    if boost is not None:
        return boost == "1"
    off = _read(_CPU / "intel_pstate/no_turbo")
    return None if off is None else off == "0"


def _clocks() -> list[int]:
    now = sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return [int(text) // 1000 for path in now if (text := _read(path))]


def _temperatures() -> dict[str, float]:
    found = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        text = _read(zone / "temp")
        if text:
            found[f"{_read(zone / 'type')} {zone.name[12:]}"] = int(text) / 1000
    return found


def _virtualization() -> str | None:
    product = _read(Path("/sys/class/dmi/id/product_name"))
    return (product or "unknown hypervisor") if "hypervisor" in cpu.flags() else None


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of dlas where it runs from a checkout, ``-dirty`` where files changed."""
    root = Path(__file__).resolve().parents[4]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
