"""kill -9 at every transition and at random moments: nothing finished is lost or repeated."""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path

import pytest

from dlas.core import failpoints
from living import gone
from place import Place

LAYERS = {"optimization": ["none"], "software": ["onnxruntime"]}
MEASURE = {"rounds": 2, "memory": False, "accuracy_samples": 20, "min_controls": 0}


@pytest.fixture(scope="module")
def undisturbed(shared: Place) -> Place:
    ended = shared.dlas("run", study(shared), "--out", "whole")
    assert ended.returncode == 0, ended.stderr
    assert {r.status for r in shared.cells("whole").values()} == {"complete"}
    return shared


def study(place: Place) -> Path:
    return place.study(layers=LAYERS, measure=MEASURE)


def finished(place: Place) -> dict[object, str]:
    """Return the steps and the rounds of the run that is killed, and when each was done."""
    if not (place.root / "out" / "results.sqlite").exists():
        return {}
    return {**place.steps(), **{name: row.created_at for name, row in place.rounds().items()}}


# One folder is killed at each transition in turn: what a run is killed in, it takes up from the
# one before. It begins empty, with steps side by side.


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_killed_at_a_transition_the_same_command_goes_on(shared: Place, name: str) -> None:
    before, mark = finished(shared), uuid.uuid4().hex
    process = shared.start(
        "run", study(shared), "--out", "out", DLAS_FAILPOINT=name, DLAS_TEST_MARK=mark
    )
    assert process.wait(timeout=240) == -9, f"{name} was never reached"
    assert gone(mark) == []
    assert before.items() <= finished(shared).items()


def test_killed_at_all_of_them_it_comes_to_what_an_undisturbed_run_does(
    undisturbed: Place,
) -> None:
    before = finished(undisturbed)
    ended = undisturbed.dlas("run", study(undisturbed), "--out", "out")
    assert ended.returncode == 0, ended.stderr
    assert before.items() <= finished(undisturbed).items()
    assert set(undisturbed.steps()) == set(undisturbed.steps("whole"))
    assert set(undisturbed.rounds()) == set(undisturbed.rounds("whole"))
    cells = undisturbed.cells()
    assert set(cells) == set(undisturbed.cells("whole"))
    assert {r.status for r in cells.values()} == {"complete"}


@pytest.mark.slow
def test_killed_at_five_random_moments_the_same_command_ends_it(fresh: Place) -> None:
    study = fresh.study()
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure
    moments = random.Random(seed)
    kept: dict[tuple[str, int, int], str] = {}
    for _ in range(5):
        mark = uuid.uuid4().hex
        process = fresh.start("run", study, "--out", "out", DLAS_TEST_MARK=mark)
        time.sleep(moments.uniform(2, 15))
        process.kill()
        process.wait()
        assert gone(mark) == []
        if (fresh.root / "out" / "results.sqlite").exists():
            rows = fresh.rounds()
            assert {k: rows[k].created_at for k in kept} == kept
            kept = {k: row.created_at for k, row in rows.items()}
    ended = fresh.dlas("run", study, "--out", "out")
    assert ended.returncode == 0, ended.stderr
    rows = fresh.rounds()
    assert {k: rows[k].created_at for k in kept} == kept
    assert {r.status for r in fresh.cells().values()} == {"complete"}
    assert sum(control == 0 for _, control, _ in rows) == 8 * 2
