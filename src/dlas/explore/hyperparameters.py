"""The hyperparameters of the Gaussian process: maximum a posteriori, with analytic gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from dlas.explore.anova import AnovaKernel, Codes, Floats

JITTER = 1e-6
MOST_STEPS = 80
FIRST_LENGTH = -0.5
FIRST_NOISE = -4.0
LENGTH_PRIOR = 0.05
AMPLITUDE_PRIOR = 0.04
NOISE_PRIOR = 0.3
"""Precisions of the normal priors on logarithms."""
BOUNDS = {"amplitude": (-8.0, 8.0), "length": (-6.0, 4.0), "noise": (-12.0, 1.0)}
IMPOSSIBLE = 1e10


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters; amplitudes and noise are variances of standardized values."""

    amplitudes: Floats
    """Of each order, from 0; the last is that of the linear trend in what is known."""
    inverse: Floats
    """The inverse length of each factor."""
    noise: float


def _shape(grid: AnovaKernel, theta: Floats) -> Hyperparameters:
    q = grid.order + 2
    return Hyperparameters(
        np.exp(theta[:q]), np.exp(theta[q:-1]), float(np.exp(theta[-1])) + JITTER
    )


@dataclass(frozen=True)
class Likelihood:
    """The stacks measured, ``values`` standardized; ``trend``: the products of what is known."""

    grid: AnovaKernel
    spread: Floats
    values: Floats
    trend: Floats | None

    def covariance(self, shape: Hyperparameters) -> Floats:
        """Return the covariance of the measured values."""
        return self._terms(shape)[0] + shape.noise * np.eye(len(self.values))

    def _terms(self, shape: Hyperparameters) -> tuple[Floats, list[Floats], Floats]:
        z = self.grid.similar(shape.inverse)
        orders = self.grid.polynomials(self.spread, z, self.spread)
        weights = self.grid.scale(shape.amplitudes[:-1])
        total = sum((w * e for w, e in zip(weights, orders, strict=True)), 0 * orders[0])
        if self.trend is not None:
            total = total + shape.amplitudes[-1] * self.trend
        return total, orders, z

    def loss(self, theta: Floats) -> tuple[float, Floats]:
        """Return the negative logarithm of the posterior, and its gradient."""
        shape = _shape(self.grid, theta)
        total, orders, z = self._terms(shape)
        n = len(self.values)
        try:
            root = cholesky(total + shape.noise * np.eye(n), lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return IMPOSSIBLE, np.zeros_like(theta)
        half = solve_triangular(root, np.eye(n), lower=True, check_finite=False)
        inverse = half.T @ half
        alpha = inverse @ self.values
        value = 0.5 * float(self.values @ alpha) + float(np.log(np.diag(root)).sum())
        pull = inverse - np.outer(alpha, alpha)
        slope = np.concatenate([
            self._of_amplitudes(shape, orders, pull),
            self._of_lengths(shape, orders, z, pull),
            [0.5 * np.trace(pull) * (shape.noise - JITTER)],
        ])  # fmt: skip
        prior, of_prior = self._prior(theta)
        return value + prior, slope + of_prior

    def _of_amplitudes(self, shape: Hyperparameters, orders: list[Floats], pull: Floats) -> Floats:
        weights = self.grid.scale(shape.amplitudes[:-1])
        found = [0.5 * w * np.sum(pull * e) for w, e in zip(weights, orders, strict=True)]
        of_trend = 0.0
        if self.trend is not None:
            of_trend = 0.5 * shape.amplitudes[-1] * float(np.sum(pull * self.trend))
        return np.array([*found, of_trend])

    def _of_lengths(
        self, shape: Hyperparameters, orders: list[Floats], z: Floats, pull: Floats
    ) -> Floats:
        """Return the slopes of the logarithms of the inverse lengths.

        ``dE_q/dz_i = sum_k (-z_i)^k E_(q-1-k)``, so that every power k is one product of matrices
        for all factors at once.
        """
        weights = self.grid.scale(shape.amplitudes[:-1])
        by_level = np.zeros_like(z)
        for k in range(self.grid.order):
            upper = range(k + 1, self.grid.order + 1)
            rest = sum((weights[q] * orders[q - 1 - k] for q in upper), np.zeros_like(pull))
            by_level += (-z) ** k * (self.spread.T @ (pull * rest) @ self.spread)
        slopes = by_level * (-self.grid.distances * z)
        return 0.5 * shape.inverse * np.add.reduceat(slopes.sum(1), self.grid.starts[:-1])

    def _prior(self, theta: Floats) -> tuple[float, Floats]:
        q = self.grid.order + 2
        precision = np.concatenate([
            np.full(q, AMPLITUDE_PRIOR), np.full(len(theta) - q - 1, LENGTH_PRIOR),
                [NOISE_PRIOR],
        ])  # fmt: skip
        centre = np.concatenate([np.zeros(len(theta) - 1), [FIRST_NOISE]])
        off = theta - centre
        return 0.5 * float(np.sum(precision * off**2)), precision * off


def fitted(evidence: Likelihood, first: Floats | None = None) -> tuple[Hyperparameters, Floats]:
    """Return the most probable hyperparameters, and their logarithms."""
    grid, q = evidence.grid, evidence.grid.order + 2
    d = len(grid.axes)
    if first is None:
        first = np.concatenate([np.zeros(q), np.full(d, FIRST_LENGTH), [FIRST_NOISE]])
    bounds = [BOUNDS["amplitude"]] * q + [BOUNDS["length"]] * d + [BOUNDS["noise"]]
    found = minimize(
        evidence.loss, first, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": MOST_STEPS},
    )  # fmt: skip
    return _shape(grid, found.x), found.x


def evidence(grid: AnovaKernel, codes: Codes, values: Floats, known: Floats | None) -> Likelihood:
    """Gather what was measured; ``values`` standardized."""
    return Likelihood(grid, grid.spread(codes), values, trend(known, known))


def trend(left: Floats | None, right: Floats | None) -> Floats | None:
    """Return the kernel of a linear trend in what is known of two sets of stacks."""
    if left is None or right is None:
        return None
    return np.asarray(left @ right.T / left.shape[1])
