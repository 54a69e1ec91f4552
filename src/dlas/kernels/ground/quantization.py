"""Scales and zero points of an int8 operator: the arithmetic of ONNX Runtime's quantized kernels.

A real number is `(q - zero) * scale`. Activations are uint8 with one scale and zero point a
tensor, filters int8 with a scale for each output channel and no zero point; sums are int32. What a
sum becomes is one product in float32 and one rounding to nearest even:
`saturate(rint(float(sum) * float32(float32(x * w) / y)) + zero)`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlas.kernels.ground.errors import InputError

Integers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
LOW, HIGH = 0, 255
"""Range of uint8."""
PARAMETERS = 10
"""Numbers of `Quantization.parameters`, where no table follows."""
TABLE = 16
"""The place where a table begins: at a vector of 64 bytes."""
TABLE_BYTES = HIGH + 1
BOUND_LOW, BOUND_HIGH, ZERO, FIRST, SECOND, OFFSET, SUM_LOW, SUM_HIGH, FILL, OUTSIDE = range(
    PARAMETERS
)
"""Their places: bounds of the scaled sum and the zero point that is added; factors of the two
terms of a sum, what is added to it, and its bounds; what the halo of the output holds, and four
times what is outside the input."""


@dataclass(frozen=True)
class Scale:
    """How a tensor of uint8 stands for real numbers: (q - zero) * scale.

    Raises:
        InputError: a scale that is no positive finite number, or a zero point outside uint8.
    """

    scale: float
    zero: int = 0

    def __post_init__(self) -> None:
        with np.errstate(over="ignore", under="ignore"):
            narrow = float(np.float32(self.scale))
        if not (0 < narrow < float("inf")):
            raise InputError(f"a scale must be a positive finite float32, got {self.scale!r}")
        if self.zero != int(self.zero) or not LOW <= self.zero <= HIGH:
            raise InputError(
                f"a zero point must be a whole number from {LOW} to {HIGH}, got {self.zero!r}"
            )
        object.__setattr__(self, "scale", narrow)
        object.__setattr__(self, "zero", int(self.zero))


@dataclass(frozen=True)
class Sum:
    """A tensor that is added to the quantized output, and how the sum is quantized."""

    other: Scale
    total: Scale
    first: bool = False
    """Whether the other tensor is the first operand of the sum (roundings follow the order)."""


@dataclass(frozen=True)
class ByteTable:
    """A function of a quantized tensor: what is stored in place of each number from 0 to 255.

    Raises:
        InputError: another number of results.
    """

    stored: bytes
    scale: Scale
    """Of what is stored."""
    name: str = "table"
    """What the function is called."""

    def __post_init__(self) -> None:
        if len(self.stored) != TABLE_BYTES:
            raise InputError(
                f"a table must hold {TABLE_BYTES} bytes, a result for each number from {LOW} to "
                f"{HIGH}, got {len(self.stored)}"
            )

    def words(self) -> Integers:
        """Return the results, four to an int32."""
        return np.frombuffer(self.stored, np.int32)


@dataclass(frozen=True)
class Quantization:
    """Scales and zero points of a convolution or linear layer.

    Raises:
        InputError: a scale of the filters that is no positive finite number.
    """

    x: Scale
    weight: tuple[float, ...]
    """One scale an output channel, or a single one for all."""
    y: Scale
    """Of the output, before anything is added to it."""
    sum: Sum | None = None
    activation: str | None = None
    """`relu` or `relu6` of what is stored: bounds beside those of uint8."""
    table: ByteTable | None = None
    """A function of the rounded output (or sum), which is stored in its place."""

    def __post_init__(self) -> None:
        for scale in self.weight:
            Scale(scale)

    @property
    def rounded(self) -> Scale:
        """Scale and zero point of the output, or sum, before a table."""
        return self.y if self.sum is None else self.sum.total

    @property
    def out(self) -> Scale:
        """Scale and zero point of what is stored."""
        return self.rounded if self.table is None else self.table.scale

    def factors(self, count: int) -> Floats:
        """Return what the sum of each of `count` output channels is multiplied by.

        Raises:
            InputError: another number of scales than channels.
        """
        if len(self.weight) not in (1, count):
            raise InputError(
                f"filters must have one scale or one for each of {count} output channels, got "
                f"{len(self.weight)}"
            )
        weight = np.broadcast_to(np.array(self.weight, np.float32), (count,))
        products = np.float32(self.x.scale) * weight
        return np.asarray(products / np.float32(self.y.scale), np.float32)

    def corrected(
        self, weight: npt.NDArray[np.int8], bias: Integers | None, less: int
    ) -> Integers:
        """Return the bias of sums over `x - less` instead of over `x - zero`.

        Args:
            weight: filters, output channels first.
            bias: what is added to the sums.
            less: what the kernel itself takes from each activation (0, or 128).
        """
        sums = weight.reshape(len(weight), -1).sum(1, dtype=np.int64)
        exact = (less - self.x.zero) * sums + (0 if bias is None else bias.astype(np.int64))
        return exact.astype(np.int32)

    def parameters(self) -> Integers:
        """Return the numbers that a kernel's last store reads, floats by their bits."""
        table = 0 if self.table is None else TABLE - PARAMETERS + TABLE_BYTES // 4
        told = np.zeros(PARAMETERS + table, np.int32)
        floats = told.view(np.float32)
        low, high = bounds(self.y, None if self.sum else self.activation)
        floats[[BOUND_LOW, BOUND_HIGH]] = low - self.y.zero, high - self.y.zero
        told[ZERO], told[FILL] = self.y.zero, self.out.zero
        told.view(np.uint8)[4 * OUTSIDE : 4 * OUTSIDE + 4] = self.x.zero
        if self.sum is not None:
            terms = (self.y, self.sum.other)
            places = [FIRST, SECOND, OFFSET]
            floats[places] = sum_factors(*(terms[::-1] if self.sum.first else terms), self.rounded)
            floats[[SUM_LOW, SUM_HIGH]] = bounds(self.rounded, self.activation)
        if self.table is not None:
            told[TABLE:] = self.table.words()
        return told


def bounds(scale: Scale, activation: str | None) -> tuple[int, int]:
    """Return the least and the largest number of a quantized tensor after an activation."""
    low = scale.zero if activation in ("relu", "relu6") else LOW
    if activation != "relu6":
        return low, HIGH
    six = np.rint(np.float32(6) / np.float32(scale.scale)) + scale.zero
    return low, int(min(six, HIGH))


def sum_factors(a: Scale, b: Scale, total: Scale) -> tuple[float, float, float]:
    """Return (p, q, offset) such that the sum is rint(fma(a, p, fma(b, q, offset))).

    The offset is `total.zero - (p * a.zero + q * b.zero)`, rounded as ONNX Runtime's compiler
    rounds it: one product by itself, the other fused with their sum. (Found by comparing 4 million
    sums.)
    """
    p = np.float32(a.scale) / np.float32(total.scale)
    q = np.float32(b.scale) / np.float32(total.scale)
    alone = np.float32(q * np.float32(b.zero))
    # A product of 24 and 8 bits is exact in float64.
    moved = np.float32(float(p) * a.zero + float(alone))
    return float(p), float(q), float(np.float32(np.float32(total.zero) - moved))
