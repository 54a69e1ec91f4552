"""Results written after every case, so that a benchmark can be stopped and gone on with."""

import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = (
    "apache-tvm", "torch", "onnxruntime", "openvino", "ncnn", "pnnx", "timm", "numpy",
)  # fmt: skip


class Saved:
    """Rows in a JSON file, each with the `case` that it belongs to."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        if path and path.exists():
            old = json.loads(path.read_text())
            self.rows, self.runs = old["rows"], old["runs"]
        self.runs.append(machine())

    def has(self, case: dict[str, Any]) -> bool:
        """Whether this case was measured already."""
        return any(row["case"] == case for row in self.rows)

    def add(self, case: dict[str, Any], rows: Iterable[dict[str, Any]]) -> None:
        """Keep a case's rows and write everything, whole or not at all."""
        run = len(self.runs) - 1
        self.rows += [{"case": case, "run": run, **row} for row in rows]
        if self.path:
            draft = self.path.with_suffix(".tmp")
            draft.write_text(json.dumps({"runs": self.runs, "rows": self.rows}, indent=1))
            draft.replace(self.path)


def machine() -> dict[str, Any]:
    """Return when, where and by what command this run is made."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "cpu": names[0] if names else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean; NaN of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan
