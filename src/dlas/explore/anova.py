"""The kernel of stacks: a sum over orders of products over factors (ANOVA; Durrande et al. 2013).

With one one-dimensional kernel ``z_i`` a factor, ``K = sum_q a_q E_q(z_1 ... z_d) / C(d, q)``:
``E_q`` is the elementary symmetric polynomial of order q, so ``a_1`` is the share of single
factors, ``a_2`` of pairs, ``a_3`` of triples. Newton's identities give all of them from the power
sums; factors have few levels, so that every power sum is one product of small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from dlas.core.sampler import Axis

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class AnovaKernel:
    """Factors laid side by side: one column a level."""

    axes: tuple[Axis, ...]
    order: int

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each factor's columns begin; one more at the end."""
        return np.cumsum([0, *(len(axis.levels) for axis in self.axes)])

    @cached_property
    def distances(self) -> Floats:
        """Squared distances between the levels of each factor, ``(columns, columns)``.

        Two levels of an unordered factor are equal (0) or not (1).
        """
        return np.asarray(block_diag(*(_distances(axis) for axis in self.axes)))

    @cached_property
    def inside(self) -> Floats:
        """1 where row and column are levels of one factor, else 0."""
        sizes = np.diff(self.starts)
        return np.asarray(block_diag(*(np.ones((n, n)) for n in sizes)))

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """Which factor each column belongs to."""
        return np.repeat(np.arange(len(self.axes)), np.diff(self.starts))

    def spread(self, codes: Codes) -> Floats:
        """Return stacks as 0 and 1, ``(n, columns)``."""
        out = np.zeros((len(codes), int(self.starts[-1])))
        np.put_along_axis(out, codes + self.starts[:-1], 1.0, axis=1)
        return out

    def similar(self, inverse: Floats) -> Floats:
        """Return ``z`` of each pair of levels of one factor; ``inverse``: its inverse length."""
        return np.exp(-self.distances * inverse[self.owner][:, None]) * self.inside

    def scale(self, amplitudes: Floats) -> Floats:
        """Return the weight of each ``E_q``."""
        d = len(self.axes)
        return np.array([a / comb(d, q) for q, a in enumerate(amplitudes)])

    def polynomials(self, left: Floats, z: Floats, right: Floats) -> list[Floats]:
        """Return ``E_0 ... E_order`` of two sets of stacks, each ``(len(left), len(right))``."""
        sums = [left @ z**k @ right.T for k in range(1, self.order + 1)]
        return newton(sums)


def newton(sums: Sequence[Floats]) -> list[Floats]:
    """Return elementary symmetric polynomials ``E_0 ...`` from power sums ``P_1 ...``."""
    found = [np.ones_like(sums[0])]
    for n in range(1, len(sums) + 1):
        terms = ((-1) ** (k - 1) * found[n - k] * sums[k - 1] for k in range(1, n + 1))
        found.append(sum(terms, np.zeros_like(sums[0])) / n)
    return found


def _distances(axis: Axis) -> Floats:
    n = len(axis.levels)
    if axis.positions is None:
        return 1.0 - np.eye(n)
    at = np.asarray(axis.positions, float)
    return np.asarray((at[:, None] - at[None, :]) ** 2)
