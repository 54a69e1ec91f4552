"""Runs whose steps are done by the workers of a Dask scheduler, whatever happens to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlas.cli.app import main
from dlas.store.artifacts import ArtifactStore
from dlas.store.results import CellRow, FactRow, HostRow, RoundRow, SessionRow
from lab import Lab, lab_at
from living import gone
from place import Place, place
from team import LAYERS, MEASURE, begun, rows, undisturbed, whole


@pytest.fixture
def there(tmp_path: Path, s3: Any) -> Place:
    return place(tmp_path)


@pytest.fixture
def lab(there: Place) -> Iterator[Lab]:
    with lab_at(there, "one", "two") as made:
        yield made


def steps_done(store: Path, number: int) -> None:
    """Return when so many steps are done in a folder of artefacts."""
    until = time.monotonic() + 120
    while len(list(store.glob("steps/*.json"))) < number:
        assert time.monotonic() < until, "nothing is ever done"
        time.sleep(0.05)


def each_once(store: Path) -> None:
    opened = ArtifactStore(store, create=False)
    keys = opened._steps.every()
    assert len(keys) >= 10
    assert {opened.generation(key) for key in keys} == {0}


def test_workers_do_the_steps_and_the_rows_are_those_of_a_local_run(lab: Lab) -> None:
    study = lab.place.study(layers=LAYERS, measure=MEASURE)
    lab.run(study, "--store", str(lab.place.root / "shared"))
    lab.ends()
    assert set(lab.place.rounds()) == undisturbed(lab.place)
    assert {row.status for row in lab.place.cells().values()} == {"complete"}
    shared = lab.place.root / "shared"
    each_once(shared)
    worked = [m.name for m in (lab.place.root / "machines").iterdir() if [*m.glob("study-*/jobs")]]
    assert worked == ["one", "two"] or worked == ["two", "one"]
    kinds = {(cell, kind): fact for (cell, kind), fact in lab.place.facts().items()}
    local = lab.place.facts("local")
    assert kinds.keys() == local.keys()
    for key, fact in kinds.items():
        assert (fact.key, fact.content, fact.status) == (
            local[key].key, local[key].content, local[key].status,
        )  # fmt: skip


def test_one_is_killed_in_mid_step_and_the_scheduler_too(lab: Lab) -> None:
    study, store = lab.place.study(layers=LAYERS, measure=MEASURE), lab.place.root / "shared"
    lab.run(study, "--store", str(store))
    steps_done(store, 2)
    os.kill(lab.worker_process("one"), signal.SIGKILL)
    steps_done(store, 4)
    os.killpg(lab.processes["scheduler"].pid, signal.SIGKILL)
    lab.processes["scheduler"].wait()
    time.sleep(1)
    lab.scheduler()
    said = lab.ends()
    assert "is back" in said
    assert set(lab.place.rounds()) == undisturbed(lab.place)
    each_once(store)


def test_one_is_stopped_for_longer_than_its_lease_while_the_servers_stumble(
    lab: Lab, database: str, bucket: str, postgres: Any, s3: Any
) -> None:
    study = lab.place.study(layers=LAYERS, measure=MEASURE)
    lab.run(study, "--store", bucket, "--results", database)
    begun(bucket, lab.place.root / "looks", 2)
    lab.signal_all("one", signal.SIGSTOP)
    s3.failing.set()
    postgres.stop("immediate")
    time.sleep(3)
    postgres.start()
    s3.failing.clear()
    begun(bucket, lab.place.root / "looks", 5)  # they go on without it
    time.sleep(5)
    lab.signal_all("one", signal.SIGCONT)
    lab.ends()
    whole(lab.place, database, bucket)


OTHER_CPU = "Another CPU at 9 GHz"


def another_cpu(folder: Path) -> str:
    """Return a description of the processor here under another name: another class of host."""
    lines = []
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name = line.partition(":")[0].strip()
        lines.append(f"model name\t: {OTHER_CPU}" if name == "model name" else line)
    (folder / "cpuinfo").write_text("\n".join(lines) + "\n")
    return str(folder / "cpuinfo")


@pytest.fixture
def three(there: Place) -> Iterator[Lab]:
    with lab_at(there) as made:
        made.worker("near", "near,plain")
        made.worker("far", "far", DLAS_CPUINFO=another_cpu(there.root))
        yield made


def test_cells_are_measured_where_they_say_under_their_own_host(
    three: Lab, database: str, bucket: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hardware: list[Any] = ["cpu", {"cpu": {"on": ["near", "far", "nowhere"]}}]
    layers = {"optimization": ["none"], "software": ["onnxruntime"], "hardware": hardware}
    study = three.place.study(layers=layers, measure=MEASURE)
    three.run(study, "--store", bucket, "--results", database)
    three.ends()
    found = rows(database)
    status = {row.hardware: row.status for row in found[CellRow]}
    assert status == {
        "cpu": "complete", "cpu(on=near)": "complete", "cpu(on=far)": "complete",
        "cpu(on=nowhere)": "unavailable",
    }  # fmt: skip
    (reason,) = [row.reason for row in found[CellRow] if row.reason]
    assert "'nowhere'" in reason
    assert "far, near, plain" in reason
    hosts = {row.host: row.description["cpu"] for row in found[HostRow]}
    assert len(hosts) == 2
    assert len(found[SessionRow]) == 3
    assert all(session.ended_at for session in found[SessionRow])
    by_cell = {row.cell: row.hardware for row in found[CellRow]}
    where = {(by_cell[r.cell], hosts[r.host] == OTHER_CPU) for r in found[RoundRow]}
    assert where == {("cpu", False), ("cpu(on=near)", False), ("cpu(on=far)", True)}
    per_session = {(by_cell[r.cell], r.session) for r in found[RoundRow]}
    assert len(per_session) == 3
    facts = {(by_cell[f.cell], f.kind, hosts[f.host] == OTHER_CPU) for f in found[FactRow]}
    assert ("cpu(on=far)", "evaluate", True) in facts
    capfd.readouterr()
    assert main(["table", str(three.place.root / "out"), "--format", "csv"]) == 0
    shown = capfd.readouterr().out
    assert all(host in shown for host in hosts)

    measured = len(found[RoundRow])
    again = three.run(study, "--store", bucket, "--results", database)
    three.ends()
    assert again.returncode == 0
    assert len(rows(database)[RoundRow]) == measured


def test_without_its_machine_a_cell_waits_and_without_a_database_it_is_refused(
    three: Lab, bucket: str
) -> None:
    layers = {"optimization": ["none"], "hardware": [{"cpu": {"on": "near"}}]}
    study = three.place.study(layers=layers, measure=MEASURE)
    run = three.run(study, "--store", bucket)
    assert run.wait(timeout=100) == 2
    assert "--results postgresql://" in three.log("run")


def test_an_interrupted_run_leaves_nothing_at_work(lab: Lab) -> None:
    study, store = lab.place.study(layers=LAYERS, measure=MEASURE), lab.place.root / "shared"
    run = lab.run(study, "--store", str(store))
    steps_done(store, 3)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    until = time.monotonic() + 15
    while [p for p in (*lab.members("one"), *lab.members("two")) if _is_member(p)]:
        assert time.monotonic() < until, "something still works for it"
        time.sleep(0.2)
    lab.run(study, "--store", str(store))
    lab.ends()
    assert set(lab.place.rounds()) == undisturbed(lab.place)
    each_once(store)


def _is_member(pid: int) -> bool:
    try:
        return b"dlas.run.member" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_workers_end_with_their_supervisor_however_it_ends(there: Place) -> None:
    lab = Lab(there)
    try:
        lab.scheduler()
        lab.worker("one")
        until = time.monotonic() + 30
        while not lab.members("one"):
            assert time.monotonic() < until
            time.sleep(0.1)
        os.kill(lab.processes["one"].pid, signal.SIGKILL)
        lab.processes["one"].wait()
        until = time.monotonic() + 10
        while lab.members("one"):
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        lab.close()
    assert gone(lab.mark, within_s=10) == []
