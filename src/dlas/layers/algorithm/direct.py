"""Convolutions by their definition: one loop nest over outputs and filter taps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlas.layers.algorithm.shared.sparsity import CsrCapable


@dataclass(frozen=True, kw_only=True)
class Direct(CsrCapable):
    """``direct``: the loop nest over outputs and taps; no matrix of patches, no transform."""

    name: ClassVar[str] = "direct"
