"""What a plan expects of the disk: from weights, from what a store knows, and at the least."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from dlas.core.protocols import Model
from dlas.core.records import Stage
from dlas.run.plan.pilot import Pilot
from dlas.run.plan.plan import Plan, Step, make
from dlas.run.plan.preview import preview
from dlas.run.plan.sizes import CODE, UNKNOWN_NETWORK, _float32_bytes, _least, _Sizes
from dlas.run.process.tasks import Server
from dlas.store.artifacts import ArtifactStore
from dlas.study.study import Study
from fake_layers import Small, fakes  # noqa: F401

MEASURE = {"accuracy_samples": 0, "ceilings": False}


def study(folder: Path, **layers: object) -> Study:
    data = {
        "dlas": 1,
        "name": "small",
        "layers": {"dataset": ["pictures"], "model": ["small"], "software": ["eager"]} | layers,
        "measure": MEASURE,
    }
    (folder / "small.yaml").write_text(json.dumps(data))
    return Study.load(folder / "small.yaml")


def weights(path: Path, *shapes: list[int]) -> Path:
    header = {f"w{n}": {"dtype": "F16", "shape": s} for n, s in enumerate(shapes)}
    text = json.dumps(header | {"__metadata__": {"by": "a test"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def step(name: str, stage: Stage, *inputs: str) -> Step:
    return Step(name, stage, "task", {}, {k: k for k in inputs}, Server(), name)


def least(sizes: dict[str, int], *steps: Step, **names: str) -> int:
    plan = Plan(None, (), {s.key: s for s in steps})  # type: ignore[arg-type]
    return _least(plan, {s.key: names.get(s.key, s.key) for s in steps}, sizes)


def test_the_least_is_held_where_networks_are_dropped_once_built() -> None:
    steps = [
        step("net1", Stage.OPTIMIZE), step("build1", Stage.BUILD, "net1"),
        step("net2", Stage.OPTIMIZE), step("build2", Stage.BUILD, "net2"),
    ]  # fmt: skip
    sizes = {"net1": 100, "build1": 10, "net2": 70, "build2": 10}
    assert least(sizes, *steps) == 110  # 100 + 10, then 10 + 70 + 10
    assert least(sizes | {"net2": 95}, *steps) == 115
    # what a build shares with a network stays with it
    assert least(sizes | {"build1": 100}, *steps, net1="same", build1="same") == 180


def test_a_network_read_to_the_end_stays() -> None:
    steps = [
        step("net", Stage.PREPARE), step("a", Stage.LOWER, "net"), step("b", Stage.BUILD, "a"),
        step("c", Stage.BUILD, "net"),
    ]  # fmt: skip
    assert least({"net": 100, "a": 50, "b": 5, "c": 5}, *steps) == 155


def test_safetensors_count_as_float32(tmp_path: Path) -> None:
    assert _float32_bytes(weights(tmp_path / "w.safetensors", [3, 5], [7], [])) == 4 * 23
    (tmp_path / "w.pt").write_bytes(b"x" * 77)
    assert _float32_bytes(tmp_path / "w.pt") == 77


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\xff" * 40,
        struct.pack("<Q", 4) + b"[3]]",
        struct.pack("<Q", 9) + b'{"w": {}}',
    ],
    ids=["empty", "short", "no length", "no table", "no shape"],
)
def test_weights_that_cannot_be_read_are_unknown_and_no_error_of_a_plan(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    monkeypatch.setattr(Small, "weights", lambda self, dataset: file)
    found = preview(study(tmp_path))
    assert (found["networks"], found["networks_unknown"]) == (1, 1)


@pytest.mark.usefixtures("fakes")
def test_a_network_with_weights_is_as_large_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = study(tmp_path)
    found = preview(small)
    assert (found["networks"], found["networks_unknown"]) == (1, 1)
    unknown = found["expected_mb"]
    assert 3 * UNKNOWN_NETWORK < unknown * 1e6 < 4 * UNKNOWN_NETWORK  # prepared, lowered, built
    file = weights(tmp_path / "w.safetensors", [1000, 1000])

    def of(self: Model, dataset: object) -> Path:
        return file

    monkeypatch.setattr(Small, "weights", of)
    found = preview(small)
    assert found["networks_unknown"] == 0
    assert found["expected_mb"] == pytest.approx(unknown - 3 * (UNKNOWN_NETWORK - 4e6) / 1e6)


@pytest.mark.usefixtures("fakes")
def test_what_a_store_knows_counts_with_its_real_size(tmp_path: Path) -> None:
    small = study(tmp_path, model=["small", "large-net"])
    root = tmp_path / "store"
    assert preview(small, root)["sizes_known"] == 0  # there is none yet
    store = ArtifactStore(root)
    before = preview(small, root)
    assert (before["sizes_known"], before["networks_unknown"]) == (0, 2)
    cell = make(small).runnable[0]
    for key, stage, size in ((cell.prepared, "prepare", 3000), (cell.build, "build", 500)):
        folder = store.scratch()
        (folder / "a").write_text("x" * size)
        made = store.commit(key, stage, folder, {"stored_bytes": size}, 0)
    after = preview(small, root)
    assert (after["sizes_known"], after["networks_unknown"]) == (2, 1)
    assert after["expected_mb"] == pytest.approx(before["expected_mb"] - 20, abs=0.2)
    with store.use(), store.only_user():
        store.evict(made.content or "")
    assert preview(small, root) == after  # the record says how large it was


def sized(**layers: object) -> dict[str, float]:
    """Return the share of its network that is expected of each artefact, code left out."""
    given = {"dataset": ["fashion-mnist"], "model": ["resnet-8"], "software": ["tvm"]} | layers
    plan = make(Study.from_dict({"name": "sizes", "layers": given, "measure": MEASURE}))
    (cell,) = plan.runnable
    sizes = _Sizes(Pilot())
    sizes.add(cell, plan.steps)
    assert not sizes.unknown, "its weights come with dlas"
    network = sizes.bytes[cell.prepared]
    assert 300_000 < network < 330_000
    code = {Stage.BUILD: CODE["exported"], Stage.LOWER: 5 * CODE["onnx"]}
    found = {k: sizes.bytes[k] - code.get(plan.steps[k].stage, 0) for k in cell.steps}
    return {plan.steps[k].stage: round(found[k] / network, 3) for k in cell.steps}


CSR_90: dict[str, object] = {
    "optimization": [{"weight-pruning": {"sparsity": 0.9, "epochs": 0}}],
    "algorithm": [{"gemm": {"weights": "csr"}}],
}
PRUNED = [{"channel-pruning": {"ratio": 0.5, "epochs": 0}}]


@pytest.mark.parametrize(
    ("layers", "optimized", "lowered", "built"),
    [
        ({"algorithm": ["direct"]}, None, 1, 1),
        ({"algorithm": ["winograd"]}, None, 1, 1.8),
        (CSR_90, 1, 1, 0.2),
        ({**CSR_90, "algorithm": ["gemm"]}, 1, 1, 1),
        ({"algorithm": ["winograd"], "optimization": PRUNED}, 0.25, 0.25, 0.45),
        ({"algorithm": ["direct"], "optimization": ["float16"]}, 1, 1, 0.5),
        ({"algorithm": ["direct"], "optimization": ["int8"]}, 0.3, None, 0.3),
    ],
    ids=["dense", "winograd", "csr", "zeros stored", "channels", "float16", "int8"],
)
def test_sizes_follow_from_what_is_left_its_type_and_how_it_is_packed(
    layers: dict[str, object],
    optimized: float | None,
    lowered: float | None,
    built: float,
) -> None:
    pytest.importorskip("tvm")
    found = sized(**layers)
    expected = {Stage.OPTIMIZE: optimized, Stage.LOWER: lowered, Stage.BUILD: built}
    assert {stage: found.get(stage) for stage in expected} == pytest.approx(expected, abs=0.002)
