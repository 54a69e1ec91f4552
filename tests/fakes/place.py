"""A folder with a study, the user's own network and the sample plug-in; dlas as a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dlas.store.artifacts import ArtifactStore
from dlas.store.results import CellRow, FactRow, ResultStore, RoundRow

HERE = Path(__file__).parent
NET = '''
"""A small network, as a user would write it beside the study."""
import torch


def build(num_classes, in_channels, size):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_channels, 16, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, stride=2, padding=1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, num_classes),
    )
'''

STUDY: dict[str, Any] = {
    "dlas": 1,
    "name": "small",
    "layers": {
        "dataset": ["digits"],
        "model": [{"torch": {"factory": "small_net:build"}}],
        "optimization": ["none", {"weight-pruning": {"sparsity": 0.5, "epochs": 1}}],
        "software": ["pytorch", "onnxruntime"],
        "hardware": [{"cpu": {"threads": [1, 2]}}],
    },
    "measure": {
        "rounds": 2,
        "min_runs": 5,
        "min_seconds": 0.02,
        "warmup_max_seconds": 0.2,
        "accuracy_samples": 100,
        "min_controls": 1,
        "controls": 0.0,
        "ceilings": False,  # test_ceilings.py reads them; on a large cache they take seconds
    },
}


@dataclass
class Place:
    """A folder with a study file, the user's network and the sample plug-in on the path."""

    root: Path
    timm: bool = False
    """Whether servers and children import timm, which takes as long as importing torch, for each
    of them. The network above uses none of it, so an empty package stands in its place."""

    def study(self, name: str = "study.yaml", **changes: Any) -> Path:
        data = {**STUDY, **{k: v for k, v in changes.items() if k not in ("layers", "measure")}}
        data["layers"] = {**STUDY["layers"], **changes.get("layers", {})}
        data["measure"] = {**STUDY["measure"], **changes.get("measure", {})}
        path = self.root / name
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path

    def environment(self, **more: str) -> Mapping[str, str]:
        before = os.environ.get("PYTHONPATH", "")
        places = [self.root / "site", *([] if self.timm else [HERE / "no_timm"]), before]
        path = os.pathsep.join(str(place) for place in places if place)
        own = {"DLAS_MEASURE_LOCK": str(self.root / "measure.lock"), "PYTHONPATH": path}
        return {**os.environ, **own, **more}

    def dlas(self, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dlas.cli", *map(str, arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=280,
            cwd=self.root,
            env=self.environment(**more),
            check=False,
        )

    def start(self, *arguments: str | Path, **more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dlas.cli", *map(str, arguments)]
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.root,
            env=self.environment(**more),
            start_new_session=True,
        )

    def cells(self, out: str = "out") -> dict[str, CellRow]:
        with ResultStore(self.root / out / "results.sqlite", read_only=True) as results:
            return {row.cell: row for row in results.rows(CellRow)}

    def rounds(self, out: str = "out") -> dict[tuple[str, int, int], RoundRow]:
        with ResultStore(self.root / out / "results.sqlite", read_only=True) as results:
            return {(r.cell, r.control, r.round): r for r in results.rows(RoundRow)}

    def facts(self, out: str = "out") -> dict[tuple[str, str], FactRow]:
        with ResultStore(self.root / out / "results.sqlite", read_only=True) as results:
            return {(f.cell, f.kind): f for f in results.rows(FactRow)}

    def store(self, out: str = "out") -> ArtifactStore:
        return ArtifactStore(self.root / out / "store", create=False)

    def steps(self, out: str = "out") -> dict[str, str]:
        """Return when each step was done."""
        opened = self.store(out)
        keys = [file.stem for file in (opened.root / "steps").glob("*.json")]
        records = {key: opened.get(key) for key in keys}
        return {key: record.created_at for key, record in records.items() if record}


def place(root: Path, timm: bool = False) -> Place:
    (root / "small_net.py").write_text(NET)
    (root / "site").mkdir()
    source = HERE.parent / "plugin_package" / "visible.py"
    spec = importlib.util.spec_from_file_location("visible", source)
    assert spec is not None
    assert spec.loader is not None
    visible = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(visible)
    visible.write(root / "site")
    return Place(root, timm)
