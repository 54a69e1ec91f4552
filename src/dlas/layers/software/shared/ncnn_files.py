"""ncnn's two files: made of a torch module by pnnx, and the list of layers that one of them is."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlas.core.errors import StepError
from dlas.core.wording import plain

if TYPE_CHECKING:
    from dlas.kernels import Conv2d

INPUT, OUTPUT = "in0", "out0"
"""What pnnx calls the input and the output of a network with one of each."""
FEATURES = "31"
"""The parameter by which a layer is kept from options: the sum of their bits."""
NO_SGEMM, NO_WINOGRAD = 1 << 5, 1 << 6
_SAME = -233
"""A padding of this much, and less: as much as keeps the size."""


@dataclass(frozen=True)
class NcnnLayer:
    """A line of ncnn's description of a network: one layer."""

    kind: str
    name: str
    bottoms: tuple[str, ...]
    """The blobs that it reads."""
    tops: tuple[str, ...]
    """The blobs that it writes."""
    parameters: Mapping[str, str]

    def number(self, parameter: int, otherwise: int) -> int:
        """Return an integer parameter; ``otherwise`` where the line leaves it out."""
        return int(self.parameters.get(str(parameter), otherwise))

    def line(self) -> str:
        """Return the line as ncnn reads it."""
        parameters = [f"{name}={value}" for name, value in self.parameters.items()]
        counts = [str(len(self.bottoms)), str(len(self.tops))]
        return " ".join([self.kind, self.name, *counts, *self.bottoms, *self.tops, *parameters])


def read_layers(text: str) -> list[NcnnLayer]:
    """Return the layers of ncnn's description of a network, in the order in which they run."""
    return [_layer(line.split()) for line in text.splitlines()[2:] if line.strip()]


def _layer(words: list[str]) -> NcnnLayer:
    kind, name, taken, given = words[0], words[1], int(words[2]), int(words[3])
    blobs = words[4 : 4 + taken + given]
    parameters = dict(word.split("=", 1) for word in words[4 + taken + given :])
    return NcnnLayer(kind, name, tuple(blobs[:taken]), tuple(blobs[taken:]), parameters)


def with_features_off(text: str, off: Mapping[str, int]) -> str:
    """Return a description in which layers are kept from options, by their names."""
    head = text.splitlines()[:2]
    body: list[str] = []
    for layer in read_layers(text):
        mask = off.get(layer.name, 0) | layer.number(int(FEATURES), 0)
        parameters = {**layer.parameters, **({FEATURES: str(mask)} if mask else {})}
        body.append(NcnnLayer(**{**vars(layer), "parameters": parameters}).line())
    return "\n".join([*head, *body]) + "\n"


def operator(layer: NcnnLayer, channels: int, height: int, width: int) -> Conv2d:
    """Return the convolution that a layer is, on an image of this shape."""
    from dlas.kernels import Conv2d

    kernel, stride, dilation = ((layer.number(11 + at, layer.number(1 + at, 1)),
                                 layer.number(1 + at, 1)) for at in (0, 2, 1))  # fmt: skip
    left = layer.number(4, 0)
    right, top = layer.number(15, left), layer.number(14, left)
    padding = (top, left, layer.number(16, top), right)
    if left <= _SAME:
        rows, columns = (_kept(size, kernel[i], stride[i], dilation[i])
                         for i, size in enumerate((height, width)))  # fmt: skip
        padding = (rows // 2, columns // 2, rows - rows // 2, columns - columns // 2)
    return Conv2d(
        *(1, channels, height, width, layer.number(0, 0)),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=layer.number(7, 1),
    )


def _kept(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the padding, both sides together, that gives an output every ``stride`` pixels."""
    reach = dilation * (kernel - 1) + 1
    return max((-(-size // stride) - 1) * stride + reach - size, 0)


# ---------------------------------------------------------------- pnnx


def converted(module: Any, shape: Iterable[int], half: bool) -> tuple[str, bytes]:
    """Return ncnn's description of a torch module and its weights.

    The module is traced on an input of this shape. ``half``: weights are written in float16.

    Raises:
        StepError: pnnx gives no network, or one with layers that ncnn does not have.
    """
    import torch

    from dlas.layers.software.shared.ncnn_attention import joined

    shape = tuple(shape)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: what is fixed here is fixed on purpose
            made = joined(copy.deepcopy(module).eval())
            traced = torch.jit.trace(made, torch.zeros(shape), check_trace=False)
        traced.save(str(folder / "model.pt"))
        log = _run_pnnx(folder, shape, half)
        description, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
        if not description.is_file() or not weights.is_file():
            raise StepError(f"pnnx made no network for ncnn: {log}")
        text = description.read_text(encoding="utf-8")
        _refuse_unknown(text)
        return text, weights.read_bytes()


def _run_pnnx(folder: Path, shape: tuple[int, ...], half: bool) -> str:
    """Run pnnx in a folder that holds ``model.pt``; return the end of what it says."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise StepError("pnnx, which makes ncnn's files, is not installed")
    size = ",".join(map(str, shape))
    done = subprocess.run(
        [str(Path(spec.origin).parent / "pnnx"), "model.pt", f"inputshape=[{size}]f32",
         f"fp16={int(half)}"],
        cwd=folder, capture_output=True, text=True, errors="replace", check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said = [line.strip() for line in plain(done.stderr + done.stdout).splitlines() if line.strip()]
    end = said[-1][:300] if said else "it says nothing"
    return end if done.returncode == 0 else f"it ended with {done.returncode}: {end}"


def _refuse_unknown(text: str) -> None:
    """Raise for layers that ncnn does not have: pnnx writes them all the same.

    Raises:
        StepError: says which.
    """
    import ncnn

    kinds = sorted({layer.kind for layer in read_layers(text)})
    unknown = [kind for kind in kinds if ncnn.layer_to_index(kind) < 0]
    if unknown:
        raise StepError(f"ncnn has no layer for {', '.join(unknown)} of this network")
