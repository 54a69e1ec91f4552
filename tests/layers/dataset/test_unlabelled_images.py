from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlas.core.contents import SplitRead
from dlas.core.protocols import SPLITS
from dlas.layers.dataset import unlabelled_images
from dlas.layers.dataset.unlabelled_images import UnlabelledImages


def folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for place in ("a.png", "in/b.png", "in/deeper/c.jpg", "d.png"):
        file = root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(file)
    for left in ("notes.txt", ".hidden.png", "__MACOSX/._a.png"):
        (root / left).parent.mkdir(exist_ok=True)
        (root / left).write_bytes(b"x")
    (root / "round").symlink_to(root)
    return root


def test_all_images_below_are_split_and_the_rest_is_said(tmp_path: Path) -> None:
    data = UnlabelledImages(root=str(folder(tmp_path)), classes=3, size=8)
    train, test = data.load("train"), data.load("test")
    assert sorted([*train.ids, *test.ids]) == ["a.png", "d.png", "in/b.png", "in/deeper/c.jpg"]
    assert test.images([0, 1]).shape == (2, 3, 8, 8) and not test.labels.any()
    found = data.contents()
    assert (found.train.images, found.test.images) == (2, 2)
    said = " ".join(found.skipped)
    assert sum(found.skipped.values()) == 4
    assert "macOS" in said and "hidden" in said and ".txt" in said and "lie in" in said


def test_the_folder_is_looked_through_once_to_say_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = UnlabelledImages(root=str(folder(tmp_path)), classes=3, size=8, holdout=0.25)
    sizes = [len(data.load(split).ids) for split in SPLITS]
    scan, scanned = unlabelled_images.scan, []
    monkeypatch.setattr(unlabelled_images, "scan", lambda path: scanned.append(path) or scan(path))
    found = data.contents()
    assert len(scanned) == 1
    assert [found.train, found.test] == [SplitRead(n, most=n) for n in sizes]
