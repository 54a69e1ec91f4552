"""Which split a name means: ``Train``, ``training_set`` and ``seg_train`` are the training images.

``test`` comes before what serves as test where there is no ``test``: an evaluation split, a
validation split, a development split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from dlas.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlas.core.protocols import Split

SOURCE = __name__


class Role(NamedTuple):
    """A split, and how early a name of this kind is taken for it (0: first)."""

    split: Split
    rank: int


WORDS: dict[Split, tuple[tuple[str, ...], ...]] = {
    "train": (("train", "training", "trn", "tr"), ("trainval",)),
    "test": (
        ("test", "testing", "tst", "ts", "te"),
        ("eval", "evaluation"),
        ("val", "valid", "validation"),
        ("dev", "devel", "development"),
    ),
}
"""Words for each split; of several groups the first that is there is taken."""

_WEAK = frozenset({"tr", "trn", "te", "ts", "tst"})
"""Words that are also something else: they count where a name has no other word."""
_FILLING = frozenset((
    "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "split", "folder", "files",
    "file", "pictures", "photos", "samples", "examples", "part", "fold",
))  # fmt: skip
_COMPOUND = re.compile(rf"(\w+?)({'|'.join(_FILLING)})")
_ROLES = {
    word: Role(split, rank)
    for split, groups in WORDS.items()
    for rank, words in enumerate(groups)
    for word in words
}


def roles_of(name: str) -> frozenset[Role]:
    """Return the splits that a name speaks of; empty: of none."""
    return _parted(name)[0]


def rest_of(name: str) -> frozenset[str]:
    """Return the words of a name that say nothing of splits: ``seg`` of ``seg_train_images``."""
    return _parted(name)[1]


def _parted(name: str) -> tuple[frozenset[Role], frozenset[str]]:
    parted = [w.lower() for w in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]
    for tokens in (parted, re.findall(r"[^\W\d_]+", name.lower())):
        words = {token: _word(token) for token in tokens}
        known = set(words.values()) & _ROLES.keys()
        if known:
            rest = {token for token, word in words.items() if word not in {*_ROLES, ""}}
            return frozenset(_ROLES[word] for word in (known - _WEAK or known)), frozenset(rest)
    return frozenset(), frozenset(parted)


def _word(token: str) -> str:
    """Return the word for a split that a token is, ``""`` for one that says nothing."""
    if token in _FILLING:
        return ""
    inner = _COMPOUND.fullmatch(token)
    return inner[1] if inner and inner[1] in _ROLES else token


def role_of(owner: str, name: str, roles: Iterable[Role] | None = None) -> Role | None:
    """Return the one split that a name means, None: it names none.

    Raises:
        UserError: it names both splits, or several that can serve as test.
    """
    found = sorted(roles_of(name) if roles is None else roles)
    if len(found) > 1:
        said = " and ".join(_said(role) for role in found)
        raise UserError(
            f"{owner}: {name!r} names {said} at once, so that it is not clear which split it is: "
            "rename it."
        )
    return found[0] if found else None


def _said(role: Role) -> str:
    return repr(WORDS[role.split][role.rank][-1 if role.rank else 0])
