"""The artefacts of steps: content-addressed folders and step records.

Plain files and no database, so that a store may be shared by several studies and processes::

    root/dlas-artifacts.json              the format's version
    root/objects/<content>/files/...      what a step yielded; never changed
    root/objects/<content>/manifest.json  the hash of every file; its own hash is <content>
    root/steps/<key>.json                 what became of a step: a StepRecord (generations.py)
    root/steps/<key>/<n>.json             what became of it later
    root/locks/                           flock files (see locks.py)
    root/tmp/<owner>/                     half-done work of one living process

Everything appears by an atomic rename after it was written out (fsync): whatever moment a process
dies at, a reader sees all of an object or record, or nothing. A record whose object is absent says
that the step was done and what it yielded was evicted (budget.py): whoever needs the files has the
step done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlas.core.clock import now
from dlas.core.errors import StorageError
from dlas.core.keys import canonical
from dlas.core.records import Outcome, Status
from dlas.store import marker
from dlas.store.disk import remove_tree, storage, sync, tree_bytes
from dlas.store.generations import NONE, Generations, Overtaken, StepFiles, is_key
from dlas.store.locks import Locks
from dlas.store.objects import DamagedObject, damage, pack, require_plain
from dlas.store.scratch import Scratch, sweep
from dlas.store.step_record import StepRecord, forgotten, read_record

__all__ = ["ArtifactStore", "CleanReport", "DamagedObject", "Overtaken", "StepRecord"]


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What :meth:`ArtifactStore.clean` removed, or would remove."""

    objects: int
    bytes: int
    steps: int = 0
    scratch: int = 0
    """Folders left behind by processes that died."""


class ArtifactStore:
    """A folder of artefacts, shared by any number of processes of one machine.

    Opening creates the folders where ``create`` allows it; a store that exists may be read from
    a read-only disk.

    Raises:
        UserError: the folder holds other things, or a newer format; or is absent with
            ``create=False``.
        StorageError: the disk refuses.
    """

    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        self._verified: set[str] = set()
        self._scratch = Scratch(root / "tmp")
        self._locks = Locks(root / "locks")
        self._files = Generations(root / "steps", root / "locks" / "records")
        self._steps: StepFiles = self._files
        with storage("open the artefact store in", root):
            if create and not marker.there(root):
                marker.create(root)
            self._format = marker.check(root)

    # ------------------------------------------------------------ reading

    def get(self, key: str) -> StepRecord | None:
        """Return the record of a step, None where it never ended.

        Raises:
            StorageError: the record cannot be read, or is no record.
        """
        _check_name(key)
        number = self.generation(key)
        if number == NONE:
            return None
        with storage("read", self.root / "steps"):
            text = self._steps.read(key, number)
        if text is None:
            return None
        return read_record(key, number, text, self._steps.file(key, number))

    def generation(self, key: str) -> int:
        """Return the number of a step's newest generation, :data:`NONE` where it has none.

        Whoever reads it before doing a step hands it to :meth:`commit` or :meth:`fail`.
        """
        with storage("read", self.root / "steps"):
            return self._steps.newest(_check_name(key))

    def perhaps_done(self, keys: Collection[str]) -> Collection[str]:
        """Return those of some steps that it is worth asking for; others were never done.

        Others may be done by somebody else from now on: whoever does one asks under its lock.
        """
        return keys

    def records(self) -> dict[str, Path]:
        """Return the file of the newest record of every step, by its key, sorted."""
        with storage("look into", self.root / "steps"):
            return self._files.files()

    def path(self, content: str) -> Path:
        """Return the folder of an object; nobody may change anything in it.

        It is verified against its manifest the first time that this store reads it.

        Raises:
            DamagedObject: (a StorageError) it is absent or not what was written; names the file.
        """
        files = self._object(content) / "files"
        if content not in self._verified or not files.is_dir():
            with storage("read", files):
                if problem := damage(files.parent, content):
                    raise DamagedObject(
                        content,
                        f"the artefact {files.parent} is damaged: {problem.rstrip('.')}. "
                        "It has to be discarded and its step done anew.",
                    )
            self._verified.add(content)
        return files

    def has(self, content: str) -> bool:
        """Return whether an object is there; only :meth:`path` tells whether it is whole."""
        return (self._object(content) / "files").is_dir()

    # ------------------------------------------------------------ writing

    def scratch(self) -> Path:
        """Return a new empty folder on the store's file system, this process's own.

        It is removed when the process ends; after a violent death, by the next process that
        needs scratch, or by :meth:`clean`.
        """
        with storage("create a folder in", self._scratch.parent):
            folder = self._scratch.new_path()
            folder.mkdir()
        return folder

    def commit(
        self,
        key: str,
        stage: str,
        folder: Path,
        info: Mapping[str, Any],
        seconds: float,
        *,
        attempts: int = 1,
        log: str = "",
        versions: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> StepRecord:
        """Move a folder into the store as what a step yielded, then record the step.

        The folder (best from :meth:`scratch`; from another file system it is copied) is gone
        afterwards. The same content twice is one object. Once this returns, object and record
        survive the death of the process and of the machine. ``after`` is the generation that was
        the newest when the step began; None: whatever is there now.

        Raises:
            Overtaken: there is a generation after that one: it counts, the folder is gone.
            StepError: the folder holds a link, a socket or the like.
            StorageError: the disk refuses; nothing half-done remains.
            ValueError: ``info`` is not JSON or not finite.
        """
        _check_name(key)
        require_plain(folder)
        canonical(dict(info))  # refuse before anything is moved
        wrap = self.scratch()
        try:
            with storage("store what a step yielded in", self.root):
                content = pack(folder, wrap)
                with self._locks.writing():
                    if after is not None and self._steps.newest(key) > after:
                        raise Overtaken(key)
                    self._install(wrap, content)
                    record = StepRecord(
                        key, stage, Status.COMPLETE, content, dict(info), "", log, seconds,
                        now(), attempts, dict(versions or {}),
                    )  # fmt: skip
                    return self._write(record, after)
        finally:
            remove_tree(wrap)

    def fail(
        self,
        key: str,
        stage: str,
        outcome: Outcome,
        attempts: int,
        *,
        versions: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> StepRecord:
        """Record that a step failed, and why; ``after`` as in :meth:`commit`.

        Raises:
            Overtaken: as in :meth:`commit`.
            StorageError: the disk refuses.
            ValueError: the outcome is a success, or holds what is not JSON.
        """
        if outcome.ok:
            raise ValueError(f"step {key}: a complete outcome is no failure")
        record = StepRecord(
            key, stage, outcome.status, None, dict(outcome.value), outcome.reason, outcome.log,
            outcome.seconds, now(), attempts, dict(versions or {}),
        )  # fmt: skip
        with storage("record a failed step in", self.root), self._locks.writing():
            return self._write(record, after)

    def adopt(self, record: StepRecord, files: Path | None) -> bool:
        """Take over a step of another store with a copy of what it yielded, where it is there.

        Return whether it was: False where the step is known here and yielded something else.

        Raises:
            StorageError: the disk refuses, or the files are not what the record says.
        """
        known, content = self.get(record.key), record.content
        if known is not None and known.content is not None and known.content != content:
            return content is None  # it failed there, and not here
        better = known is None or (known.content is None and content is not None)
        with storage("take over a step into", self.root):
            if files is not None and content is not None and not self.has(content):
                self._copy(files, content)
            if better:
                with self._locks.writing():
                    self._write(record, None)
        return True

    def forget(self, key: str) -> bool:
        """Let a step count as never done; its object stays until :meth:`clean`."""
        with storage("forget a step in", self.root), self._locks.writing():
            return self._forget(_check_name(key))

    def discard(self, content: str) -> tuple[str, ...]:
        """Forget an object and every step that points to it; return the keys of those steps.

        For a damaged object: those steps are done anew when they are next asked for.
        """
        target = self._object(content)
        self._verified.discard(content)
        with storage("remove", target), self._locks.writing():
            # records first: a record without its object would be worse than the reverse
            gone = self._records_of(content)
            for name in gone:
                self._forget(name)
            self._remove_object(target)
        return gone

    # ------------------------------------------------------------ many processes

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Return a lock of one step, so that two processes never do it at the same time.

        Entering waits. After entering, ask :meth:`get` again: the other may have done the step.
        """
        _check_name(key)
        return self._locks.step(key)

    def use(self) -> AbstractContextManager[None]:
        """Return a mark that a run is using the store: while it is held nobody can clean."""
        return self._locks.use()

    def only_user(self) -> AbstractContextManager[bool]:
        """Return a block that is told whether no other run uses the store, and then keeps it so.

        For the run that holds :meth:`use`: where it is told True it may :meth:`evict` inside.
        """
        return self._locks.only_user()

    def evict(self, content: str) -> None:
        """Remove an object and keep the records that point to it; inside :meth:`only_user`."""
        target = self._object(content)
        self._verified.discard(content)
        with storage("remove", target):
            self._remove_object(target)

    def clean(self, keep: Collection[str], dry_run: bool = False) -> CleanReport:
        """Remove the steps that are not kept, objects no kept step points to, dead scratch.

        Raises:
            UserError: a run is using the store (see :meth:`use`).
            StorageError: the disk refuses.
        """
        alone = nullcontext() if dry_run else self._locks.nobody(self.root)
        with storage("clean", self.root), alone:
            known, wanted = self._files.every(), set(keep)
            steps = [key for key in known if key not in wanted]
            kept = {self._content(key) for key in known if key in wanted}
            objects = [o for o in (self.root / "objects").iterdir() if o.name not in kept]
            size = sum(tree_bytes(o) for o in objects)
            if not dry_run:
                for key in known:
                    newest = self._files.newest(key) if key in wanted else None
                    self._files.remove(key, before=newest)
                sync(self.root / "steps")
                for each in objects:
                    self._verified.discard(each.name)
                    self._remove_object(each)
                self._locks.remove_idle()
            dead = sweep(self.root / "tmp", remove=not dry_run)
        return CleanReport(len(objects), size, len(steps), dead)

    # ------------------------------------------------------------ inside

    def _raise_format(self) -> None:
        """Keep a dlas that knows one record a step from reading an old one as the newest."""
        if self._format < marker.NEWEST:
            self._format = marker.mark(self.root, marker.NEWEST)

    def _object(self, content: str) -> Path:
        return self.root / "objects" / _check_name(content)

    def _content(self, key: str) -> str | None:
        return record.content if (record := self.get(key)) else None

    def _records_of(self, content: str) -> tuple[str, ...]:
        return tuple(key for key in self._steps.every() if self._content(key) == content)

    def _write(self, record: StepRecord, after: int | None) -> StepRecord:
        """Write a record as the generation ``after`` one, or after whatever is there."""
        number = self._create(record.key, canonical(record.to_json()), after)
        return replace(record, generation=number)

    def _forget(self, key: str) -> bool:
        if self.get(key) is None:
            return False
        self._create(key, canonical(forgotten(key)), None)
        return True

    def _create(self, key: str, text: str, after: int | None) -> int:
        while True:
            number = 1 + (self._steps.newest(key) if after is None else after)
            if number:
                self._raise_format()
            try:
                self._steps.create(key, number, text + "\n", self._scratch.new_path())
            except Overtaken:
                if after is not None:
                    raise
                continue  # by another who had not looked either
            return number

    def _copy(self, files: Path, content: str) -> None:
        wrap, copy = self.scratch(), self.scratch()
        try:
            require_plain(files)
            shutil.copytree(files, copy, dirs_exist_ok=True)
            if pack(copy, wrap) != content:
                raise StorageError(f"{files} is not the artefact {content}: it was changed.")
            with self._locks.writing():
                self._install(wrap, content)
        finally:
            remove_tree(wrap)
            remove_tree(copy)

    def _install(self, wrap: Path, content: str) -> None:
        target = self._object(content)
        if target.exists():
            try:
                self.path(content)
                return
            except DamagedObject:  # the new copy of the same content mends it
                self._remove_object(target)
        try:
            wrap.rename(target)
        except OSError:
            if not target.exists():
                raise
            return  # another process was quicker with the same content
        sync(target.parent)
        self._verified.add(content)

    def _remove_object(self, target: Path) -> None:
        """Take the object away by one rename, so that no reader sees half of it, then delete."""
        bin_ = self._scratch.new_path()
        try:
            target.rename(bin_)
        except FileNotFoundError:
            return
        sync(target.parent)
        remove_tree(bin_)


def _check_name(name: str) -> str:
    if not is_key(name):
        raise ValueError(f"{name!r} is no key")
    return name
