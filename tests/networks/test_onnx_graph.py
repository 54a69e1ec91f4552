import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dlas.core.protocols import DataSpec, Network
from dlas.run.steps.inspect import inspect_network

SPEC = DataSpec(classes=2, channels=3, height=4, width=4)


def write(tmp_path, nodes, tensors, out_shape, opset=20):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    return path


def facts(path, precision="float32"):
    return inspect_network(Network(SPEC, None, path, precision))


def some(shape, zeros, dtype=np.float32):
    values = np.ones(int(np.prod(shape)), dtype)
    values[:zeros] = 0
    return values.reshape(shape)


def test_float_convolution_with_a_dynamic_input(tmp_path):
    path = write(
        tmp_path,
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], "c", pads=[1, 1, 1, 1])],
        {"w": some((5, 3, 3, 3), 27), "b": some((5,), 1)},
        [1, 5, 4, 4],
    )
    found = facts(path)
    assert (found.params, found.nonzero_params) == (135 + 5, 108 + 4)
    assert found.macs == 16 * 135
    assert found.effective_macs == 16 * 108
    assert found.weights_mb == 140 * 4 / 1e6
    assert facts(path, "float16").weights_mb == 140 * 2 / 1e6
    assert [(x.name, x.operator) for x in found.layers] == [("w", "Conv")]


def test_transposed_convolution_and_gemm_with_a_transposed_left_side(tmp_path):
    path = write(
        tmp_path,
        [
            helper.make_node("ConvTranspose", ["x", "w"], ["t"], strides=[2, 2]),
            helper.make_node("Reshape", ["t", "shape"], ["r"]),
            helper.make_node("Gemm", ["r", "v"], ["y"], transA=1),
        ],
        {
            "w": some((3, 2, 2, 2), 0),
            "shape": np.array([2, 64], np.int64),
            "v": some((2, 7), 0),
        },
        [64, 7],
    )
    found = facts(path)
    assert [x.macs for x in found.layers] == [3 * 16 * 2 * 4, 64 * 2 * 7]
    assert found.params == 24 + 14, "a shape is no weight"


def quantized(tmp_path, zero_point):
    weight = np.array([[3, 0, 5], [3, 3, 0]], np.int8).reshape(2, 3, 1, 1)
    tensors = {
        "w": weight,
        "ws": np.array([0.5, 0.25], np.float32),
        "wz": np.asarray(zero_point, np.int8),
        "s": np.float32(0.1),
        "z": np.uint8(128),
        "bias": np.array([1, 0], np.int32),
        "bs": np.array([0.05, 0.025], np.float32),
        "bz": np.zeros(2, np.int32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bs", "bz"], ["bd"], axis=0),
        helper.make_node("Conv", ["d", "wd", "bd"], ["y"]),
    ]
    return write(tmp_path, nodes, tensors, [1, 2, 4, 4])


def test_a_quantized_weight_is_zero_at_its_zero_point(tmp_path):
    symmetric = facts(quantized(tmp_path, [0, 0]), "int8")
    assert (symmetric.params, symmetric.nonzero_params) == (6 + 2, 4 + 1)
    assert symmetric.macs == 16 * 6
    assert symmetric.effective_macs == 16 * 4
    shifted = facts(quantized(tmp_path, [3, 3]), "int8")
    assert shifted.effective_macs == 16 * 3
    each = facts(quantized(tmp_path, [3, 0]), "int8")
    assert each.effective_macs == 16 * 4


def test_int8_bytes_are_those_stored(tmp_path):
    path = quantized(tmp_path, [0, 0])
    weights, biases = 6 + 2 * 4 + 2, 2 * 4 + 2 * 4 + 2 * 4
    activation = 4 + 1
    assert facts(path, "int8").weights_mb == (weights + biases + activation) / 1e6


def test_a_product_of_activations_counts_in_full(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"], "scores"),
    ]
    found = facts(write(tmp_path, nodes, {}, [1, 3, 4, 4]))
    assert found.macs == found.effective_macs == 3 * 4 * 4 * 4
    assert [(x.name, x.weights) for x in found.layers] == [("scores", 0)]


def test_a_weight_behind_a_transpose_is_found(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    found = facts(write(tmp_path, nodes, {"w": some((5, 4), 10)}, [1, 3, 4, 5]))
    assert (found.macs, found.effective_macs) == (3 * 4 * 4 * 5, 3 * 4 * 4 * 5 // 2)


def test_what_is_not_counted_is_named_and_leaves_the_sum_empty(tmp_path):
    nodes = [helper.make_node("Einsum", ["x", "w"], ["y"], equation="ncij,jk->ncik")]
    found = facts(write(tmp_path, nodes, {"w": some((4, 5), 0)}, [1, 3, 4, 5]))
    assert found.uncounted == ("Einsum",)
    assert found.macs is None
    assert found.effective_macs is None
    assert found.params == 20


def test_a_shape_that_depends_on_values_leaves_the_sum_empty_and_is_named(tmp_path):
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "f"], ["y"], "last"),
    ]
    found = facts(write(tmp_path, nodes, {"w": some((2, 4), 0)}, [2, "k"]))
    assert (found.macs, found.effective_macs, found.params) == (None, None, 8)
    assert found.uncounted == ("MatMul 'last': nothing states its shape",)


def test_shapes_that_are_computed_are_seen_in_a_run(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    tensors = {
        "zero": np.array(0, np.int64),
        "axes": np.array([0], np.int64),
        "rest": np.array([-1], np.int64),
        "w": some((48, 2), 0),
    }
    assert facts(write(tmp_path, nodes, tensors, ["n", 2])).macs == 48 * 2


def test_a_file_that_states_no_shape_at_all_is_counted(tmp_path):
    path = write(
        tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"])], {"w": some((5, 3, 1, 1), 0)}, []
    )
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    assert facts(path).macs == 16 * 15


def test_quantized_operators_count_their_weights_and_bytes(tmp_path):
    tensors = {
        "s": np.float32(0.1), "z": np.uint8(3), "ws": np.array([0.5, 0.25], np.float32),
        "wz": np.array([1, 2], np.int8), "b": np.array([1, 0], np.int32),
        "w": np.array([[1, 0, 1], [2, 2, 0]], np.int8).reshape(2, 3, 1, 1),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    found = facts(write(tmp_path, nodes, tensors, [1, 2, 4, 4], opset=13), "int8")
    assert (found.params, found.nonzero_params) == (6 + 2, 2 + 1)
    assert (found.macs, found.effective_macs) == (16 * 6, 16 * 2)
    assert found.weights_mb == (6 + 2 * 4 + (4 + 1) + (2 * 4 + 2)) / 1e6


def test_float16_weights_are_counted_as_they_are_stored(tmp_path):
    nodes = [
        helper.make_node("Conv", ["h", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),  # as converters leave it
    ]
    found = facts(write(tmp_path, nodes, {"w": some((5, 3, 1, 1), 0, np.float16)}, [1, 5, 4, 4]))
    assert (found.macs, found.weights_mb) == (16 * 15, 15 * 2 / 1e6)


def test_zero_points_per_channel_of_a_transposed_weight(tmp_path):
    tensors = {
        "s": np.float32(0.1), "z": np.uint8(3), "ws": np.full(2, 0.5, np.float32),
        "wz": np.array([1, 2], np.uint8), "w": np.array([[1, 0, 1], [2, 2, 0]], np.uint8),
        "scales": np.ones(4, np.float32),
    }  # fmt: skip
    names = ["q", "s", "z", "w", "ws", "wz", "", "s", "z"]
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"]),
        helper.make_node("QGemm", names, ["y"], transB=1, domain="com.microsoft"),
    ]
    found = facts(write(tmp_path, nodes, tensors, [1, 2], opset=13), "int8")
    assert (found.params, found.nonzero_params) == (6, 2), "scales of a size are no weights"
