"""The handwritten digits that come with scikit-learn: the smallest real data set there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from dlas.layers.dataset.images import SOURCE, ArraySamples, Preprocess, held_out
from dlas.protocols import Dataset, DataSpec

if TYPE_CHECKING:
    from dlas.protocols import Split

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
        from sklearn.datasets import load_digits

        whole = load_digits()
        labels = whole.target.astype(np.int64)
        test = held_out(labels, TEST_SHARE)
        chosen = np.flatnonzero(test if split == "test" else ~test)
        return ArraySamples(
            whole.images[chosen].astype(np.uint8),
            labels[chosen],
            tuple(f"{place:04d}" for place in chosen),
            Preprocess(self.size, 1, (MEAN,), (STD,)),
            white=16,
        )
