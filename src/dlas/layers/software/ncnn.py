"""ncnn on the CPU: Tencent's runtime for phones and boards."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlas.core.errors import StepError, UserError, near
from dlas.core.protocols import (
    Algorithm,
    Form,
    HardwareTechnique,
    KernelChoice,
    Precision,
    Program,
    Ran,
    Refusal,
    Session,
    Software,
    Techniques,
    unavailable,
)
from dlas.layers.software.shared import ncnn_kernels, own_threads, refusals
from dlas.layers.software.shared.ncnn_blobs import PARAM, SeenBlobs, open_net, write_net
from dlas.layers.software.shared.ncnn_files import (
    INPUT,
    NO_SGEMM,
    NO_WINOGRAD,
    OUTPUT,
    NcnnLayer,
    converted,
    read_layers,
    with_features_off,
)
from dlas.layers.software.shared.ncnn_int8 import AS_IT_COMES, QUANTIZED, quantized
from dlas.layers.software.shared.work import Work, settle

if TYPE_CHECKING:
    from dlas.core.protocols import Array
    from dlas.kernels import Conv2d

INFO = "ncnn.json"
_FEATURES_OFF = {"winograd": 0, "gemm": NO_WINOGRAD, "direct": NO_SGEMM | NO_WINOGRAD}
"""The algorithms that can be asked for, and the options that are then kept from a layer."""
_OF_OPTIMIZATION = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic",
                    "use_bf16_packed", "use_bf16_storage", "use_int8_inference",
                    "use_int8_packed", "use_int8_storage", "use_int8_arithmetic")  # fmt: skip
_OURS = {
    "num_threads": "it follows from hardware.threads",
    "use_winograd_convolution": "it follows from the algorithm layer",
    "use_sgemm_convolution": "it follows from the algorithm layer",
    "use_vulkan_compute": "dlas runs ncnn on the CPU",
    **dict.fromkeys(_OF_OPTIMIZATION, "it follows from the optimization layer"),
}
_SILENT = ("Input", "Split", "Noop")
"""Layers that compute nothing."""
_ISA = {16: "avx512", 8: "avx2", 4: "sse42"}
"""What a blob of so many channels side by side is made for, on x86-64."""


@dataclass(frozen=True, kw_only=True)
class Ncnn(Software):
    """ncnn: converted by pnnx, on the CPU, one image after another.

    ncnn has no batches: the images of one are inferred in turn. ``float16`` stores the weights so
    and computes in float32 on x86-64, for which it has no float16 kernels; on ARM it computes in
    float16 where the CPU does. ``bfloat16`` holds weights and images in bfloat16 and adds in
    float32; without instructions for it they are widened before they are multiplied.

    Its own int8 (``int8: {route: own}``) is that of its tools ``ncnn2table`` and ``ncnn2int8``,
    done by dlas since its Python package lacks them; the image alone keeps its whole range. timm's
    attention becomes one layer of ncnn's.

    The algorithm of convolutions can be chosen: ``winograd``, ``gemm`` or ``direct``. ``options``
    sets fields of ncnn's ``Option``, e.g. ``{lightmode: false}`` or ``{use_packing_layout:
    false}``.
    """

    name: ClassVar[str] = "ncnn"
    form: ClassVar[Form] = "module"
    requires: ClassVar[tuple[str, ...]] = ("ncnn", "pnnx")
    extra: ClassVar[str] = "ncnn"
    libraries: ClassVar[tuple[str, ...]] = ("ncnn", "pnnx", "torch")
    preload: ClassVar[tuple[str, ...]] = ("ncnn",)
    executes: ClassVar[Mapping[str, str]] = {"float16": "float32"}
    cpu_decides: ClassVar[tuple[Precision, ...]] = ("float16", "bfloat16")
    quantizer: ClassVar[str] = "ncnn"
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.work",
        "dlas.layers.software.shared.ncnn_attention",
        "dlas.layers.software.shared.ncnn_blobs",
        "dlas.layers.software.shared.ncnn_files",
        "dlas.layers.software.shared.ncnn_int8",
        "dlas.layers.software.shared.ncnn_kernels",
        "dlas.layers.software.shared.own_threads",
    )

    options: dict[str, bool | int] = field(default_factory=dict)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse the shared int8 model, other algorithms than its three, other devices."""
        if stack.precision == "int8" and not stack.left_to_runtime:
            return unavailable(
                "ncnn's int8 kernels take signed activations without a zero point, and those of "
                "the shared quantized model are unsigned with one: take int8: {route: own}, its "
                "own quantization"
            )
        return (
            refusals.torch_model(stack, self.name)
            or _other_algorithm(stack.algorithm)
            or refusals.cpu_only(stack, self.name)
            or refusals.native_isa(stack, self.name, "it takes the widest that the CPU has")
        )

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Convert the module by pnnx, and write beside each layer what its algorithm rules out."""
        import numpy as np

        module, images = program.network().module, program.calibration()
        if module is None or (program.precision == "int8" and images is None):
            raise StepError("ncnn builds from a torch module, and reads no quantized file")
        shape, half = program.spec.shape[1:], program.precision == "float16"
        options = {
            **self.settings(program.precision),
            "num_threads": 1,
        }  # a wrong one is told here
        text, weights = converted(module, (1, *shape), half)
        write_net(folder, text, weights)
        net = open_net(folder, options)
        blobs = SeenBlobs(net, read_layers(text))
        blobs.run(np.zeros(shape, np.float32))  # what ncnn cannot run is told here
        asked = _asked(program.algorithm, blobs)
        if images is not None:
            text, weights = quantized(text, weights, net, images)
        off = {name: _FEATURES_OFF[primitive] for name, primitive in asked.items()}
        write_net(folder, with_features_off(text, off), weights)
        info = {"precision": program.precision, "algorithm": asked}
        (folder / INFO).write_text(json.dumps(info), encoding="utf-8")
        return info

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Load the network with the number of threads: ncnn packs its weights here."""
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        options = {**self.settings(info["precision"]), "num_threads": hardware.threads}
        return NcnnSession(folder, options, info["algorithm"], info["precision"] == "int8")

    def settings(self, precision: Precision) -> dict[str, bool | int]:
        """Return the options of ncnn that a precision asks for, and the user's, checked.

        Raises:
            UserError: options that ncnn does not have.
        """
        import ncnn

        known = _fields(ncnn.Option())
        problems = [
            f"ncnn: options: {said}"
            for name, value in self.options.items()
            if (said := _problem(name, value, known))
        ]
        if problems:
            raise UserError(problems)
        return self.unchecked(precision)

    def unchecked(self, precision: Precision) -> dict[str, bool | int]:
        """Return the same without asking ncnn: of what was built they are right."""
        narrow = {
            **dict.fromkeys(_OF_OPTIMIZATION[:3], precision == "float16"),
            "use_bf16_storage": precision == "bfloat16",
            "use_vulkan_compute": False,
        }
        return {**narrow, **self.options}


def _fields(options: Any) -> dict[str, bool | int]:
    found = {name: getattr(options, name) for name in dir(options) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, bool | int)}


def _problem(name: str, value: object, known: Mapping[str, bool | int]) -> str | None:
    """Return what is wrong with an option, if anything."""
    if name in _OURS:
        return f"{name!r} cannot be set: {_OURS[name]}."
    if name not in known:
        free = [each for each in known if each not in _OURS]
        return f"Option has no {name!r}.{near(name, free)} It has: {', '.join(free)}."
    if type(known[name]) is not type(value):
        return f"{name!r} takes a {type(known[name]).__name__}, got {value!r}."
    return None


# ---------------------------------------------------------------- the algorithm


def _other_algorithm(algorithm: Algorithm) -> Refusal | None:
    """Refuse an algorithm that asks for what ncnn does not have, for a plain 3x3 convolution."""
    from dlas.kernels import Conv2d

    if not algorithm.chooses:
        return None
    called = type(algorithm).name
    if algorithm.names:
        return unavailable(
            f"ncnn's operators do not keep the names of the network's modules, by which {called!r}"
            " names kernels: ask for one algorithm for all of them"
        )
    plain = Conv2d(1, 16, 14, 14, 16, (3, 3), padding=(1, 1, 1, 1))
    problem = _not_here(algorithm.kernel(plain, "native"))
    return unavailable(f"{problem}, and {called!r} asks for that") if problem else None


def _not_here(answer: KernelChoice | str | None) -> str | None:
    """Return what ncnn lacks of a kernel that an algorithm names, None: nothing."""
    if answer is None:
        return None
    choice = KernelChoice(answer) if isinstance(answer, str) else answer
    if choice.weights != "dense":
        return f"ncnn has no kernels for weights in {choice.weights.upper()}"
    if choice.primitive not in (*_FEATURES_OFF, "native"):
        known = ", ".join(_FEATURES_OFF)
        return f"ncnn has no algorithm {choice.primitive!r} to choose (it has {known})"
    return None


def _primitive(algorithm: Algorithm, asked: Conv2d, name: str) -> str | None:
    """Return the primitive that an algorithm asks for, None where the choice is ncnn's.

    Raises:
        StepError: ncnn does not have it.
    """
    answer = algorithm.kernel(asked, "native")
    if problem := _not_here(answer):
        raise StepError(f"{problem}, which is asked for {name}")
    primitive = answer.primitive if isinstance(answer, KernelChoice) else answer
    return primitive if primitive in _FEATURES_OFF else None


def _asked(algorithm: Algorithm, blobs: SeenBlobs) -> dict[str, str]:
    """Return what an algorithm asks for each convolution, by the names of ncnn's layers."""
    if not algorithm.chooses:
        return {}
    every = blobs.convolutions()
    asked = {o.name: _primitive(algorithm, blobs.operator(o), o.name) for o in every}
    return {name: primitive for name, primitive in asked.items() if primitive is not None}


_ONLY_3X3 = "ncnn has Winograd for 3x3 convolutions of stride 1, of more than 8 channels"
_WHY = {
    ("winograd", "gemm"): _ONLY_3X3,
    ("winograd", "direct"): _ONLY_3X3,
    ("gemm", "direct"): "ncnn computes convolutions of few channels directly",
    ("direct", "gemm"): "a 1x1 convolution is a matrix product",
}
"""Why another algorithm ran than the one that was asked for."""


def _fallbacks(asked: Mapping[str, str], ran: Mapping[str, str]) -> list[str]:
    """Return a sentence for each convolution that ran otherwise than it was asked to."""
    said = []
    for name, wanted in asked.items():
        kernel = ran[name]
        if (wanted, kernel) == ("direct", "depthwise") or kernel == wanted:
            continue
        why = _WHY.get((wanted, kernel), "ncnn has kernels of its own for channels in groups")
        said.append(f"{name}: {kernel} instead of {wanted}: {why}")
    return said


# ---------------------------------------------------------------- running


class NcnnSession:
    """A network that ncnn has loaded."""

    def __init__(
        self,
        folder: Path,
        options: Mapping[str, bool | int],
        asked: Mapping[str, str],
        int8: bool = False,
    ) -> None:
        import ncnn
        import numpy as np

        self._ncnn, self._numpy = ncnn, np
        self._folder, self._options, self._asked, self._int8 = folder, options, asked, int8
        self._net = open_net(folder, options)

    def __call__(self, x: Array) -> Array:
        """Copy each image into a blob of ncnn's, infer, copy the result out."""
        rows = [self._one(image) for image in x]
        outputs: Array = self._numpy.stack(rows)
        return outputs

    def _one(self, image: Array) -> Any:
        extractor = self._net.create_extractor()
        extractor.input(INPUT, self._ncnn.Mat(image).clone())
        failed, output = extractor.extract(OUTPUT)
        if failed:
            raise StepError(f"ncnn: an inference fails with {failed}")
        return self._numpy.array(output, dtype=self._numpy.float32).reshape(-1)

    def observe(self, x: Array) -> Ran:
        """Infer, then look at each blob, and at the memory that each convolution asks for.

        Where ncnn does not let itself be looked at so, it is told why, and the rest is empty.
        """
        threads = own_threads.that_ran(lambda: self(x))
        layers = read_layers((self._folder / PARAM).read_text(encoding="utf-8"))
        blobs = SeenBlobs(self._net, layers)
        try:
            blobs.run(x[0])
            ran = self._algorithms(blobs)
            precision, mixed = settle(self._works(blobs))
        except StepError as error:
            return Ran(threads=threads, fallbacks=(f"what ran could not be read: {error}",))
        others = Counter(
            layer.kind for layer in layers if layer.name not in ran and layer.kind not in _SILENT
        )
        return Ran(
            precision=precision,
            threads=threads,
            isa=_isa(blobs.lanes()),
            kernels={**ran, **{kind: f"x{n}" for kind, n in sorted(others.items())}},
            fallbacks=(*_fallbacks(self._asked, ran), *mixed),
        )

    def _opened(self, other: Mapping[str, bool | int]) -> Any:
        return open_net(self._folder, {**self._options, **other})

    def _algorithms(self, blobs: SeenBlobs) -> dict[str, str]:
        """Return the algorithm of each convolution."""
        every = blobs.convolutions()
        plain = [layer for layer in every if layer.kind == "Convolution"]
        found = ncnn_kernels.by_memory(self._opened, plain, blobs.inputs)
        return {layer.name: found.get(layer.name) or _in_groups(layer) for layer in every}

    def _works(self, blobs: SeenBlobs) -> list[Work]:
        """Return convolutions and matrix products with the type of what they wrote, or int8."""
        every = blobs.products()
        narrow = "bfloat16" if self._options["use_bf16_storage"] else "float16"
        types = {32: "float32", 16: narrow, 8: "int8"}
        can = [o for o in every if self._int8 and o.kind in (*QUANTIZED, *AS_IT_COMES)]
        ints = ncnn_kernels.in_int8(self._opened, can, blobs.inputs) if can else set()
        return [
            Work(f"{o.kind} {o.name}", "int8" if o.name in ints else types[blobs.bits(o)])
            for o in every
        ]


def _isa(lanes: int) -> str | None:
    """Return the instruction set that so many channels side by side tell of, None: they do not."""
    import ncnn

    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    if lanes == 8 and not ncnn.cpu_support_x86_avx2():
        return None  # AVX alone packs eight, too
    return _ISA.get(lanes)


def _in_groups(layer: NcnnLayer) -> str:
    """Return what a convolution of channels in groups is called: ncnn has one way for them."""
    return "depthwise" if layer.number(7, 1) == layer.number(0, 0) else "grouped"
