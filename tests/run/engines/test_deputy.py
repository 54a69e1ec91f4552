"""Processes of runs that were killed: they end, since nobody asks anything of them any more."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dlas.run.engines import deputy
from dlas.run.engines.deputy import Deputy


def test_a_process_that_nobody_asks_anything_of_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deputy, "IDLE_S", 0.2)
    monkeypatch.setattr(deputy, "SWEEP_S", 0.05)
    made = Deputy(tmp_path, "m", lambda said: None)
    try:
        monkeypatch.setitem(deputy._deputies, "killed", made)
        threading.Thread(target=deputy.keep_sweeping, daemon=True).start()
        until = time.monotonic() + 60
        while made._process.poll() is None:
            assert time.monotonic() < until, "it is still there"
            time.sleep(0.05)
        assert "killed" not in deputy._deputies
    finally:
        made._process.kill()
