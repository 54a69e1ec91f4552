"""`best`: the least sum of measured kernels and changes of layout, and what is said about it."""

import itertools
import random as chance
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import compile_model  # noqa: E402
from dlas.kernels.graph.arrange import Layouts  # noqa: E402
from dlas.kernels.graph.best import choose_measured  # noqa: E402
from dlas.kernels.graph.choose import Chosen, Sparsity, choose  # noqa: E402
from dlas.kernels.graph.cost import Costs, cheapest, undisturbed  # noqa: E402
from dlas.kernels.graph.graph import Graph  # noqa: E402
from dlas.kernels.graph.importer import import_program  # noqa: E402
from dlas.kernels.graph.simplify import simplify  # noqa: E402
from dlas.kernels.ground.records import VARIABLE, Records  # noqa: E402
from dlas.kernels.ground.subprocesses import Answer  # noqa: E402
from dlas.kernels.ground.target import resolve, runs_here  # noqa: E402

NEVER = float("inf")


@pytest.mark.parametrize("seed", range(40))
def test_the_cut_is_the_best_of_all_assignments(seed: int) -> None:
    draw = chance.Random(seed)
    count = draw.randint(1, 7)
    plain = [draw.random() if draw.random() < 0.85 else NEVER for _ in range(count)]
    blocked = [draw.random() if p == NEVER or draw.random() < 0.85 else NEVER for p in plain]
    pairs = itertools.permutations(range(count), 2)
    edges = [(a, b, draw.random() / 2) for a, b in pairs if draw.random() < 0.4]

    def total(answer: Any) -> float:
        own = sum(b if x else p for x, p, b in zip(answer, plain, blocked, strict=True))
        return own + sum(c for a, b, c in edges if answer[a] and not answer[b])

    least = min(total(each) for each in itertools.product([False, True], repeat=count))
    assert total(cheapest(plain, blocked, edges)) == pytest.approx(least, abs=1e-5)


class Machine:
    """Workers on which every task takes the time that a function says."""

    folder = Path("/nowhere")

    def __init__(self, seconds: Callable[[dict[str, Any]], float]) -> None:
        self.seconds, self.asked = seconds, 0

    def map(self, requests: list[dict[str, Any]], timeout_s: float) -> list[Answer]:
        self.asked += len(requests)
        return [Answer({"shapes": []}) for _ in requests]

    def one(self, request: dict[str, Any], timeout_s: float) -> Answer:
        return Answer({"seconds": [[self.seconds(c["task"])] for c in request["candidates"]]})


def graph_of(model: nn.Module, x: torch.Tensor) -> Graph:
    return simplify(import_program(torch.export.export(model.eval(), (x,))))


def measured(
    graph: Graph, seconds: Callable[[dict[str, Any]], float], records: Path,
    algorithm: Any = "best", weights: str = "dense", limit_s: float = 60,
) -> dict[str, Chosen]:  # fmt: skip
    """What `best` chooses on a machine where tasks take the seconds that a function says."""
    machine: Any = Machine(seconds)
    costs = Costs(resolve("native"), 1, machine, Records(records), limit_s)
    return choose_measured(graph, choose(graph, algorithm, Sparsity(weights)), costs, 2)


def chain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1),
        nn.MaxPool2d(2), nn.Conv2d(32, 16, 1),
    ).eval()  # fmt: skip


def chosen(
    tmp_path: Path, seconds: Callable[[dict[str, Any]], float], limit_s: float = 60,
    algorithm: Any = "best", weights: str = "dense",
) -> dict[str, Any]:  # fmt: skip
    model = chain()
    with torch.no_grad():
        model[2].weight *= torch.rand_like(model[2].weight) > 0.9
    graph = graph_of(model, torch.zeros(1, 16, 8, 8))
    return measured(graph, seconds, tmp_path, algorithm, weights, limit_s)


def by(times: dict[str, float], change: float) -> Callable[[dict[str, Any]], float]:
    return lambda task: change if task["kind"] == "relayout" else times[task["primitive"]]


FLAT = {"direct": 2.0, "gemm": 1.0, "spatial-pack": 4.0, "winograd": 3.0}


def test_the_fastest_primitive_runs(tmp_path: Path) -> None:
    found = chosen(tmp_path, by(FLAT, 0.1))
    assert {c.primitive for c in found.values()} == {"gemm"}
    said = found["0"].measured["seconds"]
    assert said["gemm dense"] == 1.0 and said["winograd dense"] == 3.0
    assert "winograd dense" not in found["4"].measured["seconds"]  # 1x1


def test_a_change_of_layout_must_pay(tmp_path: Path) -> None:
    fast = {**FLAT, "winograd": 0.9}
    few = chosen(tmp_path / "dear", by(fast, 0.5))
    assert {c.primitive for c in few.values()} == {"gemm"}
    cheap = chosen(tmp_path / "cheap", by(fast, 0.05))
    assert [c.primitive for c in cheap.values()] == ["winograd", "winograd", "gemm"]


def test_what_others_add_to_most_readings_does_not_decide() -> None:
    assert undisturbed([5.0, 0.4, 7.0, 0.3, 5.0, 6.0, 5.0, 5.0, 9.0]) == 0.4
    assert undisturbed([2.0]) == 2.0


def test_what_is_not_asked_for_best_stays(tmp_path: Path) -> None:
    algorithm = {"*": "best", "2": "direct"}
    found = chosen(tmp_path, by(FLAT, 0.0), algorithm=algorithm)
    assert [c.primitive for c in found.values()] == ["gemm", "direct", "gemm"]
    assert found["2"].measured is None


def test_sparse_weights_run_dense_where_that_is_faster(tmp_path: Path) -> None:
    def seconds(task: dict[str, Any]) -> float:
        if task["kind"] == "relayout":
            return 0.1
        return 0.5 if (task["weights"], task["primitive"]) == ("csr", "direct") else 1.0

    found = chosen(tmp_path / "a", seconds, weights="csr")
    assert (found["2"].primitive, found["2"].weights) == ("direct", "csr")
    assert found["0"].weights == "dense" and "threshold" in found["0"].reason
    dense = chosen(tmp_path / "b", lambda t: 0.1 if t.get("weights") == "dense" else 1.0,
                   weights="csr")["2"]  # fmt: skip
    assert dense.weights == "dense" and dense.reason == "dense weights were measured faster"


def sparse_pair(tmp_path: Path, times: dict[str, float], change: float) -> list[str]:
    """Return what two sparse convolutions in a row run by."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1)).eval()
    with torch.no_grad():
        for layer in model:
            layer.weight *= torch.rand_like(layer.weight) > 0.9

    def seconds(task: dict[str, Any]) -> float:
        if task["kind"] == "relayout":
            return change
        return times[f"{task['primitive']} {task['weights']}"]

    graph = graph_of(model, torch.zeros(1, 16, 8, 8))
    found = measured(graph, seconds, tmp_path, weights="csr")
    return [f"{c.primitive} {c.weights}" for c in found.values()]


def test_tiles_are_counted_and_carried(tmp_path: Path) -> None:
    times = {f"{p} {w}": 1.0 for p in FLAT for w in ("dense", "csr")}
    times["spatial-pack csr"] = 0.5
    # Into tiles and out of them once, not twice.
    assert sparse_pair(tmp_path / "a", times, 0.4) == ["spatial-pack csr"] * 2
    assert "spatial-pack csr" not in sparse_pair(tmp_path / "b", times, 0.6)
    # Blocked channels on one side, tiles on the other: through plain, so dearer than both.
    assert sparse_pair(tmp_path / "c", times | {"winograd dense": 0.1}, 0.04) == [
        "winograd dense", "winograd dense",
    ]  # fmt: skip


class Joined(nn.Module):
    """A concatenation of two convolutions, the first by 1x1, that two others read."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(32, first, 1), nn.Conv2d(first, 32, 3, padding=1)
        self.left, self.right = (nn.Conv2d(first + 32, 32, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.one(x)
        both = torch.cat([a, self.two(a)], 1)
        return self.left(both) * self.right(both)


@pytest.mark.parametrize(("first", "blocked"), [(32, True), (20, False)])
def test_concatenations_are_stored_as_the_cut_decided(
    first: int, blocked: bool, tmp_path: Path
) -> None:
    def seconds(task: dict[str, Any]) -> float:
        if task["kind"] == "relayout":
            return 0.1
        fastest = "gemm" if task["op"]["kernel"] == [1, 1] else "spatial-pack"
        return 1.0 if task["primitive"] == fastest else 9.0

    torch.manual_seed(0)
    graph, cpu = graph_of(Joined(first), torch.zeros(1, 32, 8, 8)), resolve("native")
    found = measured(graph, seconds, tmp_path)
    assert [c.primitive for c in found.values()] == ["gemm"] + ["spatial-pack"] * 3
    (concat,) = (node for node in graph.nodes if node.op == "concat")
    # By itself it would be plain: its parts differ, and the first one is.
    assert Layouts(graph, found, cpu).forms[concat.output].block == (cpu.lanes if blocked else 1)


def test_without_time_the_rule_decides_and_says_so(tmp_path: Path) -> None:
    found = chosen(tmp_path, by(FLAT, 0.1), limit_s=0)
    assert all("by the rule" in c.measured["note"] for c in found.values())
    assert {c.primitive for c in found.values()} == {"spatial-pack"}
    again = chosen(tmp_path, by(FLAT, 0.1))
    assert {c.primitive for c in again.values()} == {"gemm"}
    kept = chosen(tmp_path, lambda task: 1 / 0, limit_s=0)  # all is in the records by now
    assert {c.primitive for c in kept.values()} == {"gemm"}


def test_a_model_by_best_is_right_and_lists_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    model, x = chain(), torch.randn(1, 16, 8, 8)
    program = compile_model(torch.export.export(model, (x,)), "best")
    with torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()), model(x).numpy(), atol=1e-4)
    rows = [o for o in program.describe()["operators"] if o["kind"] == "conv2d"]
    for row in rows:
        assert min(row["measured"]["seconds"].values()) > 0
        assert f"{row['primitive']} dense" in row["measured"]["seconds"]
    assert {r["asked"] for r in rows} == {"best"}
    ruled = compile_model(torch.export.export(model, (x,)), "best-by-rule").describe()
    assert all(o.get("measured") is None for o in ruled["operators"])


def test_another_cpu_cannot_be_measured_here() -> None:
    assert runs_here(resolve("native")) and not (
        runs_here(resolve("aarch64")) and runs_here(resolve("x86-64-v3"))
    )
