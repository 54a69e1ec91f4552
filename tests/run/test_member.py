"""What a machine says that it can do for a run: its own plan of the study tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlas.core import registry
from dlas.core.registry import LABELS
from dlas.run.engines.errands import Commission, StepErrand
from dlas.run.member import Member
from dlas.run.plan.plan import Refused, Runnable, make
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
