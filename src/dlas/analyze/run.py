"""The whole analysis of a table."""

from __future__ import annotations

from dataclasses import replace

from dlas.analyze.breakeven import break_evens
from dlas.analyze.correlate import correlations
from dlas.analyze.coverage import comparable, coverage, failures
from dlas.analyze.effects import losses, speedups
from dlas.analyze.expected import expected
from dlas.analyze.findings import findings
from dlas.analyze.flips import flip_counts, flips
from dlas.analyze.interactions import interactions, layer_pairs
from dlas.analyze.noise import estimate
from dlas.analyze.ordered import returns, scaling
from dlas.analyze.pareto import best, front
from dlas.analyze.result import Analysis
from dlas.analyze.roofline import roofline
from dlas.analyze.shares import left_out, shares
from dlas.analyze.table import Table
from dlas.analyze.winners import winner_maps, winners


def analyze(table: Table, *, triples: bool = False) -> Analysis:
    """Compute every part of the analysis of a table; deterministic, touches nothing else.

    Args:
        table: from ``load_table`` or ``from_study``.
        triples: also split the variance into triples of layers.
    """
    noise = estimate(table)
    one, contexts = speedups(table, noise)
    tetrads = interactions(table, noise)
    turned = flips(table, noise)
    promised, promised_contexts = expected(table, noise)
    parts = Analysis(
        table=table,
        estimates=noise,
        shares=shares(table, noise, triples=triples),
        left_out=left_out(table, noise),
        speedups=one,
        speedup_contexts=contexts,
        losses=losses(table, noise),
        interactions=tetrads,
        layer_pairs=layer_pairs(tetrads, table.floor),
        flips=turned,
        flip_counts=flip_counts(turned),
        winners=winners(table, noise),
        winner_maps=winner_maps(table, noise),
        scaling=scaling(table, noise),
        returns=returns(table, noise),
        break_evens=break_evens(table, noise),
        expected=promised,
        expected_contexts=promised_contexts,
        roofline=roofline(table),
        correlations=correlations(table),
        front=front(table, noise),
        best=best(table, noise),
        coverage=coverage(table),
        failures=failures(table),
        comparable=comparable(table, noise),
    )
    return replace(parts, findings=findings(parts))
