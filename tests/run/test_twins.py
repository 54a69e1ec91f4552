"""Two machines of one kind are one host: said, kept apart where asked, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlas.core.errors import UserError
from dlas.run import twins
from dlas.run.measure import host as hosts
from dlas.run.measure.host import MACHINE, describe, host_class, machine_id, this_class
from dlas.run.merge import merge
from dlas.store.facts import Machine, machines_of
from dlas.store.results import FILE_NAME, HostRow, ResultStore
from table_rows import HOST, SESSION, cell_row, fill, round_row, stack


def on(machine: str, session: str, *before: HostRow) -> tuple[HostRow, twins.Others]:
    """Begin a session on a machine; return the host's row, and what there is of others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twins, "machine_id", lambda: machine)
        row = twins.described(HOST, {"name": f"lab-{machine}", "cpu": "x"}, before, session)
        return row, twins.others(row)


def test_a_machine_hears_of_others_of_its_kind(tmp_path: Path) -> None:
    one, none = on("1", "s1")
    again, still = on("1", "s2", one)
    assert none == still == {}
    assert twins.warning(none) is None
    two, theirs = on("2", "s3", again)
    assert theirs == {"s1": "lab-1", "s2": "lab-1"}
    said = twins.warning(theirs)
    assert said is not None
    assert said.startswith("lab-1 of the same kind ran into these results")
    assert "DLAS_MACHINE=NAME" in said
    unknown, nothing = on("", "s4", two)  # a container, say: nobody knows
    assert nothing == {}
    assert machines_of(unknown) == machines_of(two)
    assert Machine.KIND not in on("", "s1")[0].description


@pytest.mark.parametrize("said", [None, 3, [], {"1": 3}, {"1": {"sessions": None}}])
def test_what_is_no_machine_is_left_out(said: Any) -> None:
    row, theirs = on("2", "s2", HostRow(HOST, {Machine.KIND: said}))
    assert theirs == {}
    assert machines_of(row)["2"] == Machine("lab-2", ["s2"])


def test_rounds_of_another_machine_are_not_lost(tmp_path: Path) -> None:
    mine, theirs = round_row("c", 0, [1.0], session="s2"), round_row("c", 1, [1.0], session="s1")
    twins.require_mine([mine], {"s1": "lab-1"})
    with pytest.raises(UserError, match=r"1 rounds, of cell c .* measured on lab-1.*--store"):
        twins.require_mine([mine, theirs], {"s1": "lab-1"})


def test_a_merged_host_knows_the_machines_of_all(tmp_path: Path) -> None:
    cells = [stack(), stack(0.5)]
    for at, name in enumerate(("1", "2")):
        session = replace(SESSION, session=f"s{name}", started_at=f"2026-0{name}")
        kept = [cell_row(each, n) for n, each in enumerate(cells)]
        rounds = round_row(cells[at].cell, 0, [1.0], session=f"s{name}")
        fill(tmp_path / name, on(name, f"s{name}")[0], session, *kept, rounds)
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "both")
    with ResultStore(tmp_path / "both" / FILE_NAME, read_only=True) as store:
        (row,) = store.rows(HostRow)
    assert machines_of(row) == {"1": Machine("lab-1", ["s1"]), "2": Machine("lab-2", ["s2"])}


def test_a_name_makes_a_machine_a_host_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MACHINE, raising=False)
    plain = describe()
    assert "called" not in plain
    found = {this_class()}
    for name in ("lab-1", "lab-2"):
        monkeypatch.setenv(MACHINE, name)
        found.add(this_class())
        named: Any = describe()
        assert named["called"] == name
        assert host_class(named) == this_class()
    assert len(found) == 3
    assert host_class(plain) in found
    monkeypatch.setenv(MACHINE, "lab 1")
    with pytest.raises(UserError, match=r"DLAS_MACHINE='lab 1': must be one word"):
        this_class()


def test_what_tells_a_machine_from_others_is_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    assert machine_id(file) == ""
    file.write_text("uninitialized\n")
    assert machine_id(file) == ""
    file.write_text("0123456789abcdef\n")
    assert len(machine_id(file)) == 12
    assert "0123456789ab" not in machine_id(file)
    assert hosts.machine_id(file) != machine_id(tmp_path / "none")
