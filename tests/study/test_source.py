"""Numbers and texts of study files: YAML 1.2's core schema, and what is text as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.study.source import dump, parse
from dlas.study.study import Study

NUMBERS = """\
dlas: 1
name: 1.10
description: 007
layers:
  dataset: [image-folder: {root: 010, size: 0x10}]
  model: [resnet-8]
  software: [pytorch: {python: [1.10, 1.2]}]
  hardware: [cpu: {threads: [010, 0o10]}]
"""


def test_numbers_are_those_of_yaml_1_2_and_text_stays_as_written(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(NUMBERS)
    study = Study.load(tmp_path / "s.yaml")
    assert (study.name, study.description) == ("1.10", "007")
    seen = {(s.text("dataset"), s.text("software"), s.text("hardware")) for s in study.stacks}
    assert seen == {
        ("image-folder(root=010,size=16)", f"pytorch(python={python})", f"cpu(threads={threads})")
        for python in ("1.10", "1.2")
        for threads in (10, 8)
    }
    (tmp_path / "copy.yaml").write_text(study.copy())
    assert Study.load(tmp_path / "copy.yaml").stacks == study.stacks


@pytest.mark.parametrize(
    "text",
    ["010", "0o10", "1e3", "0x1f", ".inf", "1.10", "yes", "~", "", "2024-01-01", "1_0", "a"],
)
def test_what_is_text_stays_text_when_written(text: str) -> None:
    assert parse(dump({"a": text}), "it").data == {"a": text}


def test_a_number_too_large_is_refused() -> None:
    source = parse("a: 1e999\n", "it")
    with pytest.raises(UserError, match="it:1: a: 1e999 is larger"):
        source.check()
