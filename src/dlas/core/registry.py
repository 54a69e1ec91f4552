"""Entry points -> techniques: lazy, loud, with a reason for what is unavailable.

Every technique, ours too, is found through the entry-point group of its layer (``dlas.dataset``,
``dlas.model``, ...). A name nothing is registered under is an error with near names; a technique
whose libraries are not installed stays in the catalogue with the reason.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, cast, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from dlas.core.errors import UnknownName, UserError, near
from dlas.core.keys import Json, bytes_hash, key
from dlas.core.protocols import (
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
from dlas.core.stack import LAYERS, Choice, Stack

BASES: dict[str, type[Technique]] = {
    "dataset": Dataset,
    "model": Model,
    "optimization": Optimization,
    "algorithm": Algorithm,
    "software": Software,
    "hardware": HardwareTechnique,
}


@cache
def _entries(layer: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"dlas.{layer}")}


def names(layer: str) -> tuple[str, ...]:
    """Return the names of all techniques of a layer, sorted."""
    return tuple(sorted(_entries(layer)))


@cache
def find(layer: str, name: str) -> type[Technique]:
    """Return the technique registered under a name.

    Raises:
        UnknownName: nothing is registered under it.
        UserError: its module cannot be imported, or what it names is no technique of the layer.
    """
    entries = _entries(layer)
    if name not in entries:
        raise UnknownName(
            f"no {layer} technique is called {name!r}.{near(name, entries)} "
            f"Known: {', '.join(sorted(entries)) or 'none'}."
        )
    entry = entries[name]
    try:
        found = entry.load()
    except Exception as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        raise UserError(
            f"{layer} technique {name!r} of {package} cannot be loaded from {entry.value}: "
            f"{type(error).__name__}: {error}. Mend or uninstall {package}."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, BASES[layer])):
        raise UserError(
            f"{layer} technique {name!r}: {entry.value} is not a subclass of "
            f"dlas.protocols.{BASES[layer].__name__}."
        )
    return found


def missing(technique: type[Technique]) -> Refusal | None:
    """Return why a technique cannot run here: the modules it requires that are not installed."""
    absent = [m for m in technique.requires if not _importable(m)]
    if not absent:
        return None
    hint = f"pip install 'dlas[{technique.extra}]'" if technique.extra else "install them"
    return unavailable(f"{technique.name} needs {', '.join(absent)}: not installed; {hint}")


@cache
def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


# ---------------------------------------------------------------- parameters


def _adapter(technique: type[Technique]) -> TypeAdapter[Technique]:
    hashable: Any = technique  # mypy takes a frozen dataclass's own __hash__ for its class's
    return _made_adapter(hashable)


@cache
def _made_adapter(technique: Any) -> TypeAdapter[Technique]:
    if "__pydantic_config__" not in technique.__dict__:
        config = ConfigDict(extra="forbid", strict=True)
        technique.__pydantic_config__ = config
    return TypeAdapter(technique)


def fields(technique: type[Technique]) -> dict[str, Any]:
    """Return ``{parameter: type}`` of a technique, in the order of definition."""
    hints = get_type_hints(technique, include_extras=False)
    called = _called(technique)
    return {called[f.name]: hints[f.name] for f in dataclasses.fields(technique) if f.init}


def _called(technique: type[Technique]) -> dict[str, str]:
    """Return the parameter that each field is: its own name, or its alias if that is taken."""
    hashable: Any = technique
    return _found_called(hashable)


@cache
def _found_called(technique: Any) -> dict[str, str]:
    hints = get_type_hints(technique, include_extras=True)
    called = {}
    for item in dataclasses.fields(technique):
        marks = getattr(hints[item.name], "__metadata__", ())
        aliases = [mark.alias for mark in marks if isinstance(mark, FieldInfo) and mark.alias]
        called[item.name] = aliases[0] if aliases else item.name
    return called


def takes_list(technique: type[Technique], parameter: str) -> bool:
    """Return whether a parameter's own type is a list or tuple (a list then does not expand)."""
    kind = fields(technique).get(parameter)
    return get_origin(kind) in (list, tuple) or kind in (list, tuple)


def _sentence(label: str, known: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    place = ".".join(str(p) for p in error["loc"])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        allowed = ", ".join(known) or "none"
        return f"{label} has no parameter {place!r}.{near(place, known)} Parameters: {allowed}."
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{label} needs the parameter {place!r}."
    return f"{label}.{place}: {error['msg']}, got {json.dumps(error['input'], default=str)}"


def make(layer: str, name: str, params: Mapping[str, Any] | None = None) -> Technique:
    """Return a technique with checked parameters.

    Raises:
        UserError: an unknown name, an unknown parameter or a bad value: all problems at once.
    """
    technique = find(layer, name)
    try:
        text = json.dumps(dict(params or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: parameters must be JSON: {error}") from error
    try:
        return _adapter(technique).validate_json(text)
    except ValidationError as error:
        known = fields(technique)
        raise UserError([_sentence(name, known, dict(e)) for e in error.errors()]) from error


def choice(technique: Technique) -> Choice:
    """Return the choice that a technique is."""
    cls = type(technique)
    params: dict[str, Json] = json.loads(_adapter(cls).dump_json(technique, by_alias=True))
    called = _called(cls)
    shown = []
    for item in dataclasses.fields(cls):
        default: Any = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if default is dataclasses.MISSING or getattr(technique, item.name) != default:
            shown.append(called[item.name])
    return Choice(cls.name, params, tuple(shown))


def revive(layer: str, made: Choice) -> Technique:
    """Return the technique of a choice."""
    return make(layer, made.name, made.params)


def resolve(stack: Stack) -> Techniques:
    """Return a stack as live techniques."""

    def one(layer: str) -> Any:
        return revive(layer, stack.layer(layer)[0])

    steps = tuple(cast(Optimization, revive("optimization", c)) for c in stack.optimization)
    return Techniques(
        one("dataset"), one("model"), steps, one("algorithm"), one("software"), one("hardware")
    )


def refusal(techniques: Techniques) -> Refusal | None:
    """Return why a stack cannot run here: rules first, then what is not installed or present.

    A reason that holds for any implementation comes before one of this machine.
    """
    said = [r for t in techniques.all() if (r := t.why_not(techniques))]
    said += [r] if (r := techniques.software.other_type(techniques)) else []
    said += [r for t in techniques.all() if not _elsewhere(t) and (r := missing(type(t)))]
    if absent := techniques.hardware.missing():
        said.append(unavailable(absent))
    return min(said, key=lambda r: r.status != "impossible") if said else None


def _elsewhere(technique: Technique) -> bool:
    return bool(getattr(technique, "python", ""))


# ---------------------------------------------------------------- versions


def version(technique: type[Technique]) -> str:
    """Return the version of a technique: the hash of its source and of its ``sources``."""
    hashes = {technique.__module__: _source_hash(technique.__module__)}
    for module in technique.sources:
        hashes[module] = _source_hash(module)
    return key("version", hashes)[:16]


def source_version(module: str) -> str:
    """Return the hash of a module's source (of a package's, all of it)."""
    return _source_hash(module)[:16]


@cache
def _source_hash(module: str) -> str:
    """Hash one module's file, or every Python file of a package (without importing either)."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"the source of module {module!r} cannot be found: is it installed?")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return bytes_hash(origin.read_bytes())
    files = sorted(origin.parent.rglob("*.py"))
    return key(
        {f.relative_to(origin.parent).as_posix(): bytes_hash(f.read_bytes()) for f in files}
    )


@cache
def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution, ``absent`` where there is none."""
    try:
        return distribution_version(distribution)
    except PackageNotFoundError:
        return "absent"


def without_places(technique: Technique) -> dict[str, Json]:
    """Return the parameters but for those that are places (``technique.places``)."""
    called = _called(type(technique))
    left_out = {called.get(place, place) for place in technique.places}
    return {k: v for k, v in choice(technique).params.items() if k not in left_out}


def identity(technique: Technique, versions: Mapping[str, str] | None = None) -> Json:
    """Return all that a step's key must know of a technique: choice, version, libraries, files.

    Parameters that are places (``technique.places``) are left out: what lies there counts, by
    ``fingerprint()``. ``versions`` are the distributions of another interpreter.
    """
    cls = type(technique)
    params = without_places(technique)
    libraries: dict[str, Json] = {
        d: installed_version(d) if versions is None else versions.get(d, "absent")
        for d in cls.libraries
    }
    if versions is not None:
        libraries["python"] = versions["python"]
    return [cls.layer, cls.name, params, version(cls), libraries, technique.fingerprint()]


def catalogue(layer: str | None = None) -> list[dict[str, Any]]:
    """Return a row per technique: layer, name, one line, parameters, why it is unavailable."""
    rows: list[dict[str, Any]] = []
    for each in LAYERS if layer is None else (layer,):
        for name in names(each):
            try:
                technique = find(each, name)
            except UserError as error:
                rows.append(
                    {
                        "layer": each,
                        "name": name,
                        "summary": "",
                        "parameters": {},
                        "unavailable": str(error),
                    }
                )
                continue
            absent = missing(technique)
            summary = (inspect.getdoc(technique) or "").partition("\n")[0]
            rows.append(
                {
                    "layer": each,
                    "name": name,
                    "summary": summary,
                    "parameters": _parameters(technique),
                    "unavailable": absent.reason if absent else None,
                }
            )
    return rows


def _parameters(technique: type[Technique]) -> dict[str, Any]:
    schema = _adapter(technique).json_schema()
    described: dict[str, Any] = schema.get("properties", {})
    return described
