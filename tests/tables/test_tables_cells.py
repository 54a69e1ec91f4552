from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlas.core.errors import UserError
from dlas.core.records import Status
from dlas.core.stack import LAYERS
from dlas.store.results import CellRow, Row
from dlas.tables import COLUMNS, cells_frame, rounds_frame
from table_rows import HOST, SESSION, cell_row, fact, fill, round_row, stack

ISSUE = """
cell, study, host, session, status, stale, stage, reason, dataset, model, optimization, algorithm,
software, hardware, quiet_ms, quiet_low_ms, quiet_high_ms, latency_ms, latency_low_ms,
latency_high_ms, latency_p90_ms, latency_p99_ms, unsteady, rounds,
samples, first_inference_ms, load_ms, import_s, build_s, memory_mb, weights_mb, artifact_mb,
params, nonzero_params, macs, effective_macs, accuracy, accuracy_low, accuracy_high, accuracy_n,
accuracy_drop, flips, agreement, accuracy_source, max_abs_error, energy_mj, energy_source,
ran_precision, ran_threads, ran_cpus, ran_isa, ran_kernels, fallbacks, ran_sparsity, artifact,
created_at, overhead_s, software_versions
"""
A, B, C = stack(), stack(0.5, threads=2), stack(0.9, software="tvm")
BUILD = {
    "build_s": 2.5, "artifact_mb": 1.25, "params": 100, "nonzero_params": 60, "macs": 1000,
    "effective_macs": 600.5, "weights_mb": 0.4, "achieved": [{"sparsity": 0.4}],
}  # fmt: skip
MEMORY = {"memory_mb": 12.5, "import_s": 1.25, "load_s": 0.5, "first_inference_s": 0.1}
EVALUATION = {
    "n": 10, "correct": [1] * 8 + [0] * 2, "labels": list(range(10)), "max_abs_error": 1e-5,
    "baseline_correct": [1] * 9 + [0], "baseline_labels": [*range(8), 0, 0],
}  # fmt: skip
RAN = {"precision": "float32", "threads": 1, "cpus": [1], "kernels": {}, "fallbacks": []}


def complete_cell() -> list:
    facts = {"build": BUILD, "memory": MEMORY, "evaluate": EVALUATION, "observe": RAN}
    return [
        cell_row(A),
        *(fact(A.cell, kind, value) for kind, value in facts.items()),
        round_row(A.cell, 0, [10, 10], seen={"load_s": 0.01, "energy_j": 0.1}),
        round_row(A.cell, 1, [11, 11], seen={"energy_source": "rapl", "energy_j": 0.2}),
        round_row(A.cell, 2, [13, 13], flags=("repeated",), seen={"energy_j": 0.4}),
        *(round_row(A.cell, r, [500 + r], control=1) for r in range(3)),
    ]


def test_the_columns_are_those_others_rely_on(out: Path) -> None:
    frame = cells_frame(fill(out, SESSION, cell_row(A), cell_row(B, 1)))
    assert tuple(name.strip() for name in ISSUE.split(",")) == COLUMNS
    assert list(frame.columns) == [
        *COLUMNS, "optimization.pruning", "optimization.epochs", "optimization.sparsity",
        "software.layout", "hardware.threads",
    ]  # fmt: skip


def test_a_complete_cell(out: Path) -> None:
    [row] = cells_frame(fill(out, SESSION, *complete_cell())).to_dict("records")
    expected = {
        "cell": A.cell, "study": "st", "host": HOST, "session": "s1", "status": "complete",
        "stage": None, "reason": None, "model": "resnet-8", "hardware": "cpu(threads=1)",
        "latency_ms": 11.0, "latency_p90_ms": 13.0, "unsteady": False, "rounds": 3, "samples": 6,
        "first_inference_ms": 4.0, "load_ms": 20.0, "import_s": 1.5, "build_s": 2.5,
        "memory_mb": 12.5, "weights_mb": 0.4, "artifact_mb": 1.25, "params": 100,
        "nonzero_params": 60, "macs": 1000, "effective_macs": 600.5, "accuracy": 0.8,
        "accuracy_low": 0.4901625, "accuracy_high": 0.9433178, "accuracy_n": 10,
        "accuracy_drop": 0.1, "flips": 2, "agreement": 0.8, "max_abs_error": 1e-5,
        "energy_mj": 100.0, "energy_source": "rapl", "ran_precision": "float32",
        "ran_threads": 1, "ran_cpus": "1", "ran_isa": None, "ran_kernels": None,
        "fallbacks": "none", "artifact": "content",
        "created_at": "2026-01-01T00:02:30.000+00:00", "overhead_s": 0.2,
        "optimization.pruning": "none", "hardware.threads": 1,
    }  # fmt: skip
    seen = {name: row[name] for name in expected}
    numbers = {k: v for k, v in expected.items() if isinstance(v, float)}
    assert {k: seen[k] for k in numbers} == pytest.approx(numbers)
    assert {k: v for k, v in seen.items() if k not in numbers} == {
        k: v for k, v in expected.items() if k not in numbers
    }
    assert row["latency_low_ms"] < 11 < row["latency_high_ms"]
    assert math.isnan(row["ran_sparsity"])


def test_a_cell_that_cannot_be_is_empty(out: Path) -> None:
    said = {"status": Status.IMPOSSIBLE, "reason": "no such thing"}
    frame = cells_frame(fill(out, SESSION, cell_row(B, **said)))
    [row] = frame.to_dict("records")
    assert (row["status"], row["reason"], row["host"]) == ("impossible", "no such thing", HOST)
    measured = set(COLUMNS) - {"cell", "study", "host", "session", "status", "reason", *LAYERS}
    assert frame[sorted(measured)].isna().all(axis=None)


def test_a_cell_that_failed_keeps_what_is_known(out: Path) -> None:
    failed = cell_row(A, status=Status.FAILED, stage="measure", reason="signal 11")
    rows = [
        failed, fact(A.cell, "build", BUILD), fact(A.cell, "evaluate", EVALUATION),
        round_row(A.cell, 0, [], status=Status.FAILED, reason="signal 11", value={}),
    ]  # fmt: skip
    [row] = cells_frame(fill(out, SESSION, *rows)).to_dict("records")
    assert (row["status"], row["stage"], row["reason"]) == ("failed", "measure", "signal 11")
    assert (row["build_s"], row["accuracy"]) == (2.5, 0.8)
    assert math.isnan(row["latency_ms"])


def test_factors_have_one_type_and_are_empty_where_they_do_not_apply(out: Path) -> None:
    frame = cells_frame(fill(out, SESSION, *(cell_row(s, i) for i, s in enumerate((A, B, C)))))
    assert frame["hardware.threads"].tolist() == [1, 2, 1]
    assert frame["optimization.sparsity"].isna().tolist() == [True, False, False]
    assert frame["optimization.sparsity"].tolist()[1:] == [0.5, 0.9]
    assert str(frame["hardware.threads"].dtype) == "Int64"
    assert frame["optimization.pruning"].tolist() == ["none", "weight-pruning", "weight-pruning"]


def test_rows_keep_the_order_of_the_study(out: Path) -> None:
    frame = cells_frame(fill(out, SESSION, cell_row(A, 2), cell_row(B, 0), cell_row(C, 1)))
    assert frame["cell"].tolist() == [B.cell, C.cell, A.cell]


def test_a_cell_of_two_studies_is_one_row_of_the_later(out: Path) -> None:
    later = replace(SESSION, session="s2", study="other", started_at="2026-02-01T00:00:00+00:00")
    rows = [*complete_cell(), cell_row(B, 1), cell_row(A, study="other")]
    frame = cells_frame(fill(out, SESSION, later, *rows)).set_index("cell")
    assert frame.loc[A.cell, "study"] == "other"
    assert frame.loc[A.cell, "latency_ms"] == pytest.approx(11)
    assert frame.loc[A.cell, "stale"] is None
    assert frame.loc[B.cell, "stale"] == "of the study 'st', since which 'other' ran"


def test_a_cell_taken_out_of_the_study_is_marked(out: Path) -> None:
    rows = [SESSION, *complete_cell(), cell_row(B, 1, dropped="2026-03-01T00:00:00+00:00")]
    frame = cells_frame(fill(out, *rows)).set_index("cell")
    assert frame["stale"].to_dict() == {
        A.cell: None, B.cell: "taken out of the study (seen 2026-03-01)",
    }  # fmt: skip


def test_a_cell_of_two_hosts_is_two_rows(out: Path) -> None:
    later = replace(SESSION, session="s2", host="host-2", started_at="2026-02-01T00:00:00+00:00")
    rows = [
        SESSION, later, *complete_cell(), cell_row(B, 1),
        cell_row(A, status=Status.FAILED, stage="build", reason="no"),
        fact(
            A.cell, "build", {}, host="host-2", status=Status.FAILED, stage="build", reason="no",
            session="s2",
        ),
    ]  # fmt: skip
    frame = cells_frame(fill(out, *rows))
    a = frame[frame["cell"] == A.cell]
    assert a["host"].tolist() == ["host-1", "host-2"]
    assert a["status"].tolist() == ["complete", "failed"]
    assert a["reason"].tolist() == [None, "no"]
    assert a["session"].tolist() == ["s1", "s2"]


def test_a_round_that_was_stopped_each_time_marks_its_cell(out: Path) -> None:
    rows = [round_row(A.cell, n, [1.0], flags=flags) for n, flags in enumerate(((), ("stopped",)))]
    [row] = cells_frame(fill(out, SESSION, cell_row(A), *rows)).to_dict("records")
    assert row["unsteady"]
    assert row["rounds"] == 2


LATER = replace(SESSION, session="s2", host="host-2", started_at="2026-02-01T00:00:00+00:00")


def statuses(out: Path, *rows: Row) -> dict[str, tuple[str, str | None]]:
    """Return status and reason of the one cell by host."""
    frame = cells_frame(fill(out, *rows)).to_dict("records")
    return {row["host"]: (row["status"], row["reason"]) for row in frame}


def test_a_cell_that_failed_on_the_host_that_ran_last_is_complete_on_the_other(out: Path) -> None:
    wrong = fact(
        A.cell, "evaluate", {}, host="host-2", status=Status.FAILED, stage="evaluate",
        reason="wrong numbers", session="s2",
    )  # fmt: skip
    assert statuses(out, SESSION, LATER, *complete_cell(), wrong) == {
        "host-1": ("complete", None), "host-2": ("failed", "wrong numbers"),
    }  # fmt: skip


def test_what_failed_first_tells(out: Path) -> None:
    how: dict[str, Any] = {"host": "host-2", "status": Status.FAILED, "session": "s2"}
    rows = [
        fact(A.cell, kind, {}, stage=kind, reason=kind, **how)
        for kind in ("evaluate", "memory", "steps")
    ]
    assert statuses(out, SESSION, LATER, *complete_cell(), *rows)["host-2"] == ("failed", "steps")


def test_a_cell_that_the_host_that_ran_last_cannot_do_stays_complete_on_the_other(
    out: Path,
) -> None:
    rows = [row for row in complete_cell() if not isinstance(row, CellRow)]
    refused = cell_row(A, status=Status.UNAVAILABLE, reason="no TVM")
    assert statuses(out, SESSION, LATER, refused, *rows) == {"host-1": ("complete", None)}
    ruled_out = cell_row(A, status=Status.IMPOSSIBLE, reason="a rule")
    assert statuses(out, ruled_out) == {"host-1": ("impossible", "a rule")}


def test_a_cell_with_fewer_rounds_than_asked_for_is_pending_on_any_host(out: Path) -> None:
    killed = replace(SESSION, settings={"rounds": {"min": 4, "max": 4}})
    one = round_row(A.cell, 0, [1.0])
    here = round_row(A.cell, 0, [1.0], host="host-2", session="s2")
    assert statuses(out, killed, LATER, cell_row(A), one, here) == {
        "host-1": ("pending", None), "host-2": ("complete", None),
    }  # fmt: skip
    ended = replace(killed, ended_at="2026-01-02T00:00:00+00:00")
    assert statuses(out, ended)["host-1"] == ("complete", None)  # as `dlas explore` does


def test_folders_are_read_one_after_another_and_not_pooled(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", SESSION, *complete_cell())
    again = [round_row(A.cell, r, [20.0], session="s9") for r in range(3)]
    two = fill(tmp_path / "two", SESSION, cell_row(A), *again)
    frame = cells_frame([one, two])
    assert frame["latency_ms"].tolist() == pytest.approx([11, 20])
    assert frame["session"].tolist() == ["s1", "s9"]
    assert len(cells_frame([one, one])) == 1
    assert len(rounds_frame([one, two])) == 9


def test_folders_without_results_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError) as caught:
        cells_frame([tmp_path / "a", tmp_path / "b"])
    assert [str(tmp_path / n) in p for n, p in zip("ab", caught.value.problems, strict=True)] == [
        True,
        True,
    ]


def test_the_analysis_reads_the_tables(out: Path) -> None:
    from dlas.analyze.estimate.load import from_study
    from dlas.analyze.estimate.noise import estimate

    rows = [
        *complete_cell(),
        cell_row(B, 1),
        *(round_row(B.cell, r, [20.0 + r]) for r in range(3)),
    ]
    folder = fill(out, SESSION, *rows)
    table = from_study(cells_frame(folder), rounds_frame(folder))
    assert estimate(table).kind == "rounds"
    assert table.complete.sum() == 2
