"""What can be put on an axis: the columns measured, how they are called, what is good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlas.analyze.estimate.direction import more_is_better
from dlas.core.goals import Goals
from dlas.report.any_table import OWN
from dlas.report.cells import factors
from dlas.report.material import Material
from dlas.report.pack import Part


@dataclass(frozen=True)
class Quantity:
    """A column of numbers."""

    title: str
    unit: str = ""
    more: bool = False
    """Whether more of it is better."""
    share: bool = False
    """Whether it is a share of 1, said in per cent."""

    def told(self, name: str) -> Part:
        """Return what the page is told of it."""
        unit = f", {self.unit}" if self.unit else ""
        return {"name": name, "title": f"{self.title}{unit}", "unit": self.unit,
                "more": self.more, "share": self.share}  # fmt: skip


COLD_START = "cold_start_s"
"""Import, load and first inference together: no column of its own, the page adds them."""
QUANTITIES = {
    "quiet_ms": Quantity("undisturbed latency", "ms"),
    "latency_ms": Quantity("latency as seen", "ms"),
    "latency_p90_ms": Quantity("90th percentile", "ms"),
    "latency_p99_ms": Quantity("99th percentile", "ms"),
    "accuracy": Quantity("accuracy", more=True, share=True),
    "accuracy_drop": Quantity("accuracy lost", share=True),
    "flips": Quantity("labels changed"),
    "memory_mb": Quantity("memory", "MB"),
    "artifact_mb": Quantity("size on disk", "MB"),
    "weights_mb": Quantity("weights", "MB"),
    COLD_START: Quantity("cold start", "s"),
    "build_s": Quantity("time to build", "s"),
    "tuning_s": Quantity("time to tune", "s"),
    "energy_mj": Quantity("energy", "mJ"),
    "effective_macs": Quantity("multiplications left"),
    "params": Quantity("parameters"),
}
"""The quantities of a study, in the order in which they are offered."""
COLD_PARTS = ("import_s", "load_ms", "first_inference_ms")
SCORE = "accuracy"
WEIGHED = 5
"""Quantities by which a stack is weighed on the first screen."""


def quantities(material: Material) -> list[Part]:
    """Return the quantities that some complete cell has: name, title, unit, what is better."""
    return [quantity.told(name) for name, quantity in _known(material).items()]


def score(material: Material) -> str | None:
    """Return the quantity that tells how good the answers are; None where nothing does."""
    known = _known(material)
    wanted = _goals(material)
    sought = (SCORE, *wanted.maximize, *(c for c, _ in wanted.at_least))
    rest = (name for name, m in known.items() if m.more)
    return next((n for n in (*sought, *rest) if n in known and n != material.metric), None)


def weighed(material: Material) -> list[str]:
    """Return the quantities by which a stack is weighed, the one that decides first."""
    known = _known(material)
    wanted = _goals(material)
    first = [material.metric, score(material) or ""]
    # A drop in score tells no more than the score, which stands beside it.
    sought = [c for c in wanted.columns if c != f"{SCORE}_drop" or SCORE not in known]
    usual = ["latency_ms", "memory_mb", COLD_START]
    names = dict.fromkeys([*first, *sought, *usual])
    return [name for name in names if name in known][:WEIGHED]


def _goals(material: Material) -> Goals:
    return material.analysis.table.goals if material.analysis else Goals()


def _known(material: Material) -> dict[str, Quantity]:
    if material.folders:
        return dict(_of_study(material))
    return dict(_of_table(material))


def _of_study(material: Material) -> Iterator[tuple[str, Quantity]]:
    done = material.cells[material.cells["status"] == "complete"]
    for name, quantity in QUANTITIES.items():
        parts = COLD_PARTS if name == COLD_START else (name,)
        if all(part in done and done[part].notna().any() for part in parts):
            yield name, quantity


def _of_table(material: Material) -> Iterator[tuple[str, Quantity]]:
    """Yield the metric, then every other column of numbers that is no layer."""
    goals = _goals(material)
    skip = {*OWN, *material.layers, *factors(material), "value"}
    others = [str(c) for c in material.cells.columns if str(c) not in skip | {material.metric}]
    for name in (material.metric, *others):
        column = material.cells[name]
        if column.dtype.kind in "iuf" and column.notna().any():
            yield name, Quantity(name, more=_more(name, goals, material))


def _more(name: str, goals: Goals, material: Material) -> bool:
    if name == material.metric and material.analysis is not None:
        return material.analysis.table.maximize
    if name in goals.maximize or name in (c for c, _ in goals.at_least):
        return True
    return name not in goals.minimize and bool(more_is_better(name))
