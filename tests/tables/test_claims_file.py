"""Claims files: right ones, and each kind of wrong one, all problems at once with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlas.analyze.claims.hypothesis import CONTEXT
from dlas.cli.app import main
from dlas.tables.claims_file import read_claims

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "data" / "wrong-claims"
OWN = sorted((ROOT / "studies" / "claims").glob("*.yaml"))

# File: what each problem begins with after the file's name, and what else its line holds.
EXPECTED: dict[str, list[tuple[str, ...]]] = {
    "claims-of-text": [
        (":4: claims[0]: a claim is a mapping", 'got "int8 is faster"'),
        (":5: claims[1]: needs the key 'test'",),
        (":5: claims[1]: needs the key 'claim'",),
    ],
    "effect-of-no-size": [
        (":6: claims[0].effect_at_least: correlation, elbow has no size of effect",),
        (":11: claims[1].effect_at_least: breakeven has no size of effect",),
    ],
    "empty": [(": is empty; a claims file has at least `dlas-claims`",)],
    "empty-claims": [(":3: claims: must be a list of claims, at least one, got []",)],
    "missing-argument": [
        (":6: claims[0].test: ", "ratio(metric, a, b) lacks b"),
        (":9: claims[1].test: ", "flips(layer, by) lacks by"),
    ],
    "no-claims": [(":1: needs the key 'claims'",)],
    "no-comparison": [
        (":6: claims[0].test: ", "speedup must be compared with a number"),
        (":9: claims[1].test: ", "flips is yes or no"),
        (":12: claims[2].test: ", "breakeven is compared with a number by >=, <=, >, <, not by"),
    ],
    "no-version": [(":1: needs the key 'dlas-claims'", "`dlas-claims: 1`")],
    "not-a-mapping": [(":1: a claims file is a mapping of keys", 'got ["a", "b"]')],
    "not-utf8": [(": is not UTF-8 text",)],
    "not-yaml": [(":3: is not YAML",)],
    "numbers": [
        (":7: claims[0].contexts_at_least: must be a whole number, at least 3, got 2",),
        (":8: claims[0].effect_at_least: must be a number, at least 0, got -1",),
        (":9: claims[0].floor: must be a number, at least 0 and below 1, got 5", "5 % is 0.05"),
        (":13: claims[1].contexts_at_least: must be a whole number", 'got "many"'),
        (":14: claims[1].where[0]: must be text, got 5",),
        (":18: claims[2].effect_at_least: beside drop it is a share below 1", "points are 0.02"),
    ],
    "open-bracket": [
        (":6: claims[0].test: ", "the bracket after 'speedup' is never closed"),
        (":9: claims[1].test: ", "a test begins with a quantity", "ratio, speedup"),
    ],
    "out-of-range": [
        (":6: claims[0].test: ", "correlation is from -1 to 1, compared with 1.5"),
        (":9: claims[1].test: ", "drop is from -1 to 1, compared with 2: 2 % is 0.02"),
        (":12: claims[2].test: ", "ratio is above zero, compared with 0"),
    ],
    "python-in-a-test": [
        (":6: claims[0].test: ", "no quantity is called '__import__'"),
        (":9: claims[1].test: ", "nothing more expected, got '('"),
    ],
    "python-tag": [
        (":2: name: the tag tag:yaml.org,2002:python/object/apply:os.system",),
        (":2: name: must be text, got null",),
    ],
    "registered": [
        (":3: registered: must be a day, like 2026-11-27, got 'yesterday'",),
        (":4: study: must be the hash of a study", "got 'xyz'"),
    ],
    "rule-without-quotes": [
        (":6: claims[0].test: ", "speedup: a must be a rule that chooses cells", "got 'int8'"),
        (":9: claims[1].test: ", "not argument 'optimization'"),
        (":9: claims[1].test: ", "speedup(a, of) lacks a"),
    ],
    "same-id": [(":7: claims[1].id: 'a' is also the id of claims[0]",)],
    "several": [
        (":1: needs the key 'name'",),
        (":2: nam: unknown key. Did you mean 'name'",),
        (":3: registered: must be a day", "got '2026-13-01'"),
        (":7: claims[0].test: ", "no quantity is called 'winer'. Did you mean 'winner'"),
        (":8: claims[1]: needs the key 'id'",),
        (":9: claims[1].test: ", "in sme: must be in every, in some", "Did you mean 'some'"),
        (":10: claims[1].floor: must be a number, at least 0 and below 1, got 1", "1 % is 0.01"),
    ],
    "table": [
        (":4: table.layer: unknown key. Did you mean 'layers'", "Allowed: metric"),
        (":5: table.order.cudnn: must be one of numbers", "Did you mean 'versions'"),
        (":6: table.within: must be a number", "2 % is 0.02"),
        (":7: table.goals: goals.accuracy_drop: must be minimize",),
        (":8: table.baseline: must be a mapping of names, got 3",),
    ],
    "two-quantities": [
        (":6: claims[0].test: ", "winner is compared with 'text'", "got 'winner(model)'"),
        (":9: claims[1].test: ", "drop cannot be compared with ratio"),
    ],
    "unknown-argument": [
        (":6: claims[0].test: ", "speedup takes a, of, not argument 'off'. Did you mean 'of'"),
        (":9: claims[1].test: ", "flips: by is given twice"),
    ],
    "unknown-keys": [
        (":3: claim: unknown key. Did you mean 'claims'", "Allowed: dlas-claims, name"),
        (":8: claims[0].contexts_at_lest: unknown key. Did you mean 'contexts_at_least'",),
    ],
    "unknown-quantifier": [
        (":6: claims[0].test: ", "in evry: must be in every, in some", "Did you mean 'every'"),
        (":9: claims[1].test: ", "say in which it holds"),
        (":12: claims[2].test: ", "`context` is every column there is; name it alone"),
    ],
    "unknown-quantity": [
        (":6: claims[0].test: ", "'speed_up'. Did you mean 'speedup'", "Quantities: ratio"),
    ],
    "where": [
        (":7: claims[0].where: ", "'=' is not part of the language"),
        (":10: claims[1].test: ", "where is empty"),
    ],
    "winner-of-a-number": [
        (":6: claims[0].test: ", "winner is compared with 'text'", "got '3'"),
        (":9: claims[1].test: ", "winner is compared with a choice by ==, !=, in, not in"),
    ],
    "wrong-version": [(":1: dlas-claims: must be 1, got \"two\"",)],
}  # fmt: skip


def test_every_file_is_expected():
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.glob("*.yaml"))
    assert len(EXPECTED) >= 20


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_all_problems_are_told_with_their_place(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = FOLDER / f"{name}.yaml"
    assert main(["check", str(path), "out"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = said.err.splitlines()
    for line, (start, *parts) in zip(lines, EXPECTED[name], strict=False):
        assert line.startswith(str(path) + start), line
        for part in parts:
            assert part in line
    assert len(lines) == len(EXPECTED[name]), said.err
    assert list(tmp_path.iterdir()) == [], "something in the file was executed"


def test_a_wrong_file_stops_a_run_before_it_begins(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = FOLDER / "several.yaml"
    study = ROOT / "studies" / "algorithms.yaml"
    assert main(["run", str(study), "--out", "out", "--claims", str(path)]) == 2
    assert "winer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert main(["check", str(tmp_path / "no.yaml"), "out"]) == 2
    assert "there is no such claims file" in capsys.readouterr().err


@pytest.mark.parametrize("path", OWN, ids=lambda p: p.stem)
def test_ours_are_right(path):
    file = read_claims(path)
    assert file.name == path.stem
    assert len({claim.id for claim in file.claims}) == len(file.claims) > 3
    assert all(claim.source for claim in file.claims)


def test_what_is_not_the_papers_says_so():
    """Hypotheses beside what a paper says are never attributed to it."""
    for claim in read_claims(ROOT / "studies" / "claims" / "dlas-2024.yaml").claims:
        of_paper = claim.id.startswith("O-")
        assert ("not the DLAS paper" in claim.source) is not of_paper, claim.id


def test_everything_that_a_file_may_say(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(
        "dlas-claims: 1\nname: all\ndescription: d\nregistered: 2026-11-27\nstudy: 12345678\n"
        "table: {layers: [a, b], metric: ms, within: 0.01, baseline: {a: 1.10}, repeats: true,\n"
        "  order: {a: versions}, goals: {minimize: [ms]}, exact: macs}\n"
        "claims:\n"
        "- {id: 1, claim: c, where: [x > 1, 'y in [2]'],\n"
        "   test: [winner(a) != '1' in most b, 'flips(a, by=b) in some context'],\n"
        "   contexts_at_least: 5, effect_at_least: 0.1, floor: 0.2}\n"
    )
    file = read_claims(path)
    (claim,) = file.claims
    assert (file.registered, file.study, len(file.hash)) == ("2026-11-27", "12345678", 64)
    assert file.table["baseline"] == {"a": "1.10"}, "as it was written"
    assert file.table["exact"] == ("macs",)
    assert (claim.id, claim.least_contexts, claim.least_effect, claim.floor) == ("1", 5, 0.1, 0.2)
    assert [t.how for t in claim.tests] == ["most", "some"]
    assert claim.tests[0].negated and claim.tests[0].sign == "=="
    assert claim.tests[1].contexts == (CONTEXT,)
    assert [r.text for r in claim.where] == ["x > 1", "y in [2]"]
