"""What a machine says that it can do for a run: its own plan of the study tells."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlas.core import registry
from dlas.core.records import Outcome, Status
from dlas.core.registry import LABELS
from dlas.run.engines.errands import Commission, MeasureErrand, StepErrand
from dlas.run.measure import alone
from dlas.run.measure.alone import machine_lock
from dlas.run.member import Member
from dlas.run.plan.plan import Refused, Runnable, make
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Job
from dlas.store.artifacts import ArtifactStore
from dlas.study.study import Study


@pytest.fixture(autouse=True)
def stays_here() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


def study(folder: Path, *hardware: Any) -> Study:
    layers = {
        "dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"],
        "hardware": [*hardware],
    }  # fmt: skip
    return Study.from_dict({"name": "s", "layers": layers}, folder)


def commission(folder: Path, *hardware: Any) -> Commission:
    store = ArtifactStore(folder / "store")
    return Commission(
        session="s", study=study(folder, *hardware), store=str(folder / "store"),
        proof=str(store.scratch()), results="", retry=(), remeasure=False,
    )  # fmt: skip


def member(folder: Path) -> Member:
    return Member(folder / "machine", "m", lambda said: None)


def test_a_machine_plans_cells_without_a_label_and_those_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LABELS, "big,fast")
    asked = commission(tmp_path, "cpu", {"cpu": {"on": ["big", "small"]}})
    said = member(tmp_path).enrol(asked)
    assert said.problem == ""
    assert said.labels == {"big", "fast"}
    (cell,) = said.cells
    assert isinstance(cell, Runnable)
    assert cell.stack.label == "big"
    assert set(cell.steps) == set(said.steps) <= said.keys
    here = make(asked.study, [(s, registry.resolve(s)) for s in asked.study.stacks if not s.label])
    assert here.steps.keys() <= said.keys


def test_a_label_makes_another_cell_of_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LABELS, "big")
    said = member(tmp_path).enrol(commission(tmp_path, "cpu", {"cpu": {"on": "big"}}))
    assert said.keys == said.steps.keys()


def test_a_machine_without_what_a_study_needs_says_so(tmp_path: Path) -> None:
    asked = commission(tmp_path, "cpu")
    gone = replace(asked, study=replace(asked.study, folder=tmp_path / "elsewhere"))
    assert "elsewhere is not there" in member(tmp_path).enrol(gone).problem
    other = replace(asked, proof=str(tmp_path / "store" / "tmp" / "x"))
    assert "is not the store that the run uses" in member(tmp_path).enrol(other).problem


def test_a_technique_that_a_machine_lacks_is_unavailable_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LABELS, "big")
    asked = commission(tmp_path, "cpu", {"cpu": {"on": "big"}})
    stacks = tuple(
        replace(s, model=(replace(s.model[0], name="nowhere"),)) for s in asked.study.stacks
    )
    said = member(tmp_path).enrol(replace(asked, study=replace(asked.study, stacks=stacks)))
    (cell,) = said.cells
    assert isinstance(cell, Refused)
    assert "nowhere" in cell.refusal.reason
    assert said.keys == frozenset()


def test_steps_are_done_here_and_the_record_is_the_answer(tmp_path: Path) -> None:
    asked = commission(tmp_path, "cpu")
    worker = member(tmp_path)
    worker.enrol(asked)
    plan = make(asked.study)
    step = next(s for s in plan.steps.values() if s.stage == "inputs")
    try:
        answer = worker.step(StepErrand(step, {}, files=False, anew=False))
        again = worker.step(StepErrand(step, {}, files=False, anew=False))
    finally:
        worker.close()
    assert answer.record is not None
    assert answer.record.status == "complete", answer.record.reason
    assert (answer.known, again.known) == (False, True)
    assert again.record == answer.record


def test_what_a_machine_evaluates_of_its_own_cells_waits_while_somebody_measures_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "machine.lock"
    monkeypatch.setenv(LABELS, "big")
    monkeypatch.setenv(alone.VARIABLE, str(lock))
    monkeypatch.setattr(alone, "_PAUSE_S", 0.02)
    begun: list[str] = []

    def fails(self: Pool, server: Any, job: Job, launch: str = "fork") -> Outcome:
        begun.append(job.stage)
        with lock.open() as file, pytest.raises(BlockingIOError):  # nobody can measure meanwhile
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Outcome(Status.FAILED, reason="no")

    monkeypatch.setattr(Pool, "run", fails)
    asked = commission(tmp_path, {"cpu": {"on": "big"}})
    said: list[str] = []
    worker = Member(tmp_path / "machine", "m", lambda remark: said.append(remark.text))
    worker.commission = replace(asked, results=None)  # type: ignore[arg-type]  # in a file
    errand = MeasureErrand(frozenset(stack.cell for stack in asked.study.stacks), frozenset())
    with ThreadPoolExecutor(1) as thread:
        with machine_lock():
            answer = thread.submit(worker.measure, errand)
            until = time.monotonic() + 60
            while not said:
                assert time.monotonic() < until
                time.sleep(0.02)
            time.sleep(0.2)
            assert begun == []
        assert answer.result(timeout=60).counts == {"failed": 1}
    assert begun
    assert f"process {os.getpid()}" in said[0]
    assert len([text for text in said if "is measuring on this machine" in text]) == 1
