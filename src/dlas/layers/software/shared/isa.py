"""Instruction sets in dlas's words, from the names that runtimes give their kernels."""

from __future__ import annotations

from collections.abc import Iterable

ORDER = ("sse42", "avx2", "avx512", "vnni", "amx")
"""Instruction sets, the narrowest first."""
_SIGNS = (
    ("amx", ("amx",)),
    ("vnni", ("avx512_vnni", "avx512_core_vnni", "avx_vnni", "avx2_vnni")),
    ("avx512", ("avx512", "avx10")),
    ("avx2", ("avx2",)),
    ("sse42", ("sse4", "default")),
)


def family(name: str) -> str | None:
    """Return the instruction set, one of `ORDER`, of a kernel's name; None where it names none."""
    lower = name.lower()
    for known, signs in _SIGNS:
        if any(sign in lower for sign in signs):
            return known
    return None


def widest(names: Iterable[str]) -> str | None:
    """Return the widest instruction set that any of the names tells of, None for none."""
    found = {known for name in names if (known := family(name))}
    return max(found, key=ORDER.index) if found else None
