"""Convolutions as matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlas.layers.algorithm.shared.sparsity import CsrCapable


@dataclass(frozen=True, kw_only=True)
class Gemm(CsrCapable):
    """``gemm``: patches are copied into a matrix (im2col), which the filters are multiplied by.

    K. Chellapilla, S. Puri, P. Simard: High Performance Convolutional Neural Networks for Document
    Processing, IWFHR 2006. With CSR weights: a sparse matrix times the matrix of patches.
    """

    name: ClassVar[str] = "gemm"
