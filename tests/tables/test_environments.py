"""One software in two environments: which versions its levels are, and two folders compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dlas.core.stack import Choice, Stack
from dlas.tables import intake
from dlas.tables.environments import matched, several
from dlas.tables.read import read
from table_rows import SESSION, cell_row, fact, fill, round_row, stack

ASKED = intake.Asked("latency_ms")


def ort(python: str = "", sparsity: float | None = None) -> Stack:
    shown = ("python",) if python else ()
    return replace(stack(sparsity), software=(Choice("onnxruntime", {"python": python}, shown),))


def folder(at: Path, ran: dict[str, str], pace: float = 1.0) -> Path:
    """Fill a folder with two cells for each environment, whose ONNX Runtime has a version."""
    rows: list = [SESSION]
    for python, version in ran.items():
        for sparsity in (None, 0.5):
            made = ort(python, sparsity)
            rows.append(cell_row(made, len(rows)))
            rows += [round_row(made.cell, n, [pace * (10 + n)] * 3) for n in range(3)]
            rows.append(fact(made.cell, "build", {"versions": {"onnxruntime": version}}))
    at.mkdir()
    return fill(at, *rows)


def test_the_versions_that_are_levels_are_said(tmp_path: Path) -> None:
    out = folder(tmp_path / "out", {"": "1.32", "old/python": "1.20"})
    (sentence,) = several(read(out)[0])
    assert sentence == (
        f"{out}: versions are levels of software: onnxruntime is onnxruntime 1.32; "
        "onnxruntime(python=old/python) is onnxruntime 1.20."
    )
    table = intake.of_folders([out], ASKED)
    assert sentence in table.notes
    assert table.levels["software"] == ("onnxruntime", "onnxruntime(python=old/python)")


def test_nothing_is_said_of_one_version(tmp_path: Path) -> None:
    out = folder(tmp_path / "out", {"": "1.32", "same/python": "1.32"})
    assert several(read(out)[0]) == []


def test_two_folders_of_one_environment_each_are_compared(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", {"old/python": "1.20"})
    two = folder(tmp_path / "b", {"new/python": "1.32"}, pace=0.5)
    (a, b), differ = intake.of_two_folders(one, two, ASKED)
    assert set(a.cells["software"]) == set(b.cells["software"]) == {"onnxruntime"}
    assert differ == (
        "software onnxruntime: onnxruntime 1.20 (onnxruntime(python=old/python)) against "
        "onnxruntime 1.32 (onnxruntime(python=new/python))",
    )


def test_what_stands_in_both_or_in_several_environments_keeps_its_path(tmp_path: Path) -> None:
    both = read(folder(tmp_path / "a", {"": "1.32", "old/python": "1.20"}))[0]
    one = read(folder(tmp_path / "b", {"old/python": "1.20"}))[0]
    for first, second in ((both, one), (one, both), (one, one)):
        assert matched(first, second) == (first, second, ())


def test_the_path_of_what_converts_tells_no_two_cells_apart(tmp_path: Path) -> None:
    def converted(at: Path, converter: str, version: str) -> Path:
        software = Choice("litert", {"converter": converter}, ("converter",))
        made = replace(stack(), software=(software,))
        versions = {"ai-edge-litert": "2.3", "litert-torch": version}
        at.mkdir()
        rows = [round_row(made.cell, n, [10.0 + n] * 3) for n in range(3)]
        built = fact(made.cell, "build", {"versions": versions})
        return fill(at, SESSION, cell_row(made, 0), *rows, built)

    one = converted(tmp_path / "a", "old/python", "0.9")
    two = converted(tmp_path / "b", "new/python", "0.10")
    (a, b), differ = intake.of_two_folders(one, two, ASKED)
    assert set(a.cells["software"]) == set(b.cells["software"]) == {"litert"}
    assert differ == (
        "software litert: ai-edge-litert 2.3, litert-torch 0.9 (litert(converter=old/python)) "
        "against ai-edge-litert 2.3, litert-torch 0.10 (litert(converter=new/python))",
    )


def test_what_quantizes_is_told_once_for_all_cells_of_a_level(tmp_path: Path) -> None:
    rows: list = [SESSION]
    for python, nncf in (("", "3.4"), ("old/python", "2.14")):
        for sparsity, more in ((None, {}), (0.5, {"nncf": nncf})):
            made = ort(python, sparsity)
            rows += [cell_row(made, len(rows)), round_row(made.cell, 0, [10.0] * 3)]
            versions = {"openvino": "2026.4", **more}
            rows.append(fact(made.cell, "build", {"versions": versions}))
    (tmp_path / "out").mkdir()
    (sentence,) = several(read(fill(tmp_path / "out", *rows))[0])
    assert "onnxruntime is nncf 3.4, openvino 2026.4; " in sentence
    assert "(python=old/python) is nncf 2.14, openvino 2026.4." in sentence
