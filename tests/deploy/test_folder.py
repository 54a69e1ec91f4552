"""`dlas export`: the folder, that it runs without dlas, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shipped
from dlas.cli import app
from dlas.core import registry
from dlas.core.errors import UserError
from dlas.deploy import export
from dlas.deploy.picked import pick

FILES = {".dockerignore", "Dockerfile", "README.md", "artefact", "predict.py", "requirements.txt",
         "runtime.py", "upright.py", "samples", "stack.json", "verify.py"}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "out"
    shipped.fill(folder)
    return folder


@pytest.fixture(scope="module")
def cells() -> dict[int, str]:
    return {threads: shipped.stack(threads).cell for threads in (1, 2, 3)}


@pytest.fixture(scope="module")
def folder(out: Path) -> Path:
    return export(out, "best", out.parent / "ship").folder


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the folder's Python with nothing of dlas to be found."""
    hide = (
        "import sys; sys.modules['dlas'] = None; sys.path.insert(0, '.'); import runpy; "
        f"sys.argv = {list(arguments)!r}; runpy.run_path({arguments[0]!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", hide], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_best_cell_is_a_folder_that_says_what_it_is(
    folder: Path, cells: dict[int, str]
) -> None:
    assert {p.name for p in folder.iterdir() if p.name != "__pycache__"} == FILES
    card = json.loads((folder / "stack.json").read_text())
    assert card["cell"] == cells[1]
    assert card["labels"] == [str(digit) for digit in range(10)]
    assert card["numbers"]["latency_ms"] == pytest.approx(1.001)
    assert card["numbers"]["accuracy"] == 0.9
    assert {f"{n}=={v}" for n, v in card["runtime"]["distributions"].items()} == set(
        (folder / "requirements.txt").read_text().split()
    )
    assert [line.partition("==")[0] for line in (folder / "requirements.txt").open()] == [
        "numpy", "pillow", "onnxruntime"
    ]  # fmt: skip
    text = (folder / "README.md").read_text()
    for part in ("1.001 ms", "accuracy | 0.9 ", "onnxruntime", cells[1], "3 rounds"):
        assert part in text, part


def test_it_verifies_and_predicts_without_dlas(folder: Path) -> None:
    done = _python(folder, "verify.py")
    assert done.returncode == 0, done.stderr
    assert "16 as expected" in done.stdout
    assert re.search(r"latency: [\d.]+ ms here, 1.001 ms there", done.stdout)
    expected = (shipped.inputs().reshape(-1, 64) @ shipped.matrix()).argmax(axis=1)[:16]
    done = _python(folder, "predict.py", "upright.py", "samples/inputs.npy")
    assert [int(n) for n in re.findall(r"class (\d)", done.stdout)] == expected.tolist()
    done = _python(folder, "predict.py", "upright.py", "absent.png", "README.md")
    assert done.returncode == 2
    assert "absent.png" in done.stderr
    assert "README.md" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["artefact/model.onnx", "samples/outputs.npy", "runtime.py"])
def test_a_changed_byte_is_seen(folder: Path, tmp_path: Path, file: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / file).read_bytes())
    data[-1] ^= 1
    (copy / file).write_bytes(data)
    done = _python(copy, "verify.py")
    assert done.returncode == 1
    assert file in done.stdout


def test_other_outputs_and_a_slower_machine_are_seen(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    card = json.loads((copy / "stack.json").read_text())
    card["numbers"]["latency_ms"] = 1e-9
    (copy / "stack.json").write_text(json.dumps(card))
    assert _python(copy, "verify.py", "--at-most", "2").returncode == 1
    outputs = np.load(copy / "samples" / "outputs.npy")
    outputs[3, 3] += 0.01
    np.save(copy / "samples" / "outputs.npy", outputs)
    card["files"] = {}
    (copy / "stack.json").write_text(json.dumps(card))
    done = _python(copy, "verify.py")
    assert done.returncode == 1
    assert "outputs differ by 0.01" in done.stdout


def test_a_version_of_another_index_is_pinned_as_on_pypi(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = registry.installed_version
    monkeypatch.setattr(registry, "installed_version", lambda name: f"{installed(name)}+cpu")
    lines = (export(out, "best", tmp_path / "to").folder / "requirements.txt").read_text().split()
    assert len(lines) == 3
    assert not [line for line in lines if "+" in line]


def test_the_dockerfile_names_what_is_there(folder: Path) -> None:
    """No docker builds it in the tests: what it copies, installs and starts is looked at."""
    card = json.loads((folder / "stack.json").read_text())
    steps = [line.split(maxsplit=1) for line in (folder / "Dockerfile").read_text().splitlines()
             if line and not line.startswith("#")]  # fmt: skip
    assert [word for word, _ in steps] == ["FROM", "WORKDIR", "COPY", "RUN", "COPY", "ENTRYPOINT"]
    said = dict(steps)
    major, minor, *_ = card["runtime"]["python"].split(".")
    assert said["FROM"] == f"python:{major}.{minor}-slim"
    for word, rest in steps:
        if word == "COPY":
            source, to = rest.split()
            assert (folder / source).exists(), source
            assert to == "."
    assert "-r requirements.txt" in said["RUN"]
    program, script = json.loads(said["ENTRYPOINT"])
    assert program == "python"
    assert (folder / script).is_file()
    ignored = (folder / ".dockerignore").read_text().split()
    assert not [p for p in card["files"] if p.split("/")[0] in ignored or p.endswith(".pyc")]


def test_an_earlier_export_is_replaced_and_nothing_else(
    out: Path, folder: Path, tmp_path: Path
) -> None:
    cell = shipped.stack(2).cell
    to = shutil.copytree(folder, tmp_path / "again")
    assert export(out, cell[:6], to).cell == cell
    assert json.loads((to / "stack.json").read_text())["runtime"]["threads"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for taken in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(UserError, match=f"--to {taken}"):
            export(out, cell, taken)
    assert (tmp_path / "mine" / "thesis.txt").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "mine"]


def test_what_cannot_be_exported(out: Path, cells: dict[int, str], tmp_path: Path) -> None:
    to = tmp_path / "to"
    wrong = {
        cells[3]: "is failed (build: no memory): only a complete cell",
        shipped.stack(4).cell: "is pending: only a complete cell",
        "zz": "no cell of .* begins with 'zz'; there are 19",
        "": "no cell of .* begins with ''",
        "bset": "no cell",
    }
    for asked, said in wrong.items():
        with pytest.raises(UserError, match=said.replace("(", r"\(").replace(")", r"\)")):
            export(out, asked, to)
    with pytest.raises(UserError, match="holds no results"):
        export(tmp_path, "best", to)
    assert not to.exists()


def test_an_ambiguous_cell_is_told_with_all_it_could_be(out: Path, tmp_path: Path) -> None:
    first = [shipped.stack(threads).cell[0] for threads in range(1, shipped.MANY)]
    twice = next(digit for digit in first if first.count(digit) > 1)
    with pytest.raises(UserError, match=f"begin with {twice!r}: .*; give more digits"):
        export(out, twice, tmp_path / "to")


def test_a_folder_of_another_machine(tmp_path: Path) -> None:
    cells = shipped.fill(tmp_path / "board", host="beefbeefbeef")
    for asked in ("best", cells[1]):
        with pytest.raises(UserError, match="beefbeefbeef") as error:
            export(tmp_path / "board", asked, tmp_path / "to")
        assert "dlas run" in str(error.value)


def test_a_cell_of_another_interpreter_beside_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path starts at the study's folder, wherever the export is asked for."""
    cells = shipped.fill(tmp_path / "out", python="env/bin/python")
    python = tmp_path / "out" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho >> {tmp_path}/called\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    made = export(Path("out"), cells[1], Path("ship"))
    assert (tmp_path / "called").read_text() == "\n\n", "asked for its versions, and run once"
    assert made.card["runtime"]["distributions"]["onnxruntime"] == registry.installed_version(
        "onnxruntime"
    )
    assert (tmp_path / "ship" / "samples" / "outputs.npy").is_file()
    python.unlink()
    with pytest.raises(UserError, match="'env/bin/python' is no program"):
        export(Path("out"), cells[1], Path("ship"))


def test_an_artefact_that_was_cleaned_away(tmp_path: Path) -> None:
    cells = shipped.fill(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "store")
    with pytest.raises(UserError, match=f"dlas run .* --only {cells[1]} --remeasure"):
        export(tmp_path / "out", cells[1], tmp_path / "to")


def test_goals_that_no_cell_meets(tmp_path: Path) -> None:
    cells = shipped.fill(tmp_path / "out", drop=40)
    with pytest.raises(UserError, match="meets the goals") as error:
        export(tmp_path / "out", "best", tmp_path / "to")
    assert "accuracy_drop at most 0.02: 0.4" in str(error.value)
    assert str(error.value).count("The closest is") == 1
    assert export(tmp_path / "out", cells[1], tmp_path / "to").cell == cells[1]


def test_the_best_may_be_judged_as_seen(out: Path, cells: dict[int, str]) -> None:
    for metric in (None, "latency_ms"):
        chosen = pick(out, "best", metric=metric).chosen
        assert chosen is not None and chosen.metric == (metric or "quiet_ms")
    with pytest.raises(UserError, match=f"--metric latency_ms .* '{cells[1]}' names a cell"):
        pick(out, cells[1], metric="latency_ms")
    with pytest.raises(UserError, match="energy_mj was measured of no cell of"):
        pick(out, "best", metric="energy_mj")
    with pytest.raises(UserError, match="latency_sm"):
        pick(out, "best", metric="latency_sm")


def test_the_command(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["export", str(out), "best", "--to", str(tmp_path / "ship")]) == 0
    assert "verify.py" in capsys.readouterr().out
    assert app.main(["export", str(out), "nix", "--to", str(tmp_path / "no")]) == 2
    assert "Traceback" not in capsys.readouterr().err
