"""Train and fine-tune a network on labelled images: one loop for ``dlas train`` and every layer.

It knows the protocols only: any ``torch.nn.Module`` and any :class:`dlas.protocols.Samples`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from dlas.core.errors import StepError
from dlas.core.keys import Json
from dlas.networks.pace import Pace, sized

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from dlas.core.protocols import Array, Labels, Samples

Augment = Literal["none", "flip", "shift", "shift-flip"]

SHIFT = 2  # pixels an augmented image moves at most, in both directions


def train(
    module: nn.Module,
    samples: Samples,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    threads: int | None = None,
    limit: int | None = None,
    augment: Augment = "none",
    weight_decay: float = 0.05,
    label_smoothing: float = 0.0,
    channels_last: bool = False,
    device: str = "cpu",
    minutes: float | None = None,
    first_size: int | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> dict[str, Json]:
    """Train a module in place on cross-entropy and return the facts, as JSON; it ends in eval.

    AdamW (Loshchilov and Hutter, 2019) whose rate rises over the first tenth of the steps and
    then falls along a cosine to zero; gradients are clipped to norm 1. Same module, samples, seed
    and threads on the same CPU: same weights. Parameters that do not require a gradient stay.

    Args:
        module: a float32 ``torch.nn.Module`` that returns logits ``(n, classes)``.
        samples: the training split; images are asked for batch by batch.
        epochs: passes over the images; 0 changes nothing. With ``minutes`` the clock decides.
        batch_size: images a step; a last incomplete batch is left out of the epoch.
        lr: the highest learning rate.
        seed: of the order, the augmentation and dropout.
        threads: of torch during training; None leaves them. Restored afterwards.
        limit: train on this many images, spread evenly over the classes; None: all.
        augment: move by up to 2 pixels, and mirror half of the images.
        weight_decay: of matrices and kernels; biases and norms have none.
        label_smoothing: share of the target spread over all classes.
        channels_last: compute in this memory format, on a CPU often a third quicker; a module
            that calls ``view`` on feature maps refuses it. The weights end up contiguous.
        device: where to compute, as torch calls it: ``cpu``, ``cuda``, ``cuda:1``. The module ends
            up on the CPU. A GPU gives other weights than a CPU, and not twice the same bits.
        minutes: train for so long, the schedule stretched to it, and for one step at least; then
            ``epochs`` says nothing, and the same seed gives other weights.
        first_size: height of the images in the first fifth of training; it grows to the whole
            in the last fifth (progressive resizing: Howard, 2018; Tan and Le, 2021). A quarter
            of the pixels costs about a quarter of the time.
        after_step: called with the module after every step, e.g. to put zeros back.
        progress: called as ``progress(step, steps, loss)`` after every step.

    Raises:
        StepError: the loss is no longer finite.
    """
    import numpy as np
    import torch

    picked = balanced(samples.labels, limit, seed)
    batch_size = min(batch_size, len(picked))
    each = len(picked) // batch_size if batch_size else 0
    steps = each * (epochs if minutes is None else 1)
    facts = {
        "optimizer": "adamw-cosine", "epochs": epochs, "images": len(picked), "steps": steps,
        "batch_size": batch_size, "lr": lr, "seed": seed, "augment": augment,
        "weight_decay": weight_decay, "label_smoothing": label_smoothing,
        "threads": threads or torch.get_num_threads(), "channels_last": channels_last,
        "device": device,
    }  # fmt: skip
    facts |= {"first_size": first_size} if first_size is not None else {}
    if not steps:
        module.eval()
        return {**facts, "loss": None, "train_accuracy": None}
    module.to(device)
    optimizer = torch.optim.AdamW(_groups(module, weight_decay), lr=lr)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    rng = np.random.default_rng(seed)
    batches = _batches(samples, picked, batch_size, augment, rng)
    losses: deque[float] = deque(maxlen=each)
    hits: deque[int] = deque(maxlen=each)
    step = 0
    module.train()
    if channels_last:
        module.to(memory_format=torch.channels_last)
    pace = Pace(steps, minutes)
    with _torch_state(seed, threads):
        while not pace.over(step):
            for group in optimizer.param_groups:
                group["lr"] = lr * pace.rate(step)
            images, labels = (part.to(device) for part in next(batches))
            outputs = module(sized(images, *pace.shape(step, first_size, *images.shape[2:])))
            loss = criterion(outputs, labels)
            _finite(loss, step, lr)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            if after_step:
                after_step(module)
            step += 1
            losses.append(float(loss.detach()))
            hits.append(int((outputs.detach().argmax(1) == labels).sum()))
            if progress:
                progress(step, pace.expected(step), losses[-1])
    module.to("cpu", memory_format=torch.contiguous_format)
    module.eval()
    if minutes is not None:
        facts |= {"epochs": round(step / each, 2), "steps": step, "minutes": minutes}
    seen = len(losses) * batch_size
    return {**facts, "loss": sum(losses) / len(losses), "train_accuracy": sum(hits) / seen}


def predict(module: nn.Module, images: Array, batch: int = 256) -> Array:
    """Return the outputs of a module for images: float32 ``(n, classes)``.

    The module runs in eval mode, without gradients; its mode is restored.
    """
    import numpy as np
    import torch

    was_training = module.training
    module.eval()
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(np.ascontiguousarray(images[at : at + batch]))).float().numpy()
            for at in range(0, len(images), batch)
        ]
    module.train(was_training)
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)


def balanced(labels: Labels, limit: int | None, seed: int = 0) -> NDArray[np.int64]:
    """Return the indices of ``limit`` samples spread evenly over the classes, ascending.

    The choice is random by the seed; of two limits, the smaller one's are among the larger one's.
    None, or more than there are: all.
    """
    import numpy as np

    count = len(labels)
    if limit is None or limit >= count:
        return np.arange(count, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(count)
    rank = np.empty(count, dtype=np.int64)  # the how-manieth of its class
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        rank[of_class] = np.arange(len(of_class))
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    chosen: NDArray[np.int64] = np.sort(np.lexsort((place, rank))[:limit])
    return chosen


def augmented(images: Array, how: Augment, rng: np.random.Generator) -> Array:
    """Return a batch moved by up to 2 pixels (edges repeated) and half of it mirrored."""
    import numpy as np

    if how == "none":
        return images
    count, (height, width) = len(images), images.shape[2:]
    far = SHIFT if "shift" in how else 0
    padded = np.pad(images, ((0, 0), (0, 0), (far, far), (far, far)), mode="edge")
    down = rng.integers(0, 2 * far + 1, count)
    right = rng.integers(0, 2 * far + 1, count)
    flip = rng.random(count) < (0.5 if "flip" in how else 0.0)
    moved = np.empty_like(images)
    for at in range(count):
        view = padded[at, :, down[at] : down[at] + height, right[at] : right[at] + width]
        moved[at] = view[:, :, ::-1] if flip[at] else view
    return moved


def _batches(
    samples: Samples, picked: NDArray[np.int64], size: int, augment: Augment,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Give images and labels without end, each epoch's in an order of its own."""
    import torch

    while True:
        order = picked[rng.permutation(len(picked))]
        for at in range(0, len(order) - size + 1, size):
            chosen = order[at : at + size]
            images = augmented(samples.images(chosen.tolist()), augment, rng)
            yield torch.from_numpy(images), torch.from_numpy(samples.labels[chosen])


def _groups(module: nn.Module, weight_decay: float) -> Sequence[dict[str, list[Tensor] | float]]:
    free = [p for p in module.parameters() if p.requires_grad and p.ndim < 2]
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim >= 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def _finite(loss: Tensor, step: int, lr: float) -> None:
    if not math.isfinite(float(loss.detach())):
        raise StepError(
            f"training diverged: the loss is {float(loss.detach())} at step {step} "
            f"with lr {lr}. Lower lr."
        )


@contextmanager
def _torch_state(seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch and set its threads; give both back afterwards."""
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
