"""PyTorch's quantization of exported modules (PT2E, in torchao), calibrated on images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlas.core.protocols import Array


def calibrated(
    module: Any, example: Any, images: Array, quantizer_for: Callable[[Any], Any]
) -> Any:
    """Return a module as a quantizer makes it of what it sees, in batches like the example.

    ``quantizer_for`` is given the exported module's graph.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    exported = torch.export.export(module, (example,)).module()
    prepared = prepare_pt2e(exported, quantizer_for(exported.graph))
    for at in range(0, len(images), len(example)):
        prepared(torch.from_numpy(images[at : at + len(example)]))
    return convert_pt2e(prepared)
