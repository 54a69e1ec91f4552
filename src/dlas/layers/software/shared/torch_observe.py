"""What PyTorch ran, read from its profiler and from oneDNN's own log."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dlas.core.protocols import Ran
from dlas.layers.software.shared import isa
from dlas.layers.software.shared.work import Work, settle

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

    events, log = _watched(run, device)
    kernels = _kernels(events)
    if device == "cuda":
        launched = [e.name() for e in events if _on_gpu(e) and _COMPUTES.search(e.name())]
        kernels["cuda"] = _counted([_short(name) for name in launched])
    logged = _executed(log)
    kernels |= _by_kind(logged)
    executed = [each.implementation for each in logged]
    types = {each.precision for each in logged if each.precision}
    return Ran(
        precision="+".join(sorted(_tf32(events, _precisions(events)) | types)) or None,
        threads=torch.get_num_threads(),
        isa=None
        if device == "cuda"
        else isa.widest([torch.backends.cpu.get_cpu_capability(), *executed]),
        kernels=kernels,
    )


def _watched(run: Callable[[], Any], device: str = "cpu") -> tuple[Any, str]:
    """Call ``run`` once; return what PyTorch's profiler saw, and oneDNN's log."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with _output_to_file() as log:
        verbose = torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON)
        with verbose, profile(activities=activities, record_shapes=True) as seen:
            run()
    return seen.profiler.kineto_results.events(), log()


def observe_int8(run: Callable[[], Any]) -> Ran:
    """Call ``run``, a network on PyTorch's quantized kernels, once and return what it executed.

    oneDNN logs what it executes; a quantized product that it does not log is another engine's.
    """
    import torch

    events, log = _watched(run)
    outer = _outermost(events)
    works = [Work(e.name(), "int8") for e in outer if e.name() in _NARROW]
    works += [Work(_FLOAT[e.name()], _first_type(e)) for e in outer if e.name() in _FLOAT]
    precision, fallbacks = settle(works)
    logged = [each for each in _executed(log) if each.precision == "int8"]
    kernels = {"int8": _counted([e.name() for e in outer if e.name().startswith("quantized::")])}
    floats = [e.name().removeprefix("aten::") for e in outer if _first_type(e) == "float32"]
    kernels["float32"] = _counted([name for name in floats if name not in _HANDED_ON])
    kernels |= _by_kind(logged)
    engine = torch.backends.quantized.engine
    left = sum(work.precision == "int8" for work in works) - len(logged)
    if left > 0:
        kernels["fbgemm" if engine == "x86" else engine] = f"products in eight bits x{left}"
    names = [each.implementation for each in logged]
    return Ran(
        precision=precision,
        threads=torch.get_num_threads(),
        isa=isa.widest([torch.backends.cpu.get_cpu_capability(), *names]),
        kernels={kind: names for kind, names in kernels.items() if names},
        fallbacks=fallbacks,
    )


def observe_compiled_int8(run: Callable[[], Any], calls: Mapping[str, str]) -> Ran:
    """Call ``run``, a compiled quantized network, once and return what it executed.

    ``calls`` is what the compiled code calls; products in float that oneDNN does not log stand
    there alone.
    """
    import torch

    _, log = _watched(run)
    executed = _executed(log)
    works = [Work(f"{e.kind} by {e.implementation}", e.precision) for e in executed]
    for name, count in re.findall(r"(\w+) x(\d+)", calls.get("inductor.extern", "")):
        if _FLOAT_PRODUCT.fullmatch(name):
            works += [Work(name, "float32")] * int(count)
    precision, fallbacks = settle(works)
    return Ran(
        precision=precision,
        threads=torch.get_num_threads(),
        isa=isa.widest(
            [torch.backends.cpu.get_cpu_capability(), *(e.implementation for e in executed)]
        ),
        kernels={**_by_kind(executed), **calls},
        fallbacks=fallbacks,
    )


_FLOAT_PRODUCT = re.compile(r"(?:mm|addmm|bmm|baddbmm|mkl_linear|\w*attention\w*)(?:_out)?")
"""What compiled code calls of PyTorch's own products."""
_FLOAT = {**_KINDS, **{f"aten::{kind}": kind for kind in ("conv1d", "conv3d", "einsum")}}
_NARROW = tuple(
    f"quantized::{kind}{relu}" for kind in ("conv2d", "linear") for relu in ("", "_relu")
)
_HANDED_ON = {
    "quantize_per_tensor", "dequantize", "to", "view", "reshape", "permute", "contiguous",
    "select", "slice", "expand", "split", "unsqueeze", "squeeze", "detach", "lift_fresh",
    "resolve_conj", "resolve_neg",
}  # fmt: skip
"""What computes nothing, or is the way into eight bits and out of them."""


def _outermost(events: Any) -> list[Any]:
    """Return the operators that no other one called, in the order in which they ran."""
    found, end = [], 0
    ran = (e for e in events if e.name().startswith(("aten::", "quantized::")))
    for event in sorted(ran, key=lambda e: (e.start_ns(), -e.duration_ns())):
        if event.start_ns() >= end:
            found.append(event)
            end = event.start_ns() + event.duration_ns()
    return found


def _first_type(event: Any) -> str:
    return next((_TYPES.get(kind, kind) for kind in event.dtypes() if kind), "")


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


@dataclass(frozen=True)
class _Logged:
    """A product that oneDNN executed."""

    kind: str
    implementation: str
    precision: str
    """The type of what it read."""


def _executed(log: str) -> list[_Logged]:
    """Return what oneDNN's log says it executed."""
    found = []
    for line in log.splitlines():
        parts = line.split(",")
        if len(parts) > 6 and parts[0] == "onednn_verbose" and "exec" in parts:
            at = parts.index("exec")
            if parts[at + 2] in ("convolution", "matmul", "inner_product"):
                types = [_ONEDNN_TYPES.get(t, t) for t in re.findall(r"\bsrc:(\w+):", line)]
                found.append(_Logged(parts[at + 2], parts[at + 3], *types[:1] or [""]))
    return found


def _by_kind(executed: Iterable[_Logged]) -> dict[str, str]:
    """Return the implementations of each kind, counted."""
    found: dict[str, list[str]] = {}
    for each in executed:
        found.setdefault(f"onednn.{each.kind}", []).append(each.implementation)
    return {kind: _counted(names) for kind, names in found.items()}


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
