"""What a run makes, by a pool that is a fake: what rests on different networks is never mixed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlas.core.records import Outcome, Status
from dlas.run import bench as run
from dlas.run.making import Maker
from dlas.run.plan.plan import Plan, make
from dlas.run.process.tasks import Job, Server
from dlas.run.progress import Silent
from dlas.store.artifacts import ArtifactStore
from dlas.store.budget import INTERMEDIATE, Budget, Inventory
from dlas.study.study import Study
from fake_layers import fakes  # noqa: F401


class Pool:
    """Runs every step as a note of which version of the network it rests on."""

    def __init__(self) -> None:
        self.version = 1
        self.ran: Counter[str] = Counter()
        self.broken = ""

    def run(self, server: Server, job: Job, launch: str = "fork") -> Outcome:
        stage = "baseline" if job.task.endswith("baseline") else str(job.stage)
        self.ran[stage] += 1
        if stage == self.broken:
            return Outcome(Status.FAILED, reason="broken")
        given = [Path(v) for k, v in job.args.items() if k in ("network", "artifact", "reference")]
        versions = {(folder / "version").read_text() for folder in given}
        assert len(versions) <= 1, "what rests on different networks was mixed"
        text = versions.pop() if versions else str(self.version)
        folder = Path(job.args["folder"])
        (folder / "version").write_text(text)
        own = {k: v for k, v in job.args.items() if k in ("technique", "software", "form")}
        whats = [(folder / "what").read_text().rstrip(".") for folder in given]
        (folder / "what").write_text(json.dumps([stage, own, *whats]).ljust(2000, "."))
        n = job.args.get("samples", 0)
        return Outcome(Status.COMPLETE, {"n": n, "of": 10_000, "content": "c"})


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ArtifactStore(folder / "store")
        self.pool = Pool()
        self.progress = Notes()

    def make(self, limit: int = 0, samples: int = 10, **options: Any) -> tuple[Maker, Plan]:
        data = {
            "dlas": 1,
            "name": "small",
            "layers": {
                "dataset": ["pictures"], "model": ["small"], "software": ["eager"],
                "optimization": ["none", "weight-pruning", "distil"],
            },
            "measure": {"accuracy_samples": samples, "memory": False},
        }  # fmt: skip
        (self.folder / "small.yaml").write_text(json.dumps(data))
        study = Study.load(self.folder / "small.yaml")
        budget = Budget(self.store, limit, self.progress.note) if limit else None
        asked = {"retry": (), "remeasure": False} | options
        shared = run.Bench(self.pool, None, study.measure, "h", "s", ())  # type: ignore[arg-type]
        maker = Maker(shared, self.store, progress=self.progress, budget=budget, **asked)
        plan = make(study)
        with self.store.use():
            maker.make(plan)
        return maker, plan

    def evict(self) -> None:
        with self.store.use(), self.store.only_user() as alone:
            assert alone
            for step in Inventory(self.store).steps().values():
                if step.stage in INTERMEDIATE:
                    self.store.evict(step.content)

    def used(self) -> int:
        return sum(Inventory(self.store).sizes().values())

    def ran(self) -> dict[str, int]:
        """Return what ran since this was last asked."""
        before, self.pool.ran = dict(self.pool.ran), Counter()
        return before


@pytest.fixture
def bench(tmp_path: Path, fakes: None) -> Iterator[Bench]:  # noqa: F811
    made = Bench(tmp_path)
    made.make()
    made.ran()
    return made


def test_a_finished_run_makes_nothing_though_all_was_evicted(bench: Bench) -> None:
    bench.evict()
    bench.make()
    assert bench.ran() == {}


def test_more_samples_make_again_what_evaluations_read(bench: Bench) -> None:
    bench.evict()
    maker, plan = bench.make(samples=20)
    assert bench.ran() == {
        "prepare": 1, "optimize": 3, "reference": 3, "baseline": 1, "evaluate": 3,
    }  # fmt: skip
    assert all(maker.ok(cell.build) for cell in plan.runnable)


def test_what_differs_when_made_again_is_built_again_and_never_mixed(bench: Bench) -> None:
    bench.evict()
    before = {step.key: step.content for step in Inventory(bench.store).steps().values()}
    bench.pool.version = 2
    maker, plan = bench.make(samples=20)
    assert "had been evicted, and differs" in bench.progress.notes[0]
    assert bench.ran()["build"] == 3
    for cell in plan.runnable:
        content = maker.records[cell.build].content
        assert content is not None
        assert content != before[cell.build]
        assert (bench.store.path(content) / "version").read_text() == "2"
        evaluated = maker.records[maker.after(cell)[1].key]
        assert (evaluated.status, evaluated.info["n"]) == (Status.COMPLETE, 20)


def test_evaluating_anew_makes_again_what_it_reads(bench: Bench) -> None:
    bench.evict()
    bench.make(remeasure=True)
    assert bench.ran()["evaluate"] == 3


def test_failed_builds_are_tried_again_with_what_they_need(
    tmp_path: Path,
    fakes: None,  # noqa: F811
) -> None:
    bench = Bench(tmp_path)
    bench.pool.broken = "build"
    maker, plan = bench.make()
    assert not any(maker.ok(cell.build) for cell in plan.runnable)
    bench.evict()
    bench.ran()
    bench.pool.broken = ""
    bench.make()
    assert bench.ran() == {}
    maker, plan = bench.make(retry=(Status.FAILED,))
    assert all(maker.ok(cell.build) for cell in plan.runnable)
    assert bench.ran()["evaluate"] == 3


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_fails_again_is_tried_once_in_a_run(
    tmp_path: Path,
    fakes: None,  # noqa: F811
    elsewhere: bool,
) -> None:
    """Also where another machine has just tried it for the same run."""
    bench = Bench(tmp_path)
    bench.pool.broken = "build"
    _, plan = bench.make()
    bench.ran()
    tried = {*plan.steps} if elsewhere else set()
    maker, plan = bench.make(retry=(Status.FAILED,), tried=tried)
    assert bench.ran().get("build", 0) == (0 if elsewhere else 3)
    maker.make(plan)
    assert bench.ran() == {}


def test_a_budget_is_kept_and_each_step_runs_once(bench: Bench, tmp_path: Path) -> None:
    everything = bench.used()
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    maker, plan = other.make(limit=everything - 5000)
    assert maker.budget is not None
    assert maker.budget.evicted >= 2
    assert other.used() <= maker.budget.limit
    maker.require_room()
    assert other.ran() == {
        "inputs": 1, "prepare": 1, "optimize": 3, "reference": 3, "build": 3,
        "baseline": 1, "evaluate": 3,
    }  # fmt: skip
    contents = {cell.cell: maker.records[cell.build].content for cell in plan.runnable}
    again, _ = bench.make()
    assert contents == {cell.cell: again.records[cell.build].content for cell in plan.runnable}
