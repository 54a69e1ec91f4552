"""Techniques -> what a key must know of them: choice, source, libraries, files."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path

from dlas.core.errors import UserError
from dlas.core.keys import Json, bytes_hash, key
from dlas.core.protocols import Technique
from dlas.core.registry.entries import find
from dlas.core.registry.parameters import called, choice


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


@cache
def place_names(layer: str, name: str) -> frozenset[str]:
    """Return which parameters of a technique are places; none of one that is not installed."""
    try:
        return _place_names(find(layer, name))
    except UserError:
        return frozenset()


def _place_names(technique: type[Technique]) -> frozenset[str]:
    names = called(technique)
    return frozenset(names.get(place, place) for place in technique.places)


def without_places(technique: Technique) -> dict[str, Json]:
    """Return the parameters but for those that are places (``technique.places``)."""
    left_out = _place_names(type(technique))
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
