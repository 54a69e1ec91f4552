"""Rounds of several sessions: brought together by what was measured in more than one of them.

Between two sessions of one machine (another day, another version, other neighbours) everything
shifts, and every cell by a little of its own. A cell that was measured in a later session alone
can be compared with the others only through *anchors*, cells that were measured in both: their
mean shift is taken off, and what the anchors disagree by stays in the interval. Without anchors
nothing is claimed: such cells are left out, and it is said.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.student import quantile
from dlas.core.least import difference

LEAST_ANCHORS = 2
NORMAL = 1.959964
QN_OF_FEW = (0.0, 0.0, 0.399, 0.994, 0.512, 0.844, 0.611, 0.857, 0.669, 0.872)
"""By which Qn of so many values is multiplied (Croux and Rousseeuw 1992)."""
QN_EFFICIENCY = (0.5, 0.7)
"""Of Qn of so few and of more values against the standard deviation (of very many: 0.82); with
so many times the degrees of freedom t intervals hold, which a test simulates."""
Unit = tuple[int, int]
"""A row and its control."""


@dataclass(frozen=True)
class Link:
    """What one session adds to what is not known of the units measured in it alone."""

    units: frozenset[Unit]
    shift: float
    """What was taken off the logarithms of the session."""
    var: float
    """Variance of the shift, the same error for all units; larger where few anchors tell it."""
    df: float
    each: float
    """Variance that every unit has of its own between two sessions; the fewer anchors tell it the
    larger, since it stands beside the noise of rounds, which is known much better."""


@dataclass(frozen=True)
class Linked:
    """Samples as of one session, and what linking them cost."""

    samples: pd.DataFrame
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = ()

    def each(self, unit: Unit) -> float:
        """Return the variance that a unit gets for its own shift."""
        return sum(link.each for link in self.links if unit in link.units)


def linked(samples: pd.DataFrame) -> Linked:
    """Bring the rounds of each host's sessions to the one in which most cells were measured.

    Args:
        samples: ``row, control, host, session, round, log``; one host or session where there is no
            such column. ``links`` is there where some rounds were disturbed: those where it is
            False tell nothing of a shift.
    """
    if "host" in samples and samples["host"].nunique() > 1:
        parts = [_linked(part) for _, part in samples.groupby("host", sort=True)]
        return Linked(
            pd.concat([part.samples for part in parts], ignore_index=True),
            tuple(link for part in parts for link in part.links),
            tuple(note for part in parts for note in part.notes),
        )
    return _linked(samples)


def _linked(samples: pd.DataFrame) -> Linked:
    if "session" not in samples or samples["session"].nunique() < 2:
        return Linked(samples)
    own = samples[samples["control"] == 0]
    cells = (
        own.groupby("session", sort=True)["row"]
        .nunique()
        .sort_values(ascending=False, kind="stable")
    )
    order = cells.index.tolist()
    first = samples[samples["session"] == order[0]]
    known, base = _units(first), _rounds(_linking(first))
    kept, links, lost = [first], [], 0
    for session in order[1:]:
        part = samples[samples["session"] == session]
        rounds = _rounds(_linking(part))
        alone = frozenset(_units(part) - known)
        link = _link(base, rounds, alone)
        if link is None:
            lost += sum(control == 0 for _, control in alone)
            continue
        kept.append(part.assign(log=part["log"] - link.shift))
        if alone:
            links.append(link)
        known |= alone
        for unit, logs in rounds.items():
            base[unit] = np.concatenate([base.get(unit, np.zeros(0)), logs - link.shift])
    notes = _notes(lost, "links" in samples)
    return Linked(pd.concat(kept, ignore_index=True), tuple(links), notes)


def _units(samples: pd.DataFrame) -> set[Unit]:
    return set(zip(samples["row"].tolist(), samples["control"].tolist(), strict=True))


def _linking(samples: pd.DataFrame) -> pd.DataFrame:
    return samples[samples["links"]] if "links" in samples else samples


def _rounds(samples: pd.DataFrame) -> dict[Unit, Floats]:
    found: dict[Unit, list[float]] = defaultdict(list)
    columns = (samples[name].tolist() for name in ("row", "control", "log"))
    for row, control, log in zip(*columns, strict=True):
        found[row, control].append(log)
    return {unit: np.array(logs) for unit, logs in found.items()}


def _link(
    base: dict[Unit, Floats], rounds: dict[Unit, Floats], alone: frozenset[Unit]
) -> Link | None:
    """Compare what was measured in both; None: too little to tell a shift and its spread."""
    both = [unit for unit in rounds if unit in base]
    if len(both) < LEAST_ANCHORS:
        return None
    found = np.array([difference(base[unit], rounds[unit]) for unit in both])
    shift, spread = float(found[:, 0].mean()), float(found[:, 0].var(ddof=1))
    noise = found[:, 1][np.isfinite(found[:, 1])]
    sampling = float(noise.mean()) if len(noise) else 0.0
    df = len(both) - 1.0
    spread = _widened(spread, df)
    return Link(alone, shift, spread / len(both), df, max(spread - sampling, 0.0))


def _widened(spread: float, df: float) -> float:
    """Return a variance that few units tell, as large as their few degrees of freedom ask for.

    It stands in intervals beside the noise of rounds, which is known much better and lends its
    degrees of freedom to the sum. So it gets its quantile here, before noise is taken off: two or
    three units that agree by luck prove nothing.
    """
    return spread * (float(quantile(0.975, df)) / NORMAL) ** 2


def between(d: Floats, within: Floats) -> tuple[float, float]:
    """Return by how much units differ of their own between two sessions, and how well it is known.

    Units may really have changed, up to half of them: the spread is Rousseeuw and Croux's Qn
    (1993), the first quartile of what pairs differ by, with its corrections for few values.

    Args:
        d: what each unit differs by, on the log scale.
        within: the variance of that by the noise of rounds.

    Returns:
        The variance beyond the noise, larger where few units tell it, NaN for a single one; its
        degrees of freedom.
    """
    from statsmodels.robust.scale import qn_scale

    n = len(d)
    if n < 2:
        return float("nan"), 0.0
    few = n < len(QN_OF_FEW)
    spread = float(qn_scale(d)) * (QN_OF_FEW[n] if few else n / (n + (1.4 if n % 2 else 3.8)))
    df = max(1.0, QN_EFFICIENCY[0 if few else 1] * (n - 1))
    return max(_widened(spread**2, df) - float(np.median(within)), 0.0), df


def _notes(lost: int, disturbed: bool) -> tuple[str, ...]:
    if not lost:
        return ()
    both = "nothing measured in both"
    do = "Measuring again with the same command adds anchors, cells measured in both sessions."
    if disturbed:
        both = "too little measured in both while the machine was undisturbed"
        do = "`--remeasure` measures all in one session."
    return (
        f"{lost} cells were measured in another session than the others, with {both}: they are "
        f"left out of all comparisons. {do}",
    )
