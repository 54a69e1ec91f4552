"""Which cells are missing and why, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.tell.words import (
    percent,
)


def failures(analysis: Analysis) -> Iterator[Finding]:
    """Say which cells are missing, and why."""
    for r in analysis.failures.head(5).itertuples():
        why = f": {r.reason}" if r.reason else ", no reason given"
        most = f" ({percent(r.share)} of them with {r.where})" if r.where else ""
        yield Finding(
            "failures",
            f"{r.cells} cells are {r.status}{most}{why}.",
            cells=tuple(r.examples),
            numbers={"cells": r.cells, "share": r.share},
            overturn="What depends on these cells is not in any finding.",
        )
