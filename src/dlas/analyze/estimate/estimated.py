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
    """So many last columns of ``var`` hold what is not known of a session against the main one of
    its host, the same error for every cell that was measured in that session alone; and of the
    level of the machine, which drifted, the same for all cells."""
    notes: tuple[str, ...] = ()
    """What a reader must know, one sentence each."""
    tails: Floats | None = None
    """Excess kurtosis of each row's own error; None: that of a normal distribution."""

    @property
    def known(self) -> bool:
        """Whether noise is known, so that something can be called significant."""
        return self.kind != UNKNOWN

    @property
    def own(self) -> int:
        """How many columns of ``var`` are strata; those of sessions follow."""
        return int(self.var.shape[1]) - self.sessions

    @cached_property
    def stratum(self) -> Ints:
        """The stratum of each row, a row of ``strata``."""
        if not self.own:
            return np.zeros(len(self.mean), dtype=np.int64)
        return np.asarray(self.var[:, : self.own].argmax(axis=1), dtype=np.int64)

    def gap(self, a: Ints, b: Ints) -> Floats:
        """Return the variance of the difference of rows, by stratum and session (last axis).

        Errors of rows add; what is not known of a session is the same for all its rows and drops
        out between two of them.
        """
        own = self.own
        one, two = self.var[a], self.var[b]
        shared = (np.sqrt(one[..., own:]) - np.sqrt(two[..., own:])) ** 2
        found: Floats = np.concatenate([one[..., :own] + two[..., :own], shared], axis=-1)
        return found

    def averaged(self, total: Floats, count: Floats) -> Floats:
        """Return the variance of means of differences, from the sum of theirs and their number.

        The error of a session is the same in all of them, so that averaging does not reduce it.
        """
        alike = np.ones(total.shape[-1])
        weight = np.where(np.arange(total.shape[-1]) < self.own, alike, count[..., None])
        found: Floats = total * weight / (count**2)[..., None]
        return found

    def floor(self) -> float:
        """Return the median over strata of the ratio (less one) that can be detected."""
        return float(self.strata["floor"].median()) if len(self.strata) else float("nan")
