"""Image folders and Parquet layouts as people have them, drawn at random, each with its truth.

``benchmarks/layouts.py`` reads them and prints what came of each.
"""

from __future__ import annotations

import io
import os
import random
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import SPLITS, Dataset, Split
from pictures import SIZE, Picture, draw, within

if TYPE_CHECKING:
    from dlas.core.protocols import Array

TRAIN = ("train", "training", "tr", "Train", "TRAIN", "Training", "train_set", "TrainSet",
         "training-images", "seg_train", "train2017")  # fmt: skip
TEST = ("test", "testing", "eval", "dev", "val", "valid", "validation", "Test", "TESTING", "Eval",
        "test_set", "valSet", "seg_test", "Validation images", "val2017")  # fmt: skip
NAMES = ("cat", "dog", "emu", "Zebra", "sea lion", "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
         "007", "a.b", "train station", "crash test",
         "\N{CJK UNIFIED IDEOGRAPH-732B}")  # fmt: skip
LEFT = ("__MACOSX/{c}/._0.png", "{s}/{c}/._0.png", "{s}/{c}/.DS_Store", "{s}/Thumbs.db",
        "{s}/{c}/.ipynb_checkpoints/0-checkpoint.png", ".git/HEAD", "@eaDir/0.png", "README.md",
        "{s}/{c}/notes.txt", "{s}/desktop.ini", "{s}/{c}/Thumbs.db")  # fmt: skip


@dataclass
class Layout:
    """A data set on the disk, and what is to be read of it."""

    root: Path
    kind: str
    words: list[str] = field(default_factory=list)
    """What is particular about it."""
    params: dict[str, object] = field(default_factory=dict)
    truth: dict[str, tuple[Split | None, str, Picture]] = field(default_factory=dict)
    """For each id its split (None: by holdout), class and picture."""
    refusal: str = ""
    """A word of the sentence that refuses it; empty: it is read."""
    said: set[str] = field(default_factory=set)
    """Words that must stand in what was read."""
    classes: list[str] = field(default_factory=list)
    unreadable: int = 0
    """Files that are left by other programs, or no images."""


# ---------------------------------------------------------------- folders


def folder(root: Path, rng: random.Random) -> Layout:
    """Return a folder of images."""
    made = Layout(root, "image-folder")
    made.classes = sorted(rng.sample(NAMES, rng.randint(2, 5)))
    plan = rng.choice(("above", "above", "above", "below", "none", "one"))
    cover = rng.choice(("", "", "flowers", "data/images"))
    names: dict[Split, str] = {"train": rng.choice(TRAIN), "test": rng.choice(TEST)}
    made.words += [plan, *([f"in {cover}"] if cover else [])]
    splits: list[Split | None] = [None]
    if plan in ("above", "below"):
        splits = list(SPLITS)
        made.words += names.values()
    elif plan == "one":
        only = rng.choice(SPLITS)
        splits, names = [only], {only: names[only]}
        made.words += names.values()
    base = root / cover
    deep = rng.random() < 0.25
    spread = rng.choice((1, 1, 12))
    for split in splits:
        for name in made.classes:
            count = 3 + (rng.randint(0, spread) if split != "test" else 0)
            place = _place(base, plan, names.get(split, "") if split else "", name)
            shared = plan == "one" or split is None
            for at in range(count):
                inner = place / "batch" if deep and at % 2 else place
                _write(made, rng, inner, at, None if shared else split, name)
    _trouble(made, rng, plan, base, names)
    return made


def _place(base: Path, plan: str, split: str, name: str) -> Path:
    return base / name / split if plan == "below" else base / split / name


def _write(
    made: Layout, rng: random.Random, place: Path, at: int, split: Split | None, name: str
) -> Path:
    picture = draw(rng)
    path = place / f"{at}{picture.ending}"
    place.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.data)
    made.truth[path.relative_to(made.root).as_posix()] = split, name, picture
    return path


Trouble = Callable[[Layout, random.Random, str, Path, dict[Split, str]], None]


def _leftovers(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("leftovers")
    upper = list(names.values()) if plan in ("above", "one") else ["."]
    for form in rng.sample(LEFT, 4):
        path = base / form.format(s=upper[0], c=made.classes[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x00\x05\x16\x07")
        made.unreadable += 1


def _empty_class(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("an empty class")
    above = names.get("train") or next(iter(names.values()))
    _place(base, plan, above if plan != "none" else "", "void").mkdir(parents=True)
    made.classes = sorted([*made.classes, "void"])
    made.said.add("void")


def _bytes_names(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("a name that is no UTF-8")
    id, (_split, _name, _) = next(iter(made.truth.items()))
    old = made.root / id
    new = os.fsencode(old.parent) + b"/caf\xe9" + os.fsencode(old.suffix)
    os.rename(os.fsencode(old), new)  # noqa: PTH104 (bytes)
    made.truth[f"{Path(id).parent.as_posix()}/caf\\xe9{old.suffix}"] = made.truth.pop(id)


def _two_forms(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    """The same class, composed in one split and decomposed in the other."""
    made.words.append("NFD against NFC")
    name, other = "\u00fcber", unicodedata.normalize("NFD", "\u00fcber")
    made.classes = sorted([*made.classes, name])
    for split, form in zip(SPLITS, (name, other), strict=True):
        for at in range(2):
            _write(made, rng, _place(base, plan, names[split], form), at, split, name)


def _also_in_train(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("the same image in both splits")
    id, (_, name, picture) = next((i, t) for i, t in made.truth.items() if t[0] == "test")
    copy = _place(base, plan, names["train"], name) / f"copy{Path(id).suffix}"
    copy.write_bytes(picture.data)
    made.truth[copy.relative_to(made.root).as_posix()] = "train", name, picture
    made.said.add("byte for byte")


def _only_in_test(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("a class in test alone")
    _write(made, rng, _place(base, plan, names["test"], "stranger"), 0, "test", "stranger")
    made.refusal = "stranger"


def _twice(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("two training folders")
    other = "TRAINING" if names["train"] != "TRAINING" else "train"
    for name in made.classes:
        _write(made, rng, base / other / name, 99, "train", name)
    made.refusal = "both name the train split"


def _both_at_once(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("a folder named for both")
    for name in made.classes:
        _write(made, rng, base / "train-and-test" / name, 99, "train", name)
    made.refusal = "at once"


def _unlabelled(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    made.words.append("images beside the classes")
    picture = draw(rng)
    loose = base if plan == "none" else base / next(iter(names.values()))
    (loose / f"loose{picture.ending}").write_bytes(picture.data)
    made.unreadable += 1


def _links(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    """A link to nothing, and one to a folder that it lies in."""
    made.words.append("links")
    place = (made.root / next(iter(made.truth))).parent
    (place / "gone.png").symlink_to("nowhere.png")
    (place / "up").symlink_to("..")
    made.unreadable += 2


def _trouble(
    made: Layout, rng: random.Random, plan: str, base: Path, names: dict[Split, str]
) -> None:
    any_plan: list[Trouble] = [_leftovers, _bytes_names, _links]
    kinds = list(any_plan)
    if plan != "below":
        kinds += [_empty_class, _unlabelled]
    if plan == "above":
        kinds += [_two_forms, _also_in_train, _only_in_test, _twice, _both_at_once]
    for trouble in rng.sample(kinds, rng.randint(0, 2)):
        if not made.refusal:
            trouble(made, rng, plan, base, names)


# ---------------------------------------------------------------- Parquet


def parquet(root: Path, rng: random.Random) -> Layout:
    """Return Parquet files."""
    made = Layout(root, "parquet", classes=["0", "1", "2"])
    train, test = rng.choice(TRAIN), rng.choice(TEST)
    forms: dict[str, tuple[list[str], list[str]]] = {
        "name": ([f"{train}-0000{i}-of-00002" for i in range(2)], [f"{test}-00000-of-00001"]),
        "folder": ([f"default/{train}/000{i}" for i in range(2)], [f"default/{test}/0000"]),
        "set": ([f"my_images-{train}"], [f"my_images-{test}"]),
        "one": (["everything"], []),
        "train alone": ([f"data/{train}"], []),
    }
    form = rng.choice(list(forms))
    made.words += [form, *((train, test) if form not in ("one", "train alone") else ())]
    for split, files in zip(SPLITS, forms[form], strict=True):
        for file in files:
            shared = form in ("one", "train alone")
            _write_file(made, rng, file, None if shared else split)
    split_named = form in ("name", "folder", "set")
    for trouble in rng.sample(_FILE_TROUBLES, rng.randint(0, 1)):
        if split_named or trouble not in (_copy, _rows):
            trouble(made, rng, forms[form])
    return made


Forms = tuple[list[str], list[str]]


def _left(made: Layout, rng: random.Random, files: Forms) -> None:
    made.words.append("leftovers")
    for path in ("__MACOSX/._x.parquet", ".cache/train/0000.parquet", "._train.parquet"):
        (made.root / path).parent.mkdir(parents=True, exist_ok=True)
        (made.root / path).write_bytes(b"\x00\x05")
    made.unreadable += 3


def _both(made: Layout, rng: random.Random, files: Forms) -> None:
    made.words.append("a file named for both")
    _write_file(made, rng, "train-test", None)
    made.refusal = "at once"


def _copy(made: Layout, rng: random.Random, files: Forms) -> None:
    made.words.append("one file twice")
    source, *_ = files[0]
    for file in files[1]:
        path = made.root / f"{source}.parquet"
        (made.root / f"{file}.parquet").write_bytes(path.read_bytes())
    made.refusal = "the same file"


def _hidden(made: Layout, rng: random.Random, files: Forms) -> None:
    made.words.append("hidden labels")
    (made.root / f"{files[0][0]}.parquet").write_bytes(_table(rng, [-1, -1], []))
    made.refusal = "hides its labels"


def _words(made: Layout, rng: random.Random, files: Forms) -> None:
    made.words.append("labels in words")
    (made.root / f"{files[0][0]}.parquet").write_bytes(_table(rng, ["a", "b"], []))
    made.refusal = "not class indices"


def _rows(made: Layout, rng: random.Random, files: Forms) -> None:
    made.words.append("the same rows in both splits")
    kept = [t[2] for t in made.truth.values() if t[0] == "train"][:4]
    made.truth = {i: t for i, t in made.truth.items() if t[0] == "train"}
    _write_file(made, rng, files[1][-1], "test", kept)
    made.said.add("byte for byte")


_FILE_TROUBLES = (_left, _both, _copy, _hidden, _words, _rows)


def _write_file(
    made: Layout,
    rng: random.Random,
    file: str,
    split: Split | None,
    pictures: Iterable[Picture] = (),
) -> None:
    shown = list(pictures)
    labels = [at % 3 for at in range(len(shown) or rng.randint(6, 9))]
    path = made.root / f"{file}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_table(rng, labels, shown))
    for row, (label, picture) in enumerate(zip(labels, shown, strict=True)):
        made.truth[f"{file}/{row:06d}"] = split, str(label), picture


def _table(rng: random.Random, labels: list[int] | list[str], pictures: list[Picture]) -> bytes:
    """Return a Parquet file of images; pictures that are not given are drawn and added."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pictures += [draw(rng) for _ in range(len(labels) - len(pictures))]
    images = [{"bytes": p.data, "path": f"{i}{p.ending}"} for i, p in enumerate(pictures)]
    out = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": labels}), out, row_group_size=4)
    return out.getvalue()


# ---------------------------------------------------------------- reading


def read(layout: Layout) -> str:
    """Return what is wrong with how dlas reads a layout, ``""``: nothing."""
    plain = {"size": SIZE, "mean": [0.0] * 3, "std": [1.0] * 3}
    data = registry.make("dataset", layout.kind, {"root": str(layout.root), **plain})
    assert isinstance(data, Dataset)
    try:
        data.fingerprint()
        found = data.contents()
        return _compare(layout, data, " ".join((*found.notes, *found.names)),
                        sum(found.skipped.values()))  # fmt: skip
    except UserError as error:
        if layout.refusal and layout.refusal in str(error) and "\n" not in str(error):
            return ""
        return f"refused: {error}"


def _compare(layout: Layout, data: Dataset, said: str, skipped: int) -> str:
    if layout.refusal:
        return "not refused"
    seen = set()
    for split in SPLITS:
        samples = data.load(split)
        images = samples.images(range(len(samples.ids)))
        for at, id in enumerate(samples.ids):
            if problem := _one(layout, id, split, layout.classes[samples.labels[at]], images[at]):
                return f"{id}: {problem}"
            seen.add(id)
    if len(seen) != len(layout.truth):
        return f"{len(seen)} of {len(layout.truth)} images are read"
    if data.spec().classes != len(layout.classes):
        return f"{data.spec().classes} classes instead of {layout.classes}"
    if skipped != layout.unreadable:
        return f"{skipped} files are counted as skipped, {layout.unreadable} are"
    unsaid = [word for word in layout.said if word not in said]
    return f"not said: {unsaid}" if unsaid else ""


def _one(layout: Layout, id: str, split: Split, name: str, image: Array) -> str:
    """Return what is wrong with one image as it was read."""
    truth = _of(layout, id)
    if truth is None:
        return "no image of it"
    asked, right, picture = truth
    if asked not in (None, split) or right != name:
        return f"of {asked} and class {right}, read as of {split} and {name}"
    problem = within(image, picture)
    return f"({picture.mode}) {problem}" if problem else ""


def _of(layout: Layout, id: str) -> tuple[Split | None, str, Picture] | None:
    """Return the truth of an id; Parquet's has the folders only where names are not unique."""
    ends = [t for i, t in layout.truth.items() if i == id or i.endswith(f"/{id}")]
    return ends[0] if len(ends) == 1 else None


def make(root: Path, seed: int) -> Layout:
    """Return the layout of a seed, written below a root."""
    rng = random.Random(seed)
    place = root / f"{seed:03d}"
    place.mkdir(parents=True)
    return (parquet if rng.random() < 0.3 else folder)(place, rng)
