"""A runtime added later is measured beside anchors, and compared through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlas.analyze import analyze
from dlas.tables.intake import Asked, of_folders
from place import Place

MEASURE = {
    "rounds": 2, "memory": False, "accuracy_samples": 20, "min_controls": 0, "ceilings": False,
}  # fmt: skip


def layers(*software: str) -> dict[str, object]:
    return {
        "optimization": ["none"],
        "software": list(software),
        "hardware": [{"cpu": {"threads": [1, 2]}}],
    }


def test_anchors_are_measured_again_when_a_runtime_comes_later(fresh: Place) -> None:
    ran = fresh.dlas(
        "run", fresh.study(layers=layers("onnxruntime"), measure=MEASURE), "--out", "out"
    )
    assert ran.returncode == 0, ran.stderr
    before = fresh.rounds()
    more = fresh.study(layers=layers("onnxruntime", "pytorch"), measure=MEASURE)
    ran = fresh.dlas("run", more, "--out", "out")
    assert ran.returncode == 0, ran.stderr
    after = fresh.rounds()
    sessions = list(dict.fromkeys(row.session for row in after.values()))
    assert len(sessions) == 2
    again = {name for name, row in after.items() if name not in before and name[0] in
             {cell for cell, _, _ in before}}  # fmt: skip
    assert len(again) == 4  # both cells of the one earlier runtime, two rounds each
    assert {before[name].created_at for name in before} == {
        after[name].created_at for name in before
    }
    found = analyze(of_folders([Path(fresh.root) / "out"], Asked("quiet_ms")))
    assert np.isfinite(found.estimates.mean).all()  # every cell is compared
    assert len(found.speedups.query("layer == 'software'")) == 1
    assert not any("another session" in note for note in found.table.notes)
    # once all is there, the same command measures nothing
    assert fresh.dlas("run", more, "--out", "out").returncode == 0
    assert len(fresh.rounds()) == len(after)
