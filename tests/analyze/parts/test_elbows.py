"""Elbows of curves of accuracy and time, each by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.elbows import elbows, worth_of
from dlas.core.goals import Goals

DROP = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.1),))
MS = {"": 10.0, "0.2": 8.0, "0.4": 6.4, "0.6": 6.0, "0.8": 5.9}
ACCURACY = {"": 0.90, "0.2": 0.90, "0.4": 0.895, "0.6": 0.86, "0.8": 0.70}


def table(goals=DROP, ms=MS, accuracy=ACCURACY, n=10**6, rounds=4, noise=0.001, models="ab"):
    rng = np.random.default_rng(0)
    rows = [
        {
            "model": m, "opt": f"thin(s={s})" if s else "none", "opt.s": s, "round": r,
            "ms": ms[s] * (i + 1) * np.exp(rng.normal(0, noise)), "accuracy": accuracy[s],
            "accuracy_n": n, "accuracy_drop": accuracy[""] - accuracy[s],
        }
        for i, m in enumerate(models) for s in ms for r in range(rounds)
    ]  # fmt: skip
    return load_table(
        pd.DataFrame(rows), layers=["model", "opt"], metric="ms", rounds="round",
        baseline=["opt=none"], goals=goals,
    )  # fmt: skip


def found(*args, **options):
    made = table(*args, **options)
    return elbows(made, estimate(made))


def test_an_elbow_by_hand():
    """Saved by the steps: 20 %, 20 %, 6.25 %, 1.7 %; taken of 0.1: 0, 5 %, 35 %, 160 %."""
    one = found().iloc[0]
    assert (one["level"], one["low"], one["high"]) == (0.4, 0.4, 0.4)
    assert one["next"] == 0.6
    assert one["gain"] == pytest.approx(0.0625, abs=0.005)
    assert one["cost"] == pytest.approx(0.35)
    assert one["levels"] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert one["accuracy"] == list(ACCURACY.values())
    assert one["metric"] == pytest.approx([v / 10 for v in MS.values()], rel=0.01)
    assert (one["factor"], one["technique"]) == ("opt.s", "thin")


def test_noise_widens_the_interval():
    one = found(noise=0.3).iloc[0]
    assert one["low"] < 0.4
    few = found(n=100).iloc[0]
    assert few["low"] == 0.0
    assert few["high"] >= 0.6


def test_every_step_may_pay():
    one = found(
        accuracy=dict.fromkeys(MS, 0.9), ms={k: 10 / (1 + float(k or 0)) for k in MS}
    ).iloc[0]
    assert (one["level"], one["low"], one["high"]) == (0.8, 0.8, np.inf)
    assert np.isnan(one["next"])


def test_what_saves_nothing_bends_at_once():
    one = found(ms=dict.fromkeys(MS, 10.0)).iloc[0]
    assert one["level"] == 0.0


def test_beyond_the_limit_no_step_pays():
    """Each step saves half and takes 30 % of what is allowed; the fourth would break the limit."""
    steps = ("", "0.1", "0.2", "0.3", "0.4", "0.5")
    ms = {s: 0.5**i for i, s in enumerate(steps)}
    accuracy = {s: 0.9 - 0.03 * i for i, s in enumerate(steps)}
    one = found(ms=ms, accuracy=accuracy).iloc[0]
    assert one["level"] == 0.3
    assert one["accuracy"][3] == pytest.approx(0.81)


@pytest.mark.parametrize(
    ("goals", "level"),
    [
        (Goals(minimize=("ms",), at_least=(("accuracy", 0.8),)), 0.4),
        (Goals(minimize=("ms",), maximize=("accuracy",)), 0.6),
    ],
)
def test_what_accuracy_is_worth(goals, level):
    """A share of what may be lost against a share of time; or a share of accuracy itself."""
    assert found(goals).iloc[0]["level"] == level


@pytest.mark.parametrize("goals", [Goals(), Goals(minimize=("ms",))])
def test_without_a_word_on_accuracy_there_is_none(goals):
    assert found(goals).empty
    assert "nothing of accuracy" in worth_of(table(goals))


def test_without_noise_there_is_no_interval():
    one = found(rounds=1).iloc[0]
    assert one["level"] == 0.4
    assert np.isnan(one["low"]) and np.isnan(one["high"])


def test_levels_that_are_no_shares_do_not_begin_at_nothing():
    names = {"": "", "0.2": "1", "0.4": "2", "0.6": "3", "0.8": "4"}
    ms, accuracy = ({names[k]: v for k, v in d.items()} for d in (MS, ACCURACY))
    assert found(ms=ms, accuracy=accuracy).iloc[0]["levels"] == [1.0, 2.0, 3.0, 4.0]


def test_the_analysis_tells_it():
    sentences = [f.sentence for f in analyze(table()).findings if f.kind == "elbow"]
    assert len(sentences) == 1
    assert "The elbow of opt.s of thin is at 0.400 in 2 of 2 contexts" in sentences[0]
    assert "95 % interval 0.400 to 0.400" in sentences[0]
    assert (
        "the step to 0.600 saves 6.2 % of ms and takes 35 % of the 0.100 of accuracy"
        in sentences[0]
    )
