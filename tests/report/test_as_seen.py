"""Where latency as seen decides differently than undisturbed latency."""

from __future__ import annotations

from dataclasses import replace

import made_study
from dlas.report import as_seen
from dlas.report.material import load
from dlas.report.parts import places
from dlas.store.results import RoundRow

STACKS = [("resnet-8", "none", software, 1, "native") for software in ("pytorch", "openvino")]
"""OpenVINO takes 0.45 of PyTorch's time."""


def told(folder, spoil):
    rows = [spoil(r) if isinstance(r, RoundRow) else r for r in made_study.rows(STACKS)]
    material = load([made_study.fill(folder, rows)])
    return material, as_seen.apart(material, places(material))


def test_a_choice_that_is_quick_only_when_undisturbed_is_named(tmp_path):
    quick = made_study.stack(*STACKS[1]).cell

    def spoil(row):
        slow = tuple(s * (1 if i % 4 == 0 else 5) for i, s in enumerate(row.samples))
        return replace(row, samples=slow) if row.cell == quick else row

    material, found = told(tmp_path, spoil)
    (row,) = found["rows"]
    software = material.cells["software"]
    assert (software[row["quiet"]], software[row["seen"]]) == ("openvino", "pytorch")
    assert row["layer"] == "software" and row["sure"]
    assert row["quiet_ratio"] > 1.5 and row["seen_ratio"] > 1.5
    assert found["contexts"] == 1
    assert found["best"] == row["seen"]


def test_where_both_agree_nothing_is_named(tmp_path):
    material, found = told(tmp_path, lambda row: row)
    assert found["rows"] == []
    assert material.cells["software"][found["best"]] == "openvino"
