"""Tables for the analysis from output folders: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import made_study
from dlas.core.errors import UserError
from dlas.tables import cells_frame
from dlas.tables.intake import Asked, ceilings, of_folders
from dlas.tables.read import read

ASKED = Asked("latency_ms")


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


def test_a_study_without_readings_has_no_ceilings(tmp_path: Path) -> None:
    chosen = [(next(iter(made_study.MODELS)), "none", "tvm", 1, "native")]
    rows = [r for r in made_study.rows(chosen) if type(r).__name__ != "CeilingRow"]
    folder = made_study.fill(tmp_path, rows)
    assert ceilings(read(folder), cells_frame(folder)) is None
    assert of_folders([folder], ASKED).ceilings is None
