"""Claims that were registered: what was there before, and what somebody changed."""

from __future__ import annotations

import json

import pytest

from dlas.core.errors import StorageError
from dlas.store.registered import FOLDER, LIST, register, registrations, take_over


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


def test_what_was_known_before_makes_it_afterwards(tmp_path):
    known = [register(tmp_path, "n", str(i), "s", *seen) for i, seen in enumerate(
        [(0,), (3,), (0, 2)])]  # fmt: skip
    assert [r.afterwards for r in known] == [False, True, True]
    assert [r.facts for r in registrations(tmp_path)] == [0, 0, 2]


def test_lines_of_an_older_dlas_know_of_no_facts(tmp_path):
    made = register(tmp_path, "n", "a", "s", 0)
    file = tmp_path / FOLDER / LIST
    line = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in line.items() if k not in ("facts", "source")}))
    assert registrations(tmp_path) == (made,)


def test_what_is_taken_over_keeps_its_first_source(tmp_path):
    made = register(tmp_path / "a", "n", "ü", "s", 0)
    once = take_over(tmp_path / "b", made, "a")
    twice = take_over(tmp_path / "c", once, "b")
    assert (once.source, twice.source) == ("a", "a")
    assert (twice.at, twice.rounds) == (made.at, 0)
    take_over(tmp_path / "c", made, "d")
    assert [r.source for r in registrations(tmp_path / "c")] == ["a", "d"]
    assert twice.path is not None and twice.path.read_text(encoding="utf-8") == "ü"


def test_a_folder_that_refuses(tmp_path):
    (tmp_path / FOLDER).write_text("a file stands in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        register(tmp_path, "n", "a", "s", 0)
