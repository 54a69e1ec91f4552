"""Readings of disturbed times: told by what is around them, never by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from dlas.core.disturbed import ENOUGH, Disturbed, disturbed

CELLS, ROUNDS = 60, 6


def session(
    seed: int, *, longer: float = 0.6, spell: int = 40, felt: tuple[int, ...] = (0, 1)
) -> tuple[Disturbed, np.ndarray, np.ndarray, np.ndarray]:
    """Measure cells in shuffled rounds; every other spell of readings is disturbed."""
    rng = np.random.default_rng(seed)
    units = np.concatenate([rng.permutation(CELLS) for _ in range(ROUNDS)])
    order = np.arange(len(units))
    group = units % 2
    true = (order + rng.integers(spell)) // spell % 3 == 2
    true &= np.isin(group, felt)
    logs = rng.normal(size=CELLS)[units] + np.abs(rng.normal(0, 0.01, len(units)))
    logs += true * longer * rng.uniform(0.5, 1.5, CELLS)[units]
    nobody = np.zeros(len(units), dtype=np.int64)
    found = disturbed(logs, units, order, [nobody, group], nobody)
    return found, true, units, logs


@pytest.mark.parametrize("felt", [(0, 1), (1,)])
def test_spells_are_found_by_whom_they_hit(felt: tuple[int, ...]) -> None:
    found, true, units, _ = session(0, felt=felt)
    assert np.mean(found.told == true) > 0.93
    assert not found.told[~np.isin(units % 2, felt)].any()
    assert found.more[found.told].min() > 0.3
    assert (np.bincount(units, found.kept, minlength=CELLS) >= ENOUGH).all()


def test_what_remains_is_the_undisturbed_value() -> None:
    found, true, units, logs = session(1, longer=0.8)
    kept = found.kept & ~found.told
    wrong = kept & true
    assert wrong.sum() < 0.05 * kept.sum()
    least = np.array([logs[(units == u) & kept].min() for u in range(CELLS)])
    calm = np.array([logs[(units == u) & ~true].min(initial=np.inf) for u in range(CELLS)])
    assert np.median(np.abs(least - calm)) == 0


def test_a_reading_has_no_say_in_whether_it_stands() -> None:
    found, _, units, logs = session(2)
    place = int(np.flatnonzero(~found.told)[30])
    rng = np.random.default_rng(2)
    rng.permutation(CELLS)
    more = logs.copy()
    more[place] += 3.0
    nobody = np.zeros(len(units), dtype=np.int64)
    again = disturbed(more, units, np.arange(len(units)), [nobody, units % 2], nobody)
    assert again.told[place] == found.told[place]


@pytest.mark.parametrize("noise", [0.003, 0.05, 0.3])
def test_noise_of_each_reading_is_no_disturbance_of_the_machine(noise: float) -> None:
    told = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        units = np.concatenate([rng.permutation(CELLS) for _ in range(ROUNDS)])
        logs = rng.normal(size=CELLS)[units] + np.abs(rng.normal(0, noise, len(units)))
        nobody = np.zeros(len(units), dtype=np.int64)
        found = disturbed(logs, units, np.arange(len(units)), [nobody, units % 2], nobody)
        told.append(found.told.any())
        assert found.kept.all() == (not found.told.any())
    assert not any(told)


def test_where_too_few_are_undisturbed_all_stand_and_are_told() -> None:
    found, _, units, _ = session(3)
    good = np.bincount(units, ~found.told, minlength=CELLS)
    rare = np.flatnonzero(good < ENOUGH)
    for unit in rare:
        assert found.kept[units == unit].all()
    rng = np.random.default_rng(4)
    units = np.concatenate([rng.permutation(20) for _ in range(4)] + [np.repeat(20, 4)])
    order = np.arange(len(units))
    logs = np.where(order >= 40, 0.7, 0.0) + np.abs(rng.normal(0, 0.005, len(units)))
    nobody = np.zeros(len(units), dtype=np.int64)
    found = disturbed(logs, units, order, [nobody], nobody)
    last = units == 20
    assert found.told[last].all() and found.kept[last].all()
    assert found.more[last].min() > 0.5
    assert not found.kept[(order >= 40) & ~last & found.told].any()


def test_sessions_are_judged_apart() -> None:
    one, true, units, logs = session(5)
    nobody = np.zeros(len(units), dtype=np.int64)
    quiet = np.concatenate([logs, logs[units.argsort(kind="stable")] * 0.0])
    found = disturbed(
        quiet, np.tile(units, 2), np.tile(np.arange(len(units)), 2),
        [np.tile(nobody, 2), np.tile(units % 2, 2)], np.repeat([0, 1], len(units)),
    )  # fmt: skip
    assert np.array_equal(found.told[: len(units)], one.told)
    assert not found.told[len(units) :].any()
    assert true.any()


def test_no_reading_and_one_reading_are_no_error() -> None:
    for n in (0, 1, 3):
        nobody = np.zeros(n, dtype=np.int64)
        found = disturbed(np.zeros(n), np.arange(n), np.arange(n), [nobody], nobody)
        assert found.kept.all() and not found.told.any()


@pytest.mark.parametrize(("cells", "rounds"), [(2, 4), (4, 4), (8, 2), (8, 4)])
def test_nor_is_it_in_a_session_of_few_cells(cells: int, rounds: int) -> None:
    for seed in range(60):
        rng = np.random.default_rng([seed, cells, rounds])
        units = np.concatenate([rng.permutation(cells) for _ in range(rounds)])
        logs = rng.normal(size=cells)[units] + rng.normal(0, 0.1, len(units))
        nobody = np.zeros(len(units), dtype=np.int64)
        found = disturbed(logs, units, np.arange(len(units)), [units % 2, units // 2 % 2], nobody)
        assert not found.told.any()


def test_what_is_left_of_a_unit_at_the_ends_of_a_spell_links_no_sessions() -> None:
    rng = np.random.default_rng(7)
    units = np.concatenate([rng.permutation(20) for _ in range(4)])
    order, first = np.arange(80), np.zeros(80, dtype=np.int64)
    logs = np.where(order >= 30, 0.5, 0.0) + np.abs(rng.normal(0, 0.005, 80))
    found = disturbed(logs, units, order, [first], first)
    few = np.bincount(units, ~found.told) < ENOUGH
    assert few.any() and not few.all()
    assert np.array_equal(found.links, ~found.told & ~few[units])
    # An undisturbed session of the same units does not make up for it, though what it tells of
    # them counts.
    again = np.abs(rng.normal(0, 0.005, 80))
    both = disturbed(
        np.concatenate([logs, again]), np.tile(units, 2), np.tile(order, 2), [np.tile(first, 2)],
        np.repeat([0, 1], 80),
    )  # fmt: skip
    assert np.array_equal(both.links, [*found.links, *[True] * 80])
    assert np.array_equal(both.kept, [*~found.told, *[True] * 80])
