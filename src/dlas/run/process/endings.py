"""How a job ended, in words: what became of its process becomes an outcome."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from dlas import __version__
from dlas.core.errors import StorageError
from dlas.core.records import Outcome, Status
from dlas.run.process.guardian import OUTPUT_LIMIT, End
from dlas.run.process.tasks import START_S, Job, Server


def not_started(server: Server, end: End | None, log: str) -> str:
    """Return why a server did not start; ``end`` is None where it never said a word."""
    python = server.python or sys.executable
    if "No module named" in log and "dlas" in log.rpartition("No module named")[2]:
        return f"{python} has no dlas: install it there ({python} -m pip install dlas)"
    last = log.rpartition("\n")[2]
    if end is None or end.how == "timeout":
        return f"the fork server of {python} was not ready after {START_S:g} s"
    if end.how == "signal":
        return f"the fork server of {python} was killed by {_signal(end.code)} while it started"
    return f"the fork server of {python} could not start: {last or f'exit status {end.code}'}"


def _signal(number: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def outcome_of(end: End, job: Job, result: Path, server: Server) -> Outcome:
    """Return what became of a job whose process ended.

    Raises:
        StorageError: the disk is full or read-only, which stops the whole run.
    """
    if end.how == "exit" and end.code == 0:
        return answer_of(job, result, end.log, server)
    reason, transient = _broken(end, job, server)
    return Outcome(Status.FAILED, reason=reason, log=end.log, transient=transient)


def _broken(end: End, job: Job, server: Server) -> tuple[str, bool]:
    """Return the reason of a job that gave no result, and whether to try it once more."""
    if end.how == "timeout":
        return f"timed out after {job.timeout_s:g} s", True
    if end.how == "output":
        return f"endless output: more than {OUTPUT_LIMIT >> 20} MB on stdout and stderr", False
    if end.how == "lost":
        return "the process that started this job died", True
    if end.how == "refused":
        return f"no process could be started: {end.detail}", True
    if end.how == "signal":
        if "bad_alloc" in end.log:  # C++ aborts where nobody catches it
            return _out_of_memory(job), True
        return f"killed by {_signal(end.code)}", True
    if "No module named" in end.log and server.python != "" and "Traceback" not in end.log:
        return not_started(server, end, end.log), False
    return f"ended with exit status {end.code} and no result", False


def _out_of_memory(job: Job) -> str:
    return f"out of memory (limit {job.memory_limit_mb} MB)"


def answer_of(job: Job, result: Path, log: str, server: Server) -> Outcome:
    """Return what a process that ended well has written as its result."""
    try:
        answer = json.loads(result.read_bytes())
    except (FileNotFoundError, ValueError):
        reason = "ended without a result (exit status 0)"
        return Outcome(Status.FAILED, reason=reason, log=log)
    if answer["dlas"] != __version__:
        reason = (
            f"{server.python} has dlas {answer['dlas']}, this is {__version__}: "
            "install the same version there"
        )
        return Outcome(Status.FAILED, reason=reason, log=log)
    error = answer.get("error")
    if error is None:
        return Outcome(Status.COMPLETE, value=answer["value"], log=log)
    if error["kind"] == "storage":
        raise StorageError(f"{job.stage}: {error['message']}")
    if error["kind"] == "memory":
        return Outcome(Status.FAILED, reason=_out_of_memory(job), log=log, transient=True)
    transient = error["kind"] == "device-memory"
    return Outcome(Status.FAILED, reason=error["message"], log=log, transient=transient)
