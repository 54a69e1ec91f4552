"""Disturbed readings left out, or drift taken off: whichever leaves less in doubt."""

from __future__ import annotations

import numpy as np

from dlas.core.quieted import doubt, quieted

CELLS, ROUNDS = 60, 5


def told(way: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    units = np.concatenate([rng.permutation(CELLS) for _ in range(ROUNDS)])
    at = np.arange(len(units))
    logs = rng.normal(size=CELLS)[units] + np.abs(rng.normal(0, 0.004, len(units)))
    if way == "spells":
        logs += (at // 40 % 2) * rng.uniform(0.3, 0.9, CELLS)[units]
    elif way == "drift":
        logs += 0.02 * np.sin(at / 30)
    nobody = np.zeros(len(units), dtype=np.int64)
    found = quieted(logs, units, at, nobody, [nobody], nobody)
    assert not (found.told & (way == "quiet")).any()
    before = doubt(logs, units)
    return (
        found.told,
        found.kept,
        found.logs - logs,
        doubt(found.logs[found.kept], units[found.kept]) / before,
    )


def test_spells_are_left_out() -> None:
    bad, kept, _, ratio = told("spells")
    assert 0.4 < bad.mean() < 0.6
    assert kept.mean() < 0.7
    assert ratio < 0.7  # a few cells have too few undisturbed readings


def test_a_drift_is_taken_off() -> None:
    bad, kept, less, ratio = told("drift")
    assert kept.all() and not bad.any()
    assert np.abs(less).max() > 0.01
    assert ratio < 0.6


def test_of_a_quiet_machine_all_stands() -> None:
    _, kept, less, ratio = told("quiet")
    assert kept.all()
    assert np.abs(less).max() < 0.002
    assert ratio <= 1


def test_a_single_reading_is_in_doubt_as_others_are() -> None:
    logs = np.array([0.0, 0.1, 0.0, 0.1, 5.0])
    units = np.array([0, 0, 1, 1, 2])
    assert doubt(logs, units) > doubt(logs[:4], units[:4])
    assert doubt(logs[[0, 2]], units[[0, 2]]) == 0.0
