"""A metric of all stacks from few that were measured: a Gaussian process over factors.

log metric = a trend in what is known beforehand + single factors + pairs + triples
(:mod:`dlas.explore.anova`). Every stack gets a value with an interval, and so does every effect of
a level and every interaction of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from dlas.core.sampler import StackSpace
from dlas.explore.anova import AnovaKernel, Codes, Floats, newton
from dlas.explore.hyperparameters import Hyperparameters, Likelihood, evidence, fitted, trend

ORDER = 3
FEWEST_SD = 1e-9


@dataclass(frozen=True)
class Beliefs:
    """What is believed of stacks: each normal, with its standard deviation."""

    mean: Floats
    sd: Floats

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Return the ends of the central interval of each."""
        from scipy.stats import norm

        half = float(norm.ppf(0.5 + level / 2)) * self.sd
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Surrogate:
    """A fitted Gaussian process; values are as they were given (logarithms, if they were)."""

    candidates: StackSpace
    grid: AnovaKernel
    facts: Likelihood
    shape: Hyperparameters
    centre: float
    unit: float
    known: Floats | None
    """What is known of the stacks measured."""

    @cached_property
    def root(self) -> Floats:
        """The Cholesky factor of the covariance of what was measured."""
        return np.asarray(cholesky(self.facts.covariance(self.shape), lower=True))

    @cached_property
    def whitened(self) -> Floats:
        """The measured values, seen through the root."""
        return np.asarray(solve_triangular(self.root, self.facts.values, lower=True))

    @cached_property
    def alpha(self) -> Floats:
        """The weight of each measured stack."""
        return np.asarray(solve_triangular(self.root.T, self.whitened, lower=False))

    @cached_property
    def similar(self) -> Floats:
        """How alike two levels of a factor are."""
        return self.grid.similar(self.shape.inverse)

    @cached_property
    def weights(self) -> Floats:
        """The weight of each elementary polynomial."""
        return self.grid.scale(self.shape.amplitudes[:-1])

    # ------------------------------------------------------------ values

    def predict(self, at: Codes | None = None) -> Beliefs:
        """Return beliefs of stacks (all of them by default), without the noise of a measurement.

        ``at``: numbers of stacks.
        """
        codes = self.candidates.codes if at is None else self.candidates.codes[at]
        known = _scaled(self.candidates, at)
        orders = self.grid.polynomials(self.grid.spread(codes), self.similar, self.facts.spread)
        cross = np.zeros_like(orders[0])
        for weight, polynomial in zip(self.weights, orders, strict=True):
            cross += weight * polynomial
        prior = np.full(len(codes), float(self.shape.amplitudes[:-1].sum()))
        linear = trend(known, self.known)
        if linear is not None and known is not None:
            cross += self.shape.amplitudes[-1] * linear
            prior += self.shape.amplitudes[-1] * np.mean(known**2, axis=1)
        return self._posterior(cross, prior)

    def _posterior(self, cross: Floats, prior: Floats) -> Beliefs:
        seen = solve_triangular(self.root, cross.T, lower=True, check_finite=False)
        mean = cross @ self.alpha
        var = np.clip(prior - np.einsum("ij,ij->j", seen, seen), FEWEST_SD**2, None)
        return Beliefs(self.centre + self.unit * mean, self.unit * np.sqrt(var))

    @cached_property
    def left_out(self) -> Beliefs:
        """What would be believed of each measured stack, noise included, had it been left out.

        In closed form (Rasmussen and Williams 2006, section 5.4.2), with these hyperparameters.
        """
        half = solve_triangular(self.root, np.eye(len(self.root)), lower=True)
        precision = np.einsum("ij,ij->j", half, half)
        mean = self.facts.values - self.alpha / precision
        return Beliefs(self.centre + self.unit * mean, self.unit / np.sqrt(precision))

    # ------------------------------------------------------------ effects

    def effects(self) -> Mapping[str, Beliefs]:
        """Return, for each factor, how far each level is from the mean over its levels.

        The other factors are averaged over their levels, each level as often as in the space; the
        trend in what is known beforehand is left apart.
        """
        found = {}
        for i, axis in enumerate(self.grid.axes):
            pick = self._picked({i: np.eye(len(axis.levels))})
            found[axis.name] = self._contrast(pick, _away(self._shares(i)))
        return found

    def interactions(self) -> Mapping[tuple[str, str], Beliefs]:
        """Return, for each pair of factors, what each pair of levels adds to their effects.

        In the order of the levels of the first, then of the second.
        """
        found = {}
        axes = self.grid.axes
        for i, first in enumerate(axes):
            for j in range(i + 1, len(axes)):
                sizes = len(first.levels), len(axes[j].levels)
                left = np.repeat(np.eye(sizes[0]), sizes[1], axis=0)
                right = np.tile(np.eye(sizes[1]), (sizes[0], 1))
                away = np.asarray(np.kron(_away(self._shares(i)), _away(self._shares(j))), float)
                pick = self._picked({i: left, j: right})
                found[first.name, axes[j].name] = self._contrast(pick, away)
        return found

    def _shares(self, axis: int) -> Floats:
        counts = np.bincount(
            self.candidates.codes[:, axis], minlength=len(self.grid.axes[axis].levels)
        )
        return np.asarray(counts / counts.sum(), dtype=np.float64)

    def _picked(self, chosen: Mapping[int, Floats]) -> Floats:
        """Return weights over the columns of the grid: levels chosen, the others averaged."""
        rows = len(next(iter(chosen.values())))
        parts = [
            chosen.get(i, np.tile(self._shares(i), (rows, 1))) for i in range(len(self.grid.axes))
        ]
        return np.concatenate(parts, axis=1)

    def _contrast(self, picked: Floats, away: Floats) -> Beliefs:
        cross = self._averaged(picked, self.facts.spread)
        prior = away @ self._averaged(picked, picked) @ away.T
        found = self._posterior(away @ cross, np.diag(prior).copy())
        return Beliefs(found.mean - self.centre, found.sd)

    def _averaged(self, left: Floats, right: Floats) -> Floats:
        """Return the kernel of averages over levels: each factor's own average, then the sums."""
        starts, total = self.grid.starts, np.zeros((len(left), len(right)))
        parts = [
            left[:, a:b] @ self.similar[a:b, a:b] @ right[:, a:b].T for a, b in pairwise(starts)
        ]
        sums = [np.sum([part**k for part in parts], axis=0) for k in range(1, self.grid.order + 1)]
        for weight, polynomial in zip(self.weights, newton(sums), strict=True):
            total += weight * polynomial
        return total


def fit(candidates: StackSpace, at: Codes, values: Floats) -> Surrogate:
    """Fit to the values of the stacks ``at`` (at least one; finite)."""
    grid = AnovaKernel(candidates.axes, min(ORDER, len(candidates.axes)))
    values = np.asarray(values, float)
    centre, unit = float(values.mean()), float(values.std())
    unit = unit if unit > 0 else 1.0
    known = _scaled(candidates, at)
    facts = evidence(grid, candidates.codes[at], (values - centre) / unit, known)
    shape, _ = fitted(facts)
    return Surrogate(candidates, grid, facts, shape, centre, unit, known)


def _scaled(candidates: StackSpace, at: NDArray[np.int64] | None) -> Floats | None:
    """Return what is known of stacks, each figure with mean 0 and deviation 1 over the space."""
    if candidates.known is None:
        return None
    figures = candidates.known
    spread = figures.std(0)
    scaled = (figures - figures.mean(0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(scaled if at is None else scaled[at])


def _away(shares: Floats) -> Floats:
    """Return what takes the mean off values of levels."""
    n = len(shares)
    return np.asarray(np.eye(n) - np.tile(shares, (n, 1)))
