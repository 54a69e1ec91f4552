"""The latency of each cell: one number, its interval, and the noise floor it is read against.

``latency_ms`` is the median over rounds of each round's median. Its interval is a t interval from
the model log(round median) = cell + round + error, fitted by :mod:`dlas.analyze.estimate.noise`
for each host of each output folder: the error's variance is pooled within runtime x threads, and
raised where A/A controls differ more often than it allows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from dlas.store.results import RoundRow
from dlas.tables.read import Place, Results, complete

if TYPE_CHECKING:
    import pandas as pd

    from dlas.analyze.estimate.noise import Estimates

STRATA = ("software", "hardware.threads")
CONFIDENCE = 0.95

MEDIAN_VARIANCE = (
    1.0,
    0.5,
    0.44867,
    0.29824,
    0.28683,
    0.21473,
    0.21045,
    0.16821,
    0.16610,
    0.13833,
)
"""The variance of the median of 1, 2, ... 10 values of a normal distribution of variance 1: a
median of three is less exact than their mean (1/3), and an interval around it has to be wider."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What the rounds of one cell on one host say; None: not known."""

    ms: float
    low_ms: float | None
    high_ms: float | None
    p90_ms: float
    rounds: int
    samples: int


@dataclass(frozen=True)
class Fit:
    """The noise model of one host of one output folder."""

    host: str
    cells: tuple[str, ...]
    """The cell of each row of ``estimates``."""
    estimates: Estimates | None
    """None where no cell has two rounds: then no noise is known."""

    def stratum(self, row: int) -> int:
        """Return which stratum a row's noise is pooled in."""
        assert self.estimates is not None
        return int(self.estimates.var[row].argmax())


def median_variance(n: int) -> float:
    """Return the variance of the median of ``n`` values of a standard normal distribution."""
    if n <= len(MEDIAN_VARIANCE):
        return MEDIAN_VARIANCE[n - 1]
    return math.pi / (2 * n)  # its limit for many values, from above


def round_ms(row: RoundRow) -> float:
    """Return the median of one round, in milliseconds."""
    return statistics.median(row.samples) * 1e3


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile as numpy does by default, at a tenth of its cost for few values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def latencies(results: Results) -> dict[Place, Latency]:
    """Return the latency of every cell on every host that has a complete round."""
    found: dict[Place, Latency] = {}
    for fit in fits(results):
        for row, cell in enumerate(fit.cells):
            rounds = complete(results.rounds_of[cell, fit.host])
            if rounds:
                found[cell, fit.host] = _latency(rounds, fit, row)
    return found


def _latency(rounds: Sequence[RoundRow], fit: Fit, row: int) -> Latency:
    ms = statistics.median(round_ms(r) for r in rounds)
    half = _half_width(fit, row, len(rounds))
    pooled = [seconds for r in rounds for seconds in r.samples]
    return Latency(
        ms=ms,
        low_ms=None if half is None else ms * math.exp(-half),
        high_ms=None if half is None else ms * math.exp(half),
        p90_ms=quantile(pooled, 0.9) * 1e3,
        rounds=len(rounds),
        samples=len(pooled),
    )


def _half_width(fit: Fit, row: int, rounds: int) -> float | None:
    """Return half of the interval, on the log scale."""
    if fit.estimates is None:
        return None
    stratum = fit.stratum(row)
    of_one_round = float(fit.estimates.var[row, stratum]) * rounds
    half = _t(float(fit.estimates.df[stratum])) * math.sqrt(of_one_round * median_variance(rounds))
    return half if math.isfinite(half) else None


@cache
def _t(df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, df))


def fits(results: Results) -> list[Fit]:
    """Fit the noise model to every host: rounds are never pooled over hosts."""
    if "fits" not in results.remembered:
        hosts = sorted({host for _, host in results.rounds_of})
        results.remembered["fits"] = [_fit(results, host) for host in hosts]
    found: list[Fit] = results.remembered["fits"]
    return found


def _fit(results: Results, host: str) -> Fit:
    import pandas as pd

    from dlas.analyze.estimate.noise import estimate
    from dlas.analyze.estimate.table import Table

    cells = tuple(cell for cell, where in results.rounds_of if where == host)
    samples = _samples(results, host, cells)
    if samples.empty:
        return Fit(host, cells, None)
    strata = [_stratum(results, cell) for cell in cells]
    values = [_value(complete(results.rounds_of[cell, host])) for cell in cells]
    columns: dict[str, Any] = {
        "cell": cells,
        "host": host,
        "status": "complete",
        "reason": "",
        "value": values,
        **{name: [s[name] for s in strata] for name in STRATA},
    }
    table = Table(
        cells=pd.DataFrame(columns),
        layers=(),
        parameters=(),
        metric="latency_ms",
        samples=samples,
        strata=STRATA,
    )
    found = estimate(table)
    return Fit(host, cells, found if found.kind == "rounds" else None)


def _value(rounds: Sequence[RoundRow]) -> float:
    return statistics.median(round_ms(r) for r in rounds) if rounds else math.nan


def _samples(results: Results, host: str, cells: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    numbers: dict[tuple[str, int], int] = {}
    found = []
    for row, cell in enumerate(cells):
        own = results.rounds_of[cell, host]
        for control in sorted({r.control for r in own}):
            for each in complete(own, control):
                number = numbers.setdefault((each.session, each.round), len(numbers))
                found.append((row, control, number, math.log(round_ms(each))))
    return pd.DataFrame(found, columns=["row", "control", "round", "log"])


def _stratum(results: Results, cell: str) -> Mapping[str, str]:
    """Return the runtime (without its parameters) and the threads of a cell."""
    stack = results.stacks.get(cell)
    if stack is None:
        return dict.fromkeys(STRATA, "")
    threads = stack.hardware[0].params.get("threads", "")
    return {"software": stack.software[0].name, "hardware.threads": str(threads)}
