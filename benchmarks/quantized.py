"""What `models.py --precision int8` measures: one QDQ model of a network, by every runtime.

The model is the one that a study's `int8` technique writes, calibrated on random images: its
numbers are of no use, its operators are those of a real one.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
FURTHER = 1.25
"""How much farther from float32 than ONNX Runtime's output another one may be."""


class Images:
    """Random images to calibrate on."""

    labels = np.arange(8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Return some of them."""
        made = [np.random.default_rng(1 + int(i)).standard_normal(self.shape) for i in indices]
        return np.stack(made).astype(np.float32)


def qdq(model: Any, x: np.ndarray) -> tuple[Path, Any]:
    """Return the quantized network's file, and the folder that it goes with."""
    from dlas.core.protocols import DataSpec, Network
    from dlas.layers.optimization.int8 import Int8

    folder = tempfile.TemporaryDirectory()
    spec = DataSpec(1000, x.shape[1], x.shape[2], x.shape[3])
    images = Images(x.shape[1:])
    done = Int8(images=8).apply(Network(spec, model), images, Path(folder.name))  # type: ignore
    assert done.network.onnx is not None
    return done.network.onnx, folder


def onnxruntime(path: Path, threads: int) -> Run:
    """Return the model run by ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino(path: Path, threads: int) -> Run:
    """Return the model run by OpenVINO."""
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    core = ov.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    return lambda x: request.infer([x])[0].copy()


def dlas(algorithm: str) -> Callable[[Path, int], Run]:
    """Return what runs the model by dlas."""

    def build(path: Path, threads: int) -> Run:
        from dlas.kernels import compile_model

        return compile_model(path, algorithm, threads=threads).run

    return build


EVERYONE: dict[str, Callable[[Path, int], Run]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    **{f"dlas-{a}": dlas(a) for a in ("direct", "gemm", "spatial-pack")},
}


def distance(y: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative L2 error."""
    return float(np.linalg.norm(y - expected) / np.linalg.norm(expected))


def build_all(model: Any, x: np.ndarray, threads: int, names: list[str]) -> dict[str, Run]:
    """Build everyone; leave out, with a line, who fails or is too far from float32."""
    import torch

    path, folder = qdq(model, x)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    allowed = FURTHER * distance(onnxruntime(path, threads)(x), expected)
    built = {}
    for name in names:
        try:
            run = EVERYONE[name](path, threads)
            far = distance(run(x), expected)
        except Exception as error:  # a peer that cannot do this network is a row of the table
            print(f"  {name}: failed: {str(error).splitlines()[0][:120]}")
            continue
        if far > allowed:
            print(f"  {name}: WRONG, {far:.3f} from float32 (allowed {allowed:.3f}); not timed")
            continue
        print(f"  {name}: {far:.3f} from float32")
        built[name] = run
    folder.cleanup()
    return built
