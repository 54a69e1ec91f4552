"""A check, and what the checks of one contract share."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest import SkipTest

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import Dataset, HardwareTechnique, Model, Technique
from dlas.testing.fakes import SmallImages, SmallNet, registered

T = TypeVar("T")
Judge = Callable[["Suite"], None]


@dataclass(frozen=True)
class Problem:
    """What a suite works on: a data set and a model. Whatever the registry finds will do."""

    dataset: Dataset = field(default_factory=SmallImages)
    model: Model = field(default_factory=SmallNet)


@dataclass(frozen=True)
class Check:
    """One promise of one technique. ``str()`` is its name, calling it checks it."""

    technique: str
    """The technique, e.g. ``optimization int8``."""
    name: str
    """e.g. ``outputs-keep-their-shape-and-are-finite``."""
    promise: str
    """The promise as a sentence."""
    _judge: Judge = field(repr=False, compare=False)
    _suite: Suite = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Check the promise.

        Raises:
            AssertionError: it is broken; the text says how, with the value.
            unittest.SkipTest: it cannot be told on this machine, or is not this technique's.
        """
        self._suite.run(self.name, self._judge)


class Suite:
    """The technique that a contract looks at, and what its checks share."""

    def __init__(
        self, layer: str, name: str, parameters: Mapping[str, Json], on: Problem | None
    ) -> None:
        self.layer = layer
        self.name = name
        self.parameters = dict(parameters)
        self._on = on
        self._names: tuple[str, ...] = ()
        self._waiting: set[str] = set()
        self._made: dict[str, tuple[bool, Any]] = {}
        self._root: Path | None = None
        self._remove: Callable[[], object] = lambda: None

    def checks(self, judges: Sequence[Judge]) -> list[Check]:
        """Return a check for each judge; the first line of its docstring is the promise."""
        title = f"{self.layer} {self.name}"
        named = {judge.__name__.replace("_", "-"): judge for judge in judges}
        self._names = tuple(named)
        self._waiting = set(named)
        return [
            Check(title, name, (judge.__doc__ or "").strip().partition("\n")[0], judge, self)
            for name, judge in named.items()
        ]

    def run(self, name: str, judge: Judge) -> None:
        """Let a judge look; whatever a technique raises is a broken promise with its cause."""
        try:
            with registered(SmallImages, SmallNet):
                judge(self)
        except (AssertionError, SkipTest):
            raise
        except Exception as error:
            raise AssertionError(
                f"{self.layer} {self.name!r} raised {type(error).__name__}: {error}"
            ) from error
        finally:
            self._waiting.discard(name)
            if not self._waiting:
                self.close()

    def demand(self, kept: object, sentence: str) -> None:
        """Raise an AssertionError with a sentence unless a promise is kept."""
        if not kept:
            raise AssertionError(f"{self.layer} {self.name!r}: {sentence}")

    # ------------------------------------------------------------ what is shared

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned when it was first asked for; or raise what it raised."""
        if name not in self._made:
            try:
                self._made[name] = (True, make())
            except Exception as error:
                self._made[name] = (False, error)
        good, value = self._made[name]
        if not good:
            raise value
        made: T = value
        return made

    def folder(self, name: str) -> Path:
        """Return a new empty folder of the suite; it is removed with the suite's last check."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="dlas-testing-"))
            # A suite of which not all checks are called is removed with the suite, or at exit.
            self._remove = weakref.finalize(self, _remove, self._root, os.getpid())
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._root))

    def close(self) -> None:
        """Forget what was made and remove its folders; a check called again makes it anew."""
        self._made.clear()
        self._remove()
        self._root = None
        self._waiting = set(self._names)

    # ------------------------------------------------------------ the technique

    @property
    def cls(self) -> type[Technique]:
        """The technique's class."""
        return registry.find(self.layer, self.name)

    @property
    def technique(self) -> Any:
        """The technique with its parameters."""
        return self.once(
            "technique", lambda: registry.make(self.layer, self.name, self.parameters)
        )

    @property
    def on(self) -> Problem:
        """The data set and model to work on."""
        return self.once("problem", lambda: self._on or Problem())

    def needs(self, *modules: str) -> None:
        """Skip where modules that a check needs, or the technique itself, are not here."""
        absent = [module for module in modules if not registry.importable(module)]
        if absent:
            raise SkipTest(f"{', '.join(absent)} is not installed")
        refused = registry.missing(self.cls)
        if refused is not None:
            raise SkipTest(refused.reason)

    def needs_device(self, hardware: HardwareTechnique) -> None:
        """Skip where a device is not here."""
        reason = hardware.missing()
        if reason:
            raise SkipTest(reason)


def _remove(folder: Path, owner: int) -> None:
    # Not by a forked child that ends: its parent still needs the folder.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
