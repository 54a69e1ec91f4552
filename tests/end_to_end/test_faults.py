"""Faults planted by a plug-in: each is one row with stage and reason, and the study goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from place import Place

FAULTS = {
    # fault: (where, stage, part of the reason)
    "segfault": ("infer", "evaluate", "SIGSEGV"),
    "hang": ("load", "evaluate", "timed out"),
    "alloc": ("infer", "evaluate", "out of memory"),
    "exception": ("build", "build", "planted"),
    "endless-output": ("infer", "evaluate", "output"),
    "half-result": ("infer", "evaluate", "result"),
    "wrong": ("infer", "evaluate", "wrong outputs"),
    "nan": ("infer", "evaluate", "NaN"),
    "ignores-threads": ("load", "measure", "thread"),
    "ignores-precision": ("load", "measure", "float16"),
}


@pytest.fixture(scope="module")
def done(shared: Place) -> Place:
    # The hang comes last, to a study that has done all else: it may wait for less time then.
    for faults, seconds in (([f for f in FAULTS if f != "hang"], 60), ([*FAULTS], 6)):
        ended = shared.dlas("run", study(shared, faults, seconds), "--out", "out")
        assert ended.returncode == 0, ended.stderr
    return shared


def study(place: Place, faults: Sequence[str], seconds: float) -> Path:
    faulty = [{"faulty": {"fault": name, "at": FAULTS[name][0]}} for name in faults]
    return place.study(
        layers={
            "optimization": ["none", "float16"],
            "software": [*faulty, "onnxruntime"],
            "hardware": [{"cpu": {"threads": 1}}],
        },
        where=["optimization == 'none' or software == 'faulty(at=load,fault=ignores-precision)'"
               " or software == 'onnxruntime'"],
        measure={"rounds": 1, "step_timeout_s": seconds, "measure_timeout_s": 20, "memory": False,
                 "memory_limit_mb": 2048},
    )  # fmt: skip


def test_the_study_completes(done: Place) -> None:
    sound = [r for r in done.cells().values() if r.software == "onnxruntime"]
    assert len(sound) == 2
    assert {row.status for row in sound} == {"complete"}, [(r.stage, r.reason) for r in sound]


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_is_a_row_with_stage_and_reason(done: Place, fault: str) -> None:
    _, stage, reason = FAULTS[fault]
    rows = [r for r in done.cells().values() if f"fault={fault}" in r.software]
    if fault == "ignores-precision":
        rows = [r for r in rows if r.optimization == "float16"]
    assert len(rows) == 1
    assert (rows[0].status, rows[0].stage) == ("failed", stage), rows[0].reason
    assert reason in rows[0].reason
