"""Convolutions on blocked channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlas.layers.algorithm.shared.sparsity import CsrCapable


@dataclass(frozen=True, kw_only=True)
class SpatialPack(CsrCapable):
    """``spatial-pack``: channels in blocks of a vector, a tile of outputs kept in registers.

    Y. Liu et al.: Optimizing CNN Model Inference on CPUs, USENIX ATC 2019. The layout is carried
    from operator to operator. With CSR weights the lanes of a vector are tiles of the image.
    """

    name: ClassVar[str] = "spatial-pack"
