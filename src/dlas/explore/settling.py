"""Contenders measured again until one is left, or those that are left are level.

``dlas explore`` ends with it, ``dlas run --settle`` too. Contenders are measured in turn, paired,
some rounds at a time, and those that are surely worse drop out. Then the rest are measured once
more, by the study's own rule: what is said of them rests on those rounds alone.

All follows from the rows: which rounds a decision looks at is told by their numbers, so that what
was killed goes on where it stopped, and decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dlas.analyze import from_study
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.within import meeting
from dlas.core.errors import UserError
from dlas.core.records import MeasureSettings, RoundRange, Status
from dlas.core.stack import LAYERS
from dlas.explore.finalists import FLOOR, Contender, contenders, may_meet, standing
from dlas.explore.sought import Sought
from dlas.run.plan.plan import Runnable
from dlas.run.run import Campaign
from dlas.store.results import FactRow, RoundRow
from dlas.study.study import Study
from dlas.tables import cells_frame
from dlas.tables.fitted import QUIET, SEEN, Fit, fits
from dlas.tables.intake import undisturbed
from dlas.tables.latency import Latency, latencies
from dlas.tables.read import Results, read

if TYPE_CHECKING:
    import pandas as pd

LOOKS = 3
"""How often contenders are looked at, at most, before the last rounds."""
FEWEST = 2
"""Rounds between two looks, at least: one tells nothing of its noise."""
TOLD = LAYERS[1:]
"""The layers that tell a stack from others."""
AFTER = 100_000
"""Rounds measured by ``dlas run --settle`` are numbered from here: beyond the study's own, and
beyond those of anchors, which link the sessions of a folder and follow the study's own."""


@dataclass(frozen=True)
class Final:
    """One of the stacks that are left, with its latency from the rounds after the last choice."""

    cell: str
    text: str
    """Its choices, from the model down."""
    values: Mapping[str, float]
    """What was known of it when it was first chosen."""
    quiet_ms: float | None = None
    """None: it was not measured since."""
    low_ms: float | None = None
    """The interval of the latency that is sought, undisturbed unless latency as seen is."""
    high_ms: float | None = None
    latency_ms: float | None = None
    rounds: int = 0
    meets: bool = True
    """Whether it meets the limits, by what was measured since."""
    metric: str = QUIET
    """The latency that it was chosen by: undisturbed, or as seen."""

    @property
    def ms(self) -> float | None:
        """That latency; None: it was not measured since."""
        return self.latency_ms if self.metric == SEEN else self.quiet_ms

    def line(self) -> str:
        """Return it as a line for people."""
        own = QUIET if QUIET in self.values else SEEN
        told = [f"{c} {v:.4g}" for c, v in self.values.items() if c not in (QUIET, SEEN)]
        if self.ms is None:
            first = [f"{own} {self.values[own]:.4g}"] if own in self.values else []
            numbers = ", ".join([*first, *told])
            return f"{self.cell}  {numbers}; not measured since it was chosen  {self.text}"
        within = ""
        if self.low_ms is not None and self.high_ms is not None:
            within = f" [{self.low_ms:.4g}, {self.high_ms:.4g}]"
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        missed = "" if self.meets else "; misses a limit since it was chosen"
        numbers = ", ".join([f"{self.metric} {self.ms:.4g}{within} in {rounds}", *told])
        return f"{self.cell}  {numbers}{missed}  {self.text}"


@dataclass(frozen=True)
class Settled:
    """What is left of the contenders."""

    contenders: int
    finals: tuple[Final, ...]
    open: bool
    """Whether rounds ran out before it was decided."""

    def text(self) -> str:
        """Return it as lines for people."""
        if not self.finals and self.contenders:
            return "settled: all that could be the answer failed when they were measured again"
        if not self.finals:
            return "settled: no stack that ran meets the limits"
        left = "1 stack is" if len(self.finals) == 1 else f"{len(self.finals)} stacks are"
        why = ""
        if len(self.finals) > 1:
            level = f"level: within {FLOOR:.0%} of each other, or better in another metric"
            why = ", which more rounds may yet tell apart" if self.open else f", {level}"
        head = f"settled: {left} left of {self.contenders} that could be the answer{why}"
        return "\n".join([head, *(f"  {each.line()}" for each in self.finals)])


def sought_of(study: Study, command: str, metric: str = QUIET) -> Sought:
    """Return what a study seeks, undisturbed latency in the place of latency.

    Args:
        study: with goals.
        command: who asks.
        metric: the latency that stacks are compared by: :data:`SEEN` keeps it as seen.

    Raises:
        UserError: it seeks nothing.
    """
    if not (study.goals.minimize or study.goals.maximize):
        raise UserError(
            f"study {study.name!r}: goals: {command} needs something to seek, for example "
            "`goals: {minimize: [latency_ms], accuracy_drop_at_most: 0.01}`"
        )
    return Sought(undisturbed(study.goals, metric)[0])


@dataclass
class Settling:
    """Settles contenders of a campaign.

    ``settings`` are those of the last rounds, ``first`` is the number of the first round that the
    contenders' choice did not look at. ``late`` says whether time is up: then there is no further
    look, and no more of the last rounds than needed.
    """

    campaign: Campaign
    sought: Sought
    settings: MeasureSettings
    first: int
    late: Callable[[], bool] = lambda: False
    beside: Sequence[Runnable] = ()
    """What is measured beside them in the last rounds: what they will be compared with."""

    def run(self, chosen: Sequence[Contender]) -> Settled:
        """Measure contenders until it is decided between them, and then what is left once more."""
        settings = self.settings
        if settings.rounds.max == 1 or not chosen:
            found = tuple(self._finals(chosen, self.first))
            return Settled(len(chosen), found, open=len(chosen) > 1)
        left, undecided, first = list(chosen), len(chosen) > 1, self.first
        each = max(FEWEST, settings.rounds.min)
        for look in range(1, LOOKS + 1):
            if not undecided or len(left) == 1 or self.late():
                break
            first = self.first + look * each
            cells = [one.cell for one in left]
            self.campaign.measure(cells, exactly(settings, look * each), self.first)
            left, undecided = self._kept(left, first)
        last = settings
        if self.late():
            least = max(FEWEST, settings.rounds.min)
            last = settings.model_copy(update={"rounds": RoundRange(min=least, max=least)})
        cells = [one.cell for one in left]
        beside = [cell for cell in self.beside if cell not in cells]
        self.campaign.measure([*cells, *beside], last, first)
        return Settled(len(chosen), tuple(self._finals(left, first)), undecided)

    def _kept(self, left: Sequence[Contender], before: int) -> tuple[list[Contender], bool]:
        """Return who is not surely beaten, and whether it is undecided between some of them."""
        seen = rounds_between(self.campaign, self.first, before, [each.cell for each in left])
        left = _working(left, seen)
        fit = _fit(seen, self.sought)
        if fit is None or fit.estimates is None:
            return left, len(left) > 1
        rows = [fit.cells.index(each.cell.cell) for each in left]
        found = standing(left, self.sought, fit.estimates, rows, LOOKS)
        kept = [each for each, beaten in zip(left, found.beaten, strict=True) if not beaten]
        return kept, found.open

    def _finals(self, left: Sequence[Contender], first: int) -> list[Final]:
        """Return what is said of those that are left; the best first."""
        seen = rounds_between(self.campaign, first, None, [each.cell for each in left])
        known, host = latencies(seen), self.campaign.host
        found = [self._final(e, known.get((e.cell.cell, host))) for e in _working(left, seen)]
        return sorted(found, key=lambda f: (not f.meets, self._first_of(f)))

    def _first_of(self, final: Final) -> float:
        column, sign = self.sought.metrics[0]
        told = final.ms if column == self.sought.latency else None
        return sign * (final.values[column] if told is None else told)

    def _final(self, each: Contender, known: Latency | None) -> Final:
        found = Final(each.cell.cell, each.cell.text(*TOLD), each.values)
        if known is None:
            return found
        now = {QUIET: known.quiet.ms, SEEN: known.seen.ms}
        metric = self.sought.latency or QUIET
        own = known.seen if metric == SEEN else known.quiet
        values = {column: now.get(column, value) for column, value in each.values.items()}
        return replace(
            found, quiet_ms=known.quiet.ms, low_ms=own.low_ms, high_ms=own.high_ms,
            latency_ms=known.seen.ms, rounds=known.rounds, meets=self.sought.meets(values),
            metric=metric,
        )  # fmt: skip


def _working(left: Sequence[Contender], seen: Results) -> list[Contender]:
    """Return those of which no round failed."""
    failed = _failed(seen.rounds)
    return [each for each in left if each.cell.cell not in failed]


def _failed(rows: Iterable[RoundRow | FactRow]) -> set[str]:
    return {row.cell for row in rows if row.status is Status.FAILED}


def exactly(settings: MeasureSettings, rounds: int) -> MeasureSettings:
    """Return settings for so many rounds, with nothing beside them."""
    return settings.model_copy(
        update={
            "rounds": RoundRange(min=rounds, max=rounds),
            "controls": 0.0,
            "min_controls": 0,
            "ceilings": False,
        }
    )


def _fit(seen: Results, sought: Sought) -> Fit | None:
    """Return the fit of the latency that is sought of one host's rounds; None: there are none."""
    found = fits(seen, sought.latency or QUIET)
    return found[0] if found else None


def rounds_between(
    campaign: Campaign, first: int, before: int | None, cells: Sequence[Runnable]
) -> Results:
    """Return this host's rounds of some cells, of those numbered so."""
    (results,) = read([campaign.out])
    wanted = {cell.cell for cell in cells}
    return replace(
        results,
        rounds=[
            row
            for row in results.rounds
            if row.host == campaign.host
            and row.cell in wanted
            and first <= row.round
            and (before is None or row.round < before)
        ],
        remembered={},
    )


def surely_meeting(frame: pd.DataFrame, host: str, sought: Sought) -> set[str]:
    """Return the cells of a host that surely meet every limit, as the analysis judges it.

    Args:
        frame: the table of their cells.
        host: whose cells are judged.
        sought: the limits.
    """
    frame = frame[(frame["host"] == host) & frame[QUIET].notna()].reset_index(drop=True)
    if not sought.limits or frame.empty:
        return set(frame["cell"])
    # What becomes of cells is written down at the end; those here were measured.
    made = from_study(frame.assign(status=Status.COMPLETE.value), metric=QUIET, goals=sought.goals)
    surely, _ = meeting(made, estimate(made))
    return set(made.cells["cell"][surely])


# ---------------------------------------------------------------- after a whole run


@dataclass
class AfterRun:
    """What ``dlas run --settle`` does once all is measured; ``settled`` is what came of it."""

    sought: Sought
    settled: Settled | None = None

    def __call__(self, campaign: Campaign, measured: Sequence[Runnable]) -> None:
        """Settle what a study's own rounds leave open between the cells of this machine.

        Raises:
            UserError: a goal's column was not measured here.
        """
        if away := sorted({cell.stack.label for cell in campaign.company.cells}):
            campaign.maker.progress.note(
                "settled is what is measured on this machine; cells of other machines "
                f"(on: {', '.join(away)}) are not measured again"
            )
            if not measured:
                return
        settings = campaign.study.measure.model_copy(update={"ceilings": False})
        chosen = self._chosen(campaign, measured)
        self.settled = Settling(campaign, self.sought, settings, AFTER).run(chosen)

    def _chosen(self, campaign: Campaign, measured: Sequence[Runnable]) -> list[Contender]:
        """Return the stacks that none is surely better than, by the study's own rounds."""
        seen = rounds_between(campaign, 0, AFTER, measured)
        frame = cells_frame([seen])
        facts = seen.facts_of.items()
        here = [row for (_, host), own in facts if host == campaign.host for row in own.values()]
        failed = _failed([*seen.rounds, *here])
        every = [cell for cell in measured if cell.cell not in failed]
        known = self._known(frame, campaign.host, every)
        sure = surely_meeting(frame, campaign.host, self.sought)
        known = [replace(each, sure=each.cell.cell in sure) for each in known]
        good = [each for each in known if may_meet(each.values, self.sought, FLOOR)]
        fit = _fit(seen, self.sought)
        if fit is None or fit.estimates is None or self.sought.latency is None:
            return contenders(good, self.sought)
        rows = [fit.cells.index(each.cell.cell) for each in good]
        found = standing(good, self.sought, fit.estimates, rows)
        return [each for each, beaten in zip(good, found.beaten, strict=True) if not beaten]

    def _known(
        self, frame: pd.DataFrame, host: str, measured: Sequence[Runnable]
    ) -> list[Contender]:
        """Return the cells of which every column sought is known."""
        rows = {str(row["cell"]): row for row in frame[frame["host"] == host].to_dict("records")}
        every = [cell for cell in measured if cell.cell in rows]
        columns = self.sought.columns
        values = [{c: _number(rows[cell.cell][c]) for c in columns} for cell in every]
        absent = [c for c in columns if all(math.isnan(each[c]) for each in values)]
        if absent and every:
            raise UserError(
                f"goals: {', '.join(absent)} was not measured on this machine, so nothing can be "
                "settled by it"
            )
        return [
            Contender(cell, each)
            for cell, each in zip(every, values, strict=True)
            if not any(math.isnan(value) for value in each.values())
        ]


def _number(value: object) -> float:
    """Return a table's value as a number; what is missing as NaN."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
