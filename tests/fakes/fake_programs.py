"""Small networks, a program as a build sees it, and a server that forks: for the runtimes' tests.

Every check that all runtimes must pass is a function here; each runtime's test file calls it.
"""

import atexit
import copy
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError
from dlas.core.protocols import Algorithm, DataSpec, Network, Software, Techniques

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from dlas.testing import small_nets  # noqa: E402
from dlas.testing.fakes import patches  # noqa: E402
from dlas.testing.parent import infer as infer_in_children  # noqa: E402

torch.set_num_threads(1)

CLASSES = 10
_FILES = Path(tempfile.mkdtemp(prefix="dlas-test-"))
_MADE_BY = os.getpid()


@atexit.register
def _remove() -> None:
    """Not by a forked child that ends: torch forks some, and a TemporaryDirectory would go."""
    if os.getpid() == _MADE_BY:
        shutil.rmtree(_FILES, ignore_errors=True)


CPU = registry.make("hardware", "cpu", {"threads": 1})


def _vit(spec: DataSpec) -> nn.Module:
    transformer = pytest.importorskip("timm.models.vision_transformer").VisionTransformer
    return transformer(img_size=28, patch_size=4, in_chans=1, num_classes=CLASSES,
                       embed_dim=64, depth=2, num_heads=4)  # fmt: skip


NETS = {"residual": small_nets.residual, "depthwise": small_nets.depthwise, "vit": _vit}
SPEC = DataSpec(CLASSES, 1, 28, 28)


@cache
def module(net: str) -> nn.Module:
    """A network whose batch norms have seen data, so that folding them wrongly shows."""
    torch.manual_seed(0)
    return small_nets.seasoned(NETS[net](SPEC), SPEC)


@cache
def images(n: int = 4) -> np.ndarray:
    return patches(n, 1, 28, 28)


@cache
def reference(net: str) -> np.ndarray:
    made = module(net)  # made outside: within, its weights would be inference tensors for ever
    with torch.inference_mode():
        return np.concatenate([made(torch.from_numpy(x[None])).numpy() for x in images()])


@cache
def onnx_path(net: str) -> Path:
    path = _FILES / f"{net}.onnx"
    with torch.no_grad():
        program = torch.onnx.export(
            module(net), (torch.zeros(SPEC.shape),), dynamo=True, opset_version=20,
            input_names=["input"], output_names=["output"], verbose=False,
        )  # fmt: skip
    import onnx

    onnx.save(program.model_proto, path)
    return path


@cache
def qdq_path(net: str) -> Path:
    """The network quantized statically to int8: per-channel weights, QDQ."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(images(32))

        def get_next(self):
            x = next(self.rest, None)
            return None if x is None else {"input": x[None]}

    source = onnx_path(net)
    prepared, path = source.with_suffix(".prep.onnx"), source.with_suffix(".qdq.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(path), Reader(), quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=["Conv", "Gemm", "MatMul"], per_channel=True)  # fmt: skip
    return path


class FakeProgram:
    """A lowered network as a build sees it."""

    def __init__(self, net: str, precision: str = "float32", algorithm: str = "native") -> None:
        self.net, self.precision, self.spec = net, precision, SPEC
        self.algorithm: Algorithm = registry.make("algorithm", algorithm)  # type: ignore

    def network(self) -> Network:
        return Network(SPEC, module(self.net), None, self.precision)  # type: ignore

    def onnx(self) -> Path:
        return qdq_path(self.net) if self.precision == "int8" else onnx_path(self.net)

    def exported(self) -> Any:
        with torch.no_grad():
            return torch.export.export(module(self.net), (torch.zeros(SPEC.shape),))

    def calibration(self) -> np.ndarray | None:
        return None


class LeftToRuntime(FakeProgram):
    """A float32 network that its runtime is to quantize."""

    def __init__(self, net: str) -> None:
        super().__init__(net, "int8")

    def onnx(self) -> Path:
        return onnx_path(self.net)

    def calibration(self) -> np.ndarray:
        return patches(32, 1, 28, 28)


def software(name: str, **params: Any) -> Software:
    return registry.make("software", name, params)  # type: ignore


class Stand:
    """A technique that only answers the questions that rules ask."""

    form, threads, isa, device, precision, sparse = "torch", 1, "native", "cpu", None, False
    left_to_runtime = False
    name = "stand"

    def __init__(self, **answers: Any) -> None:
        self.__dict__.update(answers)

    def stored_precision(self) -> str:
        return "float32"


def stack(runtime: Software, **layers: Any) -> Techniques:
    """A stack around a runtime; layers given replace the harmless ones."""
    precision = layers.pop("precision", None)
    given = {
        "dataset": Stand(), "model": Stand(), "optimization": (Stand(precision=precision),),
        "algorithm": registry.make("algorithm", "native"), "software": runtime, "hardware": CPU,
        **layers,
    }  # fmt: skip
    return Techniques(**given)  # type: ignore


def artefact(
    runtime: Software, net: str, precision: str = "float32", algorithm: str = "native"
) -> Path:
    """Return the artefact of a network, which is built once; int8 is the runtime's own."""
    made = _FILES / f"{runtime.name}-{net}-{precision}-{algorithm}"
    if not made.exists():
        made.mkdir()
        own = precision == "int8"
        program = LeftToRuntime(net) if own else FakeProgram(net, precision, algorithm)
        runtime.build(program, CPU, made)
    return made


def size_of(made: Path) -> int:
    """Return the bytes of an artefact."""
    return sum(path.stat().st_size for path in made.iterdir())


def infer(session: Any) -> np.ndarray:
    return np.concatenate([session(x[None]) for x in images()])


def check_own_int8(runtime: Software, net: str) -> None:
    """A runtime's own int8 agrees with the float32 network, is smaller, and really runs."""
    made = artefact(runtime, net, "int8")
    loaded, expected = runtime.load(made, CPU), reference(net)  # type: ignore
    error = np.linalg.norm(infer(loaded) - expected) / np.linalg.norm(expected)
    assert 0 < error <= 0.15
    assert loaded.observe(images()[:1]).precision == "int8"
    # The depthwise network is more description than weights.
    share = 1.0 if net == "depthwise" else 0.6
    assert size_of(made) < share * size_of(artefact(runtime, net))


def check_outputs_are_kept(session: Any) -> None:
    """What an inference gave stays as it is when the next one runs."""
    first = session(images()[:1])
    kept = first.copy()
    session(images()[1:2])
    np.testing.assert_array_equal(first, kept)


def check_refused(runtime: Software) -> None:
    """Another device, an instruction set, an ONNX file and an algorithm cannot be asked for."""
    held = registry.make("hardware", "cpu", {"isa": "avx2"})
    for layers, said in (
        ({"hardware": Stand(device="cuda")}, "cuda"),
        ({"hardware": held}, "avx2"),
        ({"model": Stand(form="onnx")}, "ONNX"),
        ({"algorithm": registry.make("algorithm", "gemm")}, "'gemm'"),
    ):
        refused = runtime.why_not(stack(runtime, **layers))
        assert refused is not None and refused.status == "unavailable" and said in refused.reason


def check_narrow_refused(runtime: Software, folder: Path) -> None:
    """A runtime has no bfloat16 and no way to the shared int8 model; its own int8 it takes."""
    for precision, said in (("bfloat16", "no bfloat16 kernels"), ("int8", "route: own")):
        refused = runtime.why_not(stack(runtime, precision=precision))
        assert refused is not None and refused.status == "unavailable"
        assert said in refused.reason
        with pytest.raises(StepError):
            runtime.build(FakeProgram("residual", precision), CPU, folder)  # type: ignore
    own: Any = registry.make("optimization", "int8", {"route": "own"})
    assert runtime.why_not(stack(runtime, optimization=(own,))) is None


def forked(
    runtime: Software, folder: Path, tmp_path: Path, threads: tuple[int, ...] = (1, 2),
    isa: str = "native",
) -> list[tuple[np.ndarray, dict[str, Any]]]:  # fmt: skip
    """Start a server that preloads the runtime, fork a child for each thread count, infer there.

    Returns each child's outputs and facts.
    """
    hardware = registry.make("hardware", "cpu", {"isa": isa})
    done = infer_in_children(runtime, folder, images(), tmp_path, hardware=hardware,  # type: ignore
                             threads=threads)  # fmt: skip
    return [done[count] for count in sorted(done)]


def halved(net: str):
    """The network with nine of ten weights zero."""
    pruned = copy.deepcopy(module(net))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pruned.parameters():
            if parameter.dim() > 1:
                parameter *= torch.rand(parameter.shape, generator=random) > 0.9
    return pruned


class Pruned(FakeProgram):
    def exported(self):
        x = torch.zeros(self.spec.shape)
        return torch.export.export(halved(self.net), (x,))
