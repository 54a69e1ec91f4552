"""The language of tests: a quantity, what it is compared with, in which contexts.

    speedup(optimization == 'pruned') > 1 in most model, software
    not changes_winner(algorithm, by=software.tuning) in every context

    test     = ["not"] quantity [comparison]
               ["in" ("every" | "some" | "most") column {"," column}] ["where" rule]
    quantity = name "(" argument {"," argument} ")"     argument = [name "="] (column | rule)
    comparison = (">" | ">=" | "<" | "<=" | "==" | "!=") (number | quantity | 'text')
               | ("in" | "not in") "[" 'text' {"," 'text'} "]"

Rules, columns and texts are those of :mod:`dlas.core.rules`; nothing is ever run as Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dlas.analyze.claims.hypothesis import BASELINE, CONTEXT, HOW, Assertion, Term
from dlas.core.errors import UserError, near
from dlas.core.rules import Rule

MOST_TEXT = 2_000
COLUMN, RULE, CHOICES = "a column", "a rule", "a rule, or baseline"
COMPARED, CHOSEN, ANSWERED = "compared with a number", "compared with a choice", "yes or no"


@dataclass(frozen=True)
class Signature:
    """The arguments of a quantity in their order, what each is, and what it comes to."""

    takes: Mapping[str, str]
    gives: str
    optional: tuple[str, ...] = ()
    alone: bool = False
    """Whether it may be asked of all cells together, without contexts."""


FORMS: Mapping[str, Signature] = {
    "ratio": Signature({"metric": COLUMN, "a": RULE, "b": CHOICES}, COMPARED),
    "speedup": Signature({"a": RULE, "of": CHOICES}, COMPARED, ("of",)),
    "drop": Signature({"a": RULE}, COMPARED),
    "winner": Signature({"layer": COLUMN}, CHOSEN),
    "flips": Signature({"layer": COLUMN, "by": COLUMN}, ANSWERED),
    "depends": Signature({"layer": COLUMN, "by": COLUMN}, ANSWERED),
    "changes_winner": Signature({"layer": COLUMN, "by": COLUMN}, ANSWERED),
    "correlation": Signature({"x": COLUMN, "y": COLUMN, "over": COLUMN}, COMPARED, alone=True),
    "breakeven": Signature({"a": RULE, "b": CHOICES, "along": COLUMN}, COMPARED),
    "elbow": Signature({"along": COLUMN}, COMPARED),
}  # fmt: skip
"""The quantities; ``docs/claims.md`` defines each."""
ORDERED = (">=", "<=", ">", "<")
SIGNS = (*ORDERED, "==", "!=", "not in", "in")
RANGES = {
    "correlation": (-1.0, 1.0),
    "drop": (-1.0, 1.0),
    "ratio": (0.0, math.inf),
    "speedup": (0.0, math.inf),
}
"""What some quantities can be; zero is no ratio."""
PLACES = ("breakeven", "elbow")
"""Quantities that are a level of a column."""
UNSIZED = (*PLACES, "correlation")
"""Quantities that are no effect, of which no least size can be asked."""
_COLUMN = re.compile(r"[A-Za-z_]\w*(?:-\w+)*(?:\.\w+(?:-\w+)*)*")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_NAMED = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)")
_QUOTED = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_WITHIN = re.compile(r"(?<![\w.])in\s+(\w+)\s+(?=[A-Za-z_])(.*)$", re.DOTALL)
_SIGN = re.compile(r"\s*(>=|<=|==|!=|>|<|not\s+in\b|in\b)\s*")


def parse(text: str) -> Assertion:
    """Return the test that a text is.

    Raises:
        UserError: it is none; all that is wrong with it.
    """
    if len(text) > MOST_TEXT:
        raise UserError(f"a test may have {MOST_TEXT} characters, got {len(text)}")
    problems: list[str] = []
    found = _assertion(" ".join(text.split()), problems)
    if problems or found is None:
        raise UserError([f"{text!r}: {p}" for p in problems])
    return found


def _assertion(text: str, problems: list[str]) -> Assertion | None:
    negated = re.match(r"not\s+", text)
    quantity, rest = _quantity(text[negated.end() if negated else 0 :], problems)
    if quantity is None:
        return None
    rest, where = _where(rest, problems)
    rest, how, contexts = _contexts(rest, problems)
    found = Assertion(
        text, quantity, negated=negated is not None, how=how, contexts=contexts, where=where
    )
    found = _compared(found, rest, problems)
    form = FORMS[quantity.name]
    if not how and not form.alone and not problems:
        problems.append(
            f"{quantity.name} has one value in each context: say in which it holds, "
            "`in every context`, `in some model, software` or `in most ...`"
        )
    return found


# ---------------------------------------------------------------- quantities


def _quantity(text: str, problems: list[str]) -> tuple[Term | None, str]:
    """Return the quantity that a text begins with, and the rest of the text."""
    head = re.match(r"\s*([A-Za-z_]\w*)\s*\(", text)
    if head is None:
        problems.append(f"a test begins with a quantity, one of {', '.join(FORMS)}, and `(`")
        return None, ""
    end = _closing(text, head.end())
    if end < 0:
        problems.append(f"the bracket after {head[1]!r} is never closed")
        return None, ""
    name, inner = head[1], text[head.end() : end]
    if name not in FORMS:
        told = f"Quantities: {', '.join(FORMS)}."
        problems.append(f"no quantity is called {name!r}.{near(name, FORMS)} {told}")
        return None, ""
    return _filled(name, inner, text[head.start() : end + 1].strip(), problems), text[end + 1 :]


def _closing(text: str, start: int) -> int:
    """Return where the bracket that was opened before ``start`` is closed, -1: nowhere."""
    depth, at = 1, start
    while at < len(text):
        quoted = _QUOTED.match(text, at)
        if quoted:
            at = quoted.end()
            continue
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1
    return -1


def _parts(text: str) -> list[str]:
    """Return the arguments between commas that are in no bracket and no text."""
    out, depth, at, start = [], 0, 0, 0
    while at < len(text):
        quoted = _QUOTED.match(text, at)
        if quoted:
            at = quoted.end()
            continue
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[at], 0)
        if text[at] == "," and depth == 0:
            out.append(text[start:at])
            start = at + 1
        at += 1
    return [*out, text[start:]] if text.strip() else []


def _filled(name: str, inner: str, text: str, problems: list[str]) -> Term:
    """Return a quantity with its arguments; what is wrong with them goes to ``problems``."""
    form, given = FORMS[name], dict[str, str]()
    order = list(form.takes)
    for part in _parts(inner):
        named = _NAMED.match(part)
        free = [n for n in order if n not in given]
        key = named[1] if named else free[0] if free else ""
        if key not in form.takes:
            what = f"argument {key!r}" if key else f"{part.strip()!r} as one more"
            problems.append(f"{name} takes {', '.join(order)}, not {what}.{near(key, order)}")
        elif key in given:
            problems.append(f"{name}: {key} is given twice")
        else:
            given[key] = part[named.end() :] if named else part
    missing = [n for n in order if n not in given and n not in form.optional]
    if missing:
        problems.append(f"{name}({', '.join(order)}) lacks {', '.join(missing)}")
    columns: dict[str, str] = {}
    sides: dict[str, Rule | None] = dict.fromkeys(form.optional)
    for key, part in given.items():
        if form.takes[key] == COLUMN:
            columns[key] = _column(f"{name}: {key}", part.strip(), problems)
        else:
            sides[key] = _rule(f"{name}: {key}", form.takes[key], part.strip(), problems)
    return Term(name, text, columns, sides)


def _column(what: str, text: str, problems: list[str]) -> str:
    if not _COLUMN.fullmatch(text):
        problems.append(f"{what} must be the name of a column, got {text!r}")
    return text


def _rule(what: str, kind: str, text: str, problems: list[str]) -> Rule | None:
    if kind == CHOICES and text == BASELINE:
        return None
    if not text:
        problems.append(f"{what} is empty: it must be {kind}, like engine == 'new'")
        return None
    try:
        rule = Rule.parse(text)
    except UserError as error:
        problems.append(f"{what}: {error}")
        return None
    if not rule.columns or _COLUMN.fullmatch(text):
        problems.append(
            f"{what} must be {kind} that chooses cells, like engine == 'new', got {text!r}"
        )
    return rule


# ---------------------------------------------------------------- contexts, comparisons


def _masked(text: str) -> str:
    """Return a text without what stands in quotes, as long as it was."""
    return _QUOTED.sub(lambda m: "'" + " " * (len(m[0]) - 2) + "'", text)


def _bare(text: str) -> str:
    """Return a text without what stands in quotes or brackets, as long as it was."""
    out, depth = [], 0
    for char in _masked(text):
        depth -= char in ")]"
        out.append(" " if depth > 0 else char)
        depth += char in "(["
    return "".join(out)


def _where(rest: str, problems: list[str]) -> tuple[str, tuple[Rule, ...]]:
    """Return what stands before ``where``, and the rule behind it."""
    found = re.search(r"(?<![\w.-])where(?![\w.-])", _masked(rest))
    if found is None:
        return rest, ()
    rule = _rule("where", RULE, rest[found.end() :].strip(), problems)
    return rest[: found.start()], () if rule is None else (rule,)


def _contexts(rest: str, problems: list[str]) -> tuple[str, str, tuple[str, ...]]:
    """Return what stands before the contexts, how many of them must hold, and their columns."""
    found = _WITHIN.search(_bare(rest))
    if found is None:
        return rest, "", ()
    how, names = found[1], [n.strip() for n in rest[found.start(2) :].split(",")]
    if how not in HOW:
        problems.append(f"in {how}: must be in {', in '.join(HOW)}.{near(how, HOW)}")
    wrong = [n for n in names if not _COLUMN.fullmatch(n)]
    if wrong:
        problems.append(f"in {how}: must name columns with commas between, got {wrong[0]!r}")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        problems.append(f"in {how}: {twice[0]} is named twice")
    if CONTEXT in names and len(names) > 1:
        problems.append(f"in {how}: `{CONTEXT}` is every column there is; name it alone")
    return rest[: found.start()], how, tuple(names)


def _compared(found: Assertion, rest: str, problems: list[str]) -> Assertion:
    """Read the comparison after a quantity."""
    name, gives = found.quantity.name, FORMS[found.quantity.name].gives
    if not rest.strip():
        if gives != ANSWERED:
            problems.append(f"{name} must be {gives}: {', '.join(_allowed(name))} and a value")
        return found
    sign = _SIGN.match(rest)
    if sign is None:
        problems.append(f"nothing is known of {rest.strip()!r} after {name}(...)")
        return found
    if gives == ANSWERED:
        problems.append(f"{name} is yes or no and is compared with nothing; put `not` before it")
        return found
    word = " ".join(sign[1].split())
    if word not in _allowed(name):
        problems.append(f"{name} is {gives} by {', '.join(_allowed(name))}, not by {word}")
        return found
    if word in ("!=", "not in") and gives == CHOSEN:
        found, word = replace(found, negated=not found.negated), word.replace("!=", "==")
        word = word.removeprefix("not ")
    bound = _bound(name, gives, rest[sign.end() :].strip(), problems)
    return replace(found, sign=word, bound=bound)


def _allowed(name: str) -> tuple[str, ...]:
    if FORMS[name].gives == CHOSEN:
        return ("==", "!=", "in", "not in")
    return ORDERED if name in PLACES else (*ORDERED, "==", "!=")


def _bound(
    name: str, gives: str, text: str, problems: list[str]
) -> float | tuple[str, ...] | Term | None:
    if gives == CHOSEN:
        texts = [t[1:-1] for t in _QUOTED.findall(text)]
        left = re.sub(r"[\[\],\s]", "", _QUOTED.sub("", text))
        if left or not texts:
            problems.append(f"{name} is compared with 'text', or in ['text', ...], got {text!r}")
        return tuple(texts)
    if _NUMBER.fullmatch(text):
        return _in_range(name, float(text), text, problems)
    if re.match(r"[A-Za-z_]\w*\s*\(", text):
        return _second(name, text, problems)
    problems.append(f"{name} is compared with a number or another quantity, got {text!r}")
    return None


def _in_range(name: str, value: float, text: str, problems: list[str]) -> float:
    if not math.isfinite(value):
        problems.append(f"compared with {text}, which is larger than any number here can be")
        return value
    low, high = RANGES.get(name, (-math.inf, math.inf))
    if not low <= value <= high or (value == 0 and name in ("ratio", "speedup")):
        told = f"from {low:g} to {high:g}" if high <= 1 else "above zero"
        share = f": {text} % is {value / 100:g}" if name == "drop" and value > 1 else ""
        problems.append(f"{name} is {told}, compared with {text}{share}")
    return value


def _second(name: str, text: str, problems: list[str]) -> Term | None:
    other, rest = _quantity(text, problems)
    if other is None:
        return None
    alike = ("ratio", "speedup")
    if rest.strip():
        problems.append(f"nothing more expected after {other.text}, got {rest.strip()!r}")
    if name not in alike or other.name not in alike:
        problems.append(
            f"{name} cannot be compared with {other.name}: two quantities can where both are "
            f"{' or '.join(alike)}"
        )
    return other
