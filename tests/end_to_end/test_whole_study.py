"""A whole small study: complete rows, resumed for nothing, extended by what is added."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dlas.cli.app import main
from dlas.core.records import Status
from dlas.run.clean import clean
from dlas.store.artifacts import ArtifactStore
from dlas.store.results import FILE_NAME, CellRow, FactRow, ResultStore, RoundRow
from place import Place


@pytest.fixture(scope="module")
def done(shared: Place) -> Place:
    ended = shared.dlas("run", shared.study(), "--out", "out")
    assert ended.returncode == 0, ended.stderr
    return shared


def test_every_cell_is_complete(done: Place) -> None:
    cells = done.cells()
    assert len(cells) == 8
    assert {row.status for row in cells.values()} == {"complete"}, [
        (r.stage, r.reason, r.log) for r in cells.values() if r.status != "complete"
    ]


def test_each_cell_is_measured_once_a_round_and_some_twice(done: Place) -> None:
    rounds = done.rounds()
    cells = done.cells()
    assert {(c, 0, r) for c in cells for r in (0, 1)} <= set(rounds)
    assert sum(control == 1 for _, control, _ in rounds) == 2 * 8  # two of each stratum
    assert all(len(row.samples) >= 5 for row in rounds.values())


def test_the_table_tells_what_was_asked_and_what_ran(done: Place) -> None:
    ended = done.dlas("table", "out", "--format", "csv")
    assert ended.returncode == 0, ended.stderr
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert len(rows) == 8
    for row in rows:
        assert float(row["latency_low_ms"]) <= float(row["latency_ms"])
        assert float(row["latency_ms"]) <= float(row["latency_high_ms"])
        assert row["ran_precision"] == "float32"
        assert row["ran_threads"] == row["hardware.threads"]
        assert row["ran_kernels"]
        assert float(row["memory_mb"]) > 0
        assert row["accuracy_n"] == "100"
        assert float(row["max_abs_error"]) < 1e-3
        assert row["rounds"] == "2"
    one_thread = [row for row in rows if row["hardware.threads"] == "1"]
    assert {row["ran_cpus"] for row in one_thread}
    pruned = [row for row in rows if "pruning" in row["optimization"]]
    for row in pruned:
        assert int(row["nonzero_params"]) < int(row["params"])
        assert row["optimization.sparsity"] == "0.5"


def test_the_same_command_does_nothing_again(done: Place) -> None:
    before = done.rounds()
    assert done.dlas("run", done.study(), "--out", "out").returncode == 0
    assert done.rounds() == before


def part(done: Place, name: str, kept: set[str]) -> Path:
    """Return a copy of the finished folder with what belongs to some of its cells alone."""
    folder = done.root / name
    shutil.copytree(done.root / "out", folder)
    with ResultStore(folder / FILE_NAME) as store:
        for row in store.rows(CellRow):
            if row.cell not in kept:
                store.put(replace(row, status=Status.PENDING))
                store.delete(FactRow, cell=row.cell)
                store.delete(RoundRow, cell=row.cell)
    clean([folder])
    return folder


def test_a_finished_folder_split_in_two_and_merged_is_a_folder_like_any_other(
    done: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = sorted(done.cells())
    parts = [part(done, name, {*cells[at::2]}) for at, name in enumerate(("one", "two"))]
    steps = [set(ArtifactStore(each / "store").records()) for each in (*parts, done.root / "out")]
    assert steps[0] | steps[1] == steps[2]
    assert steps[0] != steps[2] != steps[1]
    whole, both = str(done.root / "out"), str(done.root / "both")
    assert main(["merge", *map(str, parts), "--into", both]) == 0
    rows = []
    for folder in (whole, both):
        with ResultStore(Path(folder) / FILE_NAME, read_only=True) as store:
            rows.append(store.snapshot())
    assert rows[0] == rows[1]
    shown = []
    for folder in (whole, both):
        capsys.readouterr()
        assert main(["table", folder, "--format", "csv"]) == 0
        assert main(["analyze", folder, "--format", "json"]) == 0
        shown.append(capsys.readouterr().out.replace(folder, ""))
    assert shown[0] == shown[1]
    page = done.root / "both.html"
    assert main(["report", both, "-o", str(page)]) == 0
    assert all(cell in page.read_text() for cell in cells)
    capsys.readouterr()
    assert main(["compare", whole, both]) == 0
    said = capsys.readouterr().out
    assert said.startswith("same host, versions and study\n8 common cells, 0 only in the first")
    before = done.rounds("both")
    assert done.dlas("run", done.study(), "--out", "both").returncode == 0
    assert done.rounds("both") == before  # nothing is measured, and no step done again
    store = ArtifactStore(Path(both) / "store")
    assert {store.generation(key) for key in store.records()} == {0}
    assert set(store.records()) == steps[2]


def test_more_rounds_and_samples_only_add(done: Place) -> None:
    before = done.rounds()
    study = done.study("more.yaml", measure={"rounds": 3, "accuracy_samples": 150})
    assert done.dlas("run", study, "--out", "out").returncode == 0
    after = done.rounds()
    assert {k: after[k] for k in before} == before
    assert {r for _, _, r in set(after) - set(before)} == {2}
    evaluated = [f for (_, kind), f in done.facts().items() if kind == "evaluate"]
    assert {f.value["n"] for f in evaluated} == {150}


def test_a_shared_store_builds_nothing_twice_and_remeasures(done: Place) -> None:
    study = done.study()
    cell = next(c for c, row in done.cells().items() if row.software == "onnxruntime")
    ended = done.dlas(
        "run", study, "--out", "again", "--store", "out/store", "--remeasure", "--only", cell
    )
    assert ended.returncode == 0, ended.stderr
    first, second = done.rounds(), done.rounds("again")
    assert len({cell for cell, _, _ in second}) == 1
    for name, row in second.items():
        assert row.content == first[name].content
        assert row.created_at > first[name].created_at


def test_show_knows_all_of_a_cell(done: Place) -> None:
    cell = next(iter(done.cells()))
    ended = done.dlas("show", "out", cell[:10])
    assert ended.returncode == 0, ended.stderr
    for word in (cell, "latency", "digits", "dlas run"):
        assert word in ended.stdout


def test_the_report_is_one_file_without_a_network(done: Place) -> None:
    ended = done.dlas("report", "out", "-o", "report.html")
    assert ended.returncode == 0, ended.stderr
    text = (done.root / "report.html").read_text()
    assert '<script src="' not in text
    assert '<link rel="stylesheet"' not in text
    assert all(cell in text for cell in done.cells())


def test_plan_shows_what_sharing_saves(done: Place) -> None:
    ended = done.dlas("plan", done.study(), "--format", "json")
    plan = json.loads(ended.stdout)
    assert plan["cells"] == 8
    assert plan["steps"] < plan["steps_unshared"]


def test_clean_removes_nothing_that_is_needed(done: Place) -> None:
    shutil.copytree(done.root / "out", done.root / "cleaned")
    ended = done.dlas("clean", "cleaned")
    assert ended.returncode == 0, ended.stderr
    before = done.rounds("cleaned")
    ended = done.dlas("run", done.study(), "--out", "cleaned")
    assert ended.returncode == 0, ended.stderr
    assert done.rounds("cleaned") == before
