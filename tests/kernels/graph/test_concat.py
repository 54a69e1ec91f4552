"""Concatenations written in place where that is possible, copied where it is not; right always."""

import random as chance
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import compile as compile_module  # noqa: E402
from dlas.kernels import compile_model  # noqa: E402
from dlas.kernels.graph.choose import Chosen  # noqa: E402
from dlas.kernels.graph.graph import Graph  # noqa: E402
from dlas.kernels.ground.target import resolve, runs_here  # noqa: E402


class Grown(nn.Module):
    """Layers that read all before them, as DenseNet writes them; `grow` channels each."""

    def __init__(self, first: int, grow: int, kernel: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, first, 3, padding=1)
        wide = [first + i * grow for i in range(3)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in wide)
        self.layers = nn.ModuleList(nn.Conv2d(w, grow, kernel, padding=kernel // 2) for w in wide)
        self.last = nn.Conv2d(first + 3 * grow, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            parts.append(layer(torch.relu(norm(torch.cat(parts, 1)))))
        return self.last(torch.cat(parts, 1))


class Shared(nn.Module):
    """One tensor in two concatenations, twice in one, beside the input and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 1)
        self.three = nn.Conv2d(96, 16, 3, padding=1)
        self.flat = nn.Linear(6 * 5, 6 * 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = self.one(x)
        b = torch.relu(self.two(a))
        first = torch.cat([b, a, a, b], 1)
        plain = self.flat(a.reshape(a.shape[0], 16, 30)).reshape(a.shape)
        second = torch.cat([plain, x, b, torch.abs(a)], 1)
        return self.three(first), second, torch.cat([second, b], 1)


def check(
    model: nn.Module,
    batch: int,
    algorithm: str = "spatial-pack",
    size: tuple[int, int] = (6, 5),
    target: str = "native",
) -> Any:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    model, x = model.eval(), torch.randn(batch, 3, *size)
    program = compile_model(torch.export.export(model, (x,)), algorithm, target=target)
    with torch.no_grad():
        expected = model(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for _ in range(2):  # the second run finds what the first left in memory
        found = program.run(x.numpy())
        found = found if isinstance(found, tuple) else (found,)
        for y, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(y, wanted.numpy(), atol=2e-4)
    return program


def copies(program: Any) -> int:
    return sum(r["kind"] == "concat" for r in program.describe()["operators"])


@pytest.mark.parametrize("kernel", [1, 3])
def test_whole_blocks_of_one_image_are_written_in_place(kernel: int) -> None:
    program = check(Grown(16, 32, kernel), 1)
    assert copies(program) == 0
    kinds = [r["kind"] for r in program.describe()["operators"]]
    assert kinds.count("relayout") <= 2  # the image's halo, and the output


@pytest.mark.parametrize(("first", "grow"), [(7, 5), (16, 5), (12, 16), (1, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_odd_channel_counts(first: int, grow: int, batch: int) -> None:
    check(Grown(first, grow), batch)


@pytest.mark.parametrize("algorithm", ["direct", "gemm", "winograd", "best-by-rule"])
def test_every_algorithm(algorithm: str) -> None:
    program = check(Grown(16, 16), 1, algorithm)
    assert copies(program) == 0


def test_plain_channels_of_any_count_are_written_in_place() -> None:
    assert copies(check(Grown(7, 5), 1, "direct")) == 0


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("algorithm", ["native", "direct", "gemm"])
def test_parts_that_begin_between_vectors(algorithm: str, target: str) -> None:
    """Code that took its arguments for aligned would fault on a part of 7 x 7 x 55 numbers."""
    program = check(Grown(55, 7), 1, algorithm, (7, 7), target)
    assert copies(program) == 0
    starts = [a["at"] for s in program.plan["steps"] for a in s["arguments"] if a["in"] == "arena"]
    assert any(at % 64 for at in starts)


@pytest.mark.parametrize(("first", "grow"), [(64, 48), (96, 48), (32, 32)])
def test_parts_of_narrower_blocks_than_tiles_read_are_written_in_place(
    first: int, grow: int
) -> None:
    """Where some parts lie as tiles are read and others cannot, all lie in a vector's blocks."""
    if not runs_here(resolve("x86-64-v4-amx")):
        pytest.skip("this CPU has no AMX")
    torch.manual_seed(0)
    model, x = Grown(first, grow).eval(), torch.randn(1, 3, 12, 16)
    exported = torch.export.export(model, (x,))
    program = compile_model(exported, "spatial-pack", dtype="bfloat16", target="x86-64-v4-amx")
    found, wanted = program.run(x.numpy()), model(x).detach().numpy()
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    forms = [
        {r["from"], r["to"]} for r in program.describe()["operators"] if r["kind"] == "relayout"
    ]
    plain = [form for form in forms if any("c" not in text for text in form)]
    assert len(plain) <= 2, "the image and the output"


def test_a_batch_is_copied() -> None:
    assert copies(check(Grown(16, 16), 2)) > 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("algorithm", ["spatial-pack", "gemm"])
def test_parts_of_several_results(algorithm: str, batch: int) -> None:
    program = check(Shared(), batch, algorithm)
    assert copies(program) > 0


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_decided_is_right(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = chance.Random(seed)

    def decided(graph: Graph, choices: dict[str, Chosen], *_: Any) -> dict[str, Chosen]:
        for node in graph.nodes:
            if node.op == "concat":
                node.attrs["blocked"] = draw.random() < 0.5
        names = ("direct", "gemm", "spatial-pack")
        return {name: c._replace(primitive=draw.choice(names)) for name, c in choices.items()}

    monkeypatch.setattr(compile_module, "choose_measured", decided)
    check(Grown(16, (16, 5)[seed % 2]), 1 + seed // 2, "best")
