from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlas.errors import StepError
from dlas.measure import latency, memory

MB = 10**6


class Hungry:
    """Keeps ``kept`` megabytes once loaded, and takes ``more`` during the second inference."""

    def __init__(self, kept: int, more: int) -> None:
        self.kept, self.more, self.runs = kept, more, 0

    def load(self, folder: Path, hardware: Any) -> Hungry:
        self.weights = np.ones(self.kept * MB // 8)
        return self

    def __call__(self, x: Any) -> Any:
        self.runs += 1
        if self.runs == 2:
            np.ones(self.more * MB // 8).sum()
        return np.ones((1, 2), np.float32)


def read(
    runtime: Hungry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: str = "exec"
) -> dict[str, Any]:
    np.save(tmp_path / "in.npy", np.zeros((5, 1, 2, 2), np.float32))
    monkeypatch.setattr(latency, "techniques", lambda args: (runtime, None))
    return memory.run(
        {
            "artifact": str(tmp_path),
            "inputs": str(tmp_path / "in.npy"),
            "batch": 1,
            "launched": {"launch": launch, "import_s": 0.5},
        }
    )


@pytest.mark.parametrize(("kept", "more"), [(60, 0), (60, 90)])
def test_memory_is_what_loading_and_running_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, more: int
) -> None:
    np.ones(300 * MB // 8).sum()  # an earlier peak, as of the imports, does not count
    runtime = Hungry(kept, more)
    value = read(runtime, tmp_path, monkeypatch)
    assert kept + more - 1 < value["memory_mb"] < kept + more + 15
    assert value["memory_mb"] == pytest.approx(value["peak_rss_mb"] - value["import_rss_mb"])
    assert runtime.runs >= 3
    assert value["import_s"] == 0.5
    assert value["load_s"] > 0
    assert value["first_inference_s"] > 0


def test_a_forked_process_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepError, match="forked"):
        read(Hungry(1, 0), tmp_path, monkeypatch, launch="fork")
