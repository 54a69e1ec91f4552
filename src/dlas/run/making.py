"""A run's artefacts: the plan's steps, then those that look at what was built, in a disk budget.

Evaluations are keyed by the content of what was built, so they are known only then. Where one
needs an artefact that was evicted, the step that yields it runs again; if it yields something else
this time (training need not be bit-exact), what was built before is stale and all begins anew:
nothing is ever evaluated against what it was not made from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType

from dlas.core import failpoints
from dlas.core.records import Status
from dlas.run.bench import Bench
from dlas.run.engines.hands import Hands
from dlas.run.engines.local import LocalEngine, Remade
from dlas.run.plan.after_build import baseline_step, evaluate_step, memory_step
from dlas.run.plan.plan import Plan, Runnable, Step
from dlas.run.progress import Progress
from dlas.store.artifacts import ArtifactStore, StepRecord
from dlas.store.budget import Budget


@dataclass
class Maker:
    """Has the steps of one run done; ``records`` says what became of each."""

    bench: Bench
    artifacts: ArtifactStore
    retry: tuple[Status, ...]
    remeasure: bool
    progress: Progress
    budget: Budget | None = None
    records: dict[str, StepRecord] = field(default_factory=dict)
    total: int = 0
    seen: set[str] = field(default_factory=set)
    """The keys of the steps that have ended."""
    hands: Hands | None = None
    """Who does the steps; None: this machine."""
    tried: set[str] = field(default_factory=set)
    """The keys of the steps done since the run began: what failed of them is not retried."""
    beside: Callable[[], AbstractContextManager[None]] = nullcontext
    """A block for each step, where others may measure on this machine."""

    def ok(self, key: str) -> bool:
        """Return whether a step yielded something."""
        return self.records[key].status is Status.COMPLETE

    def make(
        self, plan: Plan, beside: Mapping[str, Step] = MappingProxyType({})
    ) -> list[Runnable]:
        """Build all cells and evaluate what was built; return the cells that were.

        The steps ``beside`` are done with theirs.
        """
        while True:
            later = self._later(plan) if self.budget else ()
            self.execute({**plan.steps, **beside}, later=later)
            failpoints.reach("built")
            built = [cell for cell in plan.runnable if self.ok(cell.build)]
            steps: dict[str, Step] = {}
            # A step that cells of several thread counts share runs with the fewest: others run
            # beside it.
            for cell in sorted(built, key=lambda cell: cell.threads):
                for step in self.after(cell):
                    steps.setdefault(step.key, step)
            self.total = len({**plan.steps, **beside, **steps})
            try:
                self.execute(steps, anew=self.remeasure, upstream=plan.steps)
            except Remade as change:
                self.progress.note(
                    f"{plan.steps[change.key].text} was made again, since it had been evicted, "
                    "and differs: what was made from it before is made again"
                )
                continue
            return built

    def execute(
        self,
        steps: Mapping[str, Step],
        *,
        anew: bool = False,
        upstream: Mapping[str, Step] | None = None,
        later: Collection[str] = (),
    ) -> None:
        """Have steps done, and keep what became of them."""
        engine = self._engine(anew, upstream or {}, later)
        self.records.update(engine.run(steps, self._step_done))

    def after(self, cell: Runnable) -> list[Step]:
        """Return the steps that look at what was built for a cell."""
        return self._after(cell, self.records[cell.build])

    def require_room(self) -> None:
        """Raise unless the disk budget was kept to the end.

        Raises:
            StorageError: it was not.
        """
        if self.budget is not None and not self.budget.fits():
            raise self.budget.refusal(0)

    def _after(self, cell: Runnable, built: StepRecord) -> list[Step]:
        settings = self.bench.settings
        steps = [
            baseline_step(cell, settings, self.bench.host),
            evaluate_step(cell, built, settings, self.bench.host),
        ]
        return [*steps, memory_step(cell, built, self.bench.host)] if settings.memory else steps

    def _engine(
        self, anew: bool, upstream: Mapping[str, Step], later: Collection[str]
    ) -> LocalEngine:
        return LocalEngine(
            store=self.artifacts,
            pool=self.bench.pool,
            settings=self.bench.settings,
            paths=self.bench.paths,
            retry=self.retry,
            anew=anew,
            upstream=upstream,
            budget=self.budget,
            later=later,
            hands=self.hands,
            tried=self.tried,
            beside=self.beside,
        )

    def _later(self, plan: Plan) -> set[str]:
        """Return the keys of the steps that evaluations will read, as far as can be told now."""
        engine = self._engine(self.remeasure, {}, ())
        keys: set[str] = set()
        for cell in plan.runnable:
            built = self.artifacts.get(cell.build)
            if built is None:
                keys |= {cell.prepared, cell.reference}
            elif built.status is Status.COMPLETE or built.status in self.retry:
                for step in self._after(cell, built):
                    keys |= set() if engine.finished(step) else set(step.inputs.values())
        return keys

    def _step_done(self, step: Step, record: StepRecord, known: bool) -> None:
        self.seen.add(step.key)
        if not known and record.status is Status.FAILED:
            self.progress.note(f"{record.stage} failed: {step.text}: {record.reason}")
        self.progress.step(str(step.stage), step.text, len(self.seen), self.total)
