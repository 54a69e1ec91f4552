"""The table of shapes on which every primitive is held to its error bound."""

from dlas.kernels import Conv2d


def _conv(
    channels: tuple[int, int],
    image: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] | None = None,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    batch: int = 1,
) -> Conv2d:
    if padding is None:
        down, across = (kernel[0] // 2) * dilation[0], (kernel[1] // 2) * dilation[1]
        padding = (down, across, down, across)
    return Conv2d(
        batch, channels[0], *image, channels[1], kernel, stride, padding, dilation, groups
    )


DENSE = [
    _conv((16, 16), (8, 8)),
    _conv((16, 16), (7, 7)),
    _conv((64, 64), (14, 14)),
    _conv((64, 128), (14, 14), stride=(2, 2)),
    _conv((32, 48), (13, 9)),
    _conv((17, 33), (9, 11)),
    _conv((3, 32), (28, 28)),
    _conv((3, 64), (32, 32), (7, 7), (2, 2)),
    _conv((1, 8), (28, 28)),
    _conv((1, 1), (5, 5)),
    _conv((2, 3), (6, 4)),
    _conv((5, 7), (1, 1)),
    _conv((16, 32), (1, 1), (1, 1)),
    _conv((40, 100), (1, 1), (1, 1)),
    _conv((64, 10), (1, 1), (1, 1), batch=4),
    _conv((21, 70), (5, 4), (5, 4), padding=(0, 0, 0, 0), batch=3),
    _conv((24, 24), (12, 12), (5, 5)),
    _conv((20, 36), (11, 7), (5, 5), (2, 2)),
    _conv((8, 8), (15, 15), (7, 7)),
    _conv((16, 24), (10, 10), (3, 1)),
    _conv((16, 24), (10, 10), (1, 3)),
    _conv((16, 24), (10, 10), (5, 2), padding=(2, 0, 2, 1)),
    _conv((32, 64), (14, 14), (1, 1)),
    _conv((33, 65), (7, 5), (1, 1)),
    _conv((64, 32), (14, 14), (1, 1), (2, 2)),
    _conv((30, 31), (9, 9), (1, 1), (2, 3)),
    _conv((16, 16), (16, 16), dilation=(2, 2)),
    _conv((18, 20), (13, 17), dilation=(2, 1)),
    _conv((18, 20), (13, 17), stride=(2, 1), dilation=(1, 3)),
    _conv((16, 16), (12, 12), stride=(2, 2), dilation=(2, 2)),
    _conv((16, 16), (12, 12), stride=(3, 3), padding=(0, 0, 0, 0)),
    _conv((16, 16), (9, 9), padding=(0, 1, 2, 0)),
    _conv((16, 16), (9, 9), padding=(2, 2, 0, 0)),
    _conv((16, 16), (9, 9), padding=(0, 0, 0, 0)),
    _conv((12, 12), (8, 8), (2, 2), padding=(0, 0, 1, 1)),
    _conv((12, 12), (8, 8), (4, 4), (4, 4), padding=(0, 0, 0, 0)),
    _conv((6, 9), (13, 12), (2, 2), (4, 4), dilation=(2, 2)),
    _conv((6, 9), (13, 19), (2, 3), (4, 7), dilation=(2, 3)),
    _conv((3, 24), (28, 28), (7, 7), (7, 7), padding=(0, 0, 0, 0)),
    _conv((16, 16), (3, 3), padding=(2, 2, 2, 2)),
    _conv((32, 32), (2, 2)),
    _conv((16, 16), (1, 30)),
    _conv((16, 16), (30, 1)),
    _conv((96, 80), (6, 6)),
    _conv((128, 144), (7, 7)),
    _conv((16, 16), (8, 8), batch=4),
    _conv((19, 37), (9, 7), batch=4),
    _conv((3, 16), (16, 16), stride=(2, 2), batch=4),
    _conv((32, 16), (9, 9), (1, 1), batch=4),
]
GROUPED = [
    _conv((32, 32), (8, 8), groups=2),
    _conv((64, 64), (7, 7), groups=4),
    _conv((32, 48), (9, 9), groups=4),
    _conv((30, 45), (7, 7), (1, 3), groups=15),
    _conv((12, 36), (9, 9), groups=6),
    _conv((64, 128), (8, 8), groups=2, stride=(2, 2)),
    _conv((32, 32), (8, 8), (1, 1), groups=8, batch=4),
    _conv((8, 24), (8, 8), groups=8),
    _conv((16, 8), (8, 8), groups=8),
]
DEPTHWISE = [
    _conv((32, 32), (14, 14), groups=32),
    _conv((32, 32), (14, 14), stride=(2, 2), groups=32),
    _conv((33, 33), (7, 7), groups=33),
    _conv((17, 17), (13, 11), (5, 5), groups=17),
    _conv((48, 48), (9, 9), (5, 5), (2, 2), groups=48),
    _conv((16, 16), (12, 12), (3, 3), (1, 2), (2, 1, 1, 2), groups=16),
    _conv((16, 16), (15, 15), (7, 7), groups=16, batch=4),
    _conv((20, 20), (10, 10), dilation=(2, 2), groups=20),
    _conv((2, 2), (5, 5), groups=2),
    _conv((64, 64), (1, 1), groups=64),
]
SHAPES = [*DENSE, *GROUPED, *DEPTHWISE]


def name(op: Conv2d) -> str:
    """Short id of a shape."""
    parts = [
        f"n{op.batch}",
        f"{op.in_channels}x{op.height}x{op.width}-{op.out_channels}",
        f"k{op.kernel[0]}{op.kernel[1]}s{op.stride[0]}{op.stride[1]}",
        "p" + "".join(map(str, op.padding)),
        f"d{op.dilation[0]}{op.dilation[1]}g{op.groups}",
    ]
    return "-".join(parts)
