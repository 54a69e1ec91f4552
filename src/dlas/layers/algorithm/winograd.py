"""Convolutions with fewer multiplications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dlas.core.protocols import Algorithm, KernelChoice, Refusal, Techniques, impossible


@dataclass(frozen=True, kw_only=True)
class Winograd(Algorithm):
    """``winograd``: 3x3 convolutions of stride 1 by F(4x4, 3x3) or F(2x2, 3x3).

    A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016. Filters are
    transformed ahead of time. Every other convolution runs by ``spatial-pack`` and is listed as a
    fallback with the reason.
    """

    name: ClassVar[str] = "winograd"
    chooses: ClassVar[bool] = True
    """It names a kernel, so it needs software whose kernels can be chosen."""

    weights: Literal["dense", "csr"] = "dense"
    """How filters are stored: ``csr`` can be asked for and is refused."""

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse CSR weights."""
        if self.weights == "csr":
            return impossible(
                "winograd multiplies by transformed filters, and the transform mixes the nine "
                "taps of a filter: zeros among the weights are not zeros after it, so CSR has "
                "nothing to leave out"
            )
        return None

    def kernel(self, operator: Any, target: str) -> KernelChoice | None:
        """Return the primitive, whether or not it can do this operator."""
        return KernelChoice("winograd", self.weights)
