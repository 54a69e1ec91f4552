"""What is offered for the axes, and by what a stack is weighed."""

from __future__ import annotations

import pandas as pd
import pytest

import made_study
from dlas.analyze import load_table
from dlas.report.any_table import of_table
from dlas.report.material import load
from dlas.report.quantities import quantities, score, weighed


def test_a_study_offers_what_was_measured(made):
    material = load([made])
    told = {q["name"]: q for q in quantities(material)}
    assert list(told)[:2] == ["quiet_ms", "latency_ms"]
    assert told["quiet_ms"]["title"] == "undisturbed latency, ms"
    assert told["accuracy"] == {
        "name": "accuracy", "title": "accuracy", "unit": "", "more": True, "share": True,
    }  # fmt: skip
    assert told["cold_start_s"]["unit"] == "s"
    assert "energy_mj" not in told  # nobody measured it
    assert score(material) == "accuracy"
    assert weighed(material)[:3] == ["quiet_ms", "accuracy", "memory_mb"]
    assert len(weighed(material)) <= 5


def test_without_accuracy_there_is_no_score(tmp_path):
    rows = [r for r in made_study.rows([("resnet-8", "none", "tvm", 1, "native")])
            if getattr(r, "kind", "") != "evaluate"]  # fmt: skip
    material = load([made_study.fill(tmp_path, rows)])
    assert score(material) is None
    assert "accuracy" not in {q["name"] for q in quantities(material)}


@pytest.mark.parametrize(
    ("goals", "wanted"),
    [({}, ("f1", False)), ({"maximize": ["odd"], "minimize": ["ms"]}, ("odd", True)),
     ({"minimize": ["ms", "odd"]}, ("f1", False))],
)  # fmt: skip
def test_a_table_from_elsewhere_says_by_names_and_goals_what_is_good(goals, wanted):
    frame = pd.DataFrame({
        "net": ["a", "a", "b", "b"], "engine": ["x", "y"] * 2, "ms": [1.0, 2.0, 3.0, 4.0],
        "f1": [0.5, 0.6, 0.7, 0.8], "odd": [1.0, 2.0, 5.0, 3.0], "note": ["n"] * 4,
    })  # fmt: skip
    material = of_table(
        load_table(frame, layers="net,engine", metric="ms", goals=goals), ["t.csv"]
    )
    told = {q["name"]: q["more"] for q in quantities(material)}
    assert next(iter(told)) == "ms" and not told["ms"]
    assert "note" not in told and "net" not in told
    assert (score(material), told["odd"]) == wanted
