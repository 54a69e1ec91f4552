"""CSR weights: what the algorithms that can store them have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.protocols import (
    Algorithm,
    KernelChoice,
    Refusal,
    Techniques,
    impossible,
    unavailable,
)
from dlas.kernels.ground.types import ASKED_SPARSE_INT8, no_csr


@dataclass(frozen=True, kw_only=True)
class CsrCapable(Algorithm):
    """A primitive, by the technique's own name, whose weights may be stored dense or in CSR."""

    chooses: ClassVar[bool] = True
    """It names a kernel, so it needs software whose kernels can be chosen."""
    sources: ClassVar[tuple[str, ...]] = ("dlas.layers.algorithm.shared.sparsity",)

    weights: Literal["dense", "csr"] = "dense"
    """How filters are stored; ``csr``: the non-zero ones with their positions."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.4
    """With ``csr``: the share of zeros from which a layer is stored so; others stay dense. In int8
    the zeros that count are groups of four input channels."""

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse CSR in types that have no kernel, and where nothing makes weights zero."""
        has = stack.precision == "float32" or (
            stack.precision == "int8" and self.name in ASKED_SPARSE_INT8
        )
        if self.weights == "csr" and not has:
            return unavailable(no_csr(stack.precision))
        if self.weights == "csr":
            return refuse_without_zeros(stack, self.threshold)
        return None

    def kernel(self, operator: Any, target: str) -> KernelChoice | None:
        """Return the primitive and the storage of its weights."""
        return KernelChoice(self.name, self.weights, self.threshold)


def refuse_without_zeros(stack: Techniques, threshold: float) -> Refusal | None:
    """Refuse CSR where no layer can have zeros enough to be stored so.

    Zeros come from an optimization, or with the weights that the user gives a model. Threshold 0
    stores every layer in CSR, zeros or not: there is nothing to refuse then.
    """
    brought = any(getattr(stack.model, place, "") for place in _places(stack))
    if threshold == 0 or stack.sparse or brought:
        return None
    return impossible(
        "CSR stores the weights that are not zero, and nothing in this stack makes weights zero: "
        f"no layer can reach the threshold of {threshold:.0%} zeros from which it is stored so. "
        "Prune the weights, or ask for threshold: 0 to store dense weights in CSR all the same."
    )


def _places(stack: Techniques) -> tuple[str, ...]:
    places: tuple[str, ...] = getattr(stack.model, "places", ())
    return places
