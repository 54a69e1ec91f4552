"""What a claim is: a sentence, and a test that code can carry out; ``docs/claims.md`` defines it.

A claims file is declared, as a study is: nothing here looks at a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlas.core.rules import Rule
from dlas.core.stack import DEFAULTS

LEAST_CONTEXTS = 3
"""With fewer contexts nothing is said of *every*, *some* or *most*."""
EVERY, SOME, MOST = "every", "some", "most"
HOW = (EVERY, SOME, MOST)
CONTEXT = "context"
"""``in every context``: all that the test does not vary is held fixed."""
BASELINE = "baseline"
"""What a choice is compared with where nothing else is said."""
HIGHEST, LOWEST = "highest", "lowest"
"""The highest and lowest level that there is of a column, all else equal."""


NOTHING = DEFAULTS["optimization"]
"""What a layer or parameter of nothing is called."""
_EQUAL = re.compile(r"([\w.-]+) == (?:'([^']*)'|\"([^\"]*)\")")
_HOLDS = re.compile(r"()(?:'([^']*)'|\"([^\"]*)\") in [\w.-]+")


def called(rule: Rule | None) -> str:
    """Return the choice that a rule names, as people call it; a longer rule stays as it is.

    ``b`` for ``layer == 'b'``, ``no parameter`` for ``layer.parameter == 'none'``.
    """
    if rule is None:
        return "the baseline"
    found = _EQUAL.fullmatch(rule.text.strip()) or _HOLDS.fullmatch(rule.text.strip())
    if found is None:
        return rule.text
    column, name = found[1], found[2] or found[3]
    return f"no {column.rpartition('.')[2]}" if column and name == NOTHING else name


@dataclass(frozen=True)
class Term:
    """A number, a choice, or yes or no, of a set of cells: ``ratio(quiet_ms, a, b)``."""

    name: str
    text: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """The columns it names, by the name of the argument: ``metric``, ``layer``, ``by``, ..."""
    sides: Mapping[str, Rule | None] = field(default_factory=dict)
    """The rules that choose cells, by the name of the argument; None: the baseline."""


@dataclass(frozen=True)
class Assertion:
    """A comparison of a quantity, in every, some or most contexts."""

    text: str
    quantity: Term
    sign: str = ""
    """``>``, ``>=``, ``<``, ``<=``, ``==``, ``!=``, ``in``; empty: yes or no."""
    bound: float | tuple[str, ...] | Term | None = None
    negated: bool = False
    how: str = ""
    """One of :data:`HOW`; empty: one number for all cells together."""
    contexts: tuple[str, ...] = ()
    """The columns that make a context; :data:`CONTEXT` alone: all that is not varied."""
    where: tuple[Rule, ...] = ()
    """What its cells meet beside those of the claim."""


@dataclass(frozen=True)
class Claim:
    """A sentence and the assertions that must hold for it."""

    id: str
    sentence: str
    tests: tuple[Assertion, ...]
    where: tuple[Rule, ...] = ()
    """Rules that the cells meet; all of them."""
    source: str = ""
    least_contexts: int = LEAST_CONTEXTS
    least_effect: float = 0.0
    """A ratio less one, or a difference of shares, that the effect must exceed."""
    floor: float | None = None
    """What is *the same*: within a ratio of so much more than one; None: the table's floor."""


@dataclass(frozen=True)
class ClaimsFile:
    """All claims of a file, which share one family-wise error."""

    name: str
    claims: tuple[Claim, ...]
    hash: str
    """Of the text of the file."""
    text: str
    description: str = ""
    registered: str = ""
    """The day on which it was written down, as the file says."""
    study: str = ""
    """The hash of the study that it is about, as the file says."""
    table: Mapping[str, Any] = field(default_factory=dict)
    """How a table is read that is given in place of folders."""
