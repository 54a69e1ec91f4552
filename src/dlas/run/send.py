"""An output folder's rows as one small file to send: a results bundle."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from dlas import __version__
from dlas.core.clock import now
from dlas.core.errors import UserError
from dlas.run.merge import SOURCES, about, source_of
from dlas.store import bundle
from dlas.store.address import holds_rows
from dlas.store.disk import storage
from dlas.store.results import FILE_NAME, ResultStore


def pack(folder: Path | str, output: Path | str | None = None) -> tuple[Path, int]:
    """Write the rows of a folder as a bundle, by default beside it; return it and its bytes.

    Raises:
        UserError: the folder holds no results, or is a bundle.
        StorageError: they are damaged, or the disk refuses.
    """
    place = Path(folder)
    if bundle.is_bundle(place):
        raise UserError(f"{place} is a results bundle already.")
    if not holds_rows(place):
        raise UserError(f"{place} holds no results: give a folder that `dlas run` wrote.")
    where = place.absolute().parent if place.is_file() else place.absolute()
    target = Path(output) if output else where.with_name(where.name + bundle.SUFFIX)
    source = source_of(place)
    with tempfile.TemporaryDirectory(prefix="dlas-") as made:
        file = Path(made) / FILE_NAME
        with ResultStore(file) as results:
            results.put(*(row for rows in source.rows.values() for row in rows))
        with storage("read", where):
            study, merged = _text(where / bundle.STUDY), _text(where / SOURCES)
        told = {"dlas": __version__, "created_at": now(), **about(source)}
        told |= {} if merged is None else {"merged_of": json.loads(merged)}
        counts = {kind: len(rows) for kind, rows in source.rows.items()}
        bundle.write(target, file, study, counts, told)
    return target, target.stat().st_size


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
