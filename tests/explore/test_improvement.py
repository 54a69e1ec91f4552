"""Exact volumes and expectations, held against counting and against draws."""

from __future__ import annotations

import numpy as np
import pytest

from dlas.explore.improvement import chance, expected, free, front, inside, volume
from dlas.explore.surrogate import Beliefs


def test_the_front_is_what_nothing_dominates() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [2.5, 2.5], [1.0, 3.0], [3.0, 3.0]])
    assert front(points).tolist() == [0, 1, 2]
    assert front(points[:, :1]).tolist() == [0]


@pytest.mark.parametrize("metrics", [1, 2, 3, 4])
def test_a_volume_is_the_share_of_draws_that_are_dominated(metrics: int) -> None:
    rng = np.random.default_rng(metrics)
    points = rng.random((9, metrics))
    draws = rng.random((200_000, metrics))
    dominated = np.any(np.all(points[:, None] <= draws[None], axis=2), axis=0)
    assert volume(points, np.ones(metrics)) == pytest.approx(dominated.mean(), abs=0.005)


def test_nothing_beyond_the_reference_counts() -> None:
    assert volume(np.array([[0.5, 2.0]]), np.ones(2)) == 0.0
    assert volume(np.empty((0, 2)), np.ones(2)) == 0.0


@pytest.mark.parametrize("metrics", [1, 2, 3])
def test_boxes_are_disjoint_and_free(metrics: int) -> None:
    rng = np.random.default_rng(metrics)
    points = rng.random((6, metrics))
    boxes = free(points, np.ones(metrics))
    draws = rng.uniform(-0.5, 1.0, (20_000, metrics))
    dominated = np.any(np.all(points[:, None] <= draws[None], axis=2), axis=0)
    inside_ = (boxes.low[:, None] <= draws) & (draws < boxes.high[:, None])
    assert np.array_equal(inside_.all(2).sum(0), (~dominated).astype(int))


@pytest.mark.parametrize("metrics", [1, 2, 3])
def test_the_expected_gain_is_the_mean_gain_of_draws(metrics: int) -> None:
    rng = np.random.default_rng(metrics)
    points, reference = rng.random((5, metrics)), np.ones(metrics)
    mean, sd = rng.uniform(0, 0.8, (2, metrics)), rng.uniform(0.05, 0.3, (2, metrics))
    beliefs = [Beliefs(mean[:, k], sd[:, k]) for k in range(metrics)]
    found = expected(beliefs, free(points, reference))
    before = volume(points, reference)
    for row in range(2):
        draws = rng.normal(mean[row], sd[row], (1500, metrics))
        gains = [volume(np.vstack([points, draw]), reference) - before for draw in draws]
        assert found[row] == pytest.approx(np.mean(gains), rel=0.15, abs=1e-3)


def test_a_stack_that_is_certain_gains_what_it_adds() -> None:
    points = np.array([[0.5, 0.5]])
    sure = [
        Beliefs(np.array([0.25, 0.6]), np.zeros(2)),
        Beliefs(np.array([0.75, 0.6]), np.zeros(2)),
    ]
    gains = expected(sure, free(points, np.ones(2)))
    assert gains == pytest.approx([0.25 * 0.25, 0.0], abs=1e-9)


def test_probabilities() -> None:
    belief = Beliefs(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert chance(belief, 0.0) == pytest.approx([0.5, 0.1587], abs=1e-3)
    boxes = free(np.array([[0.0]]), np.array([np.inf]))
    assert inside([belief], boxes) == pytest.approx([0.5, 0.1587], abs=1e-3)
