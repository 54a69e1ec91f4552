"""A folder in an object store (S3), and what dlas asks of it: few verbs, each tried for a while.

Passwords and the address of another server than Amazon's come from where botocore looks for them:
the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``), ``~/.aws``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from dlas.core.errors import StorageError, UserError

PATIENCE_S = 300.0
"""How long a store that refuses or does not answer is asked again."""
_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError, TypeError)
"""What does not pass by waiting."""
_HOPELESS = frozenset({
    "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError",
    "InvalidConfigError", "NoRegionError", "NotImplemented",
})  # fmt: skip
"""Nor what botocore, or the store, calls so; of a store that answered before it may."""
_IS_THERE = "PreconditionFailed"
"""What a store calls it that a file is there; s3fs knows the words of Amazon's alone."""
_EXPECTED: dict[str, tuple[type[OSError], ...]] = {"create": (FileExistsError,), "write": ()}
"""What whoever calls deals with: while writing, that a file is there; else, that it is not."""
SCHEMES = ("s3", "memory")
"""Those that can create a file exclusively; memory is for tests."""

T = TypeVar("T")


def is_remote(place: Path | str) -> bool:
    """Return whether a store's address is one of an object store."""
    return "://" in str(place)


class Remote:
    """A folder of an object store.

    Raises:
        UserError: the address is none, or what it needs is not installed.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self._fs, self._root = _opened(self.url)
        self._reached = False

    def place(self, name: str) -> str:
        """Return what messages call a file."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, None where it is not there."""
        try:
            return bytes(self._try("read", name, lambda at: self._fs.cat_file(at)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whatever is there."""
        self._try("write", name, lambda at: self._fs.pipe_file(at, data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that nobody has written; return whether it is ours.

        It is also where the store took it and the answer was lost, and we asked again.
        """
        tries = 0

        def once(at: str) -> None:
            nonlocal tries
            tries += 1
            try:
                self._fs.pipe_file(at, data, mode="create")
            except OSError as error:
                if _IS_THERE in _names(error):
                    raise FileExistsError(at) from error
                raise

        try:
            self._try("create", name, once)
        except FileExistsError:
            return tries > 1 and self.read(name) == data
        return True

    def names(self, folder: str) -> list[str]:
        """Return the files below a folder, their names relative to it, sorted."""
        try:
            found = self._try("list", folder, lambda at: self._fs.find(at))
        except FileNotFoundError:
            return []
        start = len(self._at(folder)) + 1
        return sorted(str(name)[start:] for name in found if len(str(name)) > start)

    def size(self, name: str) -> int:
        """Return the bytes of a file, 0 where it is not there."""
        try:
            return int(self._try("look at", name, lambda at: self._fs.info(at))["size"])
        except FileNotFoundError:
            return 0

    def exists(self, name: str) -> bool:
        """Return whether a file is there."""
        return bool(self._try("look for", name, lambda at: self._fs.exists(at)))

    def upload(self, file: Path, name: str) -> None:
        """Copy a file of this machine."""
        self._try("write", name, lambda at: self._fs.put_file(str(file), at))

    def download(self, name: str, file: Path) -> None:
        """Copy a file to this machine.

        Raises:
            FileNotFoundError: it is not there.
        """
        self._try("read", name, lambda at: self._fs.get_file(at, str(file)))

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""
        try:
            self._try("remove", name, lambda at: self._fs.rm_file(at))
        except FileNotFoundError:
            return

    # ------------------------------------------------------------ inside

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _try(self, doing: str, name: str, call: Callable[[str], T]) -> T:
        until = time.monotonic() + self.patience_s
        pause = _PAUSE_S
        while True:
            try:
                said = call(self._at(name))
                self._reached = True
                return said
            except _FINAL as error:
                if isinstance(error, _EXPECTED.get(doing, (FileNotFoundError,))):
                    raise
                raise self._refused(doing, name, error) from error
            except Exception as error:  # botocore, aiohttp: each has a tree of its own
                hopeless = not self._reached and _HOPELESS & _names(error)
                if time.monotonic() > until or hopeless:
                    raise self._refused(doing, name, error) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _refused(self, doing: str, name: str, error: Exception) -> StorageError:
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return StorageError(
            f"cannot {doing} {self.place(name)}: {said}. See to the store, then run the same "
            "command again."
        )


def _names(error: BaseException | None) -> set[str]:
    """Return what an error, and what it is because of, is called: by Python and by the store."""
    found: set[str] = set()
    while error is not None:
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        found |= {type(error).__name__, *([str(code)] if code else [])}
        error = error.__cause__ or error.__context__
    return found


def _opened(url: str) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest.strip("/"):
        raise UserError(f"--store {url!r}: must be a folder, or s3://BUCKET/PREFIX")
    if "@" in rest.partition("/")[0]:
        raise UserError(
            "--store: the address holds a password, which everybody would see; put it into "
            "~/.aws/credentials or the environment (AWS_SECRET_ACCESS_KEY)"
        )
    needed = {"s3": "s3fs", "memory": "fsspec"}[scheme]
    if find_spec(needed) is None:
        raise UserError(f"--store {url}: needs {needed}; `pip install 'dlas[cluster]'`")
    import fsspec

    options = {"use_listings_cache": False, "skip_instance_cache": True} if scheme == "s3" else {}
    return fsspec.filesystem(scheme, **options), rest.strip("/") if scheme == "s3" else f"/{rest}"
