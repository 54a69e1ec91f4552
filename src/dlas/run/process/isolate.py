"""The parent side: a job goes to a process of its own; how it ends comes back as a value.

    parent (this module) ── guardian ─┬─ fork server (torch) ─┬─ child: one job
                                      ├─ fork server (tvm)    └─ child: one job
                                      └─ one job, exec'd

The parent talks to guardian and servers over sockets, and blocks in ``poll`` until a child's pipes
say something; nothing here spins. ``dlas.run.process.worker`` is the program behind all of them
and says how nothing outlives the parent. Whatever a child does (crash, hang, print without end,
exhaust memory, exit half way) is an :class:`~dlas.records.Outcome`; only a disk that refuses
raises, since no other job would fare better.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from dlas.core.errors import DlasError, StorageError, UserError
from dlas.core.records import Outcome, Status
from dlas.run.process import endings
from dlas.run.process.guardian import KILL_S, Guardian, Process, start
from dlas.run.process.interpreters import no_program
from dlas.run.process.messages import JobFile, Start
from dlas.run.process.tasks import START_S, Job, Launch, Server

_QUIET = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's BLAS starts threads when it is imported, and a server that forks should have none."""


class Closed(DlasError):
    """The pool was closed (Ctrl-C, say) while a job ran: nothing is known about the job."""


@dataclass
class _Running:
    """A server that serves."""

    control: socket.socket
    process: Process

    def close(self) -> None:
        """End the server; it kills what it still runs first."""
        self.control.close()
        self.process.wait(KILL_S)
        self.process.close()


class _NoServer(Exception):
    """A server that cannot be had, with the outcome of any job that wants it."""

    def __init__(self, reason: str, log: str = "", transient: bool = False) -> None:
        super().__init__(reason)
        self.outcome = Outcome(Status.FAILED, reason=reason, log=log, transient=transient)


class Pool:
    """Runs jobs in processes of their own; servers start when they are first needed.

    Safe to use from several threads at once. Create it before the parent pins itself to
    processors: children may use those that the parent could use at that time. A pool that is not
    closed ends with its process, however that ends.
    """

    def __init__(self, scratch: Path) -> None:
        if sys.platform != "linux":
            raise UserError(f"dlas runs its steps on Linux only, this is {sys.platform}.")
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            _sweep(scratch)
            self._folder = Path(tempfile.mkdtemp(prefix="jobs-", dir=scratch))
            self._owned = os.open(self._folder, os.O_RDONLY)
            fcntl.flock(self._owned, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(f"job files cannot be kept in {scratch}: {error}") from error
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._starting: dict[Server, threading.Lock] = defaultdict(threading.Lock)
        self._servers: dict[Server, _Running] = {}
        self._closed = False
        self._guardian = Guardian()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, server: Server, job: Job, launch: Launch = "fork") -> Outcome:
        """Run a job in a child and return how it went; blocks until then.

        Raises:
            StorageError: the disk is full or read-only.
            Closed: the pool was closed meanwhile.
        """
        if not job.task.startswith("dlas."):
            raise ValueError(f"task {job.task!r} is not part of dlas")
        began = time.perf_counter()
        name = f"{next(self._numbers)}"
        file, result = self._folder / f"{name}.job", self._folder / f"{name}.result"
        try:
            self._write(file, result, server, job)
            outcome = self._run(server, job, launch, file, result)
        finally:
            for path in (file, result, result.with_suffix(".part")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        if self._closed and not outcome.ok:
            raise Closed(f"{job.stage}: stopped before it was done")
        return replace(outcome, seconds=time.perf_counter() - began)

    def restart(self) -> None:
        """Stop all servers; the next job of each starts it afresh, by exec."""
        with self._lock:
            servers, self._servers = self._servers, {}
        for running in servers.values():
            running.close()

    def warm(self, servers: Collection[Server], side_by_side: int = 1) -> None:
        """Start the servers that are not there yet, so many at a time.

        One that cannot be had is left to the first job that wants it, which says why.
        """

        def serve(server: Server) -> None:
            with contextlib.suppress(_NoServer, Closed):
                self._serving(server)

        with ThreadPoolExecutor(side_by_side) as threads:
            list(threads.map(serve, dict.fromkeys(servers)))

    def close(self) -> None:
        """End everything that this pool started; jobs that still run raise ``Closed``."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._guardian.close()
        self.restart()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._owned)

    # ------------------------------------------------------------ one job

    def _write(self, file: Path, result: Path, server: Server, job: Job) -> None:
        written: JobFile = {
            "task": job.task,
            "args": dict(job.args),
            "cpus": None if job.cpus is None else list(job.cpus),
            "memory_limit_mb": job.memory_limit_mb,
            "paths": list(job.paths),
            "preload": list(server.preload),
            "result": str(result),
        }
        text = json.dumps(written)
        try:
            file.write_text(text)
        except OSError as error:
            if self._closed:
                raise Closed(f"{job.stage}: the pool is closed") from error
            raise StorageError(f"{job.stage}: {file} cannot be written: {error}") from error

    def _run(self, server: Server, job: Job, launch: Launch, file: Path, result: Path) -> Outcome:
        running: _Running | None = None
        try:
            if launch == "exec":
                process = self._exec(server, ["--job", str(file)])
            else:
                running = self._serving(server)
                process = start(running.control, {"job": str(file)})
        except _NoServer as refused:
            return refused.outcome
        except OSError as error:
            self._drop(server, running)
            return Outcome(
                Status.FAILED,
                reason=f"the fork server died before the job began ({error})",
                transient=True,
            )
        try:
            end = process.wait(job.timeout_s)
        except BaseException:  # Ctrl-C
            process.kill()
            raise
        finally:
            process.close()
        assert end is not None
        if end.how == "lost":
            self._drop(server, running)
        return endings.outcome_of(end, job, result, server)

    # ------------------------------------------------------------ guardian and servers

    def _exec(self, server: Server, arguments: Sequence[str], *passed: socket.socket) -> Process:
        python = _interpreter(server)
        what: Start = {
            "argv": [python, "-P", "-m", "dlas.run.process.worker", *arguments],
            "env": {**os.environ, **_QUIET, **dict(server.environment)},
        }
        with self._lock:
            if self._closed:
                raise Closed("the pool is closed")
            if not self._guardian.alive():
                self._guardian.close()
                self._guardian = Guardian()
            guardian = self._guardian.control
        try:
            return start(guardian, what, *passed)
        except OSError as error:
            raise _NoServer(f"the guardian process died ({error})", transient=True) from error

    def _serving(self, server: Server) -> _Running:
        with self._lock:
            starting = self._starting[server]
        with starting:
            running = self._servers.get(server)
            if running is None:
                running = self._serve(server)
                with self._lock:
                    self._servers[server] = running
            return running

    def _serve(self, server: Server) -> _Running:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process = self._exec(server, ["--serve", "{control}", *server.preload], theirs)
        except BaseException:
            control.close()
            raise
        end = process.wait(START_S, also=control)
        said = json.loads(control.recv(65536) or b"{}") if end is None else {}
        if "ready" in said:
            return _Running(control, process)
        if end is None:
            end = process.wait(KILL_S)
        log = process.text()
        process.close()
        control.close()
        raise _NoServer(
            said.get("failed") or endings.not_started(server, end, log),
            log,
            transient=end is not None and end.how in ("signal", "lost"),
        )

    def _drop(self, server: Server, dead: _Running | None) -> None:
        """Forget a dead server, unless another thread did so and has started it anew."""
        with self._lock:
            if dead is None or self._servers.get(server) is not dead:
                return
            del self._servers[server]
        dead.close()


def _sweep(scratch: Path) -> None:
    """Remove what pools that were killed have left: old folders that nobody holds locked."""
    for folder in scratch.glob("jobs-*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if time.time() - folder.stat().st_mtime > 60:  # else it may just be made
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _interpreter(server: Server) -> str:
    python = server.python or sys.executable
    found = shutil.which(python)
    if found is None:
        raise _NoServer(no_program(python))
    return found
