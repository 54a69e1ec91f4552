"""What capped the cells, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.parts.roofline import NONE
from dlas.analyze.tell.words import (
    percent,
)


def roofline(analysis: Analysis) -> Iterator[Finding]:
    """Say what capped the cells."""
    found = analysis.roofline
    for bound, part in found.groupby("bound", sort=False):
        share = float(part["explained"].median())
        text = (
            f"{len(part)} of {len(found)} cells are bound by {bound}; it explains "
            f"{percent(share)} of their time in the median."
        )
        if bound == NONE:
            text = (
                f"In {len(part)} of {len(found)} cells neither arithmetic nor memory nor the "
                "overhead of one inference explains half of the time: kernels stay below the "
                "ceilings, or many operators each cost their own overhead."
            )
        near = part.sort_values("explained", ascending=bound == NONE)
        yield Finding(
            "roofline",
            text,
            cells=tuple(near["cell"].astype(str).head(20)),
            numbers={"cells": len(part), "explained": share},
            overturn="Other ceilings: these are what was measured on the host in this study.",
        )
