"""The result of an analysis: every part of it, frozen, and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contenders import Contenders, contenders
from dlas.analyze.parts.covered import Coverage
from dlas.analyze.parts.paid import Paid
from dlas.analyze.parts.taken import Best

SCHEMA = 1
"""Version of ``findings.json``; raised when a field changes its meaning or goes."""

SIGNIFICANT = "significant"
BEYOND = "beyond the floor"
STATED = "stated"
BULKY = ("speedup_contexts", "expected_contexts", "waterfall_stacks")
"""Tables with a row per choice and context, left out of ``findings.json`` unless asked for."""


@dataclass(frozen=True)
class Finding:
    """A sentence with its evidence."""

    kind: str
    """Which part of the analysis it comes from."""
    sentence: str
    layers: tuple[str, ...] = ()
    """The layers it speaks of."""
    ratio: float = math.nan
    """Its size as a ratio of the metric, above 1; NaN where it is no ratio."""
    low: float = math.nan
    high: float = math.nan
    """The 95 % interval of ``ratio``."""
    p: float = math.nan
    """Adjusted for how many of its kind were looked at to find it."""
    q: float = math.nan
    """False discovery rate over all findings."""
    certainty: str = STATED
    """``significant`` (q below 5 %), ``beyond the floor`` (no noise known), or ``stated``:
    a count or a description that claims no difference, or one told with its own intervals."""
    choices: tuple[str, ...] = ()
    """``layer=level`` of the choices it compares, the better one first."""
    coverage: Coverage | None = None
    """In how many contexts it was seen, and is sure; None where it is of no contexts."""
    costs: tuple[Paid, ...] = ()
    """What a gain costs or saves beside the metric; empty where no column tells it."""
    meets: int = -1
    """In how many of ``coverage.contexts`` the better choice surely meets the limits of the
    goals; -1 where there are no limits."""
    contender: bool = True
    """Whether it decides among stacks near the best that can be reached, somewhere; False: it is
    about a choice that nobody would take, contexts in which nobody would be, or the problem."""
    worth: float = math.nan
    """Its size where both choices are near the best: what the decision is worth there. NaN where
    that is no question; findings are told by it where it is less than ``ratio``."""
    fact: str = ""
    """What it is about: findings of one fact tell it in several ways, the first one first."""
    cells: tuple[str, ...] = ()
    """The cells it can be checked on."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """What else it rests on."""
    overturn: str = ""
    """What would overturn it."""
    rank: int = 0
    """1 is told first."""


@dataclass(frozen=True)
class Analysis:
    """All parts of an analysis; the tables are described where they are made."""

    table: Table
    estimates: Estimates
    near: Bools
    """Which rows of the table are near the best of what is given."""
    regrets: pd.DataFrame
    shares: pd.DataFrame
    left_out: pd.DataFrame
    speedups: pd.DataFrame
    speedup_contexts: pd.DataFrame
    losses: pd.DataFrame
    interactions: pd.DataFrame
    layer_pairs: pd.DataFrame
    flips: pd.DataFrame
    flip_counts: pd.DataFrame
    winners: pd.DataFrame
    winner_maps: pd.DataFrame
    ways: pd.DataFrame
    scaling: pd.DataFrame
    returns: pd.DataFrame
    elbows: pd.DataFrame
    break_evens: pd.DataFrame
    expected: pd.DataFrame
    expected_contexts: pd.DataFrame
    price: pd.DataFrame
    price_starts: pd.DataFrame
    waterfalls: pd.DataFrame
    waterfall_stacks: pd.DataFrame
    roofline: pd.DataFrame
    correlations: pd.DataFrame
    front: pd.DataFrame
    best: Best
    best_of_given: pd.DataFrame
    coverage: pd.DataFrame
    failures: pd.DataFrame
    comparable: pd.DataFrame
    findings: tuple[Finding, ...] = ()

    @cached_property
    def contenders(self) -> Contenders:
        """The choices that stacks near the best are made of, by layer and parameter."""
        return contenders(self.table, self.near)

    @cached_property
    def near_cells(self) -> frozenset[str]:
        """The cells of the rows that are near the best."""
        return frozenset(self.table.rows["cell"].astype(str)[self.near])

    def to_dict(self, *, bulky: bool = False) -> dict[str, Any]:
        """Return everything but the input as plain values (``docs/analysis.md``: the schema).

        Args:
            bulky: also the tables with a row per choice and context.
        """
        tables = {
            name: records(getattr(self, name))
            for name in self.__dataclass_fields__
            if isinstance(getattr(self, name), pd.DataFrame) and (bulky or name not in BULKY)
        }
        best = {k: v for k, v in vars(self.best).items() if not isinstance(v, pd.DataFrame)}
        best["runners_up"] = records(self.best.runners_up)
        best["verdicts"] = records(
            self.best.verdicts[self.best.verdicts["cell"] == self.best.cell]
        )
        return {
            "schema": SCHEMA,
            "metric": self.table.metric,
            "maximize": self.table.maximize,
            "layers": list(self.table.layers),
            "given": list(self.table.given),
            "hosts": list(self.table.hosts),
            "cells": len(self.table.cells),
            "complete": int(self.table.complete.sum()),
            "baseline": {x: self.table.reference(x) for x in self.table.varied},
            "contenders": {x: sorted(levels) for x, levels in self.contenders.items()},
            "notes": list(self.table.notes),
            "noise": self.noise(),
            "findings": [plain(asdict(f)) for f in self.findings],
            "best": plain(best),
            "tables": tables,
        }

    def noise(self) -> dict[str, Any]:
        """Return what is known of the noise, and the floor it sets."""
        e, controls = self.estimates, self.estimates.controls
        inside = controls["inside"]
        return {
            "kind": e.kind,
            "floor": self.table.floor,
            "detectable": plain(e.floor()),
            "strata": records(e.strata),
            "controls": len(controls),
            "controls_inside": float(inside.mean()) if len(inside) else None,
            "inflation": e.inflation,
        }

    def to_json(self, *, bulky: bool = False) -> str:
        """Return ``findings.json``."""
        return json.dumps(self.to_dict(bulky=bulky), indent=1, allow_nan=False)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame as a list of rows of plain values; NaN and infinity become ``None``."""
    names = [str(c) for c in frame.columns]
    columns = [[plain(v) for v in frame[c].tolist()] for c in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
