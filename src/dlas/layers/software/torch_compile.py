"""PyTorch's compiler, ahead of time: ``torch.compile``'s back end with its result on disk."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
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
from dlas.layers.software.pytorch import INT8_SOURCES, VNNI
from dlas.layers.software.shared import refusals

if TYPE_CHECKING:
    from dlas.core.protocols import Array

PACKAGE, INFO = "package", "torch-compile.json"
_DEFAULTS: Mapping[str, Any] = {
    "freezing": True,  # weights are constants: folded, and packed for oneDNN
    "cpp.dynamic_threads": True,  # the number of threads is taken when it runs
}


@dataclass(frozen=True, kw_only=True)
class TorchCompile(Software):
    """``torch.compile`` (Inductor) through AOTInductor, weights frozen into the compiled code.

    The code is generated and compiled once, for this CPU, and serves any number of threads; a
    process that measures only loads it. ``options`` sets entries of ``torch._inductor.config`` by
    their dotted names, e.g. ``{max_autotune: true}`` or ``{cpp.min_chunk_size: 1024}``.

    int8 is compiled to oneDNN's integer kernels by torchao's passes: the shared quantized model,
    or what torchao's quantizer for x86 makes of the network itself (``int8: {route: own}``).
    """

    name: ClassVar[str] = "torch-compile"
    form: ClassVar[Form] = "module"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    preload: ClassVar[tuple[str, ...]] = ("torch",)
    quantizer: ClassVar[str] = "torchao"
    int8_passes: ClassVar[str] = "torchao"
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.pytorch",
        "dlas.layers.software.shared.torch_observe",
        "dlas.layers.software.shared.isa",
        *INT8_SOURCES,
        "dlas.layers.software.shared.torch_pt2e",
        "dlas.layers.software.shared.pt2e",
    )

    options: dict[str, bool | int | float | str] = field(default_factory=dict)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse chosen algorithms, instruction sets, devices, and what it lacks tools for."""
        if stack.precision == "int8" and not self.python and find_spec("torchao") is None:
            return unavailable(
                "torch-compile finds integer kernels by torchao's passes, and torchao is not "
                "installed: pip install 'dlas[torchao]'"
            )
        as_onnx = stack.asked_precision == "int8" and not stack.left_to_runtime
        return (
            refusals.own_algorithm(stack, self.name)
            or (None if as_onnx else refusals.torch_model(stack, self.name))
            or refusals.cpu_only(stack, self.name)
            or refusals.native_isa(stack, self.name, "it compiles for the CPU it runs on")
            or _no_compiler()
        )

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Export the module in its precision, compile it, and store the unpacked package."""
        import torch
        from torch._inductor import aoti_compile_and_package
        from torch._inductor import config as inductor

        _check_options(self.options)
        module, example = _to_compile(program, hardware)
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        inductor.compile_threads = 1  # no pool of worker processes that would outlive the build
        with tempfile.TemporaryDirectory() as place, torch.no_grad():
            exported = torch.export.export(module, (example,))
            package = aoti_compile_and_package(
                exported,
                package_path=str(Path(place) / "model.pt2"),
                inductor_configs={**_DEFAULTS, **self.options},
            )
            kernels = _unpack(Path(package), folder / PACKAGE)
        info = {"precision": program.precision, "kernels": kernels}
        (folder / INFO).write_text(json.dumps(info), encoding="utf-8")
        return {"precision": program.precision, "kernels": kernels}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Set the threads of this process and load the compiled library where it lies."""
        import torch

        from dlas.layers.software.pytorch import set_threads

        set_threads(hardware.threads)
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        loader = torch._C._aoti.AOTIModelPackageLoader(
            str(folder / PACKAGE), "model", False, 1, -1
        )
        return CompiledSession(loader, info["precision"], info["kernels"])


def _to_compile(program: Program, hardware: HardwareTechnique) -> tuple[Any, Any]:
    """Return the module to compile, in its precision, and an input of it.

    Raises:
        StepError: there is no module, or one operation of the quantized model cannot be computed.
    """
    import torch

    images, whole = program.calibration(), program.precision != "int8"
    kind = getattr(torch, program.precision) if whole else torch.float32
    example = torch.zeros(program.spec.shape, dtype=kind)
    if not whole and images is None:
        from dlas.layers.software.shared import torch_pt2e

        try:
            return torch_pt2e.shared(program.onnx()), example
        except ValueError as error:
            raise StepError(str(error)) from error
    module = program.network().module
    if module is None:
        raise StepError("torch-compile builds from a torch module, and got an ONNX file")
    module = copy.deepcopy(module).eval().to(kind)
    if images is None:
        return module, example
    from dlas.layers.software.shared import torch_pt2e

    saturates = VNNI not in hardware.describe()["flags"]
    with torch.no_grad():
        return torch_pt2e.own(module, example, images, reduce_range=saturates), example


class CompiledSession:
    """A compiled network."""

    def __init__(self, loader: Any, precision: str, kernels: Mapping[str, str]) -> None:
        import torch

        self._torch, self._loader, self._kernels = torch, loader, kernels
        self._narrow = precision == "int8"
        self._kind = torch.float32 if self._narrow else getattr(torch, precision)
        # Images may come from read-only memory; they are not written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

    def __call__(self, x: Array) -> Array:
        """Wrap and convert the images, infer, convert back."""
        torch = self._torch
        with torch.inference_mode():
            images = torch.from_numpy(x).to(self._kind)
            output = self._loader.boxed_run([images])[0]
            result: Array = output.to(torch.float32).contiguous().numpy()
        return result

    def observe(self, x: Array) -> Ran:
        """Run once under oneDNN's log; beside it stand the calls in the compiled code."""
        from dlas.layers.software.shared.torch_observe import observe, observe_compiled_int8

        if self._narrow:
            return observe_compiled_int8(lambda: self(x), self._kernels)
        ran = observe(lambda: self(x), "cpu")
        return replace(ran, kernels={**ran.kernels, **self._kernels})


def _unpack(package: Path, folder: Path) -> dict[str, str]:
    """Unpack a package without its C++ text; return what that text calls, counted.

    Unpacked here, a process that loads it need not unpack it into a temporary folder.
    """
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(place)
        (top,) = Path(place).iterdir()
        calls: Counter[tuple[str, str]] = Counter()
        for file in sorted(top.rglob("*.cpp")):
            if file.name.endswith(".wrapper.cpp"):
                text = file.read_text(encoding="utf-8")
                calls.update(("inductor.extern", name) for name in
                             re.findall(r"CODE_CHECK\(aoti_torch_cpu_+(\w+)\(", text))  # fmt: skip
                calls.update(("inductor.fused", name) for name in
                             re.findall(r"^ +(cpp_\w+)\(", text, flags=re.MULTILINE))  # fmt: skip
            file.unlink()
        shutil.copytree(top, folder)
    found: dict[str, list[str]] = {}
    for (kind, name), count in sorted(calls.items()):
        found.setdefault(kind, []).append(f"{name} x{count}")
    return {kind: ", ".join(names) for kind, names in found.items()}


def _no_compiler() -> Refusal | None:
    candidates = [os.environ.get("CXX", ""), "g++", "clang++"]
    if any(name and shutil.which(name) for name in candidates):
        return None
    return unavailable("torch-compile needs a C++ compiler: install g++, or set CXX to one")


def _check_options(options: Mapping[str, Any]) -> None:
    from torch._inductor import config as inductor

    known = inductor.get_config_copy()
    problems = []
    for name, value in options.items():
        if name not in known:
            problems.append(
                f"torch-compile: options: torch._inductor.config has no entry {name!r}."
                f"{near(name, known)}"
            )
        elif known[name] is not None and type(known[name]) is not type(value):
            problems.append(
                f"torch-compile: options: {name!r} is {known[name]!r} and takes a "
                f"{type(known[name]).__name__}, got {value!r}."
            )
    if problems:
        raise UserError(problems)
