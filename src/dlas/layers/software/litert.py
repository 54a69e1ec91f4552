"""LiteRT (once TensorFlow Lite) on the CPU: Google's runtime for phones and boards."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dlas.core.errors import StepError
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
from dlas.core.wording import plain
from dlas.layers.software.shared import litert_convert, litert_graph, own_threads, refusals
from dlas.layers.software.shared.litert_graph import PRODUCTS
from dlas.layers.software.shared.work import settle

if TYPE_CHECKING:
    from dlas.core.protocols import Array

MODEL = "model.tflite"
CONVERTS = "litert-torch"
"""The distribution that makes its files of torch modules."""
NORM = "RSQRT"
"""The operator that a norm ends with where it is computed as the network runs."""
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED")
"""Products with weights, as the quantizer calls them."""
LOOKS = 20
"""Inferences in which threads are counted."""
_HOW = (
    "python3 -m venv convert && convert/bin/pip install litert-torch, and say "
    "converter: convert/bin/python"
)


@dataclass(frozen=True, kw_only=True)
class LiteRt(Software):
    """LiteRT: converted by litert-torch, run by its interpreter, whose CPU kernels are XNNPACK's.

    ``float16`` stores the weights so and computes in float32: the interpreter has no setting for
    XNNPACK's float16. Its own int8 (``int8: {route: own}``) is ai-edge-quantizer's: int8
    activations with a zero point, weights with a scale for each output channel; inputs and
    outputs are int8, too, and converted within the timed region. Of a network with LayerNorms only
    convolutions and linear layers are quantized, as in the shared model.

    What converts (litert-torch) brings a gigabyte of packages and pins versions that dlas does not
    share. So ``converter: PATH`` names the Python of an environment of its own, which needs
    litert-torch and nothing of dlas; what runs is the interpreter alone, with numpy.
    """

    name: ClassVar[str] = "litert"
    form: ClassVar[Form] = "module"
    requires: ClassVar[tuple[str, ...]] = ("ai_edge_litert", "ai_edge_quantizer")
    extra: ClassVar[str] = "litert"
    libraries: ClassVar[tuple[str, ...]] = (
        "ai-edge-litert",
        "ai-edge-quantizer",
        "torch",
        CONVERTS,
    )
    preload: ClassVar[tuple[str, ...]] = ("ai_edge_litert.interpreter",)
    executes: ClassVar[Mapping[str, str]] = {"float16": "float32"}
    quantizer: ClassVar[str] = "ai-edge-quantizer"
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.work",
        "dlas.layers.software.shared.litert_graph",
        "dlas.layers.software.shared.litert_convert",
        "dlas.layers.software.shared.own_threads",
    )
    places: ClassVar[tuple[str, ...]] = ("python", "converter")

    converter: str = ""
    """The Python that has litert-torch; empty: the one that builds."""

    def needs(self) -> tuple[str, ...]:
        """Return the modules that it builds and runs with; what converts may be elsewhere."""
        own = super().needs()
        return own if self.converter else (*own, "litert_torch")

    def built_by(self) -> Mapping[str, str]:
        """Return the version of what converts, as it is found beside its Python."""
        found = _version_beside(self.converter) if self.converter else None
        return {CONVERTS: found} if found else {}

    def fingerprint(self) -> Any:
        """Return the version of what converts in an environment of its own.

        In the one that builds it is among the libraries.
        """
        return {CONVERTS: _version_beside(self.converter)} if self.converter else None

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse bfloat16, the shared int8 model, chosen algorithms, devices and instructions."""
        if stack.precision == "bfloat16":
            return unavailable(
                "litert has no bfloat16 kernels for convolutions and matrix products on the CPU"
            )
        return (
            refusals.shared_int8(stack, self.name)
            or refusals.torch_model(stack, self.name)
            or refusals.own_algorithm(stack, self.name)
            or refusals.cpu_only(stack, self.name)
            or refusals.native_isa(stack, self.name, "XNNPACK takes the widest that the CPU has")
            or self._no_converter()
        )

    def _no_converter(self) -> Refusal | None:
        """Refuse where nothing can be converted."""
        if not self.converter:
            here = self.python or find_spec("litert_torch") is not None
            said = "" if here else "litert needs litert-torch to convert networks"
        elif shutil.which(self.converter) is None:
            said = f"litert: converter: {self.converter!r} is no program that can be run"
        elif _version_beside(self.converter) is None:
            said = f"litert: converter: {self.converter!r} has no litert-torch beside it"
        else:
            said = ""
        return unavailable(f"{said}: {_HOW}") if said else None

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Convert the module; quantize it, or cast its weights, where that is asked for."""
        module, images = program.network().module, program.calibration()
        if module is None or (program.precision == "int8" and images is None):
            raise StepError("litert is converted from a torch module, and reads no quantized file")
        if program.precision == "bfloat16":
            raise StepError("litert has no bfloat16 kernels on the CPU")
        content = _converted(module, program.spec.shape, self.converter or sys.executable)
        if images is not None:
            content = _quantized(content, images, program.spec.batch)
        elif program.precision == "float16":
            content = _halved(content)
        (folder / MODEL).write_bytes(content)
        return {"precision": program.precision}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Make an interpreter with the number of threads: XNNPACK packs the weights here."""
        return LiteRtSession(folder / MODEL, hardware.threads)


class LiteRtSession:
    """An interpreter with one input and one output."""

    def __init__(self, model: Path, threads: int) -> None:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        self._numpy, self._threads = np, threads
        self._interpreter = Interpreter(model_path=str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def __call__(self, x: Array) -> Array:
        """Infer; what the network takes and gives as whole numbers is converted here."""
        self._interpreter.set_tensor(self._input["index"], self._whole(x))
        self._interpreter.invoke()
        return self._float(self._interpreter.get_tensor(self._output["index"]))

    def _whole(self, x: Array) -> Any:
        """Return an input in the type that the network takes."""
        kind, (scale, zero) = self._input["dtype"], self._input["quantization"]
        if kind == self._numpy.float32:
            return x
        limits = self._numpy.iinfo(kind)
        whole = self._numpy.rint(x * self._numpy.float32(1 / scale)) + zero
        return whole.clip(limits.min, limits.max).astype(kind)

    def _float(self, y: Any) -> Array:
        """Return an output in float32."""
        scale, zero = self._output["quantization"]
        if y.dtype == self._numpy.float32:
            outputs: Array = y
        else:
            outputs = (y.astype(self._numpy.float32) - zero) * self._numpy.float32(scale)
        return outputs

    def observe(self, x: Array) -> Ran:
        """Infer, and ask the interpreter which operators its delegate took, in which types."""
        threads, fewer = self._seen(x)
        try:
            every = litert_graph.operators(self._interpreter)
        except AttributeError as error:  # these questions are no part of its public interface
            said = f"what ran could not be read: {error}"
            return Ran(threads=threads, fallbacks=(said, *fewer))
        precision, mixed = settle([each.work for each in every if each.kind in PRODUCTS])
        return Ran(
            precision=precision,
            threads=threads,
            kernels=litert_graph.kernels(every),
            fallbacks=(*mixed, *fewer),
        )

    def _seen(self, x: Array) -> tuple[int | None, tuple[str, ...]]:
        """Return how many threads computed; None, and a sentence, where fewer than asked did.

        Of a small network one thread can be through before another one is awake, which says
        nothing of how many there are.
        """
        seen = own_threads.that_ran(lambda: [self(x) for _ in range(LOOKS)])
        if seen is None or seen >= self._threads:
            return seen, ()
        return None, (f"fewer than {self._threads} threads were seen to compute: {seen}",)


# ---------------------------------------------------------------- the file


def _program(python: str) -> Path:
    """Return where a Python lies; a link is not followed, for it is what makes an environment."""
    return Path(shutil.which(python) or python).absolute()


def _version_beside(python: str) -> str | None:
    """Return the version of litert-torch in the environment of a Python, None: it is not there."""
    packages = _program(python).parent.parent.glob("lib/python3*/site-packages")
    for found in distributions(path=[str(folder) for folder in packages]):
        if (found.metadata["Name"] or "").replace("_", "-").lower() == CONVERTS:
            return found.version
    return None


def _converted(module: Any, shape: tuple[int, ...], python: str) -> bytes:
    """Return the file that litert-torch makes of a module for an input of this shape.

    Raises:
        StepError: it makes none, with the end of what it says.
    """
    import torch

    script = Path(litert_convert.__file__)
    with tempfile.TemporaryDirectory() as place, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, target = Path(place) / "model.pt2", Path(place) / MODEL
        exported = torch.export.export(copy.deepcopy(module).eval(), (torch.zeros(shape),))
        torch.export.save(exported, source)
        done = subprocess.run(
            [str(_program(python)), str(script), str(source), str(target)],
            capture_output=True, text=True, errors="replace", check=False, cwd=place,
        )  # fmt: skip
        if done.returncode or not target.is_file():
            said = [line for line in plain(done.stderr).splitlines() if line.strip()]
            end = said[-1][:300] if said else f"it ended with {done.returncode}"
            raise StepError(f"litert-torch does not convert this network: {end}")
        return target.read_bytes()


def _quantized(content: bytes, images: Array, batch: int) -> bytes:
    """Return a file quantized on images: ranges are the least and the largest seen on all of them.

    (The quantizer's default is a moving average over images, which cuts off the few large values
    that a transformer rests on.)
    """
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    manager = _recipe(content)
    made = quantizer.Quantizer(bytearray(content), manager.get_quantization_recipe())
    seen = Calibrator(bytearray(content), num_threads=1, qsv_update_func=min_max_update)
    key, name = _signature(content)
    batches = [{name: images[at : at + batch]} for at in range(0, len(images), batch)]
    seen.calibrate({key: batches}, manager)
    return bytes(made.quantize(seen.get_model_qsvs()).quantized_model)


def _recipe(content: bytes) -> Any:
    """Return how to quantize a file: all of it; of one that normalizes as it runs, its products.

    A norm over tokens is made of means, squares and their roots, which eight bits ruin, and its
    sums carry a few large values.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer.recipe import TFLOperationName
    from ai_edge_quantizer.recipe_manager import RecipeManager

    kinds = {node["op_name"] for node in Interpreter(model_content=content)._get_ops_details()}
    every = [TFLOperationName(kind) for kind in WEIGHTED] if NORM in kinds else [
        TFLOperationName.ALL_SUPPORTED
    ]  # fmt: skip
    manager = RecipeManager()
    for kind in every:
        manager.add_static_config(".*", kind, activation_num_bits=8, weight_num_bits=8)
    return manager


def _halved(content: bytes) -> bytes:
    """Return a file whose weights are stored in float16."""
    from ai_edge_quantizer import quantizer, recipe, recipe_manager

    manager = recipe_manager.RecipeManager()
    every, cast = recipe.TFLOperationName.ALL_SUPPORTED, recipe.AlgorithmName.FLOAT_CASTING
    manager.add_weight_only_config(".*", every, num_bits=16, algorithm_key=cast)
    made = quantizer.Quantizer(bytearray(content), manager.get_quantization_recipe())
    return bytes(made.quantize().quantized_model)


def _signature(content: bytes) -> tuple[str, str]:
    """Return what a file calls its only function, and that function's only input."""
    from ai_edge_litert.interpreter import Interpreter

    known = Interpreter(model_content=content).get_signature_list()
    ((key, ends),) = known.items()
    (name,) = ends["inputs"]
    return key, name
