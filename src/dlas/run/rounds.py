"""The rounds: every cell once a round, in an order shuffled anew, with the machine to itself."""

from __future__ import annotations

import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from dlas.core import failpoints
from dlas.core.clock import now
from dlas.core.keys import Json
from dlas.core.records import Stage, Status
from dlas.run.anchors import anchors
from dlas.run.bench import Bench, Measured, measure
from dlas.run.engines.hands import default_workers
from dlas.run.enough import spoiled, undecided
from dlas.run.measurands import Entry, with_controls
from dlas.run.measure.sentinel import Drift, Watch
from dlas.run.measure.verdict import asked_and_ran
from dlas.run.plan.after_build import TOLD
from dlas.run.plan.counts import stratum
from dlas.run.process.tasks import Launch, Server
from dlas.run.progress import Progress
from dlas.store.facts import Observed, flagged
from dlas.store.results import FactRow, RoundRow, SentinelRow

AGAIN = frozenset({"steal", "stopped"})
"""What has a round measured once more, at once."""
SENTINEL = Server(preload=("numpy",))
SENTINEL_EVERY = 10
PAUSE_S = 10.0
"""Seconds between the beginnings of rounds that repeat what was disturbed too often."""
RESTART_EVERY = 3
"""Rounds in which the same servers are forked: their children share one address layout."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement: of what, which of its rounds, and where in the order of the whole round."""

    entry: Entry
    round: int
    position: int


class Rounds:
    """Measures entries round by round into a store, what is not there already."""

    def __init__(
        self,
        bench: Bench,
        progress: Progress,
        beside: Callable[[str], None] = lambda _moment: None,
        first: int = 0,
    ) -> None:
        """Prepare to measure.

        Args:
            bench: where it measures.
            progress: who is told where it is.
            beside: called with ``start`` before all measurements, with ``end`` after them. The
                machine is as alone then as in a measurement; nothing is called where nothing is
                due.
            first: rounds are numbered from here, and those before do not count: what an earlier
                choice rests on is not what is measured because of it.
        """
        self.first = first
        self.bench = bench
        self.progress = progress
        self.beside = beside
        self.begun = False
        self.have: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.anchors: list[Entry] = []
        self.watch = Watch()
        self.done = 0
        self.total = 0
        self.spent_s = 0.0
        self.measured = 0

    def run(self, entries: Sequence[Entry]) -> None:
        """Measure whatever is missing."""
        allowed = os.sched_getaffinity(0)
        everything = with_controls(entries, self.bench.settings)
        rounds = self.bench.settings.rounds
        for row in self._rows(everything):
            self.have[row.cell, row.control].add(row.round)
        self.anchors = self._anchors(everything)
        self.total = len(everything) * rounds.max + len(self.anchors) * rounds.min
        try:
            for number in range(rounds.max):
                due = everything if number < rounds.min else self._undecided(everything)
                self.done += len(everything) - len(due)
                self._round(number, due)
            self._once_more(everything)
            if self.begun:
                self.beside("end")
        finally:
            os.sched_setaffinity(0, allowed)

    def _once_more(self, everything: Sequence[Entry]) -> None:
        """Measure again what was disturbed too often: at most as many rounds again.

        Not where the number of rounds is fixed, nor what an earlier run measured. What disturbs
        lasts for seconds to minutes; a round of few entries is over in less, so that it is waited.
        """
        rounds = self.bench.settings.rounds
        began = -math.inf
        for number in range(rounds.max, 2 * rounds.max if rounds.max > rounds.min else 0):
            few, company = spoiled(
                everything,
                self._rows(everything),
                self.bench.session,
                anchors={entry.name for entry in self.anchors},
                name=lambda entry: entry.name,
                stratum=lambda entry: stratum(entry.plan),
                fit=lambda entry: not self._gave_up(entry),
            )
            if not few:
                return
            self.progress.note(
                f"{len(few)} measurements were disturbed too often by what else the machine does: "
                "one more round of them"
            )
            time.sleep(max(0.0, began + PAUSE_S - time.monotonic()))
            began = time.monotonic()
            self.total += len(few) + len(company)
            self._round(number, few + company, again=True)

    def _rows(self, everything: Sequence[Entry]) -> list[RoundRow]:
        """Return the rounds that are there of some entries, as they are asked for now."""
        asked = {entry.name: entry for entry in everything}
        return [
            row
            for row in self.bench.results.rows(RoundRow, host=self.bench.host)
            if row.round >= self.first
            and (entry := asked.get((row.cell, row.control))) is not None
            and (row.key, row.content) == (entry.key, entry.content)
        ]

    def _anchors(self, everything: Sequence[Entry]) -> list[Entry]:
        """Return what is measured again because something is measured in this session alone."""
        cells = [entry for entry in everything if entry.control == 0 and not self._gave_up(entry)]
        before = [entry for entry in cells if self.have[entry.name]]
        if self.bench.settings.rounds.max < 2 or len(before) == len(cells):
            return []
        return anchors(
            before,
            [e for e in before if len(self.have[e.name]) < self.bench.settings.rounds.min],
            cell=lambda entry: entry.plan.cell,
            stratum=lambda entry: stratum(entry.plan),
            model=lambda entry: entry.plan.stack.text("model"),
        )

    def _undecided(self, everything: Sequence[Entry]) -> list[Entry]:
        """Return the entries that are not known well enough yet."""
        return undecided(
            everything,
            self._rows(everything),
            self.bench.settings.precision,
            name=lambda entry: entry.name,
            stratum=lambda entry: stratum(entry.plan),
        )

    # ------------------------------------------------------------ one round

    def _round(self, number: int, everything: Sequence[Entry], again: bool = False) -> None:
        pending = [entry for entry in everything if again or len(self.have[entry.name]) <= number]
        self.done += len(everything) - len(pending)
        if number < self.bench.settings.rounds.min:
            pending += [entry for entry in self.anchors if entry not in pending]
        if not pending:
            return
        failpoints.reach("round-started")
        if number % RESTART_EVERY == 0:
            self.bench.pool.restart()
        # Importing takes longer than measuring; nothing is measured yet.
        servers = [SENTINEL, *(entry.plan.server for entry in pending)]
        self.bench.pool.warm(servers, default_workers())
        if not self.begun:
            self.begun = True
            self.beside("start")
        random.Random(f"{self.bench.settings.seed}:{self.first + number}").shuffle(pending)
        self._sentinel(number, 0)
        since_good: list[Turn] = []
        for position, entry in enumerate(pending, start=1):
            if self._gave_up(entry):
                self.done += 1
                continue
            self._show(entry)
            turn = self._turn(entry, position)
            self._measure(turn)
            since_good.append(turn)
            if position % SENTINEL_EVERY == 0 or position == len(pending):
                since_good = self._check(number, position, since_good)

    def _turn(self, entry: Entry, position: int) -> Turn:
        """Return the next round of an entry; whatever session measured the others."""
        have = self.have[entry.name]
        number = next(n for n in count(self.first) if n not in have)
        have.add(number)
        return Turn(entry, number, position)

    def _gave_up(self, entry: Entry) -> bool:
        """A cell that failed in an earlier round is not measured again."""
        rows = self.bench.results.rows(RoundRow, host=self.bench.host, cell=entry.plan.cell)
        return any(r.status is Status.FAILED and r.key == entry.key for r in rows)

    def _check(self, number: int, position: int, since_good: list[Turn]) -> list[Turn]:
        """Watch the sentinel: repeat once what was measured while the machine was off."""
        if self._sentinel(number, position) is Drift.NONE:
            return []
        for turn in since_good:
            self._show(turn.entry)
            self._measure(turn, flags=("repeated",))
        if self._sentinel(number, position) is not Drift.NONE:
            for turn in since_good:
                self._flag(turn, "drift")
        return []

    def _sentinel(self, number: int, position: int) -> Drift:
        outcome = self.bench.run_alone("dlas.run.measure.sentinel:run", {}, SENTINEL)
        if not outcome.ok:
            self.progress.note(f"the sentinel failed: {outcome.reason}")
            return Drift.NONE
        seconds = float(outcome.value["seconds"])
        row = SentinelRow(
            session=self.bench.session,
            round=number,
            position=position,
            seconds=seconds,
            created_at=now(),
        )
        self.bench.results.put(row)
        return self.watch.see(seconds)

    # ------------------------------------------------------------ one measurement

    def _measure(self, turn: Turn, flags: tuple[str, ...] = ()) -> None:
        entry = turn.entry
        asked_at = time.perf_counter()
        observe = entry.control == 0 and not self._observed(entry)
        measured, attempts = self._attempts(entry, observe)
        if measured.seen and AGAIN & {*measured.seen.flags}:
            measured, more = self._attempts(entry, observe)
            attempts += more
        failpoints.reach("measured")
        row = self._row(turn, measured, attempts, flags)
        facts: list[FactRow] = []
        if measured.ran:
            fact = self._fact(entry, measured.ran)
            facts.append(fact)
            if fact.status is Status.FAILED:
                row = replace(row, status=fact.status, stage=fact.stage, reason=fact.reason)
        results = self.bench.results
        kept = (results.amend if "repeated" in flags else results.insert)(row, *facts)
        elapsed = time.perf_counter() - asked_at
        if not kept:
            self._lost(turn)
        elif measured.seen and attempts == 1:
            overhead_s = elapsed - measured.seen.child_s
            results.amend(replace(row, overhead_s=overhead_s))
        failpoints.reach("round-stored")
        self.spent_s += elapsed
        self.measured += 1
        if "repeated" not in flags:  # what the sentinel made us repeat was counted before
            self.done += 1

    def _attempts(self, entry: Entry, observe: bool) -> tuple[Measured, int]:
        """Measure; what a signal, timeout or lack of memory ended is tried once more, by exec."""
        measured = self._once(entry, observe, "fork")
        if measured.seen or not measured.outcome.transient:
            return measured, 1
        return self._once(entry, observe, "exec"), 2

    def _once(self, entry: Entry, observe: bool, launch: Launch) -> Measured:
        settings = self.bench.settings
        return measure(
            self.bench,
            entry.plan,
            entry.artifact,
            entry.inputs,
            settings,
            observe=observe,
            launch=launch,
        )

    # ------------------------------------------------------------ rows

    def _observed(self, entry: Entry) -> bool:
        rows = self.bench.results.rows(
            FactRow, cell=entry.plan.cell, host=self.bench.host, kind=Observed.KIND
        )
        return any(row.key == entry.key and row.content == entry.content for row in rows)

    def _fact(self, entry: Entry, ran: Observed) -> FactRow:
        techniques = entry.plan.techniques
        reason = asked_and_ran(
            precision=techniques.precision,
            declared=techniques.software.executes,
            own=techniques.asked_precision is None,
            threads=techniques.hardware.threads,
            ran=ran.to_json(),
        )
        return FactRow(
            cell=entry.plan.cell,
            host=self.bench.host,
            kind=Observed.KIND,
            key=entry.key,
            content=entry.content,
            status=Status.FAILED if reason else Status.COMPLETE,
            stage=Stage.MEASURE if reason else "",
            reason=reason or "",
            log="",
            value=ran.to_json(),
            session=self.bench.session,
            created_at=now(),
            attempts=1,
        )

    def _row(
        self, turn: Turn, measured: Measured, attempts: int, flags: tuple[str, ...]
    ) -> RoundRow:
        entry = turn.entry
        outcome, seen = measured.outcome, measured.seen
        value: dict[str, Json] = {}
        if seen:
            every = tuple(dict.fromkeys((*seen.flags, *flags)))
            value = replace(seen, samples_s=(), flags=every).to_json()
        return RoundRow(
            cell=entry.plan.cell,
            host=self.bench.host,
            control=entry.control,
            round=turn.round,
            key=entry.key,
            content=entry.content,
            status=outcome.status,
            stage="" if outcome.ok else Stage.MEASURE,
            reason=outcome.reason,
            log=outcome.log,
            value=value,
            samples=seen.samples_s if seen else (),
            session=self.bench.session,
            position=turn.position,
            created_at=now(),
            overhead_s=None,
            attempts=attempts,
        )

    def _flag(self, turn: Turn, flag: str) -> None:
        cell, control = turn.entry.name
        found = self.bench.results.rows(
            RoundRow, cell=cell, host=self.bench.host, control=control, round=turn.round
        )
        for row in found:
            if row.session == self.bench.session:
                self.bench.results.amend(flagged(row, flag))

    def _lost(self, turn: Turn) -> None:
        """Say that another run was quicker: its numbers count, ours are gone."""
        self.progress.note(
            f"round {turn.round} of {turn.entry.plan.text(*TOLD)} was measured by another run "
            "meanwhile: its numbers are kept"
        )

    def _show(self, entry: Entry) -> None:
        each = self.spent_s / self.measured if self.measured else 1.0
        text = entry.plan.text(*TOLD)
        self.progress.measurement(text, self.done, self.total, each * (self.total - self.done))
