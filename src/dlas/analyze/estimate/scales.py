"""What the levels of a column are, from how they are written: numbers, versions or names.

``1.9, 1.10, 1.20`` are versions, ``0.35, 0.5, 1`` numbers, and of ``1.9, 1.11`` nobody can tell:
such levels are names until they are said to be something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dlas.analyze.estimate.levels import EMPTY, number
from dlas.analyze.estimate.numerals import PLAIN

NUMBERS, VERSIONS, NAMES = "numbers", "versions", "names"
KINDS = (NUMBERS, VERSIONS, NAMES)
"""How a column's levels may be ordered; what is asked for by ``order=``."""
_VERSION = re.compile(r"[vV]?\d+(\.\d+)*([-+._]?[A-Za-z][\w.+-]*)?")
_DOTTED = re.compile(r"[vV]?\d+\.\d+")
FEW = 40
"""Releases of one major version are fewer: 1.50 is no version beside 1.9."""
_SOFTWARE = frozenset((
    "version", "versions", "ver", "release", "driver", "ort",
    "torchvision", "tensorflow", "tf", "keras", "cudnn", "tensorrt",
    "trt", "rocm", "python", "gcc", "clang", "llvm", "jax", "mkl",
    "onednn", "triton", "numpy", "mxnet", "caffe",
))  # fmt: skip
"""Words in a column's name by which its levels are versions."""


@dataclass(frozen=True)
class LevelScale:
    """How the levels of one column are read."""

    kind: str
    """One of :data:`KINDS`."""
    spelling: dict[str, str]
    """Levels that are written in several ways (``1`` and ``1.0``), and how they are called."""
    doubt: str = ""
    """Why levels that look like numbers are none."""

    as_written: frozenset[str] = frozenset()
    """The levels that are called as they are written, where some are not."""

    @property
    def twins(self) -> dict[str, str]:
        """The spellings that are the same level as another one."""
        values = [*self.spelling.values(), *self.as_written]
        return {k: v for k, v in sorted(self.spelling.items()) if values.count(v) > 1}


def scale_of(name: str, levels: Iterable[str], asked: str | None = None) -> LevelScale:
    """Say what the levels of a column are, all of them but the empty one."""
    known = sorted({s for s in levels if s != EMPTY})
    if asked is not None:
        return _numbers(known) if asked == NUMBERS else LevelScale(asked, {})
    if not known or not all(map(PLAIN.fullmatch, known)):
        dotted = any(map(_DOTTED.match, known))
        versions = dotted and all(map(_VERSION.fullmatch, known))
        return LevelScale(VERSIONS if versions else NAMES, {})
    return _of_numbers(name, known)


def _of_numbers(name: str, known: Sequence[str]) -> LevelScale:
    """Tell numbers from versions with one dot."""
    places = {s: s.partition(".")[2] for s in known if re.fullmatch(r"\d+\.\d+", s)}
    words = set(re.split(r"[\W_]+", name.lower()))
    if places and words & _SOFTWARE:
        return LevelScale(VERSIONS, {})
    verdicts = {_series(group) for group in _by_whole(places).values()}
    if verdicts & {VERSIONS}:
        return LevelScale(VERSIONS, {})
    if verdicts & {NAMES}:
        return LevelScale(NAMES, {}, f"{', '.join(known[:4])} may be versions or numbers")
    return _numbers(known)


def _numbers(known: Sequence[str]) -> LevelScale:
    alike = _alike(known)
    return LevelScale(
        NUMBERS, alike, as_written=frozenset(known) - alike.keys() if alike else frozenset()
    )


def _by_whole(places: dict[str, str]) -> dict[int, list[str]]:
    """Return the decimals of the levels by their whole parts."""
    out: dict[int, list[str]] = {}
    for level, decimals in places.items():
        out.setdefault(int(level.partition(".")[0]), []).append(decimals)
    return {whole: [*group, str(whole)] for whole, group in out.items()}


def _series(group: Sequence[str]) -> str:
    """Judge the decimals of one whole part: is .10 after .9, or between .1 and .2?

    Where both readings give the same order they are numbers. Else they are versions if one ends
    in a needless zero (1.9, 1.10), numbers if they are quarters and eighths or, below one, are
    far apart as whole numbers (0.35, 0.5); of anything else nobody can tell.
    """
    *decimals, whole = group
    minors = sorted(int(d) for d in decimals)
    as_numbers = sorted(decimals, key=lambda d: (float(f"0.{d}"), d))
    values = [float(f"0.{d}") for d in decimals]
    twice = any(v and values.count(v) > 1 for v in values)
    if [int(d) for d in as_numbers] == minors and not twice:
        return NUMBERS
    needless = any(d.endswith("0") and len(d) > 1 for d in decimals)
    apart = max(b - a for a, b in pairwise(minors))
    if int(whole) == 0:
        near = apart <= 3 or (needless and minors[-1] < FEW)
        return NAMES if near else NUMBERS
    if needless and minors[-1] < FEW:
        return VERSIONS
    eighths = all(float(f"0.{d}") * 8 % 1 == 0 for d in decimals)
    return NUMBERS if eighths else NAMES


def _alike(known: Sequence[str]) -> dict[str, str]:
    """Return one spelling for levels that are the same number; whole ones without decimals."""
    whole = all(re.fullmatch(r"[+-]?\d+(\.0*)?", s) for s in known)
    groups: dict[float, list[str]] = {}
    for s in known:
        groups.setdefault(number(s), []).append(s)
    return {
        s: f"{value:.12g}"
        for value, group in groups.items()
        for s in group
        if (len(group) > 1 or whole) and s != f"{value:.12g}" and PLAIN.fullmatch(s)
    }


def version_key(level: str) -> tuple[object, ...]:
    """Return what a version is ordered by: its numbers, a release after its candidates."""
    found = re.match(r"[vV]?(\d+(?:\.\d+)*)(.*)", level)
    if found is None:
        return ((), natural_key(level))
    rest = found[2].lower()
    early = bool(re.match(r"[-._]?(a|b|c|rc|alpha|beta|dev|pre|nightly)", rest))
    return (tuple(int(p) for p in found[1].split(".")), not early, natural_key(rest), level)


def natural_key(level: str) -> tuple[object, ...]:
    """Return what a name is ordered by: ``net9`` before ``net10``, large letters beside small."""
    parts = re.split(r"(\d+)", level.casefold())
    return (tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), level)


def key_of(kind: str) -> Callable[[str], tuple[object, ...]]:
    """Return by what the levels of a kind are sorted; the empty one is last."""
    inner = {NUMBERS: _number_key, VERSIONS: version_key}.get(kind, natural_key)
    return lambda level: (level == EMPTY, () if level == EMPTY else inner(level))


def _number_key(level: str) -> tuple[object, ...]:
    return (number(level), level)


def told(name: str, kind: str, levels: Sequence[str]) -> str:
    """Return a column with its levels in words: ``threads (4 numbers, 1 to 8)``."""
    shown = [s for s in levels if s != EMPTY]
    if kind == NAMES or len(shown) < 2:
        return f"{name} ({len(levels)} {'level' if len(levels) == 1 else 'levels'})"
    return f"{name} ({len(levels)} levels, ordered as {kind} from {shown[0]} to {shown[-1]})"
