"""Text files with a separator, as people write them, to frames of text; Parquet as it is.

Nothing is interpreted here: every field stays the text that stands in the file, so that ``1.10``
is no 1.1 and ``None`` no empty field. What a file has beside its rows (a byte order mark, blank
lines, a title above the header, rules of a Markdown table, a header repeated in the middle) is
left out, and said.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dlas.core.errors import UserError
from dlas.core.placeholders import HEAD, instead

SEPARATORS = (",", ";", "\t", "|")
"""Those that are looked for; any other is asked for."""
NAMED = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
SPACES = " "
"""Runs of blanks between columns."""
LOOKED_AT = 1_000
"""Records that the separator is found from."""
_RULE = re.compile(r"^[\s|:+=-]*-[\s|:+=-]*$")
_DECLARED = re.compile(r"^sep=(.)\r?\n", re.IGNORECASE)
_BINARY = {
    b"PK\x03\x04": "a spreadsheet or an archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: save it as CSV",
    b"SQLite format 3": "a database: give its folder without --table",
}
_JSON = re.compile(r'\s*(\[\s*)?\{\s*"')
_EMPHASIS = re.compile(r"(\*\*\*|\*\*|\*|__|_|`|~~)(?=\S)(.+?)(?<=\S)\1")
_LINK = re.compile(r"!?\[([^\]]+)\]\([^)]*\)")
Record = list[str]


@dataclass(frozen=True)
class Sheet:
    """What one file holds."""

    frame: pd.DataFrame
    """Text where the file is text, typed columns where it is Parquet."""
    separator: str = ""
    """What parts the fields; empty for Parquet."""
    notes: tuple[str, ...] = ()


def sheet(path: Path, separator: str | None = None) -> Sheet:
    """Read one file: Parquet, or text with a separator (found unless given), gzipped or not.

    Raises:
        UserError: there is no such file, it is empty, of another kind, or cannot be parsed.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file (a table is a .csv or .parquet file, or text with "
            "any separator)"
        )
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data and (why := instead(data[:HEAD])):
            raise UserError(f"{path}: cannot be read as a table: {why}")
        if data[:4] == b"PAR1" or path.suffix.lower() == ".parquet":
            return Sheet(_flat(pd.read_parquet(io.BytesIO(data))))
        return _of_text(path, data, separator)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a table ({first})") from None


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose named index is among its columns."""
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=named) if named else frame


def _of_text(path: Path, data: bytes, separator: str | None) -> Sheet:
    for magic, what in _BINARY.items():
        if data.startswith(magic):
            raise UserError(f"{path}: is {what}")
    text, notes = _decoded(data)
    if "\0" in text:
        raise UserError(f"{path}: is no text (it holds zero bytes)")
    if not text.strip():
        raise UserError(f"{path}: the file is empty")
    if _JSON.match(text):
        raise UserError(f"{path}: is JSON: save it as CSV or Parquet")
    if declared := _DECLARED.match(text):
        separator, text = separator or declared[1], text[declared.end() :]
    mark = NAMED.get(separator, separator) if separator else _found(text)
    if len(mark) != 1 or mark in '"\r\n':
        raise UserError(f"separator {separator!r}: must be one character, or {', '.join(NAMED)}")
    _closed(path, text, mark)
    found = _framed(path, _records(text, mark), mark)
    return replace(found, notes=(*(f"{path.name}: {n}." for n in notes), *found.notes))


def _closed(path: Path, text: str, mark: str) -> None:
    """Refuse a file that ends inside quotes: all rows after them would be one field."""
    try:
        for _ in csv.reader(
            io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True, strict=True
        ):
            pass
    except csv.Error as error:
        if "end of data" in str(error):
            raise UserError(f"{path}: a quote is opened and never closed") from None


def _decoded(data: bytes) -> tuple[str, list[str]]:
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"),
                       (b"\xfe\xff", "utf-16")):  # fmt: skip
        if data.startswith(mark):
            return data.decode(name), []
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), ["is no UTF-8 and is read as Windows-1252"]


def _found(text: str) -> str:
    """Return the separator by which most records have as many fields as the header."""
    best: tuple[float, int, str] = (0.0, 0, ",")
    for mark in (*SEPARATORS, SPACES):
        sizes = [len(r) for r in _records(text, mark, LOOKED_AT)]
        usual = Counter(n for n in sizes if n > 1).most_common(1)
        if not usual:
            continue
        width, times = usual[0]
        share = round(times / len(sizes), 2)
        # Blanks stand inside names, too: only where every line agrees and nothing else does.
        if mark == SPACES and (share < 1 or best[0] > 0.5):
            continue
        best = max(best, (share, width, mark), key=lambda x: x[:2])
    return best[2]


def _records(text: str, mark: str, most: int | None = None) -> list[Record]:
    """Return the records that are not blank, their fields without blanks around."""
    if mark == SPACES:
        lines = [line.split() for line in text.splitlines() if line.strip()]
        return lines[:most]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
    out: list[Record] = []
    for record in reader:
        fields = [" ".join(field.split()) for field in record]
        if any(fields) and not _RULE.match("|".join(fields)):
            out.append(fields)
        if most is not None and len(out) >= most:
            break
    if mark == "|" and out and all(r[0] == r[-1] == "" and len(r) > 2 for r in out if len(r) > 1):
        out = [[_unmarked(f) for f in (r[1:-1] if len(r) > 1 else r)] for r in out]
    return out


def _unmarked(field: str) -> str:
    """Return a field of a Markdown table without the marks around it: ``**12.3**``, a link."""
    field, before = _LINK.sub(r"\1", field), ""
    while field != before:
        before = field
        if found := _EMPHASIS.fullmatch(field):
            field = found[2]
    return field


def _framed(path: Path, records: list[Record], mark: str) -> Sheet:
    """Find the header, and make a frame of the records below it."""
    if not records:
        raise UserError(f"{path}: the file has no header")
    wide = Counter(len(_trimmed(r)) for r in records).most_common(1)[0][0]
    start = next(
        (i for i, r in enumerate(records) if len(_trimmed(r)) >= min(wide, 2)), 0
    )  # a title above the header is one field
    start += _commented(records[start:], wide)
    header, rows = [*records[start]], records[start + 1 :]
    header[0] = header[0].lstrip("#").strip() if len(header) > 1 else header[0]
    notes = [f"{start} lines above the header are left out"] if start else []
    named, rows, more = _same_width(path, header, rows)
    named, twice = _told_apart(named)
    frame = pd.DataFrame(rows, columns=named, dtype=object)
    blank = [i for i, name in enumerate(named) if not name]
    keep = [i for i in range(len(named)) if i not in blank or (frame.iloc[:, i] != "").any()]
    frame = frame.iloc[:, keep]
    frame.columns = [named[i] or f"Unnamed: {i}" for i in keep]
    return Sheet(frame, mark, tuple(f"{path.name}: {n}." for n in (*notes, *more, *twice)))


def _told_apart(header: Record) -> tuple[Record, list[str]]:
    """Number the names that stand more than once in a header, and say so."""
    seen: Counter[str] = Counter()
    out = []
    for name in header:
        seen[name] += 1
        out.append(f"{name} ({seen[name]})" if name and seen[name] > 1 else name)
    return out, [
        f"the column {name} stands {n} times: {name} is the first, the others are "
        f"{', '.join(f'{name} ({i})' for i in range(2, n + 1))}"
        for name, n in seen.items()
        if name and n > 1
    ]


def _commented(records: Sequence[Record], wide: int) -> int:
    """Count the leading comments: lines with ``#`` that are no header themselves."""
    n = 0
    while n < len(records) - 1 and records[n][0].startswith("#") and len(records[n]) != wide:
        n += 1
    return n


def _trimmed(record: Record) -> Record:
    """Return a record without the empty fields at its end."""
    end = len(record)
    while end and not record[end - 1]:
        end -= 1
    return record[:end]


def _same_width(
    path: Path, header: Record, rows: Sequence[Record]
) -> tuple[Record, list[Record], list[str]]:
    """Return header and rows of one width, and what was left out or filled up."""
    notes = []
    kept = [r for r in rows if r != header and not (len(r) == 1 < len(header) and r[0][:1] == "#")]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} comments or repeated headers are left out")
    width = len(header)
    long = [i for i, r in enumerate(kept) if len(_trimmed(r)) > width]
    if long:
        places = ", ".join(f"{i + 1} ({len(_trimmed(kept[i]))})" for i in long[:5])
        raise UserError(
            f"{path}: {len(long)} rows have more fields than the header's {width}: row {places}. "
            "Text that holds the separator must stand in quotes"
        )
    short = [i for i, r in enumerate(kept) if len(r) < width]
    if short:
        shown = ", ".join(str(i + 1) for i in short[:5])
        notes.append(
            f"{len(short)} rows are shorter than the header (row {shown}): what they lack is empty"
        )
    return header, [[*r, *[""] * width][:width] for r in kept], notes
