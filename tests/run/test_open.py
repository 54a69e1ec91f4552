"""What a run writes down of cells that it cannot do, where other machines have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlas.core.errors import UserError
from dlas.core.records import Status
from dlas.core.registry import LABELS
from dlas.run import twins
from dlas.run.measure.host import this_class
from dlas.run.noting import cell_row
from dlas.run.plan.plan import Refused, make
from dlas.run.progress import Silent
from dlas.run.run import campaign
from dlas.store.facts import Machine, Rests, machines_of
from dlas.store.results import (
    FILE_NAME,
    CellRow,
    HostRow,
    ResultStore,
    RoundRow,
    Row,
)
from dlas.study.study import Study
from table_rows import fact, round_row

LAYERS = {
    "dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"],
    "hardware": [{"cpu": {"on": "big"}}],
}  # fmt: skip


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LABELS, raising=False)


def opened(folder: Path, before: Status, *made_on: str) -> tuple[CellRow, str]:
    """Open a run where a label is not carried; return the row of its cell, and what was noted."""
    folder.mkdir()
    study = Study.from_dict({"name": "s", "layers": LAYERS}, folder)
    (refused,) = make(study).cells
    assert isinstance(refused, Refused)
    row = cell_row("s", refused, 0)
    known = replace(row, status=before, reason="")
    rows: list[Row] = [known]
    rows += [fact(row.cell, Rests.KIND, {"keys": ["k"]}, host=host) for host in made_on]
    with ResultStore(folder / FILE_NAME) as store:
        store.put(*rows)
    heard = Heard()
    with campaign(study, folder, progress=heard) as begun:
        begun.open()
        (found,) = begun.results.rows(CellRow)
    return found, " ".join(heard.notes)


def test_what_another_machine_has_is_not_called_unavailable(tmp_path: Path) -> None:
    for before in (Status.COMPLETE, Status.PENDING, Status.FAILED):
        row, notes = opened(tmp_path / before, before, "elsewhere")
        assert row.status is before
        assert "1 cells cannot run here (" in notes
        assert "what other machines have of them stays" in notes


def test_nor_what_a_machine_of_this_kind_has_that_carries_the_label(tmp_path: Path) -> None:
    assert opened(tmp_path / "twin", Status.COMPLETE, this_class())[0].status is Status.COMPLETE


def test_what_nobody_has_is(tmp_path: Path) -> None:
    row, notes = opened(tmp_path / "never", Status.PENDING)
    assert row.status is Status.UNAVAILABLE
    assert "big" in row.reason
    assert "stays" not in notes
    assert opened(tmp_path / "no", Status.UNAVAILABLE, "elsewhere")[0].status is Status.UNAVAILABLE


def test_rounds_of_another_machine_of_this_kind_are_told_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "machine_id", lambda: "2")
    machines = {Machine.KIND: {"1": {"name": "lab-1", "sessions": ["s1"]}}}
    study = Study.from_dict({"name": "s", "layers": LAYERS}, tmp_path)
    row = round_row("c", 0, [1.0], host=this_class())
    with ResultStore(tmp_path / FILE_NAME) as store:
        store.put(HostRow(this_class(), machines), row)
    heard = Heard()
    entry: Any = SimpleNamespace(plan=SimpleNamespace(cell="c"), key="of another artefact")
    with campaign(study, tmp_path, progress=heard) as begun:
        begun.open()
        with pytest.raises(UserError, match="measured on lab-1, of the same kind"):
            begun._forget([entry])
        assert [each.session for each in begun.results.rows(RoundRow)] == ["s1"]
        begun.maker.remeasure = True
        begun._forget([entry])
        assert begun.results.rows(RoundRow) == []
        (host,) = begun.results.rows(HostRow)
    assert any(note.startswith("lab-1 of the same kind") for note in heard.notes)
    assert machines_of(host)["2"].sessions == [begun.bench.session]
