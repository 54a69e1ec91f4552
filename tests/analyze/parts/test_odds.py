"""How likely a choice is the best: against closed forms, and against how often it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dlas.analyze import Analysis, analyze, load_table
from dlas.analyze.estimate.estimated import UNKNOWN, Estimates
from dlas.analyze.estimate.levels import Ints
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.odds import odds
from dlas.core.goals import Goals
from dlas.report import answer


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
    # The median of -gap where the gap is below 0: normal, mean and deviation 0.02.
    lost = -0.02 * (1 + stats.norm.ppf(stats.norm.cdf(-1) / 2))
    assert found.regret == pytest.approx(np.expm1(lost), rel=0.1)


def test_few_degrees_of_freedom_have_long_tails() -> None:
    found = odds(known([0.0, 0.02], [[1e-4], [0.0]], [2]), rows(2))
    assert found.chance == pytest.approx(stats.t.cdf(2, 2), abs=0.02)


def test_what_rows_have_in_common_drops_out() -> None:
    both = known([0.0, 0.01], [[1e-6, 1.0], [1e-6, 1.0]], [np.inf, np.inf], sessions=1)
    assert odds(both, rows(2)).chance == 1
    one = known([0.0, 0.01], [[1e-6, 0.0], [1e-6, 1e-4]], [np.inf, np.inf], sessions=1)
    assert odds(one, rows(2)).chance == pytest.approx(stats.norm.cdf(1), abs=0.02)


def test_one_degree_of_freedom_makes_no_regret_without_end() -> None:
    found = odds(known([0.0, 0.01], [[1e-4], [1e-4]], [1]), rows(2))
    assert 0.5 < found.chance < 0.8
    assert found.regret < 0.2


def test_alone_and_without_noise_nothing_is_said() -> None:
    assert np.isnan(odds(known([0.0], [[1e-4]], [9]), rows(1)).chance)
    for kind, mean in ((UNKNOWN, [0.0, 0.1]), ("rounds", [0.0, np.nan])):
        assert np.isnan(odds(known(mean, [[1e-4], [1e-4]], [9], kind=kind), rows(2)).chance)


def test_a_stratum_of_which_nothing_is_known_says_nothing_and_harms_no_other() -> None:
    var = [[1e-4, 0.0], [1e-4, 0.0], [0.0, 1e-4]]
    made = known([0.0, 0.01, 0.02], var, [9, 0])
    assert 0.5 < odds(made, rows(2)).chance < 1
    assert np.isnan(odds(made, rows(3)).chance)


def test_many_rivals_are_drawn_in_turns() -> None:
    """Of equal ones each is as likely the best."""
    count = 1000
    found = odds(known(np.zeros(count), np.full((count, 1), 1e-4), [50]), rows(count))
    assert found.chance == pytest.approx(1 / count, abs=4 * np.sqrt(1 / count / 4000))


def test_a_probability_is_how_often_it_is_so() -> None:
    """Truths seen with an error: of those told 60 to 70, 70 to 80, 80 to 90 % so many are."""
    rng = np.random.default_rng(5)
    chances, hits = [], []
    for truth in rng.uniform(-0.05, 0.05, size=(1500, 3)):
        seen = truth + 0.01 * rng.standard_normal(3)
        first = np.argsort(seen).astype(np.int64)
        chances.append(odds(known(seen, [[1e-4]] * 3, [np.inf]), first).chance)
        hits.append(truth.argmin() == first[0])
    told, right = np.array(chances), np.array(hits)
    for low in (0.6, 0.7, 0.8):
        some = (told > low) & (told < low + 0.1)
        assert some.sum() > 80
        error = np.sqrt(low * (1 - low) / some.sum())
        assert abs(right[some].mean() - told[some].mean()) < 3 * error


def study(cells: dict[str, tuple[float, float]], **goals: Any) -> Analysis:
    """Return what is said of models, each with its time and the accuracy that it loses."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {"model": m, "round": r, "ms": ms * np.exp(rng.normal(0, 0.01)), "mb": ms,
             "accuracy_drop": loss, "flips": 60 if loss else 4, "accuracy_n": 1000}
            for m, (ms, loss) in cells.items() for r in range(5)
        ]
    )  # fmt: skip
    wanted = Goals(**({"minimize": ("ms",), "at_most": (("accuracy_drop", 0.02),)} | goals))
    return analyze(load_table(frame, layers=["model"], metric="ms", rounds="round", goals=wanted))


def sentence(found: Analysis) -> str:
    return next(f.sentence for f in found.findings if f.kind == "best")


def test_what_may_fail_a_goal_has_no_part_in_it() -> None:
    unsure = {"a": (10.0, 0.0), "b": (8.0, 0.019), "c": (9.0, 0.019)}
    found = study(unsure)
    assert found.best.stack == {"model": "a"} and len(found.best.runners_up) == 2
    assert np.isnan(found.best.chance)
    assert "2 others cannot be told apart" in sentence(found)
    assert "probability" not in sentence(found)
    found = study({**unsure, "d": (10.05, 0.0)})
    assert found.best.sure and 0.5 < found.best.chance < 1 and found.best.regret > 0
    assert "the fastest of those that surely meet the goals with a probability" in sentence(found)
    found = study({"a": (10.0, 0.0), "d": (10.05, 0.0)})
    assert "it is the fastest of them with a probability of" in sentence(found)
    assert json.loads(found.to_json())["best"]["chance"] == found.best.chance
    rows_of = found.table.cells[["cell", "host"]].itertuples(index=False, name=None)
    shown_at = dict.fromkeys(rows_of, 0)
    shown = answer.best(found, shown_at)
    assert shown is not None and shown["chance"] == found.best.chance


def test_nothing_is_said_of_what_is_not_the_metric() -> None:
    found = study({"a": (10.0, 0.0), "b": (10.05, 0.0)}, minimize=("mb",))
    assert found.best.metric == "mb" and len(found.best.runners_up) == 1
    assert np.isnan(found.best.chance)
    assert "probability" not in sentence(found)


def test_a_runtime_measured_in_a_single_round_harms_no_analysis() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"model": m, "runtime": r, "round": k, "ms": (1 + i / 100) * np.exp(rng.normal(0, 0.02))}
        for i, m in enumerate("abcdefgh") for r, n in (("x", 4), ("y", 1)) for k in range(n)
    ]  # fmt: skip
    table = load_table(
        pd.DataFrame(rows), layers=["model", "runtime"], metric="ms", rounds="round",
        strata=["runtime"], goals=Goals(minimize=("ms",)),
    )  # fmt: skip
    assert 0 in estimate(table).df
    analyze(table)
