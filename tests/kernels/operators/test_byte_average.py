"""Averages over windows of bytes: ONNX Runtime's arithmetic, in every layout, for every CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from dlas.core.protocols import DataSpec
from dlas.kernels import Scale, compile_model
from dlas.kernels.ground.layout import Layout, Shape4, pack, unpack
from dlas.kernels.ground.target import resolve, runs_here
from dlas.kernels.operators.byte_average import ByteAverage
from kernel_checks import bytes_of, called

TARGETS = [t for t in ("native", "x86-64-v3") if runs_here(resolve(t))]
CASES: list[tuple[Shape4, tuple[int, ...], tuple[int, ...], bool, bool]] = [
    ((1, 48, 8, 8), (2, 2, 2, 2), (0, 0, 0, 0), True, False),
    ((2, 37, 9, 11), (3, 3, 2, 2), (1, 1, 1, 1), False, False),
    ((1, 20, 7, 5), (3, 2, 1, 3), (1, 0, 0, 1), True, False),
    ((1, 16, 7, 9), (2, 2, 2, 2), (0, 0, 0, 0), False, True),
    ((2, 24, 7, 7), (7, 7, 1, 1), (0, 0, 0, 0), True, False),
    ((1, 5, 1, 3), (1, 3, 1, 1), (0, 0, 0, 0), False, False),
    ((1, 3, 6, 10), (5, 3, 1, 2), (2, 1, 2, 1), False, False),
]
"""Images; windows and steps; padding; whether it is counted; whether the last window may end
beyond: odd sizes, several images, windows of the whole image."""


def out_size(nchw: Shape4, window: tuple[int, ...], padding: tuple[int, ...], up: bool) -> Any:
    found = []
    for axis in (0, 1):
        room = nchw[2 + axis] + padding[axis] + padding[axis + 2] - window[axis]
        found.append((room + (window[2 + axis] - 1 if up else 0)) // window[2 + axis] + 1)
    return tuple(found)


def reference(
    x: np.ndarray, kernel: ByteAverage, scales: tuple[Scale, Scale], moved: int
) -> np.ndarray:
    """ONNX Runtime's loops, in float32."""
    one, (given, made) = np.float32, scales
    n, c, h, w = x.shape
    wide = x.astype(np.int32) - given.zero
    y = np.empty((n, c, *kernel.out_size), np.int32)
    for row in range(kernel.out_size[0]):
        for column in range(kernel.out_size[1]):
            top = row * kernel.stride[0] - kernel.padding[0]
            left = column * kernel.stride[1] - kernel.padding[1]
            rows = range(max(top, 0), min(top + kernel.kernel[0], h))
            columns = range(max(left, 0), min(left + kernel.kernel[1], w))
            if kernel.whole:
                factor = one(given.scale) / (one(made.scale) * one(h * w))
                steps = np.rint(wide.sum((2, 3)).astype(one) * factor) + (made.zero - moved)
            else:
                total = np.zeros((n, c), one)
                for i in rows:
                    for j in columns:
                        total += wide[:, :, i, j].astype(one) * one(given.scale)
                every = kernel.kernel[0] * kernel.kernel[1]
                count = every if kernel.count_padding else len(rows) * len(columns)
                steps = np.rint(total / one(count) / one(made.scale) + one(made.zero - moved))
            y[:, :, row, column] = np.clip(steps, -moved, 255 - moved) + moved
    return y.astype(np.uint8)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turn", range(len(CASES)))
def test_averages_are_exact(turn: int, target: str) -> None:
    nchw, window, padding, counted, up = CASES[turn]
    cpu, rng = resolve(target), np.random.default_rng()
    size, moved = out_size(nchw, window, padding, up), 128 * (turn % 2)
    scales = (
        Scale(rng.uniform(0.01, 0.1), int(rng.integers(0, 256))),
        Scale(rng.uniform(0.005, 0.1), int(rng.integers(0, 256))),
    )
    for block, halo in ((cpu.lanes, (0, 1, 2, 0)), ((1, 4)[turn % 2], (0, 0, 0, 0))):
        form, x = Layout(block), bytes_of(nchw)
        kernel = ByteAverage(
            nchw, size, window[:2], window[2:], padding, counted, form.with_halo((1, 0, 1, 1)),
            form.with_halo(halo), 1 + turn % 2,
        )  # fmt: skip
        y = np.zeros(kernel.out.shape((*nchw[:2], *size)), np.uint8)
        given = [pack(x, kernel.inp, scales[0].zero), *kernel.constants(*scales, moved)]
        found = called(kernel, given, y, cpu)
        expected = reference(x, kernel, scales, moved)
        np.testing.assert_array_equal(unpack(found, kernel.out, expected.shape), expected)
        if nchw[1] % block == 0:
            np.testing.assert_array_equal(found, pack(expected, kernel.out, scales[1].zero))


def test_pools_of_a_network_equal_onnxruntime_s_bit_for_bit(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    nn = torch.nn
    import int8_models

    class Pools(nn.Module):  # type: ignore[misc, name-defined]
        """As DenseNet, ResNet-D and Inception have them, and a mean that is a pool."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.second = nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(20, 24, 1)
            self.twos, self.third = nn.AvgPool2d(2, 2), nn.AvgPool2d(3, 2, 1)
            self.same = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
            self.up = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
            self.fc = nn.Linear(24, 10)

        def forward(self, x: Any) -> Any:
            x = self.twos(torch.relu(self.stem(x)))
            x = self.second(self.same(x) + x)
            x = self.up(self.third(x))
            return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))

    spec = DataSpec(10, 3, 19, 23)
    model = int8_models.quantized(Pools, spec, tmp_path)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("AveragePool") == 4
    whole = int8_models.opened(model)
    names = [output.name for output in whole.graph.output]
    peer = int8_models.session(whole)
    images = int8_models.inputs(spec, 16)
    for algorithm in ("spatial-pack", "direct"):
        program = compile_model(whole, algorithm)
        said = program.describe()["operators"]
        pools = [o["types"] for o in said if o["kind"] == "avg_pool"]
        assert len(pools) == 4 + ops.count("GlobalAveragePool")
        assert {(t["input"], t["output"]) for t in pools} == {("uint8", "uint8")}
        for x in images:
            found, expected = program.run(x), peer.run(None, {"input": x})
            for name, ours, theirs in zip(names, found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("image", [(7, 9), (1, 1), (40, 3)])
def test_a_global_pool_of_bytes_is_one_of_integers(image: tuple[int, int], signed: bool) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import int8_models

    make, kind, one = onnx.helper, onnx.TensorProto.FLOAT, np.float32
    zero = np.int8(-7) if signed else np.uint8(121)
    scales = {"s": one(0.043), "z": zero, "t": one(0.0071)}
    nodes = [
        make.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make.make_node("DequantizeLinear", ["xq", "s", "z"], ["a"]),
        make.make_node("GlobalAveragePool", ["a"], ["mean"]),
        make.make_node("QuantizeLinear", ["mean", "t", "z"], ["yq"]),
        make.make_node("DequantizeLinear", ["yq", "t", "z"], ["y"]),
    ]
    shape = (2, 21, *image)
    graph = make.make_graph(
        nodes,
        "pool",
        [make.make_tensor_value_info("x", kind, shape)],
        [make.make_tensor_value_info("y", kind, (2, 21, 1, 1))],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in scales.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])
    program, peer = compile_model(model), int8_models.session(model)
    kinds = [o["kind"] for o in program.describe()["operators"] if o["kind"] != "relayout"]
    assert kinds == ["quantize", "avg_pool", "dequantize"]
    for _ in range(20):
        x = np.random.default_rng().standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(program.run(x), peer.run(None, {"x": x})[0])
