"""Rounds without the drift of the machine: closer to the truth, at the same level, and said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table

CELLS, ROUNDS, SIZE = 40, 4, 0.03


def table(seed: int, *, least: bool = True, order: bool = True) -> tuple[Table, np.ndarray]:
    """A table of shuffled rounds under a sine of a period of 60 readings, and the cells' truth."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=CELLS)
    rows = np.concatenate([rng.permutation(CELLS) for _ in range(ROUNDS)])
    at = np.arange(len(rows))
    drift = SIZE * np.sin(2 * math.pi * at / 60 + rng.uniform(0, 6))
    noise = np.abs(rng.normal(0, 0.005, len(rows)))
    samples = pd.DataFrame({
        "row": rows, "control": 0, "round": at // CELLS, "log": true[rows] + drift + noise,
        "order": at,
    })  # fmt: skip
    cells = pd.DataFrame({
        "cell": [f"c{n}" for n in range(CELLS)], "host": "h", "status": "complete", "reason": "",
        "value": 1.0, "software": [f"s{n % 2}" for n in range(CELLS)],
    })  # fmt: skip
    return (
        Table(
            cells=cells, layers=("software",), parameters=(), metric="quiet_ms", least=least,
            samples=samples if order else samples.drop(columns="order"), strata=("software",),
        ),
        true,
    )  # fmt: skip


def spread(found: Estimates, true: np.ndarray) -> float:
    return float(np.std(found.mean - true))


def test_cells_are_closer_to_their_truth_and_it_is_said() -> None:
    given, true = table(1)
    with_drift, _ = table(1, order=False)
    found, kept = estimate(given), estimate(with_drift)
    assert spread(found, true) < 0.75 * spread(kept, true)
    assert any("drift" in note and "% of the variance" in note for note in found.notes)
    assert not kept.notes


def test_no_stratum_is_made_faster() -> None:
    given, _ = table(2)
    found, kept = estimate(given), estimate(table(2, order=False)[0])
    for stratum in (0, 1):
        own = np.arange(CELLS) % 2 == stratum
        assert found.mean[own].mean() == pytest.approx(kept.mean[own].mean())


def test_what_is_in_doubt_of_the_level_drops_out_between_cells() -> None:
    found = estimate(table(3)[0])
    a, b = np.arange(0, 20), np.arange(20, 40)
    alone = found.var[a].sum(axis=1) + found.var[b].sum(axis=1)
    assert np.all(found.gap(a, b).sum(axis=1) < alone / 2)
    assert found.sessions == 3  # the levels of two strata, and of the machine


def test_the_level_of_a_stratum_is_one_error_for_all_its_cells() -> None:
    off, said, one = [], [], []
    for seed in range(40):
        given, true = table(seed)
        f = estimate(given)
        a, b = np.arange(0, CELLS, 2), np.arange(1, CELLS, 2)
        off.append(float((f.mean[a] - f.mean[b] - true[a] + true[b]).mean()))
        total, apart = (of(a, b).sum(axis=0) for of in (f.gap, f.apart))
        said.append(float(f.averaged(total, np.array(float(len(a))), apart).sum()))
        one.append(f.gap(a[:-1], a[1:])[:, f.own :])
    assert np.mean(np.square(off)) < 1.5 * np.mean(said)
    assert np.max(one) < 1e-12  # within a stratum it drops out


def test_latency_as_seen_keeps_the_drift() -> None:
    given, _ = table(4, least=False)
    found, kept = estimate(given), estimate(table(4, least=False, order=False)[0])
    assert found.mean == pytest.approx(kept.mean)
    assert not found.notes


def test_rounds_that_never_differ_have_no_error_to_raise() -> None:
    given, true = table(5, order=False)
    samples = given.samples.assign(log=true[given.samples["row"]])
    double = samples[samples["row"] < 20].assign(control=1, log=lambda s: s["log"] + 0.01)
    found = estimate(replace(given, samples=pd.concat([samples, double], ignore_index=True)))
    assert np.isfinite(found.inflation)
    assert not found.controls["inside"].any()
