"""A real exploration: few stacks, killed and taken up, filled in by a run; nothing twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from place import Place

GOALS = {"minimize": ["latency_ms", "memory_mb"], "accuracy_drop_at_most": 0.9}
LAYERS = {"software": ["onnxruntime"]}


def outcome(place: Place, out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place.root / out / "exploration.json").read_text())
    return found


@pytest.fixture(scope="module")
def explored(shared: Place) -> Place:
    study = shared.study(goals=GOALS, layers=LAYERS)
    process = shared.start(
        "explore", study, "--out", "out", "--budget", "3", DLAS_FAILPOINT="round-stored"
    )
    assert process.wait(timeout=200) == -9
    ended = shared.dlas("explore", study, "--out", "out", "--budget", "3")
    assert ended.returncode == 0, ended.stderr
    return shared


def test_killed_it_goes_on_and_measures_only_what_it_chose(explored: Place) -> None:
    found = outcome(explored, "out")
    assert len(found["order"]) == 3
    measured = {cell for cell, control, _ in explored.rounds("out") if control == 0}
    assert measured == set(found["order"])
    assert {row.status for row in explored.cells("out").values()} == {"complete", "pending"}
    statuses = {cell: row.status for cell, row in explored.cells("out").items()}
    assert {statuses[cell] for cell in found["order"]} == {"complete"}


def test_what_may_be_on_the_front_has_all_rounds(explored: Place) -> None:
    found = outcome(explored, "out")
    finals = found["settled"]["finals"]
    assert finals
    for final in finals:
        assert (final["cell"], 0, 1) in explored.rounds("out")
        assert final["rounds"] == 2
        assert final["quiet_ms"] > 0


def test_the_same_again_names_the_same_and_measures_nothing(explored: Place) -> None:
    before, rounds = outcome(explored, "out"), explored.rounds("out")
    study = explored.study(goals=GOALS, layers=LAYERS)
    ended = explored.dlas("explore", study, "--out", "out", "--budget", "3", "--format", "json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["order"] == before["order"]
    after = explored.rounds("out")
    assert {k: r.created_at for k, r in after.items()} == {
        k: r.created_at for k, r in rounds.items()
    }


@pytest.mark.slow
def test_a_larger_budget_adds_and_a_run_fills_in_the_rest(explored: Place) -> None:
    study = explored.study(goals=GOALS, layers=LAYERS)
    before, rounds = outcome(explored, "out"), explored.rounds("out")
    ended = explored.dlas("explore", study, "--out", "out", "--budget", "100%")
    assert ended.returncode == 0, ended.stderr
    found = outcome(explored, "out")
    assert found["order"][:3] == before["order"]
    ended = explored.dlas("run", study, "--out", "out", "--settle")
    assert ended.returncode == 0, ended.stderr
    assert "could be the answer" in ended.stdout
    after = explored.rounds("out")
    assert {k: after[k].created_at for k in rounds} == {k: r.created_at for k, r in rounds.items()}
    cells = explored.cells("out")
    assert {row.status for row in cells.values()} == {"complete"}
    assert {(cell, 0, n) for cell in cells for n in (0, 1)} <= set(after)
    ended = explored.dlas("explore", study, "--out", "out", "--budget", "3", "--format", "json")
    assert json.loads(ended.stdout)["order"] == before["order"]
