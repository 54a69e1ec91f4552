"""Convolutions by their definition: one loop nest over outputs and filter taps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlas.protocols import Algorithm


@dataclass(frozen=True, kw_only=True)
class Direct(Algorithm):
    """``direct``: the loop nest over outputs and taps; no matrix of patches, no transform."""

    name: ClassVar[str] = "direct"
    chooses: ClassVar[bool] = True
    """It names a kernel, so it needs software whose kernels can be chosen."""

    def kernel(self, operator: Any, target: str) -> str | None:
        """Return the primitive's name for a convolution that it computes, None for others."""
        return "direct"
