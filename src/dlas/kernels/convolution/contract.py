"""What a convolution by some algorithm is to the rest: a primitive, a request, a kernel.

A primitive answers three questions: can it do this operator (`why_not`), which layout must the
input have at least (`needs`), and what is the kernel (`lower`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.half_images import WIDE, Images
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


class Kernel(Protocol):
    """A convolution whose algorithm, layouts and schedule are fixed."""

    @property
    def inp(self) -> Layout:
        """Layout of the input."""

    @property
    def out(self) -> Layout:
        """Layout of the output (and of the residual, halo apart)."""

    def function(self, name: str) -> PrimFunc:
        """Return the code: (x, constants ..., [residual], y)."""

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return what is packed ahead of time, in the order of the arguments."""

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""

    def space(self) -> Space | None:
        """Return the settings that tuning may give it instead; None: it has no knobs."""

    def __hash__(self) -> int: ...


@runtime_checkable
class Scaled(Protocol):
    """A kernel in int8: its last store reads scales."""

    @property
    def target(self) -> CpuTarget:
        """The CPU."""

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return what is packed ahead of time, in the order of the arguments."""

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return the arguments that follow the constants."""


@dataclass(frozen=True)
class Request:
    """What a kernel is asked for, beside the operator."""

    target: CpuTarget
    threads: int
    inp: Layout
    """Layout that the input has; covers what the primitive needs."""
    out: Layout
    """Layout that the output shall have: what the primitive writes, perhaps with a halo."""
    epilogue: Epilogue
    knobs: Knobs = FIXED
    """Values that differ from the fixed schedule."""
    images: Images = WIDE
    """In what images are stored."""


@dataclass(frozen=True)
class Primitive:
    """One algorithm for convolutions."""

    name: str
    weights: str
    """`dense` or `csr`."""
    needs: Callable[[Conv2d, CpuTarget, Knobs], Layout]
    """The smallest input layout."""
    block: Callable[[Conv2d, CpuTarget], int]
    """Channel block of the output."""
    lower: Callable[[Conv2d, Request], Kernel]
    why_not: Callable[[Conv2d], str | None] = lambda _: None
    form: Callable[[Conv2d, CpuTarget, Knobs], Layout] | None = None
    """Layout of the output; None: blocks of channels."""
    dtype: str = "float32"
    """In what filters are stored: one of `DTYPES`."""
    halves: bool = False
    """Whether it reads and writes images in bfloat16, too."""
    plain: bool = False
    """Whether it reads and writes plain elements, without any halo."""

    def writes(self, op: Conv2d, target: CpuTarget, knobs: Knobs = FIXED) -> Layout:
        """Return the layout of the output, without a halo."""
        if self.form is None:
            return Layout(self.block(op, target))
        return self.form(op, target, knobs)


def narrowed(
    primitive: Primitive,
    needs: Callable[..., Layout],
    lower: Callable[..., Kernel],
    dtypes: Iterable[str],
    block: Callable[..., int] | None = None,
) -> tuple[Primitive, ...]:
    """Return a primitive for narrow types; all three functions take the type as `dtype`.

    `block`: None: it is that of the primitive.
    """
    return tuple(
        replace(
            primitive,
            needs=partial(needs, dtype=dtype),
            lower=partial(lower, dtype=dtype),
            block=primitive.block if block is None else partial(block, dtype=dtype),
            dtype=dtype,
        )
        for dtype in dtypes
    )
