"""The samplers that are installed, by name: entry points of ``dlas.sampler``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from dlas.core.errors import UserError
from dlas.core.registry import importable, load
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
    return load("sampler", _installed(), name, Sampler, "sampler.Sampler")
