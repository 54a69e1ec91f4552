"""Pruning in steps: each sparsity goes on from the network of the one before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from dlas.layers.optimization import weight_pruning
from dlas.layers.optimization.weight_pruning import WeightPruning


@dataclass(frozen=True, kw_only=True)
class IterativePruning(WeightPruning):
    """Magnitude pruning step by step, fine-tuned after each (Han et al., 2015).

    The network passes all ``steps`` below ``sparsity`` on its way. Of a sweep over ``sparsity``
    with the same steps each level goes on from the one before, so that what they have in common
    is trained once. ``epochs`` are those after each step.
    """

    name: ClassVar[str] = "iterative-pruning"
    sources: ClassVar[tuple[str, ...]] = (*WeightPruning.sources, weight_pruning.__name__)
    steps: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """Sparsities on the way, e.g. ``[0.5, 0.8, 0.9]``."""

    def before(self) -> IterativePruning | None:
        """Return the pruning that this one goes on from; None: the whole network."""
        lower = [step for step in self.steps if step < self.sparsity]
        return replace(self, sparsity=max(lower)) if lower else None
