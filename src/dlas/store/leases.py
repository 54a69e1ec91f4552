"""Who does a step: a lease, which a process that was stopped cannot hold for ever.

A lease is the lock of a file (flock) and, in the file, a number that its holder raises every few
seconds. The lock tells at once that a holder has ended or died. The number tells that it lives:
who waits looks at it by his own clock, and when it stands still for longer than a lease lasts,
takes the next file (``KEY.lock``, then ``KEY.lock.1``, ...), whose holder is then the one who
counts. So two machines' clocks are never compared.

A lease spares double work and decides nothing: a holder that wakes after it was given up goes on,
and finds its generation taken (generations.py).
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlas.core.errors import UserError
from dlas.store.disk import acquire, storage

VARIABLE = "DLAS_LEASE"
"""The environment's name for the seconds that a lease lasts; the tests' is shorter."""
SECONDS = 60.0
_BEATS = 4
"""How often a holder shows that it lives while a lease lasts."""
_PAUSE_S = 0.02
"""Between two looks at a lock that is taken."""


def lasting() -> float:
    """Return the seconds that a lease lasts.

    Raises:
        UserError: the environment names something else.
    """
    said = os.environ.get(VARIABLE, "")
    try:
        seconds = float(said or SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise UserError(f"{VARIABLE}={said!r}: must be seconds from 0.1 to 86400")
    return seconds


class Stillness:
    """Tells whether something has stood still for a time, by this process's own clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._seen: object = None
        self._since = 0.0

    def still(self, seen: object) -> bool:
        """Return whether ``seen`` is what it was at every look for as long as the time."""
        at = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, at
        return at - self._since >= self.seconds


class Keeper:
    """Shows, from a thread of its own, that this process lives; asleep where it need not."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.thread: threading.Thread | None = None
        self._shown: list[Callable[[], None]] = []
        self._change = threading.Condition()

    @contextmanager
    def showing(self, beat: Callable[[], None]) -> Iterator[None]:
        """Call ``beat`` at once, and then a few times a lease until the block ends."""
        beat()
        with self._change:
            self._shown.append(beat)
            if self.thread is None or not self.thread.is_alive():  # as after a fork
                self.thread = threading.Thread(target=self._keep, daemon=True)
                self.thread.start()
            self._change.notify()
        try:
            yield
        finally:
            with self._change:
                self._shown.remove(beat)

    def _keep(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._shown)
                for beat in self._shown:
                    beat()
            time.sleep(self.seconds / _BEATS)


class Leases:
    """The leases in a folder, for this process and all others of the machine."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self._keeper = Keeper(seconds)

    @contextmanager
    def hold(self, name: str) -> Iterator[int]:
        """Hold a lease; waits for a holder that lives. Yields how often it was taken over."""
        with storage("lock", self._file(name, 0)):
            number, handle = self._granted(name)
        try:
            with self._keeper.showing(lambda: _beat(handle)):
                yield number
        finally:
            os.close(handle)

    # ------------------------------------------------------------ granting

    def _file(self, name: str, number: int) -> Path:
        return self.folder / (f"{name}.lock.{number}" if number else f"{name}.lock")

    def _newest(self, name: str) -> int:
        return next(n for n in itertools.count() if not self._file(name, n + 1).exists())

    def _granted(self, name: str) -> tuple[int, int]:
        watch = Stillness(self.seconds)
        while True:
            number = self._newest(name)
            handle = acquire(self._file(name, number), wait=False)
            if handle is not None and self._newest(name) == number:
                return number, handle
            if handle is not None:
                os.close(handle)
            elif watch.still((number, _read(self._file(name, number)))):
                self._file(name, number + 1).touch()
            else:
                time.sleep(_PAUSE_S)


def _beat(handle: int) -> None:
    with suppress(OSError):  # a full disk: the lease runs out, and the step is done twice
        os.pwrite(handle, uuid.uuid4().hex.encode(), 0)


def _read(file: Path) -> bytes:
    with suppress(OSError):
        return file.read_bytes()
    return b""
