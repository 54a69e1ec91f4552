"""Cells of a later session: compared through anchors with honest intervals, or not at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, from_study, load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.sessions import between, linked
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.effects import speedups
from dlas.analyze.parts.interactions import interactions

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


@pytest.mark.parametrize("anchors", [1, 2, 3])
def test_few_anchors_make_intervals_wide_and_not_wrong(anchors: int) -> None:
    """So many of either runtime: two, four or six in all."""
    inside = []
    for seed in range(24):
        table = from_study(*study(anchors=anchors, seed=seed), baseline={"software": "a"})
        contexts = speedups(table, estimate(table))[1].query("level == 'c'")
        inside.append((contexts["low"] <= 1) & (contexts["high"] >= 1))
    assert np.mean(inside) >= 0.93


def test_what_units_differ_by_of_their_own_is_told_from_few_and_from_half() -> None:
    """Their spread, less the noise; the quantile of few; no more though some really changed."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 5, 7, 10, 25, 60):
        seen = [between(rng.normal(0, 0.03, n), np.full(n, 1e-4)) for _ in range(3000)]
        each, df = np.array(seen).T
        assert 0.5 * (n - 1) <= df[0] <= n - 1
        new = rng.normal(0, 0.03, len(each))
        assert np.mean(np.abs(new) < 1.959964 * np.sqrt(each + 1e-4)) > 0.93, n
    assert np.sqrt(np.mean(each) + 1e-4) == pytest.approx(0.03, rel=0.06)
    changed = np.where(np.arange(60) < 29, 0.3, 0.0)
    some = [between(rng.normal(changed, 0.03), np.full(60, 1e-4))[0] for _ in range(50)]
    assert np.sqrt(np.median(some)) < 2.5 * 0.03
    assert np.isnan(between(np.array([0.1]), np.array([1e-4]))[0])


def test_interactions_keep_what_a_session_leaves_unknown() -> None:
    """One runtime with two threads was measured in another session: 10 % in doubt."""
    rows = [(m, r, t, 1.0) for m in "pqrs" for r in "ab" for t in (1, 2)]
    frame = pd.DataFrame(rows, columns=["model", "run", "threads", "ms"])
    table = load_table(frame, layers="model,run,threads", metric="ms")
    late = (frame["run"].eq("b") & frame["threads"].eq(2)).to_numpy()
    var = np.stack([np.full(len(frame), 1e-4), np.where(late, 0.01, 0.0)], axis=1)
    known = replace(estimate(table), kind="intervals", var=var, df=np.full(2, np.inf), sessions=1)
    row = interactions(table, known).query("layer == 'run' and by == 'threads'").iloc[0]
    assert np.log(row["high"] / row["low"]) / 2 == pytest.approx(1.959964 * np.sqrt(0.01 + 1e-4))
    # with one thread, too: then it is the same in both ratios
    both = np.stack([np.full(len(frame), 1e-4), np.where(frame["run"].eq("b"), 0.01, 0.0)], axis=1)
    row = (
        interactions(table, replace(known, var=both))
        .query("layer == 'run' and by == 'threads'")
        .iloc[0]
    )
    assert np.log(row["high"] / row["low"]) / 2 == pytest.approx(1.959964 * 0.01)


def test_a_session_that_cannot_be_linked_leaves_no_empty_rounds_behind() -> None:
    """Where several strata are fitted its rounds hold nothing: no warning, no claim."""
    cells, rounds = study(anchors=0)
    rng = np.random.default_rng(1)
    rounds = rounds.rename(columns={"quiet_ms": "latency_ms"})
    rounds["latency_ms"] *= np.exp(rng.normal(0, 0.02, len(rounds)))
    table = from_study(cells.rename(columns={"quiet_ms": "latency_ms"}), rounds)
    known = estimate(table)
    assert len(known.strata) > 1
    assert np.isfinite(known.mean).sum() == 2 * MODELS


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
    total, apart = across * 4, known.apart(one[:1], two[:1])
    alike = known.averaged(total, np.array([4.0]), 4 * apart)
    assert alike[0, -1] == pytest.approx(known.var[one[0], -1])  # four contexts do not help
    assert alike[0, 0] == pytest.approx(across[0, 0] / 4)
    half = known.averaged(total, np.array([4.0]), 2 * apart)  # two contexts of one session
    assert half[0, -1] == pytest.approx(known.var[one[0], -1] / 4)


def test_one_session_is_left_as_it_is() -> None:
    samples = pd.DataFrame(
        {"row": [0, 0, 1], "control": 0, "session": 0, "round": [0, 1, 0], "log": [1.0, 2.0, 3.0]}
    )
    assert linked(samples).samples is samples and not linked(samples).links


def disturbed_anchors(seed: int, calm: int) -> tuple[Table, np.ndarray]:
    """Twelve cells of a later session; its six anchors are measured while it is disturbed.

    And in ``calm`` rounds more, when it no longer is.
    """
    rng = np.random.default_rng(seed)
    seen = [(c, 0, r, 0.0) for r in range(4) for c in rng.permutation(20)]
    for r in range(8 + calm):
        own = [*range(20, 32), *(range(6) if r < 4 or r >= 8 else ())]
        seen += [(c, 1, 4 + r, 0.5 if r < 4 else 0.0) for c in rng.permutation(own)]
    samples = pd.DataFrame(seen, columns=["row", "session", "round", "slow"]).assign(control=0)
    felt = rng.uniform(0.8, 1.2, 32)[samples["row"]]
    log = samples["slow"] * felt + np.abs(rng.normal(0, 0.005, len(samples)))
    samples = samples.assign(log=log, order=np.arange(len(samples)))
    cells = pd.DataFrame({
        "cell": [f"c{n}" for n in range(32)], "host": "h", "status": "complete", "reason": "",
        "value": 1.0, "software": [f"s{n % 2}" for n in range(32)],
    })  # fmt: skip
    table = Table(
        cells=cells, layers=("software",), parameters=(), metric="quiet_ms", least=True,
        samples=samples, strata=("software",),
    )  # fmt: skip
    return table, np.arange(32) >= 20


@pytest.mark.parametrize("seed", range(4))
def test_anchors_that_were_disturbed_link_nothing_and_it_is_said(seed: int) -> None:
    given, later = disturbed_anchors(seed, calm=0)
    found = estimate(given)
    assert np.isnan(found.mean[later]).all() and np.isfinite(found.mean[~later]).all()
    assert any("in both while the machine was undisturbed" in note for note in found.notes)
    whole = estimate(replace(given, samples=given.samples.drop(columns="order")))
    assert np.nanmax(np.abs(whole.mean[later])) > 0.3  # what they would have said


@pytest.mark.parametrize("seed", range(4))
def test_anchors_that_were_measured_again_link(seed: int) -> None:
    given, later = disturbed_anchors(seed, calm=3)
    found = estimate(given)
    assert np.abs(found.mean[later]).max() < 0.02
    assert np.sqrt(found.var.sum(axis=1)).max() < 0.02
