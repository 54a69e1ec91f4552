"""Leases in an object store: as those of a folder (leases.py), without locks.

The n-th holder of a lease creates ``locks/<key>.lease/<n>``, which only one can, and writes
another number into it every few seconds. Whoever waits looks at it by his own clock; when it
stands still for as long as a lease lasts, or says that it was released, he creates the next one.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dlas.core.errors import StorageError
from dlas.core.keys import canonical
from dlas.store.leases import Keeper, Stillness
from dlas.store.remote import Remote

_LOOKS = 20
"""How often whoever waits looks while a lease lasts."""
_LONGEST_PAUSE_S = 2.0


class RemoteLeases:
    """The leases in an object store, for all machines that use it."""

    def __init__(self, remote: Remote, seconds: float) -> None:
        self.remote = remote
        self.seconds = seconds
        self._keeper = Keeper(seconds)

    @contextmanager
    def hold(self, name: str) -> Iterator[int]:
        """Hold a lease; waits for a holder that lives. Yields its number, which only grows."""
        number = self._granted(name)
        place = _place(name, number)
        try:
            with self._keeper.showing(lambda: self._beat(place)):
                yield number
        finally:
            with suppress(StorageError):  # it runs out by itself
                self.remote.write(place, canonical({"released": True}).encode())

    def _granted(self, name: str) -> int:
        watch = Stillness(self.seconds)
        while True:
            numbers = [int(n) for n in self.remote.names(_folder(name)) if n.isdecimal()]
            newest = max(numbers, default=-1)
            seen = self.remote.read(_place(name, newest)) if numbers else None
            if seen is None or _released(seen) or watch.still((newest, seen)):
                if self.remote.create(_place(name, newest + 1), _alive()):
                    return newest + 1
            else:
                time.sleep(min(self.seconds / _LOOKS, _LONGEST_PAUSE_S))

    def _beat(self, place: str) -> None:
        with suppress(StorageError):
            self.remote.write(place, _alive())


def _alive() -> bytes:
    return canonical({"beat": uuid.uuid4().hex}).encode()


def _released(seen: bytes) -> bool:
    try:
        return bool(json.loads(seen)["released"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _folder(name: str) -> str:
    return f"locks/{name}.lease"


def _place(name: str, number: int) -> str:
    return f"{_folder(name)}/{number}"
