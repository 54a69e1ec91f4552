"""The lock files of a store: who may do what at the same time, in any number of processes.

===========  ====================================  ============================================
file         held shared                           held exclusively
===========  ====================================  ============================================
``use``      by every run, as long as it lasts     to clean; to evict (by the only run)
``store``    between an object's and its record's  to clean; to evict
             appearance, and to remove records
``turn``                                           by whoever tries to get ``use`` exclusively
``KEY.lock``                                       by whoever does the step (see leases.py)
===========  ====================================  ============================================

``turn`` is there since a shared flock is given up for a moment when it becomes an exclusive one,
or fails to: nobody else who wants ``use`` for himself, to evict or to clean, is then at it.

A process that was stopped keeps the store from being cleaned and evicted from, as one that runs
does: its ``use`` is refused, not waited for. ``turn`` is waited for no longer than a lease, and
one that was stopped while it cleans, evicts or commits is named after a lease (holders.py).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dlas.core.errors import UserError
from dlas.store.disk import acquire, storage
from dlas.store.holders import acquire_from_living
from dlas.store.leases import Leases, lasting

_PAUSE_S = 0.02


class Locks:
    """The locks in a store's folder ``locks``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._use: int | None = None
        self._leases = Leases(folder, lasting())

    @contextmanager
    def step(self, key: str) -> Iterator[None]:
        """Hold the lease of one step; waits for whoever has it and lives."""
        with self._leases.hold(key):
            yield

    @contextmanager
    def use(self) -> Iterator[None]:
        """Mark that a run is using the store."""
        path = self.folder / "use"
        with storage("lock", path):
            handle = acquire_from_living(path, self._leases.seconds, shared=True)
        self._use = handle
        try:
            yield
        finally:
            self._use = None
            os.close(handle)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep cleaning and eviction out while objects and records appear."""
        with self._store(shared=True):
            yield

    @contextmanager
    def only_user(self) -> Iterator[bool]:
        """Tell the run that holds :meth:`use` whether no other run does.

        Where it is told so, no other run begins, and nothing is committed by anyone, this
        process's own threads included, until the block ends.
        """
        assert self._use is not None, "only a run that uses the store may ask"
        with self._turn() as ours:
            try:
                if ours:
                    fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = ours
            except BlockingIOError:
                alone = False
            try:
                with self._store(shared=False) if alone else nullcontext():
                    yield alone
            finally:
                if ours:
                    fcntl.flock(self._use, fcntl.LOCK_SH)

    @contextmanager
    def nobody(self, root: Path) -> Iterator[None]:
        """Keep everybody out, to clean.

        Raises:
            UserError: a run is using the store.
        """
        with self._turn() as ours:
            handle = acquire(self.folder / "use", wait=False) if ours else None
        if handle is None:
            raise UserError(
                f"a run is using {root}: clean it when the run has ended, or end the run."
            )
        try:
            with self._store(shared=False):
                yield
        finally:
            os.close(handle)

    def remove_idle(self) -> None:
        """Remove the lock files of steps that nobody is doing."""
        for file in self.folder.glob("*.lock*"):
            handle = acquire(file, wait=False)
            if handle is not None:
                file.unlink(missing_ok=True)
                os.close(handle)

    @contextmanager
    def _store(self, *, shared: bool) -> Iterator[None]:
        """Hold ``store``; who has it and was stopped is named after a lease."""
        handle = acquire_from_living(self.folder / "store", self._leases.seconds, shared=shared)
        try:
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Hold ``turn``; False: somebody else has had it for as long as a lease lasts."""
        path = self.folder / "turn"
        until = time.monotonic() + self._leases.seconds
        with storage("lock", path):
            while (handle := acquire(path, wait=False)) is None and time.monotonic() < until:
                time.sleep(_PAUSE_S)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                os.close(handle)
