"""Files of weights that a study names and that are not there, and how to make them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlas.core import registry
from dlas.core.errors import DlasError
from dlas.core.protocols import Technique, Techniques
from dlas.study.source import flow

TRAINED = ".safetensors"
"""What ``dlas train`` writes."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """One file of weights that is missing."""

    file: str
    """Seen from the study's folder."""
    cells: int
    """How many stacks that no rule refuses need it."""
    train: str
    """The command that makes it, in the study's folder; empty: dlas cannot train it."""


def weights_file(techniques: Techniques) -> Path | None:
    """Return the file of a network's weights, there or not; None: it names none.

    Where a model cannot say it, a run says what is wrong.
    """
    try:
        return techniques.model.weights(techniques.dataset)
    except (DlasError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def missing_weights(techniques: Techniques) -> Path | None:
    """Return the file of a network's weights where it is missing."""
    file = weights_file(techniques)
    return None if file is None or file.is_file() else file


def lacking(stacks: Iterable[Techniques]) -> list[Lacking]:
    """Return the files of weights that stacks need and that are missing, in their order."""
    found: dict[Path, list[Techniques]] = {}
    for techniques in stacks:
        file = missing_weights(techniques)
        if file is not None:
            found.setdefault(file, []).append(techniques)
    return [Lacking(str(file), len(need), _command(need[0], file)) for file, need in found.items()]


def _command(techniques: Techniques, file: Path) -> str:
    if file.suffix != TRAINED or techniques.model.form != "torch":
        return ""
    if not techniques.dataset.labelled:
        return ""
    words = [_written(techniques.model), _written(techniques.dataset)]
    return shlex.join(["dlas", "train", *words, "--out", str(file)])


def _written(technique: Technique) -> str:
    """Return a technique as a study file has it, but for its weights: it starts from random ones.

    Places of a data set stay: that is where its images are.
    """
    made = registry.choice(technique)
    names = set(made.shown)
    if technique.layer == "model":
        names &= registry.without_places(technique).keys()
    params = {name: made.params[name] for name in made.params if name in names}
    if not params:
        return made.name
    return f"{made.name}: {flow(params)}"
