"""What another interpreter answers, and what is made of it: scripts stand for interpreters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dlas import __version__
from dlas.core import registry
from dlas.run.process import interpreters
from dlas.run.process.interpreters import ask, place_of, probe

HERE = {"dlas": __version__}


def script(path: Path, **answer: Any) -> str:
    """Write what answers like an interpreter; return its path."""
    versions: Mapping[str, str] = answer.pop("versions", HERE)
    source = registry.source_version("dlas")
    said = {"python": "3.12.1", "versions": versions, "absent": [], "source": source, **answer}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\n")
    path.chmod(0o755)
    return str(path)


def test_the_same_dlas_is_taken(tmp_path: Path) -> None:
    python = script(tmp_path / "python", versions={**HERE, "onnxruntime": "1.22"})
    found = probe(python, ("onnxruntime",))
    assert found.lacks(python, ("onnxruntime",)) == ""
    assert found.versions == {"python": "3.12.1", **HERE, "onnxruntime": "1.22"}


def test_another_source_of_the_same_version_is_refused(tmp_path: Path) -> None:
    """Keys hold this source: what another one builds would be taken for its work."""
    python = script(tmp_path / "python", source="x")
    assert probe(python).lacks(python, ()) == (
        f"{python} has another dlas {__version__} than this one (its source differs): install "
        "this one there with pip"
    )


def test_a_dlas_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    broken = "ModuleNotFoundError: No module named 'pydantic'"
    python = script(tmp_path / "python", source=None, broken=broken)
    assert f"cannot be imported ({broken})" in probe(python).lacks(python, ())


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    python = script(tmp_path / "python", source="x", absent=["ncnn", "timm"])
    said = probe(python, ("ncnn", "timm", "torch")).lacks(python, ("ncnn", "torch"))
    assert said.startswith(f"{python} lacks ncnn: install it there with pip; {python} has another")
    old = script(tmp_path / "old", versions={"dlas": "0.0.1"}, source="x", absent=["ncnn"])
    told = probe(old, ("ncnn",)).lacks(old, ("ncnn",))
    assert told == f"{old} lacks dlas=={__version__}, ncnn: install it there with pip"


def test_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is another interpreter in another folder, and pip may have been at work."""
    for folder in ("1", "2"):
        script(tmp_path / folder / "e" / "python", versions={**HERE, "onnxruntime": folder})
        monkeypatch.chdir(tmp_path / folder)
        found = ask([("e/python", ("onnxruntime",))])["e/python"]
        assert found.versions["onnxruntime"] == folder
    script(tmp_path / "2" / "e" / "python", versions={**HERE, "onnxruntime": "3"})
    assert probe("e/python").versions["onnxruntime"] == "3"


def test_an_interpreter_is_asked_once_for_all_that_it_must_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(python: str, modules: tuple[str, ...]) -> interpreters.Interpreter:
        asked.append((python, {*modules}))
        return interpreters.Interpreter()

    monkeypatch.setattr(interpreters, "probe", noted)
    found = ask([("a", ("ncnn", "torch")), ("b", ()), ("a", ("onnx", "torch"))])
    assert asked == [("a", {"ncnn", "torch", "onnx"}), ("b", set())] and {*found} == {"a", "b"}


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"python": 3}', "no JSON"])
def test_what_does_not_answer_as_python_is_said(answer: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{answer}'\n")
    python.chmod(0o755)
    found = probe(str(python))
    assert "does not answer as Python 3.11 or newer" in found.lacks(str(python), ())


def test_an_interpreter_that_does_not_answer_has_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "ANSWER_S", 0.1)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    assert place_of("tvm", str(slow)) is None
    assert place_of("tvm", str(tmp_path / "none")) is None
