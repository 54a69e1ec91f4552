"""Which cells a claim speaks of, and which of them differ in one layer alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlas.analyze.claims.gauges import Basis, Gauge
from dlas.analyze.claims.hypothesis import CONTEXT, HIGHEST, LOWEST
from dlas.analyze.estimate.levels import EMPTY, Ints, number
from dlas.core.errors import UserError
from dlas.core.rules import Rule

Place = Mapping[str, str]
"""A context: its columns and their levels."""
Key = tuple[str, ...]
ENDS = (HIGHEST, LOWEST)
TECHNIQUE = "technique"


class CannotTell(Exception):
    """Why a claim cannot be judged on a table; one sentence."""


@dataclass(frozen=True)
class Matched:
    """Pairs of cells, all else equal, by context."""

    pairs: Mapping[Key, list[tuple[int, int]]]
    lonely: Mapping[Key, tuple[int, ...]]
    """Contexts in which one side is missing, and the cells of the other."""
    names: tuple[str, ...]
    """The columns of a context."""


def chosen(evidence: Basis, gauge: Gauge, rules: Iterable[Rule]) -> Ints:
    """Return the rows that ran, have a value, and meet all rules.

    Raises:
        CannotTell: a rule names a column that the table has not; no cell is left.
    """
    rows = np.flatnonzero(evidence.table.complete & np.isfinite(gauge.value))
    if not len(rows):
        raise CannotTell(f"no cell has a value of {gauge.column}")
    for rule in rules:
        rows = holding(evidence, rule, rows)
        if not len(rows):
            raise CannotTell(f"no cell with a value of {gauge.column} meets {rule.text!r}")
    return rows


def holding(
    evidence: Basis,
    rule: Rule,
    rows: Ints,
    more: Mapping[int, Mapping[str, object]] | None = None,
) -> Ints:  # fmt: skip
    """Return those of some rows that meet a rule.

    Raises:
        CannotTell: the rule names an unknown column, or compares a number with text.
    """
    for name in sorted(rule.columns):
        why = "" if name in ENDS and more is not None else evidence.unknown(name)
        if why:
            raise CannotTell(why)
    try:
        keep = [
            r for r in rows.tolist()
            if rule.holds(evidence.views[r] | dict(more[r]) if more else evidence.views[r])
        ]  # fmt: skip
    except UserError as error:
        raise CannotTell(str(error)) from None
    return np.array(keep, dtype=np.int64)


# ---------------------------------------------------------------- what is held fixed


def layer_of_rules(evidence: Basis, rules: Sequence[Rule]) -> tuple[str, tuple[str, ...]]:
    """Return the one layer whose choices rules name, and the columns of it that they name.

    Raises:
        CannotTell: they name several layers, or none.
    """
    names = sorted({n for rule in rules for n in rule.columns} - set(ENDS))
    for name in names:
        if why := evidence.unknown(name):
            raise CannotTell(why)
    columns = tuple(dict.fromkeys(evidence.named(n) for n in names))
    layers = sorted({evidence.layer(c) for c in columns})
    if len(layers) != 1 or not layers[0]:
        told = ", ".join(x or "a column of no layer" for x in layers)
        raise CannotTell(
            "two choices of one layer are compared, all else equal; their rules name "
            f"{told} ({', '.join(names)})"
        )
    return layers[0], columns


def siblings(evidence: Basis, layer: str, columns: Sequence[str], rows: Ints) -> list[str]:
    """Return the parameters of a layer that have to be equal where some columns of it differ.

    None where the whole layer differs. Not those that the columns' own levels decide: the trials
    of a tuning, the sparsity of a pruning that comes with one sparsity alone. Nor, where columns
    are parameters, the sub-layers: their texts hold the parameters.
    """
    whole = (layer, f"{layer}.{TECHNIQUE}")
    if any(c in whole or c not in evidence.table.cells for c in columns):
        return []
    own = list(zip(*(_column(evidence, c, rows) for c in columns), strict=True))
    out = []
    inside = evidence.table.inside[layer]
    may = [p for p in inside.parameters if p not in columns]
    if _are_parameters(evidence, layer, columns):
        held = [inside.siblings(c) for c in columns]
        may = [p for p in may if all(p in each for each in held)]
    for name in may:
        seen = defaultdict(set)
        for level, value in zip(own, _column(evidence, name, rows), strict=True):
            seen[level].add(value)
        if any(len(values) > 1 for values in seen.values()):
            out.append(name)
    return out


def fixed_of(
    evidence: Basis, layer: str, columns: Sequence[str], rows: Ints, some: Iterable[int]
) -> dict[int, Key]:
    """Return by row what of a layer has to be equal where some columns of it differ.

    Args:
        evidence: the table.
        layer: of which the columns are.
        columns: what differs.
        rows: the cells that are looked at.
        some: those of them that are asked for.
    """
    some = list(some)
    kinds = _kinds(evidence, layer, columns)
    own = keys_of(evidence, siblings(evidence, layer, columns, rows), some)
    return {r: (kinds[r], *own[r]) for r in some}


def _kinds(evidence: Basis, layer: str, columns: Sequence[str]) -> list[str]:
    """Return by row the technique whose parameters some columns are, so that no two are mixed.

    Empty where a cell does not have them, and where they are no parameters: a sub-layer is what
    tells techniques apart, so they differ with it.
    """
    if not _are_parameters(evidence, layer, columns):
        return [EMPTY] * len(evidence.table.cells)
    kinds = evidence.table.inside[layer].kinds.tolist()
    texts = [evidence.texts(c) for c in columns]
    return [EMPTY if EMPTY in own else kind for kind, *own in zip(kinds, *texts, strict=True)]


def _are_parameters(evidence: Basis, layer: str, columns: Sequence[str]) -> bool:
    return all(_is_parameter(evidence, layer, c) for c in columns)


def _is_parameter(evidence: Basis, layer: str, column: str) -> bool:
    """Say whether a column is a parameter of techniques of a layer, as its choices are written."""
    if column not in evidence.table.parameters:
        return False
    name = column.rpartition(".")[2]
    if chosen := evidence.table.choices.get(layer):
        return any(name in step.params for steps in chosen.values() for step in steps)
    written = re.compile(rf"[(,]\s*{re.escape(name)}\s*=")
    return any(written.search(text) for text in set(evidence.texts(layer)))


def _column(evidence: Basis, column: str, rows: Ints) -> list[str]:
    texts = evidence.texts(column)
    return [texts[r] for r in rows.tolist()]


def rest_of(evidence: Basis, without: Iterable[str]) -> list[str]:
    """Return what is always held fixed: the layers but some, the host where there are several."""
    table = evidence.table
    names = [*table.layers, *(["host"] if len(table.hosts) > 1 else [])]
    return [x for x in dict.fromkeys(names) if x not in set(without)]


def places_of(evidence: Basis, contexts: Sequence[str], without: Sequence[str]) -> list[str]:
    """Return the columns that make a context: those named, always of one host.

    Raises:
        CannotTell: the table has no such column.
    """
    several = len(evidence.table.hosts) > 1 and "host" not in without
    host = ["host"] if several else []
    if tuple(contexts) == (CONTEXT,):
        return rest_of(evidence, without)
    names = [evidence.named(c) for c in contexts]
    for given, name in zip(contexts, names, strict=True):
        if why := evidence.unknown(given):
            raise CannotTell(why)
        if not evidence.layer(name) and name != "host":
            raise CannotTell(f"{name} is no layer, nor part of one: it makes no context")
    return [*names, *(h for h in host if h not in names)]


def keys_of(evidence: Basis, columns: Sequence[str], rows: Iterable[int]) -> dict[int, Key]:
    """Return the levels of some columns by row."""
    texts = [evidence.texts(c) for c in columns]
    return {r: tuple(t[r] for t in texts) for r in rows}


# ---------------------------------------------------------------- pairs


def paired(
    evidence: Basis,
    rows: Ints,
    rules: tuple[Rule, Rule],
    contexts: Sequence[str],
    along: str = "",
) -> Matched:
    """Pair the cells of two choices, all else equal, and sort the pairs by context.

    Args:
        evidence: the table.
        rows: the cells that are looked at.
        rules: which of them are the first and the second choice.
        contexts: the columns that make a context, as the claim names them.
        along: a column that the contexts leave out.

    Raises:
        CannotTell: the rules do not choose cells of one layer; there are none.
    """
    layer, columns = layer_of_rules(evidence, rules)
    more = _ends(evidence, layer, columns, rows, rules)
    first, second = (holding(evidence, rule, rows, more) for rule in rules)
    for rule, found in zip(rules, (first, second), strict=True):
        if not len(found):
            raise CannotTell(f"no cell meets {rule.text!r}{_levels(evidence, columns, rows)}")
    names = places_of(evidence, contexts, [layer, evidence.layer(along)])
    every = list(dict.fromkeys([*first.tolist(), *second.tolist()]))
    places = keys_of(evidence, names, every)
    pairs: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    for a, b in _couples(evidence, layer, columns, rows, (first, second)):
        pairs[_between(places[a], places[b])].append((a, b))
    met = {places[r] for some in pairs.values() for pair in some for r in pair}
    lonely: dict[Key, list[int]] = defaultdict(list)
    for r in every:
        if places[r] not in met:
            lonely[places[r]].append(r)
    alone = {key: tuple(found) for key, found in lonely.items()}
    return Matched(dict(pairs), alone, tuple(names))


def _couples(
    evidence: Basis, layer: str, columns: Sequence[str], rows: Ints, sides: tuple[Ints, Ints]
) -> Iterator[tuple[int, int]]:
    """Give every cell of one side with every cell of the other that is equal in all else."""
    first, second = (side.tolist() for side in sides)
    every = list(dict.fromkeys([*first, *second]))
    where = keys_of(evidence, rest_of(evidence, [layer]), every)
    own = fixed_of(evidence, layer, columns, rows, every)
    partners: dict[Key, list[int]] = defaultdict(list)
    for r in second:
        partners[where[r]].append(r)
    for a in first:
        for b in partners[where[a]]:
            if a != b and _compatible(own[a], own[b]):
                yield a, b


def _compatible(one: Key, two: Key) -> bool:
    """Say whether parameters are equal wherever both cells have them."""
    return all(a == b or EMPTY in (a, b) for a, b in zip(one, two, strict=True))


def _between(one: Key, two: Key) -> Key:
    return tuple(a if a == b else f"{a} against {b}" for a, b in zip(one, two, strict=True))


def _levels(evidence: Basis, columns: Sequence[str], rows: Ints) -> str:
    """Return what there is in place of a choice that nobody made."""
    told = []
    for c in columns:
        levels = sorted(set(_column(evidence, c, rows)) - {EMPTY})
        more = ", ..." if len(levels) > 8 else ""
        told.append(f"{c} has {', '.join(levels[:8]) or 'nothing'}{more}")
    return f" ({'; '.join(told)})"


def _ends(
    evidence: Basis, layer: str, columns: Sequence[str], rows: Ints, rules: Sequence[Rule]
) -> dict[int, dict[str, object]] | None:
    """Return the highest and lowest level there is, all else equal, by row; None: nobody asks."""
    if not any(set(ENDS) & rule.columns for rule in rules):
        return None
    values = {c: [number(t) for t in evidence.texts(c)] for c in columns}
    numeric = [c for c in columns if np.isfinite([values[c][r] for r in rows]).any()]
    if len(numeric) != 1:
        raise CannotTell(
            f"{HIGHEST} and {LOWEST} are levels of the one column with numbers that the rules "
            f"name; they name {', '.join(columns)}"
        )
    own = values[numeric[0]]
    others = keys_of(evidence, rest_of(evidence, [layer]), rows.tolist())
    beside = fixed_of(evidence, layer, columns, rows, rows.tolist())
    keys = {r: (*others[r], *beside[r]) for r in rows.tolist()}
    seen: dict[Key, list[float]] = defaultdict(list)
    for r in rows.tolist():
        if np.isfinite(own[r]):
            seen[keys[r]].append(own[r])
    return {
        r: {HIGHEST: max(seen[keys[r]]), LOWEST: min(seen[keys[r]])} if seen[keys[r]] else {}
        for r in rows.tolist()
    }


# ---------------------------------------------------------------- levels by context


@dataclass(frozen=True)
class Levelled:
    """The cells of each level of a column, all else equal, within the contexts of a claim."""

    column: str
    levels: tuple[str, ...]
    by: tuple[str, ...]
    """The levels of a second column; one empty level where there is none."""
    rows: Mapping[Key, Mapping[Key, Mapping[tuple[str, str], list[int]]]]
    """By context and what else is fixed in it: the cells of a level of either column."""
    names: tuple[str, ...]


def levelled(
    evidence: Basis, rows: Ints, column: str, contexts: Sequence[str], by: str = ""
) -> Levelled:
    """Lay out the cells by the levels of one column, or of two, in every context.

    Raises:
        CannotTell: a column is none of a layer; both are of one layer.
    """
    given = [column, *([by] if by else [])]
    layers, names = _layers(evidence, given)
    outer = places_of(evidence, contexts, layers)
    if set(outer) & set(names):
        raise CannotTell(f"{', '.join(sorted(set(outer) & set(names)))} is varied, and no context")
    every = rows.tolist()
    others = keys_of(evidence, rest_of(evidence, layers), every)
    beside = [fixed_of(evidence, x, [c], rows, every) for x, c in zip(layers, names, strict=True)]
    place, own = keys_of(evidence, outer, every), keys_of(evidence, names, every)
    every = [r for r in every if EMPTY not in own[r]]
    inner = {r: (*others[r], *(v for fixed in beside for v in fixed[r])) for r in every}
    found: dict[Key, dict[Key, dict[tuple[str, str], list[int]]]] = {}
    for r in every:
        level = (own[r][0], own[r][1] if by else "")
        cells = found.setdefault(place[r], {}).setdefault(inner[r], {})
        cells.setdefault(level, []).append(r)
    levels = [tuple(dict.fromkeys(own[r][i] for r in every)) for i in range(len(given))]
    for name, some in zip(given, levels, strict=True):
        if len(some) < 2:
            raise CannotTell(f"{name} has fewer than two levels among these cells")
    return Levelled(names[0], levels[0], levels[1] if by else ("",), found, tuple(outer))


def _layers(evidence: Basis, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the layers of some columns that a claim names, and what the table calls these."""
    for name in given:
        if why := evidence.unknown(name):
            raise CannotTell(why)
    names = [evidence.named(name) for name in given]
    layers = [evidence.layer(name) for name in names]
    for name, layer in zip(given, layers, strict=True):
        if not layer:
            raise CannotTell(f"{name} is no layer, nor part of one: nobody chooses it")
    if len(set(layers)) < len(layers):
        raise CannotTell(f"{' and '.join(given)} are of one layer, {layers[0]}")
    return layers, names


def placed(names: Sequence[str], key: Key) -> dict[str, str]:
    """Return a context as a mapping."""
    return dict(zip(names, key, strict=True))
