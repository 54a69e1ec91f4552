"""No optimization: the network as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dlas.core.protocols import Network, Optimization, Optimized, Samples


@dataclass(frozen=True, kw_only=True)
class NoOptimization(Optimization):
    """The network as it is."""

    name: ClassVar[str] = "none"
    changes_nothing: ClassVar[bool] = True

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return the given network itself."""
        return Optimized(network)
