"""A small data set and a small network that dlas can find while tests run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from unittest.mock import patch

from pydantic import Field

from dlas.core.keys import bytes_hash, key
from dlas.core.protocols import Dataset, DataSpec, Model, Network, Technique
from dlas.core.registry import entries
from dlas.testing.patches import patches

if TYPE_CHECKING:
    from dlas.core.protocols import Array, Labels, Split


# ---------------------------------------------------------------- found without a package


@dataclass(frozen=True)
class _EntryPoint:
    """An entry point that needs no installed package."""

    name: str
    found: type[Technique]
    dist: None = None

    @property
    def value(self) -> str:
        return f"{self.found.__module__}:{self.found.__qualname__}"

    def load(self) -> type[Technique]:
        return self.found


@contextmanager
def registered(*techniques: type[Technique], only: bool = False) -> Iterator[None]:
    """Let dlas find techniques by their names inside a ``with``, as if they were installed.

    They come beside the installed ones (in their place, where a name is taken); with ``only`` they
    are all there is. Child processes of a run do not find them.
    """
    installed = entries.installed
    more: dict[str, dict[str, _EntryPoint]] = {}
    for cls in techniques:
        more.setdefault(cls.layer, {})[cls.name] = _EntryPoint(cls.name, cls)

    def known(layer: str) -> dict[str, EntryPoint | _EntryPoint]:
        return {**({} if only else installed(layer)), **more.get(layer, {})}

    with patch.object(entries, "installed", known):
        entries.find.cache_clear()
        try:
            yield
        finally:
            entries.find.cache_clear()


# ---------------------------------------------------------------- a small data set


@dataclass(frozen=True)
class SmallSamples:
    """Samples in memory (:class:`dlas.protocols.Samples`)."""

    pixels: Array = field(repr=False)
    labels: Labels = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)

    @cached_property
    def content(self) -> str:
        """A hash of the images and the labels."""
        return key(bytes_hash(self.pixels.tobytes()), bytes_hash(self.labels.tobytes()))

    def images(self, indices: Sequence[int]) -> Array:
        """Return a copy of the images at ``indices``."""
        import numpy as np

        return self.pixels[np.asarray(indices, dtype=np.int64)]


@dataclass(frozen=True, kw_only=True)
class SmallImages(Dataset):
    """Made-up images, each class a pattern of 4 x 4 patches under noise: no file, no download."""

    name: ClassVar[str] = "small-images"
    licence: ClassVar[str] = "made up: no rights are held"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    batch: Annotated[int, Field(ge=1)] = 1
    classes: Annotated[int, Field(ge=2)] = 10
    channels: Annotated[int, Field(ge=1)] = 1
    height: Annotated[int, Field(ge=1)] = 16
    width: Annotated[int, Field(ge=1)] = 16
    each: Annotated[int, Field(ge=1)] = 4
    """Images of each class in each split."""

    def spec(self) -> DataSpec:
        """Return the shape that the parameters say."""
        return DataSpec(self.classes, self.channels, self.height, self.width, self.batch)

    def load(self, split: Split) -> SmallSamples:
        """Return a split: ``each`` images of every class, classes in turn."""
        import numpy as np

        size = (self.channels, self.height, self.width)
        labels = np.tile(np.arange(self.classes, dtype=np.int64), self.each)
        patterns = patches(self.classes, *size)
        first = 1 if split == "train" else 2
        noise: Array = np.random.default_rng(first).standard_normal(
            (len(labels), *size), dtype=np.float32
        )
        pixels = (patterns[labels] + 0.5 * noise).astype(np.float32)
        ids = tuple(f"{split}-{number:04d}" for number in range(len(labels)))
        return SmallSamples(pixels, labels, ids)


# ---------------------------------------------------------------- a small network


@dataclass(frozen=True, kw_only=True)
class SmallNet(Model):
    """A network of some thousand weights with all that real ones have, random by ``seed``.

    ``residual``: convolutions of 3 x 3 and 1 x 1, batch norms that have seen images (folding them
    wrongly shows), a skip connection, a linear layer. ``depthwise``: depthwise and pointwise
    convolutions, ReLU6 and SiLU. ``plain``: a convolution and a linear layer, for slow compilers.
    """

    name: ClassVar[str] = "small-net"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    sources: ClassVar[tuple[str, ...]] = ("dlas.testing.small_nets", "dlas.testing.patches")
    kind: Literal["residual", "depthwise", "plain"] = "residual"
    seed: Annotated[int, Field(ge=0)] = 0

    def build(self, dataset: Dataset) -> Network:
        """Return the network for the problem, in eval mode."""
        import torch

        from dlas.testing import small_nets

        spec = dataset.spec()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = small_nets.NETS[self.kind](spec)
        return Network(spec, small_nets.seasoned(module, spec))
