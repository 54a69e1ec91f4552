"""Fashion-MNIST: ships with dlas, so that the first study needs no network."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dlas.core.errors import UserError
from dlas.core.protocols import Dataset, DataSpec, Refusal, Techniques, unavailable
from dlas.layers.dataset.shared.pixels import SOURCE, ArraySamples, Preprocess, content_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlas.core.protocols import Labels, Split

SHIPPED = Path(__file__).parent / "data" / "fashion-mnist"
PLACES = (Path("/usr/share/datasets/fashion-mnist"),)
"""Where the whole set is looked for without a root: Debian's ``dataset-fashion-mnist``."""
MEAN, STD = 0.2860, 0.3530  # of all 60,000 training images, scaled to 0..1
HOW = (
    "install Debian's package dataset-fashion-mnist, or give `root:` a folder that holds "
    "train-images-idx3-ubyte(.gz), or a torchvision root (FashionMNIST/raw/...)"
)


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Dataset):
    """Zalando's clothes: 28 x 28 grey, 10 classes, 10,000 test images (Xiao et al., 2017).

    Shipped are the whole test split and 10,000 of the 60,000 training images, 1,000 of each
    class. ``train: full`` takes all 60,000 from Debian's package or from ``root``; ``auto`` takes
    them where they are. The default trains on the same images on every machine.
    """

    name: ClassVar[str] = "fashion-mnist"
    licence: ClassVar[str] = "MIT (Zalando SE)"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)
    sources: ClassVar[tuple[str, ...]] = (SOURCE,)
    places: ClassVar[tuple[str, ...]] = ("root",)
    batch: Annotated[int, Field(ge=1)] = 1
    size: Annotated[int, Field(ge=4, le=4096)] = 28
    train: Literal["shipped", "full", "auto"] = "shipped"
    root: str = ""

    def spec(self) -> DataSpec:
        """Return ten classes of grey squares."""
        return DataSpec(10, 1, self.size, self.size, self.batch)

    def load(self, split: Split) -> ArraySamples:
        """Return a split: the 10,000 test images, or the training images that ``train`` says.

        An id is the place in Zalando's file, so that shipped and full agree on it.

        Raises:
            UserError: ``train: full`` without the files.
        """
        folder = self._full() if split == "train" else None
        if folder is None:
            pixels, labels, places = _shipped(split)
        else:
            pixels, labels = read_idx_pair(folder, "train")
            places = np.arange(len(labels))
        ids = tuple(f"{split}/{place:05d}" for place in places)
        prepare = Preprocess(self.size, 1, (MEAN,), (STD,))
        return ArraySamples(pixels, labels, ids, prepare)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse ``train: full`` where the 60,000 images are not."""
        try:
            self._full()
        except UserError as error:
            return unavailable(str(error))
        return None

    def fingerprint(self) -> Any:
        """Return the hashes of the files that are read."""
        files = [SHIPPED / "test.npz", SHIPPED / "train.npz"]
        try:
            folder = self._full()
        except UserError:
            return "absent"
        if folder is not None:
            files[1:] = [_idx_file(folder, "train-images"), _idx_file(folder, "train-labels")]
        return [content_of(file) for file in files]

    def _full(self) -> Path | None:
        """Return the folder of the 60,000 training images, None: the shipped ones serve."""
        if self.train == "shipped":
            return None
        root = Path(self.root).expanduser()
        places = (root, root / "FashionMNIST" / "raw") if self.root else PLACES
        for place in places:
            if all(_found(place, f"train-{what}") for what in ("images", "labels")):
                return place
        if self.train == "auto" and not self.root:
            return None
        looked = ", ".join(str(place.absolute()) for place in places)
        raise UserError(
            f"fashion-mnist: the 60,000 training images are not in {looked}: {HOW}; "
            "or leave `train: shipped`, the 10,000 that come with dlas"
        )


def read_idx_pair(folder: Path, stem: str) -> tuple[NDArray[np.uint8], Labels]:
    """Return images ``(n, 28, 28)`` and labels of Zalando's files, packed or not.

    Raises:
        UserError: a file is missing or damaged.
    """
    images = _read_idx(_idx_file(folder, f"{stem}-images"))
    labels = _read_idx(_idx_file(folder, f"{stem}-labels"))
    if images.shape != (len(labels), 28, 28):
        raise UserError(
            f"fashion-mnist: {folder} holds images of shape {images.shape} for {len(labels)} "
            f"labels; expected (n, 28, 28): {HOW}"
        )
    return images, labels.astype(np.int64)


def write_shipped(source: Path, folder: Path) -> None:
    """Write what ships, from Zalando's files: the test split, and 1,000 of each class.

    Of each class the first 1,000 in the order of the file are taken.
    """
    for stem, split in (("t10k", "test"), ("train", "train")):
        images, labels = read_idx_pair(source, stem)
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:1000] for c in range(10)]))
        np.savez_compressed(
            folder / f"{split}.npz",
            images=images[chosen],
            labels=labels[chosen].astype(np.uint8),
            places=chosen.astype(np.uint16),
        )


def _shipped(split: Split) -> tuple[NDArray[np.uint8], Labels, NDArray[np.int64]]:
    with np.load(SHIPPED / f"{split}.npz", allow_pickle=False) as arrays:
        return (
            arrays["images"],
            arrays["labels"].astype(np.int64),
            arrays["places"].astype(np.int64),
        )


def _found(folder: Path, stem: str) -> Path | None:
    kind = "idx3" if stem.endswith("images") else "idx1"
    both = (folder / f"{stem}-{kind}-ubyte", folder / f"{stem}-{kind}-ubyte.gz")
    return next((file for file in both if file.is_file()), None)


def _idx_file(folder: Path, stem: str) -> Path:
    if found := _found(folder, stem):
        return found
    raise UserError(f"fashion-mnist: {folder} holds no {stem}-*-ubyte or .gz: {HOW}")


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file (LeCun): two zeros, the type, the rank, the shape."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        rank = data[3]
        shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
        return values.reshape(shape)
    except (OSError, EOFError, IndexError, ValueError) as error:
        raise UserError(
            f"fashion-mnist: {path} is damaged: {error}. Get it anew: {HOW}"
        ) from error
