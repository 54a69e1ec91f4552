"""More than 200 steps of a real study on three workers, under each fault and under each two.

Forty prunings of a small network, each exported, built, looked at and measured, with artefacts in
S3 and rows in PostgreSQL. What each fault cost is printed as a table in the end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from dlas.store.results import CellRow, FactRow, RoundRow
from lab import Lab, lab_at
from place import place
from team import begun, committed, rows

PRUNED = [round(0.02 * n, 2) for n in range(1, 41)]
LAYERS = {
    "optimization": [
        "none", {"weight-pruning": {"sparsity": PRUNED, "epochs": 0}},
    ],
    "software": ["onnxruntime"], "hardware": ["cpu"],
}  # fmt: skip
MEASURE = {
    "rounds": 1, "memory": False, "accuracy_samples": 20, "min_controls": 0, "min_seconds": 0.01,
    "warmup_max_seconds": 0.1,
}  # fmt: skip
STEPS = 200
BEFORE = 60
"""Steps that are done when a fault happens."""
DOWN_S = 10.0
"""How long it lasts; a lease is 3 s."""
FAULTS = ("killed", "stopped", "scheduler", "store", "database")
CASES = [*((fault,) for fault in FAULTS), *combinations(FAULTS, 2)]
NAMES = [(*case, "alone") if len(case) == 1 else case for case in CASES]


@dataclass
class Servers:
    """What a run needs, and what can be done to it."""

    lab: Lab
    postgres: Any
    s3: Any

    def harm(self, faults: tuple[str, ...]) -> None:
        """Do all of it at the same moment."""
        if "stopped" in faults:
            self.lab.signal_all("one", signal.SIGSTOP)
        if "killed" in faults:
            os.kill(self.lab.worker_process("two"), signal.SIGKILL)
        if "store" in faults:
            self.s3.failing.set()
        if "database" in faults:
            self.postgres.stop("immediate")
        if "scheduler" in faults:
            os.killpg(self.lab.processes["scheduler"].pid, signal.SIGKILL)
            self.lab.processes["scheduler"].wait()

    def mend(self, faults: tuple[str, ...]) -> None:
        """Let all be as it was; a worker that was killed comes back by itself."""
        self.s3.failing.clear()
        if "database" in faults:
            self.postgres.start()
        if "scheduler" in faults:
            self.lab.scheduler()
        if "stopped" in faults:
            self.lab.signal_all("one", signal.SIGCONT)

    def restart_database(self, database: str) -> None:
        """Let it fail once more, while rounds are measured and their rows written."""
        until = time.monotonic() + 200
        while len(rows(database)[RoundRow]) < 5:
            assert time.monotonic() < until, self.lab.log("run")
            time.sleep(0.2)
        self.postgres.stop("immediate")
        time.sleep(2)
        self.postgres.start()

    def seen(self, faults: tuple[str, ...]) -> None:
        """Check that the faults were felt."""
        said = self.lab.log("run")
        assert "killed" not in faults or "killed by signal 9" in self.lab.log("two")
        assert "scheduler" not in faults or "is back" in said
        assert "store" not in faults or self.s3.refused > 0


@dataclass
class Ended:
    """How a run ended: how long it took, and what it left."""

    seconds: float
    rows: Mapping[str, Any]
    generations: Mapping[str, int]


def run(servers: Servers, database: str, bucket: str, faults: tuple[str, ...]) -> Ended:
    lab = servers.lab
    study = lab.place.study(layers=LAYERS, measure=MEASURE)
    servers.s3.refused = 0
    began = time.monotonic()
    lab.run(study, "--store", bucket, "--results", database)
    begun(bucket, lab.place.root / "looks", BEFORE)
    if faults:
        servers.harm(faults)
        time.sleep(DOWN_S)
        servers.mend(faults)
    if "database" in faults:
        servers.restart_database(database)
    lab.ends(within_s=400)
    took = time.monotonic() - began
    return Ended(took, told(database), committed(bucket, lab.place.root / "looks"))


def told(database: str) -> Mapping[str, Any]:
    """Return what the rows say, but for times, hosts and sessions."""
    found = rows(database)
    return {
        "cells": {row.cell: (row.position, row.status, row.reason) for row in found[CellRow]},
        "facts": {(f.cell, f.kind): (f.key, f.content, f.status) for f in found[FactRow]},
        "rounds": sorted((r.cell, r.control, r.round, r.status) for r in found[RoundRow]),
    }


def differing(calm: Mapping[str, Any], ended: Mapping[str, Any]) -> list[str]:
    """Return what differs between the rows of two runs."""
    found = []
    for kind in ("cells", "facts"):
        for at in sorted({*calm[kind], *ended[kind]}):
            was, is_ = calm[kind].get(at), ended[kind].get(at)
            found += [f"{kind} {at}: {was} became {is_}"] if was != is_ else []
    return found + [f"rounds: {calm['rounds']}"] * (calm["rounds"] != ended["rounds"])


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory, postgres: Any, s3_server: Any, endured: list[str]
) -> Ended:
    """Return how the same run ends when nothing happens to it."""
    with lab_at(place(tmp_path_factory.mktemp("calm")), "one", "two", "three") as lab:
        ended = run(Servers(lab, postgres, s3_server), postgres.made(), s3_server.made(), ())
    assert len(ended.generations) >= STEPS
    assert {status for _, status, _ in ended.rows["cells"].values()} == {"complete"}
    assert set(ended.generations.values()) == {0}
    observed = {cell for cell, kind in ended.rows["facts"] if kind == "observe"}
    assert observed == set(ended.rows["cells"])
    endured += [
        "", f"{len(ended.generations)} steps, {len(ended.rows['rounds'])} rounds; undisturbed "
        f"{ended.seconds:.1f} s",
        f"{'fault':<22}{'seconds':>8}{'lost':>8}  each once  rows equal",
    ]  # fmt: skip
    return ended


def line(fault: str, ended: Ended | None, calm: Ended) -> str:
    if ended is None:
        return f"{fault:<22}{'did not end':>16}"
    once = set(ended.generations.values()) == {0}
    lost, same = ended.seconds - calm.seconds, ended.rows == calm.rows
    return f"{fault:<22}{ended.seconds:>8.1f}{lost:>8.1f}  {_yes(once):<9}  {_yes(same)}"


def _yes(said: bool) -> str:
    return "yes" if said else "NO"


@pytest.mark.slow
@pytest.mark.parametrize("faults", CASES, ids=["-".join(named) for named in NAMES])
def test_two_hundred_steps(
    calm: Ended, tmp_path: Path, database: str, bucket: str, postgres: Any, s3: Any,
    endured: list[str], faults: tuple[str, ...],
) -> None:  # fmt: skip
    ended = None
    try:
        with lab_at(place(tmp_path), "one", "two", "three") as lab:
            servers = Servers(lab, postgres, s3)
            try:
                ended = run(servers, database, bucket, faults)
            finally:
                postgres.start_again()
            servers.seen(faults)
    finally:
        endured.append(line(" and ".join(faults), ended, calm))
    assert differing(calm.rows, ended.rows) == []
    assert set(ended.generations.values()) == {0}
    assert ended.generations.keys() == calm.generations.keys()
