"""What PyTorch ran, read from its profiler and from oneDNN's own log."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dlas.core.protocols import Ran
from dlas.layers.software.shared import isa

_KINDS = {
    "aten::conv2d": "conv2d",
    "aten::linear": "linear",
    "aten::matmul": "matmul",
    "aten::scaled_dot_product_attention": "attention",
}
_KERNELS = {
    "conv2d": ("mkldnn_convolution", "_slow_conv2d_forward", "cudnn_convolution",
               "_conv_depthwise2d", "conv_depthwise2d", "_nnpack_spatial_convolution"),
    "linear": ("addmm", "mm", "mkldnn_linear", "_addmm_activation", "bmm"),
    "matmul": ("bmm", "mm"),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu", "_efficient_attention_forward",
                  "_scaled_dot_product_efficient_attention", "_scaled_dot_product_attention_math",
                  "_scaled_dot_product_flash_attention", "_scaled_dot_product_cudnn_attention"),
}  # fmt: skip
_TYPES = {
    "float": "float32",
    "c10::Half": "float16",
    "c10::BFloat16": "bfloat16",
    "double": "float64",
    "signed char": "int8",
    "unsigned char": "int8",
}
_ONEDNN_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "s8": "int8",
    "u8": "int8",
}


def observe(run: Callable[[], Any], device: str) -> Ran:
    """Call ``run`` once under the profiler and return what it executed."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with _output_to_file() as log:
        verbose = torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON)
        with verbose, profile(activities=activities, record_shapes=True) as seen:
            run()
    events = seen.profiler.kineto_results.events()
    kernels = _kernels(events)
    if device == "cuda":
        launched = [e.name() for e in events if _on_gpu(e) and _COMPUTES.search(e.name())]
        kernels["cuda"] = _counted([_short(name) for name in launched])
    onednn, types = _onednn(log())
    for kind, names in onednn.items():
        kernels[f"onednn.{kind}"] = _counted(names)
    executed = [name for names in onednn.values() for name in names]
    return Ran(
        precision="+".join(sorted(_tf32(events, _precisions(events)) | types)) or None,
        threads=torch.get_num_threads(),
        isa=None
        if device == "cuda"
        else isa.widest([torch.backends.cpu.get_cpu_capability(), *executed]),
        kernels=kernels,
    )


def _precisions(events: Any) -> set[str]:
    """The types that convolutions and matrix products took."""
    found: set[str] = set()
    names = {f"aten::{k}" for kernels in _KERNELS.values() for k in kernels} | set(_KINDS)
    for event in events:
        if event.name() in names:
            found |= {_TYPES[t] for t in event.dtypes()[:2] if t in _TYPES}
    return found


def _tf32(events: Any, types: set[str]) -> set[str]:
    """Call float32 by its name where a GPU's kernels computed it in TF32.

    cuDNN names them by the type; CUTLASS by the shape 16x8x8, which only TF32 products have.
    """
    ran = any("tf32" in e.name() or "s1688" in e.name() for e in events if _on_gpu(e))
    return {"tf32" if t == "float32" else t for t in types} if ran else types


def _on_gpu(event: Any) -> bool:
    return "cuda" in str(event.device_type()).lower()


def _kernels(events: Any) -> dict[str, str]:
    """The kernels below each kind of operator, by the time in which they ran."""
    outer = [
        (_KINDS[e.name()], e.start_ns(), e.start_ns() + e.duration_ns())
        for e in events
        if e.name() in _KINDS
    ]
    found: dict[str, list[str]] = {}
    for event in events:
        name = event.name().removeprefix("aten::")
        for kind, start, end in outer:
            if name in _KERNELS[kind] and start <= event.start_ns() < end:
                found.setdefault(kind, []).append(name)
                break
    return {kind: _counted(names) for kind, names in found.items()}


def _onednn(log: str) -> tuple[dict[str, list[str]], set[str]]:
    """The implementations that oneDNN says it executed, by kind, and the types they took."""
    found: dict[str, list[str]] = {}
    types: set[str] = set()
    for line in log.splitlines():
        parts = line.split(",")
        if len(parts) > 6 and parts[0] == "onednn_verbose" and "exec" in parts:
            at = parts.index("exec")
            kind, implementation = parts[at + 2], parts[at + 3]
            if kind in ("convolution", "matmul", "inner_product"):
                found.setdefault(kind, []).append(implementation)
                types |= {_ONEDNN_TYPES[t] for t in re.findall(r"\bsrc:(\w+):", line)}
    return found, types


_COMPUTES = re.compile(
    r"conv|gemm|gemv|xmma|cutlass|fprop|winograd|fmha|flash|attention", re.IGNORECASE
)
"""Names of what runs on a GPU: convolutions, matrix products, attention."""
_RETURNS = re.compile(r"^(?:void|std::enable_if<.*?>::type)\s+")


def _short(name: str) -> str:
    """A kernel's name without return type, template parameters and arguments."""
    plain = _RETURNS.sub("", name.replace("(anonymous namespace)::", ""))
    return re.split(r"[<(]", plain, maxsplit=1)[0].strip()


def _counted(names: list[str]) -> str:
    return ", ".join(f"{name} x{n}" for name, n in sorted(Counter(names).items()))


@contextmanager
def _output_to_file() -> Iterator[Callable[[], str]]:
    """Catch what C code writes to standard output; yields a function that returns it."""
    sys.stdout.flush()
    kept = os.dup(1)
    text: list[str] = []
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            yield lambda: text[0]
        finally:
            sys.stdout.flush()
            _flush_c()
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            text.append(file.read().decode(errors="replace"))


def _flush_c() -> None:
    """Flush the C library's own buffers: oneDNN prints through them."""
    import ctypes

    ctypes.CDLL(None).fflush(None)
