"""Who holds a file's lock (flock), and whether he was stopped: he is not waited for for ever.

A lock ends with its holder, but not while he is stopped (``kill -STOP``, Ctrl-Z, a debugger).
Where a lock can be taken over there are leases (leases.py); where it cannot, since its holder
would disturb whoever goes on, whoever waits is told after a lease whom to wake or to end.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from dlas.core.errors import UserError
from dlas.store.disk import acquire

LOCKS = Path("/proc/locks")
_PAUSE_S = 0.02
_LOOKS = 10
"""How often it is looked who holds a lock while a lease lasts."""


def holders(path: Path) -> list[int]:
    """Return the processes that hold the lock of a file, as far as the kernel tells of them."""
    found: list[int] = []
    with suppress(OSError):
        inode = str(path.stat().st_ino)
        for line in LOCKS.read_text().splitlines():
            # "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF"; who waits has "->" after the number
            fields = line.split()
            if len(fields) == 8 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                found.append(int(fields[4]))
    return found


def is_stopped(pid: int) -> bool:
    """Return whether a process was stopped, as far as the kernel tells of it."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


class Vigil:
    """Watches the holders of a lock for somebody who waits for it."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._looked = 0.0
        self._since: dict[int, float] = {}
        """Since when each was seen stopped, at every look."""

    def require_awake(self) -> None:
        """Raise where one of them has been stopped for as long as the time.

        Raises:
            UserError: says which process, and what to do.
        """
        now = time.monotonic()
        if now - self._looked < self.seconds / _LOOKS:
            return
        self._looked = now
        stopped = [pid for pid in holders(self.path) if is_stopped(pid)]
        self._since = {pid: self._since.get(pid, now) for pid in stopped}
        for pid, since in self._since.items():
            if now - since >= self.seconds:
                raise UserError(
                    f"process {pid} holds {self.path} and has been stopped for {self.seconds:g} "
                    f"s: wake it (kill -CONT {pid}), or end it (kill -9 {pid}); then run again."
                )


def acquire_from_living(path: Path, seconds: float, *, shared: bool = False) -> int:
    """Lock a file as :func:`dlas.store.disk.acquire` does, waiting for holders that live.

    Raises:
        UserError: one has been stopped for so many seconds.
    """
    vigil = Vigil(path, seconds)
    while (handle := acquire(path, shared=shared, wait=False)) is None:
        vigil.require_awake()
        time.sleep(_PAUSE_S)
    return handle
