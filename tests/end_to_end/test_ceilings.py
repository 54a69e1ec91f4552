"""What the machine can do at most is read in the study: before the rounds and after them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from dlas.tables import ceilings_frame, cells_frame
from place import Place

MEASURE = {
    "ceilings": True,
    "memory": False,
    "accuracy_samples": 20,
    "min_controls": 0,
    "rounds": 1,
}


@pytest.fixture(scope="module")
def done(shared: Place) -> Place:
    study = shared.study(layers={"optimization": ["none"]}, measure=MEASURE)
    ended = shared.dlas("run", study, "--out", "ceilings")
    assert ended.returncode == 0, ended.stderr
    return shared


@pytest.fixture(scope="module")
def read(done: Place) -> pd.DataFrame:
    return ceilings_frame(done.root / "ceilings")


def test_each_ceiling_is_read_at_the_start_and_at_the_end(read: pd.DataFrame) -> None:
    counts = read.groupby(["kind", "threads", "moment"]).size().to_dict()
    for threads in (1, 2):
        for moment in ("start", "end"):
            assert counts["arithmetic", threads, moment] == 1
            assert counts["memory", threads, moment] == 1
            assert counts["overhead", threads, moment] == 2  # one for each software
    # a last cache of hundreds of MB on a small machine leaves no room for arrays that exceed it
    room = ~read["reason"].str.contains("larger than the last cache")
    assert (read.loc[~room, "kind"] == "memory").all()
    assert read.loc[room, "value"].notna().all(), read["reason"].tolist()
    assert (read.loc[room, "value"] > 0).all()
    assert read.loc[room, "method"].ne("").all()


def test_the_overhead_is_a_part_of_what_any_network_takes(done: Place, read: pd.DataFrame) -> None:
    cells = cells_frame(done.root / "ceilings").set_index(["software", "hardware.threads"])
    overhead = read[read["kind"] == "overhead"].groupby(["software", "threads"])["value"].min()
    for place, ms in overhead.items():
        assert 0 < ms < cells.loc[place, "latency_ms"]


def test_no_cell_does_more_than_the_machine_can(done: Place, read: pd.DataFrame) -> None:
    most = read[read["kind"] == "arithmetic"].groupby("threads")["value"].max()
    for cell in cells_frame(done.root / "ceilings").to_dict("records"):
        reached = 2 * cell["macs"] / (cell["latency_ms"] * 1e6)
        assert 0 < reached < most[cell["hardware.threads"]]


def test_a_run_that_measures_nothing_reads_nothing(done: Place, read: pd.DataFrame) -> None:
    study = done.study(layers={"optimization": ["none"]}, measure=MEASURE)
    assert done.dlas("run", study, "--out", "ceilings").returncode == 0
    assert len(ceilings_frame(done.root / "ceilings")) == len(read)


def test_the_analysis_says_what_capped_each_cell(done: Place) -> None:
    from dlas.analyze import analyze
    from dlas.tables.intake import Asked, of_folders

    found = analyze(of_folders([done.root / "ceilings"], Asked("quiet_ms")))
    assert len(found.roofline) == 4
    assert (found.roofline["arithmetic_ms"] > 0).all()
    assert all(math.isfinite(v) for v in found.roofline["overhead_ms"])
    assert any(f.kind == "roofline" for f in found.findings)
