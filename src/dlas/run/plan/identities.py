"""What keys must know of a stack's techniques: choice, version, libraries, files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.keys import Json
from dlas.core.protocols import Software, Technique, Techniques
from dlas.core.registry import installed_version
from dlas.core.stack import Choice, Stack
from dlas.run.plan.lacking import missing_weights
from dlas.run.process.interpreters import Interpreter


@dataclass
class Identities:
    """What keys must know of the techniques of one plan; each is asked once: it hashes files."""

    without_weights: bool = False
    """Whether files of weights may be missing."""
    _said: dict[tuple[str, Choice], Json | UserError] = field(default_factory=dict)

    def of(self, made: Choice, technique: Technique) -> Json:
        """Return what keys must know of a technique.

        Raises:
            UserError: a file that it names is not there, or is not what it should be.
        """
        place = technique.layer, made
        if place not in self._said:
            try:
                self._said[place] = registry.identity(technique)
            except UserError as error:
                self._said[place] = error
        said = self._said[place]
        if isinstance(said, UserError):
            raise UserError(said.problems)
        return said

    def problems(self, stack: Stack, techniques: Techniques) -> list[str]:
        """Return what is wrong with the files that the networks of a stack are made of."""
        found: list[str] = []
        made = (*stack.dataset, *stack.model, *stack.optimization)
        for choice, technique in zip(made, techniques.all(), strict=False):
            if technique is techniques.model and self.lacks_weights(techniques):
                continue
            try:
                self.of(choice, technique)
            except UserError as error:
                found += error.problems
        return found

    def lacks_weights(self, techniques: Techniques) -> bool:
        """Return whether a stack's file of weights is missing, and may be."""
        return self.without_weights and missing_weights(techniques) is not None


def software_identity(software: Software, interpreter: Interpreter | None) -> Json:
    """Return what a key must know of a software technique.

    Another interpreter counts by its versions, not by its path.
    """
    return registry.identity(software, interpreter.versions if interpreter else None)


def versions_of(
    technique: Technique, elsewhere: Interpreter | None, also: Iterable[str] = ()
) -> dict[str, str]:
    """Return the versions of a technique's libraries, in dlas's own interpreter or another one.

    And of other distributions there. What is not there is left out.
    """
    there = {n: elsewhere.versions.get(n) if elsewhere else installed_version(n)
             for n in (*technique.libraries, *also)}  # fmt: skip
    return {name: version for name, version in there.items() if version and version != "absent"}


def built_by(techniques: Techniques, elsewhere: Interpreter | None) -> dict[str, str]:
    """Return the versions by which a stack's software builds: what quantizes and converts, too."""
    by = int8_by(techniques)
    own = versions_of(techniques.software, elsewhere, (by,) if by else ())
    return {**own, **techniques.software.built_by()}


def int8_by(techniques: Techniques) -> str:
    """Return the distribution that a build of int8 needs beside the runtime; empty: none."""
    if techniques.left_to_runtime:
        return techniques.software.quantizer
    return techniques.software.int8_passes if techniques.precision == "int8" else ""


def versioned(name: str, interpreter: Interpreter | None) -> Json:
    """Return what a key must know of a distribution: its name and version."""
    version = interpreter.versions.get(name) if interpreter else installed_version(name)
    return [name, version]
