"""Convolutions by their definition: one loop nest over outputs and filter taps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.layers.algorithm import sparsity
from dlas.protocols import Algorithm, KernelChoice, Refusal, Techniques


@dataclass(frozen=True, kw_only=True)
class Direct(Algorithm):
    """``direct``: the loop nest over outputs and taps; no matrix of patches, no transform."""

    name: ClassVar[str] = "direct"
    chooses: ClassVar[bool] = True
    """It names a kernel, so it needs software whose kernels can be chosen."""
    sources: ClassVar[tuple[str, ...]] = ("dlas.layers.algorithm.sparsity",)

    weights: Literal["dense", "csr"] = "dense"
    """How filters are stored; ``csr``: the non-zero ones with their positions."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.4
    """With ``csr``: the share of zeros from which a layer is stored so; others stay dense."""

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse CSR where nothing makes weights zero."""
        if self.weights == "csr":
            return sparsity.refuse_without_zeros(stack, self.threshold)
        return None

    def kernel(self, operator: Any, target: str) -> KernelChoice | None:
        """Return the primitive and the storage of its weights."""
        return KernelChoice("direct", self.weights, self.threshold)
