"""Rounds of disturbed times do not count in the undisturbed latency, and that is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.halves import halves
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.spared import calmed
from dlas.analyze.estimate.table import Table
from dlas.core.disturbed import ENOUGH

CELLS, ROUNDS = 48, 6


def table(
    seed: int, *, least: bool = True, order: bool = True, poor: int = 0
) -> tuple[Table, np.ndarray]:
    """Cells of two thread counts; those of two take longer in every other spell of 30 readings.

    The first ``poor`` of them are only measured in such times.
    """
    rng = np.random.default_rng(seed)
    true = rng.normal(size=CELLS)
    rows = np.concatenate([rng.permutation(CELLS) for _ in range(ROUNDS)])
    at = np.arange(len(rows))
    slow = (at // 30 % 2 == 1) & (rows % 2 == 1)
    for row in range(1, 2 * poor, 2):  # changes places with others that are disturbed
        for place in np.flatnonzero((rows == row) & ~slow):
            others = np.flatnonzero(slow & (rows > 2 * poor) & (at // CELLS == place // CELLS))
            middle = others[np.argmin(np.abs(others % 30 - 15))]
            rows[[place, middle]] = rows[[middle, place]]
    felt = rng.uniform(0.3, 0.8, CELLS)
    log = true[rows] + np.abs(rng.normal(0, 0.005, len(rows))) + slow * felt[rows]
    samples = pd.DataFrame(
        {"row": rows, "control": 0, "round": at // CELLS, "log": log, "order": at}
    )
    cells = pd.DataFrame({
        "cell": [f"c{n}" for n in range(CELLS)], "host": "h", "status": "complete", "reason": "",
        "value": 1.0, "software": [f"s{n // 2 % 2}" for n in range(CELLS)],
        "hardware.threads": [str(1 + n % 2) for n in range(CELLS)],
    })  # fmt: skip
    made = Table(
        cells=cells, layers=("software",), parameters=("hardware.threads",), metric="quiet_ms",
        least=least, samples=samples if order else samples.drop(columns="order"),
        strata=("software", "hardware.threads"),
    )  # fmt: skip
    return made, true


def told_well(found: Estimates) -> np.ndarray:
    """Which rows are known to 10 %: those with two undisturbed rounds."""
    return np.sqrt(found.var.sum(axis=1)) < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_cells_are_close_to_their_truth_and_it_is_said(seed: int) -> None:
    given, true = table(seed)
    found, whole = estimate(given), estimate(table(seed, order=False)[0])
    sure, off = told_well(found), np.abs(found.mean - true)
    assert np.quantile(off[sure], 0.97) < 0.02 < 0.1 < np.abs(whole.mean - true).max()
    assert sure.mean() > 0.7
    assert np.mean(off < 2 * np.sqrt(found.var.sum(axis=1)) + 0.02) > 0.97
    assert found.disturbed is not None and 0.15 < found.disturbed < 0.35
    left_out = round(found.disturbed * CELLS * ROUNDS)
    assert any(f"{left_out} of {CELLS * ROUNDS} rounds" in note for note in found.notes)
    assert whole.disturbed is None and not whole.notes


def test_intervals_are_as_narrow_as_the_undisturbed_rounds_allow() -> None:
    found, whole = estimate(table(1)[0]), estimate(table(1, order=False)[0])
    two = np.flatnonzero(told_well(found) & (np.arange(CELLS) % 2 == 1))
    assert np.median(found.var[two].sum(axis=1)) < 0.3 * np.median(whole.var[two].sum(axis=1))


def test_latency_as_seen_keeps_all_rounds() -> None:
    found, kept = (estimate(table(2, least=False, order=order)[0]) for order in (True, False))
    assert found.mean == pytest.approx(kept.mean)
    assert found.disturbed is None


def test_what_was_only_measured_in_disturbed_times_is_in_doubt() -> None:
    held = []
    for seed in range(10):
        given, true = table(seed, poor=1)
        found = estimate(given)
        off, sd = found.mean[1] - true[1], float(np.sqrt(found.var[1].sum()))
        assert off > 0.2
        told = any(f"fewer than {ENOUGH} undisturbed rounds" in note for note in found.notes)
        held.append(told and off < 2 * sd)
    assert np.mean(held) >= 0.8  # at the ends of a spell its rounds look undisturbed


def test_halves_hold_undisturbed_rounds_alone() -> None:
    given, true = table(1)
    both = halves(given, estimate(given))
    for half in (both.one, both.other):
        told = np.isfinite(half.mean) & told_well(half)
        assert told.mean() > 0.6
        assert np.abs(half.mean - true)[told].max() < 0.03


def test_a_slow_drift_that_all_feel_alike_is_taken_off_instead() -> None:
    given, true = table(1)
    assert given.samples is not None
    at = given.samples["order"].to_numpy()
    log = true[given.samples["row"]] + 0.04 * np.sin(at / 25)
    drifting = replace(given, samples=given.samples.assign(log=log))
    calm = calmed(drifting, drifting.samples)
    assert calm.steady.explained > 0.9
    assert calm.spared.left_out == 0 or calm.doubt(()) < 1e-3


def test_what_was_never_undisturbed_is_in_doubt_though_nothing_is_left_out() -> None:
    """Of two rounds one is disturbed, so that all stand: those of the late readings are told."""
    doubted = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rows = np.concatenate([rng.permutation(CELLS) for _ in range(2)])
        at = np.arange(len(rows))
        slow = (at >= 30) & (rows % 2 == 1)
        given, true = table(seed)
        log = true[rows] + np.abs(rng.normal(0, 0.005, len(rows))) + slow * 0.5
        samples = pd.DataFrame(
            {"row": rows, "control": 0, "round": at // CELLS, "log": log, "order": at}
        )
        given = replace(given, samples=samples)
        found, calm = estimate(given), calmed(given, samples)
        if calm.spared.left_out or not calm.spared.more:
            continue
        doubted += 1
        rare = [row for row, _ in calm.spared.more]
        assert (np.sqrt(found.var[rare].sum(axis=1)) > 0.3).all()
        assert any(f"fewer than {ENOUGH} undisturbed rounds" in note for note in found.notes)
    assert doubted >= 3


def test_halves_take_each_host_as_it_was_taken_as_a_whole() -> None:
    """One host has spells, the other drifts: what is best for one is not for both."""
    spells, _ = table(1)
    drifts, true = table(2)
    assert spells.samples is not None and drifts.samples is not None
    at = drifts.samples["order"].to_numpy()
    log = true[drifts.samples["row"]] + 0.25 * np.sin(at / 25) + 0.002 * np.cos(7.0 * at)
    drifts = replace(drifts, samples=drifts.samples.assign(log=log))
    parts = [
        each.samples.assign(host=n, session=n, row=each.samples["row"] + CELLS * n)
        for n, each in enumerate((spells, drifts))
    ]
    known = [estimate(each) for each in (spells, drifts)]
    both = replace(
        spells,
        cells=pd.concat([spells.cells, drifts.cells.assign(host="i")], ignore_index=True),
        samples=pd.concat(parts, ignore_index=True),
        estimates=joined(known),
    )
    found = halves(both, estimate(both))
    alone = [halves(each, one) for each, one in zip((spells, drifts), known, strict=True)]
    for half in ("one", "other"):
        apart = np.concatenate([getattr(each, half).mean for each in alone])
        assert np.nanmax(np.abs(getattr(found, half).mean - apart)) < 0.02


def joined(known: list[Estimates]) -> Estimates:
    """Return the estimates of two hosts as one."""
    first, second = known
    n = len(first.mean)
    own = [
        np.vstack([first.var, np.zeros((n, first.var.shape[1]))]),
        np.vstack([np.zeros((n, second.var.shape[1])), second.var]),
    ]
    blocks = [
        block[:, part]
        for part in (slice(None, 1), slice(1, None))
        for block, each in zip(own, known, strict=True)
        for part in ([slice(0, each.own)] if part.stop else [slice(each.own, None)])
    ]
    df = [d[: e.own] for d, e in zip((first.df, second.df), known, strict=True)]
    df += [d[e.own :] for d, e in zip((first.df, second.df), known, strict=True)]
    return replace(
        first,
        mean=np.concatenate([first.mean, second.mean]),
        median=np.concatenate([first.median, second.median]),
        var=np.hstack(blocks),
        df=np.concatenate(df),
        sessions=first.sessions + second.sessions,
        strata=pd.concat([first.strata, second.strata], ignore_index=True),
        tails=None,
    )
