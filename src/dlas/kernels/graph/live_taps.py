"""Filters without the rows and columns that never meet the image, only its padding.

Under a 3x3 filter with padding an image of one pixel sees one of nine numbers. The others are
multiplied by zero (in int8 by the zero point less the zero point), yet most of the time goes into
reading them: the last layers of a network made for large images, run on small ones.
"""

from dataclasses import replace

from dlas.kernels.graph.graph import Graph
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.shape import Conv2d


def cut_dead_taps(graph: Graph) -> None:
    """Cut the filters of convolutions to what meets the image.

    The whole filters stay in `attrs["whole"]`.
    """
    for node in graph.nodes:
        if node.op == "conv2d":
            op, weight = node.attrs["conv"], node.attrs["weight"]
            (top, bottom), (left, right) = alive(op, 0), alive(op, 1)
            cut = without(op, (top, bottom), (left, right))
            if cut != op:
                node.attrs["conv"], node.attrs["whole"] = cut, weight
                node.attrs["weight"] = weight[:, :, top:bottom, left:right]


def alive(op: Conv2d, axis: int) -> tuple[int, int]:
    """Return the first row (axis 1: column) of the filter that meets the image, and past the last.

    Rows before it are kept as far as they are needed for a padding that is not negative.
    """
    size, out = ((op.height, op.out_height), (op.width, op.out_width))[axis]
    before, step = op.padding[axis], op.dilation[axis]
    met = [
        tap
        for tap in range(op.kernel[axis])
        if any(0 <= at * op.stride[axis] + tap * step - before < size for at in range(out))
    ]
    if not met:  # an output of padding alone
        return 0, op.kernel[axis]
    return min(met[0], before // step), met[-1] + 1


def without(op: Conv2d, rows: tuple[int, int], columns: tuple[int, int]) -> Conv2d:
    """Return the convolution by these rows and columns of its filters; itself if it cannot be."""
    kernel = (rows[1] - rows[0], columns[1] - columns[0])
    if kernel == op.kernel:
        return op
    first = (rows[0], columns[0])
    sides = []
    for axis, size, out in ((0, op.height, op.out_height), (1, op.width, op.out_width)):
        before = op.padding[axis] - first[axis] * op.dilation[axis]
        reach = op.dilation[axis] * (kernel[axis] - 1) + 1
        behind = max(0, (out - 1) * op.stride[axis] + reach - size - before)
        sides.append((before, behind))
    (top, bottom), (left, right) = sides
    try:
        cut = replace(op, kernel=kernel, padding=(top, left, bottom, right))
    except UnsupportedError:
        return op
    return cut if cut.out_shape == op.out_shape else op
