"""``python: PATH``: a runtime in another interpreter, so that two versions are two levels."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import dlas
from dlas.run.process.interpreters import probe
from place import Place, place

MEASURE = {"rounds": 1, "accuracy_samples": 20, "min_controls": 0}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """With timm as it is installed, as every study of a user has it."""
    return place(tmp_path_factory.mktemp("study"), timm=True)


@pytest.fixture(scope="module")
def other(shared: Place) -> Path:
    """Another interpreter that sees the same packages as this one."""
    folder = shared.root / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    here = [path for path in sys.path if Path(path).name == "site-packages"]
    source = str(Path(dlas.__file__).parent.parent)
    (site / "same.pth").write_text("\n".join([*here, source]) + "\n")
    return folder / "bin" / "python"


def test_a_runtime_runs_in_another_interpreter(shared: Place, other: Path) -> None:
    study = shared.study(
        layers={
            "optimization": ["none"],
            "software": ["onnxruntime", {"onnxruntime": {"python": str(other)}}],
            "hardware": [{"cpu": {"threads": 1}}],
        },
        measure=MEASURE,
    )
    ended = shared.dlas("run", study, "--out", "out")
    assert ended.returncode == 0, ended.stderr
    cells = shared.cells()
    assert len(cells) == 2
    assert {r.status for r in cells.values()} == {"complete"}, [
        (r.stage, r.reason) for r in cells.values()
    ]
    found = probe(str(other), ("onnxruntime", "torch"))
    assert found.lacks(str(other), ("onnxruntime", "torch")) == "", "its dlas is this one"
    ort = importlib.metadata.version("onnxruntime")
    told = dlas.table(shared.root / "out")["software_versions"]
    assert list(told) == [f"onnxruntime {ort}"] * 2


def test_what_another_interpreter_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "e")], check=True
    )
    (tmp_path / "onnxruntime").mkdir()  # a folder beside the study is no package
    monkeypatch.chdir(tmp_path)
    bare = probe("e/bin/python", ("onnxruntime",))
    told = bare.lacks("e/bin/python", ("onnxruntime",))
    assert f"e/bin/python lacks dlas=={dlas.__version__}, onnxruntime:" in told


def test_of_two_distributions_the_one_that_is_imported_counts(other: Path) -> None:
    """An environment on top of another one hides what it has itself."""
    site = next((other.parent.parent / "lib").glob("python3*")) / "site-packages"
    known = site / "Torch_Pruning-0.0.1.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: Torch_Pruning\nVersion: 0.0.1\n")
    assert probe(str(other), ()).versions["torch-pruning"] == "0.0.1"
    (known / "METADATA").unlink()
    known.rmdir()


def test_a_path_that_is_no_python_is_said() -> None:
    assert "is no program" in probe("/no/such/python", ()).problem
    assert "does not answer as Python" in probe("/bin/true", ()).problem
