"""The CPU of this machine, with a number of threads and an instruction set."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.protocols import HardwareTechnique
from dlas.kernels.ground import cpu as host
from dlas.kernels.ground import tile_permission
from dlas.kernels.ground.target import FIXED, INSTRUCTION_SETS

NEEDS: Mapping[str, tuple[str, ...]] = {
    isa: FIXED[name].features for isa, name in INSTRUCTION_SETS.items()
}
"""Flags, as Linux names them, that each instruction set means (avx2, avx512: x86-64-v3, -v4)."""

_COMPUTE = (
    *("sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "abm", "popcnt", "movbe", "gfni", "vaes"),
    *("vpclmul", "asimd", "sve", "neon", "bf16", "i8mm", "fphp"),
)
"""Prefixes of the flags that compilers and kernels look at; the others belong to the kernel."""


@dataclass(frozen=True, kw_only=True)
class Cpu(HardwareTechnique):
    """The processor of this machine: ``threads`` of it, with an instruction set.

    ``isa: native`` leaves the choice to the runtime; the others hold it to that instruction set,
    where the runtime can be held: ``avx2``, ``avx512``, that with dot products of bytes
    (``vnni``), or with products of tiles of bytes and of bfloat16 as well (``amx``).
    """

    name: ClassVar[str] = "cpu"
    device: ClassVar[str] = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1
    isa: Literal["native", "avx2", "avx512", "vnni", "amx"] = "native"

    def describe(self) -> dict[str, Any]:
        """Return model, flags, cores, caches in bytes by level, and memory in bytes.

        What the system does not tell is None or empty.
        """
        import psutil

        flags = sorted(host.flags())
        return {
            "device": "cpu",
            "machine": platform.machine(),
            "model": host.model(),
            "flags": flags,
            "cores_physical": psutil.cpu_count(logical=False),
            "cores_logical": psutil.cpu_count(logical=True),
            "cores_allowed": allowed_cores(),
            "caches": cache_sizes(),
            "memory_bytes": int(psutil.virtual_memory().total),
        }

    def missing(self) -> str | None:
        """Return why this CPU cannot do what is asked: its instruction set, or its cores."""
        if self.isa != "native" and platform.machine() not in ("x86_64", "AMD64"):
            return f"isa {self.isa} is one of x86-64; this CPU is {platform.machine()}"
        absent = sorted(set(NEEDS.get(self.isa, ())) - host.flags())
        if absent:
            return f"this CPU ({host.model()}) lacks {', '.join(absent)}, which {self.isa} needs"
        if self.isa == "amx" and not tile_permission.given():
            return "this system gives no permission to use AMX, which isa amx needs"
        if self.threads > allowed_cores():
            return (
                f"{self.threads} threads were asked for and this process may use "
                f"{allowed_cores()} processors"
            )
        return None

    def target(self) -> Any:
        """Return what machine code depends on: the CPU's name and features, or the named isa.

        Code for a named instruction set runs on any CPU that has it, so the CPU's name is left
        out then; threads always are.
        """
        if self.isa != "native":
            return {"machine": platform.machine(), "isa": self.isa}
        features = sorted(f for f in host.flags() if f.startswith(_COMPUTE))
        return {"machine": platform.machine(), "cpu": host.model(), "features": list(features)}


@cache
def allowed_cores() -> int:
    """Return how many processors this process might use when it was first asked.

    Kept from then on, since a run pins its own process to one core later.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_sizes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Return ``{"L1d": bytes, "L1i": ..., "L2": ..., "L3": ...}`` of the first processor."""
    sizes: dict[str, int] = {}
    for index in sorted(root.glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
        except OSError:
            continue
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
        sizes[f"L{level}{suffix}"] = int(size.rstrip("KM")) * unit
    return sizes
