"""The arguments of a child's job: JSON in, a dataclass of the job's own out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import (
    Algorithm,
    Dataset,
    HardwareTechnique,
    Model,
    Optimization,
    Software,
)
from dlas.core.records import MeasureSettings
from dlas.core.stack import Choice

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

JobArgs = Mapping[str, Json]
"""What a job is called with, as it stands in the job's file."""

_FROM_JSON: Mapping[object, Callable[[Any], object]] = {
    Path: Path,
    Choice: Choice.from_json,
    Dataset: registry.dataset,
    Model: registry.model,
    Optimization: registry.optimization,
    Algorithm: registry.algorithm,
    Software: registry.software,
    HardwareTechnique: registry.hardware,
    MeasureSettings: MeasureSettings.model_validate,
}


@dataclass(frozen=True, slots=True)
class Launched:
    """How the process of a job came to be (the worker says so to every job)."""

    launch: str
    """``fork`` or ``exec``."""
    import_s: float
    """Seconds that the imports of its runtime took."""


def read_args(kind: type[T], args: JobArgs) -> T:
    """Return a job's arguments as a dataclass: each field from the JSON entry of its name.

    A technique comes from the JSON of its choice, a path from its text, a dataclass from its own
    fields; anything else is taken as it is. Entries without a field are left out.
    """
    kinds = get_type_hints(kind)
    named = {f.name: _value(kinds[f.name], args[f.name]) for f in fields(kind) if f.name in args}
    return kind(**named)


def _value(kind: object, value: Json) -> object:
    if value is None:
        return None
    for each in get_args(kind) or (kind,):  # of ``Path | None``: Path
        if each in _FROM_JSON:
            return _FROM_JSON[each](value)
        if isinstance(each, type) and is_dataclass(each) and isinstance(value, dict):
            return read_args(each, value)
    return value
