"""Images that were decoded once stay in memory, as far as they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dlas.networks.kept import Kept

if TYPE_CHECKING:
    from dlas.core.protocols import Array, Labels


@dataclass
class Counted:
    """Images of 1 x 2 x 2 that hold their own number."""

    asked: list[int] = field(default_factory=list)
    content: str = "counted"

    @property
    def labels(self) -> Labels:
        return np.arange(20, dtype=np.int64) % 3

    @property
    def ids(self) -> Sequence[str]:
        return [str(i) for i in range(20)]

    def images(self, indices: Sequence[int]) -> Array:
        self.asked += [int(i) for i in indices]
        values = np.asarray(indices, dtype=np.float32)
        return np.broadcast_to(values[:, None, None, None], (len(values), 1, 2, 2)).copy()


def numbers(images: Array) -> list[float]:
    assert images.dtype == np.float32
    assert images.shape[1:] == (1, 2, 2)
    return images[:, 0, 1, 1].tolist()


def test_each_is_decoded_once_and_comes_in_the_order_asked() -> None:
    data = Counted()
    kept = Kept(data)
    assert numbers(kept.images([5, 3, 5])) == [5, 3, 5]
    assert numbers(kept.images([3, 7, 5, 0])) == [3, 7, 5, 0]
    assert sorted(data.asked) == [0, 3, 5, 7]
    assert kept.images([]).shape[0] == 0
    assert (kept.content, list(kept.labels), kept.ids) == ("counted", list(data.labels), data.ids)


def test_what_has_no_room_is_decoded_every_time() -> None:
    data = Counted()
    kept = Kept(data, most=3 * 16)
    for _ in range(2):
        assert numbers(kept.images(range(8))) == list(range(8))
    assert data.asked == [*range(8), *range(3, 8)]
    assert numbers(Kept(data, most=0).images([4, 4, 1])) == [4, 4, 1]


def test_what_is_given_out_may_be_written_into() -> None:
    kept = Kept(Counted())
    kept.images([1, 2])[:] = 0
    assert numbers(kept.images([2, 1])) == [2, 1]
