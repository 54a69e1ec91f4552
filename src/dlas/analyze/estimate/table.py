"""The tidy table an analysis starts from: one row per cell and host, checked and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dlas.analyze.estimate.inside import Inside
from dlas.analyze.estimate.levels import (
    EMPTY,
    Bools,
    Floats,
    Ints,
    codes,
    is_ordered,
    ordered,
)
from dlas.analyze.estimate.scales import NAMES, NUMBERS, VERSIONS, key_of
from dlas.core.goals import Goals
from dlas.core.stack import DEFAULTS, Choice

if TYPE_CHECKING:
    from dlas.analyze.estimate.estimated import Estimates

COMPLETE = "complete"
DEFAULT_FLOOR = 0.05


@dataclass(frozen=True)
class Factor:
    """A layer, or one parameter inside a layer."""

    name: str
    """Its column."""
    layer: str
    """The layer it belongs to; its own name for a whole layer."""
    levels: tuple[str, ...]
    """Its levels over the complete cells, the empty one left out."""

    scale: str = ""
    """How its levels are ordered: ``numbers``, ``versions`` or not (``names``)."""

    @property
    def ordered(self) -> bool:
        """Whether its levels have an order."""
        return self.scale in (NUMBERS, VERSIONS)

    @property
    def numeric(self) -> bool:
        """Whether its levels are numbers, so that there is something between them."""
        return self.scale == NUMBERS


@dataclass(frozen=True)
class Table:
    """A checked table; every other part of the analysis reads it and changes nothing."""

    cells: pd.DataFrame
    """One row per cell and host: the layers and parameters as text, every other column as it
    came; and what ``rows`` holds, unless a layer has one of these names."""
    layers: tuple[str, ...]
    """The layer columns."""
    parameters: tuple[str, ...]
    """The columns ``layer.parameter``."""
    metric: str
    """The name of the metric; ``value`` holds its numbers, in its own unit."""
    maximize: bool = False
    """Whether more of the metric is better."""
    samples: pd.DataFrame | None = None
    """One row per cell, control and round: ``row`` (number of the row of ``cells``),
    ``control`` (0 for the cell itself), ``round`` (numbered over hosts and sessions),
    ``log`` (natural logarithm, turned so that less is better)."""
    estimates: Estimates | None = None
    """What the rounds say, where they were fitted before: then nothing is fitted again."""
    bounds: tuple[str, str] | None = None
    """The columns of a 95 % interval of the metric, where it came with one."""
    baseline: Mapping[str, str] = field(default_factory=dict)
    """For each layer the level others are compared with."""
    floor: float = DEFAULT_FLOOR
    """The ratio less one below which nothing counts, e.g. 0.05."""
    floor_given: bool = False
    """Whether the user chose the floor."""
    strata: tuple[str, ...] | None = None
    """Columns within which the noise of rounds is pooled, in any case."""
    strata_given: bool = False
    """Whether the user named the strata; else columns by which noise differs are added."""
    least: bool = False
    """Whether a cell is judged undisturbed, by the expected least of three rounds."""
    goals: Goals = field(default_factory=Goals)
    """What is sought, for the best cell and the Pareto front."""
    ceilings: pd.DataFrame | None = None
    """Ceilings measured on the hosts in this study (see ``roofline``)."""
    choices: Mapping[str, Mapping[str, tuple[Choice, ...]]] = field(default_factory=dict)
    """For each layer of a study the choices that its texts stand for; others' tables have texts
    alone."""
    given: tuple[str, ...] = ()
    """The layers among whose levels nobody chooses: what is best is sought for each of them."""
    scales: Mapping[str, str] = field(default_factory=dict)
    """For each layer and parameter how its levels are ordered (see ``scales``); what is not there
    keeps its order, and is ordered where all its levels are numbers."""
    apart: pd.DataFrame | None = None
    """What the rows say of themselves (see ``rows``), where a layer has one of these names."""
    notes: tuple[str, ...] = ()
    """What a reader must know about this table, one sentence each."""

    @property
    def rows(self) -> pd.DataFrame:
        """``cell``, ``host``, ``status``, ``reason`` and ``value`` by row of ``cells``."""
        return self.cells if self.apart is None else self.apart

    @cached_property
    def complete(self) -> Bools:
        """Which rows of ``cells`` can be analysed: complete, with a value."""
        good = self.rows["status"].eq(COMPLETE) & self.rows["value"].notna()
        return np.asarray(good.to_numpy(dtype=bool))

    @cached_property
    def log(self) -> Floats:
        """The logarithm of the metric, turned so that less is better; NaN where there is none."""
        sign = -1.0 if self.maximize else 1.0
        values = self.rows["value"].to_numpy(dtype=float)
        out = np.full(len(values), np.nan)
        out[self.complete] = sign * np.log(values[self.complete])
        return out

    @cached_property
    def grids(self) -> dict[tuple[object, ...], object]:
        """Layouts already made of this table (see ``contrasts.grid``)."""
        return {}

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that complete cells ran on."""
        return tuple(dict.fromkeys(self.rows["host"][self.complete]))

    @cached_property
    def context_columns(self) -> tuple[str, ...]:
        """The layers, and ``host`` where there are several: rounds of hosts are never pooled."""
        return self.layers + (("host",) if len(self.hosts) > 1 else ())

    @cached_property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The levels of every layer, parameter and ``host`` over the complete cells."""
        good = self.cells[self.complete]
        out = {name: self._sorted(name, good[name]) for name in (*self.layers, *self.parameters)}
        return {"host": ordered(self.rows["host"][self.complete])} | out

    def _sorted(self, name: str, column: pd.Series) -> tuple[str, ...]:
        if name not in self.scales:
            return ordered(column)
        return tuple(sorted(column.unique(), key=key_of(self.scales[name])))

    def scale(self, name: str) -> str:
        """Return how the levels of a layer or parameter are ordered."""
        known = [s for s in self.levels[name] if s != EMPTY]
        if name in self.scales:
            return self.scales[name] if len(known) > 1 else NAMES
        return NUMBERS if is_ordered(known) else NAMES

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """The layers with at least two levels among the complete cells."""
        return tuple(x for x in self.layers if len(self.levels[x]) > 1)

    @cached_property
    def free(self) -> tuple[str, ...]:
        """The layers that vary and among whose levels there is a choice."""
        return tuple(x for x in self.varied if x not in self.given)

    @cached_property
    def asked_for(self) -> Ints:
        """The number of what is given, by row: of the host and the levels of given layers.

        What is best is sought within each; 0 everywhere where nothing is given on one host.
        """
        columns = [self.rows["host"].to_numpy(), *(self.cells[x].to_numpy() for x in self.given)]
        return codes(columns, len(self.cells))

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """The layers that vary, then the parameters that vary inside one."""
        out = [Factor(x, x, self.levels[x], self.scale(x)) for x in self.varied]
        for name in self.parameters:
            levels = tuple(s for s in self.levels[name] if s != EMPTY)
            if len(levels) > 1:
                layer = layer_of(name, self.layers)
                out.append(Factor(name, layer, levels, self.scale(name)))
        return tuple(out)

    @cached_property
    def scaled(self) -> tuple[Factor, ...]:
        """The factors whose levels have an order, less the empty level."""
        without = (
            replace(f, levels=tuple(s for s in f.levels if s != EMPTY))
            for f in self.factors
            if f.ordered and f.layer not in self.given
        )
        return tuple(f for f in without if len(f.levels) > 1)

    @cached_property
    def compared(self) -> tuple[Factor, ...]:
        """The factors of free layers less the parameters that only name their levels anew."""
        free = (f for f in self.factors if f.layer not in self.given)
        return tuple(f for f in free if not self._renames(f))

    def _renames(self, factor: Factor) -> bool:
        """Say whether a parameter has one level for each of its layer's, and only names them."""
        if factor.name == factor.layer or len(factor.levels) != len(self.levels[factor.layer]):
            return False
        good = self.cells[self.complete]
        return len(good[[factor.layer, factor.name]].drop_duplicates()) == len(factor.levels)

    @cached_property
    def inside(self) -> Mapping[str, Inside]:
        """For each layer what is inside it."""
        out = {}
        for x in self.layers:
            own = tuple(p for p in self.parameters if layer_of(p, self.layers) == x)
            names = tuple(p for p in own if self.scale(p) == NAMES)
            out[x] = Inside(x, self.cells, own, names, self.choices.get(x, {}))
        return out

    @cached_property
    def skeletons(self) -> Mapping[str, pd.Series]:
        """For each layer the choices without their parameters."""
        return {x: inside.skeletons for x, inside in self.inside.items()}

    @cached_property
    def sublayers(self) -> Mapping[str, str]:
        """The parameters that are sub-layers, each with its own plain level, if it has one."""
        return {k: v for inside in self.inside.values() for k, v in inside.sublayers.items()}

    def siblings(self, factor: Factor) -> tuple[str, ...]:
        """Return the other parameters of a factor's layer that are equal where it differs.

        None of a whole layer.
        """
        whole = factor.name == factor.layer
        return () if whole else self.inside[factor.layer].siblings(factor.name)

    def usual(self, layer: str) -> str:
        """Return the level that a person would have had: given, or a stack's default; else none.

        A default is the level of its name, of several with other parameters the shortest.
        """
        levels = self.levels[layer]
        if layer in self.baseline and self.baseline[layer] in levels:
            return self.baseline[layer]
        wanted = DEFAULTS.get(layer)
        if wanted is None or wanted in levels:
            return wanted or ""
        kinds = dict(zip(self.cells[layer], self.skeletons[layer], strict=True))
        return min((s for s in levels if kinds.get(s) == wanted), key=len, default="")

    def reference(self, layer: str) -> str:
        """Return the level the others of a layer are compared with.

        The given baseline; else the lowest where levels, or the one parameter that tells them
        apart, are numbers; else what a person would have had (``usual``); else the median choice,
        by what choices make of the metric everything else equal: never the best, and never a
        straw man. Where no choices meet it is the commonest, of equally common ones the first.
        """
        if layer not in self._references:
            self._references[layer] = self._reference(layer)
        return self._references[layer]

    @cached_property
    def _references(self) -> dict[str, str]:
        """The levels that were found so far (see ``reference``)."""
        return {}

    def _reference(self, layer: str) -> str:
        levels = self.levels[layer]
        if layer in self.baseline and self.baseline[layer] in levels:
            return self.baseline[layer]
        if self.scale(layer) != NAMES:
            return levels[0]
        for f in self.factors:
            if f.layer == layer and f.ordered and self._renames(f):
                good = self.complete & (self.cells[f.name] == f.levels[0]).to_numpy(dtype=bool)
                return str(self.cells[layer][good].iloc[0])
        return self.usual(layer) or self.medians[layer]

    @cached_property
    def medians(self) -> Mapping[str, str]:
        """The median choice of every layer."""
        good = self.complete
        log, cells = self.log[good], self.cells[good]
        out = {}
        for layer in self.layers:
            others = [c for c in self.context_columns if c != layer]
            context = codes([cells[c].to_numpy() for c in others], len(cells))
            level = pd.Index(self.levels[layer]).get_indexer(cells[layer])
            counts = np.bincount(level, minlength=len(self.levels[layer]))
            effect = level_effects(log, context, level)
            common = max(range(len(counts)), key=lambda i: (counts[i], -i))
            chosen = median_of(effect, counts) if len(counts) > 1 else common
            out[layer] = self.levels[layer][chosen]
        return out


def level_effects(log: Floats, context: Ints, level: Ints) -> Floats:
    """Return what each level makes of the metric, contexts taken off, by least squares.

    Levels that share no context with others have an effect of nothing.
    """
    n = int(level.max(initial=-1)) + 1
    there = np.zeros((int(context.max(initial=-1)) + 1, n))
    value = np.zeros_like(there)
    there[context, level], value[context, level] = 1.0, log
    size = np.maximum(there.sum(axis=1, keepdims=True), 1.0)
    centred = (value - value.sum(axis=1, keepdims=True) / size) * there
    normal = np.diag(there.sum(axis=0)) - there.T @ (there / size)
    found: Floats = np.linalg.lstsq(normal, centred.sum(axis=0), rcond=1e-9)[0]
    return found


def median_of(effect: Floats, counts: Ints) -> int:
    """Return the level in the middle; of two in the middle the commoner, then the better one."""
    order = np.argsort(effect, kind="stable")
    middle = order[(len(order) - 1) // 2 : len(order) // 2 + 1].tolist()
    return int(max(middle, key=lambda i: (counts[i], -effect[i])))


def layer_of(parameter: str, layers: tuple[str, ...]) -> str:
    """Return the layer of a ``layer.parameter`` column, ``""`` where it is of none."""
    return next((x for x in layers if parameter.startswith(f"{x}.")), "")


def parameter_columns(frame: pd.DataFrame, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of a frame that are parameters of its layers."""
    return tuple(c for c in frame.columns if c not in layers and layer_of(str(c), layers))


def interval_columns(frame: pd.DataFrame, column: str) -> tuple[str, str] | None:
    """Return the columns of the ends of a column's interval: ``latency_low_ms``, ``x_low``."""
    stem, _, unit = column.rpartition("_")
    for low, high in (
        (f"{stem}_low_{unit}", f"{stem}_high_{unit}"),
        (f"{column}_low", f"{column}_high"),
    ):
        if {low, high} <= set(frame.columns) and frame[[low, high]].notna().all(axis=1).any():
            return low, high
    return None
