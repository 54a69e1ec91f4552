"""One self-contained HTML page from the results of output folders, and its pictures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write(dirs: Sequence[Path | str], path: Path | str) -> Path:
    """Write the report of output folders and return its path.

    The page needs no network and opens from disk.

    Raises:
        UserError: a folder holds no results.
        StorageError: the page cannot be written.
    """
    from dlas.core.errors import StorageError
    from dlas.report.claimed import with_verdicts
    from dlas.report.page import render
    from dlas.report.payload import collect

    text = with_verdicts(render(collect(dirs)), dirs)
    target = Path(path)
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
