"""How well each column of a table is known: what claims are judged from.

A gauge holds one column by cell, with its error. Only a column with an error can be judged:
measured ones have rounds or an interval, counted ones (``macs``) are exact, a share of images
(``accuracy``) has that of its sample. Of all others nothing is known, and it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Bools, Floats, number
from dlas.analyze.estimate.scales import NUMBERS
from dlas.analyze.estimate.table import Table, layer_of
from dlas.analyze.parts.expected import COSTS
from dlas.core.errors import near
from dlas.core.rules import ALIASES

COUNTED = (*COSTS, "artifact_mb", "nonzero_macs", "parameters")
"""Columns that are counted, not measured: they are exact. Not ``flops``: to some it is a rate."""
NORMAL = 1.959963984540054
"""Half of a 95 % interval is so many standard errors."""


@dataclass(frozen=True, eq=False)
class Gauge:
    """One column of a table with its error; gauges are told apart by identity."""

    column: str
    value: Floats
    """By row of the table: the logarithm, or (``logarithmic`` False) the number itself."""
    var: Floats
    """Variance by row and source; the last ``common`` sources are the same error in all rows."""
    df: Floats
    common: int = 0
    logarithmic: bool = True
    sign: float = 1.0
    """1: less is better; -1: more is."""
    why_not: str = ""
    """Why nothing can be judged from it; empty: it can."""
    tails: Floats | None = None
    """Excess kurtosis of each row's own error; None: that of a normal distribution."""


@dataclass(frozen=True)
class Basis:
    """A table, what is known of its columns, and by which names claims call them."""

    table: Table
    estimates: Estimates
    """What is known of the metric analysed."""
    others: Mapping[str, Gauge] = field(default_factory=dict)
    """Other columns that have rounds of their own, by name."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The table's column for a name in the claims, where it is another."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why a column's rounds cannot be used, by name."""
    exact: tuple[str, ...] = COUNTED
    short: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The short name of each choice, by layer."""
    study: str = ""
    """The hash of the study that was run."""

    def brief(self, column: str, text: str) -> str:
        """Return the short name of a choice at a layer; of what has none the text itself."""
        return self.short.get(self.named(column), {}).get(text, text)

    @cached_property
    def main(self) -> Gauge:
        """The metric analysed."""
        return measured_gauge(self.table, self.estimates)

    def named(self, name: str) -> str:
        """Return the table's name of a column; of a parameter the layer may have another."""
        if name in self.names:
            return self.names[name]
        layer = layer_of(name, tuple(self.names))
        return f"{self.names[layer]}{name.removeprefix(layer)}" if layer else name

    def unknown(self, name: str) -> str:
        """Return why a column cannot be used, ``""``: the table has it."""
        known = self.columns
        if self.named(name) in known:
            return ""
        return f"no column is called {self.named(name)!r}.{near(self.named(name), known)}"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every column that a claim can name: the table's, and what is known of its layers."""
        more = [*(f"{x}.technique" for x in self.table.layers), "host"]
        more += [f"{x}.{n}" for x, n in ALIASES.items() if x in self.table.layers]
        return tuple(dict.fromkeys([*map(str, self.table.cells.columns), *more]))

    def gauge(self, column: str) -> Gauge:
        """Return what is known of a column of the table."""
        if column == self.main.column:
            return self.main
        if column not in self._made:
            found = self.others.get(column) or _gauge(self, column)
            if found.why_not and column in self.refused:
                why = f"the rounds of {column} cannot be used: {self.refused[column]}"
                found = replace(found, why_not=why)
            self._made[column] = found
        return self._made[column]

    @cached_property
    def _made(self) -> dict[str, Gauge]:
        return {}

    # ------------------------------------------------------------ what rules see of a cell

    @cached_property
    def views(self) -> list[dict[str, object]]:
        """Each row as rules see it: numbers as numbers, what a cell does not have left out."""
        columns = {c: self._values(c) for c in map(str, self.table.cells.columns)}
        for layer in self.table.layers:
            names = self.table.skeletons[layer].tolist()
            columns.setdefault(f"{layer}.technique", names)
            if layer in ALIASES:
                columns.setdefault(f"{layer}.{ALIASES[layer]}", names)
        columns |= {name: columns[c] for name, c in self.names.items() if c in columns}
        for name, c in self.names.items():
            inner = {k: v for k, v in columns.items() if k.startswith(f"{c}.")}
            columns |= {f"{name}.{k.partition('.')[2]}": v for k, v in inner.items()}
        columns.setdefault("host", self.table.rows["host"].tolist())
        keys = list(columns)
        rows = zip(*(columns[k] for k in keys), strict=True)
        return [{k: v for k, v in zip(keys, row, strict=True) if v is not None} for row in rows]

    def _values(self, column: str) -> list[object]:
        """Return a column by row as rules compare it; None: the cell has none."""
        cells = self.table.cells[column]
        if column in (*self.table.layers, *self.table.parameters):
            texts = [None if t == EMPTY else str(t) for t in cells.tolist()]
            known = {t for t in texts if t is not None}
            if known <= {"true", "false"}:
                return [None if t is None else t == "true" for t in texts]
            if _are_numbers(self.table, column, known):
                return [None if t is None else float(number(t)) for t in texts]
            return list(texts)
        if pd.api.types.is_bool_dtype(cells.dtype):
            return [None if pd.isna(v) else bool(v) for v in cells.tolist()]
        if pd.api.types.is_numeric_dtype(cells.dtype):
            values = pd.to_numeric(cells).to_numpy(dtype=float).tolist()
            return [None if np.isnan(v) else float(v) for v in values]
        return [None if pd.isna(v) else str(v) for v in cells.tolist()]

    def layer(self, column: str) -> str:
        """Return the layer that a column of the table is of, ``""``: of none.

        Several hosts are a layer, too.
        """
        if column == "host" and len(self.table.hosts) > 1:
            return column
        return column if column in self.table.layers else layer_of(column, self.table.layers)

    def texts(self, column: str) -> list[str]:
        """Return a layer, a parameter or the host by row, as text."""
        if column not in self._read:
            self._read[column] = self._texts(column)
        return self._read[column]

    @cached_property
    def _read(self) -> dict[str, list[str]]:
        return {}

    def _texts(self, column: str) -> list[str]:
        if column == "host":
            return [str(h) for h in self.table.rows["host"].tolist()]
        layer = layer_of(column, self.table.layers)
        if column not in self.table.cells and layer in self.table.skeletons:
            return [str(s) for s in self.table.skeletons[layer].tolist()]
        return [str(v) for v in self.table.cells[column].tolist()]


def _are_numbers(table: Table, column: str, known: set[str]) -> bool:
    """Say whether the levels of a column are numbers, one level included."""
    if table.scales.get(column, NUMBERS) != NUMBERS:
        return False
    try:
        return bool(known) and all(np.isfinite(float(level)) for level in known)
    except ValueError:
        return False


# ---------------------------------------------------------------- what is known of a column


def within(table: Table, estimates: Estimates, share: float) -> Estimates:
    """Return estimates of values that are known within a share of themselves, at 95 %.

    For tables that have neither rounds nor intervals, where somebody knows how they were read.
    """
    var = np.full((len(table.cells), 1), (np.log1p(share) / NORMAL) ** 2)
    return replace(estimates, kind="intervals", var=var, df=np.array([np.inf]), sessions=0)


def measured_gauge(table: Table, estimates: Estimates) -> Gauge:
    """Return what rounds or intervals say of the metric analysed."""
    sign = -1.0 if table.maximize else 1.0
    if not estimates.known:
        return _unknown(table.metric, sign * table.log, sign)
    return Gauge(
        table.metric, sign * estimates.mean, estimates.var, estimates.df, estimates.sessions,
        sign=sign, tails=estimates.tails,
    )  # fmt: skip


def _known(
    column: str, value: Floats, var: Floats, sign: float = 1.0, *, common: bool = False,
    logarithmic: bool = True,
) -> Gauge:  # fmt: skip
    return Gauge(column, value, var[:, None], np.array([np.inf]), int(common), logarithmic, sign)


def _unknown(column: str, value: Floats, sign: float) -> Gauge:
    return Gauge(
        column, value, np.zeros((len(value), 1)), np.array([np.inf]), sign=sign,
        why_not=f"nothing is known of the error of {column}: it has neither rounds nor an "
        "interval (for a table, name them, or say within what it is known: --within 0.02)",
    )  # fmt: skip


def _gauge(evidence: Basis, column: str) -> Gauge:
    """Return what is known of a column without rounds of its own."""
    table = evidence.table
    complete: Bools = table.complete
    read = pd.to_numeric(table.cells[column], errors="coerce").to_numpy(dtype=float)
    raw = np.where(complete, read, np.nan)
    if column == evidence.named("accuracy_drop"):
        return _drops(evidence, raw)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(raw > 0, np.log(raw), np.nan)
    sign = -1.0 if column == evidence.named("accuracy") else 1.0
    if not np.isfinite(raw).any():
        return Gauge(
            column, log, np.zeros((len(log), 1)), np.array([np.inf]),
            why_not=f"{column} holds no number",
        )  # fmt: skip
    if column in evidence.exact:
        return _known(column, log, np.zeros(len(log)), sign)
    images = evidence.named("accuracy_n")
    if column == evidence.named("accuracy") and images in table.cells:
        n = pd.to_numeric(table.cells[images], errors="coerce").to_numpy(dtype=float)
        return _known(column, log, _of_share(raw, n), sign, common=True)
    ends = _ends(table, column)
    if ends is None:
        return _unknown(column, log, sign)
    low, high = ends
    with np.errstate(divide="ignore", invalid="ignore"):
        var = ((np.log(high) - np.log(low)) / 2 / NORMAL) ** 2
    log = np.where(np.isfinite(var), log, np.nan)
    return _known(column, log, np.nan_to_num(var), sign)


def _of_share(share: Floats, n: Floats) -> Floats:
    """Return the variance of the logarithm of a share of ``n`` (one more of each outcome)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (share * n + 1) / (n + 2)
        return np.nan_to_num((1 - p) / (p * n), nan=np.inf)


def _drops(evidence: Basis, raw: Floats) -> Gauge:
    """Return accuracy lost against the unoptimized network, paired by image.

    The variance is that of a difference of paired shares, with one image more that
    changed either way, so that no flips on few images are no certainty.
    """
    column, cells = evidence.named("accuracy_drop"), evidence.table.cells
    needed = [evidence.named(name) for name in ("accuracy_n", "flips")]
    if not set(needed) <= set(cells.columns):
        found = _unknown(column, raw, 1.0)
        return Gauge(
            found.column, raw, found.var, found.df, logarithmic=False, why_not=found.why_not
        )
    n, flips = (pd.to_numeric(cells[c], errors="coerce").to_numpy(dtype=float) for c in needed)
    with np.errstate(divide="ignore", invalid="ignore"):
        var = np.maximum((flips + 2) / n - raw**2, 0.0) / n
    usable = np.isfinite(var)
    return _known(
        column, np.where(usable, raw, np.nan), np.nan_to_num(var), common=True,
        logarithmic=False,
    )  # fmt: skip


def _ends(table: Table, column: str) -> tuple[Floats, Floats] | None:
    """Return a column's interval where the table has one beside it."""
    stem, _, unit = column.rpartition("_")
    pairs: Sequence[tuple[str, str]] = (
        (f"{stem}_low_{unit}", f"{stem}_high_{unit}"),
        (f"{column}_low", f"{column}_high"),
    )
    for low, high in pairs:
        if {low, high} <= set(table.cells.columns):
            one, two = (
                pd.to_numeric(table.cells[c], errors="coerce").to_numpy(dtype=float)
                for c in (low, high)
            )
            return one, two
    return None
