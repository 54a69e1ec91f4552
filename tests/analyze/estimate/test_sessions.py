"""Cells of a later session: compared through anchors with honest intervals, or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, from_study
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.sessions import linked
from dlas.analyze.parts.effects import speedups

MODELS, RUNTIMES = 12, ("a", "b", "c")
ROUNDS, SHIFT, OWN, NOISE = 5, 0.08, 0.027, 0.01


def study(anchors: int, seed: int = 0, effect: float = 0.0):
    """Runtimes a and b in one session, c in another in which the machine is 8 % slower."""
    rng = np.random.default_rng(seed)
    cells, rounds = [], []
    for runtime in RUNTIMES:
        for model in range(MODELS):
            name = f"{runtime}{model}"
            true = 0.5 * model + (effect if runtime == "c" else 0.0)
            cells.append(
                (name, "h", "complete", "d", f"m{model}", "none", "native", runtime, "cpu")
            )
            again = ["two"] if runtime != "c" and model % (MODELS // max(anchors, 1)) == 0 else []
            for session in ["two"] if runtime == "c" else ["one", *(again if anchors else [])]:
                moved = rng.normal(0, OWN) + (SHIFT if session == "two" else 0.0)
                for r in range(ROUNDS):
                    log = true + moved + abs(rng.normal(0, NOISE))
                    rounds.append((name, 0, r, "h", session, float(np.exp(log))))
    layers = ["dataset", "model", "optimization", "algorithm", "software", "hardware"]
    frame = pd.DataFrame(cells, columns=["cell", "host", "status", *layers])
    seen = pd.DataFrame(
        rounds, columns=["cell", "control", "round", "host", "session", "quiet_ms"]
    )
    return frame.assign(quiet_ms=1.0), seen


def test_a_runtime_of_another_session_is_compared_through_anchors() -> None:
    inside, n = 0, 60
    for seed in range(n):
        table = from_study(*study(anchors=4, seed=seed), baseline={"software": "a"})
        row = speedups(table, estimate(table))[0].query("level == 'c'").iloc[0]
        inside += row["low"] <= 1 <= row["high"]
    assert inside / n > 0.88


def test_without_anchors_nothing_is_claimed_and_it_is_said() -> None:
    found = analyze(from_study(*study(anchors=0)))
    assert set(found.speedups.query("layer == 'software'")["level"]) <= {"a", "b"}
    assert any("12 cells were measured in another session" in note for note in found.table.notes)


def test_the_shift_is_taken_off_and_its_doubt_is_shared() -> None:
    table = from_study(*study(anchors=6))
    known = estimate(table)
    late = table.cells["software"].eq("c").to_numpy()
    assert known.sessions == 1
    assert (known.var[late, -1] > 0).all() and not known.var[~late, -1].any()
    one, two = np.flatnonzero(late)[:2], np.flatnonzero(~late)[:2]
    within = known.gap(one[:1], one[1:])
    across = known.gap(one[:1], two[:1])
    assert within[0, -1] == pytest.approx(0) and across[0, -1] == pytest.approx(
        known.var[one[0], -1]
    )
    total = np.stack([across[0] * 4])
    alike = known.averaged(total, np.array([4.0]))
    assert alike[0, -1] == pytest.approx(known.var[one[0], -1])  # four contexts do not help
    assert alike[0, 0] == pytest.approx(across[0, 0] / 4)


def test_one_session_is_left_as_it_is() -> None:
    samples = pd.DataFrame(
        {"row": [0, 0, 1], "control": 0, "session": 0, "round": [0, 1, 0], "log": [1.0, 2.0, 3.0]}
    )
    assert linked(samples).samples is samples and not linked(samples).links
