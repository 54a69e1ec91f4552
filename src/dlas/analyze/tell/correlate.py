"""Which proxies do not order the metric, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dlas.analyze.conclusion import Analysis, Finding

PROXIES = ("macs", "effective_macs", "params", "nonzero_params", "weights_mb")
LOOSE = 0.7
"""A rank correlation below which an order is not the other order."""


def correlations(analysis: Analysis) -> Iterator[Finding]:
    """Say where a proxy does not order the metric."""
    found = analysis.correlations
    metric = analysis.table.metric
    for r in found[(found["by"] == "") & (found["y"] == metric)].itertuples():
        if r.x in PROXIES and r.spearman < LOOSE:
            yield Finding(
                "correlation",
                f"The order by {r.x} is not the order by {metric}: Spearman's correlation is "
                f"{r.spearman:.2f} over {r.cells} cells.",
                cells=tuple(r.odd),
                numbers={"spearman": r.spearman, "kendall": r.kendall},
                overturn="Other cells: a correlation belongs to the set it is taken over.",
            )
