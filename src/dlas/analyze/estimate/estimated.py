"""What is known of every row of a table: its value and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Floats, Ints

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
    sessions: int = 0
    """So many last columns of ``var`` hold errors that many cells have in common, each the same
    for all that have it: what is not known of a session against the main one of its host, for
    every cell that was measured in that session alone; of the level that a stratum is given back
    once the drift is taken off, for its cells; and of the level of the machine, for all."""
    notes: tuple[str, ...] = ()
    """What a reader must know, one sentence each."""
    tails: Floats | None = None
    """Excess kurtosis of each row's own error; None: that of a normal distribution."""
    drift: float | None = None
    """Share of the variance between the rounds of a cell that was the machine's drift, which is
    taken off; None where none was."""
    disturbed: float | None = None
    """Share of the rounds that were disturbed and do not count; None where none was."""

    @property
    def known(self) -> bool:
        """Whether noise is known, so that something can be called significant."""
        return self.kind != UNKNOWN

    @property
    def own(self) -> int:
        """How many columns of ``var`` are strata; those that cells have in common follow."""
        return int(self.var.shape[1]) - self.sessions

    @cached_property
    def stratum(self) -> Ints:
        """The stratum of each row, a row of ``strata``."""
        if not self.own:
            return np.zeros(len(self.mean), dtype=np.int64)
        return np.asarray(self.var[:, : self.own].argmax(axis=1), dtype=np.int64)

    @cached_property
    def shared(self) -> Floats:
        """The standard errors that cells have in common, by row and error."""
        return np.sqrt(self.var[:, self.own :])

    def gap(self, a: Ints, b: Ints) -> Floats:
        """Return the variance of the difference of rows, by stratum and common error (last axis).

        Errors of rows add; one that both have in common drops out.
        """
        own = self.own
        found: Floats = np.concatenate(
            [self.var[a][..., :own] + self.var[b][..., :own], self.apart(a, b) ** 2], axis=-1
        )
        return found

    def apart(self, a: Ints, b: Ints) -> Floats:
        """Return what is left of each common error in the difference of rows, with its sign."""
        found: Floats = self.shared[a] - self.shared[b]
        return found

    def averaged(self, total: Floats, count: Floats, apart: Floats) -> Floats:
        """Return the variance of means of differences.

        Averaging reduces errors that cells have for themselves; what they have in common is the
        same in all of them, and adds up with its sign.

        Args:
            total: the sum of the variances of the differences.
            count: how many there are.
            apart: the sum of what is left of each common error in them.
        """
        found: Floats = total / (count**2)[..., None]
        found[..., self.own :] = (apart / count[..., None]) ** 2
        return found

    def floor(self) -> float:
        """Return the median over strata of the ratio (less one) that can be detected."""
        return float(self.strata["floor"].median()) if len(self.strata) else float("nan")
