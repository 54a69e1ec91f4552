"""What `models.py --precision int8` measures: one QDQ model by every runtime, and their own int8.

The model is the one that a study's `int8` technique writes, calibrated on random images: its
numbers are of no use, its operators are those of a real one. `torch` and `torch-compile` run it as
a study's techniques do. `NAME-own` is what a runtime makes of the float32 network itself, on the
same images (`int8: {route: own}`).
"""

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


def int8(model: Any, x: np.ndarray, folder: Path, **params: Any) -> tuple[Any, Any]:
    """Return the network as a study's `int8` technique leaves it, and its calibration images."""
    from dlas.core.protocols import DataSpec, Network
    from dlas.layers.optimization.int8 import Int8

    spec = DataSpec(1000, x.shape[1], x.shape[2], x.shape[3])
    images: Any = Images(x.shape[1:])
    done = Int8(images=8, **params).apply(Network(spec, model), images, folder).network
    return done, images.images(done.calibration) if done.calibration else None


def shared(model: Any, x: np.ndarray) -> Any:
    """Return the shared quantized network, which is made once."""

    def made() -> Any:
        home = folder_of(model) / "int8"
        home.mkdir()
        return int8(model, x, home)[0]

    return once(model, "int8", made)


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


READERS: dict[str, Callable[[Path, int], Run]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    **{f"dlas-{a}": dlas(a) for a in ("direct", "gemm", "spatial-pack", "best")},
}

TORCH = {"torch": "pytorch", "torch-compile": "torch-compile"}
"""Who runs the shared model as a study's technique does, and what that is called."""
OWN = ("openvino", "torch-compile", "ncnn", "executorch", "litert")
"""Runtimes with a quantization of their own."""
NAMES = (*TORCH, *READERS, *(f"{name}-own" for name in OWN))


def build(name: str, model: Any, x: np.ndarray, threads: int, converter: str) -> Run:
    """Return what runs the shared model, or what a runtime makes of the float32 network itself."""
    itself = name.removesuffix("-own")
    if name in READERS:
        return READERS[name](shared(model, x).onnx, threads)

    def served() -> Served:
        home = folder_of(model) / f"{name}-int8"
        home.mkdir(exist_ok=True)  # who was left out is asked again for each number of threads
        own = name != itself
        network, images = int8(model, x, home, route="own") if own else (shared(model, x), None)
        params = {"converter": converter} if itself == "litert" and converter else {}
        lowered = Lowered(network, home, images=images)
        return Served(TORCH.get(itself, itself), lowered, home / "built", **params)

    run: Run = once(model, f"{name}-int8", served).load(threads)
    return _with_threads(run, threads) if itself in TORCH else run


def _with_threads(run: Run, threads: int) -> Run:
    """Set PyTorch's threads each time: those of a process are one number, whoever set it last."""
    import torch

    def held(x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        return run(x)

    return held


def distance(y: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative L2 error."""
    return float(np.linalg.norm(y - expected) / np.linalg.norm(expected))


def build_all(
    model: Any, x: np.ndarray, threads: int, names: list[str], converter: str = ""
) -> tuple[dict[str, Run], dict[str, str]]:
    """Build everyone; return them, and why others are left out: they fail, or are too far off."""
    import torch

    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    nearest = distance(onnxruntime(shared(model, x).onnx, threads)(x), expected)
    built: dict[str, Run] = {}
    left: dict[str, str] = {}
    for name in names:
        allowed = nearest * (OWN_FURTHER if name.endswith("-own") else FURTHER)
        try:
            run = build(name, model, x, threads, converter)
            far = distance(run(x), expected)
        except LeftOut as why:
            left[name] = f"left out: {why}"
        except Exception as error:  # a peer that cannot do this network is a row of the table
            left[name] = f"failed: {str(error).splitlines()[0][:120]}"
        else:
            if far > allowed:
                left[name] = f"WRONG, {far:.3f} from float32 (allowed {allowed:.3f}); not timed"
            else:
                built[name] = run
        print(f"  {name}: {left.get(name) or f'{far:.3f} from float32'}", flush=True)
    return built, left
