"""Which split a name means."""

from __future__ import annotations

import pytest

from dlas.core.errors import UserError
from dlas.layers.dataset.shared.splits import WORDS, rest_of, role_of

CASED = (str.lower, str.upper, str.title)


@pytest.mark.parametrize("split", WORDS)
@pytest.mark.parametrize("form", ["{}", "{}_set", "{}-images", "{} data", "{}2017", "{}set"])
def test_every_word_in_every_case_and_dress(split: str, form: str) -> None:
    for rank, words in enumerate(WORDS[split]):  # type: ignore[index]
        for word in words:
            for cased in CASED:
                name = cased(form.format(word))
                assert role_of("", name) == (split, rank), name
                assert not rest_of(name)


@pytest.mark.parametrize(
    "name", ["cat", "trains", "detest", "valley", "devil", "contest", "0000", "", "\u732b", "evil"]
)
def test_other_words_name_none(name: str) -> None:
    assert role_of("", name) is None


def test_words_that_say_something_else_are_kept() -> None:
    assert rest_of("seg_train") == rest_of("SegTest") == {"seg"}
    assert rest_of("crash test") != rest_of("train station")


def test_weak_words_count_alone() -> None:
    """``tr`` may be Turkish."""
    assert role_of("", "tr-test") == ("test", 0)
    assert role_of("", "tr") == ("train", 0)


@pytest.mark.parametrize(
    "name", ["train_test", "TrainVal-train", "test and validation", "dev.train"]
)
def test_a_name_of_several_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"at once.*rename it"):
        role_of("image-folder", name)
