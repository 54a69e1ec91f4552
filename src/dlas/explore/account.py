"""What an exploration came to: the front, what was measured, and what was not looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dlas.core.errors import StorageError
from dlas.explore.settling import Settled

FILE = "exploration.json"


@dataclass(frozen=True)
class Unseen:
    """A stack that was not measured, and what is expected of it."""

    cell: str
    text: str
    joins: float
    """The probability that it is on the front."""
    values: Mapping[str, tuple[float, ...]]
    """Of each metric the expected value, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Explored:
    """The outcome of an exploration."""

    study: str
    out: Path
    sampler: str
    seed: int
    stacks: int
    """How many stacks can run here."""
    order: tuple[str, ...]
    """The cells measured, in the order in which they were named."""
    failed: int
    reason: str
    """Why it ended."""
    settled: Settled
    """The stacks that are left of those that may be on the front."""
    closest: str
    """Where no stack meets the limits: which comes closest."""
    unseen: tuple[Unseen, ...]
    choosing_s: float
    cells: Mapping[str, int]
    """Cells of the study by status."""

    def save(self) -> None:
        """Write ``exploration.json`` beside the results.

        Raises:
            StorageError: it cannot be written.
        """
        data = {**asdict(self), "out": str(self.out)}
        path = self.out / FILE
        try:
            path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error

    def text(self) -> str:
        """Return it as lines for people."""
        lines = [
            f"{len(self.order)} of {self.stacks} stacks measured ({self.failed} failed): "
            f"{self.reason}."
        ]
        lines += ["", self.closest + "." if self.closest else self.settled.text()]
        if self.unseen:
            left = self.stacks - len(self.order)
            lines += ["", f"{left} stacks were not looked at; the likeliest to be on the front:"]
            lines += [f"  {_unseen(each)}" for each in self.unseen]
        return "\n".join(lines)


def _unseen(each: Unseen) -> str:
    values = ", ".join(
        f"{column} {mid:.4g} [{low:.4g}, {high:.4g}]"
        for column, (mid, low, high) in each.values.items()
    )
    return f"{each.cell}  {each.joins:.1%}  {values}  {each.text}"
