"""The latency of each cell: one number, its interval, and the noise floor it is read against.

``latency_ms`` is the median over rounds of each round's median. Its interval is a t interval from
the model log(round median) = cell + round + error, fitted by :mod:`dlas.analyze.estimate.noise`
for each host of each output folder: the error's variance is pooled within runtime x threads, and
raised where A/A controls differ more often than it allows. It is fitted once: tables show it, and
the analysis takes it as :func:`estimates_of` puts it together.
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
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from dlas.analyze.estimate.estimated import Estimates

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


def estimates_of(every: Sequence[Results], cells: pd.DataFrame) -> Estimates | None:
    """Return the fits of all hosts of all folders, by row of a table of their cells.

    A row that is not complete, or whose host knows no noise (no cell has two rounds there), holds
    NaN. None where no host knows any.
    """
    import numpy as np
    import pandas as pd

    from dlas.analyze.estimate.estimated import Estimates

    known = [
        (own, name, _places(fit, cells))
        for fit, name in _named(every)
        if (own := fit.estimates) is not None
    ]
    if not known:
        return None
    mean, median = (np.full(len(cells), np.nan) for _ in range(2))
    var = [np.zeros((len(cells), len(own.df))) for own, _, _ in known]
    strata, controls = [], []
    for (own, name, place), block in zip(known, var, strict=True):
        told = np.flatnonzero(place >= 0)
        mean[place[told]], median[place[told]] = own.mean[told], own.median[told]
        block[place[told]] = own.var[told]
        strata.append(own.strata.assign(stratum=name + own.strata["stratum"].astype(str)))
        pairs = own.controls.assign(row=place[own.controls["row"].to_numpy(dtype=int)])
        controls.append(pairs[pairs["row"] >= 0])
    return Estimates(
        "rounds",
        mean,
        median,
        np.hstack(var),
        np.concatenate([own.df for own, _, _ in known]),
        pd.concat(strata, ignore_index=True),
        pd.concat(controls, ignore_index=True),
        max(own.inflation for own, _, _ in known),
    )


def _named(every: Sequence[Results]) -> list[tuple[Fit, str]]:
    """Return every fit with what tells its strata apart: nothing, its host, or its folder too."""
    found = [(fit, results.folder.name) for results in every for fit in fits(results)]
    hosts = [fit.host for fit, _ in found]
    if len(found) == 1:
        return [(found[0][0], "")]
    return [
        (fit, f"{fit.host} / " if hosts.count(fit.host) == 1 else f"{fit.host} / {folder} / ")
        for fit, folder in found
    ]


def _places(fit: Fit, cells: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the row of a table that each cell of a fit has; -1 where it is not complete there."""
    import numpy as np

    good = cells["status"].eq("complete") & cells["latency_ms"].notna()
    hosts = cells["host"].fillna("")
    rows = {
        place: row
        for row, (place, told) in enumerate(
            zip(zip(cells["cell"], hosts, strict=True), good, strict=True)
        )
        if told
    }
    return np.array([rows.get((cell, fit.host), -1) for cell in fit.cells], dtype=np.int64)


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
