"""Convolutions as matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.layers.algorithm import sparsity
from dlas.protocols import Algorithm, KernelChoice, Refusal, Techniques


@dataclass(frozen=True, kw_only=True)
class Gemm(Algorithm):
    """``gemm``: patches are copied into a matrix (im2col), which the filters are multiplied by.

    K. Chellapilla, S. Puri, P. Simard: High Performance Convolutional Neural Networks for Document
    Processing, IWFHR 2006. With CSR weights: a sparse matrix times the matrix of patches.
    """

    name: ClassVar[str] = "gemm"
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
        return KernelChoice("gemm", self.weights, self.threshold)
