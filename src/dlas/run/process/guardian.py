"""Processes as the parent sees them: the guardian, and what it and the servers start.

Each process has two pipes: on one its starter says how it fares, the other is its output. The
output is drained, so that a job never blocks on it, and only its end is kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dlas.run.process.messages import Start

OUTPUT_LIMIT = 32 * 2**20
"""Bytes that a job may write to stdout and stderr; more is a job that prints without end."""
LOG_KEPT = 8000
"""Bytes of the end of a job's output that are kept."""
KILL_S = 5.0


@dataclass
class End:
    """How a process ended, and the end of what it wrote."""

    how: Literal["exit", "signal", "timeout", "output", "lost", "refused"]
    code: int = 0
    log: str = ""
    detail: str = ""


@dataclass
class Process:
    """A process that guardian or server started, seen through its two pipes."""

    starter: socket.socket
    status: int
    output: int
    pid: int | None = None
    log: bytearray = field(default_factory=bytearray)
    written: int = 0
    _news: bytes = b""

    def wait(self, timeout_s: float, also: socket.socket | None = None) -> End | None:
        """Block until the process ends or must be ended; None when ``also`` became readable."""
        deadline = time.monotonic() + timeout_s
        ready = select.poll()
        for source in (self.status, self.output):
            ready.register(source, select.POLLIN)
        if also is not None:
            ready.register(also, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            for source, _ in ready.poll(left * 1000):
                if source == self.output:
                    if not self._drain():
                        ready.unregister(self.output)
                elif also is not None and source == also.fileno():
                    return None
                elif end := self._read_status():
                    return end
            if self.written > OUTPUT_LIMIT:
                self.kill()
                return End("output", log=self.text())
        self.kill()
        return End("timeout", log=self.text())

    def kill(self) -> None:
        """Kill the process with its group, and wait until it is gone (5 s at most)."""
        until = time.monotonic() + KILL_S
        asked = False
        while (left := until - time.monotonic()) > 0:
            if self.pid is not None and not asked:  # else so young that its number is on its way
                asked = True
                with contextlib.suppress(OSError):
                    self.starter.send(json.dumps({"kill": self.pid}).encode())
            if select.select([self.status], [], [], left)[0] and self._read_status():
                return
        self._kill_group()  # its starter does not answer: stopped, or hanging itself

    def text(self) -> str:
        """Return the end of the process's output."""
        os.set_blocking(self.output, False)
        with contextlib.suppress(BlockingIOError):
            while self.written <= OUTPUT_LIMIT and self._drain():
                pass
        return self.log.decode(errors="replace").strip()

    def close(self) -> None:
        """Close the pipes."""
        os.close(self.status)
        os.close(self.output)

    def _drain(self) -> bool:
        chunk = os.read(self.output, 65536)
        self.written += len(chunk)
        self.log += chunk
        del self.log[:-LOG_KEPT]
        return bool(chunk)

    def _read_status(self) -> End | None:
        chunk = os.read(self.status, 4096)
        if not chunk:  # nobody is left to say how it ended: its starter died
            self._kill_group()
            return End("lost", log=self.text())
        *lines, self._news = (self._news + chunk).split(b"\n")
        for line in lines:
            news = json.loads(line)
            if "pid" in news:
                self.pid = news["pid"]
            elif "refused" in news:
                return End("refused", detail=news["refused"])
            elif "exit" in news:
                return End("exit", news["exit"], self.text())
            else:
                return End("signal", news["signal"], self.text())
        return None

    def _kill_group(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def start(starter: socket.socket, what: Start, *passed: socket.socket) -> Process:
    """Ask guardian or server for a process; raises OSError where it is dead."""
    status, status_end = os.pipe()
    output, output_end = os.pipe()
    try:
        descriptors = [status_end, output_end, *(s.fileno() for s in passed)]
        socket.send_fds(starter, [json.dumps({"start": what}).encode()], descriptors)
    except OSError:
        os.close(status)
        os.close(output)
        raise
    finally:
        os.close(status_end)
        os.close(output_end)
    return Process(starter, status, output)


class Guardian:
    """The process that starts servers and exec'd jobs, and outlives the parent long enough."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [
            sys.executable,
            "-P",
            "-m",
            "dlas.run.process.worker",
            "--guard",
            str(theirs.fileno()),
        ]
        with theirs:
            # A session of its own: Ctrl-C in a terminal reaches the parent alone.
            self._process = subprocess.Popen(
                argv,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it, and with it everything below it."""
        self.control.close()
        try:
            self._process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
