"""kill -9 at every transition and at random moments: nothing finished is lost or repeated."""

from __future__ import annotations

import random
import shutil
import time
import uuid
from collections.abc import Iterator

import pytest

from dlas.core import failpoints
from dlas.core.records import Stage
from dlas.store.artifacts import ArtifactStore
from living import gone
from place import Place

LAYERS = {"optimization": ["none"], "software": ["onnxruntime"]}
MEASURE = {"rounds": 2, "memory": False, "accuracy_samples": 20, "min_controls": 0}
EMPTY = ("step-done",)
"""This run starts from an empty store; it has all steps to do, two side by side."""
BUILDS = ("step-started", "step-committed")
"""These start from a store that lacks the last step, all others from one that lacks nothing."""


@pytest.fixture(scope="module")
def undisturbed(shared: Place) -> Iterator[Place]:
    study = shared.study(layers=LAYERS, measure=MEASURE)
    ended = shared.dlas("run", study, "--out", "whole")
    assert ended.returncode == 0, ended.stderr
    assert {r.status for r in shared.cells("whole").values()} == {"complete"}
    yield shared


def store(place: Place, name: str) -> list[str]:
    """Return the options that name the store to start from."""
    if name in EMPTY:
        return []
    if name not in BUILDS:
        return ["--store", "whole/store"]
    copied = ArtifactStore(shutil.copytree(place.root / "whole" / "store", place.root / name))
    records = [copied.get(file.stem) for file in (copied.root / "steps").glob("*.json")]
    (built,) = [r.content for r in records if r is not None and r.stage == Stage.BUILD]
    assert built is not None
    copied.discard(built)
    return ["--store", name]


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_killed_at_a_transition_the_same_command_goes_on(undisturbed: Place, name: str) -> None:
    place = undisturbed
    study, out = place.study(layers=LAYERS, measure=MEASURE), f"killed-{name}"
    command = ["run", study, "--out", out, *store(place, name)]
    mark = uuid.uuid4().hex
    process = place.start(*command, DLAS_FAILPOINT=name, DLAS_TEST_MARK=mark)
    assert process.wait(timeout=120) == -9, f"{name} was never reached"
    assert gone(mark) == []
    before = place.rounds(out) if (place.root / out / "results.sqlite").exists() else {}
    ended = place.dlas(*command)
    assert ended.returncode == 0, ended.stderr
    after = place.rounds(out)
    assert {k: after[k].created_at for k in before} == {k: before[k].created_at for k in before}
    assert set(after) == set(place.rounds("whole"))
    cells = place.cells(out)
    assert set(cells) == set(place.cells("whole"))
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
