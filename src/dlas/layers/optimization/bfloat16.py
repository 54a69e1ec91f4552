"""Weights and, where the runtime can, arithmetic in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlas.core.protocols import (
    Network,
    Optimization,
    Optimized,
    Precision,
    Refusal,
    Samples,
    Techniques,
)
from dlas.layers.optimization.shared.narrow import rounded
from dlas.layers.optimization.shared.refusals import refuse_second_precision


@dataclass(frozen=True, kw_only=True)
class BFloat16(Optimization):
    """bfloat16: 8 bits of exponent as float32 has, 7 of fraction.

    The weights are rounded here, once for all runtimes, and stay in a float32 module, so that the
    reference shows what the rounding costs; the runtime is asked for the precision.
    """

    name: ClassVar[str] = "bfloat16"
    precision: ClassVar[Precision | None] = "bfloat16"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.optimization.shared.narrow",
        "dlas.layers.optimization.shared.onnx_source",
        "dlas.networks.onnx_file",
        "dlas.networks.export",
    )

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse a second precision in one pipeline."""
        return refuse_second_precision(self, stack)

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return the network with rounded weights; the given one is not changed."""
        return rounded(network, "bfloat16", folder)
