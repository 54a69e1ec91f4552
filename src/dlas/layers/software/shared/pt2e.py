"""PyTorch's quantization of exported modules (PT2E, in torchao), calibrated on images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlas.core.protocols import Array


def calibrated(module: Any, example: Any, images: Array, quantizer: Any) -> Any:
    """Return a module as a quantizer makes it of what it sees, in batches like the example."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(module, (example,)).module(), quantizer)
    for at in range(0, len(images), len(example)):
        prepared(torch.from_numpy(images[at : at + len(example)]))
    return convert_pt2e(prepared)
