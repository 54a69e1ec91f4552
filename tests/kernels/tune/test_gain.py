"""When a candidate counts as faster."""

import random

import pytest

from dlas.kernels.tune.gain import bound_rank, gain_of

chance = random.Random(7)


@pytest.mark.parametrize(
    ("count", "rank"),
    # The share that is covered, 1 - P(Binomial(n, 1/2) >= rank), by hand:
    [
        (0, None),
        (3, None),  # 1 - 1/8 = 87.5 %
        (5, None),  # 1 - 1/32 = 96.9 %
        (6, 6),  # 1 - 1/64 = 98.4 %
        (8, 8),  # 1 - 1/256 = 99.6 %; rank 7: 1 - 9/256 = 96.5 %
        (9, 8),  # 1 - 10/512 = 98.05 %; rank 7: 1 - 46/512 = 91.0 %
        (10, 9),  # 1 - 11/1024 = 98.9 %; rank 8: 1 - 56/1024 = 94.5 %
        (15, 12),  # 1 - 576/32768 = 98.2 %; rank 11: 1 - 1941/32768 = 94.1 %
    ],
)
def test_the_bound_of_a_median_holds_with_98_percent(count: int, rank: int | None) -> None:
    assert bound_rank(count) == rank


@pytest.mark.parametrize(("count", "slow", "won"), [(5, 0, 1), (6, 0, 2), (6, 1, 1), (15, 3, 2),
                                                    (15, 4, 1)])  # fmt: skip
def test_a_gain_is_told_if_its_bound_is_below_the_fixed_schedule(
    count: int, slow: int, won: float
) -> None:
    scale = chance.uniform(1e-6, 1.0)
    times = [scale / 2] * (count - slow) + [scale] * slow
    chance.shuffle(times)
    fixed = [scale] * count
    assert gain_of((fixed, fixed), (times, times)) == pytest.approx(won)
