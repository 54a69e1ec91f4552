"""What of a folder is stale, and what two folders do not have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dlas.store.results import HostRow
from dlas.tables import intake
from dlas.tables.provenance import differences, told
from dlas.tables.read import current, read
from table_rows import HOST, SESSION, cell_row, fact, fill, round_row, stack

A, B, C = stack(), stack(0.5), stack(0.9)
NEW = replace(
    SESSION, session="s2", started_at="2026-02-01T00:00:00+00:00", versions={"torch": "2.2"}
)
OLD = replace(SESSION, versions={"torch": "2.1", "numpy": "1"}, settings={"rounds": 3})


def rounds(cell: str, **changed: object) -> list:
    return [round_row(cell, number, [10 + number], **changed) for number in range(2)]


def test_stale_cells_are_left_out_and_counted(out: Path) -> None:
    rows = [
        SESSION, cell_row(A), cell_row(B, 1), cell_row(C, 2, dropped="2026-03-01T00:00:00"),
        *rounds(A.cell), *rounds(B.cell), *rounds(C.cell),
    ]  # fmt: skip
    results = read(fill(out, *rows))
    (sentence,) = told(results)
    assert "1 of 3 cells are stale" in sentence and "1 taken out of the study" in sentence
    (kept,) = current(results)
    assert {row.cell for row in kept.cells} == {A.cell, B.cell}
    assert C.cell not in {row.cell for row in kept.rounds}
    table = intake.of_folders([out], intake.Asked("latency_ms"))
    assert set(table.cells["cell"]) == {A.cell, B.cell}
    assert table.notes[0] == sentence


def test_a_folder_of_two_studies_is_analysed_as_the_later(out: Path) -> None:
    later = replace(NEW, study="other")
    rows = [
        SESSION, later, cell_row(A), cell_row(A, study="other"), cell_row(B, 1),
        cell_row(C, 1, study="other"), *rounds(A.cell), *rounds(B.cell), *rounds(C.cell),
    ]  # fmt: skip
    table = intake.of_folders([fill(out, *rows)], intake.Asked("latency_ms"))
    assert sorted(table.cells["cell"]) == sorted([A.cell, C.cell])
    assert "1 of the study 'st', since which 'other' ran" in table.notes[0]


def test_cells_of_several_versions_are_said(out: Path) -> None:
    rows = [OLD, NEW, cell_row(A), cell_row(B, 1), *rounds(A.cell), *rounds(B.cell, session="s2")]
    (sentence,) = told(read(fill(out, *rows)))
    assert "torch 2.1 (1), 2.2 (1)" in sentence and "numpy" not in sentence


def test_nothing_is_said_of_a_folder_as_it_should_be(out: Path) -> None:
    assert told(read(fill(out, OLD, cell_row(A), *rounds(A.cell)))) == ()


def test_two_folders_differ_in_what_is_named(tmp_path: Path) -> None:
    def folder(name: str, *rows: object) -> Path:
        return fill(tmp_path / name, *rows)  # type: ignore[arg-type]

    host = HostRow(HOST, {"cpu": "a CPU", "cores": 2, "governor": "performance", "load": [1]})
    images = fact(A.cell, "evaluate", {"ids_hash": "x"})
    built = fact(A.cell, "build", {})
    one = folder("a", OLD, host, cell_row(A), *rounds(A.cell), images, built)
    quiet = replace(host, description={**host.description, "governor": "powersave", "load": [0]})
    other = {"content": "another"}
    two = folder("b", replace(NEW, study="later", settings={"rounds": 5}), quiet,
                 cell_row(A, study="later"), *rounds(A.cell, session="s2", **other),
                 fact(A.cell, "build", {}, **other),
                 fact(A.cell, "evaluate", {"ids_hash": "y"}, **other))  # fmt: skip
    first, second = read([one, two])
    assert set(differences(first, second)) == {
        "study: st against later",
        "host.governor: performance against powersave",
        "torch: 2.1 against 2.2",
        "measure.rounds: 3 against 5",
        "artefact: another one in 1 of 1 common cells",
        "test images: other ones in 1 of 1 common cells",
    }
    assert differences(first, first) == ()


def test_another_host_is_named_with_its_processor(tmp_path: Path) -> None:
    one = fill(tmp_path / "a", SESSION, HostRow(HOST, {"cpu": "a CPU"}), cell_row(A),
               *rounds(A.cell))  # fmt: skip
    there = HostRow("h2", {"cpu": "B", "cores": 4})
    rows = [replace(SESSION, host="h2"), there, cell_row(A), *rounds(A.cell, host="h2")]
    two = fill(tmp_path / "b", *rows)
    assert differences(*read([one, two])) == (f"host: {HOST} (a CPU) against h2 (B, 4 cores)",)
