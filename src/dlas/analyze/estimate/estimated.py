"""What is known of every row of a table: its value and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dlas.analyze.estimate.levels import Floats

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Estimates:
    """One value per row of ``Table.cells``, on the log scale, less is better."""

    kind: str
    """``rounds``, ``intervals``, or ``unknown``."""
    mean: Floats
    """Mean over rounds, net of round effects; NaN where there is nothing."""
    median: Floats
    """Median over rounds, net of round effects: one bad round does not move it."""
    var: Floats
    """Variance of ``mean`` by row and stratum: the row's own stratum holds it."""
    df: Floats
    """Degrees of freedom behind each stratum's variance."""
    strata: pd.DataFrame
    """``stratum, cells, sd, df, floor``: noise of one round in log units, and the smallest
    ratio (less one) that a comparison of two cells detects at 95 %."""
    controls: pd.DataFrame
    """A/A pairs: ``row, control, ratio, floor, inside``."""
    inflation: float = 1.0
    """By how much standard errors were raised because of the A/A pairs."""

    @property
    def known(self) -> bool:
        """Whether noise is known, so that something can be called significant."""
        return self.kind != UNKNOWN

    def floor(self) -> float:
        """Return the median over strata of the ratio (less one) that can be detected."""
        return float(self.strata["floor"].median()) if len(self.strata) else float("nan")
