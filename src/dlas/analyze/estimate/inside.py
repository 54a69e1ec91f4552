"""What is inside a layer: its techniques, their parameters, its sub-layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from dlas.analyze.estimate.choice_texts import (
    PLAIN,
    less,
    parts_of,
    sublayers_among,
    techniques_in,
    techniques_with,
)
from dlas.analyze.estimate.levels import EMPTY, Bools, skeleton
from dlas.core.stack import DEFAULTS, Choice


@dataclass(frozen=True)
class Inside:
    """One layer of a table."""

    layer: str
    cells: pd.DataFrame
    """The table's, as text."""
    parameters: tuple[str, ...]
    """The columns ``layer.parameter``."""
    names: tuple[str, ...]
    """Those whose levels are names, not numbers."""
    choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    """What its texts stand for, where that is known."""

    @cached_property
    def skeletons(self) -> pd.Series:
        """By row the choices without their parameters."""
        known = {
            text: "+".join(c.name for c in self.choices[text])
            if text in self.choices
            else skeleton(text)
            for text in self.cells[self.layer].unique()
        }
        return self.cells[self.layer].map(known)

    @cached_property
    def plain(self) -> frozenset[str]:
        """The levels, of it and of its sub-layers, that stand for no technique."""
        return frozenset((PLAIN, DEFAULTS.get(self.layer, PLAIN)))

    @cached_property
    def sublayers(self) -> Mapping[str, str]:
        """The parameters that are sub-layers, each with its own plain level, if it has one."""
        return sublayers_among(self.cells, self.layer, self.names, self.plain)

    @cached_property
    def kinds(self) -> pd.Series:
        """By row what of a choice is equal where a column of the layer differs.

        The techniques; where texts differ in what no column tells, also what the columns do not
        tell.
        """
        told = [p for p in self.parameters if p not in self.sublayers]
        rows = self.cells[[self.layer, *told]].assign(kind=self.skeletons).drop_duplicates()
        if len(rows.drop(columns=self.layer).drop_duplicates()) == len(rows):
            return self.skeletons
        columns = [self.cells[p].tolist() for p in self.parameters]
        names = [p[len(self.layer) + 1 :] for p in self.parameters]
        left = [
            less(text, names, values)
            for text, *values in zip(self.cells[self.layer], *columns, strict=True)
        ]
        return pd.Series(left, index=self.cells.index, dtype=object)

    @cached_property
    def _techniques(self) -> frozenset[str]:
        return frozenset(techniques_in(self.skeletons))

    def carriers(self, name: str) -> frozenset[str]:
        """Return the techniques that have a parameter: by the choices, else as texts say."""
        middle, _, last = name[len(self.layer) + 1 :].rpartition(".")
        if middle in self._techniques:  # ``layer.technique.parameter``: several techniques have it
            return frozenset((middle,))
        if self.choices:
            steps = [step for choices in self.choices.values() for step in choices]
            return frozenset(step.name for step in steps if last in step.params)
        if found := techniques_with(last, list(self.cells[self.layer].unique())):
            return frozenset(found)
        has = self.cells[name] != EMPTY
        with_it, without_it = (techniques_in(self.skeletons[rows]) for rows in (has, ~has))
        return frozenset(with_it - without_it)

    def siblings(self, name: str) -> tuple[str, ...]:
        """Return the other parameters, that are equal where one differs.

        Not the sub-layers, nor other columns whose levels are choices with it: they differ, too.
        """
        carriers = self.carriers(name)
        held = {p for p in self.names if techniques_in(self.cells[p]) & carriers}
        return tuple(
            p for p in self.parameters if p != name and p not in held and p not in self.sublayers
        )

    def without(self, name: str, plain: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return for each choice what it has beside the techniques with a parameter.

        The choices' parts with all their parameters; what is plain is no part.
        """
        gone = self.carriers(name) | set(plain)
        found: dict[str, tuple[str, ...]] = {}
        for text in self.cells[self.layer].unique():
            if text in self.choices:
                found[text] = tuple(
                    f"{c.name} {sorted(c.params.items())}"
                    for c in self.choices[text]
                    if c.name not in gone
                )
            else:
                found[text] = tuple(p for p in parts_of(text) if skeleton(p) not in gone)
        return found

    def apart(self, name: str) -> Bools:
        """Say of each row whether none of its techniques has a parameter."""
        carriers = self.carriers(name)
        has = {s: bool(set(s.split("+")) & carriers) for s in self.skeletons.unique()}
        found: Bools = np.logical_not(self.skeletons.map(has).to_numpy(dtype=bool))
        return found
