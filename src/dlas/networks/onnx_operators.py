"""The operators of ONNX that multiply by weights: where each of its inputs stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

STANDARD, ORT, BLOCKED = "", "com.microsoft", "com.microsoft.nchwc"
"""ONNX's own domain, that of ONNX Runtime's additions, and of its blocked layout."""


@dataclass(frozen=True, slots=True)
class Operands:
    """A convolution or matrix product: the places of its operands among its inputs."""

    left: int = 0
    right: int = 1
    """The weight, where there is one."""
    bias: int | None = 2
    minor: tuple[int, ...] = ()
    """Scales and zero points."""
    zero: int | None = None
    """The zero point of ``right``."""
    integer: bool = False
    """Whether it multiplies integers by definition, in whatever types its inputs are."""


_FLOAT = Operands()
_INTEGER = Operands(bias=None, minor=(2, 3), zero=3, integer=True)
_QLINEAR = Operands(right=3, bias=8, minor=(1, 2, 4, 5, 6, 7), zero=5, integer=True)

PRODUCTS: Mapping[tuple[str, str], Operands] = {
    (STANDARD, "Conv"): _FLOAT,
    (STANDARD, "ConvTranspose"): _FLOAT,
    (STANDARD, "Gemm"): _FLOAT,
    (STANDARD, "MatMul"): _FLOAT,
    (STANDARD, "ConvInteger"): _INTEGER,
    (STANDARD, "MatMulInteger"): _INTEGER,
    (STANDARD, "QLinearConv"): _QLINEAR,
    (STANDARD, "QLinearMatMul"): _QLINEAR,
    (ORT, "FusedConv"): _FLOAT,
    (ORT, "FusedGemm"): _FLOAT,
    (ORT, "FusedMatMul"): _FLOAT,
    (ORT, "QGemm"): Operands(right=3, bias=6, minor=(1, 2, 4, 5, 7, 8), zero=5, integer=True),
    (ORT, "DynamicQuantizeMatMul"): Operands(bias=4, minor=(2, 3), zero=3, integer=True),
    (ORT, "MatMulIntegerToFloat"): Operands(bias=6, minor=(2, 3, 4, 5), zero=5, integer=True),
}

UNCOUNTED = frozenset((
    "Einsum", "LSTM", "GRU", "RNN",
    "Attention", "LinearAttention", "DeformConv", "If",
    "Loop", "Scan", "DFT", "STFT",
    "MultiHeadAttention", "QAttention", "MatMulNBits",
))  # fmt: skip
"""Operators that multiply in ways that are not counted, whoever's they are."""

HARMLESS = frozenset((
    "QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearMul",
    "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "QLinearLeakyRelu",
    "QLinearSigmoid", "QLinearSoftmax", "QLinearReduceMean", "QLinearWhere",
    "Gelu", "FastGelu", "QuickGelu", "BiasGelu",
    "BiasAdd", "BiasSoftmax", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    "SimplifiedLayerNormalization", "LayerNormalization", "BiasSplitGelu", "Pad",
    "GroupNorm", "SkipGroupNorm", "NhwcMaxPool", "ReorderInput",
    "ReorderOutput",
))  # fmt: skip
"""Operators of ONNX Runtime that hold no product."""

PASSING = frozenset(
    ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Cast")
)
"""Operators that hand a value on: what comes out has the same elements."""


def domain(node: NodeProto) -> str:
    """Return the domain of a node, ONNX's own one always as ``""``."""
    return "" if node.domain == "ai.onnx" else str(node.domain)


def product(node: NodeProto) -> Operands | None:
    """Return where the operands of a node stand, None: it is no product that is known here."""
    return PRODUCTS.get((domain(node), node.op_type))


def operand(node: NodeProto, place: int | None) -> str:
    """Return the name of an input, ``""``: the node has none there."""
    return node.input[place] if place is not None and place < len(node.input) else ""


def is_uncounted(node: NodeProto) -> bool:
    """Whether a node may multiply in a way that is not counted."""
    if product(node) is not None:
        return False
    if node.op_type in UNCOUNTED:
        return True
    if domain(node) == BLOCKED:
        return node.op_type == "Conv"  # whose channels are filled up to whole blocks
    return domain(node) not in (STANDARD, "ai.onnx.ml") and node.op_type not in HARMLESS
