"""The house rules that a test can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "dlas").rglob("*.py"))


def test_importing_dlas_is_light() -> None:
    heavy = "{'torch', 'tvm', 'pandas', 'onnxruntime', 'openvino', 'sqlalchemy'}"
    code = f"import sys, dlas; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_every_technique_is_light() -> None:
    code = (
        "import sys; from dlas.core import registry; rows = registry.catalogue();"
        "assert len(rows) > 20, rows;"
        "print(sorted({'torch', 'tvm', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_are_small_and_have_a_docstring(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 450
    assert ast.get_docstring(ast.parse(text)), "say in a line what the file is for"


def test_no_file_is_called_after_nothing() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py"}
    assert [p for p in SOURCES if p.name in vague] == []
