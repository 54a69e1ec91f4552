"""The user's own network: a function that returns an ``nn.Module``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.errors import UserError, near
from dlas.core.keys import file_hash, key
from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.layers.model.shared import state


@dataclass(frozen=True, kw_only=True)
class TorchModel(Model):
    """Your ``nn.Module``: ``factory: "module:function"``, looked for beside the study file first.

    The function is called as ``function(num_classes=10, in_channels=3, size=(32, 32))`` and
    returns a float32 module from images ``(n, channels, h, w)`` to logits ``(n, classes)``. The
    module's source and the file of ``weights`` (safetensors or a state dict) decide whether
    anything is built anew; of a package, all of its Python files. Without weights they are random
    by ``seed``.
    """

    name: ClassVar[str] = "torch"
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    sources: ClassVar[tuple[str, ...]] = (state.SOURCE,)
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    factory: str
    weights_file: Annotated[str, Field(alias="weights")] = ""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        module, _, function = self.factory.partition(":")
        if not all(p.isidentifier() for p in [*module.split("."), function]):
            raise UserError(
                f'torch.factory: {self.factory!r} is not of the form "module:function", '
                'e.g. "my_net:build" for the function build in my_net.py beside the study file.'
            )

    def build(self, dataset: Dataset) -> Network:
        """Return the module that the function makes, with its weights.

        Raises:
            UserError: there is no such module or function, or it returns no module.
            StepError: the network does not take the data set's images.
        """
        spec = dataset.spec()
        module = state.built(lambda: self._network(spec), self.seed, self.weights(dataset))
        state.check_outputs(module, spec, self.factory)
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file."""
        return state.chosen(self, self.weights_file, dataset)

    def fingerprint(self) -> Any:
        """Return the hashes of the source, without running it, and of the weights."""
        source = _source(self.factory.partition(":")[0])
        return [_source_hash(source), state.weights_hash(self.weights_file)]

    def _network(self, spec: DataSpec) -> Any:
        name, _, function = self.factory.partition(":")
        _source(name)
        with _beside_first():
            module = importlib.import_module(name)
        factory = getattr(module, function, None)
        if not callable(factory):
            raise UserError(
                f"torch.factory: {name!r} has no function {function!r}."
                f"{near(function, vars(module))}"
            )
        size = (spec.height, spec.width)
        return factory(num_classes=spec.classes, in_channels=spec.channels, size=size)


@contextmanager
def _beside_first() -> Iterator[None]:
    """Look for modules in the working folder first: dlas works in the study file's."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _source(module: str) -> Path:
    """Return where a module's source is, without importing it or its packages."""
    top, *inner = module.split(".")
    with _beside_first():
        spec = importlib.util.find_spec(top)
    if spec is not None and not inner and spec.origin and Path(spec.origin).is_file():
        return Path(spec.origin)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        at = Path(folder, *inner)
        found = [p for p in (at.with_suffix(".py"), at / "__init__.py") if p.is_file()]
        if found:
            return found[0]
    raise UserError(
        f"torch.factory: no module {module!r} is found. Put {inner[-1] if inner else top}.py "
        "beside the study file, or install the package that has it."
    )


def _source_hash(source: Path) -> str:
    if source.name != "__init__.py":
        return file_hash(source)
    files = sorted(source.parent.rglob("*.py"))
    return key({f.relative_to(source.parent).as_posix(): file_hash(f) for f in files})
