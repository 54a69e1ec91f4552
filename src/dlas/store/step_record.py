"""What the artefact store knows of one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dlas.core.records import Status


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What became of one step."""

    key: str
    stage: str
    status: Status
    content: str | None
    """The hash of what it yielded, None where it failed."""
    info: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    log: str = ""
    seconds: float = 0.0
    created_at: str = ""
    """UTC, ISO 8601."""
    attempts: int = 1
    versions: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRecord:
        """Rebuild from :meth:`to_json`."""
        return cls(**{**data, "status": Status(data["status"])})
