"""From `torch.export` to a Relax module: TVM's importer, and what is done where it stops.

Operators are kept whole as far as the importer knows them (silu, gelu and attention have kernels
here). Where it does not, those alone are decomposed by torch; where that is not enough, all are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from tvm import relax
from tvm.relax.frontend.torch import from_exported_program
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from dlas.kernels.graph.norms import NORMS
from dlas.kernels.ground.errors import UnsupportedError


def relax_module(program: Any) -> tuple[Any, Any]:
    """Return the Relax module of an exported program, and the program that it is of.

    The second is the given one with those operators decomposed that had to be.

    Raises:
        UnsupportedError: TVM imports none of its forms; the first refusal is the cause.
    """
    refusals: list[Exception] = []
    for form in _forms(program):
        try:
            each = form()
            module = from_exported_program(
                each,
                run_ep_decomposition=False,
                unwrap_unit_return_tuple=True,
                custom_convert_map=_OWN,
            )
        except Exception as error:  # what TVM and torch raise is not documented
            refusals.append(error)
        else:
            return module, each
    raise UnsupportedError(_refusal(refusals)) from refusals[0]


def _forms(program: Any) -> Iterator[Callable[[], Any]]:
    # Operators stay as they are where the importer knows each of them and reads it rightly.
    yield lambda: program
    yield lambda: _decomposed(program)
    yield lambda: program.run_decompositions()


def _decomposed(program: Any) -> Any:
    """Return a program without the operators that the importer does not know, where torch can."""
    import torch

    known = {*ExportedProgramImporter().create_convert_map(), *_OWN}
    table = {
        operator: how
        for operator, how in torch.export.default_decompositions().items()
        if getattr(operator, "__name__", "") not in known
    }
    return program.run_decompositions(table)


def _refusal(refusals: list[Exception]) -> str:
    """Return a sentence on why no form is imported: operators by name, where that is it."""
    # The last form is the most basic: what it still holds, nothing resolves.
    said = str(refusals[-1])
    marker = "Unsupported function types"
    if marker in said:
        names = said.partition(marker)[2].strip(" []").replace("'", "")
        return f"TVM's importer does not know the operators {names}"
    ours = (str(each) for each in refusals if isinstance(each, UnsupportedError))
    if own := next((each for each in ours if marker not in each), ""):
        return own
    return f"TVM cannot import this program: {refusals[0]}"


# ---------------------------------------------------------------- operators that it lacks


def _extreme(reduce: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Return the import of `amax` or `amin`: the extreme over any number of axes."""

    def convert(node: Any, importer: Any) -> Any:
        x = importer.env[node.args[0]]
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", [])
        keep = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
        axes = [axes] if isinstance(axes, int) else list(axes)
        return importer.block_builder.emit(reduce(x, axes or None, keepdims=bool(keep)))

    return convert


def _adaptive_max_pool2d(node: Any, importer: Any) -> Any:
    """Import an adaptive max pool whose windows are all of one size; its indices are not."""
    x = importer.env[node.args[0]]
    size = [int(extent) for extent in x.ty.shape.values][-2:]
    asked = node.args[1]
    asked = [asked, asked] if isinstance(asked, int) else list(asked)
    out = [n if n is not None else extent for n, extent in zip(asked, size, strict=True)]
    uneven = any(extent % n for extent, n in zip(size, out, strict=True))
    if uneven or any(user.args[1] == 1 and user.users for user in node.users):
        raise UnsupportedError("Unsupported function types ['adaptive_max_pool2d.default']")
    window = [extent // n for extent, n in zip(size, out, strict=True)]
    pooled = relax.op.nn.max_pool2d(x, pool_size=window, strides=window)
    values = importer.block_builder.emit(pooled)
    return importer.block_builder.emit(relax.Tuple([values, values]))


def _pixel_shuffle(node: Any, importer: Any) -> Any:
    """Import a pixel shuffle by its definition: TVM 0.27 has no lowering of its own operator."""
    x, factor = importer.env[node.args[0]], int(node.args[1])
    *batch, channels, height, width = (int(extent) for extent in x.ty.shape.values)
    kept, at = channels // factor**2, len(batch)
    order = [*range(at), at, at + 3, at + 1, at + 4, at + 2]
    emit, op = importer.block_builder.emit, relax.op
    apart = emit(op.reshape(x, (*batch, kept, factor, factor, height, width)))
    turned = emit(op.permute_dims(apart, order))
    return emit(op.reshape(turned, (*batch, kept, height * factor, width * factor)))


def _nearest2d(node: Any, importer: Any) -> Any:
    """Import nearest interpolation as the choice of rows and columns that torch makes.

    TVM 0.27 rounds their places otherwise where the factor is no whole number.
    """
    import torch

    x, op, emit = importer.env[node.args[0]], relax.op, importer.block_builder.emit
    height, width = (int(extent) for extent in x.ty.shape.values[2:])
    rows = torch.arange(height, dtype=torch.float32).reshape(1, 1, -1, 1).expand(1, 1, -1, width)
    columns = (
        torch.arange(width, dtype=torch.float32).reshape(1, 1, 1, -1).expand(1, 1, height, -1)
    )
    taken = (
        node.target(rows, *node.args[1:])[0, 0, :, 0],
        node.target(columns, *node.args[1:])[0, 0, 0],
    )
    for axis, places in zip((2, 3), taken, strict=True):
        x = emit(op.take(x, relax.const(places.numpy().astype("int64")), axis=axis))
    return x


def _spread(root: bool) -> Callable[[Any, Any], Any]:
    """Return the import of a variance or standard deviation by its definition.

    TVM 0.27 divides by the number of elements, whatever correction is asked for.
    """

    def convert(node: Any, importer: Any) -> Any:
        x, op, emit = importer.env[node.args[0]], relax.op, importer.block_builder.emit
        shape = [int(extent) for extent in x.ty.shape.values]
        asked = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        asked = [asked] if isinstance(asked, int) else list(asked or range(len(shape)))
        correction = node.kwargs.get("correction", 1)
        correction = 1 if correction is None else correction
        count = math.prod(shape[axis] for axis in asked)
        off = emit(op.subtract(x, emit(op.mean(x, asked, keepdims=True))))
        total = emit(op.sum(emit(op.multiply(off, off)), asked, bool(node.kwargs.get("keepdim"))))
        divisor = relax.const(max(count - correction, 0), str(x.ty.dtype))
        result = emit(op.divide(total, divisor))
        return emit(op.sqrt(result)) if root else result

    return convert


def _attention(node: Any, importer: Any) -> Any:
    """Import attention, its mask with all four axes, which TVM's operator asks for."""
    mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    if mask is not None:
        tensor = importer.env[mask]
        query, key = (importer.env[node.args[at]].ty.shape.values for at in (0, 1))
        missing = len(query) - len(tensor.ty.shape.values)
        if len(query) == 4 and missing > 0:
            emit, op = importer.block_builder.emit, relax.op
            wide = emit(op.expand_dims(tensor, list(range(missing))))
            heads = (*query[:2], query[2], key[2])
            importer.env[mask] = emit(op.broadcast_to(wide, heads))
            try:
                return importer._scaled_dot_product_attention(node)
            finally:
                importer.env[mask] = tensor
    return importer._scaled_dot_product_attention(node)


_OWN = {
    **NORMS,
    "scaled_dot_product_attention.default": _attention,
    "std.correction": _spread(root=True),
    "var.correction": _spread(root=False),
    "upsample_nearest2d.vec": _nearest2d,
    "pixel_shuffle.default": _pixel_shuffle,
    "amax.default": _extreme(relax.op.max),
    "amin.default": _extreme(relax.op.min),
    "adaptive_max_pool2d.default": _adaptive_max_pool2d,
}
