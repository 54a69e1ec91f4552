"""Half-done work: a folder per living process, known to be dead when its lock is free.

A lock and not a process id says who is alive: it holds across containers and reused ids, and ends
with the process however the process ends. On a network file system a lock may be known to one
machine alone: there a folder also has to be old.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import time
import uuid
from pathlib import Path

from dlas.store.disk import acquire, network_filesystem, remove_tree

OLD_S = 7 * 86400.0
"""How long nothing has changed in a folder that counts as old; machines' clocks differ by less."""


class Scratch:
    """This process's folder below ``parent``, made when it is first needed.

    A forked child gets a folder of its own: its end must not remove its parent's.
    """

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._folder: Path | None = None
        self._pid = 0
        self._numbers = itertools.count()

    def new_path(self) -> Path:
        """Return a path that nothing is at and nobody else uses.

        Raises:
            OSError: the disk refuses.
        """
        if self._folder is None or self._pid != os.getpid():
            self._folder, self._pid = self._claim(), os.getpid()
        return self._folder / str(next(self._numbers))

    def _claim(self) -> Path:
        sweep(self.parent, remove=True)
        folder = self.parent / uuid.uuid4().hex
        # the descriptor stays open, and so the lock held, until the process is gone
        acquire(folder.with_suffix(".owner"))
        folder.mkdir()
        atexit.register(_remove, os.getpid(), folder)
        return folder


def sweep(parent: Path, *, remove: bool) -> int:
    """Count the folders whose process is dead, and remove them if asked to.

    Raises:
        OSError: the disk refuses.
    """
    dead = 0
    shared = network_filesystem(parent) is not None
    for file in parent.glob("*.owner"):
        if shared and not _old(file):
            continue
        handle = acquire(file, wait=False, create=False)
        if handle is None:
            continue
        dead += 1
        if remove:
            remove_tree(file.with_suffix(""))
            file.unlink(missing_ok=True)
        os.close(handle)
    return dead


def _old(owner: Path) -> bool:
    there = [path for path in (owner, owner.with_suffix("")) if path.exists()]
    return time.time() - max((path.stat().st_mtime for path in there), default=0.0) > OLD_S


def _remove(pid: int, folder: Path) -> None:
    if pid == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".owner").unlink(missing_ok=True)
