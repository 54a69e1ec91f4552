"""What is measured in rounds: cells, and A/A controls of some of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dlas.core.keys import key
from dlas.core.records import MeasureSettings
from dlas.run.plan.counts import control_count, stratum
from dlas.run.plan.plan import Runnable


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell to be measured; ``control`` 1 is the same cell under another id (A/A)."""

    plan: Runnable
    control: int
    key: str
    content: str
    artifact: Path
    inputs: Path

    @property
    def name(self) -> tuple[str, int]:
        """What tells it from the others."""
        return self.plan.cell, self.control


def with_controls(entries: Sequence[Entry], settings: MeasureSettings) -> list[Entry]:
    """Return the entries and their A/A controls.

    max(``min_controls``, ``controls`` x cells) of the cells, at least two for each runtime and
    thread count, are measured a second time. The choice depends on the cells alone.
    """
    ranked = sorted(entries, key=lambda e: key("control", e.plan.cell))
    strata: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in ranked:
        strata[stratum(entry.plan)].append(entry)
    wanted = control_count([len(members) for members in strata.values()], settings)
    if not wanted:
        return list(entries)
    chosen = [e for members in strata.values() for e in members[:2]]
    rest = [e for e in ranked if e not in chosen]
    chosen += rest[: max(0, wanted - len(chosen))]
    return [*entries, *(replace(e, control=1) for e in chosen)]
