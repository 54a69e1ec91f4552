"""How a kernel on blocked channels walks the input channels of its output blocks."""

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code.emit import Expr
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class Channels:
    """Which input channels the output block `b` reads, as `outer` x `inner` reduction steps."""

    outer: int
    inner: int
    blocked: bool
    """Whole blocks of the input layout (else single channels from a start of their own)."""

    def index(self, op: Conv2d, lanes: int, block: Expr, co: Expr, ci: Expr) -> tuple[Expr, Expr]:
        """Return the (block, lane offset) of input step `ci` for output block `co`."""
        per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
        if op.groups == 1 and self.inner == block:
            return ci, 0
        if op.groups == 1:
            return ci * self.inner // block, ci * self.inner % block
        if self.blocked:
            return co * lanes // per_out * (per_in // block) + ci, 0
        channel = co * lanes // per_out * per_in + ci
        channel = T.min(channel, op.in_channels - 1)
        return channel // block, channel % block


def channels(op: Conv2d, block: int, lanes: int) -> Channels:
    """Return how the input channels are walked for an input layout of this block size."""
    per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
    if op.groups == 1 and block > lanes and block % lanes == 0:
        return Channels(-(-per_in // block) * (block // lanes), lanes, True)
    if op.groups == 1:
        return Channels(-(-per_in // block), block, True)
    if per_out % lanes == 0 and per_in % block == 0:
        return Channels(per_in // block, block, True)
    widest = 0
    for first in range(0, op.out_channels, lanes):
        last = min(first + lanes, op.out_channels) - 1
        widest = max(widest, (last // per_out - first // per_out + 1) * per_in)
    return Channels(widest, 1, False)
