"""A study that needs more than its disk budget: evicted as it goes, killed, taken up, extended."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dlas.core.records import Stage
from dlas.store.budget import INTERMEDIATE, Inventory
from place import Place

LAYERS = {
    "optimization": [
        "none",
        {"weight-pruning": {"sparsity": {"values": [0.3, 0.6]}, "epochs": 1}},
    ],
    "software": ["pytorch"],
    "hardware": [{"cpu": {"threads": 1}}],
}
MEASURE = {"rounds": 1, "memory": False, "accuracy_samples": 20, "min_controls": 0}


def used(place: Place, out: str) -> int:
    return sum(Inventory(place.store(out)).sizes().values())


def evicted(place: Place, out: str) -> set[str]:
    """Return the stages of the steps whose artefact is gone."""
    inventory = Inventory(place.store(out))
    sizes = inventory.sizes()
    return {step.stage for step in inventory.steps().values() if step.content not in sizes}


def measured(place: Place, out: str) -> dict[tuple[str, int, int], tuple[str, str]]:
    return {name: (row.content, row.created_at) for name, row in place.rounds(out).items()}


@pytest.fixture(scope="module")
def whole(shared: Place) -> Place:
    """An undisturbed run with room for everything."""
    ended = shared.dlas("run", shared.study(layers=LAYERS, measure=MEASURE), "--out", "whole")
    assert ended.returncode == 0, ended.stderr
    assert "evicted" not in ended.stdout
    return shared


@pytest.fixture(scope="module")
def limit(whole: Place) -> int:
    """Less than everything, by one and a half networks."""
    inventory = Inventory(whole.store("whole"))
    inventory.sizes()
    network = max(s.bytes for s in inventory.steps().values() if s.stage == Stage.OPTIMIZE)
    return used(whole, "whole") - 3 * network // 2


@pytest.fixture(scope="module")
def done(whole: Place, limit: int) -> Place:
    """A run in a budget, killed after it evicted something and taken up again."""
    command = ["run", whole.root / "study.yaml", "--out", "out", "--max-disk", f"{limit / 1000}k"]
    process = whole.start(*command, DLAS_FAILPOINT="evicted")
    assert process.wait(timeout=240) == -9, "nothing was evicted"
    assert evicted(whole, "out") == {"optimize"}
    before = whole.steps()
    ended = whole.dlas(*command)
    assert ended.returncode == 0, ended.stderr
    after = whole.steps()
    assert {key: after[key] for key in before} == before  # nothing finished was done again
    assert used(whole, "out") <= limit
    assert re.search(r"evicted to keep to the disk budget: \d+ artefacts, [\d.]+ MB", ended.stdout)
    return whole


def test_the_rows_are_those_of_an_undisturbed_run(done: Place) -> None:
    assert {row.status for row in done.cells("out").values()} == {"complete"}
    assert set(done.cells("out")) == set(done.cells("whole"))
    got, wanted = measured(done, "out"), measured(done, "whole")
    assert {name: content for name, (content, _) in got.items()} == {
        name: content for name, (content, _) in wanted.items()
    }


def test_the_same_command_does_nothing_again(done: Place) -> None:
    before = done.steps(), measured(done, "out")
    ended = done.dlas("run", done.root / "study.yaml", "--out", "out")
    assert ended.returncode == 0, ended.stderr
    assert (done.steps(), measured(done, "out")) == before
    ended = done.dlas("clean", "out")
    assert ended.returncode == 0, ended.stderr
    assert (done.steps(), measured(done, "out")) == before


def test_more_samples_make_again_what_they_need_and_measure_nothing(done: Place) -> None:
    opened = done.store()
    with opened.use(), opened.only_user() as alone:
        assert alone
        for step in Inventory(opened).steps().values():
            if step.stage in INTERMEDIATE:
                opened.evict(step.content)
    before = measured(done, "out")
    more = done.study("more.yaml", layers=LAYERS, measure={**MEASURE, "accuracy_samples": 40})
    cell = sorted(done.cells("out"))[0]
    ended = done.dlas("run", more, "--out", "out", "--only", cell)
    assert ended.returncode == 0, ended.stderr
    assert done.facts("out")[cell, "evaluate"].value["n"] == 40
    assert measured(done, "out") == before
    assert {row.status for row in done.cells("out").values()} == {"complete"}


def test_too_small_a_budget_is_one_sentence(whole: Place) -> None:
    command = ["run", whole.root / "study.yaml", "--out", "tight", "--max-disk"]
    ended = whole.dlas(*command, "90k", "--quiet")
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("the disk budget of 90 kB cannot be kept: ")
    for part in ("build", "inputs 35 kB", "steps are left", "--max-disk", "--only", "--store"):
        assert part in last


def test_plan_takes_the_sizes_that_are_known(whole: Place) -> None:
    study = whole.root / "study.yaml"
    found = json.loads(whole.dlas("plan", study, "--out", "whole", "--format", "json").stdout)
    assert found["sizes_known"] > 0
    assert found["networks_unknown"] == 0
    assert found["least_disk_mb"] <= found["expected_mb"] <= 0.3
    guess = json.loads(whole.dlas("plan", study, "--format", "json").stdout)
    assert (guess["sizes_known"], guess["networks_unknown"]) == (0, guess["networks"])
    assert guess["expected_mb"] > 10
    text = whole.dlas("plan", study).stdout
    assert "networks is not known beforehand: each is taken for 10.0 MB" in text
    assert "with --max-disk at least" in text
    assert "(a guess)" in text


def test_plan_takes_the_sizes_that_an_earlier_run_had(whole: Place) -> None:
    def planned(study: Path, *more: str) -> Any:
        return json.loads(whole.dlas("plan", study, *more, "--format", "json").stdout)

    there = planned(whole.root / "study.yaml", "--out", "whole")
    found = planned(whole.root / "study.yaml", "--pilot", "whole")
    assert (found["sizes_known"], found["networks_unknown"]) == (0, 0)
    assert found["sizes_of_pilot"] > 0
    assert found["mb_by_stage"].keys() == there["mb_by_stage"].keys()
    for stage, mb in there["mb_by_stage"].items():
        assert found["mb_by_stage"][stage] == pytest.approx(mb, rel=0.1, abs=0.002), stage
    more = {"weight-pruning": {"sparsity": {"values": [0.3, 0.4, 0.5, 0.6]}, "epochs": 1}}
    other = whole.study("other.yaml", layers={**LAYERS, "optimization": [more]}, measure=MEASURE)
    found = planned(other, "--pilot", "whole")
    each = there["mb_by_stage"]["optimize"] / 2
    assert found["mb_by_stage"]["optimize"] == pytest.approx(4 * each, rel=0.1, abs=0.002)
