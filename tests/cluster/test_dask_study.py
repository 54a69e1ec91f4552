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
from team import LAYERS, MEASURE, begun, rows


@pytest.fixture
def there(tmp_path: Path, s3: Any) -> Place:
    return place(tmp_path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, s3_server: Any) -> Iterator[Lab]:
    """Return two workers that outlive what is done to them."""
    with lab_at(place(tmp_path_factory.mktemp("lab")), "one", "two") as made:
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


def test_workers_do_the_steps_one_of_them_dies_and_the_rows_are_those_of_a_local_run(
    lab: Lab, undisturbed: Place
) -> None:
    study, shared = lab.place.study(layers=LAYERS, measure=MEASURE), lab.place.root / "shared"
    lab.run(study, "--store", str(shared))
    steps_done(shared, 3)
    os.kill(lab.worker_process("one"), signal.SIGKILL)
    lab.ends()
    assert set(lab.place.rounds()) == set(undisturbed.rounds())
    assert {row.status for row in lab.place.cells().values()} == {"complete"}
    each_once(shared)
    machines = lab.place.root / "machines"
    assert {m.name for m in machines.iterdir() if [*m.glob("study-*/jobs")]} == {"one", "two"}
    local, found = undisturbed.facts(), lab.place.facts()
    assert {name: (f.key, f.content, f.status) for name, f in found.items()} == {
        name: (f.key, f.content, f.status) for name, f in local.items()
    }


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


def test_cells_are_measured_where_they_say_under_their_own_host_while_the_servers_stumble(
    three: Lab, database: str, bucket: str, postgres: Any, s3: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    hardware: list[Any] = ["cpu", {"cpu": {"on": ["near", "far", "nowhere"]}}]
    layers = {"optimization": ["none"], "software": ["onnxruntime"], "hardware": hardware}
    study = three.place.study(layers=layers, measure=MEASURE)
    three.run(study, "--store", bucket, "--results", database)
    begun(bucket, three.place.root / "looks", 3)
    s3.failing.set()
    postgres.stop("immediate")
    time.sleep(3)
    postgres.start()
    s3.failing.clear()
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
    again = three.run(study, "--store", bucket, "--results", database, DLAS_GATHER="1")
    three.ends()
    assert again.returncode == 0
    assert len(rows(database)[RoundRow]) == measured


def test_rows_of_other_machines_do_not_go_into_a_file(there: Place, bucket: str) -> None:
    layers = {"optimization": ["none"], "hardware": [{"cpu": {"on": "near"}}]}
    with lab_at(there) as lab:
        run = lab.run(there.study(layers=layers, measure=MEASURE), "--store", bucket)
        assert run.wait(timeout=100) == 2
        assert "--results postgresql://" in lab.log("run")


def test_an_interrupted_run_leaves_nothing_at_work(lab: Lab, undisturbed: Place) -> None:
    study, store = lab.place.study(layers=LAYERS, measure=MEASURE), lab.place.root / "again"
    run = lab.run(study, "--store", str(store), out="interrupted")
    steps_done(store, 3)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    until = time.monotonic() + 15
    while [p for p in (*lab.members("one"), *lab.members("two")) if _is_member(p)]:
        assert time.monotonic() < until, "something still works for it"
        time.sleep(0.2)
    lab.run(study, "--store", str(store), out="interrupted")
    lab.ends()
    assert set(lab.place.rounds("interrupted")) == set(undisturbed.rounds())
    each_once(store)


def test_machines_build_what_exploring_and_settling_measure_here(lab: Lab) -> None:
    study = lab.place.study(
        "sought.yaml", layers=LAYERS, measure=MEASURE,
        goals={"minimize": ["latency_ms"], "accuracy_drop_at_most": 0.9},
    )  # fmt: skip
    before = {*(lab.place.root / "machines").glob("*/study-*/jobs")}
    store = lab.place.root / "built"
    more = ["--engine", lab.address, "--store", str(store)]
    lab.start("run", "explore", str(study), "--out", "sought", "--budget", "1", *more)
    assert "settled: 1 stack is left of 1" in lab.ends()
    assert len({cell for cell, *_ in lab.place.rounds("sought")}) == 1
    assert {*(lab.place.root / "machines").glob("*/study-*/jobs")} > before
    lab.start("run", "run", str(study), "--out", "sought", "--settle", *more)
    assert "settled: " in lab.ends().rpartition("settled: 1 stack is left of 1")[2]
    assert {row.status for row in lab.place.cells("sought").values()} == {"complete"}
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
