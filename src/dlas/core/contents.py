"""What a data set was found to hold: classes, images by split, what was left out. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from dlas.core.keys import Json


@dataclass(frozen=True)
class SplitRead:
    """The images of one split, and where it comes from."""

    images: int
    where: str = ""
    """The folders or files that it is, or how it was taken out of them."""
    least: int = 0
    """Images of the class that has the fewest."""
    most: int = 0


@dataclass(frozen=True)
class Contents:
    """What was read, for a person to see whether it is what was meant."""

    classes: int
    train: SplitRead
    test: SplitRead
    names: tuple[str, ...] = ()
    """Of the classes, in the order of their numbers; empty: not known."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Why files were not read, and how many."""
    notes: tuple[str, ...] = ()
    """What may be wrong though nothing forbids it, a sentence each."""

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form."""
        return {**asdict(self), "names": list(self.names), "notes": list(self.notes)}


def split_read(labels: Sequence[int], classes: int, where: str = "") -> SplitRead:
    """Return what a split with these labels holds."""
    counts = [0] * classes
    for label in labels:
        counts[label] += 1
    return SplitRead(len(labels), where, min(counts, default=0), max(counts, default=0))
