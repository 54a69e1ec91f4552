"""A disk budget: what a store holds, what of it may go, what to say when nothing more can go.

The budget counts the bytes of all artefacts in the store (step records and results, some
kilobytes a cell, come on top). To evict is to remove an object and keep the records that point to
it: they still say that the step was done and from what, so that nothing is done again until a step
that has to run needs the files (``engine/local.py``). So eviction is one rename, and dying at any
moment leaves nothing to mend.

What may go, oldest first and only as much as is needed:

- objects that no record points to (they were made again with other content), and
- objects that only steps of the stages ``INTERMEDIATE`` point to, of any study, unless a step of
  this run still reads them. What is timed, the images it is timed on and evaluations never go.

If that does not suffice, what is read last goes as well, to be made again once. Nothing goes while
another run uses the store: it may be about to read anything.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dlas.core import failpoints
from dlas.core.errors import StorageError, UserError
from dlas.core.records import Stage
from dlas.store.artifacts import ArtifactStore
from dlas.store.disk import storage, tree_bytes

INTERMEDIATE = frozenset({Stage.PREPARE, Stage.OPTIMIZE, Stage.LOWER, Stage.REFERENCE})

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt])(i?)b?\s*", re.IGNORECASE)


def parse_size(text: str, option: str = "--max-disk") -> int:
    """Return the bytes of a size as people write it: ``500M``, ``1.5GB``, ``2GiB``.

    Raises:
        UserError: it is no size, has no unit, or is nothing.
    """
    found = _SIZE.fullmatch(text)
    size = 0
    if found:
        number, unit, binary = found.groups()
        size = round(float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit.lower())))
    if size <= 0:
        bare = re.fullmatch(r"\s*\d+(\.\d+)?\s*", text)
        why = "has no unit" if bare else "is no size" if not found else "leaves no room at all"
        raise UserError(
            f"{option} {text!r} {why}: give a number above 0 and a unit (k, M, G, T; or Ki, Mi, "
            "Gi, Ti for powers of 1024; B may follow), like 500M, 1.5GB or 2GiB."
        )
    return size


def checked_size(size: int | None) -> int | None:
    """Return a budget in bytes, None where there is none.

    Raises:
        UserError: it is not a whole number above 0.
    """
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0):
        return size
    raise UserError(f"max_disk {size!r}: give a whole number of bytes above 0, like 500_000_000.")


def size_text(size: float) -> str:
    """Return bytes as people say them: ``1.5 GB``, ``20.0 MB``, ``312 kB``."""
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if size >= one:
            return f"{size / one:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{size / 1e3:.0f} kB"


class Known(NamedTuple):
    """What a step's record says of its artefact."""

    key: str
    stage: str
    content: str
    bytes: int
    """0 where the record does not say."""


class Inventory:
    """What lies in a store; asking again reads only what is new."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self._sizes: dict[str, int] = {}
        self._known: dict[str, tuple[tuple[int, int], Known | None]] = {}

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object that is there, the oldest first."""
        found: dict[str, tuple[int, int]] = {}
        root = self.store.root / "objects"
        with storage("look into", root):
            for folder in root.iterdir():
                try:
                    if folder.name not in self._sizes:
                        self._sizes[folder.name] = tree_bytes(folder)
                    age = folder.stat().st_mtime_ns
                except FileNotFoundError:  # another process has just discarded it
                    continue
                found[folder.name] = age, self._sizes[folder.name]
        return {name: size for name, (_, size) in sorted(found.items(), key=lambda i: i[1])}

    def steps(self) -> dict[str, Known]:
        """Return every complete step by its key, its artefact there or not."""
        seen: dict[str, tuple[tuple[int, int], Known | None]] = {}
        root = self.store.root / "steps"
        with storage("look into", root):
            for key, file in self.store.records().items():
                try:
                    stat = file.stat()
                except FileNotFoundError:
                    continue
                mark = stat.st_ino, stat.st_mtime_ns
                before = self._known.get(key)
                same = before is not None and before[0] == mark
                seen[key] = before if same and before else (mark, self._read(key))
        self._known = seen
        return {key: known for key, (_, known) in seen.items() if known is not None}

    def _read(self, key: str) -> Known | None:
        record = self.store.get(key)
        if record is None or record.content is None:
            return None
        size = self._sizes.get(record.content, record.stored_bytes)
        return Known(key, record.stage, record.content, size)


@dataclass
class Budget:
    """What one run may take; :meth:`room` keeps to it, :meth:`refusal` says why it cannot."""

    store: ArtifactStore
    limit: int
    note: Callable[[str], None]
    own: set[str] = field(default_factory=set)
    """The keys of this run's steps."""
    evicted: int = 0
    evicted_bytes: int = 0
    most: int = 0
    """The largest that the store was seen."""
    shared: bool = False
    """Whether another run used the store when something should have gone."""

    def __post_init__(self) -> None:
        self._inventory = Inventory(self.store)

    def fits(self) -> bool:
        """Return whether what lies in the store is within the budget."""
        used = sum(self._inventory.sizes().values())
        if used > self.limit and self.most <= self.limit:
            self.note(
                f"the artefacts in {self.store.root} take {size_text(used)}, more than the "
                f"{size_text(self.limit)} they may take: older ones go before the next step"
            )
        self.most = max(self.most, used)
        return used <= self.limit

    def room(
        self,
        stages: Iterable[str],
        keys: Collection[str],
        contents: Collection[str | None],
        *,
        more: Collection[str] | None = None,
        last: Collection[str] | None = None,
    ) -> bool:
        """Evict until outputs of ``stages`` fit beside what is there; return whether they do.

        An output is taken to be as large as the largest of its stage so far. With ``more`` it must
        be possible to make room for one of each of these stages as well, and none of ``stages``
        may be without example.
        ``keys`` are the steps whose artefacts are still read, ``contents`` objects that are being
        read. ``last``: only the artefacts of these steps go, in this order.
        """
        self.fits()
        sizes, steps = self._inventory.sizes(), self._inventory.steps()
        largest: Counter[str] = Counter()
        for step in steps.values():
            size = sizes.get(step.content, step.bytes)
            largest[step.stage] = max(largest[step.stage], size)
        outputs = [*stages]
        over = sum(sizes.values()) + sum(largest[stage] for stage in outputs) - self.limit
        if more is not None:
            free = sum(sizes[c] for c in _evictable(sizes, steps, keys, contents))
            known = all(stage in largest for stage in outputs)
            if not known or over + sum(largest[stage] for stage in more) > free:
                return False
        if over > 0:
            over -= self._evict(over, set(keys), set(contents), last)
        return over <= 0

    def _evict(
        self,
        wanted: int,
        keys: set[str],
        contents: set[str | None],
        last: Collection[str] | None,
    ) -> int:
        """Evict at least ``wanted`` bytes if that may be; return how many."""
        gone = 0
        with self.store.only_user() as alone:
            self._told_shared(not alone)
            if not alone:
                return 0
            sizes, steps = self._inventory.sizes(), self._inventory.steps()
            goes = _evictable(sizes, steps, keys, contents)
            if last is not None:
                ranked = [steps[key].content for key in last if key in steps]
                goes = [content for content in ranked if content in goes]
            for content in dict.fromkeys(goes):
                if gone >= wanted:
                    break
                self.store.evict(content)
                gone += sizes[content]
                self.evicted += 1
                self.evicted_bytes += sizes[content]
        if gone:
            failpoints.reach("evicted")
        return gone

    def _told_shared(self, shared: bool) -> None:
        if shared and not self.shared:
            self.note(
                f"another run uses {self.store.root}: nothing is evicted from it until that ends"
            )
        self.shared = shared

    def refusal(self, left: int) -> StorageError:
        """Return what to say when the budget cannot be kept with ``left`` steps to go."""
        sizes, steps = self._inventory.sizes(), self._inventory.steps()
        kinds = self._kinds(sizes, steps)
        listed = ", ".join(f"{kind} {size_text(size)}" for kind, size in kinds.items())
        why = "what this run still reads must stay"
        if self.shared:
            why = "nothing can be evicted while another run uses it: wait until that has ended"
        said = (
            f"the disk budget of {size_text(self.limit)} cannot be kept: the artefacts in "
            f"{self.store.root} take {size_text(sum(sizes.values()))} ({listed}), and {why}"
        )
        if _OTHER in kinds:
            said += f"; `dlas clean` removes what no results need of what is {_OTHER}"
        return StorageError(
            f"{said}. {left} steps are left; nothing finished is lost: the same command goes on "
            "with a larger --max-disk, fewer cells (--only), or --store on another disk."
        )

    def _kinds(self, sizes: Mapping[str, int], steps: Mapping[str, Known]) -> dict[str, int]:
        """Return the bytes of what lies there by kind, the largest first."""
        kind = dict.fromkeys(sizes, _OTHER)
        kind |= {s.content: s.stage for s in steps.values() if s.key in self.own}
        total: Counter[str] = Counter()
        for content, size in sizes.items():
            total[kind[content]] += size
        return dict(total.most_common())


_OTHER = "not of this run"


def _evictable(
    sizes: Mapping[str, int],
    steps: Mapping[str, Known],
    keys: Collection[str],
    contents: Collection[str | None],
) -> list[str]:
    """Return the objects that may go, the oldest first."""
    owners: dict[str, list[Known]] = defaultdict(list)
    for step in steps.values():
        owners[step.content].append(step)
    return [
        content
        for content in sizes
        if content not in contents
        and all(s.stage in INTERMEDIATE and s.key not in keys for s in owners[content])
    ]
