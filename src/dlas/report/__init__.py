"""One self-contained HTML page from results, of output folders or any table; its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlas.analyze import Table
    from dlas.tables.intake import Asked


def write(dirs: Sequence[Path | str], path: Path | str, asked: Asked | None = None) -> Path:
    """Write the report of output folders and return its path.

    The page needs no network and opens from disk.

    Args:
        dirs: the output folders.
        path: the page.
        asked: another metric, baseline, floor or other goals than those of the study.

    Raises:
        UserError: a folder holds no results.
        StorageError: the page cannot be written.
    """
    from dlas.report.claimed import with_verdicts
    from dlas.report.material import load
    from dlas.report.page import render
    from dlas.report.payload import of_material

    material = load(dirs, asked)
    page = render(of_material(material))
    return _saved(with_verdicts(page, dirs, material.results), Path(path))


def write_table(table: Table, files: Sequence[Path | str], path: Path | str) -> Path:
    """Write the report of a table from elsewhere and return its path.

    Args:
        table: from ``dlas.analyze.load_table``.
        files: what it was read from, for the reader.
        path: the page.

    Raises:
        StorageError: the page cannot be written.
    """
    from dlas.report.any_table import of_table
    from dlas.report.page import render
    from dlas.report.payload import payload

    return _saved(render(payload(of_table(table, files))), Path(path))


def _saved(text: str, target: Path) -> Path:
    from dlas.core.errors import StorageError

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}") from error
    return target


def figures(dirs: Sequence[Path | str], folder: Path | str) -> list[Path]:
    """Write the report's main pictures as PNG and SVG and return the files.

    A picture for which there are no numbers is left out.

    Raises:
        UserError: a folder holds no results, or matplotlib is not installed.
        StorageError: a file cannot be written.
    """
    from dlas.report.material import load
    from dlas.report.pictures import draw

    return draw(load(dirs), Path(folder))
