"""Which values a template's knobs may take: the space in which tuning looks for a schedule."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.walk import channels
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.depthwise import Depthwise
from dlas.kernels.convolution.direct import Direct
from dlas.kernels.convolution.direct_csr import DirectCsr
from dlas.kernels.convolution.gemm import Gemm
from dlas.kernels.convolution.gemm_csr import GemmCsr
from dlas.kernels.convolution.primitives import Kernel, Request
from dlas.kernels.convolution.spatial_csr import SpatialCsr, block_of
from dlas.kernels.convolution.spatial_pack import SpatialPack
from dlas.kernels.convolution.whole_window import WholeWindow
from dlas.kernels.convolution.winograd import Winograd
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.ground.tiling import tile_of

Values = dict[str, tuple[int, ...]]
Fits = Callable[[Mapping[str, int]], bool]
Made = tuple[Values, Mapping[str, int], Fits]

_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_CHANNELS = (4, 8, 12, 16, 24, 32, 48, 64, 128, 256)
_DEPTHS = (1, 2, 4, 8, 16)
_PANEL_FLOATS = 1 << 21
"""A panel of patches larger than 8 MB is not tried."""


@dataclass(frozen=True)
class Space:
    """The settings of one template for one operator."""

    values: Mapping[str, tuple[int, ...]]
    """The values of each knob, ascending."""
    fixed: Mapping[str, int]
    """What the fixed schedule sets them to: always a candidate."""
    fits: Fits

    @cached_property
    def settings(self) -> tuple[Knobs, ...]:
        """Return every setting that fits, the fixed one first."""
        names = sorted(self.values)
        every = (
            dict(zip(names, each, strict=True))
            for each in itertools.product(*(self.values[n] for n in names))
        )
        found = [Knobs.of(s) for s in every if self.fits(s)]
        first = Knobs.of(self.fixed)
        return (first, *(s for s in found if s != first))

    def neighbours(self, setting: Knobs) -> list[Knobs]:
        """Return the settings that differ in one knob, by the next value that fits either way."""
        found, now = [], setting.as_dict()
        for name, values in self.values.items():
            at = values.index(now[name])
            for way in (values[:at][::-1], values[at + 1 :]):
                moved = ({**now, name: value} for value in way)
                near = next((m for m in moved if self.fits(m)), None)
                if near is not None:
                    found.append(Knobs.of(near))
        return found


def plain_kernel(
    op: Conv2d, primitive: str, weights: str, cpu: CpuTarget, threads: int, knobs: Knobs = FIXED
) -> Kernel:
    """Return the kernel with the smallest layouts and nothing fused: the one that is tuned."""
    chosen = primitives.find(primitive, weights)
    out = Layout(chosen.block(cpu))
    inp = chosen.needs(op, cpu, knobs)
    return chosen.lower(op, Request(cpu, threads, inp, out, Epilogue(), knobs))


def space_of(kernel: Kernel, op: Conv2d, cpu: CpuTarget) -> Space | None:
    """Return the knobs of a kernel with the fixed schedule; None: it has none."""
    for kind, make in _SPACES.items():
        if isinstance(kernel, kind):
            values, fixed, fits = make(kernel, op, cpu)
            every = {n: tuple(sorted({*v, fixed[n]})) for n, v in values.items()}
            return Space(every, fixed, fits)
    return None


def _room(cpu: CpuTarget) -> int:
    """Accumulators that a tile may try to hold: two registers are left for operands."""
    return cpu.registers - 2


def _holds(held: int, fixed: int, cpu: CpuTarget) -> bool:
    """Return whether registers hold a tile, and enough: half of the fixed one hides latency."""
    return held <= _room(cpu) and 2 * held >= fixed


def _up_to(most: int, counts: tuple[int, ...] = _COUNTS) -> tuple[int, ...]:
    return tuple(c for c in counts if c <= most)


def _spatial_pack(kernel: SpatialPack, op: Conv2d, cpu: CpuTarget) -> Made:
    room, tile = _room(cpu), kernel.tile
    fixed = asdict(tile)
    fixed_held = tile.blocks * tile.columns * tile.rows
    total = -(-op.out_channels // cpu.lanes)
    walk = channels(op, kernel.inp.block, cpu.lanes)
    blocks = _up_to(min(8, total))
    if op.groups > 1:
        # Neighbouring blocks must read the same input channels.
        per_group = op.out_channels // op.groups // cpu.lanes
        blocks = tuple(b for b in blocks if walk.blocked and per_group % b == 0) or (1,)
    values = {
        "blocks": blocks,
        "columns": tuple(range(1, min(room, op.out_width) + 1)),
        "rows": _up_to(min(4, op.out_height)),
        "depth": (0, *(d for d in _DEPTHS if walk.blocked and _divides(d, walk.outer))),
        "band": _up_to(min(16, op.out_height), (1, 2, 4, 8, 16)),
    }

    def fits(s: Mapping[str, int]) -> bool:
        held = s["blocks"] * s["columns"] * s["rows"]
        # Bands of several rows serve passes only.
        return _holds(held, fixed_held, cpu) and (s["depth"] > 0 or s["band"] == 1)

    return values, fixed, fits


def _divides(part: int, whole: int) -> bool:
    return part < whole and whole % part == 0


def _depthwise(kernel: Depthwise, op: Conv2d, cpu: CpuTarget) -> Made:
    columns = tuple(range(1, min(_room(cpu), op.out_width) + 1))
    return {"columns": columns}, {"columns": kernel.columns}, lambda s: True


def _rows(op: Conv2d, cpu: CpuTarget) -> Values:
    return {
        "rows": tuple(range(1, min(14, op.out_channels // op.groups) + 1)),
        "vectors": tuple(range(1, 9)),
    }


def _direct(kernel: Direct, op: Conv2d, cpu: CpuTarget) -> Made:
    fixed = {"rows": kernel.tile.rows, "vectors": kernel.tile.vectors}
    return _rows(op, cpu), fixed, lambda s: _rows_fit(s, fixed, cpu)


def _rows_fit(s: Mapping[str, int], fixed: Mapping[str, int], cpu: CpuTarget) -> bool:
    return _holds(s["rows"] * s["vectors"], fixed["rows"] * fixed["vectors"], cpu)


def _gemm(kernel: Gemm, op: Conv2d, cpu: CpuTarget) -> Made:
    tile, split = kernel.tile, kernel.split
    fixed = {
        "rows": tile.rows,
        "vectors": tile.vectors,
        "band": split.band,
        "parts": split.parts,
        "channels": kernel.channels,
    }
    values = {
        **_rows(op, cpu),
        "band": _up_to(op.out_height),
        "parts": (1, 2, 4) if kernel.threads > 1 else (1,),
        "channels": _up_to(op.in_channels // op.groups, _CHANNELS),
    }

    def fits(s: Mapping[str, int]) -> bool:
        panel = s["band"] * op.out_width * op.out_channels
        return _rows_fit(s, fixed, cpu) and panel <= _PANEL_FLOATS

    return values, fixed, fits


def _whole_window(kernel: WholeWindow, op: Conv2d, cpu: CpuTarget) -> Made:
    product = kernel.product
    return _spatial_pack(product, product.op, cpu)


def _panel(op: Conv2d, band: int) -> int:
    depth = op.in_channels // op.groups * op.kernel[0] * op.kernel[1]
    return depth * band * op.out_width


def _gemm_csr(kernel: GemmCsr, op: Conv2d, cpu: CpuTarget) -> Made:
    values = {"band": _up_to(op.out_height), "vectors": tuple(range(1, _room(cpu) - 3))}
    fixed = {"band": kernel.band, "vectors": kernel.vectors}
    whole = -(-op.out_height * op.out_width // cpu.lanes)
    return (
        values,
        fixed,
        lambda s: s["vectors"] <= whole and _panel(op, s["band"]) <= _PANEL_FLOATS,
    )


def _direct_csr(kernel: DirectCsr, op: Conv2d, cpu: CpuTarget) -> Made:
    values = {
        "vectors": tuple(range(1, _room(cpu) - 3)),
        "parts": _up_to(op.out_channels, (1, 2, 4, 8, 16, 32)),
    }
    return values, {"vectors": kernel.vectors, "parts": kernel.parts}, lambda s: True


def _spatial_csr(kernel: SpatialCsr, op: Conv2d, cpu: CpuTarget) -> Made:
    values = {
        "down": tuple(1 << i for i in range(cpu.lanes.bit_length())),
        "most": tuple(m for m in range(2, _room(cpu) - 1, 2) if _holds(m, kernel.most, cpu)),
        "channels": _up_to(op.in_channels // op.groups, _CHANNELS),
        "parts": _up_to(op.out_channels, (1, 2, 4, 8, 16, 32)),
    }
    fixed = {
        "down": kernel.grid[0],
        "most": kernel.most,
        "channels": kernel.channels,
        "parts": kernel.parts,
    }
    least = kernel.tile[0] * kernel.tile[1]

    def fits(s: Mapping[str, int]) -> bool:
        tile = tile_of(op, (s["down"], cpu.lanes // s["down"]))
        # A grid that covers twice the pixels of the best one cannot win, and of the settings
        # that lead to the same block one is enough.
        less = s["most"] - 2
        same = less in values["most"] and block_of(tile, less) == block_of(tile, s["most"])
        return tile[0] * tile[1] < 2 * least and not same

    return values, fixed, fits


def _winograd(kernel: Winograd, op: Conv2d, cpu: CpuTarget) -> Made:
    total = kernel.blocks[1]
    fixed = {
        "m": kernel.m,
        "blocks": kernel.group,
        "columns": kernel.columns,
        "passes": kernel.chunk // kernel.columns,
        "by_outputs": int(kernel.by_outputs),
    }
    fixed_held = kernel.group * kernel.columns
    values = {
        "m": (2, 4),
        "blocks": tuple(b for b in range(1, 9) if total % b == 0),
        "columns": tuple(range(1, _room(cpu) + 1)),
        "passes": _COUNTS,
        "by_outputs": (0, 1) if kernel.threads > 1 else (0,),
    }

    def fits(s: Mapping[str, int]) -> bool:
        tiles = -(-op.out_height // s["m"]) * -(-op.out_width // s["m"])
        held = s["blocks"] * s["columns"]
        if not _holds(held, fixed_held, cpu):
            return False
        # The last chunk may overhang, but not by a whole pass.
        return s["columns"] <= tiles and (s["passes"] - 1) * s["columns"] < tiles

    return values, fixed, fits


_SPACES: dict[type, Callable[..., Made]] = {
    SpatialPack: _spatial_pack,
    Depthwise: _depthwise,
    Direct: _direct,
    Gemm: _gemm,
    WholeWindow: _whole_window,
    GemmCsr: _gemm_csr,
    DirectCsr: _direct_csr,
    SpatialCsr: _spatial_csr,
    Winograd: _winograd,
}
