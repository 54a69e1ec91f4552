"""Remove from a store what no row of the results needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlas.core.errors import UserError
from dlas.run.run import STORE
from dlas.store.address import address_of, holds_rows
from dlas.store.artifacts import ArtifactStore, CleanReport
from dlas.store.facts import Rests
from dlas.store.remote import is_remote
from dlas.store.results import FactRow, ResultStore
from dlas.store.shared_store import require_local


def clean(
    dirs: Sequence[Path | str], *, store: Path | str | None = None, dry_run: bool = False
) -> CleanReport:
    """Remove the steps and artefacts that no cell of the given output folders rests on.

    A shared ``store`` has to be given together with *all* output folders that use it: what only
    others need would be removed. Of a store in an object store a folder holds copies, which go:
    whoever needs them fetches them again.

    Raises:
        UserError: a folder holds no results, a run is using the store, or it is in an object
            store or (but for a dry run) on a network file system.
        StorageError: the disk refuses.
    """
    if store is not None and is_remote(store):
        raise UserError(
            f"--store {store}: several machines share it, and nobody can tell that no run uses "
            "it; give a folder, and let the store's own rules remove what is old"
        )
    folders = [Path(d) for d in dirs]
    absent = [str(f) for f in folders if f.is_file() or not holds_rows(f)]
    if absent:
        raise UserError(f"no results in {', '.join(absent)}: `dlas run` makes them there")
    roots = [Path(store)] if store is not None else [f / STORE for f in folders]
    if not dry_run:
        for root in roots:
            require_local(root, "cleaning")
    keep: set[str] = set()
    for folder in folders:
        with ResultStore(address_of(folder), read_only=True) as results:
            for row in results.rows(FactRow, kind=Rests.KIND):
                keep.update(Rests.from_json(row.value).keys)
    total = CleanReport(0, 0)
    for root in roots:
        if not root.exists():
            continue
        done = ArtifactStore(root, create=False).clean(keep, dry_run)
        total = CleanReport(
            total.objects + done.objects,
            total.bytes + done.bytes,
            total.steps + done.steps,
            total.scratch + done.scratch,
        )
    return total
