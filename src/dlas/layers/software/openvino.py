"""OpenVINO on its CPU plug-in."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlas.core.errors import UserError, near
from dlas.core.protocols import (
    Form,
    HardwareTechnique,
    Precision,
    Program,
    Ran,
    Refusal,
    Session,
    Software,
    Techniques,
    unavailable,
)
from dlas.layers.software.shared import isa, refusals
from dlas.layers.software.shared.work import Work, settle

if TYPE_CHECKING:
    from dlas.core.protocols import Array

BLOB, INFO = "model.blob", "openvino.json"
_HINTS: Mapping[Precision, str] = {
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int8": "f32",  # what the quantized model leaves in floating point stays float32
}
_FLAGS: Mapping[str, tuple[str, ...]] = {
    "float16": ("avx512_fp16", "amx_fp16", "avx_ne_convert", "asimdhp"),
    "bfloat16": ("avx512bw", "avx_ne_convert"),
}
"""CPU flags, one of which OpenVINO is expected to need for a type; without it another runs.

Its own list of capabilities says something else: without bfloat16 instructions it leaves BF16 out,
and executes it all the same on a CPU with AVX-512."""
_OURS = {
    "INFERENCE_NUM_THREADS": "it follows from hardware.threads",
    "INFERENCE_PRECISION_HINT": "it follows from the optimization layer",
    "NUM_STREAMS": "it is 1: one inference at a time",
}
_TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "int8"}
_COMPUTES = ("Convolution", "FullyConnected", "MatMul", "ScaledDotProductAttention")


@dataclass(frozen=True, kw_only=True)
class OpenVino(Software):
    """OpenVINO: latency hint, one stream, the inference precision stated (float32 means float32).

    Stored is the blob that OpenVINO exports of the compiled model: its graph is optimized then,
    while its machine code is generated whenever it is loaded; OpenVINO has no form that keeps it.
    Its threads are not pinned, so that they stay on the processors of their process. ``options``
    sets properties of the CPU plug-in, e.g. ``{EXECUTION_MODE_HINT: ACCURACY}``.

    Its own int8 (``int8: {route: own}``) is NNCF's: it knows which operators the CPU plug-in has
    integer kernels for, and corrects biases by what the quantization shifts.
    """

    name: ClassVar[str] = "openvino"
    form: ClassVar[Form] = "onnx"
    requires: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "openvino"
    libraries: ClassVar[tuple[str, ...]] = ("openvino",)
    preload: ClassVar[tuple[str, ...]] = ("openvino",)
    cpu_decides: ClassVar[tuple[Precision, ...]] = ("float16", "bfloat16")
    quantizer: ClassVar[str] = "nncf"
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.work",
        "dlas.layers.software.shared.isa",
    )

    options: dict[str, bool | int | float | str] = field(default_factory=dict)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse chosen algorithms, devices, instruction sets, and to quantize without NNCF."""
        if stack.left_to_runtime and not self.python and find_spec("nncf") is None:
            return unavailable(
                "openvino quantizes by NNCF, which is not installed: pip install 'dlas[nncf]'"
            )
        return (
            refusals.own_algorithm(stack, self.name)
            or refusals.cpu_only(stack, self.name)
            or refusals.native_isa(
                stack, self.name, "its matrix products from MLAS choose it by themselves"
            )
        )

    def expects(self, precision: Precision, flags: Collection[str]) -> str:
        """Return what runs instead of a narrow type that OpenVINO has no kernels for."""
        for narrow in (precision, "bfloat16"):  # which it takes where it has no float16
            needed = _FLAGS.get(narrow, ())
            if not needed or set(needed) & set(flags):
                return narrow
        return "float32"

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Compile the ONNX model for this CPU and store the exported blob."""
        import openvino

        core = openvino.Core()
        self._check(core)
        model = core.read_model(str(program.onnx()))
        images = program.calibration()
        if images is not None:
            model = _quantized(model, images, program.spec.batch)
        compiled = core.compile_model(model, "CPU", self._config(program.precision, 1))
        blob = compiled.export_model()
        (folder / BLOB).write_bytes(blob.getvalue() if isinstance(blob, io.BytesIO) else blob)
        (folder / INFO).write_text(json.dumps({"precision": program.precision}), encoding="utf-8")
        return {"precision": program.precision}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Import the blob with the number of threads."""
        import openvino

        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        config = self._config(info["precision"], hardware.threads)
        blob = (folder / BLOB).read_bytes()
        return OpenVinoSession(openvino.Core().import_model(blob, "CPU", config))

    def _config(self, precision: Precision, threads: int) -> dict[str, Any]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            **self.options,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }

    def _check(self, core: Any) -> None:
        """Raise for options that OpenVINO refuses.

        Raises:
            UserError: all of them, with OpenVINO's own words.
        """
        known = [p for p, way in core.get_property("CPU", "SUPPORTED_PROPERTIES").items()
                 if way == "RW" and p not in _OURS]  # fmt: skip
        problems = []
        for name, value in self.options.items():
            if name in _OURS:
                problems.append(f"openvino: options: {name!r} cannot be set: {_OURS[name]}.")
                continue
            try:
                core.set_property("CPU", {name: value})
            except RuntimeError as error:
                said = [line for line in str(error).splitlines() if line.strip()][-1]
                problems.append(f"openvino: options: {name}={value!r}: {said}{near(name, known)}")
        if problems:
            raise UserError(problems)


def _quantized(model: Any, images: Array, batch: int) -> Any:
    """Return a model that NNCF has quantized on images, calibrated on all of them."""
    os.environ.setdefault("NNCF_CI", "1")  # else it reports each use to its makers
    import nncf

    batches = [images[at : at + batch] for at in range(0, len(images), batch)]
    kind = nncf.ModelType.TRANSFORMER if _attends(model) else None
    return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches), model_type=kind)


def _attends(model: Any) -> bool:
    """Whether a model holds attention: a softmax that is multiplied by something."""
    for op in model.get_ops():
        kind = op.get_type_name()
        read_by = [
            at.get_node().get_type_name() for o in op.outputs() for at in o.get_target_inputs()
        ]
        if kind == "ScaledDotProductAttention" or (kind == "Softmax" and "MatMul" in read_by):
            return True
    return False


class OpenVinoSession:
    """A compiled model with one inference request."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def __call__(self, x: Array) -> Array:
        """Infer; the input is read where it lies, the output is copied out."""
        output: Array = self._request.infer([x], share_inputs=True)[0]
        return output

    def observe(self, x: Array) -> Ran:
        """Infer once and read the graph that OpenVINO executes."""
        self(x)
        nodes = [
            {key: str(getattr(value, "value", value)) for key, value in op.get_rt_info().items()}
            | {"name": op.get_friendly_name()}
            for op in self._compiled.get_runtime_model().get_ops()
        ]
        works = [
            Work(f"{n['layerType']} {n['name']}", _TYPES.get(n["runtimePrecision"], "other"))
            for n in nodes
            if n["layerType"] in _COMPUTES
        ]
        kernels: dict[str, Counter[str]] = {}
        for node in nodes:
            if node["layerType"] not in ("Const", "Input", "Output"):
                kernels.setdefault(node["layerType"], Counter())[node["primitiveType"]] += 1
        precision, fallbacks = settle(works)
        return Ran(
            precision=precision,
            threads=int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            isa=isa.widest(kernel for count in kernels.values() for kernel in count),
            kernels={
                kind: ", ".join(f"{kernel} x{n}" for kernel, n in sorted(count.items()))
                for kind, count in sorted(kernels.items())
            },
            fallbacks=fallbacks,
        )
