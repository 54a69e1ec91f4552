"""ExecuTorch on the CPU: PyTorch's runtime for phones and boards, with XNNPACK's kernels."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlas.core.errors import StepError
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
from dlas.core.wording import sentence
from dlas.layers.software.shared import refusals
from dlas.layers.software.shared.work import settle
from dlas.layers.software.shared.xnnpack_events import kernels, named, portable, works

if TYPE_CHECKING:
    from dlas.core.protocols import Array

MODEL, INFO = "model.pte", "executorch.json"
_HALF = ("f16c", "avx512_fp16", "asimdhp")
"""CPU flags, one of which XNNPACK's float16 kernels are expected to need."""
_TOKEN_NORMS = ("aten.layer_norm.default", "aten.rms_norm.default")
"""Norms over what one token holds, as an exported graph calls them."""


@dataclass(frozen=True, kw_only=True)
class ExecuTorch(Software):
    """ExecuTorch: exported by PyTorch, lowered to XNNPACK as far as that takes it.

    Operators that XNNPACK does not take run by ExecuTorch's portable kernels, which are slow;
    they are told. ``float16`` computes in it, with weights that the file keeps in float32. Its own
    int8 (``int8: {route: own}``) is PyTorch's quantization for export with XNNPACK's quantizer:
    int8 activations with a zero point, weights with a scale for each output channel. Of a network
    that normalizes tokens (LayerNorm, RMSNorm) only convolutions and linear layers are in int8,
    linear ones with a range for each row that is taken as it runs; the rest stays float32.
    """

    name: ClassVar[str] = "executorch"
    form: ClassVar[Form] = "module"
    requires: ClassVar[tuple[str, ...]] = ("executorch", "torchao")
    extra: ClassVar[str] = "executorch"
    libraries: ClassVar[tuple[str, ...]] = ("executorch", "torchao", "torch")
    preload: ClassVar[tuple[str, ...]] = ("executorch.runtime",)
    cpu_decides: ClassVar[tuple[Precision, ...]] = ("float16",)
    quantizer: ClassVar[str] = "torchao"
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.pt2e",
        "dlas.layers.software.shared.work",
        "dlas.layers.software.shared.xnnpack_events",
    )

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse bfloat16, the shared int8 model, chosen algorithms, devices and instructions."""
        if stack.precision == "bfloat16":
            return unavailable(
                "executorch's XNNPACK has no bfloat16 kernels for convolutions and matrix products"
            )
        return (
            refusals.shared_int8(stack, self.name)
            or refusals.torch_model(stack, self.name)
            or refusals.own_algorithm(stack, self.name)
            or refusals.cpu_only(stack, self.name)
            or refusals.native_isa(stack, self.name, "XNNPACK takes the widest that the CPU has")
        )

    def expects(self, precision: Precision, flags: Collection[str]) -> str:
        """Return float32 for float16 where the CPU cannot convert it: XNNPACK then has none."""
        return "float32" if precision == "float16" and not {*_HALF} & {*flags} else precision

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Export the module, in int8 quantized on the images, and lower it to XNNPACK."""
        module, images = program.network().module, program.calibration()
        if module is None or (program.precision == "int8" and images is None):
            raise StepError("executorch is exported from a torch module, and reads no ONNX file")
        if program.precision == "bfloat16":
            raise StepError("executorch's XNNPACK has no bfloat16 kernels")
        half = program.precision == "float16"
        content = _lowered(module, program.spec.shape, half, images)
        (folder / MODEL).write_bytes(content)
        (folder / INFO).write_text(json.dumps({"half": half}), encoding="utf-8")
        return {"precision": program.precision}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Load the program: XNNPACK packs the weights here. Its threads are the process's."""
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        return ExecuTorchSession(folder / MODEL, hardware.threads, info["half"])


class ExecuTorchSession:
    """A loaded program with one method, one input and one output."""

    def __init__(self, model: Path, threads: int, half: bool = False) -> None:
        import numpy as np
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        self._torch, self._pool = torch, portable_lib
        self._model, self._type = model, np.float16 if half else np.float32
        self._program = Runtime.get().load_program(str(model))
        self._method = self._program.load_method("forward")

    def __call__(self, x: Array) -> Array:
        """Infer; the output is copied out, for the next inference writes there, too."""
        return self._infer(self._method, x)

    def _infer(self, method: Any, x: Array) -> Array:
        given = self._torch.from_numpy(x.astype(self._type, copy=False))
        (output,) = method.execute((given,))
        outputs: Array = output.numpy().astype("float32")
        return outputs

    def observe(self, x: Array) -> Ran:
        """Run the program a second time with ExecuTorch's event tracing, and read its dump.

        Where the dump cannot be read that is told, and the rest is empty.
        """
        threads = int(self._pool._threadpool_get_thread_count())
        try:
            names = self._trace(x)
        except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
            said = sentence(error)
            return Ran(threads=threads, fallbacks=(f"what ran could not be read: {said}",))
        found = named(names)
        precision, mixed = settle(works(found))
        return Ran(
            precision=precision,
            threads=threads,
            kernels=kernels(found),
            fallbacks=(*mixed, *portable(names)),
        )

    def _trace(self, x: Array) -> list[str]:
        """Return the names of what happens in an inference.

        Without a buffer for values: those of float16 make a dump that cannot be read.
        """
        from executorch.devtools import Inspector
        from executorch.runtime import Runtime

        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dump, values = Path(place) / "dump.etdp", Path(place) / "values.bin"
            traced = Runtime.get().load_program(str(self._model), enable_etdump=True)
            self._infer(traced.load_method("forward"), x)
            traced.write_etdump_result_to_file(str(dump), str(values))
            blocks = Inspector(etdump_path=str(dump)).event_blocks
            return [event.name for block in blocks for event in block.events]


def _lowered(module: Any, shape: tuple[int, ...], half: bool, images: Array | None) -> bytes:
    """Return the program that ExecuTorch makes of a module for an input of this shape."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    made = copy.deepcopy(module).eval()
    made, x = (made.half(), torch.zeros(shape).half()) if half else (made, torch.zeros(shape))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if images is not None:
            made = _quantized(made, x, images)
        exported = torch.export.export(made, (x,))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        return bytes(lowered.to_executorch().buffer)


def _quantized(module: Any, x: Any, images: Array) -> Any:
    """Return a module that XNNPACK's quantizer has quantized on images, batches of ``x``'s."""
    from dlas.layers.software.shared.pt2e import calibrated

    return calibrated(module, x, images, _quantizer_for)


def _quantizer_for(graph: Any) -> Any:
    """Return XNNPACK's quantizer, set for all that it knows or, over tokens, for products alone.

    ExecuTorch's own settings are static for networks of convolutions and dynamic for transformers
    (``executorch.examples.xnnpack.QuantType``). A static one takes the sums between blocks, too,
    where one range for all tokens loses the small ones, as the class token is in timm's networks.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    static = get_symmetric_quantization_config(is_per_channel=True)
    if not any(str(node.target) in _TOKEN_NORMS for node in graph.nodes):
        return XNNPACKQuantizer().set_global(static)
    by_row = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    aten, quantizer = torch.ops.aten, XNNPACKQuantizer()
    quantizer.set_operator_type(aten.linear.default, by_row)
    quantizer.set_operator_type(aten.conv2d.default, static)
    return quantizer.set_operator_type(aten.conv_transpose2d.input, static)
