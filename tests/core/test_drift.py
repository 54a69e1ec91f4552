"""The drift of a machine: found where it was planted, and not where it was not."""

from __future__ import annotations

import numpy as np
import pytest

from dlas.core.drift import drift

CELLS, ROUNDS = 40, 5
ONE = np.zeros(CELLS * ROUNDS, dtype=int)


def session(seed: int, size: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logs, cells and what was planted, of shuffled rounds in the order of measuring."""
    rng = np.random.default_rng(seed)
    cells = np.concatenate([rng.permutation(CELLS) for _ in range(ROUNDS)])
    path = size * np.sin(np.arange(len(cells)) / 11 + rng.uniform(0, 6))
    own = rng.normal(size=CELLS)
    return own[cells] + path + rng.normal(0, noise, len(cells)), cells, path


def test_what_was_planted_is_found() -> None:
    logs, cells, path = session(1, 0.10, 0.03)
    found = drift(logs, cells, np.arange(len(logs)), ONE)
    assert np.corrcoef(found.at, path)[0, 1] > 0.95
    assert 0.7 < found.explained < 0.95, "the drift's share is 0.85"
    left = logs - found.at
    spread = [np.std(each[cells == c]) for each in (logs, left) for c in range(CELLS)]
    assert np.mean(spread[CELLS:]) < np.mean(spread[:CELLS]) / 1.7


def test_noise_alone_is_hardly_ever_taken_for_drift() -> None:
    taken = 0
    for seed in range(200):
        logs, cells, _ = session(1000 + seed, 0.0, 0.05)
        found = drift(logs, cells, np.arange(len(logs)), ONE)
        taken += bool(found.at.any())
        assert found.at.any() == (found.explained > 0)
    assert taken <= 4


def test_a_group_that_feels_more_gets_more_taken_off() -> None:
    logs, cells, path = session(6, 0.10, 0.02)
    much = cells % 2 == 1
    found = drift(logs + much * path, cells, np.arange(len(logs)), much.astype(int)).at
    slope = [float(np.polyfit(path[own], found[own], 1)[0]) for own in (~much, much)]
    assert 0.8 < slope[0] < 1.2 < 1.5 < slope[1] < 2.2


def test_neither_the_order_of_the_rows_nor_the_size_of_a_cell_matters() -> None:
    logs, cells, _ = session(3, 0.10, 0.03)
    order = np.arange(len(logs))
    found = drift(logs, cells, order, ONE).at
    mixed = np.random.default_rng(0).permutation(len(logs))
    assert drift(logs[mixed], cells[mixed], order[mixed], ONE).at == pytest.approx(found[mixed])
    larger = np.where(cells == 7, logs + 5, logs)
    assert drift(larger, cells, order, ONE).at == pytest.approx(found)


def test_one_bad_reading_does_not_stain_its_neighbours() -> None:
    logs, cells, path = session(4, 0.10, 0.02)
    order = np.arange(len(logs))
    bad = logs.copy()
    bad[60] += 2.0
    found, before = drift(bad, cells, order, ONE).at, drift(logs, cells, order, ONE).at
    near = np.abs(found - before)[55:66]
    assert near.max() < 0.04
    assert np.corrcoef(found, path)[0, 1] > 0.9


@pytest.mark.parametrize("cells", [[0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0] * 12])
def test_too_little_to_tell_is_none(cells: list[int]) -> None:
    rng = np.random.default_rng(5)
    found = drift(
        rng.normal(size=len(cells)), np.array(cells), np.arange(len(cells)), ONE[: len(cells)]
    )
    assert not found.at.any()
    assert found.explained == 0
