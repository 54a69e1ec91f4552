from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dlas.core.records import Status
from dlas.tables import controls_frame, floors_frame, rounds_frame, sentinels_frame
from table_rows import HOST, SENTINEL, SESSION, cell_row, fill, round_row, stack

A, B = stack(), stack(0.5)
A_MS, B_MS, CONTROL_MS = [10.0, 11.0, 12.5], [20.0, 21.0, 26.0], [10.5, 10.9, 13.0]


@pytest.fixture
def folder(out: Path) -> Path:
    rows = [round_row(A.cell, r, [ms]) for r, ms in enumerate(A_MS)]
    rows += [round_row(B.cell, r, [ms]) for r, ms in enumerate(B_MS)]
    rows += [round_row(A.cell, r, [ms], control=1) for r, ms in enumerate(CONTROL_MS)]
    return fill(out, SESSION, SENTINEL, cell_row(A), cell_row(B, 1), *rows)


def test_each_round_is_a_row(out: Path) -> None:
    seen = {
        "load_s": 0.5, "cpu_s": 1.5, "wall_s": 2.0, "steal_share": 0.01, "threads_seen": 4,
        "involuntary_switches": 7, "energy_j": 0.6, "energy_source": "rapl", "child_s": 3.0,
        "cpus": (0, 1), "steady": False,
    }  # fmt: skip
    rows = [
        round_row(A.cell, 0, [1, 2, 9], flags=("repeated", "drift"), seen=seen),
        round_row(A.cell, 1, [], status=Status.FAILED, reason="timeout", value={}, attempts=2),
        round_row(A.cell, 0, [4], control=1),
    ]
    frame = rounds_frame(fill(out, SESSION, cell_row(A), *rows))
    assert not frame.duplicated(["cell", "control", "round", "host", "session"]).any()
    first, failed, control = frame.to_dict("records")
    expected = {
        "latency_ms": 2.0, "latency_p90_ms": 7.6, "samples": 3, "unsteady": True, "steady": False,
        "flags": "repeated,drift", "load_ms": 500.0, "first_inference_ms": 4.0, "cpu_s": 1.5,
        "wall_s": 2.0, "steal_share": 0.01, "threads_seen": 4, "involuntary_switches": 7,
        "energy_mj": 200.0, "energy_source": "rapl", "child_s": 3.0, "cpus": "0,1",
        "launch": "fork", "overhead_s": 0.1, "position": 3, "host": HOST, "session": "s1",
        "artifact": "content", "model": "resnet-8", "status": "complete", "control": 0,
    }  # fmt: skip
    for name, value in expected.items():
        assert first[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert (failed["status"], failed["reason"], failed["attempts"]) == ("failed", "timeout", 2)
    assert math.isnan(failed["latency_ms"])
    assert (control["control"], control["latency_ms"]) == (1, pytest.approx(4.0))


def test_controls_are_compared_with_their_cells(folder: Path) -> None:
    # Leaving out each of three rounds, the least of the others is the second once and the first
    # twice: 4/9 of the squared gap; 4/5 of that for three rounds instead of two. Drawn with
    # replacement, 19 of 27 triples hold the first, 7 of the others the second. t(3) at 97.5 %.
    logs = np.log([A_MS, B_MS, CONTROL_MS])
    first, second = logs[:, 1] - logs[:, 0], logs[:, 2] - logs[:, 0]
    var = float(np.mean(first**2 * 4 / 9 * 4 / 5 + ((7 * first + second) / 27) ** 2))
    floor = math.expm1(3.182446 * math.sqrt(2 * var))
    [row] = controls_frame(folder).to_dict("records")
    assert (row["cell"], row["control"], row["host"], row["rounds"]) == (A.cell, 1, HOST, 3)
    assert row["quiet_ms"] == pytest.approx(10)
    assert row["control_quiet_ms"] == pytest.approx(10.5)
    assert row["ratio"] == pytest.approx(1.05)
    assert row["floor"] == pytest.approx(floor, rel=1e-5)
    assert row["inside"] is True
    assert row["stratum"] == "pytorch / 1"


def test_floors_are_by_runtime_and_threads(folder: Path) -> None:
    [row] = floors_frame(folder).to_dict("records")
    [control] = controls_frame(folder).to_dict("records")
    assert row["stratum"] == "pytorch / 1"
    assert (row["cells"], row["df"], row["controls"], row["inside"]) == (2, 3, 1, 1.0)
    assert row["floor"] == pytest.approx(control["floor"])


def test_a_control_far_off_is_outside(out: Path) -> None:
    rows = []
    random = np.random.default_rng(3)
    for n in range(8):
        made = stack(n / 10)
        rows.append(cell_row(made, n))
        for control in (0, 1):
            for r in range(3):
                ms = (10 + n) * (1.2 if control and n == 0 else 1) * random.normal(1, 0.001)
                rows.append(round_row(made.cell, r, [ms], control=control))
    frame = controls_frame(fill(out, SESSION, *rows)).set_index("cell")
    assert not frame.loc[stack(0.0).cell, "inside"]
    assert frame["inside"].sum() >= 6
    assert frame.loc[stack(0.0).cell, "ratio"] == pytest.approx(1.2, rel=0.01)


def test_without_rounds_there_are_no_controls_and_no_floor(out: Path) -> None:
    fill(out, SESSION, cell_row(A))
    for frame in (controls_frame(out), floors_frame(out), rounds_frame(out)):
        assert len(frame) == 0
        assert len(frame.columns) > 5


def test_the_sentinel_is_in_the_order_of_time(folder: Path) -> None:
    [row] = sentinels_frame(folder).to_dict("records")
    assert row == {
        "session": "s1", "study": "st", "host": HOST, "round": 0, "position": 10,
        "seconds": 0.0123, "created_at": SENTINEL.created_at,
    }  # fmt: skip
