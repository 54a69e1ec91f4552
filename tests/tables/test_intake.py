"""Tables for the analysis from output folders: what is read, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import made_study
from dlas.analyze import analyze
from dlas.analyze.estimate import noise
from dlas.analyze.estimate.halves import halves
from dlas.core.errors import UserError
from dlas.store.results import CeilingRow, CellRow, RoundRow, Row
from dlas.tables import ceilings_frame, cells_frame, controls_frame, floors_frame
from dlas.tables.fitted import QUIET, _left_out, estimates_of, fits
from dlas.tables.intake import Asked, ceilings, of_folders, of_results
from dlas.tables.read import read
from table_rows import SESSION, cell_row, fill, round_row, stack

ASKED = Asked("quiet_ms")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = next(iter(made_study.MODELS))
    chosen = [(model, "none", s, t, "native") for s in ("pytorch", "tvm") for t in (1, 2)]
    return made_study.fill(tmp_path_factory.mktemp("study"), made_study.rows(chosen))


def test_folders_of_the_same_cells_are_sent_to_compare(study: Path, tmp_path: Path) -> None:
    chosen = [(next(iter(made_study.MODELS)), "none", "tvm", 1, "native")]
    again = made_study.fill(tmp_path / "again", made_study.rows(chosen))
    with pytest.raises(
        UserError, match=rf"1 cells of the same host in common.*dlas compare {study} {again}"
    ):
        of_folders([study, again], ASKED)


def test_folders_of_other_cells_are_analysed_together(study: Path, tmp_path: Path) -> None:
    chosen = [(next(iter(made_study.MODELS)), "none", "openvino", 1, "native")]
    more = made_study.fill(tmp_path / "more", made_study.rows(chosen))
    assert len(of_folders([study, more], ASKED).cells) == 5


def later(rows: Iterable[Row], slower: float = 1.08) -> list[Row]:
    """Return rows as of another session, on a day on which the machine was slower."""
    other = [replace(r, session="s2") if hasattr(r, "session") else r for r in rows]
    return [
        replace(r, samples=tuple(s * slower for s in r.samples)) if isinstance(r, RoundRow) else r
        for r in other
    ]


SAME = [("resnet-8", p, "openvino", t, "native") for p in ("none", "int8") for t in (1, 2)]
"""Cells whose twins by another software are as fast."""


def two_days(tmp_path: Path) -> list[Path]:
    """Return folders of one host: ONNX Runtime is as fast as OpenVINO, and a day later slower."""
    quick = {"onnxruntime": made_study.SOFTWARE["openvino"]}
    with patch.dict(made_study.SOFTWARE, quick):
        first = made_study.rows([(*one[:2], "onnxruntime", *one[3:]) for one in SAME], noise=0.001)
        a = made_study.fill(tmp_path / "a", list(first))
    b = made_study.fill(tmp_path / "b", later(made_study.rows(SAME[:3], noise=0.001)))
    return [a, b]


def test_folders_of_two_sessions_are_not_compared(tmp_path: Path) -> None:
    a, b = two_days(tmp_path)
    table = of_folders([a, b], ASKED)
    found = analyze(table)
    assert not len(found.speedups.query("factor == 'software'"))
    assert not any(
        "onnxruntime" in f.sentence and "openvino" in f.sentence for f in found.findings
    )
    told = [note for note in found.table.notes if "another session" in note]
    assert len(told) == 1
    assert (
        f"3 cells of {b} were measured on host-1 in another session than those of {a}" in told[0]
    )
    assert f"run into {a}, measures anchors" in told[0]
    assert not any("in two rounds" in note for note in found.table.notes)
    assert np.isfinite(found.estimates.mean).sum() == 4
    # in the other order the same are left out: those of fewer cells
    again = of_folders([b, a], ASKED)
    assert again.estimates is not None
    left_out = again.cells["software"][~np.isfinite(again.estimates.mean)]
    assert left_out.tolist() == ["openvino"] * 3
    # what is chosen on half of the rounds is chosen among the same cells
    for half in (found, analyze(again)):
        known = np.isfinite(halves(half.table, half.estimates).one.mean)
        assert known.tolist() == np.isfinite(half.estimates.mean).tolist()


def test_folders_of_one_session_are_fitted_as_one(tmp_path: Path) -> None:
    rows = list(made_study.rows(SAME, noise=0.01))
    cells = [r.cell for r in rows if isinstance(r, CellRow)]
    parts = [
        [r for r in rows if not hasattr(r, "cell") or (r.cell in cells[:2]) == first]
        for first in (True, False)
    ]
    folders = [made_study.fill(tmp_path / f"part{i}", part) for i, part in enumerate(parts)]
    whole = of_folders([made_study.fill(tmp_path / "whole", rows)], ASKED)
    found = of_folders(folders, ASKED)
    assert found.estimates is not None and whole.estimates is not None
    assert found.cells["cell"].tolist() == whole.cells["cell"].tolist()
    np.testing.assert_allclose(found.estimates.mean, whole.estimates.mean, rtol=1e-12)
    np.testing.assert_allclose(found.estimates.var, whole.estimates.var, rtol=1e-12)
    assert found.estimates.strata.equals(whole.estimates.strata)
    assert not any("session" in note for note in found.notes)


def test_of_several_readings_the_best_of_each_ceiling_counts(study: Path) -> None:
    found = ceilings(read(study), cells_frame(study))
    assert found is not None
    rows = found.set_index(["software", "hardware"])
    assert rows.loc[("pytorch", "cpu"), "gflops"] == pytest.approx(90 * 1.02)
    assert rows.loc[("pytorch", "cpu(threads=2)"), "gflops"] == pytest.approx(180 * 1.02)
    assert rows.loc[("pytorch", "cpu"), "overhead_ms"] == pytest.approx(0.02 / 1.02)
    assert rows.loc[("tvm", "cpu"), "overhead_ms"] != rows.loc[("tvm", "cpu"), "overhead_ms"]
    assert set(found["precision"]) == {"float32"}
    assert set(found["cache_mb"]) == {0.5}


def test_ceilings_of_narrow_types_are_figures_of_their_own(tmp_path: Path) -> None:
    chosen = [(next(iter(made_study.MODELS)), "none", "tvm", 1, "native")]
    rows = [*made_study.rows(chosen)]
    wide = [r for r in rows if isinstance(r, CeilingRow) and r.kind == "arithmetic"]
    narrow = [replace(r, kind="arithmetic int8", value=700.0) for r in wide]
    folder = made_study.fill(tmp_path, [*rows, *narrow])
    read_there = ceilings_frame(folder).set_index(["kind", "precision"])["value"]
    assert set(read_there["arithmetic", "int8"]) == {700.0}
    found = ceilings(read(folder), cells_frame(folder))
    assert found is not None and set(found["gflops_int8"]) == {700.0}
    assert found["gflops"].max() < 700


def test_a_study_without_readings_has_no_ceilings(tmp_path: Path) -> None:
    chosen = [(next(iter(made_study.MODELS)), "none", "tvm", 1, "native")]
    rows = [r for r in made_study.rows(chosen) if type(r).__name__ != "CeilingRow"]
    folder = made_study.fill(tmp_path, rows)
    assert ceilings(read(folder), cells_frame(folder)) is None
    assert of_folders([folder], ASKED).ceilings is None


def test_rounds_are_fitted_once_for_the_tables_and_the_analysis(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    real = noise._from_rounds
    monkeypatch.setattr(noise, "_from_rounds", lambda *a: fitted.append(a[0].metric) or real(*a))
    results = read(study)
    assert len(controls_frame(results)) and len(floors_frame(results))
    found = analyze(of_results(results, [study], ASKED))
    assert sorted(fitted) == ["latency_ms", "quiet_ms"]  # one fit for each quantity
    assert found.estimates.kind == "rounds"
    monkeypatch.undo()
    # one host: what the analysis has is what fitting its own table would give
    again = noise.estimate(replace(found.table, estimates=None))
    np.testing.assert_allclose(found.estimates.mean, again.mean, rtol=1e-9)
    np.testing.assert_allclose(found.estimates.var.max(1), again.var.max(1), rtol=1e-9)


def test_heavy_tails_of_rounds_go_with_the_estimates(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    chosen = [stack(), *(stack(0.5 + i / 100) for i in range(20))]
    rows = [
        round_row(one.cell, r, [10 * math.exp(0.02 * float(rng.standard_t(3)))])
        for one in chosen
        for r in range(12)
    ]
    folder = fill(tmp_path, SESSION, *(cell_row(s, i) for i, s in enumerate(chosen)), *rows)
    found = of_folders([folder], Asked("latency_ms"))
    again = noise.estimate(replace(found, estimates=None))
    assert found.estimates is not None and found.estimates.tails is not None
    assert (found.estimates.tails > 0).all()
    np.testing.assert_allclose(found.estimates.tails, again.tails, rtol=1e-6)


def test_each_host_keeps_its_own_noise(tmp_path: Path) -> None:
    steps = {"quiet": 0.001, "loud": 0.1}
    chosen = [stack(), stack(0.5), stack(0.6), stack(0.7)]
    rng = np.random.default_rng(3)
    rows = [
        round_row(one.cell, r, [10 * math.exp(step * float(rng.normal()))], host=host)
        for host, step in steps.items()
        for one in chosen
        for r in range(4)
    ]
    folder = fill(tmp_path, SESSION, *(cell_row(s, i) for i, s in enumerate(chosen)), *rows)
    found = estimates_of(read(folder), cells_frame(folder), "quiet_ms")
    assert found is not None
    sd = dict(zip(found.strata["stratum"], found.strata["sd"], strict=True))
    of = {name: next(v for k, v in sd.items() if k.startswith(name)) for name in steps}
    assert of["quiet"] < 0.005 < 0.02 < of["loud"]
    assert np.isfinite(found.mean).all() and (found.var > 0).sum() == len(found.mean)


def test_a_host_of_one_round_is_named_and_in_no_comparison(tmp_path: Path) -> None:
    one, two = stack(), stack(0.5)
    rows = [round_row(s.cell, r, [10.0 + r]) for s in (one, two) for r in range(3)]
    rows += [round_row(s.cell, 0, [99.0], host="once") for s in (one, two)]
    folder = fill(tmp_path, SESSION, cell_row(one), cell_row(two, 1), *rows)
    table = of_folders([folder], ASKED)
    assert table.estimates is not None
    left_out = ~np.isfinite(table.estimates.mean)
    assert table.cells["host"][left_out].tolist() == ["once", "once"]
    assert any("2 complete cells of host once are left out" in note for note in table.notes)


def test_cells_of_another_session_are_not_said_to_lack_rounds(tmp_path: Path) -> None:
    folders = two_days(tmp_path)
    rows = [row for results in read(folders) for row in (*results.cells, *results.rounds)]
    one = made_study.fill(tmp_path / "merged", rows)  # as `dlas merge` puts them
    found = analyze(of_folders([one], ASKED))
    told = [note for note in found.table.notes if "left out" in note]
    assert len(told) == 1 and "3 cells were measured in another session" in told[0]


def test_what_does_not_count_is_a_share_of_the_rounds_of_all_hosts(study: Path) -> None:
    fit = fits(read([study])[0], QUIET)[0]
    assert fit.estimates is not None and fit.rounds > 0
    calm = replace(fit, estimates=replace(fit.estimates, disturbed=None), rounds=30)
    busy = replace(fit, estimates=replace(fit.estimates, disturbed=0.3), rounds=10)
    unknown = replace(fit, estimates=None, rounds=2)
    assert _left_out([calm, unknown]) is None
    assert _left_out([busy, unknown]) == pytest.approx(0.3)
    assert _left_out([calm, busy]) == pytest.approx(0.3 * 10 / 40)
