"""Batch and instance norms from `torch.export` to Relax, by the statistics that PyTorch takes.

TVM 0.27 reads the arguments of `aten.batch_norm` one place off (the momentum as epsilon, and batch
statistics instead of the stored ones), and takes a fixed epsilon, and no stored statistics, in
`aten.instance_norm`. Norms of stored numbers stay whole, so that they can fold into what is before
them; only those that have none are written out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from dlas.kernels.ground.errors import UnsupportedError

_FIXED = ("placeholder", "get_attr")
"""What the nodes of weights and buffers are, in a program."""


def batch_norm(node: Any, importer: Any) -> Any:
    """Import `aten.batch_norm`: by stored statistics, or, where it has none, by its batch's."""
    return _norm(node, importer, first=0)


def without_training(node: Any, importer: Any) -> Any:
    """Import the decomposed form of a batch norm with stored statistics."""
    return _stored(node, importer, node.args[6])


def without_statistics(node: Any, importer: Any) -> Any:
    """Import the decomposed form of a batch norm that has none."""
    return _own(node, importer, node.args[5], first=0)


def instance_norm(node: Any, importer: Any) -> Any:
    """Import `aten.instance_norm`: a batch norm where its statistics are stored ones."""
    return _norm(node, importer, first=2)


def in_training(node: Any, importer: Any) -> Any:
    """Refuse a norm that would write to its stored statistics."""
    raise UnsupportedError(
        "a batch norm is in training mode, where it writes to its statistics: call model.eval() "
        "before torch.export"
    )


def _norm(node: Any, importer: Any, first: int) -> Any:
    """Norm by stored statistics, or, where it has none, by its own over axes from `first` on."""
    if not node.args[5]:
        return _stored(node, importer, node.args[7])
    if node.args[3] is not None:
        return in_training(node, importer)
    return _own(node, importer, node.args[7], first)


def _stored(node: Any, importer: Any, epsilon: float) -> Any:
    x, gamma, beta = _operands(node, importer)
    emit, op = importer.block_builder.emit, relax.op
    mean, variance = (importer.env[each] for each in node.args[3:5])
    if all(each is None or each.op in _FIXED for each in node.args[1:5]):
        whole = op.nn.batch_norm(x, gamma, beta, mean, variance, 1, epsilon, training=False)
        return emit(emit(whole)[0])
    apart = _apart(x)
    off = emit(op.subtract(x, emit(op.reshape(mean, apart))))
    return _scaled(importer, off, emit(op.reshape(variance, apart)), gamma, beta, epsilon)


def _own(node: Any, importer: Any, epsilon: float, first: int) -> Any:
    """Norm by mean and variance over all axes from `first` on but that of the channels."""
    x, gamma, beta = _operands(node, importer)
    emit, op = importer.block_builder.emit, relax.op
    axes = [axis for axis in range(first, len(x.ty.shape.values)) if axis != 1]
    off = emit(op.subtract(x, emit(op.mean(x, axes, keepdims=True))))
    variance = emit(op.mean(emit(op.multiply(off, off)), axes, keepdims=True))
    return _scaled(importer, off, variance, gamma, beta, epsilon)


def _scaled(importer: Any, off: Any, variance: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    emit, op, apart = importer.block_builder.emit, relax.op, _apart(off)
    spread = emit(op.sqrt(emit(op.add(variance, relax.const(epsilon, str(off.ty.dtype))))))
    normed = emit(op.divide(off, spread))
    scaled = emit(op.multiply(normed, emit(op.reshape(gamma, apart))))
    return emit(op.add(scaled, emit(op.reshape(beta, apart))))


def _operands(node: Any, importer: Any) -> tuple[Any, Any, Any]:
    """Return what is normed, and scale and shift by channel; ones and zeros where it has none."""
    x = importer.env[node.args[0]]
    channels, dtype = int(x.ty.shape.values[1]), str(x.ty.dtype)
    gamma, beta = (
        relax.const(np.full(channels, fill), dtype) if each is None else importer.env[each]
        for each, fill in zip(node.args[1:3], (1.0, 0.0), strict=True)
    )
    return x, gamma, beta


def _apart(x: Any) -> tuple[int, ...]:
    """Return the shape of a vector by channel that goes with a tensor."""
    _, channels, *rest = (int(extent) for extent in x.ty.shape.values)
    return (1, channels, *(1 for _ in rest))


NORMS = {
    "batch_norm.default": batch_norm,
    "instance_norm.default": instance_norm,
    "_native_batch_norm_legit.no_stats": without_statistics,
    "_native_batch_norm_legit_no_training.default": without_training,
    "_native_batch_norm_legit_functional.default": in_training,
}
"""How each operator of PyTorch is imported, as TVM's `custom_convert_map` has it."""
