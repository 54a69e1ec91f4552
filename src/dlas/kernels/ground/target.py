"""Targets: the instruction set that kernels are built for.

Vector width and register tiles follow the target. `native` is resolved when a kernel is built,
from the CPU's flags alone, and never left to the compiler: TVM turns `mcpu=native` into generic
SSE code, and LLVM's own guess goes by the CPU's model, so that on a virtual machine that hides
AVX-512 it would write AVX-512 code all the same.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dlas.kernels.ground import cpu as host
from dlas.kernels.ground import tile_permission
from dlas.kernels.ground.cpu import V3, V4
from dlas.kernels.ground.errors import MissingFeatureError, UnsupportedError, near

X86_EXTRA: Mapping[str, str] = {
    "avx_vnni": "avxvnni",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "avx512ifma": "avx512ifma",
    "avx512vbmi": "avx512vbmi",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "gfni": "gfni",
    "vaes": "vaes",
    "vpclmulqdq": "vpclmulqdq",
    "amx_tile": "amx-tile",
    "amx_bf16": "amx-bf16",
    "amx_int8": "amx-int8",
}
"""Flags beyond the base that `native` code may use where the CPU has them, with LLVM's names."""
ARM_EXTRA: Mapping[str, str] = {
    "atomics": "lse",
    "asimdhp": "fullfp16",
    "asimdrdm": "rdm",
    "asimddp": "dotprod",
    "asimdfhm": "fp16fml",
    "fcma": "complxnum",
    "jscvt": "jsconv",
    "lrcpc": "rcpc",
    "sha3": "sha3",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
}
"""The same on aarch64."""
_TILES = "amx_tile"
_WIDE_ONLY = ("avx512", "amx")
"""What begins so is used on the 512-bit base alone."""


@dataclass(frozen=True)
class CpuTarget:
    """A CPU to build for."""

    name: str
    """What was asked: native, or one of `FIXED`."""
    cpu: str
    """LLVM's name of the base that the code rests on; what it has beyond is in `attributes`."""
    machine: str
    """x86_64 or aarch64."""
    lanes: int
    """float32 values in one vector register."""
    registers: int
    """Architectural vector registers."""
    features: tuple[str, ...]
    """CPU flags, in Linux's spelling, that code for this target may need."""
    attributes: tuple[str, ...] = ()
    """Features beyond the base, in LLVM's spelling, that the compiler may use."""

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
        attributes = [f"+{name}" for name in self.attributes]
        if self.machine == "aarch64":
            config |= {"mtriple": "aarch64-linux-gnu"}
            attributes = ["+neon", *attributes]
        if self.cpu == "x86-64-v4":
            # Else LLVM fills memory by half vectors, as it would for CPUs that clock down.
            attributes.append("-prefer-256-bit")
        return Target(config | ({"mattr": attributes} if attributes else {}))


def resolve(name: str) -> CpuTarget:
    """Return the target called `name`.

    Raises:
        UnsupportedError: an unknown name, or `native` on a machine that is neither x86-64 with
            AVX2 nor aarch64.
    """
    if name in FIXED:
        return FIXED[name]
    if name != "native":
        raise UnsupportedError(
            f"unknown target {name!r}; known: native, {', '.join(FIXED)}{near(name, FIXED)}"
        )
    return _native(host.flags())


def _fixed(
    name: str, cpu: str, machine: str, size: tuple[int, int], base: tuple[str, ...], *more: str
) -> CpuTarget:
    """Return a target by name, of so many lanes and registers; `more`: flags beyond the base."""
    known = X86_EXTRA if machine == "x86_64" else ARM_EXTRA
    extra = {flag: known[flag] for flag in more}
    return replace(_target(cpu, machine, *size, base, extra), name=name)


def _native(flags: frozenset[str]) -> CpuTarget:
    """Return the target of a CPU with these flags: the code needs them, and no other."""
    if platform.machine() == "aarch64":
        return _target("generic", "aarch64", 4, 32, ("asimd",), _having(ARM_EXTRA, flags))
    extra = _having(X86_EXTRA, flags)
    if flags.issuperset(V4):
        return _target("x86-64-v4", "x86_64", 16, 32, V4, extra)
    if flags.issuperset(V3):
        narrow = {f: name for f, name in extra.items() if not f.startswith(_WIDE_ONLY)}
        return _target("x86-64-v3", "x86_64", 8, 16, V3, narrow)
    raise UnsupportedError(
        f"target 'native' needs x86-64 with AVX2 and FMA, or aarch64; this is "
        f"{platform.machine()} without {sorted(set(V3) - flags)}"
    )


def _having(known: Mapping[str, str], flags: frozenset[str]) -> dict[str, str]:
    found = {flag: name for flag, name in known.items() if flag in flags}
    if _TILES in found and not tile_permission.given():
        return {flag: name for flag, name in found.items() if not flag.startswith("amx")}
    return found


def _target(
    cpu: str,
    machine: str,
    lanes: int,
    registers: int,
    base: tuple[str, ...],
    extra: Mapping[str, str],
) -> CpuTarget:
    features, names = (*base, *extra), tuple(extra.values())
    return CpuTarget("native", cpu, machine, lanes, registers, features, names)


_NEON = ("generic", "aarch64", (4, 32), ("asimd",))
_AMX = ("avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
FIXED: Mapping[str, CpuTarget] = {
    target.name: target
    for target in (
        _fixed("x86-64-v3", "x86-64-v3", "x86_64", (8, 16), V3),
        _fixed("x86-64-v3-vnni", "x86-64-v3", "x86_64", (8, 16), V3, "avx_vnni"),
        _fixed("x86-64-v4", "x86-64-v4", "x86_64", (16, 32), V4),
        _fixed("x86-64-v4-vnni", "x86-64-v4", "x86_64", (16, 32), V4, "avx512_vnni"),
        _fixed("x86-64-v4-bf16", "x86-64-v4", "x86_64", (16, 32), V4, "avx512_bf16"),
        _fixed("x86-64-v4-fp16", "x86-64-v4", "x86_64", (16, 32), V4, "avx512_fp16"),
        _fixed("x86-64-v4-amx", "x86-64-v4", "x86_64", (16, 32), V4, *_AMX),
        _fixed("aarch64", *_NEON),
        _fixed("aarch64-dotprod", *_NEON, "asimddp"),
        _fixed("aarch64-i8mm", *_NEON, "i8mm"),
        _fixed("aarch64-bf16", *_NEON, "bf16"),
        _fixed("aarch64-fp16", *_NEON, "asimdhp"),
    )
}
"""Targets by name: the levels of an architecture, and with what multiplies narrow types."""
INSTRUCTION_SETS: Mapping[str, str] = {
    "avx2": "x86-64-v3",
    "avx512": "x86-64-v4",
    "vnni": "x86-64-v4-vnni",
    "amx": "x86-64-v4-amx",
}
"""Levels of x86-64 as studies name them, the lowest first, each with its target."""


def of_level(isa: str) -> CpuTarget:
    """Return the target of an instruction set as studies name it; `native`: this CPU's."""
    return resolve(INSTRUCTION_SETS.get(isa, isa))


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
    missing = sorted(set(features) - host.flags())
    if missing:
        raise MissingFeatureError(
            f"this CPU lacks {', '.join(missing)}, which the code was built for; "
            "build it again here or for a smaller target such as x86-64-v3"
        )
