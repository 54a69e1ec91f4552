"""Designs over stacks that are there: what they cover, and how much they tell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlas.study import screening


def grid(*sizes: int) -> screening.Codes:
    return np.array(list(itertools.product(*(range(n) for n in sizes))), dtype=np.int64)


def pairs(codes: screening.Codes) -> set[tuple[int, int, int, int]]:
    columns = range(codes.shape[1])
    return {
        (i, int(row[i]), j, int(row[j]))
        for row in codes
        for i, j in itertools.combinations(columns, 2)
    }


@pytest.mark.parametrize("sizes", [(2,) * 8, (3, 3, 2, 5), (4,), (2, 7)])
def test_pairwise_covers_every_pair_with_few(sizes: tuple[int, ...]) -> None:
    codes = grid(*sizes)
    chosen = screening.pairwise(codes)
    assert len(set(chosen)) == len(chosen)
    assert pairs(codes[chosen]) == pairs(codes)
    least = np.prod(sorted(sizes)[-2:])
    assert len(chosen) <= 2 * least


def test_pairwise_never_asks_for_what_a_rule_refuses() -> None:
    codes = grid(3, 3, 3)
    codes = codes[codes[:, 0] != codes[:, 1]]
    assert pairs(codes[screening.pairwise(codes)]) == pairs(codes)


def test_choices_covers_every_level() -> None:
    codes = grid(2, 5, 3)
    chosen = codes[screening.choices(codes)]
    assert [set(column) for column in chosen.T] == [set(range(n)) for n in (2, 5, 3)]
    assert len(chosen) == 5


def test_terms_are_orthogonal_over_the_whole() -> None:
    model = screening.terms(grid(2, 3, 4), "pairs")
    assert model.shape == (24, 1 + 6 + 2 + 3 + 6)
    assert np.allclose(model.T @ model / 24, np.eye(model.shape[1]))


@pytest.mark.parametrize("effects", ["singles", "pairs"])
def test_d_optimal_tells_more_than_chance(effects: str) -> None:
    codes = grid(2, 3, 4, 2)
    model = screening.terms(codes, effects)
    n = model.shape[1] + 4
    rng = np.random.default_rng(0)

    def worth(rows: list[int]) -> float:
        return float(np.linalg.slogdet(model[rows].T @ model[rows])[1])

    chosen = screening.d_optimal(codes, n, effects)
    assert len(set(chosen)) == n
    chance = [worth(rng.choice(len(codes), n, replace=False).tolist()) for _ in range(50)]
    assert worth(chosen) > max(chance)


def test_d_optimal_of_a_half_fraction_is_orthogonal() -> None:
    codes = grid(2, 2, 2)
    chosen = screening.d_optimal(codes, 4)
    model = screening.terms(codes, "singles")[chosen]
    assert np.allclose(model.T @ model, 4 * np.eye(4))


def test_d_optimal_keeps_what_it_is_given_first() -> None:
    assert screening.d_optimal(grid(3, 3, 3), 6, first=[5, 7])[:2] == [5, 7]
    assert len(screening.d_optimal(grid(2, 2), 9)) == 4


def test_neighbours_are_the_nearest_first() -> None:
    codes = grid(3, 3, 3)
    found = screening.neighbours(codes, 13, 1)
    assert found[0] == 13
    assert len(found) == 1 + 3 * 2
    assert len(screening.neighbours(codes, 13, 3)) == 27
