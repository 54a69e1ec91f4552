from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dlas.core.errors import StepError
from dlas.core.stack import Choice
from dlas.run.measure import memory

PROGRAM = Path(__file__).with_name("hungry.py")


@pytest.mark.parametrize(("kept", "more"), [(60, 0), (60, 90)])
def test_memory_is_what_loading_and_running_add(tmp_path: Path, kept: int, more: int) -> None:
    command = [sys.executable, PROGRAM, tmp_path, str(kept), str(more)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    value = json.loads(ended.stdout)
    assert kept + more - 1 < value["memory_mb"] < kept + more + 15
    assert value["memory_mb"] == pytest.approx(value["peak_rss_mb"] - value["import_rss_mb"])
    assert value["runs"] >= 3
    assert value["import_s"] == 0.5
    assert value["load_s"] > 0
    assert value["first_inference_s"] > 0


def test_a_forked_process_cannot_tell() -> None:
    with pytest.raises(StepError, match="forked"):
        memory.run(
            {
                "artifact": "",
                "inputs": "",
                "batch": 1,
                "software": Choice("pytorch").to_json(),
                "hardware": Choice("cpu").to_json(),
                "launched": {"launch": "fork", "import_s": 0.0},
            }
        )
