"""The samplers that are installed, by name: entry points of ``dlas.sampler``."""

from __future__ import annotations

import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from dlas.core.errors import UnknownName, UserError, near
from dlas.core.registry import importable
from dlas.core.sampler import Sampler

GROUP = "dlas.sampler"
OWN = "dlas"
CHANCE = "random"


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """Return the names of all samplers, sorted."""
    return tuple(sorted(_installed()))


def missing(name: str) -> str | None:
    """Return why a sampler cannot be used here, or None.

    Raises:
        UnknownName: nothing is registered under the name.
        UserError: it cannot be loaded, or is no sampler.
    """
    absent = [module for module in _class(name).requires if not importable(module)]
    if not absent:
        return None
    hint = "pip install 'dlas[explore]'" if "optuna" in absent else f"pip install {absent[0]}"
    return f"the sampler {name!r} needs {', '.join(absent)}: not installed; {hint}"


def find(name: str) -> type[Sampler]:
    """Return the sampler of a name.

    Raises:
        UnknownName: nothing is registered under it.
        UserError: it cannot be loaded, or what it needs is not installed.
    """
    if reason := missing(name):
        raise UserError(reason)
    return _class(name)


def _class(name: str) -> type[Sampler]:
    entries = _installed()
    if name not in entries:
        raise UnknownName(
            f"no sampler is called {name!r}.{near(name, entries)} Known: {', '.join(names())}."
        )
    entry = entries[name]
    try:
        found = entry.load()
    except Exception as error:
        package = entry.dist.name if entry.dist else "an unknown package"
        raise UserError(
            f"sampler {name!r} of {package} cannot be loaded from {entry.value}: "
            f"{type(error).__name__}: {error}. Mend or uninstall {package}."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, Sampler)):
        raise UserError(
            f"sampler {name!r}: {entry.value} is not a subclass of dlas.sampler.Sampler."
        )
    return found
