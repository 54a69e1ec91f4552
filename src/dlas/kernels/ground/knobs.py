"""Knobs: what a template leaves open, each a whole number; without a value a rule decides."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Knobs:
    """Values of some of a template's knobs."""

    pairs: tuple[tuple[str, int], ...] = ()
    module: str = ""
    """Instead of values: a whole function that MetaSchedule has scheduled, as text."""

    @classmethod
    def of(cls, values: Mapping[str, int], module: str = "") -> "Knobs":
        """Return the knobs of a mapping from name to value."""
        return cls(tuple(sorted(values.items())), module)

    def get(self, name: str, default: int) -> int:
        """Return a knob's value, or what the fixed rule says."""
        return dict(self.pairs).get(name, default)

    def as_dict(self) -> dict[str, int]:
        """Return the values by name."""
        return dict(self.pairs)


FIXED = Knobs()
"""No value at all: the fixed schedule."""
