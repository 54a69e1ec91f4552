"""How an image batch lies in memory: channel blocks and a halo of zeros.

A batch [N, C, H, W] is stored as [N, ceil(C/block), top+H+bottom, left+W+right, block]. Channels
past C and the halo hold zeros, so that a convolution reads its padding in place. NCHW is the
layout with block 1 and no halo.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Halo = tuple[int, int, int, int]
Shape4 = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layout:
    """Channel block and halo (top, left, bottom, right, in pixels)."""

    block: int = 1
    halo: Halo = (0, 0, 0, 0)

    def shape(self, nchw: Shape4) -> tuple[int, int, int, int, int]:
        """Five-dimensional buffer shape of a batch [N, C, H, W]."""
        n, c, h, w = nchw
        top, left, bottom, right = self.halo
        return (n, -(-c // self.block), top + h + bottom, left + w + right, self.block)

    def covers(self, other: "Layout") -> bool:
        """Whether a reader that needs `other` can read this layout in place."""
        return self.block == other.block and all(
            a >= b for a, b in zip(self.halo, other.halo, strict=True)
        )

    def text(self) -> str:
        """Short name: NCHW, NCHW16c, NCHW16c+1,1,1,1."""
        name = "NCHW" if self.block == 1 else f"NCHW{self.block}c"
        return name if not any(self.halo) else name + "+" + ",".join(map(str, self.halo))


NCHW = Layout()


def widest(halos: list[Halo]) -> Halo:
    """Smallest halo that covers all of `halos`."""
    top, left, bottom, right = (max(sides) for sides in zip((0, 0, 0, 0), *halos, strict=True))
    return (top, left, bottom, right)


def pack(x: Array, layout: Layout) -> Array:
    """Copy an NCHW array into `layout`, zeros around it."""
    n, c, h, w = x.shape
    out = np.zeros(layout.shape((n, c, h, w)), dtype=x.dtype)
    top, left = layout.halo[:2]
    padded = np.zeros((n, out.shape[1] * layout.block, h, w), dtype=x.dtype)
    padded[:, :c] = x
    blocks = padded.reshape(n, out.shape[1], layout.block, h, w)
    out[:, :, top : top + h, left : left + w] = blocks.transpose(0, 1, 3, 4, 2)
    return out


def unpack(x: Array, layout: Layout, nchw: Shape4) -> Array:
    """Inverse of `pack`."""
    n, c, h, w = nchw
    top, left = layout.halo[:2]
    inner = x.reshape(layout.shape(nchw))[:, :, top : top + h, left : left + w]
    channels = inner.transpose(0, 1, 4, 2, 3).reshape(n, -1, h, w)
    return np.ascontiguousarray(channels[:, :c])
