"""PyTorch, eager: the network as a user of PyTorch runs it."""

from __future__ import annotations

import copy
import json
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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

if TYPE_CHECKING:
    from dlas.core.protocols import Array

INFO = "pytorch.json"
ENGINE, VNNI = "quantized.engine", "avx512_vnni"
EXACT = "onednn"
"""The engine whose sums of 8-bit products are exact where the CPU has VNNI."""
INT8_SOURCES = (
    "dlas.layers.software.shared.work",
    "dlas.layers.software.shared.qdq_listing",
    "dlas.layers.software.shared.qdq_parts",
    "dlas.layers.software.shared.qdq_patterns",
    "dlas.layers.software.shared.torch_int8",
    "dlas.layers.software.shared.torch_moves",
    "dlas.layers.software.shared.torch_operators",
)
"""What reads the shared quantized model and computes it in PyTorch."""
_ISA = {
    "avx2": ("avx2", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE"),
    "vnni": ("avx512", "AVX512_CORE_VNNI"),
    "amx": ("avx512", "AVX512_CORE_AMX"),
}
"""What ATen (and MKL) and oneDNN call the instruction sets."""


@dataclass(frozen=True, kw_only=True)
class PyTorch(Software):
    """PyTorch in eager mode: the ``nn.Module`` itself, in eval and inference mode.

    ``layout: nhwc`` stores weights and images channels last. float16 and bfloat16 networks are
    converted as a whole and really run in that type. On a GPU float32 is float32: TF32, which
    PyTorch allows for convolutions, is off. ``options`` sets flags of ``torch.backends`` by their
    dotted names, e.g. ``{mkldnn.enabled: false}``.

    int8 is the shared quantized model by PyTorch's quantized kernels (``torch.ops.quantized``):
    what they have an operator in eight bits for runs so, the rest in float32. oneDNN's kernels
    multiply, unless ``{quantized.engine: x86}`` asks for PyTorch's own default: that is fbgemm
    for linear layers and for convolutions of more than 100 groups, whose depthwise kernels
    saturate at eight bits on any CPU (it is made for activations of seven).
    PyTorch 2.14 calls quantized tensors deprecated (pytorch/pytorch#184982).
    """

    name: ClassVar[str] = "pytorch"
    form: ClassVar[Form] = "module"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    preload: ClassVar[tuple[str, ...]] = ("dlas.layers.software.shared.torch_runtime",)
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.torch_store",
        "dlas.layers.software.shared.torch_observe",
        "dlas.layers.software.shared.isa",
        *INT8_SOURCES,
    )

    layout: Literal["nchw", "nhwc"] = "nchw"
    options: dict[str, bool | int | float | str] = field(default_factory=dict)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse chosen algorithms, ONNX-only models, and int8 where no kernels are for it."""
        if stack.precision == "int8" and (said := self._no_int8(stack)):
            return said
        onnx = None if stack.asked_precision == "int8" else refusals.torch_model(stack, self.name)
        return refusals.own_algorithm(stack, self.name) or onnx

    def _no_int8(self, stack: Techniques) -> Refusal | None:
        """Refuse int8 on other devices than CPUs, and held to an instruction set by fbgemm."""
        if stack.hardware.device != "cpu":
            return unavailable(
                "pytorch's quantized kernels are those of CPUs: int8 on "
                f"{stack.hardware.device} is not implemented in dlas"
            )
        if stack.hardware.isa != "native" and self.options.get(ENGINE, EXACT) != EXACT:
            return unavailable(
                f"pytorch's int8 by {self.options[ENGINE]} cannot be held to "
                f"{stack.hardware.isa}: fbgemm chooses by itself, {{{ENGINE}: {EXACT}}} obeys"
            )
        return None

    def suspected(self, stack: Techniques, flags: Collection[str]) -> str:
        """Say that 8-bit weights saturate without VNNI (pytorch/pytorch#103646 and #44939)."""
        if stack.precision != "int8" or "avx2" not in flags:
            return ""
        saturate = "add 8-bit products in pairs that saturate at 16 bits"
        if VNNI not in flags or stack.hardware.isa in ("avx2", "avx512"):
            return (
                f"without AVX-512 VNNI PyTorch's kernels, fbgemm's and oneDNN's, {saturate}: "
                "`int8: {weight_bits: 7}` keeps clear of that"
            )
        if self.options.get(ENGINE, EXACT) == EXACT:
            return ""
        return (
            f"fbgemm's depthwise kernels {saturate} on any CPU: "
            f"`int8: {{weight_bits: 7}}` keeps clear of that, or {{{ENGINE}: {EXACT}}}"
        )

    def environment(self, hardware: HardwareTechnique) -> dict[str, str]:
        """Hold ATen, oneDNN and MKL to an instruction set, where one is asked for."""
        if hardware.isa not in _ISA:
            return {}
        aten, onednn = _ISA[hardware.isa]
        return {
            "ATEN_CPU_CAPABILITY": aten,
            "ONEDNN_MAX_CPU_ISA": onednn,
            "MKL_ENABLE_INSTRUCTIONS": aten.upper(),
        }

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Convert the module to the precision and layout that are asked for, and store it."""
        import torch

        from dlas.layers.software.shared.torch_store import save_module

        _check_options(self.options)
        if program.precision == "int8":
            return _build_int8(program, folder)
        module = program.network().module
        if module is None:
            raise StepError("pytorch builds from a torch module in a floating-point type")
        kind = getattr(torch, program.precision)
        module = copy.deepcopy(module).eval().to(kind)
        example = torch.zeros(program.spec.shape, dtype=kind)
        if self.layout == "nhwc":
            module = module.to(memory_format=torch.channels_last)
            example = example.to(memory_format=torch.channels_last)
        stored = save_module(module, example, folder)
        (folder / INFO).write_text(json.dumps({"precision": program.precision}), encoding="utf-8")
        return {"stored": stored, "precision": program.precision}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Load the module, set the threads of this process, move the module to the device."""
        import torch

        from dlas.layers.software.shared.torch_store import load_module

        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        if info["precision"] == "int8":
            return self._load_int8(folder, hardware)
        module, reason = load_module(folder)
        # After the module, whose code may set threads and flags when it is imported.
        self._set_up(hardware)
        device = "cpu"
        if hardware.device == "cuda":
            device = f"cuda:{getattr(hardware, 'index', 0)}"
            module = module.to(device)
        kind = getattr(torch, info["precision"])
        return TorchSession(module, device, kind, self.layout == "nhwc", reason)

    def _set_up(self, hardware: HardwareTechnique) -> None:
        """Set the threads and flags of this process."""
        set_threads(hardware.threads)
        _float32_means_float32()
        _check_options(self.options)
        for name, value in self.options.items():
            owner, leaf = _option(name)
            setattr(owner, leaf, value)

    def _load_int8(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Pack the weights for the engine and return the network that PyTorch runs in int8."""
        import torch

        from dlas.layers.software.shared.torch_int8 import load_operations

        if EXACT in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = EXACT
        self._set_up(hardware)
        return Int8Session(load_operations(folder), "cpu", torch.float32, self.layout == "nhwc")


def _build_int8(program: Program, folder: Path) -> Any:
    """Store the shared quantized model as what PyTorch computes, and load it once.

    Raises:
        StepError: PyTorch is to quantize, or cannot compute the model: which operator, and why.
    """
    import onnx
    import torch

    from dlas.layers.software.shared.qdq_listing import read_listing
    from dlas.layers.software.shared.torch_int8 import load_operations, save_operations

    if program.calibration() is not None:
        raise StepError("pytorch runs the shared quantized model, and has no way to make its own")
    gone = [name for name in ("quint8", "quantize_per_tensor") if not hasattr(torch, name)]
    if gone:
        raise StepError(
            f"PyTorch {torch.__version__} has no quantized tensors any more (torch.{gone[0]}), "
            "and so no quantized kernels: take torch-compile, or an older PyTorch"
        )
    listing = read_listing(onnx.load(program.onnx()))
    operations = [asdict(each) for each in listing.operations]
    save_operations(operations, listing.constants, (listing.given, listing.made), folder)
    try:
        load_operations(folder)
    except ValueError as error:
        raise StepError(str(error)) from error
    (folder / INFO).write_text(json.dumps({"precision": "int8"}), encoding="utf-8")
    counted = Counter(each.op for each in listing.operations)
    return {"precision": "int8", "operations": dict(sorted(counted.items()))}


def set_threads(threads: int) -> None:
    """Set the threads of PyTorch's intra-op pools (OpenMP and MKL); one between operators."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def _float32_means_float32() -> None:
    """Switch TF32 off: NVIDIA's 10-bit mantissa, which cuDNN may use for float32 by default.

    Errors of 3e-3 were seen on ResNet-8 with it, where float32 keeps to 1e-5.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class TorchSession:
    """A module on its device."""

    def __init__(
        self, module: Any, device: str, kind: Any, channels_last: bool, reason: str = ""
    ) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._device = device
        self._kind = kind
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._reason = reason
        # Images may come from read-only memory; they are not written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

    def __call__(self, x: Array) -> Array:
        """Wrap, convert and copy the images to the device, infer, and bring the result back.

        The copy back waits for the device to finish.
        """
        torch = self._torch
        with torch.inference_mode():
            images = torch.from_numpy(x).to(
                self._device, self._kind, memory_format=self._format, non_blocking=False
            )
            outputs: Array = self._module(images).to("cpu", torch.float32).contiguous().numpy()
        return outputs

    def observe(self, x: Array) -> Ran:
        """Run once under PyTorch's profiler and oneDNN's log."""
        from dataclasses import replace

        from dlas.layers.software.shared.torch_observe import observe

        ran = observe(lambda: self(x), self._device.partition(":")[0])
        if self._reason:
            note = f"not the module but its exported graph: {self._reason}"
            return replace(ran, fallbacks=(note,))
        return ran


class Int8Session(TorchSession):
    """A quantized network on the CPU."""

    def observe(self, x: Array) -> Ran:
        """Run once under PyTorch's profiler and oneDNN's log: what ran in eight bits, what not."""
        from dlas.layers.software.shared.torch_observe import observe_int8

        return observe_int8(lambda: self(x))


def _option(name: str) -> tuple[Any, str]:
    """Return the object in ``torch.backends`` and its attribute that an option's name means."""
    import torch

    *path, leaf = name.split(".")
    owner: Any = torch.backends
    for part in path:
        owner = getattr(owner, part, None)
    if owner is None or not path or leaf.startswith("_") or not hasattr(owner, leaf):
        raise UserError(
            f"pytorch: options: torch.backends has no flag {name!r}.{near(name, _known())} "
            "Flags are written like 'mkldnn.enabled' or 'cudnn.benchmark'."
        )
    return owner, leaf


def _known() -> list[str]:
    import torch

    known = []
    for name, backend in vars(torch.backends).items():
        # Some backends are module objects with properties, which dir() of them leaves out.
        for flag in {*dir(backend), *dir(type(backend))}:
            if isinstance(getattr(backend, flag, None), bool | int | str):
                known.append(f"{name}.{flag}")
    return [name for name in known if "._" not in name and not name.startswith("_")]


def _check_options(options: Mapping[str, Any]) -> None:
    problems: list[str] = []
    for name, value in options.items():
        try:
            owner, leaf = _option(name)
        except UserError as error:
            problems += error.problems
            continue
        now = getattr(owner, leaf)
        if type(now) is not type(value):
            problems.append(
                f"pytorch: options: {name!r} is {now!r} and takes a {type(now).__name__}, "
                f"got {value!r}."
            )
        elif name == ENGINE and value not in owner.supported_engines:
            problems.append(
                f"pytorch: options: {name!r} is one of {', '.join(owner.supported_engines)} here, "
                f"got {value!r}."
            )
    if problems:
        raise UserError(problems)
