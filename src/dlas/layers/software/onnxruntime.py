"""ONNX Runtime on its CPU execution provider."""

from __future__ import annotations

import json
import mmap
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlas.core.errors import StepError, UserError, near
from dlas.core.protocols import (
    Form,
    HardwareTechnique,
    Program,
    Ran,
    Refusal,
    Session,
    Software,
    Techniques,
    unavailable,
)
from dlas.layers.software.shared import refusals
from dlas.layers.software.shared.work import Work, settle
from dlas.networks.onnx_file import in_order, precision_of
from dlas.networks.onnx_operators import ORT, PRODUCTS

if TYPE_CHECKING:
    from dlas.core.protocols import Array

MODEL = "model.onnx"
PROVIDER = "CPUExecutionProvider"
_OURS = {
    "intra_op_num_threads": "it follows from hardware.threads",
    "inter_op_num_threads": "it is 1: operators run one after another",
    "enable_profiling": "dlas profiles in a run that is not timed",
    "profile_file_prefix": "dlas profiles in a run that is not timed",
    "optimized_model_filepath": "it writes a file at every load",
}
VNNI = {"avx512_vnni", "avx_vnni", "avx10_1"}
_TYPES = {
    "float": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "double": "float64",
    "uint8": "int8",
    "int8": "int8",
}


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime(Software):
    """ONNX Runtime: all graph optimizations, operators in sequence, its threads left to spin.

    Spinning (waiting threads poll, which is quicker and keeps the processors busy) is ONNX
    Runtime's own default and is kept. float16 networks are stored in float16 and executed in
    float32 on x86-64, for which it has no float16 kernels.

    ``options`` sets attributes of ``SessionOptions`` (``{graph_optimization_level:
    ORT_ENABLE_EXTENDED}``) and, where the name has a dot, its configuration entries
    (``{session.intra_op.allow_spinning: "0"}``).
    """

    name: ClassVar[str] = "onnxruntime"
    form: ClassVar[Form] = "onnx"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")
    extra: ClassVar[str] = "onnx"
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    preload: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    executes: ClassVar[Mapping[str, str]] = {"float16": "float32"}
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.work",
        "dlas.networks.onnx_file",
    )

    options: dict[str, bool | int | float | str] = field(default_factory=dict)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse what its CPU kernels lack: bfloat16, chosen algorithms and instruction sets."""
        if stack.precision == "bfloat16":
            return unavailable(
                "onnxruntime's CPU provider has no bfloat16 kernels for convolutions and matrix "
                "products: a session cannot be made"
            )
        return (
            refusals.own_algorithm(stack, self.name)
            or refusals.cpu_only(stack, self.name)
            or refusals.native_isa(stack, self.name, "it has no setting for the instruction set")
        )

    def suspected(self, stack: Techniques, flags: Collection[str]) -> str:
        """Say that 8-bit weights saturate where x86 has no VNNI (ResNet-8: off by 0.63 of 1)."""
        if stack.precision != "int8" or "avx2" not in flags or VNNI & set(flags):
            return ""
        return (
            "this CPU has no VNNI, and without it onnxruntime adds 8-bit products in pairs that "
            "saturate at 16 bits: `int8: {weight_bits: 7}` keeps clear of that"
        )

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Store the ONNX model, its weights in float16 where that is asked for."""
        import onnx

        self.settings(1)  # a wrong option is told here, once, and not in every measurement
        model = onnx.load(program.onnx())
        if program.precision == "float16" and precision_of(model) != "float16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            model = in_order(convert_float_to_float16(model, keep_io_types=True))
        elif program.precision == "bfloat16":
            raise StepError("onnxruntime has no bfloat16 kernels on the CPU")
        (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))
        return {"precision": program.precision}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Make a session: graph optimization happens here, as for any user of ONNX Runtime."""
        return OrtSession(folder / MODEL, self, hardware.threads)

    def settings(self, threads: int) -> Any:
        """Return session options with those of the user set and checked.

        Raises:
            UserError: options that ONNX Runtime does not know.
        """
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        problems = []
        for name, value in self.options.items():
            problem = (_entry if "." in name else _attribute)(settings, name, value)
            if problem:
                problems.append(f"onnxruntime: options: {problem}")
        if problems:
            raise UserError(problems)
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        return settings


def _attribute(settings: Any, name: str, value: Any) -> str | None:
    """Set an attribute of the session options; return what is wrong with it, if anything."""
    known = [
        a for a in dir(settings) if not a.startswith("_") and not callable(getattr(settings, a))
    ]
    if name in _OURS:
        return f"{name!r} cannot be set: {_OURS[name]}."
    if name not in known:
        return f"SessionOptions has no {name!r}.{near(name, known)} It has: {', '.join(known)}."
    now = getattr(settings, name)
    members = getattr(type(now), "__members__", None)
    if members is not None:
        if value not in members:
            return (
                f"{name!r} takes one of {', '.join(members)}, got {value!r}.{near(value, members)}"
            )
        value = members[value]
    elif type(now) is not type(value):
        return f"{name!r} takes a {type(now).__name__}, got {value!r}."
    setattr(settings, name, value)
    return None


def _entry(settings: Any, name: str, value: Any) -> str | None:
    """Set a configuration entry; return what is wrong with it, if anything."""
    if not _is_entry(name):
        return f"this ONNX Runtime knows no entry {name!r}.{near(name, _entries())}"
    settings.add_session_config_entry(name, str(value))
    return None


@cache
def _is_entry(name: str) -> bool:
    """Whether a name stands in ONNX Runtime's library, which itself accepts any."""
    wanted = name.encode() + b"\0"
    return any(text.find(wanted) >= 0 for text in _library())


@cache
def _entries() -> frozenset[str]:
    """The names of configuration entries that stand in ONNX Runtime's library."""
    pattern = re.compile(rb"\b(?:session|optimization|mlas|ep)\.[a-z0-9_.]+[a-z0-9]\0")
    found = {m for text in _library() for m in re.findall(pattern, text)}
    return frozenset(name[:-1].decode() for name in found)


def _library() -> Iterator[mmap.mmap]:
    from onnxruntime.capi import onnxruntime_pybind11_state as library

    with Path(library.__file__).open("rb") as file:
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class OrtSession:
    """A session of ONNX Runtime with one input and one output."""

    def __init__(self, model: Path, runtime: OnnxRuntime, threads: int) -> None:
        import onnxruntime

        self._model, self._runtime, self._threads = model, runtime, threads
        self._session = onnxruntime.InferenceSession(
            str(model), runtime.settings(threads), providers=[PROVIDER]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = [self._session.get_outputs()[0].name]

    def __call__(self, x: Array) -> Array:
        """Infer."""
        output: Array = self._session.run(self._output, {self._input: x})[0]
        return output

    def observe(self, x: Array) -> Ran:
        """Run a second session of the same model and options under ONNX Runtime's profiler."""
        import onnxruntime

        settings = self._runtime.settings(self._threads)
        with tempfile.TemporaryDirectory() as folder:
            settings.enable_profiling = True
            settings.profile_file_prefix = str(Path(folder) / "profile")
            session = onnxruntime.InferenceSession(
                str(self._model), settings, providers=[PROVIDER]
            )
            session.run(self._output, {self._input: x})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        nodes = [
            e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")
        ]
        precision, fallbacks = settle([work for node in nodes if (work := _work(node))])
        return Ran(
            precision=precision,
            threads=_threads(nodes, session),
            kernels=_kernels(nodes),
            fallbacks=fallbacks,
        )


def _input_type(node: Mapping[str, Any]) -> str:
    """The type of a node's first input; unsigned and signed bytes are both int8."""
    inputs = node["args"]["input_type_shape"]
    kind = next(iter(inputs[0])) if inputs and inputs[0] else ""
    return _TYPES.get(kind, kind)


def _work(node: Mapping[str, Any]) -> Work | None:
    """Return a convolution or matrix product with its type, None for any other node."""
    operator = node["args"]["op_name"]
    if not any(part in operator for part in ("Conv", "Gemm", "MatMul")):
        return None
    known = PRODUCTS.get(("", operator)) or PRODUCTS.get((ORT, operator))
    # Some quantize by themselves what they are given in floats.
    kind = "int8" if known and known.integer else _input_type(node)
    return Work(f"{operator} {node['name'].removesuffix('_kernel_time')}", kind)


def _kernels(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return for each kind of operator: provider, layout where blocked, input type, count."""
    found: dict[str, Counter[str]] = {}
    for node in nodes:
        blocked = "nchwc" if node["name"].endswith("_nchwc_kernel_time") else ""
        parts = (node["args"]["provider"], blocked, _input_type(node))
        kernel = " ".join(part for part in parts if part)
        found.setdefault(node["args"]["op_name"], Counter())[kernel] += 1
    return {
        operator: ", ".join(f"{kernel} x{n}" for kernel, n in sorted(kernels.items()))
        for operator, kernels in sorted(found.items())
    }


def _threads(nodes: Sequence[Mapping[str, Any]], session: Any) -> int:
    """Return the size of the thread pool: what the profile lists, or the session's own options.

    A session of one thread has no pool, and its profile lists none.
    """
    for node in nodes:
        stats = node["args"].get("thread_scheduling_stats")
        if stats:
            return 1 + len(stats["sub_threads"])
    return int(session.get_session_options().intra_op_num_threads)
