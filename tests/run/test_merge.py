"""Folders become one: nothing lost, nothing pooled, conflicts named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dlas.cli.app import main
from dlas.core.errors import StorageError, UserError
from dlas.core.records import Outcome, Status
from dlas.run.merge import merge
from dlas.run.send import pack
from dlas.store.artifacts import ArtifactStore
from dlas.store.registered import register, registrations
from dlas.store.results import (
    FILE_NAME,
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    Row,
    SentinelRow,
    SessionRow,
)
from dlas.tables.claims_file import read_claims
from dlas.tables.for_claims import when
from table_rows import HOST, SENTINEL, SESSION, cell_row, fact, fill, round_row, stack

CLAIMS = """\
dlas-claims: 1
name: NAME
claims:
  - {id: a, claim: c, test: "speedup(optimization != 'none') > 1 in every context"}
"""
STACKS = [stack(), stack(0.5), stack(threads=2), stack(0.5, threads=2)]


def known(at: int, base_ms: float, **changed: str) -> list[Row]:
    cell = STACKS[at].cell
    rounds = [round_row(cell, n, [base_ms + 0.01 * n, base_ms], **changed) for n in range(3)]
    control = [round_row(cell, n, [base_ms], control=1, **changed) for n in range(2)]
    return [fact(cell, "build", {"params": 10 + at}, **changed), *rounds, *control]


def of_all() -> list[Row]:
    """Return the rows of a whole study: what belongs to no cell, then each cell's."""
    ceiling = CeilingRow("s1", HOST, "memory", "cpu", "", "", "start", 1, "native", 9.5)
    common: list[Row] = [
        HostRow(HOST, {"cpu": "x"}), replace(SESSION, ended_at="2026"), SENTINEL, ceiling,
    ]  # fmt: skip
    cells = [cell_row(each, at) for at, each in enumerate(STACKS)]
    return [*common, *cells, *(row for at in range(4) for row in known(at, 1.0 + at))]


def part(folder: Path, kept: Sequence[int]) -> Path:
    """Fill a folder with what a run of some of the cells would have left."""
    cells = {STACKS[at].cell for at in kept}
    rows = []
    for row in of_all():
        if isinstance(row, CellRow) and row.cell not in cells:
            row = replace(row, status=Status.PENDING)
        if not isinstance(row, FactRow | RoundRow) or row.cell in cells:
            rows.append(row)
    return fill(folder, *rows)


def rows_of(folder: Path) -> dict[type[Row], list[Row]]:
    with ResultStore(folder / FILE_NAME, read_only=True) as store:
        return store.snapshot()


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main([*command]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_folder_split_in_two_and_merged_is_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fill(tmp_path / "whole", *of_all())
    one, two = part(tmp_path / "one", [0, 3]), part(tmp_path / "two", [1, 2])
    both = tmp_path / "both"
    done = merge([one, two], both)
    assert (done.cells, done.rounds, done.hosts, done.sources) == (4, 20, 1, 2)
    assert rows_of(both) == rows_of(whole)
    for more in ([], ["--rounds"], ["--controls"]):
        for form in ("csv", "json", "text"):
            shown = [
                printed(capsys, "table", str(f), *more, "--format", form) for f in (both, whole)
            ]
            assert shown[0] == shown[1]
    assert printed(capsys, "analyze", str(both), "--format", "json").replace(str(both), "") == (
        printed(capsys, "analyze", str(whole), "--format", "json").replace(str(whole), "")
    )
    assert [p.name for p in sorted(both.iterdir()) if p.suffix in (".sqlite", ".json")] == [
        "findings.json", "results.sqlite", "sources.json",
    ]  # fmt: skip


def test_a_folder_that_went_on_after_it_was_copied_is_no_conflict(tmp_path: Path) -> None:
    begun = [
        replace(row, ended_at=None) if isinstance(row, SessionRow) else row for row in of_all()
    ]
    early = [r for r in begun if not (isinstance(r, RoundRow) and r.round == 2)]
    later = [
        replace(row, session="s2") if isinstance(row, FactRow) else row for row in of_all()
    ] + [replace(SESSION, session="s2", started_at="2026-02")]
    a, b = fill(tmp_path / "a", *early), fill(tmp_path / "b", *later)
    for order, name in (([a, b], "ab"), ([b, a], "ba")):
        merge(order, tmp_path / name)
        assert rows_of(tmp_path / name) == rows_of(b)
        merge(order, tmp_path / f"{name}-a", prefer=a)
        assert rows_of(tmp_path / f"{name}-a") == rows_of(b)


def test_who_is_preferred_in_a_conflict_says_what_became_of_the_cell(tmp_path: Path) -> None:
    wrong = cell_row(STACKS[0], status=Status.FAILED, stage="evaluate", reason="no")
    a = fill(tmp_path / "a", wrong, cell_row(STACKS[1], 1), *known(0, 2.0))
    b = fill(tmp_path / "b", cell_row(STACKS[0]), cell_row(STACKS[1], 1), *known(0, 7.0))
    for name, expected in (("a", wrong), ("b", cell_row(STACKS[0]))):
        merge([b, a], tmp_path / f"by-{name}", prefer=tmp_path / name)
        rows = rows_of(tmp_path / f"by-{name}")[CellRow]
        assert sorted(rows, key=lambda row: row.position) == [expected, cell_row(STACKS[1], 1)]


def test_the_same_cell_of_one_host_in_two_sources_is_named(tmp_path: Path) -> None:
    a = part(tmp_path / "a", [0, 1])
    b = fill(tmp_path / "b", *(r for r in of_all() if isinstance(r, CellRow)), *known(1, 7.0))
    with pytest.raises(UserError) as caught:
        merge([a, b], tmp_path / "both")
    said = str(caught.value)
    assert f"cell {STACKS[1].cell} of host {HOST} is in {a} (5 rounds, 2026-01-01), {b}" in said
    assert STACKS[0].cell not in said
    assert f"--prefer {a} or --prefer {b}" in said
    assert not (tmp_path / "both").exists()
    for name, first in (("a", 1.01), ("b", 7.0)):
        merge([a, b], tmp_path / f"by-{name}", prefer=tmp_path / name)
        found = [
            row
            for row in rows_of(tmp_path / f"by-{name}")[RoundRow]
            if isinstance(row, RoundRow) and row.cell == STACKS[1].cell
        ]
        assert len(found) == 5  # never of both
        assert found[0].samples[-1] == pytest.approx((2.0 if name == "a" else 7.0) / 1e3), first


def test_two_hosts_are_kept_apart(tmp_path: Path) -> None:
    a = part(tmp_path / "a", [0])
    cells = [row for row in of_all() if isinstance(row, CellRow)]
    elsewhere = replace(SESSION, session="s9", host="host-2")
    b = fill(
        tmp_path / "b", HostRow("host-2", {"cpu": "y"}), elsewhere, *cells,
        *known(0, 3.0, host="host-2", session="s9"),
    )  # fmt: skip
    merge([a, b], tmp_path / "both")
    rounds = rows_of(tmp_path / "both")[RoundRow]
    assert {row.host for row in rounds if isinstance(row, RoundRow)} == {HOST, "host-2"}
    assert len(rounds) == 10


def test_a_session_that_was_changed_is_named(tmp_path: Path) -> None:
    a = part(tmp_path / "a", [0])
    b = fill(tmp_path / "b", replace(SESSION, ended_at="2026", command="other"))
    c = fill(tmp_path / "c", replace(SENTINEL, seconds=9.0))
    with pytest.raises(UserError, match=r"session s1 is in .*a and .*b, and they differ"):
        merge([a, b], tmp_path / "ab")
    with pytest.raises(UserError, match=r"sentinel s1 0 10 .* and they differ"):
        merge([a, c], tmp_path / "ac")


def test_what_is_said_of_a_cell_is_the_best_of_it(tmp_path: Path) -> None:
    cell = cell_row(STACKS[0])
    a = fill(tmp_path / "a", replace(cell, status=Status.UNAVAILABLE, reason="no", position=4))
    b = fill(tmp_path / "b", replace(cell, status=Status.PENDING, dropped="2026"))
    merge([a, b], tmp_path / "both")
    assert rows_of(tmp_path / "both")[CellRow] == [replace(cell, status=Status.PENDING)]


# ------------------------------------------------------------ artefacts, study, manifest


def stored(folder: Path, **steps: str) -> ArtifactStore:
    store = ArtifactStore(folder / "store")
    for key, text in steps.items():
        made = store.scratch()
        (made / "a").write_text(text)
        store.commit(key, "build", made, {"of": key}, 1.5)
    return store


def test_artefacts_come_along_and_are_whole(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", [0, 1]), part(tmp_path / "b", [2, 3])
    first = stored(a, shared="same", own="one")
    second = stored(b, shared="same", other="two")
    second.fail("broken", "lower", Outcome(Status.FAILED, reason="no"), 2)
    assert merge([a, b], tmp_path / "both").artefacts == 4
    made = ArtifactStore(tmp_path / "both" / "store", create=False)
    assert [*made.records()] == ["broken", "other", "own", "shared"]
    for key, source in (("own", first), ("other", second), ("shared", second), ("broken", second)):
        record = made.get(key)
        assert record is not None
        if key != "shared":
            assert record == source.get(key)
        if record.content:
            assert (made.path(record.content) / "a").is_file()


def test_registrations_come_along_each_with_its_source(tmp_path: Path) -> None:
    """Of a source that did not register a file nobody may say that it was written before."""
    a, b, c = (part(tmp_path / name, [at]) for at, name in enumerate("abc"))
    both, late = CLAIMS.replace("NAME", "both"), CLAIMS.replace("NAME", "late")
    for folder in (a, b):
        register(folder, "both", both, "5" * 64, 0)
    register(c, "late", late, "5" * 64, 7)
    (c / "claims" / "note.txt").write_text("is no claims file")
    merge([a, b, pack(c, tmp_path / "c.dlas.zip")[0]], tmp_path / "ab")
    merge([tmp_path / "ab", c], tmp_path / "all", prefer=tmp_path / "ab")
    found = {
        name: [(r.source, r.afterwards) for r in registrations(tmp_path / "all") if r.name == name]
        for name in ("both", "late")
    }
    bundle = f"{tmp_path / 'c.dlas.zip'}, a bundle, which holds no registrations"
    assert found["both"] == [(str(a), False), (str(b), False), (bundle, True), (str(c), True)]
    assert found["late"] == [(str(tmp_path / "ab"), True), (str(c), True)]
    (file,) = (r.path for r in registrations(tmp_path / "ab") if r.source == str(a))
    assert file is not None and file.read_text() == both
    told = when(read_claims(file), [tmp_path / "ab"], "")
    assert len(told) == 3
    assert f"{tmp_path / 'ab'}: of {a}: registered on " in told[0]
    assert "before anything was measured there, for the study 555555555555." in told[0]
    assert "WRITTEN AFTERWARDS" in told[2] and "when 5 rounds had been measured" in told[2]


def test_nothing_is_said_of_claims_where_no_source_has_any(tmp_path: Path) -> None:
    merge([part(tmp_path / "a", [0]), part(tmp_path / "b", [1])], tmp_path / "both")
    assert not (tmp_path / "both" / "claims").exists()


def test_a_folder_whose_store_is_elsewhere_is_told(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", [0, 1]), part(tmp_path / "b", [2, 3])
    cache = stored(a, own="one")
    for file in cache.records().values():
        file.unlink()  # what a run with a store in S3 leaves here: objects and no record
    stored(b, other="two")
    notes: list[str] = []
    assert merge([a, b], tmp_path / "both", note=notes.append).artefacts == 1
    assert notes == [f"{a}: no artefacts (a bundle, or --store was elsewhere)"]


def test_a_file_of_rows_stands_for_its_folder(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", [0, 1]), part(tmp_path / "b", [1, 2])
    (a / "study.yaml").write_text("dlas: 1\nname: st\n")
    stored(a, own="one")
    with ResultStore(b / FILE_NAME) as rows:  # of another campaign
        rows.put(*known(1, 7.0))
    notes: list[str] = []
    done = merge([a / FILE_NAME, b], tmp_path / "both", prefer=a / FILE_NAME, note=notes.append)
    assert done.artefacts == 1
    assert (tmp_path / "both" / "study.yaml").read_text() == "dlas: 1\nname: st\n"
    assert not any(str(a) in note for note in notes)
    said = json.loads((tmp_path / "both" / "sources.json").read_text())
    assert [source["name"] for source in said["sources"]] == [str(a), str(b)]
    with pytest.raises(UserError, match="two or more"):
        merge([a, a / FILE_NAME], tmp_path / "other")


def test_a_step_that_yielded_something_else_is_told(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", [0, 1]), part(tmp_path / "b", [2, 3])
    first = stored(a, shared="one")
    stored(b, shared="two")
    notes: list[str] = []
    merge([a, b], tmp_path / "both", note=notes.append)
    assert ArtifactStore(tmp_path / "both" / "store").get("shared") == first.get("shared")
    assert any(f"{b}: 1 x build yielded something else" in note for note in notes)


def test_a_damaged_artefact_is_left_out_and_told(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", [0, 1]), part(tmp_path / "b", [2, 3])
    record = stored(a, own="one").get("own")
    stored(b, other="two")
    assert record is not None
    assert record.content is not None
    file = a / "store" / "objects" / record.content / "files" / "a"
    file.chmod(0o644)
    file.write_text("changed")
    notes: list[str] = []
    merge([a, b], tmp_path / "both", note=notes.append)
    assert [*ArtifactStore(tmp_path / "both" / "store").records()] == ["other"]
    assert any("left out, to be made again" in note for note in notes)


def test_files_that_are_not_what_the_record_says_are_not_taken(tmp_path: Path) -> None:
    store = stored(tmp_path / "a", own="one")
    record = store.get("own")
    assert record is not None
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("other")
    target = ArtifactStore(tmp_path / "b" / "store")
    with pytest.raises(StorageError, match="is not the artefact"):
        target.adopt(record, tmp_path / "files")
    assert target.get("own") is None
    assert list((target.root / "objects").iterdir()) == []


def test_the_manifest_says_from_where(tmp_path: Path) -> None:
    a, b = part(tmp_path / "a", [0, 1]), pack(part(tmp_path / "b", [2, 3]))[0]
    (a / "study.yaml").write_text("dlas: 1\nname: st\n")
    notes: list[str] = []
    merge([a, b], tmp_path / "both", note=notes.append)
    said = json.loads((tmp_path / "both" / "sources.json").read_text())
    assert [source["name"] for source in said["sources"]] == [str(a), str(b)]
    assert [source["rows"]["rounds"] for source in said["sources"]] == [10, 10]
    assert said["sources"][0]["hosts"] == {HOST: "x"}
    assert (tmp_path / "both" / "study.yaml").read_text() == "dlas: 1\nname: st\n"
    assert any(f"{b}: no artefacts" in note for note in notes)
    from dlas.store.bundle import manifest_of

    assert manifest_of(pack(tmp_path / "both")[0])["merged_of"] == said


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    a = part(tmp_path / "a", [0])
    with pytest.raises(UserError) as caught:
        merge([a, tmp_path / "none"], a, prefer=tmp_path / "else")
    said = str(caught.value).splitlines()
    assert len(said) == 3
    for line, words in zip(said, ("none holds no results", "--into", "--prefer"), strict=True):
        assert words in line
    with pytest.raises(UserError, match="two or more"):
        merge([a, a], tmp_path / "both")


def test_the_command_tells_what_it_did(tmp_path: Path, capsys) -> None:
    a, b = part(tmp_path / "a", [0, 1]), part(tmp_path / "b", [2, 3])
    said = printed(capsys, "merge", str(a), str(b), "--into", str(tmp_path / "both"))
    assert "4 cells and 20 rounds of 1 hosts from 2 sources" in said
    assert said.endswith(", 0 steps\n")
    said = printed(capsys, "pack", str(tmp_path / "both"), "-o", str(tmp_path / "x.zip"))
    assert said.startswith(f"{tmp_path / 'x.zip'} (")
    rows = rows_of(tmp_path / "both")
    with ResultStore(tmp_path / "x.zip", read_only=True) as store:
        assert store.snapshot() == rows
        assert store.rows(SentinelRow) == [SENTINEL]
