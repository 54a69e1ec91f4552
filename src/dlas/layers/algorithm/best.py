"""Convolutions each by the kernel that is fastest here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlas.layers.algorithm.shared.sparsity import CsrCapable


@dataclass(frozen=True, kw_only=True)
class Fastest(CsrCapable):
    """``best``: each convolution by the kernel measured fastest here, changes of layout counted.

    The build measures the kernels that can do each convolution, for the number of threads of the
    stack, and solves for the sum of their times and of the changes of layout between them. With
    CSR weights, sparse kernels compete where a layer has enough zeros; dense ones always do.
    """

    name: ClassVar[str] = "best"
    measures: ClassVar[bool] = True
    """Its build times kernels, so nothing runs beside it and threads are part of it."""
