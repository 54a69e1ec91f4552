"""The algorithm layer as `studies/algorithms.yaml` declares it, on a small network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dlas.tables import ceilings_frame
from place import Place

MEASURE = {"memory": False, "min_controls": 0, "ceilings": True}
STUDY = Path(__file__).parents[2] / "studies" / "algorithms.yaml"


@pytest.mark.slow
def test_every_primitive_is_complete_or_impossible(fresh: Place) -> None:
    declared = yaml.safe_load(STUDY.read_text())["layers"]
    layers = {
        "algorithm": declared["algorithm"],
        "optimization": ["none", {"weight-pruning": {"sparsity": 0.9, "epochs": 1}}],
        "software": [{"tvm": {"tuning": ["none", "template"], "trials": 2}}],
        "hardware": [{"cpu": {"threads": 1}}],
    }
    path = fresh.study(layers=layers, measure=MEASURE)
    ended = fresh.dlas("run", path, "--out", "out", DLAS_TUNING_DIR=str(fresh.root / "tuning"))
    assert ended.returncode == 0, ended.stderr
    told = fresh.dlas("table", "out", "--format", "json")
    cells = json.loads(told.stdout)
    assert len(cells) == 2 * 8 * 2
    status = [cell["status"] for cell in cells]
    # Winograd with CSR, twice an optimization; the three others with CSR where nothing is pruned.
    assert (status.count("complete"), status.count("impossible")) == (22, 10)
    for cell in cells:
        if cell["status"] == "impossible":
            assert "CSR" in cell["reason"]
            continue
        kernels, asked = str(cell["ran_kernels"]), cell["algorithm"]
        assert asked.partition("(")[0] in kernels and cell["max_abs_error"] < 1e-3
        assert ("weights=csr" in asked) == ("csr" in kernels)
    read = ceilings_frame(fresh.root / "out")
    overheads = read[read.kind == "overhead"]
    assert set(overheads.software) == {c["software"] for c in cells}
    assert (overheads.value > 0).all(), overheads.reason
