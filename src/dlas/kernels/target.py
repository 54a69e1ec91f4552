"""Targets: the instruction set that kernels are built for.

Vector width and register tiles follow the target. `native` is resolved to the CPU at hand when a
kernel is built, never left to the compiler: TVM turns `mcpu=native` into generic SSE code.
"""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dlas.kernels.errors import MissingFeatureError, UnsupportedError

_V3 = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
# What LLVM may use for `native` beyond the base: code is refused where one of these is missing.
_NATIVE_EXTRA = (
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx512ifma",
    "avx512vbmi",
    "avx512_vbmi2",
    "avx512_bitalg",
    "avx512_vpopcntdq",
    "gfni",
    "vaes",
    "vpclmulqdq",
)
_ARM_EXTRA = (
    "atomics",
    "fphp",
    "asimdhp",
    "asimdrdm",
    "asimddp",
    "asimdfhm",
    "fcma",
    "jscvt",
    "lrcpc",
    "sha3",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)


@dataclass(frozen=True)
class CpuTarget:
    """A CPU to build for."""

    name: str
    """What was asked: native, x86-64-v3, x86-64-v4 or aarch64."""
    cpu: str
    """LLVM's name of the CPU, `native` resolved."""
    machine: str
    """x86_64 or aarch64."""
    lanes: int
    """float32 values in one vector register."""
    registers: int
    """Architectural vector registers."""
    features: tuple[str, ...]
    """CPU flags, in Linux's spelling, that code for this target may need."""

    @property
    def accumulators(self) -> int:
        """Registers that a tile may hold; the others are for weights and broadcasts."""
        return 28 if self.registers >= 32 else 12

    def room(self, blocks: int) -> int:
        """Return the pixels whose sums fit beside `blocks` vectors of filters and an input."""
        return max(1, min(self.accumulators, self.registers - blocks - 1) // blocks)

    def tvm(self) -> Any:
        """The target in TVM's words."""
        from tvm.target import Target

        config: dict[str, Any] = {"kind": "llvm", "mcpu": self.cpu}
        if self.machine == "aarch64":
            config |= {"mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]}
        return Target(config)


def resolve(name: str) -> CpuTarget:
    """Return the target called `name`.

    Raises:
        UnsupportedError: an unknown name, or `native` on a machine that is neither x86-64 with
            AVX2 nor aarch64.
    """
    fixed = {
        "x86-64-v3": CpuTarget("x86-64-v3", "x86-64-v3", "x86_64", 8, 16, _V3),
        "x86-64-v4": CpuTarget("x86-64-v4", "x86-64-v4", "x86_64", 16, 32, _V4),
        "aarch64": CpuTarget("aarch64", "generic", "aarch64", 4, 32, ("asimd",)),
    }
    if name in fixed:
        return fixed[name]
    if name != "native":
        raise UnsupportedError(f"unknown target {name!r}; known: native, {', '.join(fixed)}")
    return _native()


@cache
def _native() -> CpuTarget:
    flags = host_features()
    extra = tuple(f for f in (*_NATIVE_EXTRA, *_ARM_EXTRA) if f in flags)
    if platform.machine() == "aarch64":
        return CpuTarget("native", _llvm_cpu(), "aarch64", 4, 32, ("asimd", *extra))
    if flags.issuperset(_V4):
        return CpuTarget("native", _llvm_cpu(), "x86_64", 16, 32, (*_V4, *extra))
    if flags.issuperset(_V3):
        return CpuTarget("native", _llvm_cpu(), "x86_64", 8, 16, (*_V3, *extra))
    raise UnsupportedError(
        f"target 'native' needs x86-64 with AVX2 and FMA, or aarch64; this is "
        f"{platform.machine()} without {sorted(set(_V3) - flags)}"
    )


def _llvm_cpu() -> str:
    from tvm.target.codegen import llvm_get_system_cpu

    return str(llvm_get_system_cpu())


@cache
def host_features() -> frozenset[str]:
    """CPU flags of this machine as Linux names them; empty where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def runs_here(target: CpuTarget) -> bool:
    """Whether this CPU can run code for the target."""
    try:
        require(target.machine, target.features)
    except MissingFeatureError:
        return False
    return True


def require(machine: str, features: tuple[str, ...]) -> None:
    """Refuse code that this CPU cannot run.

    Raises:
        MissingFeatureError: another architecture, or flags that this CPU lacks, by name.
    """
    if machine != platform.machine():
        raise MissingFeatureError(f"built for {machine}; this machine is {platform.machine()}")
    missing = sorted(set(features) - host_features())
    if missing:
        raise MissingFeatureError(
            f"this CPU lacks {', '.join(missing)}, which the code was built for; "
            "build it again here or for a smaller target such as x86-64-v3"
        )
