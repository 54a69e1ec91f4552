"""The time, as records hold it."""

from __future__ import annotations

from datetime import UTC, datetime


def now(to: str = "milliseconds") -> str:
    """Return the time in UTC, ISO 8601, to the millisecond (or ``to="seconds"``)."""
    return datetime.now(UTC).isoformat(timespec=to)
