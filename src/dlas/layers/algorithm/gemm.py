"""Convolutions as matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlas.protocols import Algorithm


@dataclass(frozen=True, kw_only=True)
class Gemm(Algorithm):
    """``gemm``: patches are copied into a matrix (im2col), which the filters are multiplied by.

    K. Chellapilla, S. Puri, P. Simard: High Performance Convolutional Neural Networks for Document
    Processing, IWFHR 2006.
    """

    name: ClassVar[str] = "gemm"
    chooses: ClassVar[bool] = True
    """It names a kernel, so it needs software whose kernels can be chosen."""

    def kernel(self, operator: Any, target: str) -> str | None:
        """Return the primitive's name for a convolution that it computes, None for others."""
        return "gemm"
