"""Layouts drawn at random are read right, or refused in a sentence; and single ones by hand."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

import image_layouts
from dlas.core import registry
from dlas.core.contents import Contents
from dlas.core.errors import UserError
from dlas.core.protocols import SPLITS, Dataset
from pictures import draw


@pytest.mark.parametrize("seed", range(50))
def test_a_layout_is_read_right_or_refused(seed: int, tmp_path: Path) -> None:
    layout = image_layouts.make(tmp_path, seed)
    assert image_layouts.read(layout) == "", layout.words


def test_the_layouts_are_of_all_kinds(tmp_path: Path) -> None:
    """Else the fifty say little."""
    made = [image_layouts.make(tmp_path, seed) for seed in range(50)]
    assert {layout.kind for layout in made} == {"image-folder", "parquet"}
    assert 5 < sum(bool(layout.refusal) for layout in made) < 25
    words = {word for layout in made for word in layout.words}
    wanted = {
        "above", "below", "none", "one", "leftovers", "links", "an empty class",
        "NFD against NFC", "a name that is no UTF-8", "the same rows in both splits",
    }  # fmt: skip
    assert wanted <= words


def test_a_wrong_reading_is_seen(tmp_path: Path) -> None:
    """The truth must be able to disagree."""
    layout = image_layouts.make(tmp_path, 2)
    id, (split, name, picture) = next(iter(layout.truth.items()))
    other = draw(random.Random(1), "RGB")
    layout.truth[id] = split, name, other
    assert "quarter" in image_layouts.read(layout)
    layout.truth[id] = ("test" if split == "train" else "train"), name, picture
    assert "read as of" in image_layouts.read(layout)


# ---------------------------------------------------------------- by hand


def fill(root: Path, *places: str, count: int = 3) -> Path:
    rng = random.Random(str(places))
    for place in places:
        (root / place).mkdir(parents=True, exist_ok=True)
        for at in range(count):
            (root / place / f"{at}.png").write_bytes(draw(rng, "RGB").data)
    return root


def of(root: Path, kind: str = "image-folder", **params: object) -> Dataset:
    made = registry.make("dataset", kind, {"root": str(root), "size": 16, **params})
    assert isinstance(made, Dataset)
    return made


def contents(root: Path) -> Contents:
    return of(root).contents()


def refused(root: Path, message: str) -> None:
    for ask in ("contents", "fingerprint", "spec"):
        with pytest.raises(UserError, match=message) as caught:
            getattr(of(root), ask)()
        assert len(caught.value.problems) == 1


def test_a_validation_split_beside_a_test_split_is_said_to_be_unused(tmp_path: Path) -> None:
    found = contents(fill(tmp_path, "Train/a", "Train/b", "Test/a", "Test/b", "Val/a", "Val/b"))
    assert (found.train.where, found.test.where) == ("Train/", "Test/")
    assert found.skipped == {"images of Val/, since Test/ is taken": 6}


def test_a_vehicle_called_train_is_a_class(tmp_path: Path) -> None:
    found = contents(fill(tmp_path, "bus", "car", "train"))
    assert found.names == ("bus", "car", "train")


def test_a_third_folder_of_another_name_may_be_a_split(tmp_path: Path) -> None:
    refused(fill(tmp_path, "train/a", "train/b", "holdout/a", "holdout/b"), "beside it holdout/")


def test_unlabelled_test_images_are_no_split(tmp_path: Path) -> None:
    refused(fill(tmp_path, "train/a", "train/b", "test"), "give train/ itself as root")
    found = contents(fill(tmp_path, "val/a", "val/b"))
    assert found.skipped == {"images of test/, which has no class folders": 3}


def test_splits_without_classes_are_refused(tmp_path: Path) -> None:
    refused(fill(tmp_path, "Training", "Testing"), "hold images without class folders")


def test_a_split_of_other_files_is_refused_and_says_which(tmp_path: Path) -> None:
    fill(tmp_path, "train/a", "train/b")
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.heic").write_bytes(b"0")
    refused(tmp_path, r"no images in test/.*Left out: 2 no images by their ending \.heic")


def test_classes_that_differ_in_case_are_pointed_at(tmp_path: Path) -> None:
    refused(fill(tmp_path, "train/Cat", "train/Dog", "test/cat", "test/Dog"), "Did you mean 'Cat'")


def test_folders_in_classes_are_said_to_be_no_classes(tmp_path: Path) -> None:
    found = contents(fill(tmp_path, "animal/cat", "animal/dog", "plant/rose", "plant/lily"))
    assert found.names == ("animal", "plant")
    assert "animal/cat, animal/dog, plant/lily" in found.notes[0]


def test_two_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    found = contents(fill(tmp_path, "caf\u00e9", "cafe\u0301", "bar"))
    assert found.names == ("bar", "caf\u00e9")
    assert "taken as one class" in found.notes[0]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_images_that_were_not_fetched_are_said_by_a_plan_and_named_by_a_run(
    tmp_path: Path,
) -> None:
    root = fill(tmp_path, "a", "b")
    (root / "a" / "0.png").write_bytes(POINTER)
    (root / "b" / "2.png").write_bytes(b"")
    pointer, empty = contents(root).notes
    assert "1 images cannot be read, a/0.png among them: it is a Git LFS pointer" in pointer
    assert "b/2.png among them: it is empty" in empty
    assert len(of(root, "unlabelled-images", classes=2).contents().notes) == 2
    with pytest.raises(UserError, match=r"a/0\.png cannot be decoded .*`git lfs pull` fetches it"):
        for split in SPLITS:
            samples = of(root).load(split)
            samples.images(range(len(samples.ids)))


@pytest.mark.parametrize("content", [POINTER, b"<!DOCTYPE html><html>"])
def test_a_parquet_file_that_was_not_fetched_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.parquet cannot be read: it is a .* in place of"):
        of(tmp_path, "parquet").load("train")


def test_a_parquet_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch) -> None:
    """Its first bytes cannot be read either, to see what it is."""
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    _forbid(monkeypatch, "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet cannot be read: .*Permission denied"):
        of(tmp_path, "parquet").load("train")


def test_an_image_that_cannot_be_opened_is_said_by_a_plan(tmp_path: Path, monkeypatch) -> None:
    root = fill(tmp_path, "a", "b")
    _forbid(monkeypatch, "1.png")
    (note,) = of(root, "unlabelled-images", classes=2).contents().notes
    assert note.startswith("2 images cannot be read, a/1.png among them: ")
    assert "Permission denied" in note


def _forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let no file of this name be opened; a test that runs as root has no other way."""
    opened = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)


def test_links_to_classes_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, "data/a", "there/b")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "there" / "b")
    assert contents(tmp_path / "data").names == ("a", "b")


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path: Path, monkeypatch) -> None:
    fill(tmp_path, "a", "b")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    refused(tmp_path, r"/b cannot be read: Permission denied")


def test_renaming_a_split_changes_the_fingerprint(tmp_path: Path) -> None:
    """What the words mean is known to the key, by the source of the module that says it."""
    root = fill(tmp_path, "train/a", "train/b", "test/a", "test/b")
    before = of(root).fingerprint()
    (root / "test").rename(root / "Testing")
    assert of(root).fingerprint() != before
    assert all(any(s.endswith(f".{m}") for s in type(of(root)).sources) for m in (
        "class_folders", "decoding", "encoded", "pixels", "splits", "tree",
    ))  # fmt: skip


def test_parquet_folders_of_several_data_sets_are_said(tmp_path: Path) -> None:
    rng = random.Random(0)
    for place in ("one/train", "two/train", "one/test"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.parquet").write_bytes(image_layouts._table(rng, [0, 1, 2], []))
    found = of(tmp_path, "parquet").contents()
    assert "2 folders (one, two)" in found.notes[0]
    assert set(of(tmp_path, "parquet").load("train").ids) == {
        f"{place}/train/0/{row:06d}" for place in ("one", "two") for row in range(3)
    }


def test_parquet_labels_that_do_not_begin_at_zero_are_said(tmp_path: Path) -> None:
    table = image_layouts._table(random.Random(0), [1, 2, 255] * 4, [])
    (tmp_path / "train.parquet").write_bytes(table)
    found = of(tmp_path, "parquet").contents()
    assert found.classes == 256
    assert found.notes == ("classes without training images: 0, 3, 4, 5 and 249 more",)
    (tmp_path / "train.parquet").write_bytes(image_layouts._table(random.Random(0), [0] * 8, []))
    assert of(tmp_path, "parquet").contents().notes[0].startswith("all labels are 0")


def test_parquet_says_what_lies_there_instead(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"There are files with \.csv"):
        of(tmp_path, "parquet").fingerprint()
