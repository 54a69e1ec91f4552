"""Labels and names that `dlas workers` is given; what runs is in tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.run.engines import supervise
from dlas.run.engines.supervise import VARIABLE, checked_labels, default_name, default_place


def test_labels_are_words_each_once() -> None:
    assert checked_labels(" big, avx512 ,big,") == ("big", "avx512")
    assert checked_labels("") == ()


@pytest.mark.parametrize("text", ["a b", "big,$(id)", "x;y", "../z", "-x", "é", "x" * 64])
def test_what_is_no_label_is_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match="a label is one word"):
        checked_labels(text)


def test_a_machine_has_a_name_and_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervise.platform, "node", lambda: "lab 7/x")
    assert default_name() == "lab-7-x"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert default_place("lab") == tmp_path / "lab"
