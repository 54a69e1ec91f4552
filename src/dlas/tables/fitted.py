"""The rounds of a folder, fitted: what the tables show and the analysis takes over.

Each host of each folder is fitted apart, once for each quantity: rounds are never pooled over
hosts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlas.core.stack import LAYERS
from dlas.store.results import RoundRow
from dlas.tables.read import Results, choices_of, complete

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from dlas.analyze.estimate.estimated import Estimates

SEEN, QUIET = "latency_ms", "quiet_ms"


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
        return int(self.estimates.stratum[row])


def round_ms(row: RoundRow) -> float:
    """Return the median of one round, in milliseconds."""
    return statistics.median(row.samples) * 1e3


def round_quiet_ms(row: RoundRow) -> float:
    """Return the expected least of ten runs of one round, in milliseconds."""
    from dlas.core.least import of_runs

    return of_runs(row.samples) * 1e3


OF_ROUND: Mapping[str, Callable[[RoundRow], float]] = {SEEN: round_ms, QUIET: round_quiet_ms}
"""What one round comes to, by the quantity that is estimated of the rounds."""


def fits(results: Results, metric: str = QUIET) -> list[Fit]:
    """Fit the noise model to every host: rounds are never pooled over hosts."""
    name = f"fits of {metric}"
    if name not in results.remembered:
        hosts = sorted({host for _, host in results.rounds_of})
        results.remembered[name] = [_fit(results, host, metric) for host in hosts]
    found: list[Fit] = results.remembered[name]
    return found


def estimates_of(every: Sequence[Results], cells: pd.DataFrame, metric: str) -> Estimates | None:
    """Return the fits of all hosts of all folders, by row of a table of their cells.

    A row that is not complete, or whose host knows no noise (no cell has two rounds there), holds
    NaN. None where no host knows any.
    """
    import numpy as np
    import pandas as pd

    from dlas.analyze.estimate.estimated import Estimates

    known = [
        (own, name, _places(fit, cells, metric))
        for fit, name in _named(every, metric)
        if (own := fit.estimates) is not None
    ]
    if not known:
        return None
    mean, median = (np.full(len(cells), np.nan) for _ in range(2))
    tails = np.zeros(len(cells))
    var = [np.zeros((len(cells), len(own.df))) for own, _, _ in known]
    # strata first, then what belongs to sessions, as in each of the parts
    of_strata = [np.arange(len(own.df)) < own.own for own, _, _ in known]
    strata, controls = [], []
    for (own, name, place), block in zip(known, var, strict=True):
        told = np.flatnonzero(place >= 0)
        mean[place[told]], median[place[told]] = own.mean[told], own.median[told]
        block[place[told]] = own.var[told]
        tails[place[told]] = 0.0 if own.tails is None else own.tails[told]
        strata.append(own.strata.assign(stratum=name + own.strata["stratum"].astype(str)))
        pairs = own.controls.assign(row=place[own.controls["row"].to_numpy(dtype=int)])
        controls.append(pairs[pairs["row"] >= 0])
    return Estimates(
        "rounds",
        mean,
        median,
        np.hstack(
            [v[:, s] for v, s in zip(var, of_strata, strict=True)]
            + [v[:, ~s] for v, s in zip(var, of_strata, strict=True)]
        ),
        np.concatenate(
            [own.df[: own.own] for own, _, _ in known] + [own.df[own.own :] for own, _, _ in known]
        ),
        pd.concat(strata, ignore_index=True),
        pd.concat(controls, ignore_index=True),
        max(own.inflation for own, _, _ in known),
        sum(own.sessions for own, _, _ in known),
        tuple(f"{name}{note}" for own, name, _ in known for note in own.notes),
        tails,
    )


def _named(every: Sequence[Results], metric: str) -> list[tuple[Fit, str]]:
    """Return every fit with what tells its strata apart: nothing, its host, or its folder too."""
    found = [(fit, results.folder.name) for results in every for fit in fits(results, metric)]
    hosts = [fit.host for fit, _ in found]
    if len(found) == 1:
        return [(found[0][0], "")]
    return [
        (fit, f"{fit.host} / " if hosts.count(fit.host) == 1 else f"{fit.host} / {folder} / ")
        for fit, folder in found
    ]


def _places(fit: Fit, cells: pd.DataFrame, metric: str) -> npt.NDArray[np.int64]:
    """Return the row of a table that each cell of a fit has; -1 where it is not complete there."""
    import numpy as np

    good = cells["status"].eq("complete") & cells[metric].notna()
    hosts = cells["host"].fillna("")
    rows = {
        place: row
        for row, (place, told) in enumerate(
            zip(zip(cells["cell"], hosts, strict=True), good, strict=True)
        )
        if told
    }
    return np.array([rows.get((cell, fit.host), -1) for cell in fit.cells], dtype=np.int64)


def _fit(results: Results, host: str, metric: str) -> Fit:
    from dlas.analyze.estimate.load import STUDY_STRATA
    from dlas.analyze.estimate.noise import estimate
    from dlas.analyze.estimate.table import Table

    cells = tuple(cell for cell, where in results.rounds_of if where == host)
    samples = _samples(results, host, cells, OF_ROUND[metric])
    if samples.empty:
        return Fit(host, cells, None)
    frame, parameters = _stacks(results, cells)
    own = samples[samples["control"] == 0].groupby("row")["log"].median()
    table = Table(
        cells=frame.assign(
            cell=cells, host=host, status="complete", reason="", value=own.map(math.exp)
        ),
        layers=LAYERS,
        parameters=parameters,
        metric=metric,
        samples=samples,
        strata=STUDY_STRATA,
        least=metric == QUIET,
        choices=choices_of([results]),
    )
    found = estimate(table)
    return Fit(host, cells, found if found.kind == "rounds" else None)


def _samples(
    results: Results, host: str, cells: Sequence[str], of_round: Callable[[RoundRow], float]
) -> pd.DataFrame:
    import pandas as pd

    from dlas.analyze.estimate.demands import in_time

    numbers: dict[tuple[str, int], int] = {}
    sessions: dict[str, int] = {}
    found = []
    for row, cell in enumerate(cells):
        own = results.rounds_of[cell, host]
        for control in sorted({r.control for r in own}):
            for each in complete(own, control):
                number = numbers.setdefault((each.session, each.round), len(numbers))
                session = sessions.setdefault(each.session, len(sessions))
                found.append(
                    (row, control, session, number, math.log(of_round(each)), each.created_at)
                )
    frame = pd.DataFrame(found, columns=["row", "control", "session", "round", "log", "at"])
    return in_time(frame.drop(columns="at"), frame["at"])


def _stacks(results: Results, cells: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the layers and parameters of cells as text, and the names of the parameters."""
    import pandas as pd

    from dlas.analyze.estimate.levels import EMPTY, text
    from dlas.analyze.estimate.load import STUDY_STRATA

    known = [results.stacks.get(cell) for cell in cells]
    factors = [{} if stack is None else stack.factors() for stack in known]
    names = tuple(dict.fromkeys((*STUDY_STRATA[1:], *(n for each in factors for n in each))))
    columns = {
        layer: [EMPTY if stack is None else stack.text(layer) for stack in known]
        for layer in LAYERS
    }
    columns |= {name: [text(each.get(name)) for each in factors] for name in names}
    return pd.DataFrame(columns), names
