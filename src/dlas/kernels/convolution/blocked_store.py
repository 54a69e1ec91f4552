"""The last store of `spatial-pack`: a vector of output channels, residual and activation fused."""

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, half_images, requantize
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.code.epilogue import Epilogue, activate
from dlas.kernels.code.half_images import Images
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


def declared(
    op: Conv2d, out: Layout, epilogue: Epilogue, images: Images
) -> tuple[Buffer | None, Buffer]:
    """Declare the last arguments of a kernel: the residual, if there is one, and the output."""
    r = None
    if epilogue.residual:
        r = emit.argument("residual", epilogue.residual.shape(op.out_shape), images.other)
    return r, emit.argument("y", out.shape(op.out_shape), images.y)


@dataclass(frozen=True)
class BlockedStore:
    """Where the sums of a kernel on blocked channels go."""

    target: CpuTarget
    channels_out: int
    out: Layout
    epilogue: Epilogue
    residual: Buffer | None
    y: Buffer
    scales: requantize.StoreScales | None

    def vector(self, total: Callable[[Expr], Expr], at: tuple[Expr, Expr, Expr, Expr]) -> None:
        """Emit the stores of one vector; of a channels-last row's last, only what exists."""
        lanes, channels_out = self.target.lanes, self.channels_out

        def one(j: Expr) -> None:
            value = half_images.narrow(self._finished(total(j), (*at, j)), self.y)
            emit.store(self.y, value, *self._where(self.out, (*at, j)))

        def whole() -> None:
            if self.scales is None:
                half_images.put(
                    self.y, lanes, lambda j: self._finished(total(j), (*at, j)),
                    lambda j: self._where(self.out, (*at, j)),
                )  # fmt: skip
            else:
                self._quantized(total, at, lanes)

        rest = channels_out % lanes
        if self.out.block % lanes == 0:
            whole()
            return
        room = None if self.scales is None else requantize.room_for(rest, lanes)
        with T.If(at[1] == channels_out // lanes):
            with T.Then():
                if self.scales is not None:
                    self._quantized(total, at, rest, room)
                else:
                    with T.unroll(rest) as j:
                        one(j)
            with T.Else():
                whole()

    def _quantized(
        self,
        total: Callable[[Expr], Expr],
        at: tuple[Expr, Expr, Expr, Expr],
        count: int,
        room: Buffer = None,
    ) -> None:
        """Emit the store of the first `count` of a vector of int32 sums."""
        assert self.scales is not None
        lanes, epilogue, residual = self.target.lanes, self.epilogue, self.residual
        added = epilogue.residual
        other = None
        if residual is not None and added is not None:
            other = requantize.get(
                lambda lane: residual[self._where(added, (*at, lane))], count, lanes, room
            )
        j = T.Ramp(T.int32(0), 1, lanes)
        value = self.scales.store(
            total(j), at[1] * lanes + j, other, epilogue.other_first, self.target
        )
        requantize.put(
            lambda value, lane: emit.store(self.y, value, *self._where(self.out, (*at, lane))),
            value,
            count,
            lanes,
            room,
        )

    def _where(
        self, layout: Layout, at: tuple[Expr, Expr, Expr, Expr, Expr]
    ) -> tuple[Expr, Expr, Expr, Expr, Expr]:
        """Return the index of a lane of a vector of outputs in a layout."""
        n, block, row, col, lane = at
        channel, wide, (top, left) = block * self.target.lanes, layout.block, layout.halo[:2]
        return (n, channel // wide, row + top, col + left, channel % wide + lane)

    def _finished(self, value: Expr, at: tuple[Expr, Expr, Expr, Expr, Expr]) -> Expr:
        residual, epilogue = self.residual, self.epilogue
        if residual is not None and epilogue.residual is not None:
            value = value + half_images.wide(residual[self._where(epilogue.residual, at)])
        return activate(value, epilogue.activation)
