"""What Dask adds to a step, and what several workers bring: sleeping steps, on this machine.

    python benchmarks/cluster.py            # about three minutes

Each step is a real one of the engine (a child process, an artefact, a record); its work is to
sleep. Overhead: the wall time of one step at a time on one worker, less that of the local engine,
in turns. Speed: steps of a fixed duration on 1, 2 and 4 workers, as a share of what as many slots
could do at best.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dlas.core.keys import key
from dlas.core.records import MeasureSettings, Stage, Status
from dlas.run.engines.dask import Crew, Errand
from dlas.run.engines.errands import Commission, Enrolled, Reply
from dlas.run.engines.hands import Hands, Threads
from dlas.run.engines.local import LocalEngine
from dlas.run.engines.spread import Spread
from dlas.run.engines.wire import Wire
from dlas.run.plan.plan import Step
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Server
from dlas.store.artifacts import ArtifactStore, StepRecord
from dlas.study.study import Study

SERVER = Server(preload=("dlas.testing.nap",))
LAYERS = {"dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"]}


class Anyone(Spread):
    """Any machine does any step: those here are in no study's plan."""

    def able(self, step: Step, machine: Enrolled) -> bool:
        return True


def nap(name: str, seconds: float) -> Step:
    args = {"seconds": seconds, "text": name}
    return Step(key("nap", name), Stage.OPTIMIZE, "dlas.testing.nap:run", args, {}, SERVER, name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def processes(folder: Path, port: int, workers: int) -> Iterator[None]:
    started = []

    def start(name: str, *arguments: str) -> None:
        environment = {**os.environ, "DLAS_MEASURE_LOCK": str(folder / f"{name}.lock")}
        log = (folder / f"{name}.log").open("ab")
        command = [sys.executable, "-m", "dlas.cli", *arguments]
        started.append(
            subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        )

    try:
        start("scheduler", "scheduler", "--port", str(port))
        for number in range(workers):
            address = f"dask://127.0.0.1:{port}"
            place = str(folder / f"machine{number}")
            start(f"w{number}", "workers", "--scheduler", address, "--name", f"w{number}",
                  "--folder", place)  # fmt: skip
        yield
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(timeout=20)


@contextmanager
def crew_of(folder: Path, store: ArtifactStore, workers: int) -> Iterator[Crew]:
    port = free_port()
    with processes(folder, port, workers):
        study = Study.from_dict({"name": "naps", "layers": LAYERS}, folder)
        commission = Commission(
            uuid.uuid4().hex[:12], study, str(store.root), str(store.scratch()), "", (), False
        )
        until = time.monotonic() + 60
        while True:
            try:
                crew = Crew(Wire("127.0.0.1", port, None), commission, lambda machine: True)
                break
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)
        try:
            while len(crew.machines) < workers:
                assert time.monotonic() < until + 60, "workers do not come"
                time.sleep(0.1)
            yield crew
        finally:
            crew.close()


def run(store: ArtifactStore, pool: Pool, steps: list[Step], hands: Hands | None) -> float:
    engine = LocalEngine(store, pool, MeasureSettings.model_validate({}), hands=hands)
    began = time.perf_counter()
    records = engine.run({step.key: step for step in steps}, lambda *_: None)
    took = time.perf_counter() - began
    assert all(record.status == "complete" for record in records.values())
    return took


def anyone(crew: Crew) -> Anyone:
    return Anyone(crew, {}, (), lambda: None)


def overhead(folder: Path, turns: int) -> dict[str, float]:
    store = ArtifactStore(folder / "store")
    seen: dict[str, list[float]] = {"local": [], "dask": []}
    with store.use(), Pool(store.scratch()) as pool, crew_of(folder, store, 1) as crew:
        for turn in range(turns + 5):
            for where, hands in (("local", Threads(1)), ("dask", anyone(crew))):
                took = run(store, pool, [nap(f"{where} {turn} {uuid.uuid4()}", 0.0)], hands)
                if turn >= 5:  # servers are warm
                    seen[where].append(took)
    found = {where: statistics.median(times) * 1e3 for where, times in seen.items()}
    return {**found, "overhead": found["dask"] - found["local"]}


def speed(folder: Path, workers: int, seconds: float, each: int) -> dict[str, float]:
    store = ArtifactStore(folder / "store")
    with store.use(), Pool(store.scratch()) as pool, crew_of(folder, store, workers) as crew:
        slots = sum(machine.slots for machine in crew.machines)
        warm = [nap(f"warm {n} {uuid.uuid4()}", 1.0) for n in range(2 * slots)]
        run(store, pool, warm, anyone(crew))
        steps = [nap(f"{n} {uuid.uuid4()}", seconds) for n in range(each * slots)]
        took = run(store, pool, steps, anyone(crew))
    best = each * seconds
    return {"workers": workers, "slots": slots, "took_s": took, "share": best / took}


class Instant:
    """Many machines that have done everything at once: what is left is the head's own work."""

    def __init__(self, machines: int, keys: frozenset[str]) -> None:
        self.machines = tuple(Enrolled(f"m{n}", keys=keys, slots=4) for n in range(machines))
        self._errands: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        threading.Thread(target=self._answer, daemon=True).start()

    def send(self, errand: Errand) -> Future[Reply]:
        self._errands.put(errand)
        return errand.future

    def recall_all(self, method: str) -> None:
        self._errands.put(None)

    def _answer(self) -> None:
        while (errand := self._errands.get()) is not None:
            step = errand.given.step  # type: ignore[attr-defined]
            record = StepRecord(step.key, step.stage, Status.COMPLETE, "c" * 64)
            errand.future.set_result(Reply(record, False))


class Everything(ArtifactStore):
    """A store that holds whatever is asked for."""

    def has(self, content: str) -> bool:
        return True


def head(folder: Path, machines: int, wide: int) -> float:
    """Return the head's milliseconds for a step: ``wide`` builds on each of 100 networks."""
    networks = [nap(f"network {n}", 0.0) for n in range(100)]
    builds = [
        replace(nap(f"build {n}", 0.0), inputs={"network": networks[n % 100].key})
        for n in range(100 * wide)
    ]
    steps = {step.key: step for step in (*networks, *builds)}
    crew = Instant(machines, frozenset(steps))
    hands = Spread(crew, {}, (), lambda: None)  # type: ignore[arg-type]
    store = Everything(folder / "store")
    engine = LocalEngine(
        store,
        None,
        MeasureSettings.model_validate({}),
        hands=hands,  # type: ignore[arg-type]
    )
    began = time.process_time()
    engine.run(steps, lambda *_: None)
    return (time.process_time() - began) / len(steps) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--each", type=int, default=8, help="steps a slot")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlas-cluster-") as made:
        found = overhead(Path(made), given.turns)
        print(f"a step, ms (median of {given.turns}): {json.dumps(found)}", flush=True)
    for machines, wide in ((1, 2), (10, 10), (100, 100)):
        with tempfile.TemporaryDirectory(prefix="dlas-cluster-") as made:
            took = head(Path(made), machines, wide)
            print(f"the head's CPU, {machines} machines, {100 * (wide + 1)} steps: {took:.2f} ms")
    for workers in given.workers:
        with tempfile.TemporaryDirectory(prefix="dlas-cluster-") as made:
            print(json.dumps(speed(Path(made), workers, given.seconds, given.each)), flush=True)


if __name__ == "__main__":
    main()
