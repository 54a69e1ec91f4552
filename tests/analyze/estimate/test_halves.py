"""Two halves of the rounds: no cell that stopped early is lost, and none is favoured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlas.analyze.estimate.halves import Halves, halves
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table


def table(counts: list[int], fast: list[int], seed: int = 0) -> Table:
    """Return cells of exponential rounds, so many of each; those that are fast take half."""
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(counts)), counts)
    log = rng.exponential(0.02, len(row)) - np.log(2) * np.isin(row, fast)
    number = np.concatenate([np.arange(n) for n in counts])
    samples = pd.DataFrame({"row": row, "control": 0, "round": number, "log": log})
    cells = pd.DataFrame({
        "cell": [f"c{n}" for n in range(len(counts))], "host": "h", "status": "complete",
        "reason": "", "value": 1.0, "software": [f"s{n}" for n in range(len(counts))],
    })  # fmt: skip
    return Table(
        cells=cells, layers=("software",), parameters=(), metric="quiet_ms", least=True,
        samples=samples, strata=(),
    )  # fmt: skip


def split(counts: list[int], fast: list[int] | None = None, seed: int = 0) -> Halves:
    given = table(counts, fast or [], seed)
    return halves(given, estimate(given))


def test_quiet_cells_that_stopped_early_may_be_the_best() -> None:
    early = list(range(20, 28))
    both = split([6] * 20 + [4] * 8, early)
    assert not both.thin.any() and not both.notes
    for half in (both.one, both.other):
        assert int(np.argmin(half.mean)) in early


def test_the_least_is_of_equally_many_rounds_everywhere() -> None:
    """Else who has more rounds would look faster."""
    counts = [6] * 20 + [4] * 8
    seen = np.array([
        np.stack([both.one.mean, both.other.mean])
        for both in (split(counts, seed=seed) for seed in range(400))
    ])  # fmt: skip
    many, few = seen[..., :20].mean(), seen[..., 20:].mean()
    assert many == pytest.approx(0.01, rel=0.02)  # the least of two exponential values
    assert few == pytest.approx(many, rel=0.03)


def test_cells_with_fewer_than_four_rounds_where_most_have_more_are_left_out_and_it_is_said() -> (
    None
):
    both = split([6] * 10 + [3, 2, 1])
    assert both.thin.tolist() == [False] * 10 + [True] * 3
    assert "3 cells have too few rounds for two halves" in both.notes[0]
    assert np.isnan(both.one.mean[10:]).all() and np.isfinite(both.other.mean[:10]).all()


@pytest.mark.parametrize("rounds", [2, 3])
def test_where_all_have_few_rounds_a_half_is_what_there_is(rounds: int) -> None:
    both = split([rounds] * 6)
    assert both.split and not both.thin.any()


def test_what_a_session_adds_is_no_larger_in_a_half() -> None:
    """A linked cell's own shift between sessions is the same however many rounds there are."""
    rng = np.random.default_rng(3)
    seen = [(c, 0, r) for c in range(12) for r in range(6)]
    seen += [(c, 1, r + 6) for c in (*range(4), *range(12, 18)) for r in range(6)]
    samples = pd.DataFrame(seen, columns=["row", "session", "round"]).assign(control=0)
    moved = 0.05 * rng.normal(size=18)[samples["row"]] * samples["session"]
    samples = samples.assign(log=moved + rng.exponential(0.001, len(samples)))
    given = table([6] * 18, [])
    given = Table(**{**vars_of(given), "samples": samples})
    whole = estimate(given)
    both = halves(given, whole)
    linked = slice(12, 18)
    before, after = (x.var[linked, : x.own].sum(axis=1) for x in (whole, both.one))
    assert (before > 0.02**2).all()
    assert after == pytest.approx(before, rel=0.05)


def vars_of(made: Table) -> dict[str, object]:
    return {name: getattr(made, name) for name in (
        "cells", "layers", "parameters", "metric", "least", "strata"
    )}  # fmt: skip
