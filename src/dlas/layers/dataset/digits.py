"""The handwritten digits that come with scikit-learn: the smallest real data set there is."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from dlas.core.protocols import Dataset, DataSpec
from dlas.layers.dataset.shared.pixels import SOURCE, ArraySamples, Preprocess, held_out

if TYPE_CHECKING:
    from dlas.core.protocols import Array, Split

TEST_SHARE = 0.2
MEAN, STD = 0.3047, 0.3758  # of the 1,438 training images, scaled to 0..1


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """1,797 handwritten digits, 8 x 8 grey, 10 classes (UCI, Alpaydin and Kaynak, 1998).

    Every fifth image of each class is the test split. Good for trying things out: 359 test
    images decide no question of accuracy.
    """

    name: ClassVar[str] = "digits"
    licence: ClassVar[str] = "CC BY 4.0 (UCI), in scikit-learn (BSD-3)"
    requires: ClassVar[tuple[str, ...]] = ("sklearn",)
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "pillow")
    sources: ClassVar[tuple[str, ...]] = (SOURCE,)
    batch: Annotated[int, Field(ge=1)] = 1
    size: Annotated[int, Field(ge=4, le=4096)] = 8

    def spec(self) -> DataSpec:
        """Return ten classes of grey squares."""
        return DataSpec(10, 1, self.size, self.size, self.batch)

    def load(self, split: Split) -> ArraySamples:
        """Return a split, in scikit-learn's order."""
        table = _table()
        labels = table[:, -1].astype(np.int64)
        test = held_out(labels, TEST_SHARE)
        chosen = np.flatnonzero(test if split == "test" else ~test)
        return ArraySamples(
            table[chosen, :-1].reshape(-1, 8, 8).astype(np.uint8),
            labels[chosen],
            tuple(f"{place:04d}" for place in chosen),
            Preprocess(self.size, 1, (MEAN,), (STD,)),
            white=16,
        )


def _table() -> Array:
    """Return scikit-learn's table: an image's 64 pixels and its label in a row.

    Its file is read here, since importing its reader takes each step's process a second.
    """
    package = importlib.util.find_spec("sklearn")
    origin = package.origin if package else None
    file = Path(origin or "").parent / "datasets" / "data" / "digits.csv.gz"
    if origin and file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.float32)
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    return np.column_stack((data, target)).astype(np.float32)
