"""Convolutions on blocked channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.layers.algorithm import sparsity
from dlas.protocols import Algorithm, KernelChoice, Refusal, Techniques


@dataclass(frozen=True, kw_only=True)
class SpatialPack(Algorithm):
    """``spatial-pack``: channels in blocks of a vector, a tile of outputs kept in registers.

    Y. Liu et al.: Optimizing CNN Model Inference on CPUs, USENIX ATC 2019. The layout is carried
    from operator to operator. With CSR weights the lanes of a vector are tiles of the image.
    """

    name: ClassVar[str] = "spatial-pack"
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
        return KernelChoice("spatial-pack", self.weights, self.threshold)
