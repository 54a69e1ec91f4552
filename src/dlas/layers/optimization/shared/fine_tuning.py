"""Weights that pruning looks at, and fine-tuning that leaves their zeros zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlas.core.errors import StepError
from dlas.core.protocols import Samples
from dlas.networks.fit import train


def prunable(module: Any) -> dict[str, tuple[Any, str]]:
    """Return ``{layer: (submodule, attribute)}`` of every convolution's and linear layer's weight.

    A weight that several layers share stands once, under the first one's name. The packed
    projections of ``torch.nn.MultiheadAttention`` count as a linear layer.
    """
    import torch

    found: dict[str, tuple[Any, str]] = {}
    seen: set[int] = set()
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.conv._ConvNd | torch.nn.Linear):
            attribute = "weight"
        elif isinstance(part, torch.nn.MultiheadAttention) and part.in_proj_weight is not None:
            attribute = "in_proj_weight"
        else:
            continue
        weight = getattr(part, attribute)
        if id(weight) not in seen:
            seen.add(id(weight))
            found[name] = (part, attribute)
    return found


def zeros(module: Any) -> dict[str, tuple[int, int]]:
    """Return ``{layer: (zero weights, weights)}`` of the prunable layers."""
    counts = {}
    for name, (part, attribute) in prunable(module).items():
        weight = getattr(part, attribute)
        counts[name] = (int((weight == 0).sum()), weight.numel())
    return counts


def fine_tune(
    module: Any,
    data: Samples | None,
    *,
    epochs: int,
    images: int | None,
    batch_size: int,
    lr: float,
    seed: int,
) -> Mapping[str, Any]:
    """Train a module in place for a little, and return the facts of it.

    Weights of convolutions and linear layers that are zero stay zero, whoever made them so: also
    after an earlier step's pruning.

    Raises:
        StepError: there are epochs to train and no images, or training diverged.
    """
    if epochs == 0:
        return {"epochs": 0}
    if data is None:
        raise StepError("fine-tuning needs training images, and got none; or set epochs to 0")
    _check_batch(module, data, batch_size)
    weights = [getattr(part, attribute) for part, attribute in prunable(module).values()]
    held = [(weight, weight != 0) for weight in weights]

    def put_zeros_back(_: Any) -> None:
        for weight, mask in held:
            weight.data.mul_(mask)

    return train(
        module,
        data,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        limit=images,
        after_step=put_zeros_back,
    )


def _check_batch(module: Any, data: Samples, batch_size: int) -> None:
    """Refuse a module that takes no batch of this size: one may be written into it."""
    import torch

    size = min(batch_size, len(data.labels))
    images = torch.from_numpy(data.images(list(range(size))))
    try:
        with torch.no_grad():
            out = module(images)
    except Exception as error:  # what a stranger's forward raises is unknown
        line = (str(error).splitlines() or [""])[0]
        raise StepError(
            f"the network cannot be fine-tuned in batches of {size} ({type(error).__name__}: "
            f"{line}). Give a batch_size that it takes, or epochs: 0."
        ) from error
    if len(out) != size:
        raise StepError(
            f"the network cannot be fine-tuned in batches of {size}: it returns {len(out)} rows. "
            "Give a batch_size that it takes, or epochs: 0."
        )
