"""What the artefact store knows of one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dlas.core.errors import StorageError
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
    generation: int = 0
    """Which record of the step it is; in its name, not in it."""

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
        said = asdict(self)
        del said["generation"]
        return said

    @classmethod
    def from_json(cls, data: JsonObject) -> StepRecord:
        """Rebuild from :meth:`to_json`."""
        return cls(**{**data, "status": Status(data["status"])})


def forgotten(key: str) -> JsonObject:
    """Return what a record says of a step that is to count as never done."""
    return {"key": key, "forgotten": True}


def read_record(key: str, number: int, text: str, place: Path | str) -> StepRecord | None:
    """Return the record that a text holds as a step's generation; None: the step is forgotten.

    Raises:
        StorageError: it is none, or another step's; names the place.
    """
    try:
        said = json.loads(text)
        if said["key"] != key:
            raise ValueError(f"it is of the step {said['key']!r}")
        if said == forgotten(key):
            return None
        record = StepRecord.from_json({**said, "generation": number})
        _require(record)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        older = f"it and what else is there of {key}" if number else "it"
        raise StorageError(
            f"the step record {place} is damaged ({error or type(error).__name__}): remove "
            f"{older}, then run again; the step will be done anew."
        ) from error
    return record


def _require(record: StepRecord) -> None:
    """Refuse what no dlas writes, since what a record says becomes paths and sums.

    Raises:
        ValueError: says what it is.
    """
    content = record.content
    if content is not None and not (
        isinstance(content, str) and len(content) == 64 and set(content) <= set("0123456789abcdef")
    ):
        raise ValueError(f"{content!r} is no hash of an artefact")
    if (record.status is Status.COMPLETE) != (content is not None):
        raise ValueError(f"it is {record.status} and its artefact is {content!r}")
    if not isinstance(record.info, dict):
        raise ValueError("its info is no mapping")
