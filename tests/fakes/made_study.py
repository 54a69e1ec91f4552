"""Synthetic output folders with planted effects, to see a realistic report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np

from dlas.core.records import Round, Status
from dlas.core.stack import Choice, Stack
from dlas.store.results import (
    FILE_NAME,
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    Row,
    SentinelRow,
    SessionRow,
)

HOST = "host-1"
START = "2026-01-01T00:00:00.000+00:00"
SESSION = "s1"

MODELS = {"resnet-8": (4.0, 12.5e6, 0.92), "mobilenet-v2": (2.0, 5.7e6, 0.905),
          "vit-tiny": (9.0, 50e6, 0.885)}  # fmt: skip
"""Base latency in ms, multiply-accumulates, accuracy."""
SOFTWARE = {"pytorch": 1.0, "torch-compile": 0.8, "onnxruntime": 0.5, "openvino": 0.45, "tvm": 2.0}
PRUNED = Choice("weight-pruning", {"sparsity": 0.8, "epochs": 1}, ("sparsity", "epochs"))
NARROW = Choice("channel-pruning", {"ratio": 0.5, "epochs": 1}, ("ratio", "epochs"))
PIPELINES: dict[str, tuple[Choice, ...]] = {
    "none": (Choice("none"),),
    "weight-pruning": (PRUNED,),
    "channel-pruning": (NARROW,),
    "bfloat16": (Choice("bfloat16"),),
    "int8": (Choice("int8"),),
    "channel-pruning+int8": (NARROW, Choice("int8")),
}
GOALS = """dlas: 1
name: made
goals: {minimize: [latency_ms, memory_mb], accuracy_drop_at_most: 0.03}
"""


def stack(
    model: str,
    pipeline: str,
    software: str,
    threads: int,
    algorithm: str = "native",
    dataset: str = "fashion-mnist",
) -> Stack:
    parts = pipeline.split("+")
    pruning = next((p for p in parts if p.endswith("pruning")), "none")
    precision = next((p for p in parts if p in ("int8", "bfloat16")), "none")
    return Stack(
        (Choice(dataset),),
        (Choice(model),),
        PIPELINES[pipeline],
        (Choice(algorithm),),
        (Choice(software),),
        (Choice("cpu", {"threads": threads}, () if threads == 1 else ("threads",)),),
        {"optimization.pruning": pruning, "optimization.precision": precision},
    )


def true_ms(model: str, pipeline: str, software: str, threads: int, algorithm: str) -> float:
    """The planted latency: main effects, three interactions, a flip and a break-even."""
    ms = MODELS[model][0] * SOFTWARE[software]
    if "channel" in pipeline:
        ms *= 0.55
    if "bfloat16" in pipeline:
        ms *= 0.6 if software in ("onnxruntime", "openvino") else 1.3  # a flip
    if "int8" in pipeline:
        ms *= 0.4 if software in ("onnxruntime", "openvino") else 1.8  # another
    if threads == 2:
        ms *= 1.15 if (model == "mobilenet-v2" and software == "pytorch") else 0.6
    return ms * {"native": 1.0, "direct": 1.1, "gemm": 0.7}[algorithm]


def facts_of(made: Stack, pipeline: str, model: str, rng: np.random.Generator) -> Iterator[Row]:
    _, macs, accuracy = MODELS[model]
    share = 0.3 if "channel" in pipeline else 1.0
    kept = 0.2 if "weight" in pipeline else 1.0
    width = {"int8": 1, "bfloat16": 2}.get(pipeline.split("+")[-1], 4)
    params = int(macs / 100 * share)
    drop = 0.02 * ("int8" in pipeline) + 0.025 * ("channel" in pipeline)
    drop += float(rng.normal(0, 0.002))
    n = 500
    right = round((accuracy - drop) * n)
    common = FactRow(made.cell, HOST, "", "key", "content", Status.COMPLETE, session=SESSION,
                     created_at=START)  # fmt: skip
    yield replace(common, kind="build", value={
        "artifact_mb": params * width / 1e6 * 1.1, "build_s": 1.5, "effective_macs":
        int(macs * share * kept), "macs": int(macs * share), "params": params,
        "nonzero_params": int(params * kept), "weights_mb": params * width / 1e6, "achieved": [],
    })  # fmt: skip
    base = round(accuracy * n)
    correct, baseline = [1] * right + [0] * (n - right), [1] * base + [0] * (n - base)
    yield replace(common, kind="evaluate", value={
        "n": n, "correct": correct, "baseline_correct": baseline, "max_abs_error": 1e-5,
        "labels": correct, "baseline_labels": baseline, "agreement": 1.0,
    })  # fmt: skip
    memory = 20 + params * width / 1e6 * 3 + 30 * (made.software[0].name == "torch-compile")
    yield replace(common, kind="memory", value={"memory_mb": memory + float(rng.normal(0, 0.5))})
    bits = {1: "int8", 2: "bfloat16", 4: "float32"}[width]
    yield replace(common, kind="observe", value={"precision": bits, "threads":
                  made.hardware[0].params["threads"], "kernels": {}, "fallbacks": []})  # fmt: skip


def rounds_of(
    made: Stack, ms: float, rounds: int, noise: float, rng: np.random.Generator, control: int = 0
) -> Iterator[Row]:
    effects = [0.0, 0.02, -0.01, 0.015, 0.0]
    for number in range(rounds):
        middle = ms * float(np.exp(effects[number % 5] + noise * rng.standard_t(5)))
        samples = tuple(float(x) for x in middle / 1e3 * rng.lognormal(0, 0.01, 20))
        shaky = ("unsteady",) if rng.random() < 0.02 else ()
        seen = Round(samples_s=(), warmup_runs=10, warmup_s=0.1, steady=not shaky,
                     import_s=1.2 + float(rng.normal(0, 0.05)), load_s=0.02,
                     first_inference_s=ms / 1e3 * 4, launch="fork", flags=shaky, cpus=(1,),
                     threads_seen=3, steal_share=0.0)  # fmt: skip
        yield RoundRow(
            made.cell, HOST, control, number, "key", "content", Status.COMPLETE,
            value=seen.to_json(), samples=samples, session=SESSION, position=number,
            created_at=f"2026-01-01T00:1{number}:30.000+00:00", overhead_s=0.2,
        )  # fmt: skip


def cell_row(made: Stack, position: int, **changed: object) -> CellRow:
    names = ("dataset", "model", "optimization", "algorithm", "software", "hardware")
    texts = {n: made.text(n) for n in names}
    row = CellRow("made", made.cell, position, made.to_json(), **texts, status=Status.COMPLETE)
    return replace(row, **changed)  # type: ignore[arg-type]


def refused(pipeline: str, software: str) -> dict[str, object] | None:
    if software == "tvm" and "int8" in pipeline:
        return {"status": Status.UNAVAILABLE, "reason": "tvm: int8 is not implemented"}
    if software == "torch-compile" and pipeline == "int8":
        return {"status": Status.IMPOSSIBLE, "reason": "int8 would only be emulated in float"}
    return None


def combinations() -> Iterator[tuple[str, str, str, int, str]]:
    yield from product(MODELS, PIPELINES, SOFTWARE, (1, 2), ("native",))
    for model, threads, algorithm in product(MODELS, (1, 2), ("direct", "gemm")):
        yield model, "none", "tvm", threads, algorithm


def rows(
    chosen: Iterable[tuple[str, str, str, int, str]], rounds: int = 3, controls: bool = True,
    noise: float = 0.02, dataset: str = "fashion-mnist",
) -> Iterator[Row]:  # fmt: skip
    rng = np.random.default_rng(0)
    yield HostRow(HOST, {"cpu": "Made CPU", "cores": 2, "memory_gib": 24.0, "os": "Linux",
                         "python": "3.11", "libraries": {"torch": "2.14.1"}, "flags": ["avx2"],
                         "governor": None, "load": [0.1, 0.2, 0.3]})  # fmt: skip
    yield SessionRow(SESSION, "made", HOST, START, "2026-01-01T00:30:00.000+00:00",
                     command="dlas run made.yaml --out made", dlas_version="0.1.0",
                     settings={"rounds": rounds}, versions={"torch": "2.14.1"})  # fmt: skip
    for position, (model, pipeline, software, threads, algorithm) in enumerate(chosen):
        made = stack(model, pipeline, software, threads, algorithm, dataset)
        changed = refused(pipeline, software)
        if changed:
            yield cell_row(made, position, **changed)
            continue
        if (model, software, pipeline) == ("vit-tiny", "torch-compile", "channel-pruning"):
            why = "signal 11 (segmentation fault)"
            yield cell_row(made, position, status=Status.FAILED, stage="build", reason=why,
                           log="Traceback: <made>\n")  # fmt: skip
            continue
        yield cell_row(made, position)
        ms = true_ms(model, pipeline, software, threads, algorithm)
        yield from facts_of(made, pipeline, model, rng)
        yield from rounds_of(made, ms, rounds, noise, rng)
        if controls and position % 10 == 0:
            yield from rounds_of(made, ms, rounds, noise, rng, control=1)
    yield from ceilings()
    for i in range(40):
        yield SentinelRow(SESSION, i // 14, i, 0.012 * float(np.exp(rng.normal(0, 0.01))),
                          f"2026-01-01T00:{i // 2:02d}:{30 * (i % 2):02d}.000+00:00")  # fmt: skip


def ceilings() -> Iterator[Row]:
    """Readings of both thread counts, at the start and at the end."""
    for threads, moment in product((1, 2), ("start", "end")):
        hardware = "cpu" if threads == 1 else "cpu(threads=2)"
        better = 1.02 if moment == "end" else 1.0
        common = CeilingRow(SESSION, HOST, "", hardware, "", "", moment, threads, "native",
                            method="made", created_at=START)  # fmt: skip
        yield replace(common, kind="arithmetic", value=90.0 * threads * better)
        yield replace(common, kind="memory", value=12.0 * better, detail={"cache_mb": 0.5})
        for software in SOFTWARE:
            own = replace(common, kind="overhead", software=software, dataset="fashion-mnist")
            if software == "tvm":
                yield replace(own, reason="the network of one operator: not made", method="")
            else:
                yield replace(own, value=0.02 / better)


def drifting(made: Iterable[Row]) -> Iterator[Row]:
    """Measure the rounds one after another, shuffled, on a machine whose speed wanders."""
    rows = list(made)
    rng, start = np.random.default_rng(7), datetime(2026, 1, 1, tzinfo=UTC)
    rounds = sorted(
        (r for r in rows if isinstance(r, RoundRow)), key=lambda r: (r.round, rng.random())
    )
    yield from (r for r in rows if not isinstance(r, RoundRow))
    for i, row in enumerate(rounds):
        at = (start + timedelta(seconds=0.3 * i)).isoformat(timespec="milliseconds")
        slow = math.exp(0.06 * math.sin(i / 30))
        yield replace(row, created_at=at, samples=tuple(slow * s for s in row.samples))


def fill(folder: Path, made: Iterable[Row], goals: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with ResultStore(folder / FILE_NAME) as store:
        store.put(*made)
    if goals:
        (folder / "study.yaml").write_text(GOALS)
    return folder


def whole(folder: Path) -> Path:
    """About 190 cells: 3 models x 6 optimizations x 5 runtimes x 2 threads, and algorithms."""
    return fill(folder, rows(combinations()))
