"""Entry points -> classes of techniques, each with a reason where it cannot run here."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from dlas.core.errors import UnknownName, UserError, near
from dlas.core.protocols import (
    Algorithm,
    Dataset,
    HardwareTechnique,
    Model,
    Optimization,
    Refusal,
    Software,
    Technique,
    unavailable,
)

T = TypeVar("T")
BASES: dict[str, type[Technique]] = {
    "dataset": Dataset,
    "model": Model,
    "optimization": Optimization,
    "algorithm": Algorithm,
    "software": Software,
    "hardware": HardwareTechnique,
}


@cache
def installed(layer: str) -> dict[str, EntryPoint]:
    """Return the entry points of a layer by name, whatever package brings them."""
    return {entry.name: entry for entry in entry_points(group=f"dlas.{layer}")}


def names(layer: str) -> tuple[str, ...]:
    """Return the names of all techniques of a layer, sorted."""
    return tuple(sorted(installed(layer)))


@cache
def find(layer: str, name: str) -> type[Technique]:
    """Return the technique registered under a name.

    Raises:
        UnknownName: nothing is registered under it.
        UserError: its module cannot be imported, or what it names is no technique of the layer.
    """
    base = BASES[layer]
    return load(f"{layer} technique", installed(layer), name, base, f"protocols.{base.__name__}")


def load(
    kind: str, entries: Mapping[str, EntryPoint], name: str, base: type[T], called: str
) -> type[T]:
    """Return the class that an entry point of some kind names.

    Args:
        kind: what it is, for messages.
        entries: what is installed, by name.
        name: the name asked for.
        base: what it must be a subclass of.
        called: how authors of plug-ins import ``base``, below ``dlas``.

    Raises:
        UnknownName: nothing is registered under the name.
        UserError: its module cannot be imported, or what it names is no such class.
    """
    if name not in entries:
        raise UnknownName(
            f"no {kind} is called {name!r}.{near(name, entries)} "
            f"Known: {', '.join(sorted(entries)) or 'none'}."
        )
    entry = entries[name]
    try:
        found = entry.load()
    except Exception as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        raise UserError(
            f"{kind} {name!r} of {package} cannot be loaded from {entry.value}: "
            f"{type(error).__name__}: {error}. Mend or uninstall {package}."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"{kind} {name!r}: {entry.value} is not a subclass of dlas.{called}.")
    return found


def missing(technique: type[Technique], modules: Iterable[str] | None = None) -> Refusal | None:
    """Return why a technique cannot run here: modules that are not installed.

    By default those that it requires whatever its parameters.
    """
    needed = technique.requires if modules is None else modules
    absent = [m for m in dict.fromkeys(needed) if not importable(m)]
    if not absent:
        return None
    hint = f"pip install 'dlas[{technique.extra}]'" if technique.extra else "install them"
    return unavailable(f"{technique.name} needs {', '.join(absent)}: not installed; {hint}")


@cache
def importable(module: str) -> bool:
    """Return whether a module is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
