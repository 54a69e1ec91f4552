"""What claims are judged from, and when they were written, of folders, bundles and any tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import made_study
from dlas.analyze.claims import judge
from dlas.cli.app import main
from dlas.core.errors import UserError
from dlas.run.send import pack
from dlas.store.address import FILE_NAME, POINTER, point
from dlas.store.registered import register, registrations
from dlas.store.results import ResultStore
from dlas.study.study import Study
from dlas.tables import for_claims
from dlas.tables.claims_file import read_claims
from dlas.tables.for_claims import Instructions, of_files, of_folders, register_claims, when

ROOT = Path(__file__).parents[2]
CLAIMS = """\
dlas-claims: 1
name: made
claims:
  - {id: a, claim: c, test: "TEST"}
"""
FASTER = "speedup(opt == 'fast', of=opt == 'none') > 1 in every model"
URL = "postgresql://lab@db.example/study"


@pytest.fixture
def claims(tmp_path):
    def make(test: str = FASTER, more: str = ""):
        path = tmp_path / "claims.yaml"
        path.write_text(CLAIMS.replace("TEST", test) + more)
        return read_claims(path)

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    chosen = [("resnet-8", "none", s, 1, "native") for s in ("pytorch", "onnxruntime")]
    return made_study.fill(tmp_path_factory.mktemp("made"), made_study.rows(chosen, rounds=3))


def table(tmp_path: Path, rounds: int = 4, **columns) -> Path:
    """Write a table with rounds; further columns are functions of the optimization."""
    rng = np.random.default_rng(0)
    rows = [
        {"model": m, "opt": o, "r": r, "ms": s * rng.lognormal(0, 0.01)}
        | {name: how(o) for name, how in columns.items()}
        for m in "abcd"
        for o, s in {"none": 1.0, "fast": 0.5}.items()
        for r in range(rounds)
    ]
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


READ = Instructions(layers="model,opt", metric="ms", rounds="r", baseline=("opt=none",))


# ---------------------------------------------------------------- columns beside the metric


def test_accuracy_of_a_table_with_rounds_errs_as_its_images_do(claims, tmp_path):
    """It is the same in every round, since the images are: that makes it no exact number."""
    lost = {"none": 0.0, "fast": 0.02}
    path = table(
        tmp_path,
        accuracy=lambda o: 0.9 - lost[o],
        accuracy_drop=lost.__getitem__,
        accuracy_n=lambda _: 100,
        flips=lambda o: round(100 * lost[o]),
    )
    tests = (
        "ratio(accuracy, opt == 'fast', opt == 'none') < 1 in every model",
        "drop(opt == 'fast') > 0.01 in every model",
    )
    for test in tests:
        file = claims(test)
        (one,) = judge(of_files([path], file, READ), file)
        assert one.verdict == "cannot tell", test
        assert "4 neither" in one.reason, "it was judged, and open by its noise"
    file = claims("drop(opt == 'fast') < 0.2 in every model")
    (one,) = judge(of_files([path], file, READ), file)
    assert one.verdict == "reproduced"


def test_why_the_rounds_of_a_column_are_of_no_use(claims, tmp_path):
    path = table(tmp_path, watts=lambda o: "low" if o == "fast" else "high")
    file = claims("ratio(watts, opt == 'fast', opt == 'none') < 1 in every model")
    (one,) = judge(of_files([path], file, READ), file)
    assert one.verdict == "cannot tell"
    assert "the rounds of watts cannot be used: " in one.reason
    with pytest.raises(UserError) as told:
        of_files([path], claims(), Instructions("model,opt", "watts", rounds="r"))
    assert told.value.problems[0] in one.reason


def test_a_column_with_rounds_of_its_own_is_judged(claims, tmp_path):
    rng = np.random.default_rng(1)
    drawn = {"none": 5.0, "fast": 3.0}
    path = table(tmp_path, drawn=lambda o: drawn[o] * rng.lognormal(0, 0.01))
    # Whether more of it is better nobody said, and no ratio asks for that.
    file = claims("ratio(drawn, opt == 'fast', opt == 'none') < 0.8 in every model")
    assert judge(of_files([path], file, READ), file)[0].verdict == "reproduced"


def test_what_is_said_of_noise_is_not_dropped_silently(claims, tmp_path, made, capsys):
    path = table(tmp_path)
    asked = Instructions("model,opt", "ms", rounds="r", baseline=("opt=none",), within=0.02)
    notes = of_files([path], claims(), asked).table.notes
    assert any("within 0.02 of itself, as was said, is not used" in n for n in notes)
    with pytest.raises(UserError, match=r"--within 0.02: is for tables"):
        of_folders([made], claims(), Instructions(within=0.02))
    code = main(["check", str(tmp_path / "claims.yaml"), str(made), "--within", "0.02"])
    assert code == 2
    assert "--within 0.02: is for tables" in capsys.readouterr().err


# ---------------------------------------------------------------- before or after


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.load(ROOT / "studies" / "algorithms.yaml")


@pytest.fixture
def database(tmp_path, monkeypatch) -> Path:
    """A file that stands for the database at ``URL``; rows may be put into it."""
    file = tmp_path / "database.sqlite"

    def opened(place, *, read_only):
        return ResultStore(file if place == URL else place, read_only=read_only)

    monkeypatch.setattr(for_claims, "ResultStore", opened)
    return file


def fill(file: Path) -> int:
    chosen = [("resnet-8", "none", "pytorch", 1, "native")]
    rows = list(made_study.rows(chosen, rounds=3))
    with ResultStore(file) as store:
        store.put(*rows)
        return len(store.rows(for_claims.RoundRow))


def test_rounds_in_a_database_are_counted(claims, study, database, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    point(out, URL)
    count = fill(database)
    (told,) = register_claims(study, out, [claims()])
    assert "WRITTEN AFTERWARDS" in told and f"when {count} rounds had been measured" in told
    assert [r.rounds for r in registrations(out)] == [count]


def test_facts_without_a_round_are_known_already(claims, study, tmp_path):
    """A run that was stopped while it waited for the machine has evaluated: accuracy is known."""
    out = tmp_path / "out"
    out.mkdir()
    rows = made_study.rows([("resnet-8", "none", "pytorch", 1, "native")], rounds=1)
    with ResultStore(out / FILE_NAME) as store:
        store.put(*(r for r in rows if not isinstance(r, for_claims.RoundRow)))
        facts = len(store.rows(for_claims.FactRow))
    assert facts > 0
    file = claims()
    (told,) = register_claims(study, out, [file])
    assert "WRITTEN AFTERWARDS" in told
    assert f"no round had been measured, but {facts} results on accuracy, memory" in told
    assert when(file, [out], study.hash) == (f"{out}: {told.partition(': ')[2]}",)


def test_the_same_tests_in_other_words_are_told(claims, study, tmp_path):
    early = claims(more="  - {id: b, claim: d, test: \"winner(opt) == 'fast' in every model\"}\n")
    out = tmp_path / "out"
    register(out, early.name, early.text, study.hash, 0)
    path = tmp_path / "claims.yaml"
    path.write_text(
        early.text.replace("claim: c", "claim: e").replace("winner(opt) ==", "winner(opt) !=")
    )
    (told,) = when(read_claims(path), [out], "")
    assert "WRITTEN AFTERWARDS as far as this folder tells" in told
    assert "the tests of 1 of the 2 claims stand in it as they are; not those of b." in told
    assert "in other words, was registered on " in told
    path.write_text(early.text.replace("name: made", "name: other"))
    assert "in other words" not in when(read_claims(path), [out], "")[0]


def test_rounds_in_the_database_that_a_new_folder_is_to_use_are_counted(
    claims, study, database, tmp_path
):
    count = fill(database)
    (told,) = register_claims(study, tmp_path / "new", [claims()], URL)
    assert f"when {count} rounds had been measured" in told
    assert not (tmp_path / "new" / POINTER).exists(), "the run says where the rows are"


def test_an_empty_database_holds_no_rounds(claims, study, database, tmp_path):
    (told,) = register_claims(study, tmp_path / "new", [claims()], URL)
    assert "before anything was measured" in told


def test_the_rows_of_a_folder_are_where_they_were(claims, study, database, tmp_path):
    """Whatever database is named beside: the run refuses it."""
    out = tmp_path / "out"
    out.mkdir()
    count = fill(out / FILE_NAME)
    (told,) = register_claims(study, out, [claims()], URL)
    assert f"when {count} rounds had been measured" in told
    with pytest.raises(UserError, match="must be postgresql://"):
        register_claims(study, tmp_path / "new", [claims()], "mysql://x/y")


def test_a_bundle_holds_no_registrations(claims, made, tmp_path):
    file = claims()
    packed, _ = pack(made, tmp_path / "made.dlas.zip")
    (told,) = when(file, [packed], "")
    assert "a bundle holds no registrations" in told and "WRITTEN AFTERWARDS" not in told


def test_the_file_of_rows_stands_for_its_folder(claims, study, tmp_path):
    file = claims()
    out = made_study.fill(tmp_path / "out", [], goals=False)
    register(out, file.name, file.text, study.hash, 0)
    (told,) = when(file, [out / FILE_NAME], study.hash)
    assert "before anything was measured" in told


def test_the_study_of_a_file_of_rows_is_that_of_its_folder(claims, study, made, tmp_path):
    evidence = of_folders([made], claims(), Instructions())
    assert evidence.study == "", "made by hand: nothing can be run of it"
    (made / "study.yaml").rename(tmp_path / "kept.yaml")
    try:
        (made / "study.yaml").write_text(study.copy())
        for place in (made, made / FILE_NAME):
            assert of_folders([place], claims(), Instructions()).study == study.hash
    finally:
        (tmp_path / "kept.yaml").replace(made / "study.yaml")


def test_of_which_study_the_results_are_may_not_be_known(claims, made, study):
    file = claims(more="study: 3fa2c81b90de\n")
    assert any("which study ran here cannot be told" in each for each in when(file, [made], ""))
    other = when(file, [made], study.hash)
    assert any("other stacks, settings or goals" in each for each in other)
    assert len(when(claims(), [made], "")) == 1
