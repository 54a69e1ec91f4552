"""Where intermediate tensors lie: one block of memory, shared by tensors that never meet."""

from typing import NamedTuple

from dlas.kernels.ground.arrays import ALIGNMENT


class Life(NamedTuple):
    """A buffer's size and the first and last step that touch it."""

    size_bytes: int
    first: int
    last: int


def place(lives: dict[str, Life]) -> tuple[dict[str, int], int]:
    """Return each buffer's offset and the size of the whole, in bytes.

    Largest first, each at the lowest offset where no buffer lies that lives at the same time
    (greedy by size; Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020).
    """
    offsets: dict[str, int] = {}
    total = 0
    for name, life in sorted(lives.items(), key=lambda item: (-item[1].size_bytes, item[0])):
        size = -(-life.size_bytes // ALIGNMENT) * ALIGNMENT
        taken = sorted(
            (offsets[other], offsets[other] + -(-lives[other].size_bytes // ALIGNMENT) * ALIGNMENT)
            for other in offsets
            if lives[other].first <= life.last and life.first <= lives[other].last
        )
        start = 0
        for low, high in taken:
            if start + size <= low:
                break
            start = max(start, high)
        offsets[name] = start
        total = max(total, start + size)
    return offsets, total
