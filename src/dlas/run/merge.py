"""Output folders of one study, run in different places, become one folder like any other."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dlas import __version__
from dlas.core.clock import now
from dlas.core.errors import UserError, listed
from dlas.core.keys import Json, canonical, key
from dlas.core.records import SCHEMA_VERSION
from dlas.run.run import STORE
from dlas.store.address import address_of, holds_rows
from dlas.store.artifacts import ArtifactStore, DamagedObject
from dlas.store.bundle import STUDY, home, is_bundle, study_text
from dlas.store.disk import remove_tree, storage
from dlas.store.registered import registrations, take_over
from dlas.store.results import (
    FILE_NAME,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    SessionRow,
)
from dlas.store.rows import encode
from dlas.store.union import Origin, union

SOURCES = "sources.json"
"""What a merged folder says of where its rows are from."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to."""

    into: Path
    sources: int
    cells: int
    rounds: int
    hosts: int
    artefacts: int
    """Steps in its store, each once: records, with artefacts where they were there."""


def merge(
    sources: Sequence[Path | str],
    into: Path | str,
    *,
    prefer: Path | str | None = None,
    note: Callable[[str], None] = lambda _sentence: None,
) -> Merged:
    """Write a new folder with the rows and artefacts of several folders and bundles.

    A folder's file of rows stands for the folder. Where two have the same cell of one host and
    differ, ``prefer`` is the one that counts. A kill leaves nothing at ``into``; the sources are
    only read.

    Raises:
        UserError: a source holds no results, there are conflicts (each is named), or ``into`` is
            there already.
        StorageError: a source is damaged, or the disk refuses.
    """
    preferred = None if prefer is None else _folder_of(Path(prefer))
    folders = _checked([_folder_of(Path(each)) for each in sources], Path(into), preferred)
    read = [source_of(folder) for folder in folders]
    made = union(read, None if preferred is None else str(preferred))
    target = Path(into).absolute()
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with storage("write", target):
            part.mkdir(parents=True)
        with ResultStore(part / FILE_NAME) as results:
            results.put(*made)
        artefacts = _artefacts(folders, part / STORE, note)
        _claims(folders, read, part)
        with storage("write", target):
            if text := _study(folders, read, note):
                (part / STUDY).write_text(text, encoding="utf-8")
            (part / SOURCES).write_text(canonical(_manifest(read)) + "\n", encoding="utf-8")
            if target.exists():
                target.rmdir()  # it is empty, as was checked
            part.rename(target)
    finally:
        if part.exists():
            remove_tree(part)
    counts = Counter(type(row) for row in made)
    return Merged(target, len(read), counts[CellRow], counts[RoundRow], counts[HostRow], artefacts)


# ------------------------------------------------------------ the sources


def _folder_of(source: Path) -> Path:
    """Return the output folder whose rows a file holds; all else stands for itself."""
    rows = source.name == FILE_NAME and source.is_file() and not is_bundle(source)
    return source.parent if rows and address_of(source.parent) == source else source


def _checked(folders: Sequence[Path], into: Path, prefer: Path | None) -> list[Path]:
    """Return the sources, each once.

    Raises:
        UserError: all that is wrong with them, and with where they are to go.
    """
    distinct = list({folder.absolute(): folder for folder in folders}.values())
    problems = [
        f"{folder} holds no results: give a folder that `dlas run` wrote, or a bundle."
        for folder in distinct
        if not holds_rows(folder)
    ]
    if len(distinct) < 2:
        problems.append("one folder alone is what it is: give two or more to merge.")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        problems.append(f"--into {into}: is there and not empty; give a new folder.")
    if prefer is not None and str(prefer) not in [str(folder) for folder in distinct]:
        problems.append(f"--prefer {prefer}: is none of {listed([str(f) for f in distinct])}.")
    if problems:
        raise UserError(problems)
    return distinct


def source_of(folder: Path) -> Origin:
    """Return all rows of an output folder or bundle, as they were at one moment."""
    with ResultStore(address_of(folder), read_only=True) as results:
        return Origin(str(folder), results.snapshot())


def _artefacts(folders: Sequence[Path], root: Path, note: Callable[[str], None]) -> int:
    """Take over the steps of all stores; return how many there are then."""
    target = ArtifactStore(root)
    others: dict[str, list[str]] = {}
    for folder in folders:
        there = (folder / STORE).is_dir()
        store = ArtifactStore(folder / STORE, create=False) if there else None
        # of a shared store the folder holds copies of objects, and no record
        if store is None or not (names := store.records()):
            note(f"{folder}: no artefacts (a bundle, or --store was elsewhere)")
            continue
        for name in names:
            record = store.get(name)
            if record is None:
                continue
            content = record.content
            try:
                files = store.path(content) if content and store.has(content) else None
            except DamagedObject as damage:
                note(f"left out, to be made again: {damage}")
                continue
            if not target.adopt(record, files):
                others.setdefault(str(folder), []).append(record.stage)
    for name, stages in others.items():
        told = listed([f"{n} x {stage}" for stage, n in Counter(stages).most_common()])
        note(
            f"{name}: {told} yielded something else there than in the folders before it; its rows "
            "stay, and `dlas run` makes these steps' cells again"
        )
    return len(target.records())


def _claims(folders: Sequence[Path], read: Sequence[Origin], part: Path) -> None:
    """Take over the claims that were registered in the sources, each line with its source.

    In a source that had results and did not register them they are registered now, afterwards.
    """
    found = {folder: registrations(home(folder)) for folder in folders}
    files = {one.hash: one for some in found.values() for one in some}
    for one in files.values():
        for folder, source in zip(folders, read, strict=True):
            own = [each for each in found[folder] if each.hash == one.hash]
            if not own:
                rounds, facts = len(source.of(RoundRow)), len(source.of(FactRow))
                late = replace(one, at=now(), rounds=rounds, facts=facts, source="")
                own = [late] if late.afterwards else []
            more = ", a bundle, which holds no registrations" if is_bundle(folder) else ""
            for each in own:
                take_over(part, each, f"{folder}{more}")


def _study(
    folders: Sequence[Path], read: Sequence[Origin], note: Callable[[str], None]
) -> str | None:
    """Return the study of the folder that ran last; say so where the others' differ."""
    texts = {}
    for folder in folders:
        file = folder / STUDY
        text = study_text(folder) if is_bundle(folder) else None
        texts[folder] = file.read_text(encoding="utf-8") if file.is_file() else text
    latest = max(read, key=lambda source: source.latest).name
    ranked = sorted(folders, key=lambda folder: str(folder) != latest)
    chosen = next((folder for folder in ranked if texts[folder] is not None), None)
    if chosen is None:
        return None
    other = [str(f) for f, text in texts.items() if text is not None and text != texts[chosen]]
    if other:
        note(f"{STUDY} is that of {chosen}, which ran last; those of {listed(other)} differ")
    return texts[chosen]


def _manifest(read: Sequence[Origin]) -> dict[str, Json]:
    """Return what the rows are from: checksums, versions and hosts of each source."""
    return {
        "merged": 1,
        "dlas": __version__,
        "schema": SCHEMA_VERSION,
        "created_at": now(),
        "sources": [{"name": source.name, **about(source)} for source in read],
    }


def about(source: Origin) -> dict[str, Json]:
    """Return what is told of the rows of a folder: how many, from which hosts, by which dlas."""
    every = {kind.TABLE: [encode(row) for row in rows] for kind, rows in source.rows.items()}
    texts = json.loads(json.dumps(every, default=lambda data: data.hex()))
    sessions = source.of(SessionRow)
    return {
        "checksum": key("rows", texts),
        "rows": {table: len(rows) for table, rows in every.items()},
        "studies": [*sorted({row.study for row in source.of(CellRow)})],
        "hosts": {row.host: row.description.get("cpu") for row in source.of(HostRow)},
        "dlas_versions": [*sorted({session.dlas_version for session in sessions})],
        "first": min((session.started_at for session in sessions), default=""),
        "last": source.latest,
    }
