"""What `models.py --precision int8` measures: one QDQ model by every runtime, and their own int8.

The model is the one that a study's `int8` technique writes, calibrated on random images: its
numbers are of no use, its operators are those of a real one. `NAME-own` is what a runtime makes of
the float32 network itself, on the same images (`int8: {route: own}`).
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lowered import LeftOut, Lowered, Served, folder_of, once

Run = Callable[[np.ndarray], np.ndarray]
FURTHER = 1.25
"""How much farther from float32 another runtime may be than ONNX Runtime with the same model."""
OWN_FURTHER = 4
"""The same of a runtime's own quantization, which is another model."""


class Images:
    """Random images to calibrate on."""

    labels = np.arange(8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def images(self, indices: Sequence[int]) -> np.ndarray:
        """Return some of them."""
        made = [np.random.default_rng(1 + int(i)).standard_normal(self.shape) for i in indices]
        return np.stack(made).astype(np.float32)


def int8(model: Any, x: np.ndarray, folder: Path, **params: Any) -> Any:
    """Return the network as a study's `int8` technique leaves it, and its calibration images."""
    from dlas.core.protocols import DataSpec, Network
    from dlas.layers.optimization.int8 import Int8

    spec = DataSpec(1000, x.shape[1], x.shape[2], x.shape[3])
    images: Any = Images(x.shape[1:])
    done = Int8(images=8, **params).apply(Network(spec, model), images, folder).network
    return done, images.images(done.calibration) if done.calibration else None


def qdq(model: Any, x: np.ndarray) -> tuple[Path, Any]:
    """Return the quantized network's file, and the folder that it goes with."""
    folder = tempfile.TemporaryDirectory()
    network, _ = int8(model, x, Path(folder.name))
    assert network.onnx is not None
    return network.onnx, folder


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
    **{f"dlas-{a}": dlas(a) for a in ("direct", "gemm", "spatial-pack", "best")},
}


OWN = ("openvino", "ncnn", "executorch", "litert")
"""Runtimes with a quantization of their own."""
NAMES = (*EVERYONE, *(f"{name}-own" for name in OWN))


def own(name: str, model: Any, x: np.ndarray, threads: int, converter: str) -> Run:
    """Return what a runtime makes of the float32 network itself."""

    def served() -> Served:
        home = folder_of(model) / f"{name}-own"
        home.mkdir(exist_ok=True)
        network, images = int8(model, x, home, route="own")
        params = {"converter": converter} if name == "litert" and converter else {}
        return Served(name, Lowered(network, home, images=images), home / "built", **params)

    return once(model, f"{name}-own", served).load(threads)


def distance(y: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative L2 error."""
    return float(np.linalg.norm(y - expected) / np.linalg.norm(expected))


def build_all(
    model: Any, x: np.ndarray, threads: int, names: list[str], converter: str = ""
) -> dict[str, Run]:
    """Build everyone; leave out, with a line, who fails or is too far from float32."""
    import torch

    path, folder = qdq(model, x)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    nearest = distance(onnxruntime(path, threads)(x), expected)
    built = {}
    for name in names:
        itself = name.removesuffix("-own")
        allowed = nearest * (FURTHER if name == itself else OWN_FURTHER)
        try:
            run = (
                EVERYONE[name](path, threads)
                if name == itself
                else own(itself, model, x, threads, converter)
            )
            far = distance(run(x), expected)
        except LeftOut as why:
            print(f"  {name}: left out: {why}")
            continue
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
