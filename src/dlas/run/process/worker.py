"""The child side: one program that guards, serves or does one job.

    python -m dlas.run.process.worker ...
        --guard FD             the guardian: starts processes for the parent
        --serve FD MODULE ...  a fork server: imports, forks a child per job
        --job FILE             one job in a process of its own

Guardian and server are one loop (:class:`Spawner`): a request comes with two file descriptors,
one to say how the process fares and one for its output; the loop starts the process in a session
of its own, and says how it ended. Neither leaves anything behind:

- both are *subreapers*: whatever their children leave behind, however it detached itself, becomes
  their own child, and is killed;
- a process dies with the one that started it (``PR_SET_PDEATHSIG``; both loops run in the only
  thread that ever forks, so the signal is not tied to a thread that comes and goes);
- when the parent dies, the other end of the socket closes: the loop kills all below it and ends.

Linux only. This module imports little, so that a guardian costs little.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import importlib
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dlas import __version__
from dlas.core import wording
from dlas.core.errors import StepError, StorageError, UserError

if TYPE_CHECKING:
    from dlas.core.keys import Json
    from dlas.run.process.messages import JobFile, Start

BASE = ("numpy", "dlas.core.registry", "dlas.run.measure.latency")
"""What every worker imports before the modules of its runtime, and outside their ``import_s``."""

_PDEATHSIG, _SUBREAPER = 1, 36
_STORAGE = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|bad.?alloc|cannot allocate memory"
    r"|failed to allocate memory|out of memory|unable to allocate",
    re.IGNORECASE,
)


# ---------------------------------------------------------------- starting processes


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _children() -> Iterator[int]:
    """Yield the direct children of this process, adopted ones and zombies included."""
    mine = os.getpid()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name of a program may hold spaces and brackets; what follows it does not.
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == mine:
                    yield int(folder.name)


def _kill(pid: int) -> None:
    """Kill a child that was not yet reaped (so the number is still its own) and its group."""
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


class Spawner:
    """Start processes on request, say how each ended, leave nothing alive behind.

    ``start`` is called in the new process with the request and the descriptors that came with it
    beyond the first two; it must not return.
    """

    def __init__(
        self, control: socket.socket, start: Callable[[Start, Sequence[int]], NoReturn]
    ) -> None:
        _prctl(_SUBREAPER, 1)
        self._control = control
        self._start = start
        self._alive: dict[int, int] = {}  # process -> where to say how it fares
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._affinity = os.sched_getaffinity(0)

    def run(self) -> NoReturn:
        """Serve until the other end of the control socket closes. Blocks, never polls."""
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        ready = select.poll()
        ready.register(self._control, select.POLLIN)
        ready.register(self._woken, select.POLLIN)
        while True:
            for descriptor, _ in ready.poll():
                if descriptor == self._woken:
                    os.read(self._woken, 4096)
                elif not self._receive():
                    self._end()
            self._reap()

    def _receive(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(
                self._control, 1 << 20, 4, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return False
        if not message:
            return False
        request = json.loads(message)
        if "kill" in request:
            if request["kill"] in self._alive:
                _kill(request["kill"])
        else:
            self._fork(request["start"], descriptors)
        return True

    def _fork(self, request: Start, descriptors: Sequence[int]) -> None:
        status, log, *more = descriptors
        above = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._say(status, {"refused": str(error)})
            for descriptor in descriptors:
                os.close(descriptor)
            return
        if pid == 0:
            try:
                self._detach(above, status, log)
                self._start(request, more)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        for descriptor in (log, *more):
            os.close(descriptor)
        self._alive[pid] = status
        self._say(status, {"pid": pid})

    def _detach(self, above: int, status: int, log: int) -> None:
        """Turn a fresh fork into a process of its own: session, signals, standard streams."""
        os.setsid()
        _prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != above:  # it died before the line above
            os._exit(70)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._control.close()
        for descriptor in (self._woken, self._wake, status, *self._alive.values()):
            os.close(descriptor)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(null)
        os.close(log)
        os.sched_setaffinity(0, self._affinity)

    def _reap(self) -> None:
        while True:
            try:
                # Peek: until it is reaped its number is its own, and its group safe to kill.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            _kill(ended.si_pid)
            os.waitpid(ended.si_pid, 0)
            for orphan in set(_children()) - self._alive.keys():
                _kill(orphan)
            status = self._alive.pop(ended.si_pid, None)
            if status is not None:
                exited = ended.si_code == os.CLD_EXITED
                self._say(status, {"exit" if exited else "signal": ended.si_status})
                os.close(status)

    @staticmethod
    def _say(status: int, news: Mapping[str, int | str]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(status, json.dumps(news).encode() + b"\n")

    def _end(self) -> NoReturn:
        """Kill all below, generation after generation, and end."""
        try:
            while True:
                for pid in _children():
                    _kill(pid)
                os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)


def guard(descriptor: int) -> NoReturn:
    """Run as the guardian: each request is a program with its arguments and environment."""

    def start(request: Start, more: Sequence[int]) -> NoReturn:
        for descriptor in more:
            os.set_inheritable(descriptor, True)
        # The number a descriptor has here is known only here.
        argv = [str(more[0]) if part == "{control}" else part for part in request["argv"]]
        os.execve(argv[0], argv, request["env"])

    Spawner(_connect(descriptor), start).run()


def serve(descriptor: int, modules: Sequence[str]) -> NoReturn:
    """Run as a fork server: import ``modules``, run nothing in them, fork a child per job."""
    control = _connect(descriptor)
    try:
        import_s = preload(modules)
    except StepError as error:
        control.send(json.dumps({"failed": str(error)}).encode())
        sys.exit(1)

    def start(request: Start, more: Sequence[int]) -> NoReturn:
        perform(Path(request["job"]), {"launch": "fork", "import_s": import_s})

    spawner = Spawner(control, start)
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # nobody reads a server's output once it serves, and a full pipe blocks
    os.dup2(null, 2)
    os.close(null)
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise copy every inherited page
    threads = len(list(Path("/proc/self/task").iterdir()))
    # Asked rather than killed when the guardian dies: then it clears up what is below it.
    _prctl(_PDEATHSIG, signal.SIGTERM)
    control.send(json.dumps({"ready": {"import_s": import_s, "threads": threads}}).encode())
    spawner.run()


def _connect(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def preload(modules: Sequence[str]) -> float:
    """Import what every job needs, then ``modules``; return the seconds that the latter took.

    Raises:
        StepError: one of them cannot be imported, with the reason.
    """
    for module in BASE:
        importlib.import_module(module)
    registry = importlib.import_module("dlas.core.registry")
    stack = importlib.import_module("dlas.core.stack")
    for layer in stack.LAYERS:
        registry.names(layer)  # reading all entry points takes a child 0.1 s; kept once read
    began = time.perf_counter()
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            traceback.print_exc()
            raise StepError(
                f"module {module!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
    return time.perf_counter() - began


# ---------------------------------------------------------------- one job


def perform(file: Path, launched: Mapping[str, str | float]) -> NoReturn:
    """Do the job in ``file`` in this process, write its result, and end the process.

    ``launched`` reaches the task as ``args["launched"]``: how this process came to be (``fork``
    or ``exec``) and how long the imports of its runtime took. A process that ends with status 0
    has left a whole result; anything else has not.
    """
    job: JobFile = json.loads(file.read_bytes())
    confine(job)
    _finish(job, lambda: _call(job, launched))


def perform_alone(file: Path) -> NoReturn:
    """Do the job in ``file`` in a fresh process: confine it, then import, then as ever."""
    job: JobFile = json.loads(file.read_bytes())
    confine(job)

    def work() -> Json:
        import_s = preload(job["preload"])
        return _call(job, {"launch": "exec", "import_s": import_s})

    _finish(job, work)


def confine(job: JobFile) -> None:
    """Set processors, memory limit and the like before the job loads anything."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if job["cpus"] is not None:
        os.sched_setaffinity(0, job["cpus"])
    # RLIMIT_DATA counts private writable memory: what malloc and mmap hand out, touched or not.
    # RLIMIT_AS would count address space that CUDA and sanitizers reserve and never use.
    limit = job["memory_limit_mb"] * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # What the limit does not see (shared memory) may still exhaust the machine: then this
    # process shall be the one the kernel takes.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _call(job: JobFile, launched: Mapping[str, str | float]) -> Json:
    module, _, function = job["task"].partition(":")
    if not module.startswith("dlas."):
        raise UserError(f"task {job['task']!r} is not part of dlas: only modules of dlas are run")
    sys.path[:0] = job["paths"]
    run = getattr(importlib.import_module(module), function)
    value: Json = run({**job["args"], "launched": dict(launched)})
    return value


def _finish(job: JobFile, work: Callable[[], Json]) -> NoReturn:
    target = Path(job["result"])
    part = target.with_suffix(".part")
    code = 0
    try:
        text = _attempt(work)
        part.write_text(text)
        part.replace(target)  # a reader sees a whole result or none
    except BaseException:
        traceback.print_exc()
        code = 74
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)  # no destructors: a runtime that crashes on leaving has done its work


def _attempt(work: Callable[[], Json]) -> str:
    """Return the answer as JSON: the value, or what went wrong. NaN and infinity are wrong."""
    try:
        return json.dumps({"dlas": __version__, "value": work()}, allow_nan=False)
    except BaseException as error:  # SystemExit too: a library that exits has not finished
        traceback.print_exc()
        return json.dumps({"dlas": __version__, "error": _describe(error)})


def _describe(error: BaseException) -> dict[str, str]:
    message = wording.plain(str(error)).strip()
    kind = "exception"
    if isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in _STORAGE):
        kind = "storage"
    elif isinstance(error, (StepError, UserError)):
        kind = "step"
    elif "CUDA" in message and _NO_MEMORY.search(message):
        kind = "device-memory"
    elif isinstance(error, MemoryError) or _NO_MEMORY.search(message):
        kind = "memory"
    if kind == "exception":
        message = wording.sentence(error)  # what the library said itself is in the log
    elif kind == "device-memory":
        message = f"the GPU is out of memory: {wording.said(error)}"
    return {"kind": kind, "type": type(error).__name__, "message": message[:2000]}


def main(argv: Sequence[str]) -> NoReturn:
    """Run as guardian, server or job."""
    mode, what, *modules = argv
    if mode == "--guard":
        guard(int(what))
    if mode == "--serve":
        serve(int(what), modules)
    if mode == "--job":
        perform_alone(Path(what))
    raise SystemExit(f"dlas.run.process.worker: unknown mode {mode!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
