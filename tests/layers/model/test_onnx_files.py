"""ONNX files as people have them: what each is, whether it fits, and else the way out."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from dlas.core import registry  # noqa: E402
from dlas.core.errors import StepError, UserError  # noqa: E402
from dlas.core.protocols import (  # noqa: E402
    Algorithm,
    Dataset,
    DataSpec,
    HardwareTechnique,
    Network,
    Software,
    Techniques,
)
from dlas.layers.model.shared.onnx_problem import misfit  # noqa: E402
from dlas.networks.export import copy_onnx  # noqa: E402
from dlas.networks.onnx_file import in_order, opset, precision_of, raised  # noqa: E402

SPEC = DataSpec(classes=3, channels=2, height=4, width=4)
NODE = helper.make_node


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name, *shape, kind=np.float32):
    return numpy_helper.from_array(np.ones(shape, kind), name)


def scalar(name, number, kind=np.float32):
    return numpy_helper.from_array(np.array(number, kind), name)


def body(x="x", kind=np.float32):
    nodes = [
        NODE("Conv", [x, "w"], ["c"], "conv"),
        NODE("GlobalAveragePool", ["c"], ["p"], "pool"),
        NODE("Flatten", ["p"], ["f"], "flat"),
        NODE("Gemm", ["f", "v", "b"], ["y"], "fc", transB=1),
    ]
    shapes = {"w": (5, 2, 3, 3), "v": (3, 5), "b": (3,)}
    return nodes, [tensor(name, *shape, kind=kind) for name, shape in shapes.items()]


def model(nodes=None, stored=None, inputs=None, outputs=None, version=13, ir=8, domains=()):
    usual = body()
    graph = helper.make_graph(
        usual[0] if nodes is None else nodes,
        "g",
        inputs or [value("x", ["n", 2, 4, 4])],
        outputs or [value("y", ["n", 3])],
        usual[1] if stored is None else stored,
    )
    opsets = [helper.make_opsetid("", version), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


# ---------------------------------------------------------------- what it computes in


def between(name, out, domain=""):
    return [
        NODE("QuantizeLinear", [name, "s", "z"], [f"{out}_q"], domain=domain),
        NODE("DequantizeLinear", [f"{out}_q", "s", "z"], [out], domain=domain),
    ]


def qdq(zero=np.uint8, weights=True, activations=True, domain=""):
    """Both products between quantizers, as TensorRT's and PyTorch's exporters write them."""
    nodes, stored = body()
    made = []
    for node in nodes:
        if node.op_type in ("Conv", "Gemm"):
            for place, wanted in ((0, activations), (1, weights)):
                if wanted:
                    made += between(node.input[place], f"{node.name}_{place}", domain)
                    node.input[place] = f"{node.name}_{place}"
        made.append(node)
    return model(made, [*stored, scalar("s", 0.1), scalar("z", 0, zero)])


def stored_integers(both):
    nodes, stored = body()
    ahead = [NODE("DequantizeLinear", ["w8", "s", "z"], ["w"])]
    if both:
        ahead += between("x", "xq")
        nodes[0].input[0] = "xq"
    stored = [tensor("w8", 5, 2, 3, 3, kind=np.int8), scalar("s", 0.1), scalar("z", 0, np.int8)]
    return model([*ahead, *nodes[:3], NODE("Identity", ["f"], ["y"])], stored)


def operators(kind, domain=""):
    places = {"QLinearConv": 8, "ConvInteger": 2, "QGemm": 6}[kind]
    nodes = [NODE(kind, ["x", *["w"] * (places - 1)], ["y"], domain=domain)]
    return model(nodes, [tensor("w", 5, 2, 3, 3, kind=np.int8)])


def in_type(kind):
    return model(*body(kind=kind))


CAST = [NODE("Cast", ["w16"], ["w"], to=TensorProto.FLOAT)]
WRITTEN = {
    "float32": (model(), "float32"),
    "float16": (in_type(np.float16), "float16"),
    "float64": (in_type(np.float64), "float64"),
    "float16 stored, widened before use": (
        model([*CAST, body()[0][0]], [tensor("w16", 5, 2, 3, 3, kind=np.float16)]),
        "float32",
    ),
    "QDQ on both sides": (qdq(), "int8"),
    "QDQ signed": (qdq(np.int8), "int8"),
    "QDQ of ONNX Runtime's domain": (qdq(domain="com.microsoft"), "int8"),
    "QDQ of 16 bits": (qdq(np.int16), "float32"),
    "QDQ of weights": (qdq(activations=False), "float32"),
    "QDQ of activations": (qdq(weights=False), "float32"),
    "integer weights, QDQ": (stored_integers(True), "int8"),
    "integer weights alone": (stored_integers(False), "float32"),
    "QOperator": (operators("QLinearConv"), "int8"),
    "dynamic": (operators("ConvInteger"), "int8"),
    "ONNX Runtime's": (operators("QGemm", "com.microsoft"), "int8"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_type_is_read_from_the_file(name):
    made, expected = WRITTEN[name]
    assert precision_of(made) == expected


# ---------------------------------------------------------------- does it fit


def one_output(shape, kind=TensorProto.FLOAT):
    return model(outputs=[value("y", shape, kind)])


def one_input(shape, kind=TensorProto.FLOAT):
    return model(inputs=[value("x", shape, kind)])


def turned(shape):
    first = [NODE("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
    return model([*first, *body("t")[0]], inputs=[value("x", shape)])


MISFITS = {
    "two outputs": (model(outputs=[value("y", ["n", 3]), value("f", ["n", 5])]), "extract_model"),
    "two inputs": (model(inputs=[value("x", ["n", 2, 4, 4]), value("s", [1])]), "as constants"),
    "channels last": (turned(["n", 4, 4, 2]), "--inputs-as-nchw"),
    "channels last, unsaid": (turned([None] * 4), "Put a Transpose in front"),
    "pixels": (one_input(["n", 2, 4, 4], TensorProto.UINT8), "float32 input"),
    "flat images": (one_input(["n", 32]), "images of (n, c, h, w)"),
    "another batch": (one_input([8, 2, 4, 4]), "`batch: 8`"),
    "a batch of -1": (one_input([-1, 2, 4, 4]), "set dim_param to 'n'"),
    "a batch of 0": (one_output([0, 3]), "set dim_param to 'n'"),
    "another batch of outputs": (one_output([8, 3]), "`batch: 8`"),
    "a map of scores": (one_output(["n", 3, 1, 1]), "Put a Flatten behind it"),
    "one logit": (one_output(["n", 1]), "a column for each class"),
    "one number": (one_output(["n"]), "a column for each class"),
    "labels": (one_output(["n"], TensorProto.INT64), "Cut off"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_an_adapter_could_mend_is_unavailable_with_the_way_out(name):
    made, way_out = MISFITS[name]
    refusal = misfit(made, SPEC)
    assert refusal is not None and refusal.status == "unavailable"
    assert way_out in refusal.reason


@pytest.mark.parametrize("made", [one_input(["n", 3, 4, 4]), one_output(["n", 7])])
def test_another_problem_is_impossible(made):
    refusal = misfit(made, SPEC)
    assert refusal is not None and refusal.status == "impossible"


@pytest.mark.parametrize(
    "made",
    [
        model(),
        one_input([None, None, None, None]),
        one_input([1, 2, 4, 4]),
        one_output([None, None]),
        one_input(["n", 2, 4, 4], TensorProto.FLOAT16),
        model(inputs=[value("x", ["n", 2, 4, 4]), value("w", [5, 2, 3, 3]), value("v", [3, 5])]),
    ],
)
def test_what_fits_or_says_nothing_is_taken(made):
    assert misfit(made, SPEC) is None


# ---------------------------------------------------------------- in order, newer, stored


def run(made, name="x"):
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images = np.linspace(0, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    return session.run(None, {name: images})[0]


def test_nodes_are_put_in_order_and_stored_tensors_are_no_inputs():
    nodes, stored = body()
    made = model(
        nodes[::-1],
        stored,
        [value("x", ["n", 2, 4, 4]), value("w", [5, 2, 3, 3])],
        ir=3,
        version=9,
    )
    plain = in_order(made)
    assert [node.name for node in plain.graph.node] == ["conv", "pool", "flat", "fc"]
    assert [v.name for v in plain.graph.input] == ["x"] and plain.ir_version == 4
    assert [node.name for node in made.graph.node] == ["fc", "flat", "pool", "conv"]


def test_functions_are_written_out():
    twice = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [NODE("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 13)],
    )
    nodes, stored = body("t")
    made = model(
        [NODE("Twice", ["x"], ["t"], domain="mine"), *nodes], stored, domains=["mine"], ir=9
    )
    made.functions.append(twice)
    assert in_order(made).graph.node[0].op_type == "Add"


def old(version):
    """Softmax and Squeeze mean something else, or are written otherwise, before 13."""
    nodes, stored = body()
    nodes[1:3] = [
        NODE("ReduceMean", ["c"], ["p"], axes=[2, 3], keepdims=1),
        NODE("Squeeze", ["p"], ["f"], axes=[2, 3]),
    ]
    nodes[-1].output[0] = "scores"
    return model([*nodes, NODE("Softmax", ["scores"], ["y"])], stored, version=version, ir=4)


@pytest.mark.parametrize("version", [7, 9, 11, 12])
def test_an_old_operator_set_is_raised_and_gives_the_same(version):
    newer = raised(old(version), 13, "it")
    assert opset(newer) == 13
    onnx.checker.check_model(newer)
    np.testing.assert_allclose(run(newer), run(old(version)), atol=1e-6)


def test_what_cannot_be_raised_is_told_with_the_way_out():
    made = model([NODE("Odd", ["x"], ["y"], domain="mine")], [], domains=["mine"], version=9)
    with pytest.raises(StepError, match=r"opset 9, and opset 13 is needed.*opset 13 or later"):
        raised(made, 13, "it")
    assert raised(model(), 13, "it").graph.node[0].name == "conv"


def test_ends_in_other_floats_are_converted_inside(tmp_path):
    ends = (
        [value("x", ["n", 2, 4, 4], TensorProto.FLOAT16)],
        [value("y", ["n", 3], TensorProto.FLOAT16)],
    )
    onnx.save(model(*body(kind=np.float16), *ends), tmp_path / "half.onnx")
    copy_onnx(tmp_path / "half.onnx", tmp_path / "taken.onnx", SPEC)
    taken = onnx.load(tmp_path / "taken.onnx")
    onnx.checker.check_model(taken)
    assert run(taken).dtype == np.float32
    np.testing.assert_allclose(run(taken), run(model()), rtol=1e-2)


def test_a_file_that_is_as_it_should_be_is_copied_byte_for_byte(tmp_path):
    onnx.save(model(), tmp_path / "a.onnx")
    copy_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", SPEC)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_input_without_a_shape_states_the_problems(tmp_path):
    made = model()
    for end in (*made.graph.input, *made.graph.output):
        end.type.tensor_type.ClearField("shape")
    onnx.save(made, tmp_path / "a.onnx")
    copy_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", SPEC)
    dims = onnx.load(tmp_path / "b.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 2, 4, 4]


def test_names_that_stand_twice_are_told_apart(tmp_path):
    made = model()
    for node in made.graph.node:
        node.name = "same"
    onnx.save(made, tmp_path / "a.onnx")
    copy_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx", SPEC)
    np.testing.assert_array_equal(run(onnx.load(tmp_path / "b.onnx")), run(model()))


def test_an_output_whose_shape_is_left_open_is_looked_at(tmp_path):
    onnx.save(one_output([None, None]), tmp_path / "m.onnx")
    file = technique(tmp_path / "m.onnx")
    assert file.build(problem(SPEC)).onnx == tmp_path / "m.onnx"
    with pytest.raises(StepError, match=r"returns \(1, 3\) .* needs \(1, 4\)"):
        file.build(problem(DataSpec(classes=4, channels=2, height=4, width=4)))


def technique(path):
    return registry.make("model", "onnx", {"path": str(path)})


def test_weights_in_another_folder_are_found_and_missing_ones_named(tmp_path):
    (tmp_path / "sub").mkdir()
    onnx.save_model(model(), tmp_path / "naïve 'm'.onnx", save_as_external_data=True,
                    location="sub/wéights.bin", size_threshold=0)  # fmt: skip
    file = technique(tmp_path / "naïve 'm'.onnx")
    before = file.fingerprint()
    weights = tmp_path / "sub" / "wéights.bin"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    assert file.fingerprint() != before
    weights.unlink()
    with pytest.raises(UserError, match=r"they are not there: .*wéights.bin"):
        file.fingerprint()


@pytest.mark.parametrize("asked", ["int8", "float16", "bfloat16"])
def test_what_is_quantized_already_is_told_so(asked, tmp_path):
    onnx.save(qdq(), tmp_path / "q.onnx")
    one = registry.make("optimization", asked, {})
    refusal = one.why_not(_stack(one, tmp_path / "q.onnx"))
    assert refusal is not None and "is quantized already" in refusal.reason


@pytest.mark.parametrize("made", [stored_integers(False), qdq(np.int16), qdq(weights=False)])
def test_what_is_quantized_in_part_is_told_so_where_it_is_looked_into(made, tmp_path):
    onnx.save(made, tmp_path / "q.onnx")
    for asked in ("int8", "float16"):
        one = registry.make("optimization", asked, {})
        with pytest.raises(StepError, match="is quantized already, in part"):
            one.apply(Network(SPEC, None, tmp_path / "q.onnx"), Images(), tmp_path)


def test_a_float16_file_is_float16_and_starts_no_int8(tmp_path):
    onnx.save(in_type(np.float16), tmp_path / "h.onnx")
    half, eight = (registry.make("optimization", n, {}) for n in ("float16", "int8"))
    stack = _stack(half, tmp_path / "h.onnx")
    assert half.why_not(stack).reason.startswith("the model is float16 already")
    assert eight.why_not(_stack(eight, tmp_path / "h.onnx")).status == "unavailable"
    none = registry.make("optimization", "none", {})
    found = _stack(none, tmp_path / "h.onnx")
    assert (found.precision, found.asked_precision) == ("float16", None)


def test_float64_is_unavailable(tmp_path):
    onnx.save(in_type(np.float64), tmp_path / "d.onnx")
    stack = _stack(registry.make("optimization", "none", {}), tmp_path / "d.onnx")
    refusal = stack.model.why_not(stack)
    assert refusal is not None and "float64" in refusal.reason


def problem(spec):
    class Problem(Dataset):
        def spec(self):
            return spec

    return Problem()


def _stack(optimization, path):
    return Techniques(
        problem(SPEC), technique(path), (optimization,), Algorithm(), Software(),
        HardwareTechnique(),
    )  # fmt: skip


class Images:
    labels = np.arange(12) % 3
    ids, content = tuple(map(str, range(12))), "c"

    def images(self, indices):
        return np.random.default_rng(0).standard_normal((12, 2, 4, 4), np.float32)[list(indices)]


@pytest.mark.parametrize("version", [9, 11])
def test_int8_takes_old_files_with_stored_tensors_as_inputs(version, tmp_path):
    pytest.importorskip("onnxruntime")
    inputs = [value("x", ["n", 2, 4, 4]), value("w", [5, 2, 3, 3]), value("v", [3, 5])]
    onnx.save(model(None, None, inputs, version=version, ir=3), tmp_path / "old.onnx")
    (tmp_path / "q").mkdir()
    int8 = registry.make("optimization", "int8", {"images": 6})
    done = int8.apply(Network(SPEC, None, tmp_path / "old.onnx"), Images(), tmp_path / "q")
    made = onnx.load(done.network.onnx)
    assert precision_of(made) == "int8" and opset(made) >= 13
    assert [p.name for p in (tmp_path / "q").iterdir()] == [done.network.onnx.name]
    float16 = registry.make("optimization", "float16", {})
    done = float16.apply(Network(SPEC, None, tmp_path / "old.onnx"), None, tmp_path / "q")
    assert [v.name for v in onnx.load(done.network.onnx).graph.input] == ["x"]


def test_int8_names_operators_of_one_runtime(tmp_path):
    nodes, stored = body()
    fused = [NODE("FusedConv", ["x", "w"], ["c"], domain="com.microsoft"), *nodes[1:]]
    onnx.save(model(fused, stored, domains=["com.microsoft"]), tmp_path / "m.onnx")
    int8 = registry.make("optimization", "int8", {})
    with pytest.raises(
        StepError, match=r"com\.microsoft\.FusedConv, which one runtime alone knows"
    ):
        int8.apply(Network(SPEC, None, tmp_path / "m.onnx"), Images(), tmp_path)
