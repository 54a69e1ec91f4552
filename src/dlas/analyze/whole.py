"""The whole analysis of a table."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from dlas.analyze.conclusion import Analysis
from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.halves import Halves, halves
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.alike import repeats_noted
from dlas.analyze.parts.breakeven import break_evens
from dlas.analyze.parts.contenders import near_best
from dlas.analyze.parts.correlate import correlations
from dlas.analyze.parts.coverage import comparable, coverage, failures
from dlas.analyze.parts.effects import losses, speedups
from dlas.analyze.parts.elbows import elbows
from dlas.analyze.parts.expected import expected
from dlas.analyze.parts.flips import flip_counts, flips
from dlas.analyze.parts.interactions import interactions, layer_pairs
from dlas.analyze.parts.limits import noted
from dlas.analyze.parts.ordered import returns, scaling
from dlas.analyze.parts.pareto import front
from dlas.analyze.parts.price import price
from dlas.analyze.parts.regret import regrets
from dlas.analyze.parts.roofline import roofline
from dlas.analyze.parts.shares import left_out, shares
from dlas.analyze.parts.taken import best, best_of_given
from dlas.analyze.parts.waterfall import waterfalls
from dlas.analyze.parts.ways import ways
from dlas.analyze.parts.winners import winner_maps, winners
from dlas.analyze.tell.findings import findings


def analyze(table: Table, *, triples: bool = False) -> Analysis:
    """Compute every part of the analysis of a table; deterministic, touches nothing else.

    Args:
        table: from ``load_table`` or ``from_study``.
        triples: also split the variance into triples of layers.
    """
    table, noise, both, split = _estimated(noted(table), triples=triples)
    one, promised, kept = (p(table, noise) for p in (speedups, expected, waterfalls))
    paid = price(table, noise, both)
    parts = Analysis(
        table=table,
        estimates=noise,
        near=near_best(table, noise),
        regrets=regrets(table, noise, both),
        shares=split,
        left_out=left_out(table, noise),
        speedups=one[0],
        speedup_contexts=one[1],
        losses=losses(table, noise),
        interactions=(tetrads := interactions(table, noise)),
        layer_pairs=layer_pairs(tetrads, table.floor, table.layers),
        flips=(turned := flips(table, noise)),
        flip_counts=flip_counts(turned),
        winners=winners(table, noise),
        winner_maps=winner_maps(table, noise),
        ways=ways(table, noise, both),
        scaling=scaling(table, noise),
        returns=returns(table, noise),
        elbows=elbows(table, noise),
        break_evens=break_evens(table, noise),
        expected=promised[0],
        expected_contexts=promised[1],
        price=paid[0],
        price_starts=paid[1],
        waterfalls=kept[0],
        waterfall_stacks=kept[1],
        roofline=roofline(table),
        correlations=correlations(table),
        front=front(table, noise),
        best=best(table, noise),
        best_of_given=best_of_given(table, noise),
        coverage=coverage(table),
        failures=failures(table),
        comparable=comparable(table, noise),
    )
    return replace(parts, findings=findings(parts))


def _estimated(table: Table, *, triples: bool) -> tuple[Table, Estimates, Halves, pd.DataFrame]:
    """Return a table with what must be known of its noise, the noise, its halves, the shares."""
    noise = estimate(table)
    both, split = halves(table, noise), shares(table, noise, triples=triples)
    notes = (*table.notes, *noise.notes, *repeats_noted(table, noise, split), *both.notes)
    return replace(table, notes=notes), noise, both, split
