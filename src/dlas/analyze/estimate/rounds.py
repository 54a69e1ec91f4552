"""The model of rounds: log(value of a round) = cell + round + error, by least squares.

Round effects are common to all that was measured in a round; the error's variance differs by
stratum, so that the fit is weighted by it (iterated; a round effect is then known best from the
quiet strata).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Bools, Floats, Ints, codes
from dlas.core.least import of_units, pool

LEAST_DF = 6.0
"""A stratum with fewer degrees of freedom is pooled with the other small ones."""
LEAST_UNITS = 4
"""With fewer units in a round, strata cannot be told apart."""
SMALL = "(small strata)"
ALL = "all"


@dataclass(frozen=True)
class Units:
    """What was measured in rounds: each cell, and each A/A control apart from its cell."""

    row: Ints
    """Row of the table, by unit."""
    control: Ints
    """0 for a cell itself, by unit."""
    unit: Ints
    """Number of the unit, by observation."""
    round: Ints
    """Number of the round, by observation."""
    log: Floats
    """Logarithm of what was measured, by observation."""
    session: Ints
    """Number of the session, by observation."""
    order: Ints | None = None
    """Place in time, by observation, where it is known."""

    @property
    def count(self) -> Ints:
        """Rounds of each unit."""
        return np.bincount(self.unit, minlength=len(self.row))


@dataclass(frozen=True)
class Solved:
    """Units' values and the noise of their rounds."""

    mean: Floats
    """Mean over rounds, net of round effects, by unit."""
    net: Floats
    """What was measured, net of round effects, by observation."""
    square: Floats
    """Sum of squared residuals, by unit."""


@dataclass(frozen=True)
class Variances:
    """The variance of one round by stratum."""

    names: list[str]
    sigma2: Floats
    df: Floats
    """0: nothing is known of a stratum whose units have a single round each."""
    of_unit: Ints
    """Stratum of each unit."""

    @property
    def known(self) -> Bools:
        """Of which units the noise is known."""
        return np.asarray(self.df[self.of_unit] > 0)


def units_of(samples: pd.DataFrame) -> Units:
    """Number the units of a table's samples."""
    keys = samples[["row", "control"]].to_numpy(dtype=np.int64)
    unit = codes([keys[:, 0], keys[:, 1]], len(keys))
    first = np.unique(unit, return_index=True)[1]
    return Units(
        keys[first, 0],
        keys[first, 1],
        unit,
        samples["round"].to_numpy(dtype=np.int64),
        samples["log"].to_numpy(dtype=float),
        samples["session"].to_numpy(dtype=np.int64)
        if "session" in samples
        else np.zeros(len(samples), dtype=np.int64),
        samples["order"].to_numpy(dtype=np.int64) if "order" in samples else None,
    )


def fit(units: Units, weight: Floats | None = None) -> Solved:
    """Solved cells and rounds by weighted least squares (alternating; exact without holes).

    Args:
        units: what was measured.
        weight: one over the error's variance, by unit; equal weights where None.
    """
    each = np.ones(len(units.unit)) if weight is None else weight[units.unit]
    total = np.maximum(np.bincount(units.round, each), 1e-300)
    count = units.count
    effect = np.zeros(len(total))
    for _ in range(100):
        cell = np.bincount(units.unit, units.log - effect[units.round]) / count
        new = np.bincount(units.round, each * (units.log - cell[units.unit])) / total
        done = float(np.max(np.abs(new - effect), initial=0.0)) < 1e-11
        effect = new
        if done:
            break
    net = np.asarray(units.log - effect[units.round])
    mean = np.asarray(np.bincount(units.unit, net) / count)
    square = np.bincount(units.unit, (net - mean[units.unit]) ** 2)
    return Solved(mean, net, np.asarray(square, dtype=float))


def medians(units: Units, found: Solved) -> Floats:
    """Return the median over rounds, net of round effects, by unit."""
    grouped = pd.Series(found.net).groupby(units.unit)
    return np.asarray(grouped.median().to_numpy(dtype=float))


def variances(units: Units, first: Solved, label: list[str]) -> tuple[Solved, Variances]:
    """Estimate the error's variance by stratum and fit again with it.

    In a stratum of m units E[sum of squares] = degrees of freedom x (sigma2 - 1/W), where W is
    the sum of all weights in a round: the part of the noise that round effects take away. It
    is given back, so that the variances are unbiased. Strata are pooled where they are too
    small, or too few units are measured together to tell them apart.
    """
    of_unit, names = _merged(units, label)
    spare = _spare(units, of_unit, len(names))
    together = float(np.mean(np.bincount(units.round)[units.round]))
    if len(names) == 1 or together < LEAST_UNITS:
        total = max(float(spare.sum() - _round_df(units)), 0.0)
        value = float(first.square.sum() / total) if total > 0 else 0.0
        one = np.zeros(len(units.row), dtype=np.int64)
        name = names if len(names) == 1 else [ALL]
        return first, Variances(name, np.array([value]), np.array([total]), one)
    found, taken = first, np.zeros(len(names))
    sigma2 = _of_known(_by_stratum(first.square, of_unit, len(names)), spare)
    for _ in range(8):
        weight = 1 / np.maximum(sigma2, 1e-18)[of_unit]
        found = fit(units, weight)
        # a round may hold nothing: that of a session which could not be linked
        back = 1 / np.maximum(np.bincount(units.round, weight[units.unit]), 1e-300)
        stratum = of_unit[units.unit]
        mean = _by_stratum(back[units.round], stratum, len(names)) / np.bincount(stratum)
        taken = mean / np.maximum(sigma2, 1e-18)
        sigma2 = _of_known(_by_stratum(found.square, of_unit, len(names)), spare) + mean
    df = np.asarray(spare * (1 - np.minimum(taken, 1.0)), dtype=float)
    return found, Variances(names, np.asarray(sigma2, dtype=float), df, of_unit)


def kurtosis(units: Units, found: Solved, noise: Variances) -> float:
    """Return the excess kurtosis of the error of a round, over all strata; never below 0.

    Of n errors around their mean E[r^4] = s^4 (3 (1 - 1/n)^2 + k ((1 - 1/n)^4 + (n - 1) / n^4)).
    """
    n = units.count[units.unit].astype(float)
    sigma2 = noise.sigma2[noise.of_unit[units.unit]]
    use = (n > 1) & (sigma2 > 0)
    if not use.any():
        return 0.0
    r, n = (found.net - found.mean[units.unit])[use] / np.sqrt(sigma2[use]), n[use]
    left = (1 - 1 / n) ** 4 + (n - 1) / n**4
    return max(0.0, float((r**4 - 3 * (1 - 1 / n) ** 2).sum() / left.sum()))


def least_of_rounds(units: Units) -> tuple[Floats, Floats]:
    """Return the expected least of three rounds of each unit, and the size of its noise."""
    return of_units(units.log, units.unit)


def pooled(units: Units, noise: Floats, label: list[str]) -> Variances:
    """Pool the sizes of noise within strata."""
    of_unit, names = _merged(units, label)
    spare = _spare(units, of_unit, len(names))
    found = [pool(noise[of_unit == s], float(spare[s])) for s in range(len(names))]
    sigma2, df = (np.array(column) for column in zip(*found, strict=True))
    return Variances(names, sigma2, df, of_unit)


def _of_known(square: Floats, spare: Floats) -> Floats:
    """Return the variance of strata; one of single rounds counts as little as the noisiest."""
    found = np.divide(square, spare, out=np.zeros(len(spare)), where=spare > 0)
    found[spare <= 0] = found.max(initial=0.0)
    return found


def _by_stratum(values: Floats, of_unit: Ints, strata: int) -> Floats:
    return np.asarray(np.bincount(of_unit, values, minlength=strata), dtype=float)


def _merged(units: Units, label: list[str]) -> tuple[Ints, list[str]]:
    """Number the strata, small ones pooled together."""
    of_unit, names = pd.factorize(np.asarray(label, dtype=object))
    spare = _spare(units, of_unit, len(names))
    if len(names) > 1 and (spare < LEAST_DF).any():
        kept = [str(x) if n >= LEAST_DF else SMALL for x, n in zip(names, spare, strict=True)]
        of_unit, names = pd.factorize(np.asarray([kept[s] for s in of_unit], dtype=object))
    return np.asarray(of_unit, dtype=np.int64), [str(x) for x in names]


def _spare(units: Units, of_unit: Ints, strata: int) -> Floats:
    """Return the degrees of freedom of each stratum's rounds around their cells."""
    return _by_stratum(np.asarray(units.count - 1.0), of_unit, strata)


def _round_df(units: Units) -> int:
    """Degrees of freedom that round effects use beyond one for each group of linked rounds."""
    rounds = np.unique(units.round)
    parent: dict[int, int] = {int(r): int(r) for r in rounds}

    def root(r: int) -> int:
        while parent[r] != r:
            r = parent[r]
        return r

    last: dict[int, int] = {}
    for unit, r in zip(units.unit.tolist(), units.round.tolist(), strict=True):
        if unit in last:
            parent[root(r)] = root(last[unit])
        last[unit] = r
    return len(rounds) - len({root(int(r)) for r in rounds})
