"""Small networks, a program as a build sees it, and a server that forks: for the runtimes' tests.

Every check that all runtimes must pass is a function here; each runtime's test file calls it.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlas import registry
from dlas.protocols import Algorithm, DataSpec, Network, Software, Techniques

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

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


class Block(nn.Module):
    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.b = nn.BatchNorm2d(out)
        self.c = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.d = nn.BatchNorm2d(out)
        self.skip = nn.Conv2d(inp, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return torch.relu(self.d(self.c(torch.relu(self.b(self.a(x))))) + self.skip(x))


def _residual() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))
    return nn.Sequential(stem, Block(16, 16, 1), Block(16, 32, 2), head)


def _depthwise() -> nn.Module:
    def pair(inp: int, out: int, stride: int) -> list[nn.Module]:
        return [
            *(nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False), nn.BatchNorm2d(inp)),
            *(nn.ReLU6(), nn.Conv2d(inp, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU6()),
        ]

    stem = [nn.Conv2d(1, 16, 3, 2, 1), nn.SiLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)]
    return nn.Sequential(*stem, *pair(16, 24, 1), *pair(24, 32, 2), *head)


def _vit() -> nn.Module:
    transformer = pytest.importorskip("timm.models.vision_transformer").VisionTransformer
    return transformer(img_size=28, patch_size=4, in_chans=1, num_classes=CLASSES,
                       embed_dim=64, depth=2, num_heads=4)  # fmt: skip


NETS = {"residual": _residual, "depthwise": _depthwise, "vit": _vit}
SPEC = DataSpec(CLASSES, 1, 28, 28)


@cache
def module(net: str) -> nn.Module:
    """A network whose batch norms have seen data, so that folding them wrongly shows."""
    torch.manual_seed(0)
    made = NETS[net]().train()
    for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # the mean over all batches seen
    with torch.no_grad():
        for _ in range(2):
            made(torch.from_numpy(images(8)) * 1.5 + 0.3)
        last = [m for m in made.modules() if isinstance(m, nn.Linear)][-1]
        last.weight *= 8
    return made.eval()


@cache
def images(n: int = 4) -> np.ndarray:
    random = np.random.default_rng(0)
    patches = np.kron(random.standard_normal((n, 1, 4, 4)), np.ones((1, 1, 7, 7)))
    return (patches + 0.3 * random.standard_normal((n, 1, 28, 28))).astype(np.float32)


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


def software(name: str, **params: Any) -> Software:
    return registry.make("software", name, params)  # type: ignore


class Stand:
    """A technique that only answers the questions that rules ask."""

    form, threads, isa, device, precision, sparse = "torch", 1, "native", "cpu", None, False
    name = "stand"

    def __init__(self, **answers: Any) -> None:
        self.__dict__.update(answers)


def stack(runtime: Software, **layers: Any) -> Techniques:
    """A stack around a runtime; layers given replace the harmless ones."""
    precision = layers.pop("precision", None)
    given = {
        "dataset": Stand(), "model": Stand(), "optimization": (Stand(precision=precision),),
        "algorithm": registry.make("algorithm", "native"), "software": runtime, "hardware": CPU,
        **layers,
    }  # fmt: skip
    return Techniques(**given)  # type: ignore


def infer(session: Any) -> np.ndarray:
    return np.concatenate([session(x[None]) for x in images()])


_SERVER = """
import importlib, json, os, sys, time
job = json.loads(sys.argv[1])
start = time.perf_counter()
for name in job["preload"]:
    importlib.import_module(name)
imported = time.perf_counter() - start
for child in job["children"]:
    pid = os.fork()
    if pid == 0:
        import numpy as np
        from dlas import registry
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-child["threads"]:]))
        runtime = registry.make("software", job["software"], job["params"])
        hardware = registry.make("hardware", "cpu", child["cpu"])
        from pathlib import Path
        x = np.load(job["images"])
        start = time.perf_counter()
        session = runtime.load(Path(job["folder"]), hardware)
        loaded = time.perf_counter() - start
        y = np.concatenate([session(image[None]) for image in x])
        ran = session.observe(x[:1])
        tasks = len(os.listdir("/proc/self/task"))
        np.save(child["out"] + ".npy", y)
        facts = {"ran": {"precision": ran.precision, "threads": ran.threads, "isa": ran.isa,
                 "kernels": dict(ran.kernels), "fallbacks": list(ran.fallbacks)},
                 "tasks": tasks, "import_s": imported, "load_s": loaded,
                 "torch": sys.modules.get("torch") is not None}
        open(child["out"] + ".json", "w").write(json.dumps(facts))
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status
"""


def forked(
    runtime: Software, folder: Path, tmp_path: Path, threads: tuple[int, ...] = (1, 2),
    isa: str = "native",
) -> list[tuple[np.ndarray, dict[str, Any]]]:  # fmt: skip
    """Start a server that preloads the runtime, fork a child for each thread count, infer there.

    Returns each child's outputs and facts.
    """
    threads = tuple(t for t in threads if t <= (os.cpu_count() or 1))
    np.save(tmp_path / "images.npy", images())
    hardware = registry.make("hardware", "cpu", {"isa": isa})
    job = {
        "preload": runtime.preload, "software": runtime.name, "isa": isa,
        "params": registry.choice(runtime).params, "folder": str(folder),
        "images": str(tmp_path / "images.npy"),
        "children": [
            {"threads": t, "cpu": {"threads": t, "isa": isa}, "out": str(tmp_path / f"child{t}")}
            for t in threads
        ],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _SERVER, json.dumps(job)],
        env={**os.environ, **runtime.environment(hardware)},  # type: ignore[arg-type]
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = []
    for child in job["children"]:
        facts = json.loads(Path(child["out"] + ".json").read_text())
        results.append((np.load(child["out"] + ".npy"), facts))
    return results


def test_the_networks_differ_by_image_and_their_batch_norms_matter():
    for net in NETS:
        found = reference(net)
        assert found.shape == (len(images()), CLASSES)
        assert found.std(axis=0).min() > 0.01
    norms = [m for m in module("residual").modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(float(norm.running_mean.abs().max()) > 0.01 for norm in norms)
