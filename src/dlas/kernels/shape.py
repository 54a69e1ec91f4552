"""The shape of a convolution: what is computed, not how."""

from dataclasses import dataclass

from dlas.kernels.errors import UnsupportedError

ACTIVATIONS = (None, "relu", "relu6", "silu")


@dataclass(frozen=True)
class Conv2d:
    """One 2-d convolution (cross-correlation, as networks use the word).

    Raises:
        UnsupportedError: a size, stride, dilation or group count that no convolution can have.
    """

    batch: int
    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right, in pixels."""
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        sizes = (self.batch, self.in_channels, self.height, self.width, self.out_channels)
        if min(*sizes, *self.kernel, *self.stride, *self.dilation, self.groups) < 1:
            raise UnsupportedError(f"every size, stride and dilation must be >= 1, got {self}")
        if min(self.padding) < 0:
            raise UnsupportedError(f"padding must be >= 0, got {self.padding}")
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
