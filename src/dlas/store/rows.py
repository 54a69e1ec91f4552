"""The rows of the results: frozen values, one class per table.

``PRIMARY`` of each class names the fields that make two rows the same row. Times are UTC in ISO
8601; ``value``, ``info`` and the like are JSON; units stand in the names.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from dlas.core.keys import canonical
from dlas.core.records import Status

JsonObject = dict[str, Any]
"""A JSON object, as ``json.loads`` returns it."""
Stored = str | int | float | bytes | None
"""What the database holds of a field."""
Hints = Mapping[str, object]
"""The types of a row's fields, by name."""


class Row:
    """What all rows have: a table, and what makes two rows the same row."""

    __slots__ = ()

    TABLE: ClassVar[str]
    PRIMARY: ClassVar[tuple[str, ...]]


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class HostRow(Row):
    """A machine that measured."""

    TABLE: ClassVar[str] = "hosts"
    PRIMARY: ClassVar[tuple[str, ...]] = ("host",)

    host: str
    description: JsonObject


@dataclass(frozen=True, slots=True)
class SessionRow(Row):
    """One ``dlas run``."""

    TABLE: ClassVar[str] = "sessions"
    PRIMARY: ClassVar[tuple[str, ...]] = ("session",)

    session: str
    study: str
    host: str
    started_at: str
    ended_at: str | None = None
    """None while it runs, or where it was killed."""
    command: str = ""
    dlas_version: str = ""
    settings: JsonObject = field(default_factory=dict)
    versions: JsonObject = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class CellRow(Row):
    """One stack of one study: what was asked, and what became of it."""

    TABLE: ClassVar[str] = "cells"
    PRIMARY: ClassVar[tuple[str, ...]] = ("study", "cell")

    study: str
    cell: str
    position: int
    stack: JsonObject
    """``Stack.to_json()``."""
    dataset: str
    model: str
    optimization: str
    algorithm: str
    software: str
    hardware: str
    status: Status = Status.PENDING
    stage: str = ""
    reason: str = ""
    log: str = ""
    dropped: str = ""
    """When a run found that the study has it no longer; empty: it has it."""


@dataclass(frozen=True, slots=True)
class FactRow(Row):
    """What is known of a cell on a host apart from its latency: one row per kind of fact."""

    TABLE: ClassVar[str] = "facts"
    PRIMARY: ClassVar[tuple[str, ...]] = ("cell", "host", "kind")

    cell: str
    host: str
    kind: str
    """``build``, ``evaluate``, ``memory``, ``observe``, ..."""
    key: str
    content: str | None
    status: Status
    stage: str = ""
    reason: str = ""
    log: str = ""
    value: JsonObject = field(default_factory=dict)
    session: str = ""
    created_at: str = ""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class RoundRow(Row):
    """One measurement of one cell in one round; ``control`` 0 is the cell, 1 its A/A double."""

    TABLE: ClassVar[str] = "rounds"
    PRIMARY: ClassVar[tuple[str, ...]] = ("cell", "host", "control", "round")

    cell: str
    host: str
    control: int
    round: int
    key: str
    content: str | None
    status: Status
    stage: str = ""
    reason: str = ""
    log: str = ""
    value: JsonObject = field(default_factory=dict)
    """``records.Round`` as JSON, without its samples."""
    samples: tuple[float, ...] = ()
    """Seconds of each timed inference, in order."""
    session: str = ""
    position: int = 0
    """Place in the shuffled order of the round."""
    created_at: str = ""
    overhead_s: float | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class SentinelRow(Row):
    """One timing of the sentinel: how fast the machine was at that moment."""

    TABLE: ClassVar[str] = "sentinels"
    PRIMARY: ClassVar[tuple[str, ...]] = ("session", "round", "position", "created_at")

    session: str
    round: int
    position: int
    seconds: float
    created_at: str


@dataclass(frozen=True, slots=True)
class CeilingRow(Row):
    """One reading of what a machine can do at most, taken before or after the rounds of a run."""

    TABLE: ClassVar[str] = "ceilings"
    PRIMARY: ClassVar[tuple[str, ...]] = (
        "session", "kind", "hardware", "software", "dataset", "moment",
    )  # fmt: skip

    session: str
    host: str
    kind: str
    """``arithmetic`` (GFLOP/s of float32; ``arithmetic int8`` and so on of narrow types),
    ``memory`` (GB/s) or ``overhead`` (ms of one operator)."""
    hardware: str
    """The choice at the hardware layer, as text."""
    software: str
    """The choice whose overhead it is; empty for the other kinds, as is ``dataset``."""
    dataset: str
    moment: str
    """``start`` or ``end`` of the run."""
    threads: int
    isa: str
    value: float | None = None
    """None: not measured, for ``reason``."""
    reason: str = ""
    method: str = ""
    detail: JsonObject = field(default_factory=dict)
    created_at: str = ""


ROWS: tuple[type[Row], ...] = (
    HostRow, SessionRow, CellRow, FactRow, RoundRow, SentinelRow, CeilingRow,
)  # fmt: skip


def _types(kind: type[Row]) -> Hints:
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # every row is a dataclass
    return {name: hints[name] for name in names}


_TYPES = {kind: _types(kind) for kind in ROWS}


def types(kind: type[Row]) -> Hints:
    """Return ``{field: type}`` of a row class, in order."""
    return _TYPES[kind]


def encode(row: Row) -> dict[str, Stored]:
    """Return a row as the database holds it: JSON as text, samples as float64 little-endian.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value is not of the field's type, or not JSON.
    """
    kind = type(row)
    return {
        name: _encode(f"{kind.__name__}.{name}", hint, getattr(row, name))
        for name, hint in types(kind).items()
    }


def decode(kind: type[R], stored: Mapping[str, Any]) -> R:
    """Return the row that :func:`encode` made ``stored`` of."""
    values = dict(stored)
    for name, hint in types(kind).items():
        if hint == JsonObject:
            values[name] = json.loads(values[name])
        elif hint == tuple[float, ...]:
            data = values[name]
            values[name] = struct.unpack(f"<{len(data) // 8}d", data)
        elif hint is Status:
            values[name] = Status(values[name])
    return kind(**values)


def _encode(label: str, hint: object, value: Any) -> Stored:
    if hint == JsonObject:
        return _json_text(label, value)
    if hint == tuple[float, ...]:
        if not all(math.isfinite(v) for v in value):
            raise ValueError(f"{label} holds a number that is not finite")
        return struct.pack(f"<{len(value)}d", *value)
    if hint is Status:
        return Status(value).value
    if value is None and hint in (str | None, float | None):
        return None
    return _scalar(label, hint, value)


def _json_text(label: str, value: object) -> str:
    if not isinstance(value, dict):
        raise TypeError(f"{label} must be a dict, got {value!r}")
    try:
        return canonical(value)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{label}: {error}") from error


def _scalar(label: str, hint: object, value: Any) -> Stored:
    if hint in (float, float | None):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{label} must be finite, got {value!r}")
        return number
    if hint is int:
        if not isinstance(value, int):
            raise TypeError(f"{label} must be a whole number, got {value!r}")
        return int(value)
    if not isinstance(value, str):
        raise TypeError(f"{label} must be text, got {value!r}")
    return str(value)
