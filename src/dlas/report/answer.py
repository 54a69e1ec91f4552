"""The answer in words: which stack, what matters, what interacts, how far to trust it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dlas.analyze import Analysis
from dlas.report.material import Material
from dlas.report.pack import Part, plain
from dlas.report.parts import Places


def best(found: Analysis | None, where: Places) -> Part | None:
    """Return the best cell under the goals by row, with those that cannot be told apart."""
    if found is None or not found.best.cell:
        return None
    one = found.best
    near = one.runners_up.to_dict("records")
    return {
        "row": where[one.cell, one.host],
        "sure": one.sure,
        "metric": one.metric,
        "value": plain(one.value),
        "not_fastest": one.fastest not in ("", one.cell),
        "chance": plain(one.chance),
        "regret": plain(one.regret),
        "runners_up": [
            {"row": where[str(r["cell"]), str(r["host"] or "")], "ratio": plain(r["ratio"]),
             "low": plain(r["low"]), "high": plain(r["high"]), "meets": bool(r["meets"])}
            for r in near
        ],
    }  # fmt: skip


def goals(found: Analysis | None) -> list[str]:
    """Return what is sought, one phrase a goal."""
    if found is None:
        return []
    sought = found.table.goals
    said = [f"least {name}" for name in sought.minimize]
    said += [f"most {name}" for name in sought.maximize]
    said += [f"{name} at most {bound:g}" for name, bound in sought.at_most]
    said += [f"{name} at least {bound:g}" for name, bound in sought.at_least]
    return said


def trust(material: Material, cells: Sequence[Mapping[str, Any]]) -> Part:
    """Return the numbers that say how far to trust the rest; None where one is not known."""
    done = [c for c in cells if c["status"] == "complete"]
    widths = [
        (c["quiet_high_ms"] / c["quiet_low_ms"]) ** 0.5 - 1
        for c in done
        if c.get("quiet_low_ms") and c.get("quiet_high_ms")
    ]
    noise = material.analysis.noise() if material.analysis else {}
    floors = [float(f) for f in material.floors["floor"].dropna()]
    return {
        "interval": statistics.median(widths) if widths else None,
        "floor_low": min(floors, default=None),
        "floor_high": max(floors, default=None),
        "controls": noise.get("controls"),
        "controls_inside": noise.get("controls_inside"),
        "inflation": noise.get("inflation"),
        "default_floor": noise.get("floor"),
        "unsteady": sum(bool(c.get("unsteady")) for c in done),
        "complete": len(done),
        "cells": len(cells),
        "rounds": max((c.get("rounds") or 0 for c in done), default=0),
    }
