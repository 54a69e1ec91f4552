"""What the artefact store knows of one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from dlas.core.records import Status
from dlas.store.rows import JsonObject

STORED_BYTES = "stored_bytes"
"""The name under which a step's record says how large its artefact is, also once it is gone."""


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

    @property
    def needs(self) -> Mapping[str, str | None] | None:
        """The contents of what it was given, by the argument's name; None: it is not known."""
        needs: Mapping[str, str | None] | None = self.info.get("needs")
        return needs

    @property
    def stored_bytes(self) -> int:
        """The bytes of what it yielded; 0: it is not known."""
        size: int = self.info.get(STORED_BYTES, 0)
        return size

    def evaluated(self, samples: int) -> bool:
        """Return whether an evaluation saw so many samples, or all that there are."""
        seen, there = int(self.info["n"]), int(self.info["of"])
        return seen >= min(samples, there)

    def to_json(self) -> JsonObject:
        """Return a JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: JsonObject) -> StepRecord:
        """Rebuild from :meth:`to_json`."""
        return cls(**{**data, "status": Status(data["status"])})
