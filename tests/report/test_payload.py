import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import made_study
from dlas import report, tables
from dlas.analyze import analyze
from dlas.analyze.conclusion import Finding
from dlas.core.errors import StorageError, UserError
from dlas.report import parts
from dlas.report.pack import unpack
from dlas.report.payload import collect, next_experiment
from dlas.store.results import CellRow, RoundRow, SentinelRow
from dlas.tables import intake


@pytest.fixture
def payload(written):
    return written[1]


def small(folder, **changed):
    """An output folder of few cells."""
    stacks = [("resnet-8", "none", s, t, "native") for s in ("pytorch", "tvm") for t in (1, 2)]
    return made_study.fill(folder, made_study.rows(stacks, **changed))


def test_a_report_analyses_once_and_advises_what_dlas_advise_does(tmp_path, monkeypatch):
    folder, asked = small(tmp_path / "out"), []

    def counted(table):
        asked.append(table)
        return analyze(table)

    for place in ("dlas.report.material.analyze", "dlas.advise.evidence.analyze"):
        monkeypatch.setattr(place, counted)
    told = collect([folder])["next"]
    assert len(asked) == 1
    assert told == next_experiment([folder]) and told["title"]
    assert len(asked) == 2
    # What was asked in another way is no answer to what advice asks.
    assert collect([folder], intake.Asked(baseline=("software=tvm",)))["next"] == told
    assert len(asked) == 4


def test_the_next_experiment_is_chosen_by_the_latency_that_is_asked_for(tmp_path):
    folder = small(tmp_path / "out")
    seen = collect([folder], intake.Asked("latency_ms"))["next"]
    assert seen == next_experiment([folder], metric="latency_ms")
    assert seen["commands"][0] == f"dlas advise {folder} --metric latency_ms"
    # Another quantity is nothing that advice compares by.
    assert collect([folder], intake.Asked("memory_mb"))["next"] == next_experiment([folder])


def test_cells_hold_every_digit_of_dlas_table(payload, made):
    cells = unpack(payload["cells"], payload["texts"])
    frame = tables.cells_frame([made])
    assert [c["cell"] for c in cells] == frame["cell"].tolist()
    for name in ("latency_ms", "latency_low_ms", "accuracy", "memory_mb"):
        assert [c[name] for c in cells] == [None if v != v else v for v in frame[name].tolist()]


def test_estimates_are_those_of_the_analysis(payload, found):
    estimates = payload["estimates"]
    mean = found.estimates.mean
    assert len(estimates["mean"]) == len(mean) == payload["analyzed"]
    for mine, theirs in zip(estimates["mean"], mean.tolist(), strict=True):
        assert mine is None if theirs != theirs else mine == pytest.approx(theirs, rel=1e-8)
    assert estimates["references"]["software"] == found.table.reference("software")


def test_parts_name_the_rows_of_their_cells(payload, found):
    cells = unpack(payload["cells"], payload["texts"])
    contexts = unpack(payload["tables"]["contexts"], payload["texts"])
    theirs = found.speedup_contexts.to_dict("records")
    assert len(contexts) == len(theirs)
    for mine, row in zip(contexts, theirs, strict=True):
        assert cells[mine["cell"]]["cell"] == row["cell"]
        assert cells[mine["base"]]["cell"] == row["baseline_cell"]
        assert mine["ratio"] == pytest.approx(row["ratio"], rel=1e-5)


def test_flips_between_contenders_come_first_and_what_is_cut_is_said(monkeypatch):
    flips = pd.DataFrame({"layer": "software", "a": ["straw", "fast", "slow"], "b": "other",
                          "by": ["model", "model, hardware", "model"]})  # fmt: skip
    told = Finding("flip", "", layers=("software", "model", "hardware"), contender=True,
                   choices=("software=fast", "software=other"))  # fmt: skip
    straw = Finding("flip", "", layers=("software", "model"), contender=False,
                    choices=("software=straw", "software=other"))  # fmt: skip
    empty = pd.DataFrame()
    found = SimpleNamespace(flips=flips, findings=(straw, told), break_evens=empty, elbows=empty)
    assert parts.flips(found)["a"].tolist() == ["fast", "straw", "slow"]
    assert parts.cut(found) == []
    monkeypatch.setattr(parts, "FLIPS", 2)
    assert parts.flips(found)["a"].tolist() == ["fast", "straw"]
    (said,) = parts.cut(found)
    assert said.startswith("This page carries 2 of 3 choices that change order")


def test_findings_keep_their_cells_and_words(payload, found):
    told = unpack(payload["findings"], payload["texts"])
    cells = unpack(payload["cells"], payload["texts"])
    assert [f["sentence"] for f in told] == [f.sentence for f in found.findings]
    for mine, theirs in zip(told, found.findings, strict=True):
        assert {cells[row]["cell"] for row in mine["cells"]} == set(theirs.cells)


def test_the_answer_is_the_best_cell_of_the_analysis(payload, found):
    cells = unpack(payload["cells"], payload["texts"])
    assert cells[payload["best"]["row"]]["cell"] == found.best.cell
    assert payload["goals"] == [
        "least quiet_ms",
        "least memory_mb",
        "accuracy_drop at most 0.03",
    ]
    trust = payload["trust"]
    assert (trust["complete"], trust["cells"], trust["rounds"]) == (172, 192, 3)
    assert 0.005 < trust["interval"] < 0.1


def test_filters_are_the_layers_and_parameters_with_several_values(payload):
    names = ["model", "optimization", "algorithm", "software", "hardware"]
    assert payload["filters"] == [*names, "optimization.precision", "optimization.pruning"]


def test_a_page_of_a_thousand_cells_is_below_8_mb(made, made_page):
    from plotly.offline import get_plotlyjs

    size, library = made_page.stat().st_size, len(get_plotlyjs().encode())
    assert library + (size - library) / 192 * 1000 < 8e6


def test_text_of_a_user_cannot_leave_the_page_s_data(tmp_path):
    evil = "</script><script>alert(1)</script><!-- @@SCRIPT@@"
    rows = [
        replace(r, reason=evil, study="<b>made") if isinstance(r, CellRow) else r
        for r in made_study.rows([("resnet-8", "int8", "tvm", 1, "native")])
    ]
    page = report.write([made_study.fill(tmp_path, rows)], tmp_path / "r.html").read_text()
    assert evil not in page and "<b>made" not in page
    assert "\\u003c/script>" in page
    data = page.split('id="payload">', 1)[1].split("</script>", 1)[0]
    assert evil in json.loads(data)["texts"] or evil in json.dumps(json.loads(data)["cells"])


def test_folders_without_results_or_cells_are_said(tmp_path):
    with pytest.raises(UserError, match="holds no results"):
        report.write([tmp_path / "none"], tmp_path / "r.html")
    empty = made_study.fill(tmp_path / "empty", [])
    with pytest.raises(UserError, match="no cells yet"):
        report.write([empty], tmp_path / "r.html")


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        report.write([small(tmp_path / "out")], tmp_path / "file" / "r.html")


def test_two_hosts_have_rows_of_their_own(tmp_path):
    rows = list(made_study.rows([("resnet-8", "none", s, t, "native")
                                 for s in ("pytorch", "tvm") for t in (1, 2)]))  # fmt: skip
    other = [replace(r, host="host-2") if hasattr(r, "host") else r for r in rows]
    other = [replace(r, session="s2") if hasattr(r, "session") else r for r in other]
    folders = [made_study.fill(tmp_path / n, r) for n, r in (("a", rows), ("b", other))]
    payload = collect(folders)
    cells = unpack(payload["cells"], payload["texts"])
    assert payload["analyzed"] == len(cells) == 8
    assert "host" in payload["filters"]
    for row in unpack(payload["tables"]["contexts"], payload["texts"]):
        assert cells[row["cell"]]["host"] == cells[row["base"]]["host"]


def test_what_explains_the_differences_between_rounds_is_said(tmp_path):
    """Planted: most of a round's slowness is the sentinel's, none of it stolen time."""
    rng = np.random.default_rng(2)
    slow = rng.normal(0, 0.1, 40)
    stacks = [("resnet-8", "none", s, t, "native") for s in made_study.SOFTWARE for t in (1, 2)]
    made = made_study.rows(stacks, rounds=5, noise=0.001)
    made = [r for r in made if not isinstance(r, SentinelRow)]

    def disturbed(row, steal):
        minute = int(rng.integers(len(slow)))
        by = math.exp(slow[minute] + rng.normal(0, 0.03))
        value = row.value | {"steal_share": 0.1 * float(rng.random()) if steal else None}
        samples = tuple(s * by for s in row.samples)
        return replace(row, created_at=moment(minute), samples=samples, value=value)

    def told(name, *, steal, sentinel=()):
        rows = [disturbed(r, steal) if isinstance(r, RoundRow) else r for r in made]
        return collect([made_study.fill(tmp_path / name, [*rows, *sentinel])])["explained"]

    sentinel = [
        SentinelRow(made_study.SESSION, 0, i, 0.01 * math.exp(v), moment(i))
        for i, v in enumerate(slow)
    ]
    found = told("both", steal=True, sentinel=sentinel)
    assert 0.6 < found["sentinel"] < 0.98
    assert found["steal"] < 0.15
    assert found["drift"] is None  # rounds of one minute tell no order
    nothing = told("neither", steal=False)
    assert set(nothing) == {"drift", "left_out", "sentinel", "steal"}
    assert all(value is None for value in nothing.values())


def moment(minute):
    return f"2026-01-01T00:{minute:02d}:00.000+00:00"
