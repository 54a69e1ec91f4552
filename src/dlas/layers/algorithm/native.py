"""The runtime's own kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dlas.core.protocols import Algorithm


@dataclass(frozen=True, kw_only=True)
class Native(Algorithm):
    """Whatever kernels the runtime chooses by itself."""

    name: ClassVar[str] = "native"
    chooses: ClassVar[bool] = False
    """It names no kernel for any operator, so it stands with every runtime."""

    def kernel(self, operator: Any, target: str) -> str | None:
        """Return None: the choice is the runtime's."""
        return None
