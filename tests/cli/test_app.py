import errno
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

import dlas
from dlas.cli import app, catalog
from dlas.core.errors import StepError, StorageError, UserError
from dlas.core.records import Status
from dlas.core.stack import LAYERS, Choice, Stack
from dlas.store.results import CellRow, FactRow, HostRow, ResultStore, RoundRow, SessionRow
from fake_layers import fakes  # noqa: F401

ROOT = Path(__file__).parents[2]
COMMANDS = ("plan", "run", "table", "show", "report", "catalog", "doctor", "clean", "train",
            "analyze", "check", "compare", "export", "advise", "init", "optimize", "merge",
            "pack")  # fmt: skip


@pytest.fixture
def said(capsys):
    """Run a command line; return its exit code, standard output and standard error."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        code = app.main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def study_file(tmp_path):
    data = {
        "dlas": 1,
        "name": "small",
        "layers": {
            "dataset": ["pictures"],
            "model": ["small", "large-net"],
            "optimization": ["none", "int8"],
            "software": ["eager"],
            "hardware": [{"cpu": {"threads": [1, 2]}}],
        },
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def stack(model: str, threads: int) -> Stack:
    layers = {layer: (Choice("x"),) for layer in LAYERS}
    layers["model"] = (Choice(model),)
    layers["hardware"] = (Choice("cpu", {"threads": threads}, ("threads",)),)
    return Stack(**layers)


REASON = "the long reason of a failure, " * 20
MS = {"small": 2.0, "large": 5.0}


@pytest.fixture
def results(tmp_path) -> Path:
    """An output folder: two models, one and two threads, three rounds; one cell has failed."""
    folder = tmp_path / "out"
    rows = [
        HostRow("h0", {"cpu": "a CPU"}),
        SessionRow("s0", "small", "h0", "2026-01-01T00:00:00", "2026-01-01T01:00:00"),
    ]
    for position, (model, threads) in enumerate((m, t) for m in MS for t in (1, 2)):
        made = stack(model, threads)
        broken = (model, threads) == ("large", 2)
        texts = {layer: made.text(layer) for layer in LAYERS}
        rows.append(
            CellRow(
                "small", made.cell, position, made.to_json(), **texts,
                status=Status.FAILED if broken else Status.COMPLETE,
                stage="measure" if broken else "", reason=REASON if broken else "",
                log="the last words" if broken else "",
            )
        )  # fmt: skip
        rows.append(FactRow(made.cell, "h0", "build", "k" * 64, "c" * 64, Status.COMPLETE,
                            value={"artifact_mb": 1.5}))  # fmt: skip
        for number in range(3 * (not broken)):
            seconds = MS[model] / threads / 1000 * (1 + number / 1000)
            value = {
                "warmup_runs": 10,
                "warmup_s": 0.1,
                "steady": True,
                "import_s": 0.5,
                "load_s": 0.1,
                "first_inference_s": 0.01,
                "launch": "fork",
                "child_s": 0.3,
            }
            rows.append(
                RoundRow(made.cell, "h0", 0, number, "k" * 64, "c" * 64, Status.COMPLETE,
                         value=value, samples=(seconds,) * 20, session="s0",
                         created_at=f"2026-01-01T00:0{number}:00", overhead_s=0.1)
            )  # fmt: skip
    with ResultStore(folder / "results.sqlite") as store:
        store.put(*rows)
    (folder / "study.yaml").write_text("dlas: 1\nname: small\ngoals: {minimize: [latency_ms]}\n")
    return folder


# ---------------------------------------------------------------- help, version, exit codes


def test_version(said):
    assert said("--version") == (0, f"dlas {dlas.__version__}\n", "")


def test_help_names_every_command(said):
    code, out, _ = said("--help")
    assert code == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", out)


def test_no_command_is_listed_without_an_example_in_its_help(said):
    listed = [c.name or c.callback.__name__ for c in app.app.registered_commands]
    assert set(COMMANDS) <= set(listed)
    for command in listed:
        code, out, _ = said(command, "--help")
        assert code == 0
        assert f"dlas {command}" in out.partition("Options")[0].partition("Usage:")[2][20:]


@pytest.mark.parametrize(
    "arguments",
    [("plann",), ("plan",), ("run", "x.yaml"), ("plan", "a.yaml", "--formt", "json")],
)
def test_wrong_command_lines_exit_with_2(said, arguments):
    code, _, err = said(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_a_study_that_is_not_there(said):
    code, out, err = said("plan", "absent.yaml")
    assert (code, out) == (2, "")
    assert err == "absent.yaml: there is no such study file\n"


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        (UserError(["first", "second"]), 2, ["first\nsecond"]),
        (StorageError("the disk is full"), 2, ["the disk is full"]),
        (StepError("training diverged"), 2, ["training diverged"]),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 2, ["x: No space left"]),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, ["dlas has a bug: OSError"]),
        (RuntimeError("oops"), 1, ["dlas has a bug: RuntimeError: oops (", "--debug"]),
        (KeyboardInterrupt(), 130, ["stopped", "the same command goes on"]),
    ],
)
def test_errors_become_exit_codes(said, study_file, tmp_path, monkeypatch, error, code, parts):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("dlas.run.run.run", fail)
    got, out, err = said("run", study_file, "--out", tmp_path / "out")
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    got, _, err = said("run", study_file, "--out", tmp_path / "out", "--debug")
    assert got == code
    assert ("Traceback" in err) == (code != 130)


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m dlas.cli catalog | head -n 1",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("dataset")
    assert done.stderr == ""


def closed(words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        f"{sys.executable} -m dlas.cli {words} {redirection}",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_closed_output_is_one_sentence_and_no_bug():
    done = closed("catalog", ">&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("standard output is closed") and done.stderr.count("\n") == 1
    done = closed("catalog", "2>&-")
    assert done.returncode == 0 and done.stdout.startswith("dataset")


def test_a_reader_who_leaves_while_much_is_printed_is_no_error():
    code = (
        "from dlas.cli.app import app, main\n"
        "app.command('much')(lambda: [print('x' * 999) for _ in range(999)])\n"
        "raise SystemExit(main(['much']))"
    )
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -n 1; exit ${{PIPESTATUS[0]}}',
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_unicode_gets_an_answer(results):
    with ResultStore(results / "results.sqlite") as store:
        [row, *_] = store.rows(CellRow)
        store.put(replace(row, model="caf\u00e9"))
    for words in (f"table {results}", f"analyze {results}"):
        done = subprocess.run(
            [sys.executable, "-m", "dlas.cli", *words.split()], capture_output=True, check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii() and done.stdout


def test_findings_are_printed_where_they_cannot_be_kept(said, results, monkeypatch):
    from dlas.core.errors import StorageError
    from dlas.tables import intake

    def refuse(text, path):
        raise StorageError(f"{path} cannot be written: Read-only file system")

    monkeypatch.setattr(intake, "save", refuse)
    code, out, err = said("analyze", results)
    assert code == 0 and "cells complete" in out
    assert err.startswith("not kept: ") and "Read-only" in err
    code, out, err = said("analyze", results, "-o", results / "x.json")
    assert code == 2 and "cells complete" in out


def test_compare_names_what_differs_before_any_ratio(said, results, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(results, other)
    with ResultStore(other / "results.sqlite") as store:
        [session] = store.rows(SessionRow)
        store.put(replace(session, settings={"rounds": 9}, versions={"torch": "2"}))
    with ResultStore(results / "results.sqlite") as store:
        store.put(replace(session, settings={"rounds": 3}, versions={"torch": "1"}))
    code, out, _ = said("compare", results, other)
    assert code == 0
    first, second, *_ = out.splitlines()
    assert first == "differs: torch: 1 against 2"
    assert second == "differs: measure.rounds: 3 against 9"
    _, out, _ = said("compare", results, results, "--format", "json")
    assert json.loads(out)["differs"] == []


def test_planning_says_what_was_read(said, tmp_path):
    for place in ("Train/a", "Train/b", "Test/a", "Test/b", "__MACOSX/a"):
        (tmp_path / "photos" / place).mkdir(parents=True)
        Image.new("L", (9, 9), len(place)).save(tmp_path / "photos" / place / "0.png")
    (tmp_path / "s.yaml").write_text(
        "dlas: 1\nname: s\nlayers:\n  dataset: [image-folder: {root: photos, size: [8, 16]}]\n"
        "  model: [resnet-8]\n  software: [pytorch]\n"
    )
    code, out, _ = said("plan", tmp_path / "s.yaml")
    assert code == 0
    first, *told = out.splitlines()
    assert first.startswith("study s, hash ")
    assert told[:6] == [
        "data  image-folder(root=photos,size=8)",
        "      image-folder(root=photos,size=16)",
        "  classes  2: a, b",
        "  train    2 images from Train/, 1 a class",
        "  test     2 images from Test/, 1 a class",
        "  skipped  1 left by macOS (__MACOSX, ._*, .DS_Store)",
    ]
    _, out, _ = said("plan", tmp_path / "s.yaml", "--format", "json")
    assert json.loads(out)["data"][0]["train"] == {
        "images": 2, "where": "Train/", "least": 1, "most": 1,
    }  # fmt: skip


def test_planning_loads_nothing_heavy():
    code = (
        "import json, sys; from dlas.cli.app import main\n"
        "for words in (['--help'], ['catalog'], ['plan', 'studies/quickstart.yaml'],"
        " ['plan', 'studies/quickstart.yaml', '--format', 'json']):\n"
        "    assert main(words) == 0, words\n"
        "heavy = {'torch', 'tvm', 'pandas', 'onnx', 'onnxruntime', 'openvino', 'scipy', 'timm'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


# ---------------------------------------------------------------- plan and run


@pytest.mark.usefixtures("fakes")
def test_plan(said, study_file):
    code, out, err = said("plan", study_file, "--format", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["cells"] == 8
    assert found["steps_unshared"] > found["steps"]
    code, out, err = said("plan", study_file)
    assert (code, err) == (0, "")
    assert re.search(r"^cells +8$", out, re.MULTILINE)
    assert re.search(
        r"MB of disk \(a guess\); with --max-disk at least [\d.]+ MB \(a guess\)", out
    )
    assert "the size of 2 of 2 networks is not known" in out


@pytest.mark.usefixtures("fakes")
def test_plan_knows_two_formats(said, study_file):
    code, _, err = said("plan", study_file, "--format", "jsn")
    assert code == 2
    assert "must be one of text, json. Did you mean 'json'?" in err


@pytest.mark.usefixtures("fakes")
def test_run_hands_everything_on_and_prints_the_summary(said, study_file, tmp_path, monkeypatch):
    from dlas.run.company import nobody
    from dlas.run.run import Summary

    seen = {}

    def run(study, out, **options):
        seen.update(options, study=study.name, out=out)
        options["progress"].start(3, 5)
        options["progress"].note("a note")
        failures = (("build", "no compiler\nmore", 1),)
        cells = {"complete": 7, "failed": 1}
        return Summary("small", Path(out), cells, "s", failures, 14, 31_250_000)

    monkeypatch.setattr("dlas.run.run.run", run)
    code, out, err = said(
        "run", study_file, "--out", tmp_path / "o", "--store", tmp_path / "s", "--only", "3f",
        "--retry", "failed", "--remeasure", "--max-disk", "1.5GB",
        "--results", "postgresql://h/d",
    )  # fmt: skip
    assert code == 0
    assert out.splitlines() == [
        "small: 8 cells: 7 complete, 1 failed",
        "  failed in build (1 cells): no compiler",
        "evicted to keep to the disk budget: 14 artefacts, 31.25 MB",
        f"results: {tmp_path / 'o'}",
    ]
    assert "3 steps, about 5 measurements" in err
    assert "a note" in err
    assert seen.pop("progress")
    assert seen.pop("then") is None, "nothing is settled unasked"
    assert seen.pop("form") is nobody, "no other machine works unasked"
    assert seen == {"study": "small", "out": tmp_path / "o", "store": str(tmp_path / "s"),
                    "only": "3f", "retry": ("failed",), "remeasure": True,
                    "max_disk": 1_500_000_000, "results": "postgresql://h/d"}  # fmt: skip


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    "given, told",
    [
        (
            ("run", "--settle", "--metric", "latency"),
            "--metric 'latency': must be one of quiet_ms",
        ),
        (("run", "--metric", "latency_ms"), "--metric says what --settle goes by"),
        (("explore", "--metric", "quick_ms"), "--metric 'quick_ms': must be one of quiet_ms"),
    ],
)
def test_which_latency_is_a_choice_of_two(said, study_file, tmp_path, given, told):
    command, *rest = given
    code, out, err = said(command, study_file, "--out", tmp_path / "o", *rest)
    assert (code, out) == (2, "")
    assert err.startswith(told) and len(err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.usefixtures("fakes")
def test_a_disk_budget_without_a_unit_is_refused_before_anything_is_done(
    said, study_file, tmp_path
):
    code, out, err = said("run", study_file, "--out", tmp_path / "o", "--max-disk", "500")
    assert (code, out) == (2, "")
    assert err.startswith("--max-disk '500' has no unit: give a number above 0 and a unit")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.usefixtures("fakes")
def test_a_disk_budget_from_python_is_bytes(study_file, tmp_path):
    study = dlas.Study.load(study_file)
    with pytest.raises(UserError, match="max_disk '2G': give a whole number of bytes"):
        dlas.run(study, tmp_path / "o", max_disk="2G")
    assert not (tmp_path / "o").exists()


# ---------------------------------------------------------------- results


def test_table_as_text_is_one_unwrapped_line_a_row(said, results):
    code, out, err = said("table", results, "--sort", "latency_ms")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:2] == ["cell", "status"]
    assert [line.split()[1] for line in lines[1:]] == ["complete"] * 3 + ["failed"]
    assert "cpu(threads=2)" in lines[1]
    assert " ".join(REASON.split()) in lines[4]


def test_table_formats_hold_the_same(said, results, tmp_path):
    import pandas as pd

    _, text, _ = said("table", results, "--format", "csv")
    file = tmp_path / "t.csv"
    file.write_text(text)
    csv = pd.read_csv(file)
    _, text, _ = said("table", results, "--format", "json")
    rows = json.loads(text)
    code, out, _ = said("table", results, "--format", "parquet", "-o", tmp_path / "sub" / "t.parq")
    assert (code, out) == (0, "")
    parquet = pd.read_parquet(tmp_path / "sub" / "t.parq")
    assert list(csv.columns) == list(parquet.columns) == list(rows[0])
    assert list(csv["cell"]) == list(parquet["cell"]) == [row["cell"] for row in rows]
    assert rows[0]["latency_ms"] == pytest.approx(2.002)
    assert rows[3]["latency_ms"] is None
    assert csv["latency_ms"].isna().tolist() == [False, False, False, True]


def test_table_columns(said, results):
    code, out, _ = said("table", results, "--columns", "model, hardware.threads,latency_ms")
    assert code == 0
    assert out.splitlines()[0].split() == ["model", "hardware.threads", "latency_ms"]
    assert out.splitlines()[1].split() == ["small", "1", "2.002"]
    _, out, _ = said("table", results, "--columns", "all")
    assert len(out.splitlines()[0].split()) > 40
    code, _, err = said("table", results, "--columns", "modle", "--sort", "latency")
    assert code == 2
    assert "Did you mean 'model'" in err
    assert "Did you mean 'latency_ms'" in err


def test_table_of_rounds(said, results):
    _, out, _ = said("table", results, "--rounds", "--format", "json")
    assert len(json.loads(out)) == 9
    code, _, _ = said("table", results, "--controls")
    assert code == 0
    code, _, err = said("table", results, "--controls", "--rounds")
    assert (code, "ask for one" in err) == (2, True)


def test_a_table_is_printed_where_output_takes_text_alone(results, monkeypatch):
    """As in a notebook, whose standard output has no buffer."""
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    assert app.main(["table", str(results)]) == 0
    assert len(shown.getvalue().splitlines()) > 4


def test_table_of_nothing(said, tmp_path):
    code, out, err = said("table", tmp_path, tmp_path / "absent")
    assert (code, out) == (2, "")
    assert err.count("holds no results") == 2


def test_a_file_that_cannot_be_written(said, results, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = said("table", results, "-o", tmp_path / "file" / "t.csv", "--format", "csv")
    assert code == 2
    assert "cannot be written" in err


def test_show_gives_the_tables_numbers(said, results):
    cell = stack("small", 1).cell
    code, out, _ = said("show", results, cell[:5])
    assert code == 0
    assert re.search(rf"cell +{cell}", out)
    assert re.search(r"latency_ms +2\.002", out)
    assert f"--only {cell} --remeasure" in out
    code, out, _ = said("show", results, cell, "--format", "json")
    known = json.loads(out)
    assert known["layers"]["hardware"] == "cpu(threads=1)"
    assert known["results"][0]["latency_ms"] == pytest.approx(2.002)
    assert [r["median_ms"] for r in known["rounds"]] == pytest.approx([2.0, 2.002, 2.004])


def test_show_a_failure(said, results):
    code, out, _ = said("show", results, stack("large", 2).cell)
    assert code == 0
    assert "the long reason" in out
    assert "the last words" in out


def test_show_needs_one_cell(said, results):
    code, _, err = said("show", results, "zzz")
    assert code == 2
    assert "there are 4" in err
    code, _, err = said("show", results, "")
    assert code == 2
    assert "several cells" in err
    code, _, err = said("show", results / "absent", "a")
    assert code == 2


def test_report(said, results, monkeypatch):
    asked = []
    monkeypatch.setattr("dlas.report.write", lambda _, path, how: (asked.append(how), path)[1])
    assert said("report", results)[:2] == (0, f"{results / 'report.html'}\n")
    assert said("report", results, "-o", "x.html")[:2] == (0, "x.html\n")
    assert said("report", results, "--metric", "latency_ms", "--floor", "0.1")[0] == 0
    assert [how.metric for how in asked] == [None, None, "latency_ms"]
    assert asked[-1].floor == 0.1


def test_report_of_any_table(said, tmp_path):
    table = tmp_path / "bench.csv"
    table.write_text("net,engine,fps\na,x,1.0\na,y,2.0\nb,x,3.0\nb,y,5.0\n")
    ask = ("report", "--table", table, "--layers", "net,engine", "--metric", "fps")
    assert said(*ask)[:2] == (0, f"{tmp_path / 'bench.html'}\n")
    assert "fps" in (tmp_path / "bench.html").read_text()
    for wrong, why in (
        ((*ask, tmp_path), "not both"),
        (("report",), "nothing to report"),
        (("report", "--table", table), "--table needs --layers"),
    ):
        code, _, err = said(*wrong)
        assert (code, why in err) == (2, True)


def test_clean_needs_results(said, tmp_path):
    code, _, err = said("clean", tmp_path)
    assert code == 2
    assert "no results" in err
    code, _, err = said("clean", tmp_path, "--store", "s3://lab/x")
    assert code == 2
    assert "s3://lab/x: several machines share it" in err


# ---------------------------------------------------------------- findings

PUBLISHED = ("analyze", "--table", ROOT / "tests/data/iiswc-2018.csv", "--metric", "seconds")


def test_analyze_any_table(said, tmp_path):
    layers = ("--layers", "model,optimization,device,threads")
    code, out, err = said(*PUBLISHED, *layers, "--top", "3", "-o", tmp_path / "f.json")
    assert (code, err) == (0, "")
    assert out.startswith("seconds over model, optimization, device, threads: 84 of 84 cells")
    assert re.search(r"^3\. ", out, re.MULTILINE)
    assert not re.search(r"^4\. ", out, re.MULTILINE)
    assert json.loads((tmp_path / "f.json").read_text())["cells"] == 84


def test_analyze_wrong_columns(said):
    code, out, err = said(*PUBLISHED, "--layers", "modl,device", "--baseline", "device")
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("analyze",), "nothing to analyze"),
        (PUBLISHED, "--table needs --layers"),
        ((*PUBLISHED, "--layers", "model", "out"), "not both"),
    ],
)
def test_analyze_says_what_it_needs(said, words, part):
    code, _, err = said(*words)
    assert code == 2
    assert part in err


def test_analyze_and_compare_folders(said, results):
    code, out, err = said("analyze", results)
    assert (code, err) == (0, "")
    assert "3 of 4 cells complete" in out
    assert json.loads((results / "findings.json").read_text())["complete"] == 3
    code, out, err = said("compare", results, results)
    assert (code, err) == (0, "")
    assert "3 common cells" in out
    code, out, _ = said("compare", results, results, "--format", "json")
    assert json.loads(out)["metric"] == "quiet_ms"
    code, _, err = said("analyze", results, "--metric", "latency")
    assert code == 2
    assert "Did you mean 'latency_ms'" in err


# ---------------------------------------------------------------- this installation


@pytest.mark.usefixtures("fakes")
def test_catalog(said):
    code, out, _ = said("catalog", "--layer", "optimization")
    assert code == 0
    assert out.startswith("optimization: Model Optimizations\n")
    assert re.search(r"weight-pruning .*sparsity=0\.5, epochs=1", out)
    code, out, _ = said("catalog", "--format", "json")
    assert {row["layer"] for row in json.loads(out)} == set(LAYERS)
    code, _, err = said("catalog", "--layer", "optimisation")
    assert code == 2
    assert "Did you mean 'optimization'" in err


def test_a_description_of_the_cpu_that_is_not_there_is_one_sentence(said, monkeypatch):
    monkeypatch.setenv("DLAS_CPUINFO", "/nowhere/cpuinfo")
    study = Path(__file__).parents[2] / "studies" / "quickstart.yaml"
    for command in (["doctor", "--no-probe"], ["plan", study]):
        code, _, err = said(*command)
        assert code == 2
        assert "DLAS_CPUINFO=/nowhere/cpuinfo cannot be read" in err and "Traceback" not in err


def test_catalog_and_doctor_of_this_installation(said):
    code, out, _ = said("catalog")
    assert code == 0
    for layer in LAYERS:
        assert f"{layer}: " in out
    code, out, _ = said("doctor", "--no-probe")
    assert code == 0
    assert "timings:" in out
    code, out, _ = said("doctor", "--no-probe", "--format", "json")
    found = json.loads(out)
    assert found["host"]["cores"] >= 1
    assert {"layer", "name", "missing"} == set(found["techniques"][0])
    assert found["environments"] == {}


def test_doctor_looks_into_other_interpreters(said, tmp_path):
    code, _, err = said("doctor", "--no-probe", "--python", "/no/such/python")
    assert code == 2 and "'/no/such/python' is no program" in err
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = str(bare / "bin" / "python")
    code, out, _ = said("doctor", "--no-probe", "--python", python)
    assert code == 0 and f"{python}: no runtime" in out
    assert re.search(r"- onnxruntime: \S+ lacks dlas==\S+, onnxruntime", out)


def test_doctor_says_why_an_installed_runtime_runs_nothing(said, monkeypatch):
    row = {"software": "tvm", "type": "int8", "executes": "int8", "isa": None, "problem": ""}
    told = [row], {"litert": "litert needs a converter"}
    monkeypatch.setattr(catalog, "_executes", lambda progress, asked: told)
    code, out, _ = said("doctor")
    assert code == 0 and "- litert: litert needs a converter\n" in out
    code, out, _ = said("doctor", "--format", "json")
    assert json.loads(out)["refused"] == {"litert": "litert needs a converter"}


def test_train(said, tmp_path):
    code, out, err = said(
        "train", "resnet-8", "digits", "--out", tmp_path / "w", "--epochs", "1", "--limit", "200",
        "--threads", "1",
    )  # fmt: skip
    assert code == 0, err
    assert re.fullmatch(r"accuracy 0\.\d{4} on \d+ test images\n", out)
    assert (tmp_path / "w.safetensors").is_file()
    card = json.loads((tmp_path / "w.json").read_text())
    assert card["dataset"]["name"] == "digits"


def test_train_says_what_is_wrong(said, tmp_path):
    code, out, err = said("train", "resnet-9", "digits", "--out", tmp_path / "w")
    assert (code, out) == (2, "")
    assert "Did you mean 'resnet-8'" in err
    code, _, err = said("train", "resnet-8", "digits", "--out", "w", "--augment", "flop")
    assert code == 2
    assert "Did you mean 'flip'" in err
    code, _, err = said(
        "train", "resnet-8", "digits", "--out", tmp_path / "w", "--epochs", "3", "--minutes", "2"
    )
    assert code == 2
    assert "--epochs 3 and --minutes 2: one of them ends it" in err


# ---------------------------------------------------------------- from Python


def test_the_python_interface(results):
    assert dlas.Study.load is not None
    frame = dlas.table(results)
    assert len(frame) == 4
    assert len(dlas.table([results])) == 4
    with pytest.raises(AttributeError, match="no attribute 'stduy'"):
        dlas.stduy  # noqa: B018


@pytest.mark.parametrize(
    "lines",
    [
        "import dlas",
        "import dlas; from dlas.run.run import run",
        "from dlas.cli import app as cli; import dlas",
    ],
)
def test_run_can_be_called_however_it_was_imported(lines):
    code = (
        f"import sys; {lines}; from unittest.mock import patch\n"
        "import dlas.run\n"
        "with patch('dlas.run.run.run', lambda study, out: (study, out)):\n"
        "    assert dlas.run('study', out='out') == ('study', 'out')\n"
        "print(sorted({'torch', 'tvm', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


# ---------------------------------------------------------------- claims


CLAIMS = """\
dlas-claims: 1
name: small
study: HASH
claims:
  - {id: a, claim: Int8 is faster., test: "speedup(optimization == 'int8') > 1 in every context"}
"""


@pytest.mark.usefixtures("fakes")
def test_claims_are_registered_before_a_study_runs(said, study_file, tmp_path, monkeypatch):
    from dlas.store.registered import registrations
    from dlas.study.study import Study

    _, told, _ = said("plan", study_file)
    study = Study.load(study_file)
    assert f"study small, hash {study.hash[:12]}" in told
    out, path = tmp_path / "claimed", tmp_path / "claims.yaml"
    path.write_text(CLAIMS.replace("HASH", study.hash[:12]))
    seen = []

    def stopped(*_args, **_options):
        seen.extend(registrations(out))
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("dlas.run.run"), "run", stopped)
    code, _, err = said("run", study_file, "--out", out, "--claims", path)
    assert code == 130
    assert [(r.name, r.study, r.rounds) for r in seen] == [("small", study.hash, 0)]
    assert "before anything was measured" in err
    path.write_text(CLAIMS.replace("HASH", "0" * 12))
    _, _, err = said("run", study_file, "--out", out, "--claims", path)
    assert f"the claims are about the study {'0' * 12}, and this one is {study.hash[:12]}" in err


@pytest.mark.usefixtures("fakes")
def test_claims_registered_with_rounds_there_are_written_afterwards(
    said, study_file, results, tmp_path, monkeypatch
):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.replace("study: HASH\n", ""))

    def stopped(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("dlas.run.run"), "run", stopped)
    _, _, err = said("run", study_file, "--out", results, "--claims", path)
    assert "WRITTEN AFTERWARDS" in err and "when 9 rounds had been measured" in err
    _, told, _ = said("check", path, results)
    assert "WRITTEN AFTERWARDS" in told


@pytest.mark.usefixtures("fakes")
def test_claims_are_registered_by_the_rounds_of_the_database_that_is_named(
    said, study_file, tmp_path, monkeypatch
):
    from dlas.store.results import ResultStore
    from dlas.tables import for_claims
    from table_rows import round_row

    path, url = tmp_path / "claims.yaml", "postgresql://lab@db.example/study"
    path.write_text(CLAIMS.replace("study: HASH\n", ""))
    with ResultStore(tmp_path / "rows.sqlite") as store:
        store.put(round_row("cell", 0, (1.0, 1.1)))

    def opened(place, *, read_only):
        assert place == url
        return ResultStore(tmp_path / "rows.sqlite", read_only=read_only)

    def stopped(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(for_claims, "ResultStore", opened)
    monkeypatch.setattr(importlib.import_module("dlas.run.run"), "run", stopped)
    given = ("run", study_file, "--out", tmp_path / "new", "--claims", path, "--results", url)
    _, _, err = said(*given)
    assert "WRITTEN AFTERWARDS" in err and "when 1 rounds had been measured" in err
