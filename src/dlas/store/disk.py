"""What the disk may do to us: errors as one clear sentence, durable writes, file locks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlas.core.errors import StorageError

_ADVICE = {
    errno.ENOSPC: ("the disk is full", "free some space ('dlas clean' removes what no row needs)"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or ask for more"),
    errno.EFBIG: ("the file would exceed the allowed size", "raise the limit ('ulimit -f')"),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("permission denied", "choose a folder that you may write to"),
    errno.EIO: ("the disk reports an error", "check the disk, then run the same command again"),
    errno.EMFILE: ("too many open files", "raise the limit ('ulimit -n')"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a folder with a shorter path"),
}

# fmt: off
NETWORK_FILESYSTEMS = frozenset({
    "nfs", "nfs4", "cifs", "smbfs", "smb2", "smb3", "ncpfs", "afs", "9p", "ceph", "glusterfs",
    "lustre", "gpfs", "beegfs", "pvfs2", "orangefs", "ocfs2", "gfs2", "davfs", "coda", "drvfs",
    "vboxsf", "vmhgfs", "prl_fs",
})
# fmt: on
"""File systems over a network or a machine's border, as ``/proc/mounts`` calls them."""

_NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|glusterfs|s3fs|rclone|gcsfuse|ceph|davfs|vmhgfs|moosefs|juicefs|goofys|beegfs)"
)


def refused(error: OSError, doing: str, path: Path) -> StorageError:
    """Return what the disk refused as one sentence: what, where, why and what to do."""
    why, todo = _ADVICE.get(
        error.errno or 0, (error.strerror or str(error), "see to it, then run again")
    )
    return StorageError(f"cannot {doing} {error.filename or path}: {why}; {todo}.")


@contextmanager
def storage(doing: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        raise refused(error, doing, path) from error


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's list of names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(target: Path, text: str, temporary: Path) -> None:
    """Write a text file so that it is there wholly or not at all, also after a power cut.

    ``temporary`` is a path on the same file system that nobody else uses.
    """
    with _written(temporary, text):
        temporary.replace(target)
    sync(target.parent)


def write_first(target: Path, text: str, temporary: Path, lock: Path) -> None:
    """Write a text file as :func:`write_atomically` does, and only if nobody has written it.

    ``lock`` is a file that is locked for a moment where the file system knows no hard links.

    Raises:
        FileExistsError: somebody was quicker; what is there is as it was.
    """
    with _written(temporary, text):
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with locked(lock):
                if target.exists():
                    raise FileExistsError(errno.EEXIST, "File exists", str(target)) from error
                temporary.replace(target)
    sync(target.parent)


_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What file systems without hard links (exFAT, some over FUSE) answer to one."""


@contextmanager
def _written(temporary: Path, text: str) -> Iterator[None]:
    """Write a file out for the block, which gives it its name; then the name is gone."""
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        yield
    finally:
        temporary.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it; one that is gone already is no error."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        if folder.exists():  # another process removed something below it meanwhile
            remove_tree(folder)


def tree_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


def acquire(
    path: Path, *, shared: bool = False, wait: bool = True, create: bool = True
) -> int | None:
    """Lock a file and return its descriptor (close it to unlock), None where it is taken.

    The lock (flock) ends with the process, however the process ends. The file is created if need
    be (``create=False``: None where it is absent), and may be removed by whoever holds its
    exclusive lock.
    """
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:
            handle = _open_to_lock(path, create)
        except FileNotFoundError:
            if create:
                raise
            return None
        try:
            fcntl.flock(handle, mode)
            if _still_there(path, handle):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed the file before we had it: lock the new one


def _open_to_lock(path: Path, create: bool) -> int:
    """Return a file's descriptor, to write if it can be: NFS asks that of an exclusive lock."""
    try:
        return os.open(path, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if create or error.errno not in (errno.EACCES, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _still_there(path: Path, handle: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file, waiting for it as long as it takes."""
    handle = acquire(path, shared=shared)
    assert handle is not None  # only wait=False yields None
    try:
        yield
    finally:
        os.close(handle)


def network_filesystem(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of the network file system that a path lies on, None for a local one.

    Where there is no ``/proc/mounts`` the answer is None: nothing is known.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    real = path.resolve()
    found, depth = "", -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # of two mounts on one point the later one hides the earlier
        if real.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[2], len(point.parts)
    remote = found in NETWORK_FILESYSTEMS or _NETWORK_FUSE.fullmatch(found)
    return found if remote else None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), field)
