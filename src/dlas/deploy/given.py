"""MODEL and PATH as a person gives them -> the choices of a study file that they are."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlas.core import registry
from dlas.core.errors import UserError, near
from dlas.core.protocols import Dataset

IMAGES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
SPLITS = frozenset(("train", "training", "test", "val", "valid", "validation"))
LOOKED_AT = 200
"""Images of a folder whose sizes are looked at, at most."""
LARGEST = 224
"""The size of the input where neither the network nor the images say one."""
BUILDERS = ("build", "create", "make", "get", "model", "network", "net")
"""How functions that make a network are mostly called."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person says beside MODEL and PATH."""

    weights: str = ""
    """A file of trained weights."""
    size: int | None = None
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What was given, as it stands in a study file."""

    folder: Path
    """Where relative paths and own modules are looked for."""
    model: Any
    dataset: Any
    torch: bool
    """Whether the network is a torch module (else an ONNX file)."""
    labelled: bool
    trains: bool
    """Whether there are labelled images to fine-tune on."""
    notes: tuple[str, ...] = ()
    """What was assumed, and how to say otherwise."""


def read_given(model: str, data: str, options: Options) -> Given:
    """Return what MODEL and PATH are.

    Raises:
        UserError: all that is wrong with them.
    """
    problems: list[str] = []
    found: dict[str, Any] = {}
    for name, read in (("model", _model(model, options)), ("data", _data(data, options))):
        try:
            found[name] = read()
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    network: _GivenModel = found["model"]
    images: _Data = found["data"]
    entry, notes = _sized(images, network, options)
    _checked(entry)
    with contextlib.chdir(network.folder):
        name, params = _named(network.entry)
        registry.make("model", name, params).fingerprint()  # is its source, are its files there
    folder = network.folder
    if isinstance(entry, dict) and "root" in entry[images.name]:
        entry[images.name]["root"] = _from(folder, Path(entry[images.name]["root"]))
    labelled = not images.unlabelled
    return Given(folder, network.entry, entry, network.torch, labelled, labelled,
                 (*network.notes, *notes))  # fmt: skip


def _from(folder: Path, path: Path) -> str:
    """Return a path from the study's folder where it lies in it, else the absolute one."""
    full = path.expanduser().absolute()
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)


# ---------------------------------------------------------------- the network


@dataclass(frozen=True, slots=True)
class _GivenModel:
    folder: Path
    entry: Any
    torch: bool = True
    shape: tuple[int | None, ...] = ()
    """The input that it takes, NCHW, where it says one."""
    classes: int | None = None
    notes: tuple[str, ...] = ()


def _model(text: str, options: Options) -> Callable[[], _GivenModel]:
    def read() -> _GivenModel:
        head = text.partition(":")[0]
        if text.startswith("timm/"):
            made = _weighted("timm", {"name": text.removeprefix("timm/")}, options)
            return _GivenModel(Path.cwd(), made, notes=_random(options))
        if text.endswith(".onnx"):
            return _onnx(Path(text))
        if head.endswith(".py"):
            return _file(Path(head), text.partition(":")[2], options)
        if ":" in text:
            made = _weighted("torch", {"factory": text}, options)
            return _GivenModel(Path.cwd(), made, notes=_random(options))
        if text in registry.names("model"):
            registry.make("model", text)
            return _GivenModel(Path.cwd(), text)
        known = registry.names("model")
        raise UserError(
            f"MODEL {text!r} is none: give module:function, a .py file, an .onnx file, timm/NAME, "
            f"or a model of the catalogue ({', '.join(known)}).{near(text, known)}"
        )

    return read


def _weighted(name: str, params: dict[str, Any], options: Options) -> dict[str, Any]:
    if options.weights:
        params = {**params, "weights": str(Path(options.weights).expanduser().absolute())}
        if not Path(params["weights"]).is_file():
            raise UserError(f"--weights {options.weights!r}: no such file")
    registry.make("model", name, params)  # says what is wrong with them
    return {name: params}


def _random(options: Options) -> tuple[str, ...]:
    if options.weights:
        return ()
    return ("no --weights: the network has those that its function gives it",)


def _file(path: Path, function: str, options: Options) -> _GivenModel:
    """Return the network of a Python file: of the function named, else of the only one."""
    if not path.is_file():
        raise UserError(f"MODEL: {path}: no such file")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"MODEL: {path} is no Python that can be read: {error}") from error
    known = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    if function and function not in known:
        listed = ", ".join(known) or "none"
        raise UserError(
            f"MODEL: {path} has no function {function!r}.{near(function, known)} It has: {listed}."
        )
    likely = [name for name in known if name.partition("_")[0] in BUILDERS]
    if not function:
        choices = known if len(known) == 1 else likely
        if len(choices) != 1:
            raise UserError(
                f"MODEL: {path} has {len(known)} functions ({', '.join(known) or 'none'}): name "
                f"the one that makes the network, {path}:FUNCTION. It is called with num_classes, "
                "in_channels and size."
            )
        function = choices[0]
    params = _weighted("torch", {"factory": f"{path.stem}:{function}"}, options)
    return _GivenModel(path.absolute().parent, params, notes=_random(options))


def _onnx(path: Path) -> _GivenModel:
    """Return the network of an ONNX file, with the input and the classes that it states."""
    full = path.expanduser().absolute()
    if not full.is_file():
        raise UserError(f"MODEL: {path}: no such file")
    shapes = _stated(full)
    entry = {"onnx": {"path": full.name}}
    return _GivenModel(full.parent, entry, torch=False, shape=shapes[0],
                  classes=shapes[1][-1] if shapes[1] else None)  # fmt: skip


def _stated(path: Path) -> list[tuple[int | None, ...]]:
    """Return the shapes of the first input and output, None for a free dimension."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise UserError(f"MODEL: {path} is no ONNX file: {error}") from error
    constants = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if not inputs or not graph.output:
        raise UserError(f"MODEL: {path} is no ONNX network: it has no input or no output")
    return [
        tuple(
            d.dim_value if d.HasField("dim_value") else None
            for d in value.type.tensor_type.shape.dim
        )
        for value in (inputs[0], graph.output[0])
    ]


# ---------------------------------------------------------------- the images


@dataclass(frozen=True, slots=True)
class _Data:
    name: str
    params: dict[str, Any]
    sizes: frozenset[tuple[int, int]] = frozenset()
    """Widths and heights that were seen."""
    unlabelled: bool = False


def _data(text: str, options: Options) -> Callable[[], _Data]:
    def read() -> _Data:
        path = Path(text).expanduser()
        if not path.exists() and text in registry.names("dataset"):
            return _Data(text, {})
        if not path.exists():
            known = registry.names("dataset")
            raise UserError(
                f"--data {text!r}: there is no such folder or file, and no data set of that name."
                f"{near(text, known)} Give a folder of images, Parquet, or one of "
                f"{', '.join(known)}."
            )
        if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("**/*.parquet"))):
            return _Data("parquet", {"root": str(path)})
        if path.is_file():
            raise UserError(f"--data {text!r} is a file, but no Parquet file")
        return _folder(path, text)

    return read


def _folder(path: Path, text: str) -> _Data:
    """Return the data set that a folder of images is: its folders are the classes, if any."""
    images = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGES and f.is_file())
    if not images:
        raise UserError(f"--data {text!r} holds no images: give a folder of images, or Parquet")
    deep = {f.relative_to(path).parts[:-1] for f in images}
    tops = {parts[0] for parts in deep if parts}
    inner = {parts[1] for parts in deep if len(parts) > 1 and parts[0] in SPLITS}
    classes = inner if tops and tops <= SPLITS else tops
    sizes = frozenset(_size(f) for f in images[:: max(1, len(images) // LOOKED_AT)])
    if () in deep and classes:
        loose, some = sum(1 for f in images if f.parent == path), ", ".join(sorted(tops)[:4])
        raise UserError(
            f"--data {text!r}: {loose} images lie beside folders of images ({some}): put each "
            " into the folder of its class, or all into one folder without labels"
        )
    unlabelled = len(classes) < 2
    name = "unlabelled-images" if unlabelled else "image-folder"
    return _Data(name, {"root": str(path)}, sizes, unlabelled)


def _size(file: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            width, height = image.size
            return int(width), int(height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"--data: image {file} cannot be read: {error}") from error


def _sized(data: _Data, network: _GivenModel, options: Options) -> tuple[Any, tuple[str, ...]]:
    """Return the entry of a data set with the size of the input, and what was assumed."""
    params, notes = dict(data.params), []
    fields = registry.fields(registry.find("dataset", data.name))
    stated = network.shape[2] if len(network.shape) == 4 else None
    if "size" in fields:
        size, why = options.size or stated, ""
        if size is None and data.params:
            small = {min(size) for size in data.sizes}
            size = min(small) if len(small) == 1 and min(small) <= LARGEST else LARGEST
            why = f"inputs of {size} x {size}: --size says otherwise"
        if size is not None:
            params["size"] = size
        notes += [why] if why else []
    if len(network.shape) == 4 and network.shape[1] in (1, 3) and "channels" in fields:
        params["channels"] = network.shape[1]
    classes = options.classes or network.classes
    if data.unlabelled:
        if not classes:
            raise UserError(
                f"--data {data.params['root']!r} has no labels (no folder a class), so the number "
                "of the network's classes is not known: say --classes N"
            )
        params["classes"] = classes
        notes.append(
            "the images have no labels: agreement with the original network's labels takes the "
            "place of accuracy"
        )
    return ({data.name: params} if params else data.name), tuple(notes)


def _checked(entry: Any) -> None:
    """Make the data set once: what is wrong with its parameters or files is told now."""
    name, params = _named(entry)
    made = registry.make("dataset", name, params)
    assert isinstance(made, Dataset)
    made.spec()
    made.load("test")


def _named(entry: Any) -> tuple[str, dict[str, Any]]:
    return (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
