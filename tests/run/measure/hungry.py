"""Measure a runtime that takes a known amount of memory; prints what was read as JSON.

Run as ``hungry.py FOLDER KEPT MORE``, in a process of its own as the measurement asks for: pages
that the tests before left in a common process may be taken back at any moment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from dlas.core.protocols import HardwareTechnique, Software
from dlas.run.measure import args as job_args
from dlas.run.measure import memory

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


def main() -> None:
    folder, kept, more = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    runtime = Hungry(kept, more)
    np.save(folder / "in.npy", np.zeros((5, 1, 2, 2), np.float32))
    args = {
        "artifact": str(folder),
        "inputs": str(folder / "in.npy"),
        "batch": 1,
        "software": {},
        "hardware": {},
        "launched": {"launch": "exec", "import_s": 0.5},
    }
    np.ones(300 * MB // 8).sum()  # an earlier peak, as of the imports, does not count
    made = {Software: lambda choice: runtime, HardwareTechnique: lambda choice: None}
    with patch.dict(job_args._FROM_JSON, made):
        value = memory.run(args)
    json.dump(value | {"runs": runtime.runs}, sys.stdout)


if __name__ == "__main__":
    main()
