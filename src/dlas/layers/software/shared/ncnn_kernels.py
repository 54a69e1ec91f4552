"""By which algorithm ncnn computes each convolution, seen from the memory that it asks for.

ncnn tells nobody which of its kernels it takes. But Winograd and the matrix product put
transformed or copied images into working memory, each of its own size, while the direct kernels
need none beside the padded image. So each convolution is run on its own input, once as it is and
once with the options switched off that allow the one and the other; what makes a difference to
the working memory is what ran. One thread does this, since an allocator of Python's may not be
called from several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlas.core.errors import StepError
from dlas.layers.software.shared.ncnn_files import NcnnLayer
from dlas.layers.software.shared.ncnn_int8 import AS_IT_COMES

Asked = tuple[int, ...]
"""The sizes of working memory that a layer asked for."""
OpenNet = Callable[[Mapping[str, bool | int]], Any]
"""Loads the network with some options set otherwise."""
OFF: Sequence[Mapping[str, bool | int]] = (
    {},
    {"use_winograd_convolution": False},
    {"use_winograd_convolution": False, "use_sgemm_convolution": False},
)
"""As it is; without Winograd; and without the matrix product, where there is another way."""


def by_memory(
    open_net: OpenNet, convolutions: Sequence[NcnnLayer], inputs: Mapping[str, Any]
) -> dict[str, str]:
    """Return the algorithm of each convolution by its name: winograd, gemm or direct.

    ``inputs`` holds the blobs that they read, as ncnn itself laid them out.

    Raises:
        StepError: one of them cannot be run alone.
    """
    seen = [_memory(open_net({**off, "num_threads": 1}), convolutions, inputs) for off in OFF]
    return {
        layer.name: _algorithm(layer, *(asked[layer.name] for asked in seen))
        for layer in convolutions
    }


def in_int8(open_net: OpenNet, layers: Sequence[NcnnLayer], inputs: Mapping[str, Any]) -> set[str]:
    """Return which layers multiply in int8, by name.

    The first memory that they ask for is a copy of their input in a quarter of its bytes, unless
    that is int8 already. Layers over tokens ask for a scale for each row of what they read.

    Raises:
        StepError: one of them cannot be run alone.
    """
    asked = _memory(open_net({"num_threads": 1}), layers, inputs)
    return {o.name for o in layers if _is_int8(o, inputs[o.bottoms[0]], asked[o.name])}


def _is_int8(layer: NcnnLayer, blob: Any, asked: Asked) -> bool:
    if layer.kind in AS_IT_COMES:
        rows = 4 * blob.h * blob.elempack
        return any(rows <= size < rows + 64 for size in asked)
    whole = blob.total() * blob.elemsize
    first = asked[0] if asked else 0
    return bool(blob.elembits() == 8 or 0.2 * whole < first < 0.4 * whole)


def _algorithm(layer: NcnnLayer, as_it_is: Asked, no_winograd: Asked, neither: Asked) -> str:
    if as_it_is != no_winograd:
        return "winograd"
    if no_winograd != neither:
        return "gemm"
    # The option is not asked for convolutions of 1 x 1, which have no patches to copy (in int8 it
    # is, where every layer asks for memory).
    pointwise = layer.number(1, 1) == layer.number(11, layer.number(1, 1)) == 1
    sure = layer.number(8, 0) == 0 and layer.number(4, 0) == 0
    return "gemm" if pointwise and as_it_is and sure else "direct"


def _memory(
    net: Any, convolutions: Sequence[NcnnLayer], inputs: Mapping[str, Any]
) -> dict[str, Asked]:
    """Run each convolution alone on its input; return what working memory each asked for."""
    counting = _counting_allocator()
    found = {}
    for layer in convolutions:
        memory = counting()
        extractor = net.create_extractor()
        extractor.set_workspace_allocator(memory)
        extractor.input(layer.bottoms[0], inputs[layer.bottoms[0]])
        failed, _ = extractor.extract(layer.tops[0])
        if failed:
            raise StepError(f"ncnn: {layer.kind} {layer.name} cannot be run alone ({failed})")
        found[layer.name] = tuple(memory.asked)
        del extractor  # before the allocator that it uses
    return found


def _counting_allocator() -> Any:
    """Return a class of allocators that remember the sizes they were asked for."""
    import ncnn

    class Remembering(ncnn.PoolAllocator):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[int] = []

        def fastMalloc(self, size: int) -> Any:
            self.asked.append(size)
            return super().fastMalloc(size)

        def fastFree(self, pointer: Any) -> None:
            super().fastFree(pointer)

    return Remembering
