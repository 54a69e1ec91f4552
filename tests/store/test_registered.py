"""Claims that were registered: what was there before, and what somebody changed."""

from __future__ import annotations

import json

import pytest

from dlas.core.errors import StorageError
from dlas.store.registered import FOLDER, LIST, register, registrations


def test_what_is_registered_is_found_word_for_word(tmp_path):
    made = register(tmp_path, "n", "claims: ü\n", "s" * 64, 0)
    assert registrations(tmp_path) == (made,)
    assert made.path is not None
    assert made.path.read_text(encoding="utf-8") == "claims: ü\n"
    assert made.rounds == 0


def test_the_first_registration_stays(tmp_path):
    first = register(tmp_path, "n", "a", "s", 0)
    again = register(tmp_path, "n", "a", "s", 70)
    assert again == first
    assert len((tmp_path / FOLDER / LIST).read_text().splitlines()) == 1


def test_another_text_or_another_study_is_another_registration(tmp_path):
    register(tmp_path, "n", "a", "s", 0)
    register(tmp_path, "n", "b", "s", 5)
    register(tmp_path, "n", "a", "t", 7)
    assert [r.rounds for r in registrations(tmp_path)] == [0, 5, 7]


def test_a_file_that_was_changed_afterwards_does_not_count(tmp_path):
    made = register(tmp_path, "n", "a", "s", 0)
    assert made.path is not None
    made.path.write_text("b")
    assert registrations(tmp_path) == ()


def test_lines_that_cannot_be_read_do_not_count(tmp_path):
    made = register(tmp_path, "n", "a", "s", 0)
    file = tmp_path / FOLDER / LIST
    line = file.read_text()
    file.write_text("{\n[]\n" + json.dumps({"hash": made.hash, "rounds": "many"}) + "\n" + line)
    assert registrations(tmp_path) == (made,)


def test_a_folder_that_refuses(tmp_path):
    (tmp_path / FOLDER).write_text("a file stands in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        register(tmp_path, "n", "a", "s", 0)
