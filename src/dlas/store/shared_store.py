"""Artefacts in an object store, for several machines: a store like any other to those who use it.

The object store has the layout of a folder of artefacts (artifacts.py). Each machine has a folder
of its own in front, which holds the objects that it made or read; records are always asked for.
What comes from the store is believed no more than any other file: names are checked before they
become paths, and an object is compared with its hash before anyone reads it.

Whatever needs to know that nobody else uses the store, cleaning and keeping to a disk budget, is
refused: on other machines somebody may be about to read anything.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from dlas.core.errors import StorageError, UserError
from dlas.core.keys import canonical
from dlas.store import marker
from dlas.store.artifacts import ArtifactStore, CleanReport
from dlas.store.disk import network_filesystem, remove_tree, storage
from dlas.store.generations import NONE, Overtaken, name_of, numbers
from dlas.store.leases import lasting
from dlas.store.objects import DamagedObject, damage
from dlas.store.remote import PATIENCE_S, Remote, is_remote
from dlas.store.remote_leases import RemoteLeases

_MANY = 100
"""Steps; from so many on a listing of the store is quicker than a request or two for each."""
_LARGEST_MANIFEST = 64_000_000
"""Bytes; about half a million files."""


def shared_place(store: Path | str | None, own: Path, max_disk: int | None) -> Path | str:
    """Return where a run's artefacts are: where it is asked to, else in a folder of its own.

    Raises:
        UserError: a disk budget is asked for where several machines share the store.
    """
    if store is None or not is_remote(store):
        place = own if store is None else Path(store).absolute()
        if max_disk is not None:
            require_local(place, "--max-disk")
        return place
    if max_disk is not None:
        raise UserError(f"--max-disk: {store} is shared by several machines; leave it out")
    return str(store)


def require_local(place: Path, what: str) -> None:
    """Refuse what needs to know that nobody else uses a store, where other machines may.

    Raises:
        UserError: the folder is on a network file system, whose locks may be one machine's own.
    """
    if network := network_filesystem(place):
        raise UserError(
            f"{place} is on a network file system ({network}): {what} is refused, since nobody "
            "can tell that no run on another machine uses it; give a folder on a local disk."
        )


def artifact_store(place: Path | str, cache: Path) -> ArtifactStore:
    """Return the store at an address: a folder, or one of an object store with a cache here.

    Raises:
        UserError: the address is none, or holds something else.
        StorageError: it cannot be read or written.
    """
    if is_remote(place):
        return SharedStore(str(place), cache)
    return ArtifactStore(Path(place))


class RemoteGenerations:
    """The records of steps in an object store; what :class:`Generations` is for a folder."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def file(self, key: str, number: int) -> str:
        """Return what messages call a generation."""
        return self.remote.place(_step(key, number))

    def read(self, key: str, number: int) -> str | None:
        """Return the text of a generation, None where it is not there."""
        data = self.remote.read(_step(key, number))
        return None if data is None else data.decode(errors="replace")

    def newest(self, key: str) -> int:
        """Return the number of the newest generation, :data:`NONE` where there is none."""
        if later := numbers(self.remote.names(f"steps/{key}")):
            return max(later)
        return 0 if self.remote.exists(_step(key, 0)) else NONE

    def create(self, key: str, number: int, text: str, temporary: Path) -> None:
        """Write a generation.

        Raises:
            Overtaken: it is there, or a newer one is.
        """
        if self.newest(key) >= number or not self.remote.create(_step(key, number), text.encode()):
            raise Overtaken(key)

    def every(self) -> list[str]:
        """Return the keys of all steps, sorted."""
        names = (name.partition("/")[0] for name in self.remote.names("steps"))
        return sorted({name.removesuffix(".json") for name in names})


def _step(key: str, number: int) -> str:
    return f"steps/{name_of(key, number)}"


class SharedStore(ArtifactStore):
    """A store of artefacts in an object store, with a folder of this machine in front.

    Raises:
        UserError: the address is none, or the store is of a newer format.
        StorageError: it cannot be read or written.
    """

    def __init__(self, url: str, cache: Path, *, patience_s: float = PATIENCE_S) -> None:
        super().__init__(cache)
        self.remote = Remote(url, patience_s=patience_s)
        self._steps = RemoteGenerations(self.remote)
        self._leases = RemoteLeases(self.remote, lasting())
        self._require_format()
        self._require_exclusive()

    # ------------------------------------------------------------ steps

    def perhaps_done(self, keys: Collection[str]) -> Collection[str]:
        """List what is there at once, where so many would be asked for one by one."""
        return keys if len(keys) < _MANY else {*self._steps.every()} & {*keys}

    # ------------------------------------------------------------ objects

    def has(self, content: str) -> bool:
        """Return whether an object is here or there; only :meth:`path` tells if it is whole."""
        return super().has(content) or self.remote.exists(f"objects/{content}/manifest.json")

    def path(self, content: str) -> Path:
        """Return the folder of an object, fetched if need be; nobody may change anything in it.

        Raises:
            DamagedObject: it is absent, or not what was written.
        """
        if super().has(content):
            try:
                return super().path(content)
            except DamagedObject:  # what is here: there it may be whole
                super()._remove_object(self._object(content))
        self._fetch(content)
        return super().path(content)

    def _fetch(self, content: str) -> None:
        """Copy an object into the folder of this machine.

        Raises:
            DamagedObject: it is not there, or holds what no object holds.
        """
        place = f"objects/{content}"
        text, names = self._manifest(content)
        wrap = self.scratch()
        try:
            self._require_room(f"{place}/files", names)
            with storage("fetch an artefact into", self.root):
                (wrap / "files").mkdir()
                for name in names:
                    file = wrap / "files" / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._download(f"{place}/files/{name}", file, content)
                (wrap / "manifest.json").write_bytes(text)
                if problem := damage(wrap, content):
                    raise DamagedObject(
                        content, f"the artefact {self.remote.place(place)} is damaged: {problem}."
                    )
                with self._locks.writing():
                    super()._install(wrap, content)
        finally:
            remove_tree(wrap)

    def _download(self, name: str, file: Path, content: str) -> None:
        try:
            self.remote.download(name, file)
        except FileNotFoundError as error:
            raise DamagedObject(content, f"{self.remote.place(name)} is missing.") from error

    def _require_room(self, place: str, names: Sequence[str]) -> None:
        """Refuse what would fill the disk, before it does."""
        size = sum(self.remote.size(f"{place}/{name}") for name in names)
        with storage("look at", self.root):
            free = shutil.disk_usage(self.root).free
        if size > free:
            raise StorageError(
                f"the artefact {self.remote.place(place)} has {size} bytes, of which {free} are "
                f"free in {self.root}: free some space."
            )

    def _manifest(self, content: str) -> tuple[bytes, list[str]]:
        """Return an object's manifest, and its files: names that stay inside of a folder.

        Raises:
            DamagedObject: it is not there, or is none.
        """
        place = f"objects/{content}/manifest.json"
        data = self.remote.read(place)
        try:
            if data is None:
                raise ValueError("it is not there")
            if len(data) > _LARGEST_MANIFEST:
                raise ValueError(f"it has {len(data)} bytes")
            files = json.loads(data)["files"]
            if not isinstance(files, dict):
                raise ValueError("it lists no files")
            for name in files:
                if not _inside(name):
                    raise ValueError(f"it names {name!r}")
            return data, [*files]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DamagedObject(
                content, f"the artefact {self.remote.place(place)} is refused: {error}"
            ) from error

    def _install(self, wrap: Path, content: str) -> None:
        super()._install(wrap, content)
        place = f"objects/{content}"
        if self.remote.exists(f"{place}/manifest.json"):
            return
        folder = self._object(content)
        for file in sorted((folder / "files").rglob("*")):
            if file.is_file():
                self.remote.upload(file, f"{place}/{file.relative_to(folder).as_posix()}")
        self.remote.upload(folder / "manifest.json", f"{place}/manifest.json")

    def _remove_object(self, target: Path) -> None:
        place = f"objects/{target.name}"
        self.remote.remove(f"{place}/manifest.json")  # first: without it the object is not there
        for name in self.remote.names(place):
            self.remote.remove(f"{place}/{name}")
        super()._remove_object(target)

    # ------------------------------------------------------------ several machines

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a step's lease, on this machine and among all."""
        with super().lock(key), self._leases.hold(key):
            yield

    def only_user(self) -> AbstractContextManager[bool]:
        """Nobody can know."""
        raise self._shared("--max-disk")

    def clean(self, keep: Collection[str], dry_run: bool = False) -> CleanReport:
        """Refuse: on another machine somebody may be about to read anything.

        Raises:
            UserError: always.
        """
        raise self._shared("cleaning")

    def _shared(self, what: str) -> UserError:
        return UserError(
            f"{self.remote.url} is shared by several machines: {what} is refused, since nobody "
            "can tell that no run uses it. Let the store's own rules remove what is old."
        )

    def _require_format(self) -> None:
        text = canonical({"format": marker.NEWEST}).encode()
        if self.remote.read(marker.NAME) is None:
            self.remote.create(marker.NAME, text)
        found = self.remote.read(marker.NAME) or b""
        try:
            number = json.loads(found)["format"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StorageError(
                f"{self.remote.place(marker.NAME)} is damaged ({error}): restore it."
            ) from error
        if number != marker.NEWEST:
            raise UserError(
                f"{self.remote.url} is an artefact store of format {number}, this dlas shares "
                f"{marker.NEWEST}: upgrade dlas, or give another prefix."
            )
        self._format = marker.NEWEST

    def _require_exclusive(self) -> None:
        """Refuse a store that overwrites what can be created once: all rests on that it does not.

        Raises:
            UserError: it does.
        """
        name = f"locks/probe-{uuid.uuid4().hex}"
        first, second = (self.remote.create(name, data) for data in (b"first", b"second"))
        self.remote.remove(name)
        if not first or second:
            raise UserError(
                f"{self.remote.url}: this store overwrites files that are to be created once (it "
                "knows no If-None-Match), so that two machines could commit one step: give another"
            )


def _inside(name: object) -> bool:
    """Return whether a file's name stays inside of the folder that it is put into."""
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name
