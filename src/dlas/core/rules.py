"""The language of ``where`` and ``exclude``: comparisons of columns, and nothing else.

    software.runtime != 'tvm' or hardware.threads == 1
    optimization.sparsity in [0.8, 0.9] and not ('int8' in optimization)

    rule  = all ("or" all)*      all = term ("and" term)*      term = "not" term | test
    test  = value (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") value)*
    value = text | number | true | false | null | column | "[" value, ... "]" | "(" rule ")"

A column that a stack does not have makes every comparison with it false, ``!=`` included: say
``not (optimization.sparsity == 0.8)`` to keep the stacks without a sparsity. ``in`` with text on
its right looks for a part of the text. There are no calls, no attributes, no arithmetic: a rule is
never run as Python, and the hyphen of ``torch-compile`` is part of a name.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlas.core.errors import UserError, near
from dlas.core.keys import Json
from dlas.core.stack import LAYERS, Stack

MAX_LENGTH = 2000
MAX_DEPTH = 40

Cell = Mapping[str, object]
Value = Callable[[Cell], object]


class _Missing:
    """The value of a column that a stack does not have."""


MISSING = _Missing()

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<name>[A-Za-z_]\w*(?:-\w+)*(?:\.\w+(?:-\w+)*)*)
      | (?P<sign>==|!=|<=|>=|<|>|[()\[\],])""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in"}
_CONSTANTS: dict[str, object] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None,
}  # fmt: skip
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_COMPARISONS = {"==", "!=", "in", "not in", *_ORDER}


@dataclass(frozen=True)
class Rule:
    """A parsed rule; ``columns`` are the columns it names."""

    text: str
    columns: frozenset[str]
    _value: Value = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Return the rule that a text is.

        Raises:
            UserError: it is no rule; the message holds the position of the first mistake.
        """
        if len(text) > MAX_LENGTH:
            raise UserError(
                f"a rule may have {MAX_LENGTH} characters, got {len(text)}; split it: "
                "all rules of `where` must hold"
            )
        parser = _Parser(text)
        value = parser.rule(0)
        parser.end()
        return cls(text, frozenset(parser.columns), value)

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Return a sentence for every column of the rule that is not among ``known``."""
        names = sorted(set(known))
        listed = ", ".join(name for name in names if name.count(".") < 2)
        return [
            f"{self.text!r}: no column is called {name!r}.{near(name, names)} "
            f"Text needs quotes; columns: {listed}."
            for name in sorted(self.columns - set(names))
        ]

    def holds(self, cell: Cell) -> bool:
        """Return whether the rule holds for ``{column: value}``.

        Raises:
            UserError: it compares a number with text, or uses one as yes or no.
        """
        try:
            return _truth(self._value(cell), "the rule")
        except UserError as error:
            raise UserError(f"{self.text!r}: {error}") from None


def _truth(value: object, what: str) -> bool:
    if value is MISSING:
        return False
    if not isinstance(value, bool):
        raise UserError(f"{what} is {value!r}, neither true nor false: compare it with something")
    return value


def _compare(sign: str, left: object, right: object) -> bool:
    if left is MISSING or right is MISSING:
        return False
    if sign in ("in", "not in"):
        return _contains(left, right) == (sign == "in")
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        raise UserError(f"{left!r} {sign} {right!r} compares what has no order")
    return _ORDER[sign](left, right)


def _equal(left: object, right: object) -> bool:
    # In Python True == 1; in a study file true and 1 are different values.
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _contains(left: object, right: object) -> bool:
    if isinstance(right, str) and isinstance(left, str):
        return left in right
    if isinstance(right, list | tuple):
        return any(_equal(left, each) for each in right)
    raise UserError(f"{left!r} in {right!r}: the right side must be a list or text")


class _Parser:
    """One pass over the tokens of a rule, building functions of a cell."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: set[str] = set()
        self.tokens = list(self._tokens())
        self.at = 0

    def _tokens(self) -> Iterable[tuple[str, str, int]]:
        place = 0
        while place < len(self.text):
            found = _TOKEN.match(self.text, place)
            if found is None or found.lastgroup is None:
                raise self._wrong(f"{self.text[place]!r} is not part of the language", place)
            if found.lastgroup != "space":
                word = found.group()
                kind = "sign" if word in _WORDS else found.lastgroup
                yield kind, word, place
            place = found.end()

    def _wrong(self, what: str, place: int) -> UserError:
        signs = ", ".join(sorted(_COMPARISONS))
        return UserError(
            f"{self.text!r}, character {place + 1}: {what}; a rule compares columns, numbers and "
            f"'text' by {signs} and joins them by and, or, not"
        )

    def _next(self) -> tuple[str, str, int]:
        if self.at < len(self.tokens):
            return self.tokens[self.at]
        return "end", "the end", len(self.text)

    def _take(self, *signs: str) -> str | None:
        kind, word, _ = self._next()
        if kind == "sign" and word in signs:
            self.at += 1
            return word
        return None

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            _, word, place = self._next()
            raise self._wrong(f"{sign!r} expected, got {word!r}", place)

    def end(self) -> None:
        """Refuse what stands after the rule."""
        kind, word, place = self._next()
        if kind != "end":
            raise self._wrong(f"nothing more expected, got {word!r}", place)

    def rule(self, depth: int) -> Value:
        """Parse alternatives."""
        return self._joined("or", self._all, any, depth)

    def _all(self, depth: int) -> Value:
        return self._joined("and", self._term, all, depth)

    def _joined(
        self,
        word: str,
        part: Callable[[int], Value],
        how: Callable[[Iterable[bool]], bool],
        depth: int,
    ) -> Value:
        parts = [part(depth)]
        while self._take(word):
            parts.append(part(depth))
        if len(parts) == 1:
            return parts[0]
        return lambda cell: how(_truth(p(cell), f"one side of {word!r}") for p in parts)

    def _term(self, depth: int) -> Value:
        self._limit(depth)
        if self._take("not"):
            inner = self._term(depth + 1)
            return lambda cell: not _truth(inner(cell), "what follows 'not'")
        return self._test(depth)

    def _limit(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._wrong(f"nested deeper than {MAX_DEPTH}", self._next()[2])

    def _comparison(self) -> str | None:
        if self._take("not"):
            self._expect("in")
            return "not in"
        return self._take(*_COMPARISONS)

    def _test(self, depth: int) -> Value:
        first = self._operand(depth)
        rest: list[tuple[str, Value]] = []
        while sign := self._comparison():
            rest.append((sign, self._operand(depth)))
        if not rest:
            return first

        def test(cell: Cell) -> bool:
            left = first(cell)
            for sign, operand in rest:
                right = operand(cell)
                if not _compare(sign, left, right):
                    return False
                left = right
            return True

        return test

    def _operand(self, depth: int) -> Value:
        self._limit(depth)
        if self._take("("):
            inner = self.rule(depth + 1)
            self._expect(")")
            return inner
        if self._take("["):
            return self._list(depth + 1)
        kind, word, place = self._next()
        if kind not in ("number", "text", "name"):
            raise self._wrong(f"a column, a number or 'text' expected, got {word!r}", place)
        self.at += 1
        if kind != "name":
            return _constant(ast.literal_eval(word))
        if word in _CONSTANTS:
            return _constant(_CONSTANTS[word])
        self.columns.add(word)
        return lambda cell: cell.get(word, MISSING)

    def _list(self, depth: int) -> Value:
        members: list[Value] = []
        while not self._take("]"):
            if members:
                self._expect(",")
            members.append(self._operand(depth))
        return lambda cell: [m(cell) for m in members]


def _constant(value: object) -> Value:
    return lambda cell: value


# ---------------------------------------------------------------- what a rule sees of a stack

ALIASES = {"algorithm": "primitive", "software": "runtime", "hardware": "device"}
"""Other names of ``layer.technique``: ``software.runtime`` is the name of the runtime."""


def columns(stack: Stack) -> dict[str, Json]:
    """Return ``{column: value}`` of all that a rule can ask of a stack.

    ``layer`` is the canonical text, ``layer.technique`` (and its alias) the name without
    parameters, ``layer.sublayer`` a sub-layer's text, ``layer.parameter`` a parameter;
    ``layer.technique-name.parameter`` always works too.
    """
    view: dict[str, Json] = {}
    for layer in LAYERS:
        steps = stack.layer(layer)
        named = "+".join(step.name for step in steps)
        view[layer] = stack.text(layer)
        view[f"{layer}.technique"] = named
        if layer in ALIASES:
            view[f"{layer}.{ALIASES[layer]}"] = named
        for step in steps:
            view.update({f"{layer}.{step.name}.{p}": v for p, v in step.params.items()})
    view.update(stack.factors())
    return view
