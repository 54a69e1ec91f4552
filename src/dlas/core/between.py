"""The values that pass between techniques: data, networks, programs, sessions, what ran.

Nothing here imports torch; arrays are numpy, modules are ``Any``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    Labels = NDArray[np.int64]

Precision = Literal["float32", "float16", "bfloat16", "int8"]
Form = Literal["module", "exported", "onnx"]


@dataclass(frozen=True, slots=True)
class DataSpec:
    """The shape of a problem: what a model has to be built for."""

    classes: int
    channels: int
    height: int
    width: int
    batch: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of one inference's input, NCHW."""
        return (self.batch, self.channels, self.height, self.width)


class Samples(Protocol):
    """Labelled images in a deterministic order, decoded when they are asked for."""

    @property
    def labels(self) -> Labels:
        """Class indices, ``(n,)``."""

    @property
    def ids(self) -> Sequence[str]:
        """A stable name for each sample."""

    @property
    def content(self) -> str:
        """A hash of the content (images and labels)."""

    def images(self, indices: Sequence[int]) -> Array:
        """Return preprocessed images, float32 ``(len(indices), C, H, W)``, C-contiguous."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network between optimizations.

    ``module`` is a float32 ``torch.nn.Module`` in eval mode, on the CPU; None where there is only
    an ONNX file. ``precision`` is what is asked of the runtime: a float16 network keeps a float32
    module whose weights were rounded to float16. An int8 network has its quantized model in
    ``onnx``; a stored file takes and gives float32. One that its runtime is to quantize is
    float32, in either form, with the training images to calibrate on.
    """

    spec: DataSpec
    module: Any = None
    onnx: Path | None = None
    precision: Precision = "float32"
    calibration: tuple[int, ...] = ()
    """Which training images the runtime quantizes on; empty: there is nothing to quantize."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """An optimized network and what was achieved, e.g. ``{"sparsity": 0.8}`` (JSON)."""

    network: Network
    achieved: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ran:
    """What really ran, read back from the runtime; None or empty: could not be read.

    ``kernels`` maps the name of an operator (or kind of operator) to the kernel that ran it;
    ``fallbacks`` names what did not run as asked; ``sparsity`` is the share of zero weights that
    the executed kernels really skipped.
    """

    precision: str | None = None
    threads: int | None = None
    isa: str | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    sparsity: float | None = None


@runtime_checkable
class Session(Protocol):
    """A loaded artefact, ready to infer."""

    def __call__(self, x: Array) -> Array:
        """One inference: C-contiguous NCHW float32 in, float32 ``(batch, classes)`` out."""

    def observe(self, x: Array) -> Ran:
        """Run once, untimed, and read back from the runtime what ran."""
