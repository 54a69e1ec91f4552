"""A scheduler and workers, each a machine of its own as far as one machine can be several."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlas.run.engines.wire import Tls, Wire
from living import gone
from place import Place
from team import LEASE_S, free_port


@dataclass
class Lab:
    """Processes with a mark; each worker has its own lock, folder and (where asked) CPU."""

    place: Place
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    tls: Tls | None = None
    host: str = ""
    """The addresses on which the scheduler listens."""

    @property
    def wire(self) -> Wire:
        return Wire("127.0.0.1", self.port, self.tls)

    @property
    def _tls(self) -> list[str]:
        return self.tls.options() if self.tls else []

    @property
    def address(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    def environment(self, name: str, **more: str) -> dict[str, str]:
        own = {
            "DLAS_MEASURE_LOCK": str(self.place.root / f"{name}.lock"), "DLAS_LEASE": LEASE_S,
            "DLAS_TEST_MARK": self.mark, "DLAS_PROBE_DIR": str(self.place.root / "probes"),
        }  # fmt: skip
        return {**self.place.environment(), **own, **more}

    def start(self, name: str, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        log = (self.place.root / f"{name}.log").open("ab")
        started = subprocess.Popen(
            [sys.executable, "-m", "dlas.cli", *arguments],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.place.root,
            env=self.environment(name, **more), start_new_session=True,
        )  # fmt: skip
        self.processes[name] = started
        return started

    def scheduler(self) -> None:
        where = ["--host", self.host] if self.host else []
        self.start("scheduler", "scheduler", "--port", str(self.port), *where, *self._tls)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log("scheduler"))

    def worker(self, name: str, labels: str = "", **more: str) -> None:
        folder = str(self.place.root / "machines" / name)
        self.start(
            name, "workers", "--scheduler", self.address, "--labels", labels, "--name", name,
            "--folder", folder, *self._tls, **more,
        )  # fmt: skip

    def run(
        self, study: Path, *more: str | Path, out: str = "out", **environment: str
    ) -> subprocess.Popen[bytes]:
        arguments = ["run", str(study), "--out", out, "--engine", self.address, *map(str, more)]
        return self.start("run", *arguments, **environment)

    def log(self, name: str) -> str:
        return (self.place.root / f"{name}.log").read_text()

    def ends(self, within_s: float = 200) -> str:
        """Return what the run printed; it must end well."""
        try:
            code = self.processes["run"].wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            code = None
        said = "".join(f"--- {name}\n{self.log(name)}" for name in self.processes)
        assert code == 0, said
        return self.log("run")

    def members(self, name: str) -> list[int]:
        """Return the processes of a machine, but for those that keep it running."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    environ = (folder / "environ").read_bytes()
                    command = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                mine = self.mark.encode() in environ and f"/{name}.lock".encode() in environ
                if mine and b"dlas.cli" not in command:
                    found.append(int(folder.name))
        return found

    def worker_process(self, name: str) -> int:
        """Return the Dask worker of a machine."""
        for pid in self.members(name):
            if b"supervise" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError(f"{name} has no worker: {self.log(name)}")

    def signal_all(self, name: str, number: int) -> None:
        for pid in self.members(name):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def lab_at(
    place: Place, *workers: str, tls: Tls | None = None, host: str = "", **labels: str
) -> Iterator[Lab]:
    """Yield a scheduler with workers; nothing of them is left afterwards."""
    lab = Lab(place, tls=tls, host=host)
    try:
        lab.scheduler()
        for name in workers:
            lab.worker(name, labels.get(name, ""))
        yield lab
    finally:
        lab.close()
        left: list[Any] = gone(lab.mark, within_s=10)
        assert left == []
