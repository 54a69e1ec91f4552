"""Verdicts on registered claims come first on the page, and say when they were written."""

from __future__ import annotations

import json
import re
import shutil
from itertools import product
from pathlib import Path

import pytest

import made_study
from dlas import report
from dlas.cli.app import main
from dlas.report.claimed import with_verdicts
from dlas.store.address import FILE_NAME
from dlas.store.registered import register, registrations, take_over
from dlas.tables import fitted as fitted_module
from dlas.tables import read as read_module

CLAIMS = """\
dlas-claims: 1
name: made <claims>
claims:
  - {id: a, claim: "Eight bits turn with the runtime & more.", source: a guess,
     test: "flips(optimization, by=software) in every context"}
  - {id: b, claim: Channel pruning is slower., test: "speedup(optimization == 'channel-pruning(epochs=1,ratio=0.5)', of=optimization == 'none') < 1 in every context"}
  - {id: c, claim: Nobody knows., test: "speedup(software == 'onnx', of=software == 'tvm') > 1 in every context"}
"""  # noqa: E501
COLUMNS = ("none", "channel-pruning", "int8"), ("onnxruntime", "pytorch"), (1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    chosen = [(m, o, s, t, "native") for m, o, s, t in product(made_study.MODELS, *COLUMNS)]
    return made_study.fill(tmp_path_factory.mktemp("made"), made_study.rows(chosen, rounds=5))


@pytest.fixture
def claims(tmp_path) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS)
    return path


def test_the_page_stays_as_it_is_without_claims(folder):
    assert with_verdicts("<body><main></main>", [folder]) == "<body><main></main>"


def test_verdicts_come_before_all_else(folder, tmp_path):
    register(folder, "made <claims>", CLAIMS, "f" * 64, 0)
    try:
        page = report.write([folder], tmp_path / "page.html").read_text()
    finally:
        for one in registrations(folder):
            assert one.path is not None
            one.path.unlink()
        (folder / "claims" / "registered.jsonl").unlink()
    start = page.index('<section id="claims"')
    assert start < page.index("<main")
    told = page[start : page.index("</section>", start)]
    assert "made &lt;claims&gt;" in told and "turn with the runtime &amp; more" in told
    assert "before anything was measured" in told and "WRITTEN AFTERWARDS" not in told
    assert "\u2713 Reproduced: 1." in told
    assert "\u2717 Not reproduced: 1." in told
    assert "? Cannot tell: 1." in told
    assert (
        told.index("Reproduced: 1")
        < told.index("Not reproduced: 1")
        < told.index("Cannot tell: 1")
    )
    assert '<td data-head="found in">6 yes</td>' in told
    assert "36 stacks were measured. A stack is one choice of each of: dataset, model" in told
    assert re.search(r": \S+ takes \S+ times as long \(\S+ to \S+\) as \S+ at ", told)
    assert re.search(r"<br>decided by \S.* against \S.*</details>", told)


def test_what_was_written_afterwards_is_marked(folder):
    register(folder, "late", CLAIMS.replace("made <claims>", "late"), "f" * 64, 36)
    try:
        told = with_verdicts("<main>", [folder])
    finally:
        for one in registrations(folder):
            assert one.path is not None
            one.path.unlink()
        (folder / "claims" / "registered.jsonl").unlink()
    assert "<strong>WRITTEN AFTERWARDS" in told and "when 36 rounds had been measured" in told


def test_each_source_of_a_merged_folder_is_told(folder, tmp_path):
    """Also facts without a round make it afterwards."""
    before = register(tmp_path / "a", "made", CLAIMS, "f" * 64, 0)
    after = register(tmp_path / "b", "made", CLAIMS, "f" * 64, 0, 4)
    for one, source in ((before, "a"), (after, "b")):
        take_over(folder, one, source)
    try:
        told = with_verdicts("<main>", [folder])
    finally:
        shutil.rmtree(folder / "claims")
    assert told.count("<h3>made</h3>") == 1
    assert "<li>of a: registered on " in told
    assert "<li><strong>of b: WRITTEN AFTERWARDS" in told and "but 4 results on accuracy" in told


def test_folders_are_read_and_fitted_once_for_all_files(folder, tmp_path, monkeypatch):
    """However many claims are registered, the page's own numbers are what they are judged by."""
    read, fitted = [], []
    monkeypatch.setattr("dlas.report.payload.next_experiment", lambda *given: None)
    reader, fitter = read_module._read, fitted_module._fit
    monkeypatch.setattr(read_module, "_read", lambda *given: read.append(given) or reader(*given))
    monkeypatch.setattr(
        fitted_module, "_fit", lambda *given: fitted.append(given) or fitter(*given)
    )
    report.write([folder], tmp_path / "page.html")
    without = len(read), len(fitted)
    for name in ("one", "two", "three"):
        register(folder, name, CLAIMS.replace("made <claims>", name), "f" * 64, 0)
    try:
        page = report.write([folder], tmp_path / "page.html").read_text()
    finally:
        shutil.rmtree(folder / "claims")
    assert page.count("turn with the runtime &amp; more") >= 3
    assert (len(read), len(fitted)) == (2 * without[0], 2 * without[1])


def test_the_file_of_rows_stands_for_its_folder(folder):
    register(folder, "made", CLAIMS, "f" * 64, 0)
    try:
        told = with_verdicts("<main>", [folder / FILE_NAME])
    finally:
        shutil.rmtree(folder / "claims")
    assert "\u2713 Reproduced: 1." in told


def test_check_says_the_same_of_folders(folder, claims, capsys, tmp_path):
    out = tmp_path / "verdicts.json"
    assert main(["check", str(claims), str(folder), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "WRITTEN AFTERWARDS as far as this folder tells" in said
    verdicts = {c["id"]: c["verdict"] for c in json.loads(out.read_text())["claims"]}
    assert verdicts == {"a": "reproduced", "b": "not reproduced", "c": "cannot tell"}
    assert "software has onnxruntime, pytorch" in said
    assert "This page" not in said


def test_check_needs_one_kind_of_results(claims, capsys):
    assert main(["check", str(claims)]) == 2
    assert "give output folders or --table" in capsys.readouterr().err


def test_a_page_of_verdicts_says_where_and_how_it_was_measured(folder, claims, tmp_path):
    """What stands in docs/case-study-small.md is such a page: no number in it is typed."""
    page = tmp_path / "page.md"
    assert main(["check", str(claims), str(folder), "-o", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# What became of 3 claims: made <claims>\n")
    assert "**1 reproduced, 1 not reproduced, 1 cannot tell.**" in text
    measured = [line for line in text.splitlines() if line.startswith("- Measured on ")]
    rounds = next(r for r in read_module.read([folder])).rounds
    assert len(measured) == 1 and f", {len(rounds)} rounds, by dlas " in measured[0]
    assert f"- This page: `dlas check {claims} {folder}`." in text
    by_head = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [part.partition("\n")[0] for part in by_head[1:]] == [
        "\u2713 Reproduced: 1", "\u2717 Not reproduced: 1", "? Cannot tell: 1",
        "Where each claim is from, and what would change its verdict", "How it was measured",
    ]  # fmt: skip
    assert "| a | Eight bits turn with the runtime & more. | every case | 6 yes |" in by_head[1]
