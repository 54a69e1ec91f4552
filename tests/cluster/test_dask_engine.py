"""Steps on the workers of a Dask scheduler, whatever happens to them: each once, none lost.

The steps are real ones of the engine (a child, an artefact, a record); what they do is sleep.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dlas.core.errors import UserError
from dlas.core.keys import key
from dlas.core.records import MeasureSettings, Stage, Status
from dlas.run.engines.dask import Crew
from dlas.run.engines.errands import Commission, Enrolled
from dlas.run.engines.local import LocalEngine
from dlas.run.engines.spread import Spread
from dlas.run.engines.wire import Tls, Wire
from dlas.run.plan.plan import Step
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Server
from dlas.store.artifacts import ArtifactStore, StepRecord
from dlas.store.shared_store import artifact_store
from dlas.study.study import Study
from lab import Lab, lab_at
from living import processes
from place import Place

SERVER = Server(preload=("dlas.testing.nap",))
LAYERS = {"dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"]}
SETTINGS = MeasureSettings.model_validate({})


class Anyone(Spread):
    """Any machine does any step: naps are in no study's plan."""

    def able(self, step: Step, machine: Enrolled) -> bool:
        return True


def nap(name: str, *needs: Step, seconds: float = 0.4, alone: bool = False) -> Step:
    inputs = {f"need{at}": step.key for at, step in enumerate(needs)}
    args = {"seconds": seconds, "text": name}
    return Step(
        key("nap", name), Stage.OPTIMIZE, "dlas.testing.nap:run", args, inputs, SERVER, name,
        alone=alone,
    )  # fmt: skip


def naps(rows: int = 6, long: int = 5, **how: Any) -> dict[str, Step]:
    """Return ``rows`` chains of ``long`` steps, the last of which needs the chain beside it."""
    steps: dict[str, Step] = {}
    for row in range(rows):
        before: list[Step] = []
        for at in range(long):
            step = nap(f"{row} {at}", *before, **how)
            steps[step.key] = step
            before = [step]
    return steps


@dataclass
class Work:
    """An engine at work in a thread of its own."""

    lab: Lab
    crew: Crew
    store: ArtifactStore
    ended: list[str] = field(default_factory=list)
    future: Future[dict[str, StepRecord]] | None = None

    def begin(self, steps: dict[str, Step], pool: Pool, thread: ThreadPoolExecutor) -> None:
        hands = Anyone(self.crew, {}, steps.keys(), lambda: None)
        engine = LocalEngine(self.store, pool, SETTINGS, hands=hands)
        self.future = thread.submit(engine.run, steps, self._done)

    def _done(self, step: Step, record: StepRecord, known: bool) -> None:
        self.ended.append(step.key)

    def wait(self, number: int) -> None:
        until = time.monotonic() + 60
        assert self.future is not None
        while len(self.ended) < number:
            assert not self.future.done(), self.future.result()
            assert time.monotonic() < until, self.lab.log("one") + self.lab.log("scheduler")
            time.sleep(0.05)

    def whole(self, steps: dict[str, Step], within_s: float = 120) -> None:
        """Check that all steps are done, once, and say what they do without Dask."""
        assert self.future is not None
        records = self.future.result(timeout=within_s)
        assert records.keys() == steps.keys()
        assert {record.status for record in records.values()} == {Status.COMPLETE}
        assert sorted(self.ended) == sorted(steps)
        for name, step in steps.items():
            content = records[name].content
            assert content is not None
            assert (self.store.path(content) / "out.txt").read_text() == step.args["text"]
            assert self.store.generation(name) == 0

    def notes(self) -> str:
        said = []
        while not self.crew.heard.empty():
            said.append(self.crew.heard.get().text)
        return "\n".join(said)


@contextmanager
def at_work(lab: Lab, where: str, machines: int) -> Iterator[tuple[Work, Any]]:
    session = uuid.uuid4().hex[:12]
    folder = lab.place.root / session
    folder.mkdir()
    store = artifact_store(where, folder / "cache")
    study = Study.from_dict({"name": "naps", "layers": LAYERS}, folder)
    proof = None if "://" in where else str(store.scratch())
    commission = Commission(session, study, where, proof, "", (), False)
    with store.use(), Pool(folder / "jobs") as pool, ThreadPoolExecutor(1) as thread:
        crew = Crew(lab.wire, commission, lambda machine: True)
        try:
            until = time.monotonic() + 60
            while len(crew.machines) < machines:
                assert time.monotonic() < until, lab.log("one")
                time.sleep(0.1)
            work = Work(lab, crew, store)
            yield work, lambda steps: work.begin(steps, pool, thread)
        finally:
            crew.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, s3_server: Any) -> Iterator[Lab]:
    """Return three workers that outlive what is done to them: each test finds them again."""
    with lab_at(Place(tmp_path_factory.mktemp("lab")), "one", "two", "three") as made:
        yield made


def test_one_is_killed_in_mid_step_and_comes_back(lab: Lab, tmp_path: Path) -> None:
    steps = naps()
    with at_work(lab, str(tmp_path / "store"), 3) as (work, begin):
        begin(steps)
        work.wait(4)
        killed = lab.worker_process("one")
        os.kill(killed, signal.SIGKILL)
        work.whole(steps)
        assert "one (tcp" in work.notes()
        until = time.monotonic() + 30
        while len(work.crew.machines) < 3:
            assert time.monotonic() < until, lab.log("one")
            time.sleep(0.1)
        assert lab.worker_process("one") != killed


def test_one_is_stopped_for_longer_than_its_lease_and_woken(lab: Lab, bucket: str) -> None:
    steps = naps()
    with at_work(lab, bucket, 3) as (work, begin):
        begin(steps)
        work.wait(4)
        lab.signal_all("one", signal.SIGSTOP)
        try:
            work.whole(steps)  # without it
        finally:
            lab.signal_all("one", signal.SIGCONT)
        time.sleep(1)
        assert {work.store.generation(name) for name in steps} == {0}


def test_the_scheduler_is_killed_and_started_anew(lab: Lab, tmp_path: Path) -> None:
    steps = naps()
    with at_work(lab, str(tmp_path / "store"), 3) as (work, begin):
        begin(steps)
        work.wait(4)
        os.killpg(lab.processes["scheduler"].pid, signal.SIGKILL)
        lab.processes["scheduler"].wait()
        time.sleep(1)
        lab.scheduler()
        work.whole(steps)
        assert "is back" in work.notes()


def test_a_worker_and_the_scheduler_are_killed_while_the_store_answers_500(
    lab: Lab, bucket: str, s3: Any
) -> None:
    steps = naps()
    with at_work(lab, bucket, 3) as (work, begin):
        begin(steps)
        work.wait(4)
        s3.failing.set()
        os.kill(lab.worker_process("two"), signal.SIGKILL)
        os.killpg(lab.processes["scheduler"].pid, signal.SIGKILL)
        lab.processes["scheduler"].wait()
        time.sleep(2)
        s3.failing.clear()
        lab.scheduler()
        work.whole(steps)


def test_what_measures_is_alone_on_its_machine(lab: Lab, tmp_path: Path) -> None:
    plain = {step.key: step for step in (nap(f"p{n}", seconds=0.3) for n in range(12))}
    alone = {step.key: step for step in (nap(f"a{n}", alone=True, seconds=0.3) for n in range(4))}
    steps = {**plain, **alone}
    seen: list[tuple[str, ...]] = []
    with at_work(lab, str(tmp_path / "store"), 3) as (work, begin):
        watching = threading.Event()

        def watch() -> None:
            """Look which locks are held: a measurement's is exclusive, a step's is shared."""
            while not watching.is_set():
                for name in ("one", "two", "three"):
                    seen.append((name, *_held(lab.place.root / f"{name}.lock")))
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        begin(steps)
        work.whole(steps)
        watching.set()
        watcher.join()
    held = [kinds for _, *kinds in seen]
    assert any("WRITE" in kinds for kinds in held)
    assert any("READ" in kinds for kinds in held)
    assert all(kinds == ["WRITE"] for kinds in held if "WRITE" in kinds)


def _held(file: Path) -> list[str]:
    """Return how a file is locked, by each who has it."""
    if not file.exists():
        return []
    inode = f":{file.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return [line.split()[3] for line in lines if inode in line and "->" not in line]


def certificates(folder: Path) -> Tls:
    """Make them as docs/together.md says."""
    text = (Path(__file__).parents[2] / "docs" / "together.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("openssl ")]
    assert len(lines) == 3
    for line in lines:
        made = subprocess.run(
            line.split(), cwd=folder, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
    found = Tls.of(*(folder / name for name in ("ca.pem", "cert.pem", "key.pem")))
    assert found is not None
    return found


def listening(mark: str) -> list[int]:
    """Return the ports that other machines can reach of the processes with a mark."""
    import psutil

    mine = processes(mark)
    return [
        each.laddr.port
        for each in psutil.net_connections("tcp")
        if each.pid in mine
        and each.status == psutil.CONN_LISTEN
        and each.laddr.ip not in ("127.0.0.1", "::1")
    ]


CONNECT_S = "dlas.run.engines.dask._CONNECT_S"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_over_tls_and_for_nobody_without_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pki").mkdir()
    steps = naps(rows=2, long=2)
    made = certificates(tmp_path / "pki")
    with lab_at(Place(tmp_path), "one", tls=made, host="0.0.0.0") as lab:
        with at_work(lab, str(tmp_path / "store"), 1) as (work, begin):
            begin(steps)
            work.whole(steps)
            open_to_others = listening(lab.mark)
        assert lab.port in open_to_others
        for port in open_to_others:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                plain.settimeout(10)
                with suppress(ConnectionResetError):
                    assert plain.recv(4096)[:1] in (b"", b"\x15")  # nothing, or TLS's alert
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        other = certificates(stranger)  # signed by somebody else
        study = Study.from_dict({"name": "naps", "layers": LAYERS}, tmp_path)
        commission = Commission("s", study, str(tmp_path), None, "", (), False)
        monkeypatch.setattr(CONNECT_S, 2.0)
        with pytest.raises(UserError, match="no Dask scheduler answers at tls://"):
            Crew(Wire("127.0.0.1", lab.port, other), commission, lambda machine: True)


def test_nobody_is_waited_for_where_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CONNECT_S, 2.0)
    place = Place(tmp_path)
    study = Study.from_dict({"name": "naps", "layers": LAYERS}, tmp_path)
    commission = Commission("s", study, str(place.root), None, "", (), False)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        Crew(Wire("127.0.0.1", 9, None), commission, lambda machine: True)
