"""What a technique adds to an exported folder: found by entry points, ours as anyone's.

The group ``dlas.export`` names for a software technique a function of the technique and the
artefact's folder that returns a :class:`Deployment`, for a data set one of the technique that
returns the names of its classes. A data set without one is exported without class names, a runtime
not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dlas.core.errors import UserError
from dlas.core.keys import Json
from dlas.core.protocols import Dataset, Software

GROUP = "dlas.export"


@dataclass(frozen=True)
class Deployment:
    """How a runtime's artefact is loaded where there is no dlas."""

    loader: str
    """The module whose source is copied: it has ``load(folder, settings, threads)``, which returns
    a function from one batch to its outputs, and imports nothing of dlas."""
    settings: Mapping[str, Json]
    """What the loader is given."""
    distributions: Sequence[str]
    """What has to be installed, beside numpy and pillow."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Other files that the loader needs, by their place in the folder."""
    system: Sequence[str] = ()
    """Debian packages that the image of a container needs."""


def deployment(software: Software, artifact: Path) -> Deployment:
    """Return how a software technique's artefact is loaded without dlas.

    Raises:
        UserError: nobody has said so for this technique.
    """
    make = _found(software.name)
    if make is None:
        known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP)))
        raise UserError(
            f"{software.name} cannot be exported: no package says how its artefacts run without "
            f"dlas (the entry point {software.name!r} of the group {GROUP}). There are: {known}."
        )
    made = make(software, artifact)
    if not isinstance(made, Deployment):
        raise UserError(f"{GROUP}: {software.name!r} must return a Deployment, got {made!r}")
    return made


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of a data set's classes by index; empty where it does not name them."""
    make = _found(dataset.name)
    names = () if make is None else make(dataset)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _found(name: str) -> Callable[..., object] | None:
    entry: EntryPoint | None = next(iter(entry_points(group=GROUP, name=name)), None)
    made: Callable[..., object] | None = None if entry is None else entry.load()
    return made
