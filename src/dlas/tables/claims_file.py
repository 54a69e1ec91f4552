"""A claims file becomes claims; everything that is wrong with it is said at once.

Only what stands in the file is judged here: whether a table has the columns that a claim names is
seen when the claim is judged on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dlas.analyze.claims.hypothesis import LEAST_CONTEXTS, Assertion, Claim, ClaimsFile
from dlas.analyze.claims.language import UNSIZED
from dlas.analyze.claims.language import parse as parse_test
from dlas.analyze.estimate.scales import KINDS
from dlas.core.errors import UserError, near
from dlas.core.goals import parse_goals
from dlas.core.keys import bytes_hash
from dlas.core.rules import Rule
from dlas.study.source import Place, Source, read, shown

VERSION = "dlas-claims"
KEYS = (VERSION, "name", "description", "registered", "study", "table", "claims")
OF_CLAIM = (
    "id", "claim", "test", "where", "source", "contexts_at_least", "effect_at_least", "floor",
)  # fmt: skip
TEXTS = ("metric", "low", "high", "rounds", "status")
LISTS = ("layers", "status_ok", "exact")
MAPPINGS = ("baseline", "order", "columns", "goals")
OF_TABLE = (*TEXTS, *LISTS, *MAPPINGS, "repeats", "within", "floor")
LEAST_HASH = 8
"""Digits of a study's hash that are enough."""


def read_claims(path: Path | str) -> ClaimsFile:
    """Return the claims of a file.

    Raises:
        UserError: all problems of the file, each with its line, its place, the value, what is
            allowed and near names.
    """
    source, text = read(Path(path), "claims")
    return _FileOfClaims(source, text).whole()


class _FileOfClaims:
    """One pass over the data of a claims file; problems are noted in the source."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.text = text

    def whole(self) -> ClaimsFile:
        """Return the file's claims."""
        data = self.source.data
        if not isinstance(data, Mapping):
            self.source.problem((), f"a claims file is a mapping of keys, got {shown(data)}")
            self.source.check()
        assert isinstance(data, Mapping), "its problem was raised"
        self.unknown(data, KEYS, ())
        if data.get(VERSION) != 1 or isinstance(data.get(VERSION), bool):
            what = "must be 1" if VERSION in data else f"needs the key {VERSION!r}: `{VERSION}: 1`"
            place: Place = (VERSION,) if VERSION in data else ()
            got = f", got {shown(data[VERSION])}" if VERSION in data else ""
            self.source.problem(place, what + got)
        name = self.string(data, "name", (), needed=True)
        claims = self.claims(data.get("claims"), "claims" in data)
        found = ClaimsFile(
            name=name,
            claims=claims,
            hash=bytes_hash(self.text.encode()),
            text=self.text,
            description=self.string(data, "description", ()),
            registered=self.day(data),
            study=self.study(data),
            table=self.table(data.get("table"), "table" in data),
        )
        self.source.check()
        return found

    # ------------------------------------------------------------ values

    def unknown(self, data: Mapping[str, object], allowed: Sequence[str], place: Place) -> None:
        """Complain of keys that there are not."""
        for key in data:
            if key not in allowed:
                told = f"Allowed: {', '.join(allowed)}."
                self.source.problem((*place, key), f"unknown key.{near(key, allowed)} {told}")

    def string(
        self, data: Mapping[str, object], key: str, place: Place, *, needed: bool = False
    ) -> str:
        """Return a text, a number as it was written."""
        value, inner = data.get(key), (*place, key)
        if value is None:
            if needed and key not in data:
                self.source.problem(place, f"needs the key {key!r}")
            elif key in data:
                self.source.problem(inner, "must be text, got null")
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.source.problem(inner, f"must be text, got {shown(value)}")
            return ""
        text = self.source.written.get(inner, str(value)).strip()
        if needed and not text:
            self.source.problem(inner, "must not be empty")
        return text

    def number(
        self, data: Mapping[str, object], key: str, place: Place, usual: float | None,
        least: float, whole: bool = False, below: float | None = None,
    ) -> float | None:  # fmt: skip
        """Return a number, the usual one where there is none."""
        if key not in data:
            return usual
        value = data[key]
        good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not good or value < least or (below is not None and value >= below):  # type: ignore[operator]
            kind = "a whole number" if whole else "a number"
            ends = f"at least {least:g}" + (f" and below {below:g}" if below is not None else "")
            percent = ""
            if good and below == 1 and value >= 1:  # type: ignore[operator]
                percent = f": {value} % is {value / 100:g}"  # type: ignore[operator]
            self.source.problem(
                (*place, key), f"must be {kind}, {ends}, got {shown(value)}{percent}"
            )
            return usual
        assert isinstance(value, int | float), "it was looked at"
        return value

    def texts(self, value: object, place: Place) -> tuple[str, ...]:
        """Return a text or a list of texts."""
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not value:
            self.source.problem(place, f"must be text or a list of texts, got {shown(value)}")
            return ()
        out = []
        for at, each in enumerate(value):
            if isinstance(each, str) and each.strip():
                out.append(each)
            else:
                self.source.problem((*place, at), f"must be text, got {shown(each)}")
        return tuple(out)

    def day(self, data: Mapping[str, object]) -> str:
        """Return the day on which claims were registered."""
        text = self.string(data, "registered", ())
        try:
            return date.fromisoformat(text).isoformat() if text else ""
        except ValueError:
            self.source.problem(("registered",), f"must be a day, like 2026-11-27, got {text!r}")
            return ""

    def study(self, data: Mapping[str, object]) -> str:
        """Return the hash of a study."""
        text = self.string(data, "study", ()).lower()
        if text and (len(text) < LEAST_HASH or set(text) - set("0123456789abcdef")):
            self.source.problem(
                ("study",),
                f"must be the hash of a study, {LEAST_HASH} hexadecimal digits or more as "
                f"`dlas plan` prints them, got {text!r}",
            )
        return text

    # ------------------------------------------------------------ claims

    def claims(self, value: object, there: bool) -> tuple[Claim, ...]:
        """Return all claims."""
        if not there:
            self.source.problem((), "needs the key 'claims', a list of claims")
            return ()
        if not isinstance(value, list) or not value:
            self.source.problem(
                ("claims",), f"must be a list of claims, at least one, got {shown(value)}"
            )
            return ()
        found = [self.claim(each, ("claims", at)) for at, each in enumerate(value)]
        first: dict[str, int] = {}
        for at, one in enumerate(found):
            if one is not None and one.id and first.setdefault(one.id, at) != at:
                self.source.problem(
                    ("claims", at, "id"),
                    f"{one.id!r} is also the id of claims[{first[one.id]}]; each has its own",
                )
        return tuple(one for one in found if one is not None)

    def claim(self, value: object, place: Place) -> Claim | None:
        """Return one claim."""
        if not isinstance(value, Mapping):
            self.source.problem(
                place, f"a claim is a mapping with id, claim and test, got {shown(value)}"
            )
            return None
        self.unknown(value, OF_CLAIM, place)
        tests = self.each(value, "test", place, parse_test, needed=True)
        contexts = self.number(
            value, "contexts_at_least", place, LEAST_CONTEXTS, LEAST_CONTEXTS, whole=True
        )
        effect = self.number(value, "effect_at_least", place, 0.0, 0.0)
        self.sized(effect or 0.0, [t.quantity.name for t in tests], place)
        return Claim(
            id=self.string(value, "id", place, needed=True),
            sentence=self.string(value, "claim", place, needed=True),
            tests=tuple(t for t in tests if isinstance(t, Assertion)),
            where=tuple(self.each(value, "where", place, Rule.parse)),
            source=self.string(value, "source", place),
            least_contexts=int(contexts or LEAST_CONTEXTS),
            least_effect=float(effect or 0.0),
            floor=self.number(value, "floor", place, None, 0.0, below=1.0),
        )

    def sized(self, effect: float, names: Sequence[str], place: Place) -> None:
        """Complain of a least effect that the quantities of a claim cannot have."""
        inner = (*place, "effect_at_least")
        none = [name for name in names if name in UNSIZED] if effect else []
        if none:
            self.source.problem(
                inner,
                f"{', '.join(dict.fromkeys(none))} has no size of effect: leave this out, or make "
                "it a claim of its own",
            )
        if "drop" in names and effect >= 1:
            self.source.problem(
                inner,
                f"beside drop it is a share below 1, got {shown(effect)}: {effect:g} points are "
                f"{effect / 100:g}",
            )

    def each(
        self, data: Mapping[str, object], key: str, place: Place, how: Callable[[str], Any],
        *, needed: bool = False,
    ) -> list[Any]:  # fmt: skip
        """Return what a text or several mean; a text that means nothing is a problem."""
        if key not in data:
            if needed:
                self.source.problem(place, f"needs the key {key!r}")
            return []
        value, out = data[key], []
        for at, text in enumerate(self.texts(value, (*place, key))):
            inner = (*place, key) if isinstance(value, str) else (*place, key, at)
            try:
                out.append(how(text))
            except UserError as error:
                for problem in error.problems:
                    self.source.problem(inner, problem)
        return out

    # ------------------------------------------------------------ how a table is read

    def table(self, value: object, there: bool) -> dict[str, Any]:
        """Return how a table is read that is given in place of folders."""
        if not there:
            return {}
        if not isinstance(value, Mapping):
            self.source.problem(("table",), f"must be a mapping of keys, got {shown(value)}")
            return {}
        self.unknown(value, OF_TABLE, ("table",))
        out: dict[str, Any] = {k: self.string(value, k, ("table",)) for k in TEXTS if k in value}
        out |= {k: self.texts(value[k], ("table", k)) for k in LISTS if k in value}
        out |= {k: self.mapping(value[k], ("table", k)) for k in MAPPINGS if k in value}
        for key in ("within", "floor"):
            if key in value:
                out[key] = self.number(value, key, ("table",), None, 0.0, below=1.0)
        if "repeats" in value:
            if not isinstance(value["repeats"], bool):
                self.source.problem(
                    ("table", "repeats"), f"must be true or false, got {shown(value['repeats'])}"
                )
            out["repeats"] = value["repeats"] is True
        self.orders(out)
        return out

    def orders(self, table: Mapping[str, Any]) -> None:
        """Complain of orders and goals that there are not."""
        for column, how in table.get("order", {}).items():
            if how not in KINDS:
                self.source.problem(
                    ("table", "order", column),
                    f"must be one of {', '.join(KINDS)}, got {how!r}.{near(str(how), KINDS)}",
                )
        try:
            parse_goals(table.get("goals"))
        except UserError as error:
            for problem in error.problems:
                self.source.problem(("table", "goals"), problem)
        except TypeError:
            self.source.problem(
                ("table", "goals"), "minimize and maximize must be columns, or lists of columns"
            )

    def mapping(self, value: object, place: Place) -> dict[str, Any]:
        """Return names and what belongs to each."""
        if not isinstance(value, Mapping):
            self.source.problem(place, f"must be a mapping of names, got {shown(value)}")
            return {}
        wrong = [k for k, v in value.items() if isinstance(v, Mapping) or v is None]
        for key in wrong:
            self.source.problem((*place, key), f"must be a plain value, got {shown(value[key])}")
        kept = {k: v for k, v in value.items() if k not in wrong}
        if place[-1] == "goals":
            return kept
        return {k: self.source.written.get((*place, k), str(v)) for k, v in kept.items()}
