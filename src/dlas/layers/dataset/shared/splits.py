"""Which split a name means: ``Train``, ``training_set`` and ``seg_train`` are the training images.

``test`` comes before what serves as test where there is no ``test``: an evaluation split, a
validation split, a development split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from dlas.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
_COMPOUND = re.compile(r"(\w+?)(sets?|data|images?|imgs?|split|folder|files?)")
_ROLES = {
    word: Role(split, rank)
    for split, groups in WORDS.items()
    for rank, words in enumerate(groups)
    for word in words
}


def roles_of(name: str) -> frozenset[Role]:
    """Return the splits that a name speaks of; empty: of none."""
    words = set(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name))
    tokens = {w.lower() for w in words} | set(re.findall(r"[a-z]+", name.lower()))
    known = set()
    for token in tokens:
        inner = _COMPOUND.fullmatch(token)
        known |= {token} if token in _ROLES else {inner[1]} & _ROLES.keys() if inner else set()
    strong = known - _WEAK
    return frozenset(_ROLES[word] for word in strong or known)


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


def ranked(roles: Iterable[Role], split: Split) -> Sequence[int]:
    """Return the ranks of a split among roles, the one to take first at first."""
    return sorted({role.rank for role in roles if role.split == split})
