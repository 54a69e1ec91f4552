"""Each operator of ONNX that PyTorch computes in float does what ONNX Runtime does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from dlas.core.errors import StepError  # noqa: E402
from dlas.layers.software.shared.qdq_listing import read_listing  # noqa: E402
from dlas.layers.software.shared.torch_int8 import NARROW, Int8Network  # noqa: E402
from dlas.layers.software.shared.torch_operators import OPERATORS  # noqa: E402

IMAGE, ROWS = (1, 4, 7, 6), (2, 5, 8)


def numbers(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model_of(nodes: Sequence[Any], shape: Sequence[int], constants: dict[str, np.ndarray]) -> Any:
    """Return a model from ``x`` to ``y``."""
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in (("x", list(shape)), ("y", None))]  # fmt: skip
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def by_torch(model: Any, x: np.ndarray) -> np.ndarray:
    listing = read_listing(model)
    operations = [
        {"op": o.op, "inputs": o.inputs, "outputs": o.outputs, "attrs": o.attrs}
        for o in listing.operations
    ]
    constants = {name: torch.from_numpy(np.array(v)) for name, v in listing.constants.items()}
    network = Int8Network(operations, constants, (listing.given, listing.made), NARROW)
    return network(torch.from_numpy(x)).numpy()


def by_onnx(model: Any, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


Case = tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any]]
PLAIN = ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Neg", "Abs", "Floor", "Ceil", "Sin", "Cos",
         "Softplus", "HardSwish", "Mish", "Identity", "Gelu", "HardSigmoid", "LeakyRelu", "Elu",
         "Softmax", "LogSoftmax", "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Transpose",
         "Dropout")  # fmt: skip
PAIRS = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2")
CASES: list[Case] = [
    *((name, IMAGE, [], {}) for name in PLAIN),
    *((name, ROWS, [numbers(8, seed=2)], {}) for name in PAIRS),
    ("Sum", ROWS, [numbers(8, seed=2), numbers(5, 1, seed=3)], {}),
    ("Pow", ROWS, [np.array(2.0, np.float32)], {}),
    ("PRelu", IMAGE, [numbers(4, 1, 1)], {}),
    ("Clip", IMAGE, [np.array(-0.5, np.float32), np.array(0.5, np.float32)], {}),
    ("Clip", IMAGE, [np.array(-0.5, np.float32)], {}),
    ("Gelu", IMAGE, [], {"approximate": "tanh"}),
    ("HardSigmoid", IMAGE, [], {"alpha": 0.3, "beta": 0.4}),
    ("Softmax", IMAGE, [], {"axis": 1}),
    ("LogSoftmax", IMAGE, [], {"axis": 1}),
    ("LayerNormalization", ROWS, [numbers(8), numbers(8, seed=2)], {"epsilon": 1e-3}),
    ("LayerNormalization", ROWS, [numbers(5, 8)], {"axis": 1}),
    (
        "BatchNormalization",
        IMAGE,
        [*(numbers(4, seed=s) for s in (1, 2, 3)), abs(numbers(4)) + 0.1],
        {"epsilon": 1e-2},
    ),
    ("InstanceNormalization", IMAGE, [numbers(4), numbers(4, seed=2)], {}),
    ("MatMul", ROWS, [numbers(8, 3)], {}),
    ("MatMul", ROWS, [numbers(2, 8, 3)], {}),
    ("Gemm", (5, 8), [numbers(8, 3), numbers(3)], {}),
    ("Gemm", (5, 8), [numbers(3, 8), numbers(3)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", (8, 5), [numbers(8, 3)], {"transA": 1}),
    ("Einsum", ROWS, [numbers(8, 3)], {"equation": "abc,cd->abd"}),
    ("Conv", IMAGE, [numbers(6, 4, 3, 3), numbers(6)], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    ("Conv", IMAGE, [numbers(4, 1, 3, 3)], {"pads": [0, 1, 2, 1], "group": 4}),
    ("Conv", IMAGE, [numbers(6, 4, 2, 2)], {"dilations": [2, 1], "auto_pad": "VALID"}),
    ("Conv", (1, 4, 9), [numbers(6, 4, 3)], {"pads": [1, 1]}),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1}),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    (
        "AveragePool",
        IMAGE,
        [],
        {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1},
    ),
    *((name, ROWS, [ints(1)], {"keepdims": 0}) for name in REDUCTIONS),
    ("ReduceMean", ROWS, [], {}),
    ("ReduceSum", ROWS, [], {"noop_with_empty_axes": 1}),
    ("Reshape", ROWS, [ints(0, -1, 4)], {}),
    ("Flatten", ROWS, [], {"axis": 2}),
    ("Flatten", ROWS, [], {"axis": -1}),
    ("Transpose", ROWS, [], {"perm": [2, 0, 1]}),
    ("Squeeze", (1, 3, 1, 2), [ints(2)], {}),
    ("Squeeze", (1, 3, 1, 2), [], {}),
    ("Unsqueeze", ROWS, [ints(0, -1)], {}),
    ("Expand", (1, 3, 1), [ints(2, 1, 4)], {}),
    ("Tile", ROWS, [ints(1, 2, 3)], {}),
    ("Concat", ROWS, [numbers(2, 3, 8)], {"axis": 1}),
    ("Slice", ROWS, [ints(1, -3), ints(2**62, -1), ints(1, 2), ints(2, 1)], {}),
    ("Slice", ROWS, [ints(0, 1), ints(1, 3)], {}),
    ("Gather", ROWS, [np.array(-1, np.int64)], {"axis": 1}),
    ("Gather", ROWS, [np.array([[0, 2], [-1, 1]], np.int64)], {"axis": 2}),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 0, 3), np.array(0.5, np.float32)], {}),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 0, 3)], {"mode": "reflect"}),
    ("Pad", IMAGE, [ints(1, 2), np.array(0.5, np.float32), ints(3)], {}),
    ("DepthToSpace", IMAGE, [], {"blocksize": 2, "mode": "CRD"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'-'.join(case[3])}")
def test_it_is_computed_as_onnx_says(case: Case) -> None:
    op, shape, constants, attrs = case
    named = {f"c{at}": value for at, value in enumerate(constants)}
    model = model_of([helper.make_node(op, ["x", *named], ["y"], **attrs)], shape, named)
    x = numbers(*shape, seed=7)
    found, expected = by_torch(model, x), by_onnx(model, x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_operators_of_positive_numbers_of_truth_and_of_types() -> None:
    node = helper.make_node
    nodes = [
        node("Abs", ["x"], ["a"]), node("Add", ["a", "one"], ["b"]), node("Sqrt", ["b"], ["c"]),
        node("Log", ["c"], ["d"]), node("Reciprocal", ["c"], ["e"]),
        node("Less", ["x", "one"], ["f"]), node("Greater", ["x", "d"], ["g"]),
        node("Equal", ["x", "x"], ["k"]), node("And", ["f", "g"], ["h"]),
        node("Or", ["h", "k"], ["l"]), node("Not", ["g"], ["m"]),
        node("And", ["l", "m"], ["n"]), node("Where", ["n", "d", "e"], ["o"]),
        node("Cast", ["o"], ["p"], to=TensorProto.DOUBLE),
        node("Cast", ["p"], ["q"], to=TensorProto.FLOAT),
        node("Split", ["q"], ["r", "s"], axis=1, num_outputs=2),
        node("Split", ["s", "sizes"], ["t", "u"], axis=2),
        node("Concat", ["r", "r"], ["v"], axis=2), node("Concat", ["t", "u", "t", "u"], ["w"],
                                                        axis=2),
        node("Constant", [], ["half"], value_float=0.5), node("Mul", ["w", "half"], ["z"]),
        node("Concat", ["v", "z"], ["y"], axis=1),
    ]  # fmt: skip
    model = model_of(nodes, ROWS, {"one": np.ones(1, np.float32), "sizes": ints(3, 5)})
    x = numbers(*ROWS, seed=7)
    np.testing.assert_allclose(by_torch(model, x), by_onnx(model, x), rtol=1e-4, atol=1e-5)


def test_every_operator_is_tried() -> None:
    tried = {case[0] for case in CASES} | {
        "Sqrt", "Log", "Reciprocal", "Less", "Greater", "Equal", "And", "Or", "Not", "Where",
        "Cast", "Split",
    }  # fmt: skip
    assert set(OPERATORS) == tried


@pytest.mark.parametrize(
    ("op", "constants", "attrs", "said"),
    [
        ("Slice", [ints(3), ints(0), ints(1), ints(-1)], {}, "backwards"),
        ("Conv", [numbers(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER"}, "SAME_UPPER"),
        ("AveragePool", [], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}, "one side more"),
        ("Pad", [ints(*[0] * 8)], {"mode": "wrap"}, "wrap"),
        ("DepthToSpace", [], {"blocksize": 2}, "DCR"),
    ],
)
def test_what_it_cannot_do_is_named(
    op: str, constants: list[np.ndarray], attrs: dict[str, Any], said: str
) -> None:
    named = {f"c{at}": value for at, value in enumerate(constants)}
    model = model_of([helper.make_node(op, ["x", *named], ["y"], **attrs)], IMAGE, named)
    with pytest.raises(ValueError, match=rf"^{op} of 'y' cannot be computed by PyTorch: .*{said}"):
        by_torch(model, numbers(*IMAGE))


def test_a_shape_that_is_computed_is_refused() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["n"], to=TensorProto.INT64),
             helper.make_node("Reshape", ["x", "n"], ["y"])]  # fmt: skip
    with pytest.raises(ValueError, match="its input 1 is computed"):
        by_torch(model_of(nodes, (2,), {}), numbers(2))


def test_operators_that_are_not_read_are_all_named() -> None:
    nodes = [helper.make_node("LRN", ["x"], ["a"], size=3),
             helper.make_node("Celu", ["a"], ["b"]), helper.make_node("Celu", ["b"], ["c"]),
             helper.make_node("QAttention", ["c"], ["y"], domain="com.microsoft")]  # fmt: skip
    with pytest.raises(StepError, match=r"Celu x2, LRN x1, com\.microsoft\.QAttention x1 are not"):
        read_listing(model_of(nodes, IMAGE, {}))
