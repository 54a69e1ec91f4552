import sys

import pytest

import made_study
from dlas import report
from dlas.core.errors import UserError


def test_pictures_come_as_png_and_svg(made, tmp_path):
    pytest.importorskip("matplotlib")
    files = report.figures([made], tmp_path / "figures")
    names = {"stack", "latency-accuracy", "speedups", "flips", "drift"}
    assert {f.name for f in files} == {f"{n}.{k}" for n in names for k in ("png", "svg")}
    for file in files:
        start = file.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if file.suffix == ".png" else b"<?xml" in start


def test_pictures_without_numbers_are_left_out(tmp_path):
    pytest.importorskip("matplotlib")
    one = made_study.rows([("resnet-8", "none", "pytorch", 1, "native")])
    files = report.figures([made_study.fill(tmp_path / "one", one)], tmp_path)
    assert {f.stem for f in files} == {"latency-accuracy", "drift"}


def test_without_matplotlib_it_says_how_to_get_it(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"dlas\[figures\]"):
        report.figures([made], tmp_path)
