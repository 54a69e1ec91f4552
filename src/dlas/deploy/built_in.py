"""How the runtimes of dlas are loaded without it, and what its data sets call their classes."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections import deque
from pathlib import Path, PurePosixPath
from typing import Any

from dlas.core.errors import UserError
from dlas.core.protocols import Dataset, Software
from dlas.deploy.shipping import Deployment
from dlas.run.process.interpreters import place_of

STANDALONE = "dlas.deploy.standalone"
KERNELS, KERNEL_LOADER = "dlas.kernels.ground", "kernel_loader"
SHARED, INT8_OPERATORS = "dlas.layers.software.shared", "int8_operators"
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
"""Zalando's names of its classes."""


# ---------------------------------------------------------------- runtimes


def onnxruntime(software: Software, artifact: Path) -> Deployment:
    """Return how ONNX Runtime loads its model."""
    return Deployment(
        f"{STANDALONE}.load_onnxruntime", {"options": _options(software)}, ("onnxruntime",)
    )


def openvino(software: Software, artifact: Path) -> Deployment:
    """Return how OpenVINO loads its blob: with the properties of :class:`OpenVino`."""
    info = json.loads((artifact / "openvino.json").read_text(encoding="utf-8"))
    properties = dict(software._config(info["precision"], 1))  # type: ignore[attr-defined]
    del properties["INFERENCE_NUM_THREADS"]
    return Deployment(f"{STANDALONE}.load_openvino", {"properties": properties}, ("openvino",))


def ncnn(software: Software, artifact: Path) -> Deployment:
    """Return how ncnn loads its two files: with the options of :class:`Ncnn`, without pnnx."""
    info = json.loads((artifact / "ncnn.json").read_text(encoding="utf-8"))
    options = software.unchecked(info["precision"])  # type: ignore[attr-defined]
    return Deployment(f"{STANDALONE}.load_ncnn", {"options": options}, ("ncnn",))


def litert(software: Software, artifact: Path) -> Deployment:
    """Return how LiteRT's interpreter loads its file."""
    return Deployment(f"{STANDALONE}.load_litert", {}, ("ai-edge-litert",))


def executorch(software: Software, artifact: Path) -> Deployment:
    """Return how ExecuTorch loads its program; its Python interface needs PyTorch."""
    settings = json.loads((artifact / "executorch.json").read_text(encoding="utf-8"))
    return Deployment(f"{STANDALONE}.load_executorch", settings, ("executorch", "torch"))


def pytorch(software: Software, artifact: Path) -> Deployment:
    """Return how PyTorch loads its module, and the packages whose classes it is made of.

    Raises:
        UserError: it is made of classes of dlas.
    """
    info = json.loads((artifact / "pytorch.json").read_text(encoding="utf-8"))
    if info["precision"] == "int8":
        return _pytorch_int8(software)
    index = json.loads((artifact / "module.json").read_text(encoding="utf-8"))
    named = list(index.get("globals", ()))
    own = {name for name in named if name.partition(".")[0] == "dlas"}
    if own:
        raise UserError(
            f"the network is made of classes of dlas ({', '.join(sorted(own))}), so PyTorch's "
            "artefact does not load without it: export the cell of another runtime"
        )
    packages = {name.partition(".")[0] for name in named}
    settings: dict[str, Any] = {
        "form": index["form"],
        "globals": named,
        "sources": {name: bool(f["package"]) for name, f in index.get("sources", {}).items()},
        "precision": info["precision"],
        "layout": getattr(software, "layout", "nchw"),
        "options": _options(software),
    }
    needed = ("torch", "timm") if "timm" in packages else ("torch",)
    return Deployment(f"{STANDALONE}.load_pytorch", settings, needed)


def _pytorch_int8(software: Software) -> Deployment:
    """Return how PyTorch loads a list of operations; what computes them goes along."""
    settings = {
        "precision": "int8",
        "layout": getattr(software, "layout", "nchw"),
        "options": _options(software),
    }
    about = '"""Operators of quantized networks in PyTorch (Apache-2.0), as dlas has them."""\n'
    modules = _with_imports(f"{SHARED}.torch_int8", SHARED, INT8_OPERATORS, about)
    beside = {f"{INT8_OPERATORS}/{name}": text.encode() for name, text in modules.items()}
    needed = ("torch", "safetensors")
    return Deployment(f"{STANDALONE}.load_pytorch", settings, needed, beside)


def torch_compile(software: Software, artifact: Path) -> Deployment:
    """Return how PyTorch loads what its compiler made."""
    info = json.loads((artifact / "torch-compile.json").read_text(encoding="utf-8"))
    narrow = info["precision"] == "int8"  # which takes and gives float32
    settings = {"precision": "float32" if narrow else info["precision"]}
    return Deployment(
        f"{STANDALONE}.load_torch_compile", settings, ("torch",), system=("libgomp1",)
    )


def tvm(software: Software, artifact: Path) -> Deployment:
    """Return the loader of our kernels, with TVM's runtime library alone.

    Raises:
        UserError: the library is not installed where the software runs.
    """
    package = place_of("tvm", software.python)
    library = package / "lib" / "libtvm_runtime.so" if package else None
    if library is None or not library.is_file():
        where = f"for {software.python}, or that does not answer" if software.python else "here"
        raise UserError(f"TVM's runtime library is not installed {where}: pip install 'dlas[tvm]'")
    beside = {f"{KERNEL_LOADER}/{library.name}": library.read_bytes()}
    beside |= {f"{KERNEL_LOADER}/{name}": text.encode() for name, text in _kernel_loader().items()}
    return Deployment(f"{STANDALONE}.load_tvm", {}, ("apache-tvm-ffi",), beside)


def _kernel_loader() -> dict[str, str]:
    """Return the modules that load and run a program of our kernels.

    They are those that dlas runs itself; only the package that they import each other from has
    another name.
    """
    about = '"""The loader of `dlas.kernels` (Apache-2.0), as it stands there."""\n'
    return _with_imports(f"{KERNELS}.program", KERNELS, KERNEL_LOADER, about)


def _with_imports(first: str, package: str, called: str, about: str) -> dict[str, str]:
    """Return a module's file and those of its package that it imports, in a package ``called``."""
    found = {"__init__.py": about}
    waiting = deque([first])
    while waiting:
        module = waiting.popleft()
        name = f"{module.rpartition('.')[2]}.py"
        if name in found:
            continue
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        waiting += _imported(text, package)
        found[name] = text.replace(f"from {package}", f"from {called}")
    return found


def _imported(text: str, package: str) -> list[str]:
    """Return the modules of a package that a module imports."""
    modules = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            modules += [f"{package}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            modules.append(str(node.module))
    return modules


def _options(software: Software) -> dict[str, Any]:
    return dict(getattr(software, "options", {}))


# ---------------------------------------------------------------- data sets


def fashion_mnist(dataset: Dataset) -> tuple[str, ...]:
    """Return Zalando's names."""
    return FASHION


def digits(dataset: Dataset) -> tuple[str, ...]:
    """Return the digits."""
    return tuple(str(digit) for digit in range(10))


def image_folder(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the folders, the classes in their order.

    The part of an image's id that is the same for all images of a class, and another for each
    class, is its class's folder.
    """
    every = [dataset.load("train"), dataset.load("test")]
    parts = [PurePosixPath(name).parts for samples in every for name in samples.ids]
    labels = [label for samples in every for label in samples.labels.tolist()]
    count = dataset.spec().classes
    for at in range(min(map(len, parts), default=0)):
        found: dict[int, set[str]] = {}
        for own, label in zip(parts, labels, strict=True):
            found.setdefault(label, set()).add(own[at])
        names = {label: each.pop() for label, each in found.items() if len(each) == 1}
        if len(names) == len(found) == len(set(names.values())) == count:
            return tuple(names[label] for label in range(count))
    return ()


def parquet(dataset: Dataset) -> tuple[str, ...]:
    """Return the names in the metadata that Hugging Face's datasets write, if they are there."""
    import pyarrow.parquet as pq

    samples = dataset.load("test")
    for _, path in getattr(samples, "files", ()):
        metadata = pq.read_schema(path).metadata or {}
        try:
            features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
            names = features[getattr(dataset, "label", "label")]["names"]
        except (KeyError, TypeError, ValueError):
            continue
        return tuple(map(str, names))
    return ()
