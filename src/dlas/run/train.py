"""``dlas train``: weights of a model for a data set, with a card that says how they came about."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.keys import Json
from dlas.core.protocols import Dataset, DataSpec, Model, Samples, Technique
from dlas.networks.fit import Augment, predict, train
from dlas.networks.kept import Kept
from dlas.networks.pace import Pace, sized
from dlas.study.choices import read_choice

if TYPE_CHECKING:
    from torch import Tensor, nn

LEAST_SIDE = 4
"""Height of the smallest images to begin with."""
CHUNK = 500  # test images that are decoded at a time


def read_technique(layer: str, text: str) -> Technique:
    """Return the technique of a text as a study file has it: ``name`` or ``name: {p: v}``.

    Raises:
        UserError: it is neither, the name is unknown or a parameter is wrong.
    """
    return registry.revive(layer, read_choice(layer, text))


def run_train(
    model: Model,
    dataset: Dataset,
    out: Path,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    augment: Augment = "flip",
    weight_decay: float = 0.05,
    label_smoothing: float = 0.0,
    limit: int | None = None,
    threads: int | None = None,
    channels_last: bool = False,
    device: str = "cpu",
    bfloat16: bool = False,
    float16: bool = False,
    minutes: float | None = None,
    first_size: int | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> dict[str, Json]:
    """Train a model on a data set's training images, write its weights, return their card.

    Weights that come with a model are not used: it starts from random ones by its own ``seed``,
    unless its parameter ``weights`` names a file. The weights go to ``out`` (safetensors), the
    card beside it (``.json``): model, data set, recipe, and the accuracy on all test images of
    what was written. Use them by ``weights: PATH``. With ``bfloat16`` convolutions and products
    are computed in that type (autocast; weights, their updates and the loss stay float32): quick
    on CPUs with AMX and on GPUs, slow elsewhere. With ``minutes`` the clock ends it; what comes
    before and after (reading, the test images) is beside it. Decoded images stay in memory as
    far as they fit into a gigabyte. See :func:`dlas.networks.fit.train` for the rest.

    Raises:
        UserError: the model is only an ONNX file, ``device`` is not there, the network takes no
            images of ``first_size``, or ``out`` cannot be written.
        StepError: training diverged.
    """
    out = out if out.suffix == ".safetensors" else out.with_name(out.name + ".safetensors")
    if model.form != "torch":
        raise UserError(
            f"{model.name} is only an ONNX file and cannot be trained. Train the network it was "
            "made from, as `torch: {factory: ...}`."
        )
    _there(device)
    _writable(out)
    module = _from_scratch(model).build(dataset).module
    _takes(module, dataset.spec(), first_size)
    with _computing(module, device, bfloat16):
        recipe = train(
            module,
            Kept(dataset.load("train")),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            threads=threads,
            limit=limit,
            augment=augment,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            channels_last=channels_last,
            device=device,
            minutes=minutes,
            first_size=first_size,
            progress=progress,
        )
    recipe["compute"] = "bfloat16" if bfloat16 else "float32"
    return write_trained(module, model, dataset, out, recipe, float16=float16)


def write_trained(
    module: nn.Module,
    model: Model,
    dataset: Dataset,
    out: Path,
    recipe: Mapping[str, Json],
    *,
    float16: bool = False,
) -> dict[str, Json]:
    """Write a module's weights and their card; the accuracy is that of what is written.

    With ``float16`` the module's own weights are rounded too.
    """
    import torch
    from safetensors.torch import save

    kind = torch.float16 if float16 else torch.float32
    state = {
        name: (tensor.to(kind) if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(state)
    samples = dataset.load("test")
    right = count_right(module, dataset, samples)
    shape = dataclasses.asdict(dataset.spec())
    card: dict[str, Json] = {
        "model": {
            "name": model.name,
            "params": {k: v for k, v in registry.without_places(model).items() if k != "seed"},
        },
        "dataset": {"name": dataset.name, "params": registry.without_places(dataset)},
        "spec": {name: n for name, n in shape.items() if name != "batch"},
        "dtype": "float16" if float16 else "float32",
        "accuracy": right / len(samples.labels),
        "accuracy_n": len(samples.labels),
        "test_content": samples.content,
        "recipe": {**recipe, "init_seed": getattr(model, "seed", None)},
        "versions": {d: registry.installed_version(d) for d in ("torch", "timm", "numpy")},
    }
    out.write_bytes(save(state))
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    out.with_suffix(".json").write_text(text, encoding="utf-8")
    return card


def count_right(module: nn.Module, dataset: Dataset, samples: Samples) -> int:
    """Return how many samples a module gets right, by the data set's own score."""
    count, right = len(samples.labels), 0
    for at in range(0, count, CHUNK):
        part = range(at, min(at + CHUNK, count))
        outputs = predict(module, samples.images(part))
        right += int(dataset.correct(outputs, samples.labels[part.start : part.stop]).sum())
    return right


def _from_scratch(model: Model) -> Model:
    """Return the model without the weights that it ships with."""
    if getattr(model, "weights_file", None) != "":
        return model
    return dataclasses.replace(model, weights_file="random")  # type: ignore[call-arg]


@contextmanager
def _computing(module: nn.Module, device: str, bfloat16: bool) -> Iterator[None]:
    """Have a module compute in bfloat16 where that is safe and quick (autocast), for a while."""
    import torch

    if not bfloat16:
        yield
        return
    whole = module.forward
    wide = _strided_depthwise(module) if torch.device(device).type == "cpu" else []
    for part in wide:
        part.forward = partial(_in_float32, part.forward)

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            out: Tensor = whole(x)
        return out.float()

    module.forward = forward
    try:
        yield
    finally:
        for part in (module, *wide):
            del part.forward


def _strided_depthwise(module: nn.Module) -> list[nn.Module]:
    """Return the depthwise convolutions with a stride, but the module itself.

    In bfloat16 their gradient of the input is oneDNN's reference code on CPUs: six times as slow
    as in float32 (docs/case-study.md).
    """
    import torch

    return [
        part
        for part in module.modules()
        if part is not module
        and isinstance(part, torch.nn.Conv2d)
        and part.groups == part.in_channels > 1
        and max(part.stride) > 1
    ]


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    import torch

    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float()).to(x.dtype)


def _takes(module: nn.Module, spec: DataSpec, first_size: int | None) -> None:
    """Refuse images of a size that there is not, or that a network does not take."""
    import torch

    if first_size is None:
        return
    if not LEAST_SIDE <= first_size <= spec.height:
        raise UserError(
            f"--first-size {first_size}: the images are {spec.height} x {spec.width}. "
            f"Allowed: {LEAST_SIDE} to {spec.height}."
        )
    images = torch.zeros(2, spec.channels, spec.height, spec.width)
    module.eval()
    try:
        with torch.inference_mode():
            shape = Pace(1).shape(0, first_size, spec.height, spec.width)
            module(sized(images, *shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"--first-size {first_size}: the network takes no images of that size "
            f"({type(error).__name__}: {line}). Leave it out."
        ) from error


def _there(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {device!r}: torch cannot use it: {reason} "
            "Allowed: cpu, cuda, cuda:1 and the like, where there is such a GPU and torch was "
            "built for it; `dlas doctor` says what is there."
        ) from error


def _writable(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab"):
            pass
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror}. Choose another --out."
        ) from error
