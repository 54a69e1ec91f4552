"""What is sought, as numbers to be minimized: logarithms where they exist, limits beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlas.core.goals import Goals
from dlas.explore.anova import Floats
from dlas.tables.fitted import QUIET, SEEN


@dataclass(frozen=True)
class MetricScale:
    """How a column is modelled: its logarithm where all values are above zero."""

    logarithm: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> MetricScale:
        """Return the scale of a column with these values."""
        return cls(bool(len(values)) and all(value > 0 for value in values))

    def to(self, values: Floats) -> Floats:
        """Return values on the scale; what has no logarithm lies very far down."""
        if not self.logarithm:
            return np.asarray(values, float)
        return np.asarray(np.log(np.maximum(np.asarray(values, float), 1e-300)))

    def back(self, value: float) -> float:
        """Return a value in the column's own unit."""
        return float(np.exp(value)) if self.logarithm else float(value)


@dataclass(frozen=True)
class Sought:
    """Goals as signs and limits."""

    goals: Goals

    @property
    def metrics(self) -> tuple[tuple[str, float], ...]:
        """Each column to be optimized, with 1 to minimize and -1 to maximize."""
        return (
            *((column, 1.0) for column in self.goals.minimize),
            *((column, -1.0) for column in self.goals.maximize),
        )

    @property
    def limits(self) -> tuple[tuple[str, float, float], ...]:
        """Each limit: column, 1 for at most and -1 for at least, bound."""
        return (
            *((column, 1.0, bound) for column, bound in self.goals.at_most),
            *((column, -1.0, bound) for column, bound in self.goals.at_least),
        )

    @property
    def latency(self) -> str | None:
        """The latency that is optimized, undisturbed or as seen; None where none is."""
        return next((column for column, _ in self.metrics if column in (QUIET, SEEN)), None)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that has to be told."""
        return self.goals.columns

    def meets(self, values: Mapping[str, float]) -> bool:
        """Return whether a stack meets every limit."""
        return all(sign * values[c] <= sign * bound for c, sign, bound in self.limits)
