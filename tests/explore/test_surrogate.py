"""The Gaussian process: exact polynomials and gradients, effects it was made from, intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from dlas.core.sampler import Axis, StackSpace
from dlas.explore import belief, hyperparameters, surrogate
from dlas.explore.anova import AnovaKernel, newton

AXES = (
    Axis("model", ("a", "b", "c")),
    Axis("software", ("x", "y")),
    Axis("threads", ("1", "2", "4"), (0.0, 0.5, 1.0)),
    Axis("pruning", ("none", "half")),
)
CODES = np.array(list(itertools.product(range(3), range(2), range(3), range(2))), dtype=np.int64)
SPACE = StackSpace(AXES, CODES)


def truth(codes: np.ndarray) -> np.ndarray:
    """Log latency: three single effects and one interaction."""
    model, software, threads, pruning = codes.T
    return (
        0.5 * model + 0.4 * software - 0.6 * threads / 2 - 0.2 * pruning
        + 0.5 * ((software == 1) & (pruning == 1))
    )  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_newton_gives_the_symmetric_polynomials(order: int) -> None:
    z = np.random.default_rng(0).random((5, 4, 4))
    sums = [np.sum(z**k, axis=0) for k in range(1, order + 1)]
    for q, found in enumerate(newton(sums)):
        products = [np.prod(z[list(c)], axis=0) for c in itertools.combinations(range(5), q)]
        assert np.allclose(found, np.sum(products, axis=0))


@pytest.mark.parametrize("known", [False, True])
def test_the_slope_is_the_slope(known: bool) -> None:
    rng = np.random.default_rng(1)
    at = rng.permutation(len(CODES))[:14]
    figures = rng.normal(size=(14, 2)) if known else None
    facts = hyperparameters.evidence(AnovaKernel(AXES, 3), CODES[at], rng.normal(size=14), figures)
    theta = 0.4 * rng.normal(size=3 + 2 + 4 + 1)
    _, slope = facts.loss(theta)
    numeric = approx_fprime(theta, lambda t: facts.loss(t)[0], 1e-6)
    assert np.allclose(slope, numeric, atol=1e-3)


def test_half_of_the_stacks_tell_the_others() -> None:
    at = np.random.default_rng(0).permutation(len(CODES))[:18]
    rest = np.setdiff1d(np.arange(len(CODES)), at)
    found = surrogate.fit(SPACE, at, truth(CODES[at])).predict(rest)
    assert np.abs(found.mean - truth(CODES[rest])).max() < 0.15
    assert np.abs(truth(CODES[rest]) - truth(CODES[at]).mean()).mean() > 0.3


def test_what_was_measured_is_believed() -> None:
    at = np.arange(0, 36, 2)
    found = surrogate.fit(SPACE, at, truth(CODES[at])).predict()
    assert np.allclose(found.mean[at], truth(CODES[at]), atol=0.05)
    unseen = np.arange(1, 36, 2)
    assert found.sd[unseen].mean() > found.sd[at].mean()


def test_left_out_is_what_leaving_out_gives() -> None:
    at = np.random.default_rng(2).permutation(len(CODES))[:12]
    whole = surrogate.fit(SPACE, at, truth(CODES[at]))
    k = 5
    rest = np.delete(np.arange(12), k)
    facts = hyperparameters.Likelihood(
        whole.grid, whole.facts.spread[rest], whole.facts.values[rest], None
    )
    one = surrogate.Surrogate(
        SPACE, whole.grid, facts, whole.shape, whole.centre, whole.unit, None
    )
    there = one.predict(at[k : k + 1])
    assert np.isclose(whole.left_out.mean[k], there.mean[0])
    noise = whole.shape.noise * whole.unit**2
    assert np.isclose(whole.left_out.sd[k] ** 2, there.sd[0] ** 2 + noise)


def test_effects_and_the_interaction_are_found() -> None:
    model = surrogate.fit(SPACE, np.arange(len(CODES)), truth(CODES))
    effects = model.effects()
    assert np.allclose(np.diff(effects["model"].mean), 0.5, atol=0.05)
    assert np.isclose(effects["threads"].mean.sum(), 0, atol=1e-6)
    both = model.interactions()
    largest = max(both, key=lambda pair: float(np.abs(both[pair].mean).max()))
    assert largest == ("software", "pruning")
    assert np.allclose(both[largest].mean, [0.125, -0.125, -0.125, 0.125], atol=0.02)
    low, high = both[largest].interval()
    assert (low < both[largest].mean).all()
    assert (both[largest].mean < high).all()


def test_known_figures_carry_over_to_a_model_never_measured() -> None:
    size = np.array([0.0, 1.0, 3.0])[CODES[:, 0]]
    values = truth(CODES) - 0.5 * CODES[:, 0] + 0.8 * size
    space = StackSpace(AXES, CODES, known=size[:, None])
    at, rest = np.flatnonzero(CODES[:, 0] < 2), np.flatnonzero(CODES[:, 0] == 2)
    with_it = surrogate.fit(space, at, values[at]).predict(rest).mean
    without = surrogate.fit(SPACE, at, values[at]).predict(rest).mean
    off = [np.abs(m - values[rest]).mean() for m in (with_it, without)]
    assert off[0] < 0.6 * off[1]


def test_intervals_hold_what_they_say() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(10):
        at = rng.permutation(len(CODES))[:16]
        values = truth(CODES) + 0.05 * rng.normal(size=len(CODES))
        rest = np.setdiff1d(np.arange(len(CODES)), at)
        low, high = belief.believe(SPACE, at, values[at]).interval()
        inside += list((low[rest] <= values[rest]) & (values[rest] <= high[rest]))
    assert 0.88 <= np.mean(inside) <= 1.0


def test_a_forest_counts_where_a_cliff_is() -> None:
    rng = np.random.default_rng(4)
    axes = tuple(Axis(f"f{i}", tuple("0123456789"), tuple(np.linspace(0, 1, 10))) for i in (0, 1))
    codes = np.array(list(itertools.product(range(10), range(10))), dtype=np.int64)
    space = StackSpace(axes, codes)
    values = np.where((codes[:, 0] >= 5) ^ (codes[:, 1] >= 5), 3.0, 0.0)
    values = values + np.where(codes[:, 0] == 7, 2.0, 0.0)
    at = rng.permutation(100)[:60]
    rest = np.setdiff1d(np.arange(100), at)
    both = belief.believe(space, at, values[at]).mean
    alone = surrogate.fit(space, at, values[at]).predict().mean
    assert np.abs(both - values)[rest].mean() <= np.abs(alone - values)[rest].mean() + 1e-9


def test_equal_values_are_no_trouble() -> None:
    found = belief.believe(SPACE, np.arange(12), np.full(12, 3.0))
    assert np.allclose(found.mean, 3.0)
    assert np.isfinite(found.sd).all()
