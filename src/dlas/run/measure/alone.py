"""One study measures at a time on a machine, one run works on a folder, whoever started it.

A file lock in ``/tmp``: the kernel frees it when its holder dies, however it dies. One that was
stopped is waited for as long as a lease lasts, then named.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dlas.core.clock import now
from dlas.core.errors import StorageError, UserError
from dlas.store.holders import Vigil
from dlas.store.leases import lasting

PATH = Path("/tmp/dlas-measure.lock")
"""The same for every user, whatever their ``TMPDIR``."""
VARIABLE = "DLAS_MEASURE_LOCK"
"""The environment's name for another file: tests, whose times nobody reads, do not wait."""
WAIT_S = 7 * 24 * 3600.0
"""A study may measure for days; whoever waits hears for whom, and soon whether he was stopped."""
_PAUSE_S = 1.0
"""Between two tries: a waiting study must not disturb the one that measures."""


@contextlib.contextmanager
def machine_lock(
    note: Callable[[str], None] | None = None,
    *,
    wait_s: float = WAIT_S,
    path: Path | None = None,
) -> Iterator[None]:
    """Hold the machine for measuring; wait while another study does.

    ``note`` is told, once, whom we wait for.

    Raises:
        UserError: it is still held after ``wait_s`` seconds, or its holder has been stopped for as
            long as a lease lasts; says by whom.
        StorageError: the lock file cannot be opened.
    """
    with _held(fcntl.LOCK_EX, note, wait_s, path):
        yield


@contextlib.contextmanager
def beside_measuring(
    note: Callable[[str], None] | None = None,
    *,
    wait_s: float = WAIT_S,
    path: Path | None = None,
) -> Iterator[None]:
    """Keep the machine from being measured on while something works here, which others may, too.

    For what works on a machine on others' behalf, and so cannot know when somebody measures.

    ``note`` is told, once, whom we wait for.

    Raises:
        UserError: somebody measured for all of ``wait_s`` seconds, or was stopped while measuring;
            says who.
        StorageError: the lock file cannot be opened.
    """
    with _held(fcntl.LOCK_SH, note, wait_s, path):
        yield


@contextlib.contextmanager
def _held(
    how: int, note: Callable[[str], None] | None, wait_s: float, path: Path | None
) -> Iterator[None]:
    path = path or Path(os.environ.get(VARIABLE) or PATH)
    descriptor = _open(path)
    try:
        _acquire(descriptor, how, note, wait_s, path)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)  # frees the lock


@contextlib.contextmanager
def folder_lock(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Let one run at a time work on a folder; a second one waits and then finds all done.

    Raises:
        UserError: the other one has been stopped for as long as a lease lasts.
        StorageError: the folder cannot be written.
    """
    try:
        handle = (folder / "run.lock").open("a+")
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}. Give --out a folder you may write to."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            note(
                f"another run (process {handle.read().strip() or '?'}) works on {folder};"
                " waiting for it to end"
            )
            _wait(handle.fileno(), folder / "run.lock")
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _wait(descriptor: int, path: Path) -> None:
    vigil = Vigil(path, lasting())
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            vigil.require_awake()
            time.sleep(_PAUSE_S)
        else:
            return


def _open(path: Path) -> int:
    """Open the lock file; make it, writable for all, where there is none.

    Without ``O_CREAT`` first: with it Linux refuses another user's file in a sticky folder.
    """
    reason: str | None = None
    for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR, os.O_RDONLY):
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            reason = error.strerror
            continue
        with contextlib.suppress(PermissionError):  # it is another user's
            os.fchmod(descriptor, 0o666)
        return descriptor
    raise StorageError(
        f"{path} cannot be opened ({reason}); it keeps two studies from measuring at the "
        "same time: remove it, or make it readable"
    )


def _acquire(
    descriptor: int, how: int, note: Callable[[str], None] | None, wait_s: float, path: Path
) -> None:
    deadline = time.monotonic() + wait_s
    vigil = Vigil(path, lasting())
    told = False
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(descriptor)
        if time.monotonic() >= deadline:
            raise UserError(
                f"another study is measuring on this machine ({holder}) and did not finish within "
                f"{wait_s:g} s; two at once would disturb each other. Wait for it, or end it. "
                f"(lock: {path})"
            )
        if note is not None and not told:
            told = True
            note(f"waiting for another study that is measuring on this machine ({holder})")
        vigil.require_awake()
        time.sleep(min(_PAUSE_S, max(0.0, deadline - time.monotonic())))


def _sign(descriptor: int) -> None:
    """Write who holds the lock, where the file may be written."""
    text = json.dumps({"pid": os.getpid(), "user": _user(), "since": now("seconds")}).encode()
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)


def _holder(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {said['pid']} of {said['user']}, since {said['since']}"
    except (ValueError, KeyError, TypeError):
        return "its holder could not sign the lock file"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
