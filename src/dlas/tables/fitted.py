"""The rounds of a folder, fitted: what the tables show and the analysis takes over.

Each host of each folder is fitted apart, once for each quantity: rounds are never pooled over
hosts. Of several folders of one host those are compared that have sessions in common.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dlas.core.stack import LAYERS
from dlas.store.results import RoundRow
from dlas.tables.read import Place, Results, choices_of, complete

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
    rounds: int = 0
    """How many rounds ``estimates`` were made of, disturbed ones among them."""

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

    A row holds NaN that is not complete, whose host knows no noise (no cell has two rounds there),
    or that was measured in sessions of its own (see :class:`_Host`), of which the notes tell. None
    where no host knows any noise.
    """
    import numpy as np
    import pandas as pd

    from dlas.analyze.estimate.estimated import Estimates

    hosts = _hosts(every, metric)
    known = [
        (own, f"{each.fit.host} / " if len(hosts) > 1 else "", _places(each.fit, cells, metric))
        for each in hosts
        if (own := each.fit.estimates) is not None
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
    drifts = [own.drift for own, _, _ in known if own.drift is not None]
    notes = [f"{name}{note}" for own, name, _ in known for note in own.notes]
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
        (*notes, *(note for each in hosts for note in each.notes)),
        tails,
        drifts[0] if len(drifts) == 1 else None,
        _left_out([each.fit for each in hosts]),
    )


def _left_out(every: Sequence[Fit]) -> float | None:
    """Return the share of the rounds of all hosts that do not count; None where all do."""
    known = [(fit.estimates.disturbed or 0.0, fit.rounds) for fit in every if fit.estimates]
    rounds = sum(n for _, n in known)
    left_out = sum(share * n for share, n in known)
    return left_out / rounds if left_out else None


@dataclass(frozen=True)
class _Host:
    """What several folders say of one host.

    Between two sessions everything shifts, and every cell by a little of its own. Two folders hold
    no cell in common (they would be runs to be compared), so that nothing links their sessions
    unless they have one in common: the folders are fitted as one that are linked with that of most
    cells, what the others measured there stands apart.
    """

    fit: Fit
    used: tuple[Results, ...]
    """The folders that were fitted."""
    apart: tuple[Results, ...]
    """Those of other sessions."""

    @property
    def notes(self) -> Iterator[str]:
        """What a reader must know of those left out."""
        names = " and ".join(str(each.folder) for each in self.used)
        for each in self.apart:
            n = sum(1 for cell, host in _measured(each) if host == self.fit.host)
            yield (
                f"{n} cells of {each.folder} were measured on {self.fit.host} in another session "
                f"than those of {names}, with nothing measured in both: they are left out of all "
                f"comparisons. One study that has both, run into {self.used[0].folder}, measures "
                "anchors beside them, cells measured in both sessions."
            )


def _hosts(every: Sequence[Results], metric: str) -> list[_Host]:
    """Return what the folders say of each host, in the order in which hosts come."""
    found: dict[str, list[Results]] = {}
    for results in every:
        for host in sorted({host for _, host in results.rounds_of}):
            found.setdefault(host, []).append(results)
    return [_host(host, folders, metric) for host, folders in found.items()]


def _host(host: str, every: Sequence[Results], metric: str) -> _Host:
    """Fit the folders of a host that have sessions in common with the session of most cells."""
    sessions = [_sessions(each, host) for each in every]
    cells: Counter[str] = sum(sessions, Counter())
    linked = {max(cells, key=lambda name: cells[name])} if cells else set()
    while more := [s for s in sessions if linked & s.keys() and not s.keys() <= linked]:
        linked |= set().union(*more)
    pairs = list(zip(every, sessions, strict=True))
    used = tuple(each for each, own in pairs if linked & own.keys())
    apart = tuple(each for each, own in pairs if own and not linked & own.keys())
    if len(used) > 1:
        fit = _fit(_as_one(used), host, metric)
    else:
        fit = next(f for f in fits((used or every)[0], metric) if f.host == host)
    return _Host(fit, used, apart)


def _sessions(results: Results, host: str) -> Counter[str]:
    """Count the cells of each session that measured on a host."""
    return Counter(
        session
        for cell, where in _measured(results)
        if where == host
        for session in dict.fromkeys(r.session for r in complete(results.rounds_of[cell, host]))
    )


def _measured(results: Results) -> list[Place]:
    """Return the cells on hosts that have a complete round."""
    return [place for place, rows in results.rounds_of.items() if complete(rows)]


def _as_one(every: Sequence[Results]) -> Results:
    """Return folders that hold no cell of a host twice as one."""
    return replace(
        every[0],
        cells=[row for each in every for row in each.cells],
        facts=[fact for each in every for fact in each.facts],
        rounds=[row for each in every for row in each.rounds],
        remembered={},
    )


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
    return Fit(host, cells, found if found.kind == "rounds" else None, len(samples))


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
