"""How likely a choice is the best: against closed forms, and against how often it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dlas.analyze.estimate.estimated import UNKNOWN, Estimates
from dlas.analyze.estimate.levels import Ints
from dlas.analyze.parts.odds import odds


def known(mean: Any, var: Any, df: Any, sessions: int = 0, kind: str = "rounds") -> Estimates:
    mean, var = np.asarray(mean, dtype=float), np.asarray(var, dtype=float)
    none = pd.DataFrame()
    return Estimates(kind, mean, mean, var, np.asarray(df, dtype=float), none, none,
                     sessions=sessions)  # fmt: skip


def rows(count: int) -> Ints:
    return np.arange(count, dtype=np.int64)


def test_of_two_it_is_what_the_normal_distribution_says() -> None:
    found = odds(known([0.0, 0.02], [[1e-4], [3e-4]], [np.inf]), rows(2))
    assert found.chance == pytest.approx(stats.norm.cdf(0.02 / 0.02), abs=0.02)
    # E[-gap | gap < 0] of a normal gap, mean 0.02 and deviation 0.02
    lost = 0.02 * (stats.norm.pdf(1) / stats.norm.cdf(-1) - 1)
    assert found.regret == pytest.approx(np.expm1(lost), rel=0.1)


def test_few_degrees_of_freedom_have_long_tails() -> None:
    found = odds(known([0.0, 0.02], [[1e-4], [0.0]], [2]), rows(2))
    assert found.chance == pytest.approx(stats.t.cdf(2, 2), abs=0.02)


def test_what_rows_have_in_common_drops_out() -> None:
    both = known([0.0, 0.01], [[1e-6, 1.0], [1e-6, 1.0]], [np.inf, np.inf], sessions=1)
    assert odds(both, rows(2)).chance == 1
    one = known([0.0, 0.01], [[1e-6, 0.0], [1e-6, 1e-4]], [np.inf, np.inf], sessions=1)
    assert odds(one, rows(2)).chance == pytest.approx(stats.norm.cdf(1), abs=0.02)


def test_alone_it_is_sure_and_without_noise_nothing_is_said() -> None:
    assert odds(known([0.0], [[1e-4]], [9]), rows(1)).chance == 1
    for kind, mean in ((UNKNOWN, [0.0, 0.1]), ("rounds", [0.0, np.nan])):
        assert np.isnan(odds(known(mean, [[1e-4], [1e-4]], [9], kind=kind), rows(2)).chance)


def test_a_probability_is_how_often_it_is_so() -> None:
    """Truths seen with an error: of those told 60 to 90 % so many are."""
    rng = np.random.default_rng(5)
    chances, hits = [], []
    for truth in rng.uniform(-0.05, 0.05, size=(400, 3)):
        seen = truth + 0.01 * rng.standard_normal(3)
        first = np.argsort(seen)
        chance = odds(known(seen, [[1e-4]] * 3, [np.inf]), first.astype(np.int64)).chance
        chances.append(chance)
        hits.append(truth.argmin() == first[0])
    told, right = np.array(chances), np.array(hits)
    some = (told > 0.6) & (told < 0.9)
    assert some.sum() > 60
    error = np.sqrt(0.25 / some.sum())
    assert abs(right[some].mean() - told[some].mean()) < 3 * error
