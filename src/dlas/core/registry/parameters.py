"""Parameters -> techniques with checked parameters, and back: choices, stacks, refusals."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Collection, Mapping
from typing import TypedDict, TypeVar, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dlas.core.errors import UserError, near
from dlas.core.keys import Json
from dlas.core.protocols import (
    LABEL,
    Algorithm,
    Dataset,
    HardwareTechnique,
    Model,
    Optimization,
    Refusal,
    Software,
    Technique,
    Techniques,
    unavailable,
)
from dlas.core.registry import entries
from dlas.core.stack import LAYERS, Choice, Stack

T = TypeVar("T", bound=Technique)
LABELS = "DLAS_LABELS"
"""The environment's name for the labels of this machine, with commas."""
A_LABEL = (
    "a label is one word of letters, digits, '.', '_' and '-', at most 63, the first a letter or "
    "digit"
)
# A memo each and no ``cache``: mypy takes a frozen dataclass's own __hash__ for its class's.
_ADAPTERS: dict[type[Technique], TypeAdapter[Technique]] = {}
_CALLED: dict[type[Technique], Mapping[str, str]] = {}


def _adapter(technique: type[Technique]) -> TypeAdapter[Technique]:
    if technique not in _ADAPTERS:
        if "__pydantic_config__" not in technique.__dict__:
            config = ConfigDict(extra="forbid", strict=True)
            technique.__pydantic_config__ = config  # type: ignore[attr-defined]
        _ADAPTERS[technique] = TypeAdapter(technique)
    return _ADAPTERS[technique]


def fields(technique: type[Technique]) -> dict[str, object]:
    """Return ``{parameter: type}`` of a technique, in the order of definition."""
    hints = get_type_hints(technique, include_extras=False)
    names = called(technique)
    return {names[f.name]: hints[f.name] for f in dataclasses.fields(technique) if f.init}


def called(technique: type[Technique]) -> Mapping[str, str]:
    """Return the parameter that each field is: its own name, or its alias if that is taken."""
    if technique not in _CALLED:
        _CALLED[technique] = _found_called(technique)
    return _CALLED[technique]


def _found_called(technique: type[Technique]) -> dict[str, str]:
    hints = get_type_hints(technique, include_extras=True)
    found = {}
    for item in dataclasses.fields(technique):
        marks = getattr(hints[item.name], "__metadata__", ())
        aliases = [mark.alias for mark in marks if isinstance(mark, FieldInfo) and mark.alias]
        found[item.name] = aliases[0] if aliases else item.name
    return found


def takes_list(technique: type[Technique], parameter: str) -> bool:
    """Return whether a parameter's own type is a list or tuple (a list then does not expand)."""
    kind = fields(technique).get(parameter)
    return get_origin(kind) in (list, tuple) or kind in (list, tuple)


def _sentence(label: str, known: Collection[str], error: ErrorDetails) -> str:
    place = ".".join(str(p) for p in error["loc"])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        allowed = ", ".join(known) or "none"
        return f"{label} has no parameter {place!r}.{near(place, known)} Parameters: {allowed}."
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{label} needs the parameter {place!r}."
    if error.get("ctx", {}).get("pattern") == LABEL:
        return f"{label}.{place}: {A_LABEL}, got {json.dumps(error['input'])}"
    return f"{label}.{place}: {error['msg']}, got {json.dumps(error['input'], default=str)}"


def make(layer: str, name: str, params: Mapping[str, object] | None = None) -> Technique:
    """Return a technique with checked parameters.

    Raises:
        UserError: an unknown name, an unknown parameter or a bad value: all problems at once.
    """
    technique = entries.find(layer, name)
    params = _whole(technique, params)
    try:
        text = json.dumps(dict(params or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: parameters must be JSON: {error}") from error
    try:
        return _adapter(technique).validate_json(text)
    except ValidationError as error:
        known = fields(technique)
        raise UserError([_sentence(name, known, e) for e in error.errors()]) from error


def _whole(
    technique: type[Technique], params: Mapping[str, object] | None
) -> Mapping[str, object] | None:
    """Return the parameters of a technique that takes all that is written as one of them."""
    own = technique.whole
    if not own or params is None or (own in params and params.keys() <= fields(technique).keys()):
        return params
    return {own: dict(params)}


def choice(technique: Technique) -> Choice:
    """Return the choice that a technique is."""
    cls = type(technique)
    params: dict[str, Json] = json.loads(_adapter(cls).dump_json(technique, by_alias=True))
    names = called(cls)
    shown = []
    for item in dataclasses.fields(cls):
        default: object = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        written = default is dataclasses.MISSING or getattr(technique, item.name) != default
        if written and item.name not in cls.unshown:
            shown.append(names[item.name])
        if not written and item.name in cls.added:
            del params[names[item.name]]
    return Choice(cls.name, params, tuple(shown))


def revive(layer: str, made: Choice) -> Technique:
    """Return the technique of a choice."""
    return make(layer, made.name, made.params)


def _revived(base: type[T], made: Choice | Mapping[str, Json]) -> T:
    chosen = made if isinstance(made, Choice) else Choice.from_json(made)
    technique = revive(base.layer, chosen)
    if not isinstance(technique, base):
        raise UserError(f"{chosen.name!r} is no technique of the layer {base.layer}")
    return technique


def dataset(made: Choice | Mapping[str, Json]) -> Dataset:
    """Return the data set of a choice, or of a choice's JSON form."""
    return _revived(Dataset, made)


def model(made: Choice | Mapping[str, Json]) -> Model:
    """Return the model of a choice, or of a choice's JSON form."""
    return _revived(Model, made)


def optimization(made: Choice | Mapping[str, Json]) -> Optimization:
    """Return the optimization of a choice, or of a choice's JSON form."""
    return _revived(Optimization, made)


def algorithm(made: Choice | Mapping[str, Json]) -> Algorithm:
    """Return the algorithm of a choice, or of a choice's JSON form."""
    return _revived(Algorithm, made)


def software(made: Choice | Mapping[str, Json]) -> Software:
    """Return the software of a choice, or of a choice's JSON form."""
    return _revived(Software, made)


def hardware(made: Choice | Mapping[str, Json]) -> HardwareTechnique:
    """Return the hardware of a choice, or of a choice's JSON form."""
    return _revived(HardwareTechnique, made)


def resolve(stack: Stack) -> Techniques:
    """Return a stack as live techniques."""
    return Techniques(
        dataset(stack.dataset[0]),
        model(stack.model[0]),
        tuple(optimization(made) for made in stack.optimization),
        algorithm(stack.algorithm[0]),
        software(stack.software[0]),
        hardware(stack.hardware[0]),
    )


def refusal(techniques: Techniques) -> Refusal | None:
    """Return why a stack cannot run here: rules first, then what is not installed or present.

    A reason that holds for any implementation comes before one of this machine.
    """
    said = [r for t in techniques.all() if (r := t.why_not(techniques))]
    said += [r] if (r := elsewhere(techniques.hardware)) else []
    said += [r] if (r := other_type(techniques)) else []
    said += [
        r
        for t in techniques.all()
        if not _other_interpreter(t) and (r := entries.missing(type(t), t.needs()))
    ]
    if absent := techniques.hardware.missing():
        said.append(unavailable(absent))
    return min(said, key=lambda r: r.status != "impossible") if said else None


def elsewhere(hardware: HardwareTechnique) -> Refusal | None:
    """Refuse hardware of a machine with a label that this one does not carry."""
    if not hardware.on or hardware.on in labels():
        return None
    carried = f"this machine is {', '.join(sorted(labels()))}" if labels() else "this is not it"
    return unavailable(
        f"on: {hardware.on} names another machine ({carried}): `dlas workers --labels "
        f"{hardware.on}` there and `dlas run --engine dask://...` here, or {LABELS}={hardware.on} "
        "where this machine is meant"
    )


def labels() -> frozenset[str]:
    """Return the labels that this machine carries: those that ``dlas workers`` was given."""
    said = (label.strip() for label in os.environ.get(LABELS, "").split(","))
    return frozenset(label for label in said if label)


def other_type(techniques: Techniques) -> Refusal | None:
    """Refuse a type of ``cpu_decides`` that runs in another, undeclared one on this CPU.

    What was seen with a small network decides; before anybody has looked, ``expects``.
    """
    software, asked = techniques.software, techniques.asked_precision
    if asked is None or asked not in software.cpu_decides:
        return None
    if techniques.probed is not None:
        ran, how = techniques.probed.precision, "executes"
        why = "seen with a small network"
    else:
        flags = techniques.hardware.describe().get("flags", ())
        ran, how = software.expects(asked, flags), "may run"
        why = "expected of its features; `dlas run` and `dlas doctor` look"
    if ran in (None, asked, software.executes.get(asked)):
        return None
    return unavailable(f"{software.name}, asked for {asked}, {how} {ran} on this CPU ({why})")


def _other_interpreter(technique: Technique) -> bool:
    return bool(getattr(technique, "python", ""))


class CatalogueRow(TypedDict):
    """A technique as the catalogue shows it."""

    layer: str
    name: str
    summary: str
    parameters: dict[str, Json]
    unavailable: str | None


def catalogue(layer: str | None = None) -> list[CatalogueRow]:
    """Return a row per technique: layer, name, one line, parameters, why it is unavailable."""
    layers = LAYERS if layer is None else (layer,)
    return [_row(each, name) for each in layers for name in entries.names(each)]


def _row(layer: str, name: str) -> CatalogueRow:
    row = CatalogueRow(layer=layer, name=name, summary="", parameters={}, unavailable=None)
    try:
        technique = entries.find(layer, name)
    except UserError as error:
        return {**row, "unavailable": str(error)}
    absent = entries.missing(technique)
    return {
        **row,
        "summary": (inspect.getdoc(technique) or "").partition("\n")[0],
        "parameters": _adapter(technique).json_schema().get("properties", {}),
        "unavailable": absent.reason if absent else None,
    }
