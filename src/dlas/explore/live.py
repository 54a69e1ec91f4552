"""An exploration for real: a sampler asks, a campaign builds and measures, until it is enough."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dlas.core.errors import UserError
from dlas.core.sampler import Sampler, Told
from dlas.explore import names
from dlas.explore.account import Explored, Unseen
from dlas.explore.allowance import Allowance, parse_budget
from dlas.explore.axes import groups, of_stacks
from dlas.explore.expense import Expense
from dlas.explore.finalists import FLOOR, Contender, contenders
from dlas.explore.forehand import known
from dlas.explore.heard import heard
from dlas.explore.outlook import Outlook
from dlas.explore.settling import (
    Settling,
    exactly,
    rounds_between,
    sought_of,
    surely_meeting,
)
from dlas.explore.sought import Sought
from dlas.explore.start import starting
from dlas.run.asked import parted
from dlas.run.company import Form, nobody
from dlas.run.progress import Progress, Silent
from dlas.run.run import Campaign, campaign
from dlas.study.study import Study
from dlas.tables import cells_frame
from dlas.tables.fitted import QUIET

BATCH = 6
"""Stacks that are asked for at once: the runtimes are started afresh for each batch."""
UNLIKELY = 0.05
"""It ends when the probability that any other stack joins the front is below this."""
TOLD_UNSEEN = 5
SEARCH = 0.8
"""The share of a time within which stacks are looked for; the rest is to tell the best apart."""

OF_ARTEFACT = (
    "accuracy", "accuracy_drop", "flips", "max_abs_error", "weights_mb", "artifact_mb", "params",
    "nonzero_params", "macs", "effective_macs", "build_s",
)  # fmt: skip
"""Columns that are the artefact's: one look serves all stacks that run it."""


def explore(
    study: Study,
    out: Path | str,
    *,
    budget: Allowance | str | None = None,
    sampler: str = names.OWN,
    seed: int = 0,
    store: Path | str | None = None,
    results: str | None = None,
    beside: str = "",
    progress: Progress | None = None,
    form: Form = nobody,
    metric: str = QUIET,
) -> Explored:
    """Measure few of a study's stacks, and find its front under its goals.

    The same plan, steps, rounds and rows as :func:`dlas.run`, which later fills in the rest. The
    same call again goes on where it was stopped: a stack that was measured is not measured again,
    and with the same seed the same stacks follow in the same order.

    Args:
        study: with goals that minimize or maximize something.
        out: the folder of the results.
        budget: ``5%``, ``60`` (stacks) or ``30m``; without one it ends when no other stack is
            likely to join the front.
        sampler: the name of an installed sampler.
        seed: of the sampler.
        store: a folder of artefacts to share with other studies, or ``s3://bucket/prefix``.
        results: a PostgreSQL database for the rows.
        beside: the cell that others are to be compared with: it is measured first, and again
            beside those that are left in the end.
        progress: who is told where it is.
        form: brings in other machines, which build; all is measured here.
        metric: the latency that stacks are compared by: ``quiet_ms``, or ``latency_ms``, as seen.

    Raises:
        UserError: the study seeks nothing, the budget is none, there is no such sampler, no stack
            can run here, a goal's column is not measured here, or stacks are for other machines.
        StorageError: the disk is full, read-only or damaged.
    """
    began = time.monotonic()
    allowed = parse_budget(budget) if isinstance(budget, str) else budget or Allowance()
    sought = sought_of(study, "explore", metric)
    kind = names.find(sampler)
    progress = progress or Silent()
    if form is not nobody:
        _require_here(study)
    with campaign(study, out, store=store, results=results, progress=progress, form=form) as begun:
        made = _Exploration(begun, sought, kind, sampler, seed, allowed, progress, began, beside)
        return made.run()


def _require_here(study: Study) -> None:
    """Refuse stacks of other machines: what is chosen next follows from what is measured here.

    Raises:
        UserError: names their labels.
    """
    _, elsewhere = parted(study.stacks)
    if labels := sorted({stack.label for stack in elsewhere}):
        raise UserError(
            f"study {study.name!r}: explore measures on one machine, and some stacks are for "
            f"others (on: {', '.join(labels)}): leave `on` out, or run dlas explore there"
        )


@dataclass
class _Exploration:
    campaign: Campaign
    sought: Sought
    kind: type[Sampler]
    name: str
    seed: int
    allowed: Allowance
    progress: Progress
    began: float
    beside: str = ""
    told: list[Told] = field(default_factory=list)
    choosing_s: float = 0.0

    def __post_init__(self) -> None:
        self.cells = self.campaign.plan.runnable
        if not self.cells:
            raise UserError(
                f"study {self.campaign.study.name!r}: none of its "
                f"{len(self.campaign.plan.cells)} stacks can run here; `dlas plan` says why"
            )
        stacks = [cell.stack for cell in self.cells]
        told = known([(cell.prepared, cell.techniques) for cell in self.cells])
        self.candidates = replace(of_stacks(stacks, self._shared()), known=told)
        self.sampler = self.kind(self.candidates, self.sought.goals, self.seed)
        self.expense = Expense(self.campaign.plan, self.cells)
        self.first = len(starting(self.candidates, self.seed))

    def _shared(self) -> Mapping[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        artefacts = groups([cell.build for cell in self.cells])
        memory = groups([(cell.build, cell.text("hardware")) for cell in self.cells])
        return {**dict.fromkeys(OF_ARTEFACT, artefacts), "memory_mb": memory}

    # ------------------------------------------------------------ the whole

    def run(self) -> Explored:
        self.campaign.open()
        self.progress.start(0, self.allowed.count(len(self.cells)))
        reason = self._search()
        chosen = contenders(self._measured(), self.sought)
        # The first round alone chose them: what is measured from the second on did not.
        settings = self.campaign.study.measure
        beside = [self.cells[at] for at in self._beside() if self._works(at)]
        settling = Settling(self.campaign, self.sought, settings, 1, self._late, beside)
        settled = settling.run(chosen)
        summary = self.campaign.close(rounds=1)
        found = Explored(
            study=self.campaign.study.name,
            out=self.campaign.out,
            sampler=self.name,
            seed=self.seed,
            stacks=len(self.cells),
            order=tuple(self.cells[each.at].cell for each in self.told),
            failed=sum(each.values is None for each in self.told),
            reason=reason,
            settled=settled,
            closest="" if settled.finals else self._closest(),
            unseen=self._unseen(),
            choosing_s=self.choosing_s,
            cells=summary.cells,
        )
        found.save()
        return found

    def _measured(self) -> list[Contender]:
        """Return what was measured and works, by its first round."""
        told = [(self.cells[each.at], each.values) for each in self.told]
        seen = rounds_between(self.campaign, 0, 1, [cell for cell, _ in told])
        sure = surely_meeting(cells_frame([seen]), self.campaign.host, self.sought)
        return [Contender(c, values, c.cell in sure) for c, values in told if values is not None]

    def _search(self) -> str:
        """Measure batch after batch; return why it ended."""
        most = self.allowed.count(len(self.cells))
        if first := self._beside():
            self._measure(first)
        while True:
            began = time.perf_counter()
            asked = self.sampler.ask(self._batch(), self.expense.seconds())
            self.choosing_s += time.perf_counter() - began
            if not asked:
                return "every stack that can run here was measured"
            self._measure(asked[: most - len(self.told)])
            if len(self.told) >= most:
                return f"the budget of {most} stacks is spent"
            if self._late(SEARCH):
                return f"the budget of {self.allowed.seconds:g} s is spent"
            if len(self.told) >= self.first and self._chance() < UNLIKELY:
                return (
                    "no other stack is likely to join the front: the probability that any does, "
                    f"by more than {FLOOR:.0%}, is below {UNLIKELY:.0%}"
                )

    def _batch(self) -> int:
        """Return for how many stacks to ask: no more than there is likely to be time for."""
        if self.allowed.seconds is None or not self.told:
            return BATCH
        spent = time.monotonic() - self.began
        pace = spent / len(self.told)
        return max(1, min(BATCH, int((SEARCH * self.allowed.seconds - spent) / pace)))

    def _beside(self) -> list[int]:
        """Return the stack that others are to be compared with, if there is one."""
        return [at for at, cell in enumerate(self.cells) if cell.cell == self.beside]

    def _works(self, at: int) -> bool:
        return any(each.at == at and each.values is not None for each in self.told)

    def _measure(self, asked: list[int]) -> None:
        cells = [self.cells[at] for at in asked]
        right = self.campaign.make(cells)
        first = exactly(self.campaign.study.measure, 1)
        self.campaign.measure(right, first)
        for at, cell in zip(asked, cells, strict=True):
            values = heard(
                self.campaign.results, cell.cell, self.campaign.host, self.sought.columns
            )
            told = Told(at, values)
            self.told.append(told)
            self.sampler.tell(told)
            self.expense.named(cell)

    def _late(self, share: float = 1.0) -> bool:
        """Return whether a share of the time is over, where there is a limit."""
        seconds = self.allowed.seconds
        return seconds is not None and time.monotonic() - self.began >= share * seconds

    # ------------------------------------------------------------ what was not looked at

    def _outlook(self) -> Outlook:
        return Outlook(self.candidates, self.sought, self.told, seed=self.seed)

    def _chance(self) -> float:
        """Return the probability that a stack not measured joins the front by the floor."""
        left = self._left()
        outlook = self._outlook()
        if not left or not outlook.complete:
            return 1.0 if left else 0.0
        return float(1 - np.prod(1 - outlook.joins(FLOOR)[left]))

    def _left(self) -> list[int]:
        heard_of = {each.at for each in self.told}
        return [at for at in range(len(self.cells)) if at not in heard_of]

    def _unseen(self) -> tuple[Unseen, ...]:
        """Return the stacks not measured that are likeliest to be on the front."""
        left, outlook = self._left(), self._outlook()
        if not left or not outlook.complete:
            return ()
        joins = outlook.joins(FLOOR)
        likely = sorted(left, key=lambda at: (-joins[at], at))[:TOLD_UNSEEN]
        return tuple(self._expected(outlook, at, float(joins[at])) for at in likely)

    def _expected(self, outlook: Outlook, at: int, joins: float) -> Unseen:
        values = {}
        for column, _ in self.sought.metrics:
            belief, scale = outlook.belief(column), outlook.scale(column)
            low, high = belief.interval()
            values[column] = tuple(float(scale.back(end[at])) for end in (belief.mean, low, high))
        cell = self.cells[at]
        layers = ("model", "optimization", "algorithm", "software", "hardware")
        return Unseen(cell.cell, cell.text(*layers), joins, values)

    def _closest(self) -> str:
        """Return which stack comes closest to meeting the limits, where none meets them."""
        if any(e.values is not None and self.sought.meets(e.values) for e in self.told):
            return "the stacks that could be the best failed when they were measured again"
        best = None
        for each in self.told:
            if each.values is None:
                continue
            off = max(
                (sign * (each.values[column] - bound) / max(abs(bound), 1e-9), column)
                for column, sign, bound in self.sought.limits
            )
            best = min(best, (*off, each.at)) if best else (*off, each.at)
        if best is None:
            return "no stack that was measured works"
        _, column, at = best
        told = next(each for each in self.told if each.at == at)
        assert told.values is not None
        return (
            f"no stack that was measured meets the limits; {self.cells[at].cell} comes closest, "
            f"with {column} = {told.values[column]:.4g}"
        )
