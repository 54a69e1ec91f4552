"""Sentences, a price and verdicts of a made study, recomputed from its raw rows alone."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import made_study
from dlas.analyze import analyze
from dlas.cli.app import main
from dlas.tables import cells_frame, controls_frame, intake
from dlas.tables.read import read

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = ("raw", "sentences", "price_by_hand", "remeasure", "verdicts")
CLAIMS = BENCHMARKS.parent / "studies" / "claims" / "dlas-2024.yaml"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose rounds drifted, and what the analysis found in it."""
    made = made_study.rows(made_study.combinations(), rounds=5, noise=0.01)
    place = tmp_path_factory.mktemp("drifted") / "made"
    folder = made_study.fill(place, made_study.drifting(made))
    found = analyze(intake.of_folders([folder], intake.Asked("quiet_ms")))
    assert any("drift" in note for note in found.estimates.notes)
    (folder / "findings.json").write_text(found.to_json())
    return folder


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in PROGRAMS}
    sys.path.remove(str(BENCHMARKS))
    for name in PROGRAMS:
        del sys.modules[name]


@pytest.fixture
def run(
    programs: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, str]]:
    """Run a program and return its status and what it printed."""

    def ran(name: str, *args: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        return programs[name].main(), capsys.readouterr().out

    return ran


def test_twenty_sentences_are_what_the_raw_rows_say(study, run) -> None:
    status, told = run("sentences", study)
    assert status == 0, told
    assert "20 sentences, 0 numbers differ." in told
    assert told.count("On reading it one would") == 20


def test_a_sentence_that_is_wrong_is_found(study, run, tmp_path) -> None:
    found = json.loads((study / "findings.json").read_text())
    one = next(f for f in found["findings"] if f["kind"] == "speed-up")
    one["ratio"] *= 1.01
    (tmp_path / "findings.json").write_text(json.dumps(found))
    status, told = run("sentences", study, "--findings", tmp_path / "findings.json")
    assert status == 1 and "1 numbers differ." in told


def test_the_price_of_a_model_is_what_one_comes_to_by_hand(study, run) -> None:
    status, told = run("price_by_hand", study, "--model", "resnet-8")
    assert status == 0, told
    assert "0 differ." in told and told.count("told") >= 8


def test_what_is_said_to_repeat_is_what_the_tables_show(study, programs) -> None:
    results = read([study])[0]
    frame = cells_frame([results]).set_index("cell")
    pairs = controls_frame([results]).set_index("cell")
    for metric in ("quiet_ms", "latency_ms"):
        found = programs["remeasure"].values(results, metric)
        own = found.xs(0, level="control")
        assert own.to_dict() == pytest.approx(frame.loc[own.index, metric].to_dict(), rel=1e-9)
        assert len(own) == frame[metric].notna().sum() > 100
    apart = programs["remeasure"].controls([results], "quiet_ms")
    assert np.exp(apart).to_dict() == pytest.approx(pairs["ratio"].to_dict(), rel=1e-9)


def test_each_half_of_the_rounds_is_fitted_as_if_alone(study, programs) -> None:
    results = read([study])[0]
    even = replace(results, rounds=[r for r in results.rounds if r.round % 2 == 0], remembered={})
    told = programs["remeasure"].halves(results, "quiet_ms")
    shown = cells_frame([even]).set_index("cell")["quiet_ms"]
    odd = shown.loc[told.index] * np.exp(told)
    whole = cells_frame([results]).set_index("cell")["quiet_ms"].loc[told.index]
    assert len(told) > 100 and (np.abs(np.log(odd / whole)) < 0.1).all()
    assert (told != 0).any()


# ---------------------------------------------------------------- verdicts


@pytest.fixture(scope="module")
def verdicts(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `dlas check` says of the study; its TVM compiles no eight bits and no CSR."""
    out = tmp_path_factory.mktemp("verdicts") / "verdicts.json"
    assert main(["check", str(CLAIMS), str(study), "-o", str(out)]) == 0
    return out


def test_verdicts_are_what_one_comes_to_by_hand(study, verdicts, run) -> None:
    status, told = run("verdicts", study, verdicts)
    assert status == 0, told
    assert "4 claims recomputed by hand, 0 differences." in told
    assert "dlas: reproduced; by hand: reproduced" in told
    assert told.count("dlas: cannot tell; by hand: cannot tell") >= 2


def test_a_verdict_that_is_wrong_is_found(study, verdicts, run, tmp_path) -> None:
    found = json.loads(verdicts.read_text())
    (one,) = (c for c in found["claims"] if c["id"] == "H5")
    assert one["verdict"] == "reproduced"
    one["verdict"] = "not reproduced"
    for name in ("low", "high"):
        one["tests"][0]["contexts"][0][name] *= 1.5
    (tmp_path / "verdicts.json").write_text(json.dumps(found))
    status, told = run("verdicts", study, tmp_path / "verdicts.json")
    assert status == 1 and "2 differences." in told
