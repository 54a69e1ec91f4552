"""What each way to quantize costs in accuracy, on the trained networks that ship.

    python benchmarks/int8_accuracy.py --images 2000
    dlas train 'timm: {name: mobilenetv3_small_050}' fashion-mnist --out v3.safetensors --minutes 8
    python benchmarks/int8_accuracy.py \
        --networks 'timm: {name: mobilenetv3_small_050, weights: v3.safetensors}'

For each network and each choice of the ``int8`` technique: accuracy on Fashion-MNIST's test
images, the share of labels that agree with the float network's, the relative error of the outputs
(2-norm, the mean over classes taken off), and the CPU time of quantizing. Run by ONNX Runtime, one
thread. Accuracies depend on no clock, so the machine may be busy. Networks of one's own are given
as a study names them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from saved import machine

NETWORKS = ("resnet-8", "mobilenet-v2: {width: 0.35}", "vit-tiny")
CHOICES: tuple[dict[str, Any], ...] = (
    {}, {"method": "percentile"}, {"method": "entropy"}, {"method": "mse"},
    {"bias_correction": True}, {"first_last": "float32"}, {"weight_bits": 7},
    {"weight_bits": 7, "bias_correction": True}, {"per_channel": False},
    {"per_channel": False, "bias_correction": True},
    {"method": "mse", "bias_correction": True, "first_last": "float32"},
)  # fmt: skip


def outputs(path: Path, images: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime computes of a model, an image at a time."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="MODEL")
    asked = parser.parse_args()
    import torch

    from dlas.core import registry
    from dlas.run.train import read_technique

    torch.set_num_threads(1)
    dataset = registry.make("dataset", "fashion-mnist", {})
    train, test = dataset.load("train"), dataset.load("test")
    images = test.images(list(range(asked.images)))
    labels = np.asarray(test.labels[: asked.images])
    print(f"{machine()}\n")
    print("| network | int8 | accuracy | agrees | relative error | CPU s |")
    print("| --- " * 6 + "|")
    for given in asked.networks:
        model: Any = read_technique("model", given)
        network = model.build(dataset)
        name = getattr(model, "architecture", model.name)
        module = network.module.eval()
        with torch.no_grad():
            parts = torch.from_numpy(images).split(100)
            reference = np.concatenate([module(part).numpy() for part in parts])
        centred = reference - reference.mean(axis=1, keepdims=True)
        best = reference.argmax(axis=1)
        print(f"| {name} | float32 | {(best == labels).mean():.2%} | | | |", flush=True)
        for choice in CHOICES:
            technique = registry.make("optimization", "int8", choice)
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                with contextlib.redirect_stdout(io.StringIO()):
                    done = technique.apply(network, train, Path(folder))
                seconds = time.process_time() - began
                found = outputs(done.network.onnx, images)
            off = np.linalg.norm(found - reference) / np.linalg.norm(centred)
            chosen = found.argmax(axis=1)
            text = registry.choice(technique).text
            told = f"{(chosen == labels).mean():.2%} | {(chosen == best).mean():.2%} | {off:.3f}"
            print(f"| {name} | {text} | {told} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
