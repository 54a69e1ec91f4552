"""The shape of a convolution: what is computed, not how."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlas.kernels.ground.errors import UnsupportedError

ACTIVATIONS = (None, "relu", "relu6", "silu")
_NUMBERS = ("batch", "in_channels", "height", "width", "out_channels", "groups")
_PAIR = ("rows", "columns")
_TUPLES = {
    "kernel": _PAIR,
    "stride": _PAIR,
    "padding": ("top", "left", "bottom", "right"),
    "dilation": _PAIR,
}


@dataclass(frozen=True)
class Conv2d:
    """One 2-d convolution (cross-correlation, as networks use the word).

    Numbers become ints and sequences of them tuples: equal shapes are equal and have one hash.

    Raises:
        UnsupportedError: a field that is no whole number, or not so many of them as it has parts;
            a size, stride, padding, dilation or group count that no convolution can have.
    """

    batch: int
    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int]
    """Rows and columns of a filter."""
    stride: tuple[int, int] = (1, 1)
    """Rows and columns from one window to the next."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right, in pixels."""
    dilation: tuple[int, int] = (1, 1)
    """Rows and columns from one value of a filter to the next; 1: no gaps."""
    groups: int = 1
    """Parts of the channels, each convolved with filters of its own."""

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            given = getattr(self, name)
            number = whole(given)
            if number is None or number < 1:
                raise UnsupportedError(f"{name} must be a whole number >= 1, got {given!r}")
            object.__setattr__(self, name, number)
        for name, parts in _TUPLES.items():
            numbers = _several(name, getattr(self, name), parts)
            least = 0 if name == "padding" else 1
            if min(numbers) < least:
                raise UnsupportedError(f"{name} must be >= {least}, got {numbers}")
            object.__setattr__(self, name, numbers)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise UnsupportedError(
                f"groups must divide both channel counts, got {self.groups} groups for "
                f"{self.in_channels} -> {self.out_channels} channels"
            )
        if self.out_height < 1 or self.out_width < 1:
            raise UnsupportedError(
                f"the kernel {self.kernel} (dilation {self.dilation}) is larger than the padded "
                f"image {self.height}x{self.width}, padding {self.padding}"
            )

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        reach = self.dilation[0] * (self.kernel[0] - 1) + 1
        return (self.height + self.padding[0] + self.padding[2] - reach) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        reach = self.dilation[1] * (self.kernel[1] - 1) + 1
        return (self.width + self.padding[1] + self.padding[3] - reach) // self.stride[1] + 1

    @property
    def in_shape(self) -> tuple[int, int, int, int]:
        """NCHW shape of the input."""
        return (self.batch, self.in_channels, self.height, self.width)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """NCHW shape of the output."""
        return (self.batch, self.out_channels, self.out_height, self.out_width)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """OIHW shape of the filters."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def multiplications(self) -> int:
        """Multiplications of the dense direct algorithm."""
        per_output = self.in_channels // self.groups * self.kernel[0] * self.kernel[1]
        return self.batch * self.out_channels * self.out_height * self.out_width * per_output

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads the one input channel of the same number."""
        return self.groups == self.in_channels == self.out_channels and self.groups > 1


def whole(value: Any) -> int | None:
    """Return the int that a value of any integer type is; None: it is none (a bool is none)."""
    if type(value) is int:
        return value
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _several(name: str, value: Any, parts: tuple[str, ...]) -> tuple[int, ...]:
    """Return a field of several numbers as a tuple of ints."""
    if isinstance(value, Sequence) and len(value) == len(parts):
        numbers = [n for v in value if (n := whole(v)) is not None]
        if len(numbers) == len(parts):
            return tuple(numbers)
    raise UnsupportedError(
        f"{name} must be ({', '.join(parts)}), {len(parts)} whole numbers, got {value!r}"
        f"{_meant(value, len(parts))}"
    )


def _meant(value: Any, count: int) -> str:
    """Return what to write for one number, for (rows, columns) of padding, or for 3.0."""
    values = value if isinstance(value, list | tuple) else [value]
    numeric = all(isinstance(v, int | float) and v // 1 == v for v in values)
    if not values or not numeric or count % len(values):
        return ""
    return f"; write {tuple(int(v) for v in values) * (count // len(values))}"
