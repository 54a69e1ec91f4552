"""A table that fits a terminal: what is the same in every row goes above it, then the least goes.

Nothing is folded: a row is a line. What had to go or was cut is said below the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GAP = 2
"""Blanks between two columns."""
CUT = ".."
"""Where text was cut."""
LEAST_WIDTH = 8
"""A column of text is not cut below this."""

Lines = list[list[str]]
"""The texts of each row, by column."""


@dataclass
class TerminalTable:
    """A table as it fits, and what to say beside it."""

    columns: list[str]
    lines: Lines
    same: dict[str, str] = field(default_factory=dict)
    """Columns with one value in all rows."""
    gone: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


def fit(
    columns: Sequence[str],
    lines: Lines,
    width: int,
    *,
    first_to_go: Sequence[str] = (),
    kept: Sequence[str] = (),
    chosen: bool = False,
) -> TerminalTable:
    """Return as many columns as a width holds.

    Empty columns go, those with one value in all rows are told apart, then columns go in the order
    of ``first_to_go``; text that is still too wide is cut. Nothing of this happens to ``kept``;
    where the columns were ``chosen``, text is cut and that is all.
    """
    made = TerminalTable(list(columns), [list(line) for line in lines])
    if chosen:
        _cut(made, width, kept)
        return made
    _tell_apart(made, kept)
    for name in first_to_go:
        if _width(made) <= width or _last_gives_way(made, width):
            break
        if name in made.columns and name not in kept:
            _remove(made, name)
            made.gone.append(name)
    _cut(made, width, kept)
    return made


def _tell_apart(made: TerminalTable, kept: Sequence[str]) -> None:
    for name in list(made.columns):
        values = {line[made.columns.index(name)] for line in made.lines}
        if name in kept or len(values) != 1:
            continue
        value = values.pop()
        if not value:
            _remove(made, name)
        elif len(made.lines) > 1:
            made.same[name] = value
            _remove(made, name)


def _remove(made: TerminalTable, name: str) -> None:
    at = made.columns.index(name)
    del made.columns[at]
    for line in made.lines:
        del line[at]


def _widths(made: TerminalTable) -> list[int]:
    rows = [made.columns, *made.lines]
    return [max(len(row[at]) for row in rows) for at in range(len(made.columns))]


def _width(made: TerminalTable) -> int:
    widths = _widths(made)
    return sum(widths) + GAP * (len(widths) - 1)


def _last_gives_way(made: TerminalTable, width: int) -> bool:
    """Return whether all fits when the last column, of long text, alone is cut."""
    own = _widths(made)[-1]
    room = width - (_width(made) - own)
    return own > 3 * LEAST_WIDTH <= room


def _cut(made: TerminalTable, width: int, kept: Sequence[str]) -> None:
    """Shorten the widest columns of text until all fit."""
    texts = [at for at, name in enumerate(made.columns) if name not in kept and _is_text(made, at)]
    while (over := _width(made) - width) > 0:
        widths = _widths(made)
        least = {at: max(LEAST_WIDTH, len(made.columns[at])) for at in texts}
        wide = [at for at in texts if widths[at] > least[at]]
        if not wide:
            return
        at = max(wide, key=lambda each: widths[each])
        others = max((widths[each] for each in wide if each != at), default=0)
        most = max(least[at], min(widths[at] - 1, others), widths[at] - over)
        end = at == len(widths) - 1
        for line in made.lines:
            line[at] = _shorter(line[at], most, end)
        if made.columns[at] not in made.cut:
            made.cut.append(made.columns[at])


def _is_text(made: TerminalTable, at: int) -> bool:
    return any(line[at] and not _number(line[at]) for line in made.lines)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shorter(text: str, most: int, end: bool) -> str:
    """Return text of at most so many characters: its middle goes, or its end."""
    if len(text) <= most:
        return text
    if end:
        return text[: most - len(CUT)] + CUT
    left = (most - len(CUT)) * 2 // 3
    return text[:left] + CUT + text[len(text) - (most - len(CUT) - left) :]


def beside(made: TerminalTable) -> tuple[list[str], list[str]]:
    """Return the lines above and below a table: what all rows share, what is not shown."""
    above = [f"{name}: {value}" for name, value in made.same.items()]
    said = [
        f"{what}: {', '.join(names)}"
        for what, names in (("not shown", made.gone), ("cut", made.cut))
        if names
    ]
    hint = "--wide shows all, --columns a,b what you choose"
    return above, [f"{'; '.join(said)} ({hint})"] if said else []
