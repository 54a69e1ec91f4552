"""Networks as builds see them, and what a study's runtimes make of them, outside of a study."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

_MADE: MutableMapping[Any, dict[str, Any]] = WeakKeyDictionary()
"""What was made of a network, by its name; a folder goes with its network."""


def once(model: Any, what: str, make: Callable[[], Any]) -> Any:
    """Return what was made of this network before; else make it."""
    made = _MADE.setdefault(model, {})
    if what not in made:
        made[what] = make()
    return made[what]


def folder_of(model: Any) -> Path:
    """Return the folder for what is made of this network."""
    return Path(once(model, "folder", tempfile.TemporaryDirectory).name)


class LeftOut(Exception):
    """A runtime that refuses a network, or is not installed: why."""


class Lowered:
    """A network as a build sees it (`dlas.protocols.Program`), lowered once, when asked for."""

    def __init__(
        self, network: Any, folder: Path, algorithm: str = "native", images: Any = None
    ) -> None:
        from dlas.core import registry

        self.made, self.folder, self.images = network, folder, images
        self.spec, self.precision = network.spec, network.precision
        self.algorithm = registry.make("algorithm", algorithm, {})
        folder.mkdir(exist_ok=True)

    def network(self) -> Any:
        """The network itself."""
        return self.made

    def onnx(self) -> Path:
        """Its ONNX file."""
        from dlas.run.steps.convert import to_onnx

        file = self.folder / "lowered.onnx"
        if not file.exists():
            to_onnx(self.made, file.with_suffix(".draft"))
            file.with_suffix(".draft").replace(file)
        return file

    def exported(self) -> Any:
        """Its exported program."""
        from dlas.run.steps.convert import load_exported, to_exported

        file = self.folder / "lowered.pt2"
        if not file.exists():
            to_exported(self.made, file)
        return load_exported(file)

    def calibration(self) -> Any:
        """The images on which the runtime is to quantize it itself; None: it is not to."""
        return self.images


class Served:
    """What a runtime made of a network: built once, loaded for any number of threads.

    Raises:
        LeftOut: the runtime refuses the network, or is not installed.
    """

    def __init__(self, runtime: str, lowered: Lowered, folder: Path, **params: Any) -> None:
        from dlas.core import registry
        from dlas.core.errors import DlasError
        from dlas.testing.stand_ins import asking, stack_of

        self.software: Any = registry.make("software", runtime, params)
        own = lowered.calibration() is not None
        narrow = lowered.precision != "float32"
        steps = [asking(lowered.precision, left_to_runtime=own)] if narrow else []
        refused = registry.refusal(stack_of(self.software, lowered.algorithm, *steps))
        if refused is not None:
            raise LeftOut(refused.reason)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        try:
            self.software.build(lowered, _cpu(1), folder)
        except DlasError as error:
            raise LeftOut(str(error).splitlines()[0]) from error

    def load(self, threads: int = 1) -> Any:
        """Return a session with so many threads."""
        return self.software.load(self.folder, _cpu(threads))


def _cpu(threads: int) -> Any:
    from dlas.core import registry

    return registry.make("hardware", "cpu", {"threads": threads})
