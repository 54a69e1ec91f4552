"""What runs in a Dask worker: it has a process of its own for each run that it works for.

That process (:mod:`dlas.run.member`) is started afresh, so that it sees the study's files, the
libraries and dlas itself as they are now; it works in the study's folder, and whatever it does
leaves the worker free to tell the scheduler that it lives. It ends with the worker, however that
ends, since its line to it is then closed; and when nobody has asked anything of it for a while.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from dlas.run.engines.errands import Commission, Enrolled, Lost, Method, Remark, Reply

PROGRAM = "dlas.run.member"
IDLE_S = 900.0
"""A process that nobody has asked anything of for so long ends: its run has ended, or died.

Where the run lives all the same, whatever it asks next begins with enrolling anew."""
SWEEP_S = 60.0
_END_S = 5.0

_deputies: dict[str, Deputy] = {}
_guard = threading.Lock()
_home: list[tuple[Path, str]] = []


def topic(session: str) -> str:
    """Return the name under which a run hears what its machines say."""
    return f"dlas-{session}"


def settle_in(folder: Path, name: str) -> None:
    """Say where this worker keeps its files, and what its machine is called."""
    _home[:] = [(folder, name)]


def sweep() -> None:
    """End the processes of runs that nobody hears of any more."""
    with _guard:
        old = [session for session, deputy in _deputies.items() if deputy.idle_s > IDLE_S]
    for session in old:
        dismiss(session)


def keep_sweeping() -> None:
    """End such processes now and then, for good: a run that was killed dismisses nobody."""
    while True:
        time.sleep(SWEEP_S)
        sweep()


# ---------------------------------------------------------------- what a scheduler calls


def enrol(commission: Commission) -> Enrolled:
    """Begin to work for a run."""
    session = commission.session
    sweep()
    with _guard:
        if session not in _deputies:
            _deputies[session] = Deputy(*_where(), _teller(session))
        deputy = _deputies[session]
    try:
        said: Enrolled = deputy.call("enrol", commission)
    except Lost:
        dismiss(session)
        raise
    return said


def errand(session: str, method: Method, given: object) -> Reply:
    """Do something for a run.

    Raises:
        Lost: the process that works for it has died.
    """
    with _guard:
        deputy = _deputies.get(session)
    if deputy is None:
        raise Lost(f"nobody works for the run {session} here", _address(), begun=False)
    try:
        answer: Reply = deputy.call(method, given)
    except Lost as error:
        dismiss(session)
        raise Lost(str(error), _address(), error.begun) from error
    return answer


def dismiss(session: str) -> None:
    """Work for a run no longer; what is being done for it stops."""
    with _guard:
        deputy = _deputies.pop(session, None)
    if deputy is not None:
        deputy.close()


# ---------------------------------------------------------------- inside


class Deputy:
    """The process that works for one run, seen from the worker."""

    def __init__(self, folder: Path, name: str, told: Callable[[Remark], None]) -> None:
        self._told = told
        self._line, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", PROGRAM, str(theirs.fileno()), str(folder), name],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._sending = threading.Lock()
        self._open: dict[int, Future[Any]] = {}
        self._asked = 0
        self._closed = False
        self._used = time.monotonic()
        threading.Thread(target=self._listen, name="deputy", daemon=True).start()

    @property
    def idle_s(self) -> float:
        """How long nobody has asked anything of it."""
        return 0.0 if self._open else time.monotonic() - self._used

    def call(self, method: Method, given: object) -> Any:
        """Return the answer of the process.

        Raises:
            Lost: it has died, or dies meanwhile.
        """
        answer: Future[Any] = Future()
        try:
            with self._sending:
                if self._closed:
                    raise Lost(f"the process that was to do {method} has ended", begun=False)
                self._asked += 1
                self._open[self._asked] = answer
                self._line.send((self._asked, method, given))
        except OSError as error:
            said = f"the process that was to do {method} has ended"
            raise Lost(said, begun=False) from error
        try:
            return answer.result()
        finally:
            self._used = time.monotonic()

    def close(self) -> None:
        """End the process, and what it started; does not wait."""
        with self._sending:
            self._closed = True
            with suppress(OSError):
                self._line.send((None, "leave", None))
        threading.Thread(target=self._reap, name="reaper", daemon=True).start()

    def _reap(self) -> None:
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        while True:
            try:
                number, good, value = self._line.recv()
            except (EOFError, OSError):
                break
            if number is None:
                self._told(value)
                continue
            answer = self._open.pop(number)
            if good:
                answer.set_result(value)
            else:
                answer.set_exception(RuntimeError(value))
        with self._sending:
            self._closed = True
            lost, self._open = self._open, {}
        for answer in lost.values():
            answer.set_exception(Lost("the process that did it has ended"))
        self._reap()
        self._line.close()


def _where() -> tuple[Path, str]:
    if not _home:
        raise RuntimeError("this Dask worker was not started by `dlas workers`")
    return _home[0]


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def _teller(session: str) -> Callable[[Remark], None]:
    from distributed import get_worker

    worker = get_worker()

    def tell(said: Remark) -> None:
        worker.loop.add_callback(worker.log_event, topic(session), said.to_json())

    return tell
