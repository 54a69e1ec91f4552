"""An output folder of this machine with cells of ONNX Runtime whose artefacts are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from dlas.core import registry
from dlas.core.records import Round, Status
from dlas.core.stack import LAYERS, Stack
from dlas.run.measure import host as hosts
from dlas.store.artifacts import ArtifactStore
from dlas.store.results import (
    FILE_NAME,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    Row,
    SessionRow,
)

STUDY = """dlas: 1
name: shipped
layers:
  dataset: [digits]
  model: [resnet-8]
  software: [onnxruntime]
  hardware: [cpu: {threads: [1, 2]}]
goals: {minimize: [latency_ms], accuracy_drop_at_most: 0.02}
"""
START = "2026-01-01T00:00:00.000+00:00"
IMAGES = 32
MANY = 20
"""More cells than hexadecimal digits: some begin alike."""


def stack(threads: int, python: str = "") -> Stack:
    names = {"dataset": "digits", "model": "resnet-8", "optimization": "none",
             "algorithm": "native"}  # fmt: skip
    chosen = {x: (registry.choice(registry.make(x, name)),) for x, name in names.items()}
    runtime = registry.make("software", "onnxruntime", {"python": python})
    chosen["software"] = (registry.choice(runtime),)
    cpu = registry.make("hardware", "cpu", {"threads": threads})
    return Stack(**chosen, hardware=(registry.choice(cpu),))


def matrix() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)


def inputs() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(IMAGES, 1, 8, 8)).astype(np.float32)


def _network(path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])
    weights = onnx.numpy_helper.from_array(matrix(), "w")
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def _made(artifacts: ArtifactStore) -> dict[str, str]:
    """Put an artefact, its inputs and its reference into the store; return their contents."""
    contents = {}
    for stage in ("inputs", "reference", "build"):
        folder = artifacts.scratch()
        if stage == "build":
            _network(folder / "model.onnx")
        elif stage == "inputs":
            np.save(folder / "samples.npy", inputs())
        else:
            np.save(folder / "outputs.npy", inputs().reshape(IMAGES, -1) @ matrix())
        record = artifacts.commit(f"key-{stage}", stage, folder, {}, 0.1)
        contents[stage] = str(record.content)
    return contents


def fill(out: Path, host: str = "", drop: int = 0, python: str = "") -> dict[int, str]:
    """Make the folder; return its cells by threads: 1 complete, 2 slower, 3 failed, else pending.

    ``host``: another machine's; ``drop``: right images that the cells lose, of 100; ``python``:
    the interpreter of their software.
    """
    out.mkdir()
    (out / "study.yaml").write_text(STUDY)
    description = hosts.describe()
    host = host or hosts.this_class()
    content = _made(ArtifactStore(out / "store"))
    rows: list[Row] = [
        HostRow(host, dict(description)),
        SessionRow("s", "shipped", host, START, START, settings={"rounds": 3}),
    ]
    cells = {}
    for threads in range(1, MANY):
        made = stack(threads, python)
        cells[threads] = made.cell
        texts = {layer: made.text(layer) for layer in LAYERS}
        row = CellRow("shipped", made.cell, threads, made.to_json(), **texts,
                      status=Status.COMPLETE)  # fmt: skip
        if threads == 3:
            rows.append(replace(row, status=Status.FAILED, stage="build", reason="no memory"))
        if threads > 3:
            rows.append(replace(row, status=Status.PENDING))
        if threads > 2:
            continue
        fact = FactRow(made.cell, host, "", "key", content["build"], Status.COMPLETE,
                       session="s", created_at=START)  # fmt: skip
        right = [1] * (90 - drop) + [0] * (10 + drop)
        rows += [
            row,
            replace(fact, kind="build", value={"artifact_mb": 0.003, "weights_mb": 0.0026}),
            replace(fact, kind="evaluate", value={
                "n": 100, "labels": right, "correct": right,
                "baseline_labels": [1] * 90 + [0] * 10, "baseline_correct": [1] * 90 + [0] * 10,
            }),
            replace(fact, kind="steps", value={"keys": [f"key-{s}" for s in content]}),
        ]  # fmt: skip
        for number in range(3):
            seen = Round((), 10, 0.1, True, 1.0, 0.01, 0.01, "fork", cpus=(1,), threads_seen=1)
            ms = (1 + 0.5 * (threads - 1)) * (1 + 0.001 * number)
            rows.append(RoundRow(made.cell, host, 0, number, "key", content["build"],
                                 Status.COMPLETE, value=seen.to_json(), samples=(ms / 1e3,) * 20,
                                 session="s", created_at=START))  # fmt: skip
    with ResultStore(out / FILE_NAME) as store:
        store.put(*rows)
    return cells
