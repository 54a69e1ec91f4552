"""What the artefact store knows of one step."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from dlas.core.records import Status
from dlas.store.rows import JsonObject


def now() -> str:
    """Return the time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What became of one step."""

    key: str
    stage: str
    status: Status
    content: str | None
    """The hash of what it yielded, None where it failed."""
    info: JsonObject = field(default_factory=dict)
    reason: str = ""
    log: str = ""
    seconds: float = 0.0
    created_at: str = ""
    """UTC, ISO 8601."""
    attempts: int = 1
    versions: JsonObject = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return a JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: JsonObject) -> StepRecord:
        """Rebuild from :meth:`to_json`."""
        return cls(**{**data, "status": Status(data["status"])})
