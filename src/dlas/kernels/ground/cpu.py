"""This machine's processor as Linux describes it: its name and features, read in this one place.

The variable `DLAS_CPUINFO` names a file that is read in place of `/proc/cpuinfo`. Tests take
features away with it (in child processes, too); an emulated board, whose `/proc/cpuinfo` is that
of its host, is given its own. It changes what dlas believes, not what a processor can do.
"""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dlas.kernels.ground.errors import KernelError

CPUINFO = "DLAS_CPUINFO"
"""The environment's name for the file that describes the processor."""
_PROC = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")

V3 = ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "popcnt")
"""What x86-64-v3 adds to the base of every x86-64 CPU, as far as code generators use it."""
V4 = (*V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
"""The same of x86-64-v4."""


def described_by() -> str | None:
    """Return the file that stands in for the machine's own description, None without one."""
    return os.environ.get(CPUINFO) or None


def flags() -> frozenset[str]:
    """Return the CPU's features in Linux's spelling; empty where they cannot be read.

    Raises:
        KernelError: the file named by `DLAS_CPUINFO` cannot be read.
    """
    info = _info()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def model() -> str:
    """Return the CPU's name as the system gives it.

    aarch64 gives none: there it is the board's, else the implementer's and the part's numbers.

    Raises:
        KernelError: the file named by `DLAS_CPUINFO` cannot be read.
    """
    info = _info()
    if "model name" in info:
        return info["model name"]
    part = " ".join(
        f"{word} {info[key]}"
        for word, key in (("implementer", "CPU implementer"), ("part", "CPU part"))
        if key in info
    )
    found = ", ".join(text for text in (_board(), part) if text)
    return found or platform.processor() or platform.machine()


def _info() -> Mapping[str, str]:
    return _first_entry(described_by())


@cache
def _first_entry(given: str | None) -> Mapping[str, str]:
    """Return the first processor's entry: one is enough, they are alike for what is asked here."""
    try:
        text = Path(given or _PROC).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if given is None:
            return {}
        raise KernelError(
            f"{CPUINFO}={given} cannot be read ({error.strerror}): name a file like {_PROC}, "
            "or unset the variable"
        ) from error
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _board() -> str:
    if described_by() is not None:
        return ""  # the board is another one
    try:
        return _BOARD.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""
