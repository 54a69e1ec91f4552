"""From a tree of image folders to classes and splits: what the layout means, or why it is unclear.

Splits may stand above the classes (``train/cat``) or below them (``cat/train``), in any case and
by any of the words in :mod:`.splits`; folders that only hold one other folder are gone through.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.errors import UserError, near
from dlas.core.protocols import SPLITS
from dlas.layers.dataset.shared.splits import Role, rest_of, role_of, roles_of
from dlas.layers.dataset.shared.tree import SUFFIXES, Folder, readable, scan, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlas.core.protocols import Split

SOURCE = __name__
EXPECTED = "a folder with train/<class>/*.png and test/<class>/*.png (or val/), or <class>/*.png"

Images = list[tuple[Path, int]]
"""Files with the numbers of their classes."""


@dataclass
class Arrangement:
    """What a tree of folders means."""

    root: Path
    classes: list[str]
    """Names in composed Unicode, in the order of the folders' names."""
    images: dict[Split, Images] = field(default_factory=dict)
    """By split; where only one is there the other is taken out of it."""
    places: dict[Split, str] = field(default_factory=dict)
    """The folders of each split."""
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def arrange(root: Path, owner: str) -> Arrangement:
    """Return what the folders below a root mean.

    Raises:
        UserError: it is not clear which folders are splits or classes, or there are too few.
    """
    return _Arranger(root, owner).arrange()


class _Arranger:
    def __init__(self, root: Path, owner: str) -> None:
        self.root = root
        self.owner = f"{owner}.root"
        self.found = Arrangement(root, [])

    def arrange(self) -> Arrangement:
        """Decide what the first level of folders is: splits, or classes."""
        tree = scan(self.root)
        self.found.skipped += tree.left_out()
        top = self.inner(tree)
        splits = self.splits([f for f in top.filled if f.filled])
        if splits:
            self.by_split(top, splits)
        elif self.is_class_first(top):
            self.by_class(top)
        else:
            self.check_classes_are_no_splits(top)
            self.whole(top, "train", self.place(top))
        return self.found

    # ------------------------------------------------------------ levels

    def inner(self, folder: Folder, known: Iterable[str] = ()) -> Folder:
        """Return the folder below which the choice begins, through those that are only a cover."""
        while not folder.images and len(folder.filled) == 1:
            only = folder.filled[0]
            flat = only.images and len(only.filled) < 2
            if flat or self.splits([only]) or _composed(only.name) in known:
                break
            folder = only
        return folder

    def splits(self, folders: Sequence[Folder]) -> dict[Path, Role]:
        """Return which folders are splits, going by their names.

        Of ``crash test`` and ``train station`` neither is; ``seg_train`` is beside ``seg_test``.
        """
        named = [(f, r, rest_of(f.name)) for f in folders if (r := self.role(f))]
        return {
            f.path: r
            for f, r, rest in named
            if not rest
            or any(o.split != r.split and also in (rest, frozenset()) for _, o, also in named)
        }

    def role(self, folder: Folder) -> Role | None:
        return role_of(f"{self.owner}: {readable(str(self.root))}", readable(folder.name))

    def place(self, folder: Folder) -> str:
        return "./" if folder.path == self.root else f"{shown(folder.path, self.root)}/"

    def unclear(self, sentence: str) -> UserError:
        return UserError(f"{self.owner}: {readable(str(self.root))}: {sentence}")

    # ------------------------------------------------------------ splits above classes

    def by_split(self, top: Folder, splits: Mapping[Path, Role]) -> None:
        named = [f for f in top.folders if f.path in splits]
        taken = {s: f for s in SPLITS if (f := self.first(s, named, splits))}
        if not taken:
            raise self.no_images(top)
        self.check_filled(top, taken)
        others = [f for f in top.filled if f.path not in splits]
        if len(taken) == 1 and others:
            raise self.half_named(next(iter(taken.values())), others)
        self.leave_out(top.images, "images outside of the folders of splits")
        for folder in others:
            why = "has no class folders" if roles_of(folder.name) else "is no split"
            self.leave_out(folder.every(), f"images of {self.place(folder)}, which {why}")
        for folder in named:
            if folder not in taken.values():
                used = self.place(taken[splits[folder.path].split])
                self.leave_out(
                    folder.every(), f"images of {self.place(folder)}, since {used} is taken"
                )
        train = taken.get("train")
        if train is None or "test" not in taken:
            only = next(iter(taken.values()))
            self.whole(self.inner(only), next(iter(taken)), self.place(only))
            return
        first = self.inner(train)
        numbers = self.number(first)
        second = self.inner(taken["test"], numbers)
        self.check_known(second, numbers, first)
        for split, folder in zip(SPLITS, (first, second), strict=True):
            self.take(split, folder, numbers, self.place(folder))

    def first(
        self, split: Split, named: Sequence[Folder], splits: Mapping[Path, Role]
    ) -> Folder | None:
        """Return the folder that is taken for a split: of the names that come first, with images.

        Raises:
            UserError: several folders have such a name.
        """
        mine = [f for f in named if splits[f.path].split == split and f.count]
        rank = min((splits[f.path].rank for f in mine), default=0)
        best = [f for f in mine if splits[f.path].rank == rank]
        if len(best) > 1:
            places = " and ".join(self.place(f) for f in best)
            raise self.unclear(f"{places} both name the {split} split: rename or merge them.")
        return best[0] if best else None

    def check_filled(self, top: Folder, taken: Mapping[Split, Folder]) -> None:
        """Refuse a folder of a split whose class folders hold no image that is read."""
        for folder in top.folders:
            role = self.splits([folder]).get(folder.path)
            if role and folder.folders and not folder.count and role.split not in taken:
                raise self.no_images(folder)

    def half_named(self, named: Folder, others: Sequence[Folder]) -> UserError:
        beside = ", ".join(self.place(f) for f in others[:3])
        return self.unclear(
            f"{self.place(named)} is named like a split, but beside it {beside} "
            f"{'holds' if len(others) == 1 else 'hold'} images and no other split of classes is "
            f"there: rename or move what is no split, or give {named.path.name}/ itself as root."
        )

    # ------------------------------------------------------------ splits below classes

    def is_class_first(self, top: Folder) -> bool:
        """Return whether every class holds folders of splits, and nothing else with images.

        Raises:
            UserError: some classes do and some do not.
        """
        if len(top.filled) < 2:
            return False
        splits = {c.path: self.splits(c.filled) for c in top.filled}
        parted = [c for c in top.filled if {r.split for r in splits[c.path].values()} == {*SPLITS}]
        whole = [c for c in top.filled if c not in parted]
        odd = [c for c in whole if c.images or len(c.filled) > len(splits[c.path])]
        if parted and odd:
            raise self.unclear(
                f"{self.place(parted[0])} holds folders of splits, {self.place(odd[0])} does not: "
                "put the same folders into every class."
            )
        return bool(parted)

    def by_class(self, top: Folder) -> None:
        numbers = self.number(top)
        self.leave_out(top.images, "images outside of class folders")
        places: dict[Split, set[str]] = {s: set() for s in SPLITS}
        for split in SPLITS:
            self.found.images[split] = []
        for each in top.folders:
            splits = self.splits(each.filled)
            named = [f for f in each.filled if f.path in splits]
            used = {s: self.first(s, named, splits) for s in SPLITS}
            self.leave_out(each.images, "images outside of the folders of splits")
            for folder in each.filled:
                if folder not in used.values():
                    self.leave_out(folder.every(), f"images of */{readable(folder.name)}/")
            for split, chosen in used.items():
                if chosen:
                    places[split].add(f"{self.place(top)}*/{readable(chosen.name)}/")
                    number = numbers[_composed(each.name)]
                    self.found.images[split] += [(f, number) for f in sorted(chosen.every())]
        self.found.places = {s: " and ".join(sorted(p)) for s, p in places.items()}

    # ------------------------------------------------------------ classes

    def check_classes_are_no_splits(self, top: Folder) -> None:
        """Refuse images that lie in folders of splits without classes."""
        splits = self.splits(top.filled)
        both = {r.split for r in splits.values()} == {*SPLITS}
        if both and len(splits) == len(top.filled):
            places = " and ".join(self.place(f) for f in top.filled[:3])
            raise self.unclear(f"{places} hold images without class folders: give {EXPECTED}.")

    def whole(self, folder: Folder, split: Split, place: str) -> None:
        """Take one folder of classes, to be divided."""
        self.take(split, folder, self.number(folder), place)

    def number(self, folder: Folder) -> dict[str, int]:
        """Return the number of each class; two forms of one name are one class."""
        numbers: dict[str, int] = {}
        for each in folder.folders:
            name = _composed(each.name)
            if name in numbers:
                self.found.notes.append(
                    f"two folders of {self.place(folder)} have the name {name!r}, in other forms "
                    "of Unicode: taken as one class"
                )
            numbers.setdefault(name, len(numbers))
        if len(numbers) < 2:
            raise self.too_few(folder, len(numbers))
        self.found.classes = list(numbers)
        self._note_depth(folder)
        return numbers

    def _note_depth(self, folder: Folder) -> None:
        deep = [f for c in folder.filled if len(c.filled) > 1 for f in c.filled]
        if deep:
            some = ", ".join(shown(f.path, folder.path) for f in deep[:3])
            self.found.notes.append(
                f"the first level of folders are the classes; folders in them ({some}) are not"
            )

    def take(self, split: Split, folder: Folder, numbers: Mapping[str, int], place: str) -> None:
        self.leave_out(folder.images, "images outside of class folders")
        found: Images = []
        for each in folder.folders:
            number = numbers[_composed(each.name)]
            found += [(file, number) for file in sorted(each.every())]
        self.found.images[split] = sorted(found, key=lambda pair: pair[1])
        self.found.places[split] = place

    def check_known(self, folder: Folder, numbers: Mapping[str, int], train: Folder) -> None:
        strange = [n for f in folder.folders if (n := _composed(f.name)) not in numbers]
        if strange:
            some = ", ".join(f"{n!r}{near(n, numbers)}" for n in strange[:5])
            raise self.unclear(
                f"{self.place(folder)} holds the classes {some}, which the training folder "
                f"{self.place(train)} has not: rename or remove them."
            )

    def leave_out(self, images: Iterable[Path], why: str) -> None:
        if count := sum(1 for _ in images):
            self.found.skipped[why] += count

    # ------------------------------------------------------------ too little

    def too_few(self, folder: Folder, count: int) -> UserError:
        loose = f", and {len(folder.images)} images in no class folder" if folder.images else ""
        return self.unclear(
            f"{readable(str(folder.path))} holds {count} class folders{loose}; at least 2 are "
            f"needed: give {EXPECTED}.{self._left()}"
        )

    def no_images(self, folder: Folder) -> UserError:
        endings = ", ".join(sorted(SUFFIXES))
        return self.unclear(
            f"there are no images in {self.place(folder)} ({endings}): give {EXPECTED}."
            f"{self._left()}"
        )

    def _left(self) -> str:
        left = ", ".join(f"{n} {why}" for why, n in self.found.skipped.most_common(4))
        return f" Left out: {left}." if left else ""


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", readable(name))
